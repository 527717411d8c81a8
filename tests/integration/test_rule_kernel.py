"""Policy rules and the real kernel: how `ip rule` and pyroute2 read them, and what a removal
removes.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from routed.fib.request_socket import RequestSocket
from routed.fib.rule_codec import RULE_MESSAGES, encode_rule_dump
from routed.fib.rule_support import RuleKernel
from routed.model.prefix import Family, Prefix
from routed.model.rule import PolicyRule, PortRange, RuleAction, UidRange
from routed.netlink.message import NLMSG_HEADER
from tests.fakes.fake_kernel import FakeRuleKernel
from tests.fakes.kernels import Namespace
from tests.fakes.random_rules import any_rule

pytestmark = pytest.mark.root

EXAMPLES = 60
NEWER = {"dscp", "dscp_mask", "flowlabel", "flowlabel_mask", "sport_mask", "dport_mask"}
"""Keys of JSON that iproute2 has since 6.12, 6.14 and 6.15."""
BY_NAME = {"iif_detached", "oif_detached", "unresolved", "protocol"}
"""Keys that describe the rule's surroundings or its owner."""


@contextlib.contextmanager
def opened(protocol: int) -> Iterator[RequestSocket]:
    """A socket for a test that is not asynchronous, as those of hypothesis."""
    requests = RequestSocket(protocol)

    async def close() -> None:
        requests.close()

    try:
        yield requests
    finally:
        trio.run(close)


@pytest.fixture
def requests(namespace: Namespace) -> Iterator[RequestSocket]:
    with namespace.here.inside(), opened(205) as requests:
        yield requests


def ours(kernel: RuleKernel) -> list[PolicyRule]:
    """Our rules, in the kernel's order."""
    seen = trio.run(kernel.dump_rules)
    return [entry.rule for entry in seen if entry.protocol == 205]


def clear(kernel: RuleKernel) -> None:
    for rule in ours(kernel):
        assert kernel.remove_rule(rule).errno == 0, rule
    assert ours(kernel) == []


def shown_by_ip(rule: PolicyRule) -> dict[str, Any]:
    """The row of `ip -j rule` for our only rule."""
    family = "-4" if rule.family is Family.IPV4 else "-6"
    command = ["ip", family, "-j", "rule", "list", "proto", "205"]
    done = subprocess.run(command, capture_output=True, check=True)
    (row,) = [row for row in json.loads(done.stdout) if row.get("protocol") == "205"]
    return {key: value for key, value in row.items() if key not in BY_NAME}


def pyroute2_reads(requests: RequestSocket, rule: PolicyRule) -> dict[str, Any]:
    """Attributes of our only rule, as pyroute2 decodes the kernel's message."""

    async def dump() -> list[dict[str, Any]]:
        found = []
        for message in await requests._dump(
            lambda sequence: encode_rule_dump(rule.family, sequence)
        ):
            assert message.type in RULE_MESSAGES
            header = NLMSG_HEADER.pack(
                NLMSG_HEADER.size + len(message.payload), message.type, 0, 0, 0
            )
            decoded = fibmsg(header + message.payload)
            decoded.decode()
            attributes = dict(decoded["attrs"])
            if attributes["FRA_PROTOCOL"] == 205:
                found.append({**attributes, "action": decoded["action"], "tos": decoded["tos"]})
        return found

    (row,) = trio.run(dump)
    return row


def expected_of_pyroute2(rule: PolicyRule) -> dict[str, Any]:
    """The attributes that pyroute2 must find, and None for those that must be absent."""
    return {
        "action": int(rule.action),
        "tos": rule.tos,
        "FRA_PRIORITY": rule.priority,
        "FRA_TABLE": rule.table_id,
        "FRA_GOTO": rule.goto_priority or None,
        "FRA_IIFNAME": rule.iif,
        "FRA_OIFNAME": rule.oif,
        "FRA_SRC": rule.source and str(rule.source.address),
        "FRA_DST": rule.destination and str(rule.destination.address),
        "FRA_TUN_ID": rule.tunnel_id or None,
        "FRA_IP_PROTO": rule.ip_protocol or None,
        "FRA_L3MDEV": 1 if rule.is_l3mdev else None,
        "FRA_UID_RANGE": rule.uids and f"{rule.uids.first}:{rule.uids.last}",
        "FRA_SPORT_RANGE": rule.source_ports
        and f"{rule.source_ports.first}:{rule.source_ports.last}",
    }


