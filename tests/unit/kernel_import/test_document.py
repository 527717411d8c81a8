"""A configuration from a kernel's routes and rules: it loads, and what is left out is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.config.load import load_text
from routed.config.schema import Config
from routed.fib.nexthops.codec import Hop
from routed.fib.rule_codec import encode_rule
from routed.kernel_import import document
from routed.kernel_import.document import Found, ImportChoice, write_document
from routed.kernel_import.entries import Surroundings
from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import PolicyRule, PortRange, RuleAction
from routed.netlink.message import (
    NetlinkMessage,
    Rta,
    pack_attribute,
    pack_u32_attribute,
    split_messages,
)
from tests.fakes.random_rules import any_rule
from tests.fakes.route_messages import RouteForm

CHOICE = ImportChoice(frozenset({3, 4}), 254)
OBJECTS = {
    1: Hop(Address.parse("192.0.2.1"), 1),
    2: Hop(Address.parse("192.0.2.2"), 2),
    3: ((1, 2), (2, 1)),
    4: None,
}


def message(rule: PolicyRule, protocol: int = 0) -> NetlinkMessage:
    """A rule as a dump shows it."""
    return next(split_messages(encode_rule(rule, protocol, 1, is_removal=False)))


def text_of(
    routes: Sequence[RouteForm] = (),
    rules: Sequence[NetlinkMessage] = (),
    choice: ImportChoice = CHOICE,
    addresses: Sequence[str] = ("198.51.100.9",),
    name: str = "eth",
) -> str:
    around = Surroundings(choice.table_id, lambda ifindex: f"{name}{ifindex}", OBJECTS)
    entries = [(5, InterfaceAddress(Address.parse(each), 24)) for each in addresses]
    payloads = [route.payload() for route in routes]
    return write_document(Found(payloads, rules, around, entries), choice)


def entries(text: str, section: str) -> list[str]:
    """The lines of a section."""
    _, _, rest = text.partition(f"{section}:\n")
    lines = rest.splitlines()
    return [line.removeprefix("  - ") for line in lines[: next(
        (at for at, line in enumerate(lines) if not line.startswith("  - ")), len(lines)
    )]]  # fmt: skip


def left_out(text: str) -> list[str]:
    return [line.strip("# ") for line in text.partition("# Left out:\n")[2].splitlines()]


def load(text: str) -> Config:
    return load_text(text)


ROUTES = [
    (RouteForm("0.0.0.0/0", "192.0.2.1", 1, protocol=3),
     "{prefix: 0.0.0.0/0, via: 192.0.2.1, dev: eth1}"),
    (RouteForm("10.1.0.0/16", kind=6, priority=100),
     "{prefix: 10.1.0.0/16, type: blackhole, metric: 100}"),
    (RouteForm("10.2.0.0/16", hops=(("192.0.2.1", 1, 3), ("192.0.2.2", 2, 1))),
     "{prefix: 10.2.0.0/16, next_hops: [{via: 192.0.2.1, dev: eth1, weight: 3}, "
     "{via: 192.0.2.2, dev: eth2}]}"),
    (RouteForm("2001:db8::/32", "fe80::1", 1, priority=1024),
     "{prefix: 2001:db8::/32, via: fe80::1, dev: eth1, metric: 1024}"),
    (RouteForm("10.3.0.0/16", "192.0.2.1", 1, flags=4),
     "{prefix: 10.3.0.0/16, via: 192.0.2.1, dev: eth1, onlink: true}"),
    (RouteForm("10.4.0.0/16", extra=(pack_u32_attribute(Rta.NH_ID, 3),)),
     "{prefix: 10.4.0.0/16, next_hops: [{via: 192.0.2.1, dev: eth1, weight: 2}, "
     "{via: 192.0.2.2, dev: eth2}]}"),
    (RouteForm("10.5.0.0/16", "192.0.2.1", 1, extra=(
        pack_attribute(Rta.PREFSRC, Address.parse("192.0.2.9").packed),
        pack_attribute(Rta.METRICS, pack_u32_attribute(1, 4) + pack_u32_attribute(2, 1400)),
    )), "{prefix: 10.5.0.0/16, via: 192.0.2.1, dev: eth1, src: 192.0.2.9, mtu: lock 1400}"),
    (RouteForm("10.9.0.0/16", "192.0.2.1", 1, tos=0x10, priority=7),
     "{prefix: 10.9.0.0/16, via: 192.0.2.1, dev: eth1, metric: 7, tos: 0x10}"),
    (RouteForm("10.6.0.0/16", ifindex=1, scope=0),
     "{prefix: 10.6.0.0/16, dev: eth1, scope: global}"),
    (RouteForm("10.7.0.0/16", ifindex=1, kind=2, scope=254),
     "{prefix: 10.7.0.0/16, dev: eth1, type: local}"),
]  # fmt: skip


def test_every_route_that_can_be_expressed_is_an_entry() -> None:
    text = text_of([route for route, _ in ROUTES])
    assert entries(text, "static") == [entry for _, entry in ROUTES]
    assert left_out(text) == []
    config = load(text)
    assert len(config.static) == len(ROUTES)
    assert str(config.router_id) == "198.51.100.9"


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, table=100), "manages one table; see --table"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, extra=(pack_u32_attribute(Rta.EXPIRES, 30),)),
         "no option for `expires 30sec`"),
        (RouteForm("10.0.0.0/8", kind=5, ifindex=1), "no option for the type multicast"),
        (RouteForm("10.0.0.0/8", extra=(pack_u32_attribute(Rta.NH_ID, 4),)),
         "the nexthop object 4 is of another kind"),
        (RouteForm("10.0.0.0/8", extra=(pack_u32_attribute(Rta.NH_ID, 9),)),
         "the nexthop object 9 is of another kind"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, extra=(pack_attribute(Rta.ENCAP_TYPE, b"\1\0"),)),
         "no option for `encap type 1`"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, extra=(
            pack_attribute(Rta.METRICS, pack_u32_attribute(9, 5)),)),
         "no option for `reordering 5`"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, extra=(
            pack_attribute(Rta.METRICS, pack_u32_attribute(2, 5)),)),
         "mtu: 68 to 65520 is expected, not '5'"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 1, priority=2**31),
         "2147483648 is outside 0 to 2147483647"),
        (RouteForm("10.0.0.0/8"), "a unicast route without a next hop"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_one_comment(route: RouteForm, reason: str) -> None:
    text = text_of([route, ROUTES[1][0]])
    (comment,) = left_out(text)
    assert "10.0.0.0/8" in comment
    assert reason in comment
    assert entries(text, "static") == [ROUTES[1][1]]
    load(text)


def test_routes_of_other_protocols_are_counted() -> None:
    others = [RouteForm(f"10.{n}.0.0/16", "192.0.2.1", 1, protocol=12) for n in range(7)]
    text = text_of([*others, RouteForm("10.9.0.1/32", ifindex=1, protocol=2, table=255)])
    assert "#   protocol 2, table local: 1\n#   protocol 12, table main: 7\n" in text
    assert "static:" not in text
    chosen = text_of(others, choice=ImportChoice(frozenset({12}), 254))
    assert len(load(chosen).static) == 7


def test_a_second_route_of_one_metric_is_left_out() -> None:
    route = ROUTES[1][0]
    text = text_of([route, route, route._replace(priority=200)])
    assert len(load(text).static) == 2
    (comment,) = left_out(text)
    assert "is given twice with the same metric" in comment


def test_a_route_for_one_tos_next_to_one_for_all_packets_is_left_out() -> None:
    """The daemon would install one of them alone."""
    route = RouteForm("10.0.0.0/8", "192.0.2.1", 1)
    text = text_of([route, route._replace(tos=0x10), route._replace(tos=0x08, priority=9)])
    (static,) = load(text).static
    assert static.attributes is None
    comments = left_out(text)
    assert len(comments) == 2
    assert all("use a policy rule with `tos`" in comment for comment in comments)


def test_more_than_can_be_shown_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LEFT_OUT_MAX", 3)
    text = text_of([RouteForm(f"10.{n}.0.0/16", kind=5, ifindex=1) for n in range(10)])
    assert len(left_out(text)) == 4
    assert text.endswith("#   and 7 more\n")


def test_a_table_of_choice_is_that_of_the_configuration() -> None:
    route = RouteForm("10.0.0.0/8", "192.0.2.1", 1, table=100)
    config = load(text_of([route, ROUTES[0][0]], choice=ImportChoice(CHOICE.protocols, 100)))
    assert config.fib.table_id == 100
    assert [str(static.prefix) for static in config.static] == ["10.0.0.0/8"]


def test_a_name_that_no_file_can_have_costs_its_route_alone() -> None:
    text = text_of([route for route, _ in ROUTES[:2]], name="\x07\udcff")
    assert entries(text, "static") == [ROUTES[1][1]]
    (comment,) = left_out(text)
    assert comment.isprintable()
    assert "characters that no file can have" in comment
    load(text)


@pytest.mark.parametrize(
    ("addresses", "router_id"),
    [
        (["203.0.113.7", "192.0.2.1", "127.0.0.1", "169.254.0.1", "2001:db8::1"], "192.0.2.1"),
        (["127.0.0.1", "::1"], "0.0.0.1"),
        ([], "0.0.0.1"),
    ],
)
def test_the_router_id_is_the_lowest_address(addresses: list[str], router_id: str) -> None:
    assert str(load(text_of(addresses=addresses)).router_id) == router_id


# --- rules

RULE = PolicyRule(Family.IPV4, 100, table_id=100, ip_protocol=6, destination_ports=PortRange(5, 9))
BOTH = PolicyRule(Family.IPV4, 101, RuleAction.GOTO, goto_priority=102, is_inverted=True, iif="a")


def test_rules_of_both_families_are_one_entry() -> None:
    sixth = RULE._replace(family=Family.IPV6, source=Prefix.parse("2001:db8::/32"))
    text = text_of(rules=[
        message(BOTH), message(RULE, 4), message(BOTH._replace(family=Family.IPV6)), message(sixth),
        message(RULE._replace(priority=0, table_id=255, ip_protocol=0, destination_ports=None)),
        message(RULE._replace(priority=105), 2),
    ])  # fmt: skip
    assert entries(text, "rules") == [
        "{priority: 101, not: true, iif: a, goto: 102}",
        "{priority: 100, ipproto: tcp, dport: 5-9, family: ipv4, table: 100}",
        "{priority: 100, from: 2001:db8::/32, ipproto: tcp, dport: 5-9, table: 100}",
    ]
    assert left_out(text) == []


def test_a_rule_that_cannot_be_expressed_is_one_comment() -> None:
    odd = message(RULE)._replace(payload=message(RULE).payload + pack_u32_attribute(200, 1))
    text = text_of(rules=[
        message(RULE, 77), message(RULE._replace(priority=0)), odd,
        message(RULE._replace(ip_protocol=1)), message(BOTH),
    ])  # fmt: skip
    assert len(entries(text, "rules")) == 1
    reasons = left_out(text)
    assert len(reasons) == 4
    for reason in (
        "of protocol 77", "is outside 1 to", "is not known here", "`ipproto: icmp` has no ports"
    ):  # fmt: skip
        assert any(reason in comment for comment in reasons), reason


@given(st.lists(any_rule(), max_size=5))
def test_any_rules_are_entries_that_mean_the_same(rules: list[PolicyRule]) -> None:
    text = text_of(rules=[message(rule) for rule in rules])
    found = {rule for entry in load(text).rules for rule in entry.rules}
    assert found <= set(rules), "nothing that was not there"
    assert len(set(rules) - found) <= len(left_out(text)), "and nothing is lost in silence"


@pytest.mark.parametrize("is_input", [True, False])
def test_a_rule_of_an_interface_that_no_file_can_name_is_left_out(is_input: bool) -> None:
    """The kernel takes any bytes as the name of an interface."""
    rule, name = PolicyRule(Family.IPV4, 100, RuleAction.LOOKUP, 100), "et\udc98\x07"
    odd = rule._replace(iif=name) if is_input else rule._replace(oif=name)
    text = text_of(rules=[message(odd), message(rule)])
    (reason,) = left_out(text)
    assert "the name of the interface has characters that no file can have" in reason
    assert len(load(text).rules) == 1
