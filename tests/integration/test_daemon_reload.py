"""A reload applies exactly the difference, or nothing at all."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
from typing import Any, cast

import pytest

import kernel
import router_config
import topology
from routed.fib.rule_codec import RULE_MESSAGES, decode_rule, encode_rule_dump
from routed.model.prefix import Family
from routed.model.rule import PolicyRule
from routed.netlink.message import NLMSG_DONE, split_messages
from testbed import Lab
from tests.fakes.route_monitor import RouteMonitor
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def statics(*numbers: int) -> str:
    return "static:\n" + "".join(
        f"  - {{prefix: 10.9.{number}.0/24, type: blackhole}}\n" for number in numbers
    )


def prefixes(lab: Lab) -> set[str]:
    return {route.prefix for route in lab.kernel_routes("R") if route.prefix.startswith("10.9.")}


def expected(*numbers: int) -> set[str]:
    return {f"10.9.{number}.0/24" for number in numbers}


def kernel_rules(lab: Lab, router: str, protocol: int = 205) -> list[PolicyRule]:
    """A router's policy rules of one protocol number."""
    found = []
    with contextlib.closing(lab.open_socket(router, socket.AF_NETLINK, socket.SOCK_RAW, 0)) as raw:
        for family in Family:
            raw.send(encode_rule_dump(family, 1))
            is_over = False
            while not is_over:
                for message in split_messages(raw.recv(1 << 16)):
                    is_over |= message.type == NLMSG_DONE
                    seen = decode_rule(message) if message.type in RULE_MESSAGES else None
                    if seen is not None and seen.protocol == protocol:
                        found.append(seen.rule)
    return found


def uptimes(lab: Lab, router: str) -> dict[str, float]:
    """Seconds since each neighbor of a router came up, by link."""
    return {
        row["interface"]: row["uptime_s"]
        for row in lab.routectl(router, "show", "neighbors")
        if row["uptime_s"] is not None
    }


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    return started(build_lab("line3"))


def started(lab: Lab) -> Lab:
    lab.write_config_unless_there("R")
    lab.base = lab.read_config("R")  # type: ignore[attr-defined]
    lab.write_config("R", lab.read_config("R") + statics(1, 2, 3))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def base(lab: Lab) -> str:
    return str(lab.base)  # type: ignore[attr-defined]


def test_sighup_writes_exactly_the_changed_routes(lab: Lab) -> None:
    with RouteMonitor(lab, "R") as monitor:
        lab.write_config("R", base(lab) + statics(2, 3, 4, 5))
        lab.sighup("R")
        wait_until(
            lambda: prefixes(lab) == expected(2, 3, 4, 5), DEADLINE_S, "the new routes are in"
        )
    assert sorted(monitor.heard) == [
        ("del", "10.9.1.0/24"),
        ("new", "10.9.4.0/24"),
        ("new", "10.9.5.0/24"),
    ]
    assert "adjacency-down" not in lab.log("R"), "no adjacency was disturbed"


def test_routectl_reload_reports_the_changes(lab: Lab) -> None:
    lab.write_config("R", base(lab) + statics(1, 2))
    done = lab.run("R", ["routectl", "reload"])
    assert done.returncode == 0, done.stderr
    assert "static 10.9.3.0/24 removed" in done.stdout
    wait_until(lambda: prefixes(lab) == expected(1, 2), DEADLINE_S, "the route is gone")


def test_an_equal_file_writes_nothing(lab: Lab) -> None:
    with RouteMonitor(lab, "R") as monitor:
        done = lab.run("R", ["routectl", "reload"])
    assert (done.returncode, "nothing changed" in done.stdout) == (0, True)
    assert monitor.heard == []


def test_policy_rules_are_added_changed_and_removed_with_the_configuration(lab: Lab) -> None:
    def ours() -> list[str]:
        return sorted(str(rule) for rule in kernel_rules(lab, "R"))

    rules = "rules: [{priority: 1000, from: 10.1.0.0/16, table: 100}, {priority: 1001, table: 9}]\n"
    lab.write_config("R", base(lab) + rules)
    done = lab.run("R", ["routectl", "reload"])
    assert "rule 1000: from 10.1.0.0/16 lookup 100 added" in done.stdout
    expected = ["1000: from 10.1.0.0/16 lookup 100", *["1001: from all lookup 9"] * 2]
    wait_until(lambda: ours() == expected, DEADLINE_S, "the rules are there, of both families")
    rows = {
        (row["family"], row["rule"]): row["state"] for row in lab.routectl("R", "show", "rules")
    }
    assert rows == {
        ("ipv4", expected[0]): "installed",
        ("ipv4", expected[1]): "installed",
        ("ipv6", expected[1]): "installed",
    }
    lab.write_config("R", base(lab))
    lab.sighup("R")
    wait_until(lambda: ours() == [], DEADLINE_S, "and gone with their lines")


