"""A kernel with routes and rules becomes the configuration of a daemon, and files of iproute2 are
imported.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0

SETUP = """
ip address add 192.0.2.9/24 dev eth-A
ip -6 address add 2001:db8:99::9/64 dev eth-A nodad
ip route add 10.61.0.0/16 via 192.0.2.1
ip route add 10.62.0.0/16 via 192.0.2.2 metric 300 proto static
ip route add blackhole 10.63.0.0/16 proto static
ip route add 10.64.0.0/16 proto static nexthop via 192.0.2.1 weight 3 nexthop via 192.0.2.2
ip route add 10.65.0.0/16 via 192.0.2.1 src 192.0.2.9 mtu lock 1400
ip route add 10.66.0.0/16 via inet6 2001:db8:99::1 dev eth-A
ip route add 10.67.0.0/16 via 192.0.2.1 table 100
ip route add 10.68.0.0/16 via 192.0.2.1 proto bird
ip nexthop add id 7 via 192.0.2.2 dev eth-A
ip route add 10.69.0.0/16 nhid 7
ip -6 route add 2001:db8:61::/48 via 2001:db8:99::1
ip -6 route add unreachable 2001:db8:62::/48 metric 77
ip rule add priority 500 from 10.0.0.0/8 table 100
ip rule add priority 501 fwmark 7 ipproto tcp dport 80 table 100
ip -6 rule add priority 501 fwmark 7 ipproto tcp dport 80 table 100
"""

IMPORTED = {
    "10.61.0.0/16", "10.62.0.0/16", "10.63.0.0/16", "10.64.0.0/16", "10.65.0.0/16", "10.66.0.0/16",
    "10.69.0.0/16", "2001:db8:61::/48", "2001:db8:62::/48",
}  # fmt: skip
LEFT_OUT = "#   route 10.67.0.0/16 via 192.0.2.1 dev eth-A proto boot table 100: "


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    for command in SETUP.strip().splitlines():
        run(lab, *command.split())
    return lab


def run(lab: Lab, *words: str) -> str:
    done = lab.run("R", list(words))
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def rows(lab: Lab, *words: str) -> list[dict[str, Any]]:
    return [
        row for family in ("-4", "-6") for row in json.loads(run(lab, "ip", family, "-j", *words))
    ]


def destinations(lab: Lab, protocol: str) -> set[str]:
    return {row["dst"] for row in rows(lab, "route", "show", "proto", protocol)}


def originals(lab: Lab) -> list[dict[str, Any]]:
    """Every route; next hops of an object are shown or not, depending on
    net.ipv4.nexthop_compat_mode.
    """
    found = rows(lab, "route", "show", "table", "all")
    return [
        {key: value for key, value in row.items() if "nhid" not in row or key in ("dst", "nhid")}
        for row in found
    ]


def test_a_daemon_with_the_printed_configuration_replaces_the_routes_of_the_machine(
    lab: Lab,
) -> None:
    before = originals(lab)
    rules = rows(lab, "rule")
    written = run(lab, sys.executable, "-m", "routed", "--import-kernel")
    assert LEFT_OUT in written
    assert "#   protocol 12, table main: 1" in written
    body = written.partition("static:")
    lab.write_config("R", lab.read_config("R") + body[1] + body[2])
    run(lab, sys.executable, "-m", "routed", "--check", "-c", router_config.config_path("R"))
    lab.start_daemons(["R"])
    wait_until(lambda: destinations(lab, "205") >= IMPORTED, DEADLINE_S, "ours are in the kernel")
    ours = [row for row in rows(lab, "route", "show", "proto", "205") if row["dst"] in IMPORTED]
    assert {row["metric"] for row in ours} == {205}
    (with_source,) = [row for row in ours if row["dst"] == "10.65.0.0/16"]
    assert (with_source["prefsrc"], with_source["metrics"]) == ("192.0.2.9", [{"mtu": 1400}])
    now = originals(lab)
    assert [row for row in before if row not in now] == [], "no original was changed"
    wait_until(lambda: len(rows(lab, "rule")) == len(rules) + 3, DEADLINE_S, "our rules, too")

    for family in ("-4", "-6"):
        for protocol in ("boot", "static"):
            run(lab, "ip", family, "route", "flush", "proto", protocol)
    for rule in ("500", "501"):
        run(lab, "ip", "rule", "del", "priority", rule)
    run(lab, "ip", "-6", "rule", "del", "priority", "501")
    assert destinations(lab, "205") >= IMPORTED, "ours are still there"
    wait_until(
        lambda: (
            {
                row["prefix"]: row["fib_state"]
                for row in lab.routectl("R", "show", "routes")
                if row["prefix"] in IMPORTED
            }
            == dict.fromkeys(IMPORTED, "installed")
        ),
        DEADLINE_S,
        "and no foreign route is preferred any longer",
    )
    left = [rule for rule in rows(lab, "rule") if rule["priority"] in (500, 501)]
    assert [rule["protocol"] for rule in left] == ["205"] * 3, "and the rules are ours alone"


def imported(lab: Lab, path: str) -> list[tuple[Any, ...]]:
    """The routes that `route import` creates from a file."""
    done = lab.run("R", ["routectl", "route", "import", path, "replace", "owner", "file"])
    assert done.returncode == 0, done.stderr
    found = [
        (row["prefix"], row["type"], row["metric"], str(row["next_hops"]), str(row["attributes"]))
        for row in lab.routectl("R", "show", "routes", "source", "injected")
    ]
    for prefix in [entry[0] for entry in found]:
        run(lab, "routectl", "route", "delete", prefix, "owner", "file")
    return sorted(found)


def test_all_files_of_iproute2_contain_the_same_routes(lab: Lab) -> None:
    run(lab, "ip", "route", "del", "10.67.0.0/16", "table", "100")  # of another table: refused
    files = {}
    for name, options, verb in (
        ("text", "-o", "show"), ("json", "-j", "show"), ("binary", "", "save")
    ):  # fmt: skip
        files[name] = f"{router_config.config_path('R')}.{name}"
        command = ["ip", *options.split(), "route", verb, "table", "all"]
        run(lab, "sh", "-c", f"{' '.join(command)} > {files[name]}")
    lab.start_daemons(["R"])
    text = imported(lab, files["text"])
    assert {prefix for prefix, *_ in text} >= IMPORTED - {"10.69.0.0/16"}
    assert imported(lab, files["binary"]) == text
    # iproute2's JSON does not contain that a metric is locked.
    unlocked = [(*entry[:-1], entry[-1].replace("lock ", "")) for entry in text]
    assert imported(lab, files["json"]) == unlocked
