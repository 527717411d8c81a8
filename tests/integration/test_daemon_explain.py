"""`explain` against the real kernel, and `monitor` during a real change."""

from __future__ import annotations

import itertools
import json
import select
import subprocess

import pytest

import kernel
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def test_the_kernel_agrees_until_another_program_interferes(lab: Lab) -> None:
    for loopback in lab.node("B").loopbacks:
        (row,) = lab.routectl("A", "explain", str(loopback.ip))
        assert (row["agrees"], row["prefix"]) == (True, str(loopback.network)), row
        protocol = (
            None if loopback.version == 6 else 205
        )  # not available for a shared nexthop object
        assert row["kernel"]["protocol"] == protocol
    (row,) = lab.routectl("A", "explain", "192.0.2.77")
    assert (row["agrees"], row["agreement"]) == (True, "neither has a route")
    ours = str(lab.node("A").loopbacks[0].ip)
    assert lab.routectl("A", "explain", ours)[0]["kernel"]["type"] == "local"
    kernel.add_route(lab.netlink("A"), "192.0.2.0/24", via=None, dev="eth-R")
    (row,) = lab.routectl("A", "explain", "192.0.2.77")
    assert (row["agrees"], row["agreement"]) == (
        None,
        "routed has no route there; the kernel's belongs to another program",
    )
    assert row["network_namespace"] is not None


def test_the_table_of_nup_shows_what_is_received_and_advertised(lab: Lab) -> None:
    prefix = str(lab.node("B").loopbacks[0].network)
    rows = lab.routectl("R", "show", "nup", "routes", prefix)
    found = {(row["direction"], row["interface"], row["state"]) for row in rows}
    assert found == {("received", "eth-B", "selected"), ("advertised", "eth-A", "advertised")}
    assert {row["origin"] for row in rows} == {lab.node("B").router_id}
    assert {row["distance_metric"] for row in rows} == {10}
    whole = lab.routectl("R", "show", "nup", "routes")
    assert whole == sorted(whole, key=lambda row: ":" in row["prefix"])  # IPv4 before IPv6
    one = lab.routectl("R", "show", "nup", "routes", "neighbor", lab.node("A").router_id)
    assert {row["interface"] for row in one} == {"eth-A"}
    assert {row["neighbor"] for row in one} == {None, lab.node("A").router_id}


def test_ipv6_routes_that_share_a_nexthop_object_are_not_confused(lab: Lab) -> None:
    """For one of them the kernel may show another: the one that was looked up first."""
    prefixes = ["2001:db8:20::/44", "2001:db8:20::/48", "2001:db8:21::/48"]
    for prefix in prefixes:
        words = ["route", "replace", prefix, "via", "fe80::77", "dev", "eth-R"]
        lab.routectl("A", *words)

    def are_installed() -> bool:
        rows = lab.routectl("A", "show", "fib")
        states = {row["prefix"]: row["state"] for row in rows}
        return all(states.get(prefix) == "installed" for prefix in prefixes)

    wait_until(are_installed, DEADLINE_S, "the routes are in the kernel")
    for _ in range(2):  # each processor caches the first lookup
        for address in ("2001:db8:20::1", "2001:db8:2f::1", "2001:db8:21::1"):
            (row,) = lab.routectl("A", "explain", address)
            assert row["agrees"], row
            assert row["kernel"]["next_hops"] == [{"via": "fe80::77", "dev": "eth-R", "weight": 1}]


def test_the_counters_behind_the_rates_of_top_increase(lab: Lab) -> None:
    counters = {row["name"]: row["value"] for row in lab.routectl("A", "show", "counters")}
    assert counters["nup_received"] > 0
    assert counters["nup_sent"] > 0
    assert counters["fib_kernel_writes"] > 0


def test_monitor_shows_a_cut_link_at_once(lab: Lab) -> None:
    command = lab.routectl_command("A", "monitor", "--json")
    watcher = lab.popen("A", command, stdout=subprocess.PIPE)
    try:
        assert watcher.stdout is not None
        stdout = watcher.stdout
        numbers = itertools.count()

        def is_received() -> bool:
            words = ["route", "replace", "10.99.0.0/16", "type", "blackhole"]
            lab.routectl("A", *words, "metric", str(next(numbers)))
            return bool(select.select([stdout], [], [], 0)[0])

        wait_until(is_received, DEADLINE_S, "the watcher is there")
        lab.cut("A-R")
        seen: set[tuple[str, str]] = set()
        while not {("link", "down"), ("neighbor", "down"), ("route", "delete")} <= seen:
            row = json.loads(stdout.readline())
            seen.add((row["kind"], row["change"]))
    finally:
        watcher.kill()
        watcher.communicate()