def test_routes_of_other_programs_are_imported_and_removed_with_them(lab: Lab) -> None:
    netlink = lab.netlink("R")
    kernel.add_route(netlink, "198.18.0.0/15", via=None, dev="eth-A")

    def learned() -> dict[str, str]:
        rows = lab.routectl("R", "show", "routes", "source", "kernel")
        return {row["prefix"]: row["fib_state"] for row in rows}

    assert learned() == {}
    lab.write_config("R", base(lab) + "learn: [{protocol: static, match: [198.18.0.0/15 le 24]}]\n")
    with RouteMonitor(lab, "R") as monitor:
        assert lab.run("R", ["routectl", "reload"]).returncode == 0
        wait_until(lambda: learned() == {"198.18.0.0/15": None}, DEADLINE_S, "it is learned")
        kernel.add_route(netlink, "198.18.7.0/24", via=None, dev="eth-B")
        kernel.add_route(netlink, "203.0.113.0/24", via=None, dev="eth-B")
        wait_until(lambda: set(learned()) == {"198.18.0.0/15", "198.18.7.0/24"}, DEADLINE_S, "two")
        lab.kill("R", "engine", signal.SIGKILL)
        wait_until(lambda: len(learned()) == 2, DEADLINE_S, "a new engine is told, too")
        for route in lab.kernel_routes("R", None):
            if route.prefix == "198.18.7.0/24":
                kernel.delete_route(netlink, route)
        wait_until(lambda: set(learned()) == {"198.18.0.0/15"}, DEADLINE_S, "one is gone")
        lab.cut("R-A")
        wait_until(
            lambda: learned() == {}, DEADLINE_S, "the other one went with its link, silently"
        )
    assert not [entry for entry in monitor.heard if entry[1].startswith("198.18.")], "never written"


def test_a_broken_file_changes_nothing_and_is_reported_with_its_line(lab: Lab) -> None:
    path = router_config.config_path("R")
    broken = base(lab) + statics(7).replace("10.9.7.0/24", "10.9.7.1/24")
    line = broken.count("\n")
    with RouteMonitor(lab, "R") as monitor:
        lab.write_config("R", broken)
        done = lab.run("R", ["routectl", "reload"])
        assert done.returncode == 1
        assert f"{path}:{line}:" in done.stderr
        assert "did you mean 10.9.7.0/24?" in done.stderr
        lab.sighup("R")
        wait_until(
            lambda: lab.log("R").count("reload-failed") == 2, DEADLINE_S, "the log says so, too"
        )
    assert monitor.heard == []
    assert prefixes(lab) == expected(1, 2, 3)
    (status,) = lab.routectl("R", "show", "status")
    assert status["last_reload"]["ok"] is False


def test_health_reports_that_the_file_is_not_in_force_also_after_an_engine(lab: Lab) -> None:
    command = lab.routectl_command("R", "health")
    text = lab.read_config("R")
    wait_until(lambda: lab.run("R", command).returncode == 0, DEADLINE_S, "healthy")
    lab.write_config("R", text + "nonsense: 1\n")
    assert lab.run("R", lab.routectl_command("R", "reload")).returncode == 1

    def verdict() -> dict[str, Any]:
        (row,) = json.loads(lab.run("R", [*command, "--json"]).stdout)["data"]
        return cast("dict[str, Any]", row)

    assert lab.run("R", command).returncode == 1
    assert verdict()["problems"] == ["configuration file not in force"]
    old = lab.engine_pid("R")
    lab.kill("R", "engine")
    wait_until(lambda: lab.engine_pid("R") not in (None, old), DEADLINE_S, "the next engine")
    wait_until(
        lambda: verdict()["problems"] == ["configuration file not in force"],
        DEADLINE_S,
        "the next engine says the same",
    )
    assert verdict()["config_in_sync"] is False
    lab.write_config("R", text)
    assert lab.run("R", lab.routectl_command("R", "reload")).returncode == 0
    wait_until(lambda: lab.run("R", command).returncode == 0, DEADLINE_S, "healthy again")