@settings(max_examples=EXAMPLES)
@given(rule=any_rule())
def check_round_trip(requests: RequestSocket, rule: PolicyRule) -> None:
    try:
        outcome = requests.add_rule(rule)
        assert outcome.errno == 0, (rule, outcome)
        assert ours(requests) == [rule]
        shown, fields = shown_by_ip(rule), rule.fields()
        if rule.is_l3mdev or rule.action is RuleAction.NOP:
            fields.pop("table", None)
        if "ipproto" in fields:  # `ip` names it by /etc/protocols, we by a table
            fields["ipproto"] = shown["ipproto"] = None
        if "tos" in fields:  # `ip` has names for some
            fields["tos"] = shown["tos"] = None
        if rule.suppress_prefix_len is not None and rule.is_l3mdev:
            fields.pop("suppress_prefixlen")  # `ip` shows it only beside a table
        if rule.suppress_group is not None and (rule.is_l3mdev or rule.suppress_group == 0):
            shown.pop("suppress_ifgroup", None)
            fields.pop("suppress_ifgroup")
        left = NEWER - shown.keys()
        assert {key: value for key, value in fields.items() if key not in left} == {
            key: value for key, value in shown.items() if key not in left
        }
        found = pyroute2_reads(requests, rule)
        wanted = expected_of_pyroute2(rule)
        assert {name: found.get(name) for name in wanted} == wanted
    finally:
        clear(requests)


def test_any_rule_reads_back_as_it_was_written(requests: RequestSocket) -> None:
    check_round_trip(requests)


def test_the_text_is_that_of_ip_rule(requests: RequestSocket) -> None:
    ipv4, ipv6 = Prefix.parse("10.1.0.0/16"), Prefix.parse("2001:db8::1/128")
    rules = [
        PolicyRule(Family.IPV4, 5, table_id=100, source=ipv4, iif="lo", fwmark=7, fwmask=0xFF),
        PolicyRule(Family.IPV4, 6, table_id=256, is_inverted=True, tos=0x1C, suppress_prefix_len=0),
        PolicyRule(Family.IPV6, 7, table_id=2**32 - 1, source=ipv6, destination=ipv6),
        PolicyRule(Family.IPV6, 8, RuleAction.NOP, uids=UidRange(0, 9), tunnel_id=77),
        PolicyRule(Family.IPV4, 9, RuleAction.PROHIBIT, ip_protocol=6, is_l3mdev=True),
        PolicyRule(Family.IPV4, 10, RuleAction.GOTO, goto_priority=32766),
        PolicyRule(Family.IPV6, 11, table_id=255, source_ports=PortRange(5, 9)),
        PolicyRule(Family.IPV6, 12, table_id=254, destination_ports=PortRange(5, 5)),
    ]
    for rule in rules:
        assert requests.add_rule(rule).errno == 0, rule
    shown = []
    for family in ("-4", "-6"):
        command = ["ip", family, "rule", "list", "proto", "205"]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        shown += [
            line.replace(":\t", ": ").removesuffix(" proto 205")
            for line in done.stdout.splitlines()
            if line.endswith(" proto 205")
        ]
    assert sorted(shown) == sorted(map(str, rules))
    clear(requests)


# --- removals: the fake removes the same rules as the kernel

POOL = [
    PolicyRule(Family.IPV4, 50, table_id=100, source=Prefix.parse("10.0.0.0/8")),
    PolicyRule(Family.IPV4, 50, table_id=100),
    PolicyRule(Family.IPV4, 50, table_id=100, is_inverted=True, iif="lo"),
    PolicyRule(Family.IPV4, 50, table_id=100, iif="lo"),
    PolicyRule(Family.IPV4, 50, table_id=200, iif="lo"),
    PolicyRule(Family.IPV4, 50, table_id=100, fwmark=7, fwmask=0xFF),
    PolicyRule(Family.IPV4, 50, table_id=100, ip_protocol=6, destination_ports=PortRange(80, 80)),
    PolicyRule(Family.IPV4, 50, RuleAction.GOTO, goto_priority=60),
    PolicyRule(Family.IPV4, 50, RuleAction.GOTO, goto_priority=70, uids=UidRange(0, 0)),
    PolicyRule(Family.IPV4, 50, RuleAction.GOTO, goto_priority=70),
    PolicyRule(Family.IPV4, 51, RuleAction.NOP),
]

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from(POOL)), max_size=25)


@settings(max_examples=EXAMPLES)
@given(steps=STEPS)
def check_same(requests: RequestSocket, steps: Sequence[tuple[bool, PolicyRule]]) -> None:
    fake = FakeRuleKernel()
    try:
        for is_addition, rule in steps:
            if is_addition:
                assert fake.add_rule(rule).errno == requests.add_rule(rule).errno == 0
            else:
                assert fake.remove_rule(rule).errno == requests.remove_rule(rule).errno
            assert ours(fake) == ours(requests)
    finally:
        clear(requests)


def test_a_removal_takes_the_same_rule_in_both_kernels(requests: RequestSocket) -> None:
    check_same(requests)


def test_a_removal_does_not_affect_the_rules_of_other_programs(requests: RequestSocket) -> None:
    rule = PolicyRule(Family.IPV6, 50, table_id=100)
    with opened(77) as other:
        assert other.add_rule(rule).errno == 0
        assert requests.remove_rule(rule).errno != 0
        assert requests.add_rule(rule).errno == 0
        clear(requests)
        assert [entry.protocol for entry in trio.run(other.dump_rules)] == [77]
        assert other.remove_rule(rule).errno == 0
