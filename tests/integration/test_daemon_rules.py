"""Policy rules with every selector, under a running daemon: written, shown, repaired and
adopted.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from typing import Any

import pytest

from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0

_RTMGRP_IPV4_RULE, _RTMGRP_IPV6_RULE = 0x80, 0x4_0000

RULES = """rules:
  - {priority: 1000, not: true, from: 10.1.0.0/16, table: 4294967295, suppress_prefixlength: 0}
  - {priority: 1001, ipproto: tcp, sport: 1000-2000, dport: 443, uidrange: 5-9, table: 100}
  - {priority: 1002, fwmark: 7, tun_id: 77, goto: 1004}
  - {priority: 1003, from: 10.2.0.0/16, realms: 3/5, tos: 0x10, table: local}
  - {priority: 1004, family: ipv6, oif: lo, type: nop}
  - {priority: 40000, table: default, suppress_ifgroup: 5}
"""

EXPECTED = {
    "-4": [
        "1000: not from 10.1.0.0/16 lookup 4294967295 suppress_prefixlength 0",
        "1001: from all uidrange 5-9 ipproto tcp sport 1000-2000 dport 443 lookup 100",
        "1002: from all fwmark 0x7 tun_id 77 goto 1004",
        "1003: from 10.2.0.0/16 tos 0x10 lookup local realms 3/5",
        "40000: from all lookup default suppress_ifgroup 5",
    ],
    "-6": [
        "1001: from all uidrange 5-9 ipproto tcp sport 1000-2000 dport 443 lookup 100",
        "1002: from all fwmark 0x7 tun_id 77 goto 1004",
        "1004: from all oif lo nop",
        "40000: from all lookup default suppress_ifgroup 5",
    ],
}


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    lab.write_config("R", lab.read_config("R") + RULES)
    lab.start_daemons(["R"])
    return lab


def ip_rules(lab: Lab, family: str, protocol: int = 205) -> list[str]:
    """The rules of a protocol number as `ip rule` prints them."""
    lines = lab.run("R", ["ip", family, "rule"]).stdout.splitlines()
    words = [line.replace(":\t", ": ").replace(" [unresolved]", "") for line in lines]
    mark = f" proto {protocol}"
    return [line.removesuffix(mark) for line in words if line.endswith(mark)]


def is_as_configured(lab: Lab) -> bool:
    return all(ip_rules(lab, family) == rules for family, rules in EXPECTED.items())


def rows(lab: Lab) -> list[dict[str, Any]]:
    return list(lab.routectl("R", "show", "rules"))


def ip(lab: Lab, *words: str) -> None:
    done = lab.run("R", ["ip", *words])
    assert done.returncode == 0, done.stderr


def test_every_selector_is_written_shown_and_repaired(lab: Lab) -> None:
    wait_until(lambda: is_as_configured(lab), DEADLINE_S, "`ip rule` shows what is configured")
    wait_until(lambda: len(rows(lab)) == 9, DEADLINE_S, "the engine has the states")
    shown = {family: [row["rule"] for row in rows(lab) if row["family"] == name]
             for family, name in (("-4", "ipv4"), ("-6", "ipv6"))}  # fmt: skip
    assert shown == EXPECTED
    assert {row["state"] for row in rows(lab)} == {"installed"}
    for family, name in (("-4", "ipv4"), ("-6", "ipv6")):
        theirs = json.loads(lab.run("R", ["ip", family, "-j", "rule"]).stdout)
        expected = [
            {key: value for key, value in row.items() if key not in ("protocol", "unresolved")}
            for row in theirs
            if row.get("protocol") == "205"
        ]
        assert [row["ip_rule"] for row in rows(lab) if row["family"] == name] == expected

    ip(lab, "rule", "add", "priority", "900", "from", "10.7.0.0/16", "table", "77", "proto", "77")
    for deleted in (
        ("-4", "rule", "del", "priority", "1000"),
        ("-6", "rule", "del", "priority", "1004"),
        ("-4", "rule", "del", "priority", "40000"),
    ):
        ip(lab, *deleted)
        wait_until(lambda: is_as_configured(lab), DEADLINE_S, f"{deleted} is repaired")
    ip(lab, "-4", "rule", "del", "priority", "1003")
    ip(lab, "-4", "rule", "add", "priority", "1003", "from", "10.2.0.0/16", "table", "9",
       "proto", "205")  # fmt: skip
    wait_until(lambda: is_as_configured(lab), DEADLINE_S, "a rule changed by hand is repaired")
    assert ip_rules(lab, "-4", 77) == ["900: from 10.7.0.0/16 lookup 77"], "foreign: untouched"

    base = lab.read_config("R").partition("rules:")[0]
    lab.write_config("R", base + "rules: [{priority: 1002, fwmark: 7, tun_id: 77, goto: 1005}]\n")
    lab.sighup("R")
    changed = ["1002: from all fwmark 0x7 tun_id 77 goto 1005"]
    wait_until(
        lambda: all(ip_rules(lab, family) == changed for family in ("-4", "-6")),
        DEADLINE_S,
        "the target of a goto is changed, and the other rules are gone",
        explain=lambda: str([rows(lab), lab.routectl("R", "show", "log")[-9:]]),
    )
    assert ip_rules(lab, "-4", 77) == ["900: from 10.7.0.0/16 lookup 77"]


def test_a_restart_after_a_crash_writes_no_rule(lab: Lab) -> None:
    wait_until(lambda: is_as_configured(lab), DEADLINE_S, "the rules are there")
    lab.kill("R", "daemon", signal.SIGKILL)
    with contextlib.closing(lab.open_socket("R", socket.AF_NETLINK, socket.SOCK_RAW, 0)) as monitor:
        monitor.bind((0, _RTMGRP_IPV4_RULE | _RTMGRP_IPV6_RULE))
        lab.start_daemons(["R"])
        wait_until(lambda: len(rows(lab)) == 9, DEADLINE_S, "the rules are adopted")
        assert {row["state"] for row in rows(lab)} == {"installed"}
        monitor.setblocking(False)
        with pytest.raises(BlockingIOError):  # the kernel has reported no change
            monitor.recv(1 << 16)
    assert is_as_configured(lab)