def test_an_interface_can_be_removed_and_added_again(lab: Lab) -> None:
    lab.write_config("R", base(lab).replace("eth*", "eth-A"))
    assert lab.run("R", ["routectl", "reload"]).returncode == 0

    def neighbors() -> set[str]:
        return {row["interface"] for row in lab.routectl("R", "show", "neighbors")}

    wait_until(lambda: neighbors() == {"eth-A"}, DEADLINE_S, "R speaks to A only")
    lab.write_config("R", base(lab))
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    lab.wait_converged(DEADLINE_S)


def test_a_new_cost_applies_without_losing_the_adjacency(lab: Lab) -> None:
    before = {row["interface"]: row for row in lab.routectl("R", "show", "neighbors")}
    lab.write_config("R", base(lab).replace("hello: 300ms", "hello: 300ms\n    cost: 77"))
    assert lab.run("R", ["routectl", "reload"]).returncode == 0

    def is_applied() -> bool:
        rows = {row["interface"]: row for row in lab.routectl("R", "show", "neighbors")}
        return rows.keys() == before.keys() and all(
            row["cost"] == 77 and (row["uptime_s"] or 0) >= before[name]["uptime_s"]
            for name, row in rows.items()
        )

    wait_until(is_applied, DEADLINE_S, "the cost is 77 and the adjacencies stood")


def test_check_diff_and_plan_change_nothing(lab: Lab) -> None:
    lab.write_config("R", base(lab).replace("eth*", "eth-A") + statics(1, 4))
    with RouteMonitor(lab, "R") as monitor:
        diff = lab.run("R", ["routectl", "diff"])
        check = lab.run("R", ["routectl", "check"])
        plan = lab.run("R", ["routectl", "reload", "--plan"])
    assert "static 10.9.4.0/24 added" in diff.stdout
    assert "is valid; a reload would make" in check.stdout
    assert "kernel      remove 10.9.2.0/24 blackhole" in plan.stdout
    assert "adjacency   eth-B: ends" in plan.stdout
    assert monitor.heard == []
    assert "adjacency-down" not in lab.log("R")


def test_a_reload_that_cuts_its_own_link_is_rolled_back_without_confirmation(lab: Lab) -> None:
    lab.write_config("R", base(lab).replace("eth*", "none*") + statics(1, 2, 3))
    assert lab.run("R", ["routectl", "reload", "--confirm", "2s"]).returncode == 0

    def ended() -> set[str]:
        return set(re.findall("adjacency-down .*link=(eth-.)", lab.log("R")))

    wait_until(lambda: ended() == {"eth-A", "eth-B"}, DEADLINE_S, "the adjacencies are gone")

    def last_reload() -> dict[str, Any]:
        (status,) = lab.routectl("R", "show", "status")
        return status["last_reload"] or {}

    wait_until(lambda: last_reload().get("ok") is False, DEADLINE_S, "the change is taken back")
    assert "not confirmed in time" in last_reload()["text"]
    lab.wait_converged(DEADLINE_S)


@pytest.mark.parametrize(
    ("key", "place"), [("priority: 9", (254, 9)), ("table: 100", (100, 205))], ids=str
)
def test_routes_move_with_their_priority_and_table_and_back(
    lab: Lab, key: str, place: tuple[int, int]
) -> None:
    """With another priority they were removed from the kernel for good, and were shown as
    installed.
    """

    def places() -> set[tuple[str, int, int]]:
        """Every route of ours, in the tables and with the priorities that it may have."""
        found = [*lab.kernel_routes("R"), *lab.kernel_routes("R", table=100)]
        return {(route.prefix, route.table, route.priority) for route in found}

    def wait_for_places(after: set[tuple[str, int, int]]) -> None:
        wait_until(lambda: places() == after, DEADLINE_S, "every route is where it belongs")

    before = places()
    assert {prefix for prefix, *_ in before} >= expected(1, 2, 3)
    moved = {(prefix, *place) for prefix, *_ in before}
    lab.write_config("R", base(lab) + statics(1, 2, 3) + f"fib: {{{key}}}\n")
    for words, after in (
        (["reload", "confirm", "1h"], moved),
        (["rollback"], before),
        (["reload"], moved),
    ):
        with RouteMonitor(lab, "R") as monitor:
            assert lab.run("R", ["routectl", *words]).returncode == 0
            wait_for_places(after)
        for prefix, *_ in before:
            changes = [word for word, changed in monitor.heard if changed == prefix]
            assert changes == ["new", "del"], f"{prefix} was missing for a moment"
    (status,) = lab.routectl("R", "show", "status")
    assert status["fib"]["installed"] == len(moved)


