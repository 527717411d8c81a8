"""Policy rules in routes.yaml: every selector, its bounds, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.config import iproute2_names
from routed.config.load import ConfigError, load_text
from routed.config.rules import RuleConfig
from routed.config.written import written
from routed.model.prefix import Family
from routed.model.rule import Masked, PolicyRule, PortRange, Realms, RuleAction, UidRange

HEAD = "router_id: 10.255.0.1\nuser: root\n"


def read(entry: str) -> RuleConfig:
    (rule,) = load_text(f"{HEAD}rules: [{entry}]\n").rules
    return rule


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(HEAD + text, "f")
    return str(caught.value).splitlines()


def test_every_selector_reaches_the_kernels_rule() -> None:
    entry = (
        "{priority: 4294967290, not: true, from: 10.0.0.0/8, to: 10.9.0.0/16, iif: lo, oif: eth1, "
        "fwmark: 0x10/0xff, dscp: AF11, ipproto: tcp, sport: 1000-2000, dport: 0x50/0xfff0, "
        "uidrange: 5-9, tun_id: 18446744073709551615, table: 4294967295, suppress_prefixlength: 0, "
        "suppress_ifgroup: default, realms: 3/5}"
    )
    (rule,) = read(entry).rules
    assert rule == PolicyRule(
        Family.IPV4,
        4294967290,
        RuleAction.LOOKUP,
        4294967295,
        source=rule.source,
        destination=rule.destination,
        iif="lo",
        oif="eth1",
        fwmark=0x10,
        fwmask=0xFF,
        is_inverted=True,
        dscp=Masked(10, 63),
        ip_protocol=6,
        source_ports=PortRange(1000, 2000),
        destination_ports=PortRange(0x50, 0x50, 0xFFF0),
        uids=UidRange(5, 9),
        tunnel_id=2**64 - 1,
        suppress_prefix_len=0,
        suppress_group=0,
        realms=Realms(3, 5),
    )
    assert str(rule.source) == "10.0.0.0/8"
    assert str(rule.destination) == "10.9.0.0/16"


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("{priority: 5, goto: 7}", ["5: from all goto 7"] * 2),
        ("{priority: 5, type: nop, tos: 0x10}", ["5: from all tos 0x10 nop"] * 2),
        ("{priority: 5, l3mdev: true}", ["5: from all lookup [l3mdev-table]"] * 2),
        (
            "{priority: 5, l3mdev: true, type: unreachable}",
            ["5: from all lookup [l3mdev-table] unreachable"] * 2,
        ),
        ("{priority: 5, table: local, realms: 5}", ["5: from all lookup local realms 5"]),
        ("{priority: 5, table: 9, flowlabel: 5}", ["5: from all lookup 9 flowlabel 0x5"]),
        ("{priority: 5, table: 7, from: 0.0.0.0/0}", ["5: from all lookup 7"]),
        ("{priority: 5, table: 7, sport: 53}", ["5: from all sport 53 lookup 7"] * 2),
        ("{priority: 5, table: 7, family: ipv6, tos: 0xe0}", ["5: from all tos 0xe0 lookup 7"]),
        (
            "{priority: 5, table: 7, ipproto: 200, sport: 1}",
            ["5: from all ipproto 200 sport 1 lookup 7"] * 2,
        ),
    ],
)  # fmt: skip
def test_a_rule_reads_as_ip_rule_writes_it(entry: str, shown: list[str]) -> None:
    assert [str(rule) for rule in read(entry).rules] == shown


@pytest.mark.parametrize(
    ("entry", "where", "complaint"),
    [
        ("priority: 4294967296, table: 7", "priority", "outside 1 to 4294967295"),
        ("priority: 5, table: 4294967296", "table", "a table number from 1 to 4294967295"),
        ("priority: 5, table: 0", "table", "a table number from 1 to 4294967295"),
        ("priority: 5, goto: 5", "goto", "not greater than the priority 5"),
        ("priority: 5, goto: 4", "goto", "Linux continues with a later rule only"),
        ("priority: 5, goto: 7, table: 7", "table", "does not look up a table"),
        ("priority: 5, goto: 7, type: blackhole", "type", "leave `type` out"),
        ("priority: 5, goto: 7, realms: 1", "realms", "has no effect"),
        ("priority: 5, type: nop, suppress_ifgroup: 1", "suppress_ifgroup", "has no effect"),
        ("priority: 5, l3mdev: true, table: 7", "table", "the table of the packet's VRF"),
        ("priority: 5, table: 7, tos: 0x10, dscp: 4", "tos", "give `tos` or `dscp`, not both"),
        ("priority: 5, table: 7, tos: 0x20", "tos", "use `dscp: 8`, or `family: ipv6`"),
        ("priority: 5, table: 7, tos: 0x11", "tos", "whose two last bits (ECN) are 0"),
        ("priority: 5, table: 7, tos: 16", "tos", "expected a hexadecimal number"),
        ("priority: 5, table: 7, dscp: 64", "dscp", "outside 0 to 0x3f"),
        ("priority: 5, table: 7, dscp: AF14", "dscp", "expected a DSCP from 0 to 63"),
        ("priority: 5, table: 7, dscp: 0x9/0x38", "dscp", "can never match"),
        ("priority: 5, table: 7, flowlabel: 0x100000", "flowlabel", "outside 0 to 0xfffff"),
        (
            "priority: 5, table: 7, flowlabel: 5, from: 10.0.0.0/8",
            "flowlabel",
            "different families",
        ),
        ("priority: 5, table: 7, realms: 5, to: '2001:db8::/32'", "realms", "different families"),
        ("priority: 5, table: 7, realms: 5, flowlabel: 5", "flowlabel", "different families"),
        ("priority: 5, table: 7, realms: 5, family: ipv4", "family", "follows from `realms`"),
        ("priority: 5, table: 7, realms: 0", "realms", "realm 0 is none"),
        ("priority: 5, table: 7, realms: 1/65536", "realms", "a realm from 0 to 65535"),
        ("priority: 5, table: 7, ipproto: icmp, sport: 5", "sport", "`ipproto: icmp` has no ports"),
        ("priority: 5, table: 7, ipproto: 50, dport: 5", "dport", "`ipproto: esp` has no ports"),
        ("priority: 5, table: 7, ipproto: 256", "ipproto", "a number from 1 to 255"),
        ("priority: 5, table: 7, ipproto: 0", "ipproto", "a number from 1 to 255"),
        ("priority: 5, table: 7, sport: 65535", "sport", "not within 1 to 65534"),
        ("priority: 5, table: 7, dport: 9-5", "dport", "its end is before its beginning"),
        ("priority: 5, table: 7, dport: 0/0xff", "dport", "not within 1 to 65534"),
        ("priority: 5, table: 7, dport: http", "dport", "expected a port such as 53"),
        ("priority: 5, table: 7, uidrange: 9-5", "uidrange", "its end is before its beginning"),
        ("priority: 5, table: 7, uidrange: 4294967295", "uidrange", "not within 0 to 4294967294"),
        ("priority: 5, table: 7, uidrange: root", "uidrange", "expected a range of user ids"),
        ("priority: 5, table: 7, tun_id: 18446744073709551616", "tun_id", "outside 1 to"),
        ("priority: 5, table: 7, tun_id: 0", "tun_id", "outside 1 to"),
        ("priority: 5, table: 7, suppress_prefixlength: 129", "suppress_prefixlength", "0 to 128"),
        (
            "priority: 5, table: 7, family: ipv4, suppress_prefixlength: 33",
            "suppress_prefixlength",
            "at most 32 bits",
        ),
        ("priority: 5, table: 7, suppress_ifgroup: uplinks", "suppress_ifgroup", "or a name of"),
        ("priority: 5, table: 7, not: true", "not", "matches none"),
    ],
)
def test_a_contradiction_is_refused_at_its_place(entry: str, where: str, complaint: str) -> None:
    (problem,) = problems(f"rules: [{{{entry}}}]\n")
    assert f": rules[0].{where}: " in problem
    assert complaint in problem


def test_one_wrong_rule_hides_no_other_problem() -> None:
    found = problems(
        "rules: [{priority: 5, goto: 3}, {priority: 6, dport: x, table: 7}]\nuser: 7\n"
    )
    assert len(found) == 3


# --- names of iproute2


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found = [tmp_path / name for name in ("etc", "share", "lib")]
    monkeypatch.setattr(iproute2_names, "FOLDERS", tuple(found))
    for folder in found:
        (folder / "rt_tables.d").mkdir(parents=True)
    return found


def table(name: str) -> int | None:
    return load_text(f"{HEAD}rules: [{{priority: 5, table: {name}}}]\n").rules[0].table


def test_a_table_has_the_names_of_iproute2(folders: list[Path]) -> None:
    etc, share, lib = folders
    (share / "rt_tables").write_text(
        "# comment\n\n254 main\n 10\tmgmt # ours\n0x100 big\nbad line here\n"
    )
    (lib / "rt_tables").write_text("11 hidden\n")
    (etc / "rt_tables.d" / "a.conf").write_text("12 uplink1\n4294967295 last\n")
    (etc / "rt_tables.d" / "README").write_text("13 readme\n")
    (share / "rt_tables.d" / "a.conf").write_text("14 overridden\n")
    (lib / "rt_tables.d" / "b.conf").write_text("15 vendor\n")
    assert [table(name) for name in ("mgmt", "big", "uplink1", "last", "vendor", "main")] == [
        10, 256, 12, 4294967295, 15, 254,
    ]  # fmt: skip
    for name in ("hidden", "readme", "overridden", "line"):
        (problem,) = problems(f"rules: [{{priority: 5, table: {name}}}]\n")
        assert f"a name of {etc / 'rt_tables'}, got '{name}'" in problem
    (etc / "rt_tables").write_text("16 mgmt\n")
    assert table("mgmt") == 16, "the file is read again"
    config = load_text(HEAD + "fib: {table: mgmt}\nlearn: [{protocol: dhcp, table: vendor}]\n")
    assert (config.fib.table_id, config.learn[0].table) == (16, 15)


def test_a_name_of_two_tables_is_refused(folders: list[Path]) -> None:
    etc, _, lib = folders
    (etc / "rt_tables").write_text("10 mgmt\n")
    (lib / "rt_tables.d" / "b.conf").write_text("11 mgmt\n")
    (problem,) = problems("fib: {table: mgmt}\n")
    assert f"'mgmt' stands for 10 in {etc}/rt_tables and 11 in {lib}/rt_tables.d/b.conf" in problem
    (lib / "rt_tables.d" / "b.conf").write_text("10 mgmt\n")
    assert table("mgmt") == 10


def test_the_local_table_can_be_looked_up_and_not_managed() -> None:
    assert table("local") == table("255") == 255
    for text in ("fib: {table: 255}\n", "learn: [{protocol: dhcp, table: local}]\n"):
        (problem,) = problems(text)
        assert "the local table belongs to the kernel" in problem


def test_groups_and_realms_have_the_names_of_iproute2(folders: list[Path]) -> None:
    (folders[0] / "group").write_text("0 default\n7 uplinks\n")
    (folders[0] / "rt_realms").write_text("5 customers\n")
    rule = read("{priority: 5, table: 7, suppress_ifgroup: uplinks, realms: 3/customers}")
    assert (rule.suppress_group, rule.realms) == (7, Realms(3, 5))


# --- what is written reads as the same

VALUES = {
    "not": st.booleans(),
    "fwmark": st.sampled_from(["7", "0x10/0xff"]),
    "ipproto": st.sampled_from(["tcp", "17", "132"]),
    "sport": st.sampled_from(["1", "65534", "5-9", "0x10/0x10"]),
    "dport": st.sampled_from(["53", "1-65534"]),
    "uidrange": st.sampled_from(["0", "5-4294967294"]),
    "tun_id": st.integers(1, 2**64 - 1),
    "suppress_prefixlength": st.integers(0, 32),
    "suppress_ifgroup": st.integers(0, 2**31 - 1),
    "dscp": st.sampled_from(["0", "ef", "63", "0x8/0x38"]),
    "iif": st.sampled_from(["lo", "eth0"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_a_written_rule_reads_back(values: dict[str, object]) -> None:
    entry = {"priority": 5, "table": 7, "iif": "lo", **values}
    text = ", ".join(f"{key}: {str(value).lower()}" for key, value in entry.items())
    config = load_text(f"{HEAD}rules: [{{{text}}}]\n")
    again = "".join(f"{line.text}\n" for line in written(config))
    assert load_text(again) == config