def test_rollback_works_after_a_restart_of_the_daemon(lab: Lab) -> None:
    lab.write_config("R", base(lab) + statics(5))
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    wait_until(lambda: prefixes(lab) == expected(5), DEADLINE_S, "the new routes are in")
    pid = lab.daemon_pid("R")
    lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not lab.is_running(pid), DEADLINE_S, "the daemon has stopped")
    lab.start_daemons(["R"])
    done = lab.run("R", ["routectl", "rollback"])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: prefixes(lab) == expected(1, 2, 3), DEADLINE_S, "the old routes are back")


def stop_daemon(lab: Lab) -> None:
    pid = lab.daemon_pid("R")
    lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not lab.is_running(pid), DEADLINE_S, "the daemon has stopped")


def test_a_daemon_that_ends_before_the_confirmation_starts_with_the_history(lab: Lab) -> None:
    lab.write_config("R", base(lab) + statics(5))
    assert lab.run("R", ["routectl", "reload", "--confirm", "1h"]).returncode == 0
    wait_until(lambda: prefixes(lab) == expected(5), DEADLINE_S, "the new routes are in")
    stop_daemon(lab)
    lab.start_daemons(["R"])
    wait_until(lambda: prefixes(lab) == expected(1, 2, 3), DEADLINE_S, "the old routes are back")
    assert "config-refused" in lab.log("R")
    # Another reload puts the file into force, and later starts use it.
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    stop_daemon(lab)
    lab.start_daemons(["R"])
    wait_until(lambda: prefixes(lab) == expected(5), DEADLINE_S, "it goes by the file")


def test_ten_thousand_changed_routes_are_one_burst(build_lab: LabBuilder) -> None:
    """Each is written once, in place: none is removed, and none is written twice."""
    patient = {"interfaces": {"eth*": {"hello": "300ms", "multiplier": 100}}}
    lab = started(build_lab(topology.load("line3").with_config(patient)))
    count = 10_000

    def write(kind: str) -> None:
        lines = [
            f"  - {{prefix: 100.{64 + (n >> 8)}.{n & 255}.0/24, type: {kind}}}\n"
            for n in range(count)
        ]
        lab.write_config("R", base(lab) + "static:\n" + "".join(lines))

    def is_complete() -> int:
        (status,) = lab.routectl("R", "show", "status")
        fib = status["fib"]
        return int(fib["installed"]) if not (fib["pending"] or fib["failed"]) else -1

    def writes() -> int:
        rows = lab.routectl("R", "show", "counters")
        return next(int(row["value"]) for row in rows if row["name"] == "fib_kernel_writes")

    first = writes()
    write("blackhole")
    assert lab.run("R", ["routectl", "reload"], timeout_s=60).returncode == 0
    before = first + count + 3  # routes of the earlier configuration are removed last
    wait_until(
        lambda: is_complete() >= count and writes() >= before, 60, "the first ten thousand are in"
    )
    write("unreachable")
    with RouteMonitor(lab, "R") as monitor:
        assert lab.run("R", ["routectl", "reload"], timeout_s=60).returncode == 0
        wait_until(
            lambda: is_complete() >= count and writes() >= before + count, 60, "they are changed"
        )
    heard = [prefix for word, prefix in monitor.heard if prefix.startswith("100.")]
    assert len(set(heard)) == count
    assert {word for word, prefix in monitor.heard if prefix.startswith("100.")} == {"new"}
    assert len(heard) == count
    assert writes() == before + count
    assert len(uptimes(lab, "R")) == 2, "the adjacencies stood"


def test_an_unchanged_file_sends_nothing_to_neighbors(lab: Lab) -> None:
    """Only heartbeats are on the wire, before and after the reload."""
    heartbeat, port = 3, 61698
    capture = lab.open_socket("R", socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    capture.settimeout(DEADLINE_S)

    def types(until: int) -> set[int]:
        """The types of the next NUP messages, during this many heartbeats."""
        seen, found = 0, set()
        while seen < until:
            packet = capture.recv(4096)
            is_nup = packet[0] >> 4 == 6 and packet[6] == 17 and packet[42:44] == port.to_bytes(2)
            if is_nup:
                found.add(packet[49])
                seen += packet[49] == heartbeat
        return found

    with contextlib.closing(capture), RouteMonitor(lab, "R") as monitor:
        assert types(3) == {heartbeat}
        assert lab.run("R", ["routectl", "reload"]).returncode == 0
        assert types(6) == {heartbeat}
    assert monitor.heard == []
