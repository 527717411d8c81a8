"""Tables besides the main one: from the configuration to the kernel, reloads and crashes."""

from __future__ import annotations

import signal

import pytest

import kernel
from testbed import Lab
from tests.fakes.route_monitor import RouteMonitor
from tests.integration.conftest import LabBuilder, foreign_route
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
HIGHEST = 2**32 - 1

TABLES = f"""
tables:
  isp2: {{number: 100}}
  default: {{}}
  1000: {{}}
  {HIGHEST}: {{}}
"""
STATIC = f"""
static:
  - {{prefix: 10.9.1.0/24, type: blackhole}}
  - {{prefix: 10.9.1.0/24, via: 10.0.1.1, table: isp2}}
  - {{prefix: 0.0.0.0/0, via: 10.0.1.1, table: isp2}}
  - {{prefix: 10.9.2.0/24, type: blackhole, table: default}}
  - {{prefix: "2001:db8:9::/48", type: blackhole, table: "1000"}}
  - {{prefix: 10.9.3.0/24, type: unreachable, table: "{HIGHEST}"}}
"""
EXPECTED = {
    (254, "10.9.1.0/24"),
    (100, "10.9.1.0/24"),
    (100, "0.0.0.0/0"),
    (253, "10.9.2.0/24"),
    (1000, "2001:db8:9::/48"),
    (HIGHEST, "10.9.3.0/24"),
}


def ours(lab: Lab, protocol: int | None = 205) -> set[tuple[int, str]]:
    """The static routes of R in its kernel, with their tables."""
    mine = {prefix for _, prefix in EXPECTED}
    routes = lab.kernel_routes("R", protocol)
    return {(route.table, route.prefix) for route in routes if route.prefix in mine}


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    lab.base = lab.read_config("R")  # type: ignore[attr-defined]
    configure(lab, TABLES + STATIC)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    wait_until(lambda: ours(lab) == EXPECTED, DEADLINE_S, "the routes of all tables are in")
    return lab


def configure(lab: Lab, more: str) -> None:
    lab.write_config("R", f"{lab.base}{more}fib: {{on_exit: keep}}\n")  # type: ignore[attr-defined]


def reload(lab: Lab, more: str) -> str:
    configure(lab, more)
    done = lab.run("R", ["routectl", "reload"])
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_each_table_is_shown_by_its_name_or_number(lab: Lab) -> None:
    rows = lab.routectl("R", "show", "routes", "table", "isp2")
    assert [(row["prefix"], row["table"], row["fib_state"]) for row in rows] == [
        ("0.0.0.0/0", "isp2", "installed"),
        ("10.9.1.0/24", "isp2", "installed"),
    ]
    assert rows[0]["next_hops"][0]["dev"] == "eth-A", "the gateway resolves in the main table"
    same = lab.routectl("R", "show", "routes", "0.0.0.0/0", "table", "100")
    assert [row["next_hops"] for row in same] == [rows[0]["next_hops"]]
    every = lab.routectl("R", "show", "routes", "table", "all", "source", "static")
    assert {(row["table"], row["prefix"]) for row in every} == {
        ("main", "10.9.1.0/24"),
        ("isp2", "0.0.0.0/0"),
        ("isp2", "10.9.1.0/24"),
        ("default", "10.9.2.0/24"),
        ("1000", "2001:db8:9::/48"),
        (str(HIGHEST), "10.9.3.0/24"),
    }
    fib = lab.routectl("R", "show", "fib", "table", "all")
    assert {(row["table"], row["prefix"]) for row in fib} >= EXPECTED
    assert {row["state"] for row in fib} == {"installed"}
    assert {row["table"] for row in lab.routectl("R", "show", "routes")} == {"main"}


def test_explain_and_show_route_search_one_table(lab: Lab) -> None:
    (main,) = lab.routectl("R", "show", "route", "10.9.1.1")
    (other,) = lab.routectl("R", "show", "route", "10.9.1.1", "table", "isp2")
    assert (main["type"], other["type"]) == ("blackhole", "unicast")
    (row,) = lab.routectl("R", "explain", "198.51.100.1", "table", "isp2")
    assert (row["prefix"], row["table"]) == ("0.0.0.0/0", "isp2")
    refused = lab.run("R", ["routectl", "show", "routes", "table", "isp3"])
    assert refused.returncode == 2
    assert "'isp3' is no table of this daemon: main, isp2, default" in refused.stderr


def test_a_restart_and_a_new_engine_write_nothing(lab: Lab) -> None:
    with RouteMonitor(lab, "R") as monitor:
        lab.kill("R", "engine")
        wait_until(lambda: installed(lab), DEADLINE_S, "a new engine has all routes")
        lab.kill("R", "daemon", signal.SIGTERM)
        lab.start_daemons(["R"])
        wait_until(lambda: installed(lab), DEADLINE_S, "a new daemon has all routes")
    assert [entry for entry in monitor.heard if entry[1] in {p for _, p in EXPECTED}] == []


def installed(lab: Lab) -> bool:
    rows = lab.routectl("R", "show", "fib", "table", "all")
    found = {(row["table"], row["prefix"]) for row in rows if row["state"] == "installed"}
    return found >= EXPECTED


def test_a_table_that_a_reload_removes_loses_our_routes_and_no_others(lab: Lab) -> None:
    foreign_route(lab, "R", "INSTALL", "10.77.0.0/16", table=100)
    without = TABLES.replace("  isp2: {number: 100}\n", "")
    kept = "".join(line for line in STATIC.splitlines(True) if "isp2" not in line)
    with RouteMonitor(lab, "R") as monitor:
        assert "table isp2 removed" in reload(lab, without + kept)
        left = {entry for entry in EXPECTED if entry[0] != 100}
        wait_until(lambda: ours(lab) == left, DEADLINE_S, "our routes left the table")
    assert sorted(monitor.heard) == [("del", "0.0.0.0/0"), ("del", "10.9.1.0/24")]
    foreign = [route.prefix for route in lab.kernel_routes("R", None, 100)]
    assert foreign == ["10.77.0.0/16"]
    reload(lab, TABLES + STATIC)
    wait_until(lambda: installed(lab), DEADLINE_S, "and they come again")


def test_a_route_deleted_by_hand_comes_back_in_its_table(lab: Lab) -> None:
    (route,) = [r for r in lab.kernel_routes("R", 205, 100) if r.prefix == "0.0.0.0/0"]
    kernel.delete_route(lab.netlink("R"), route)
    wait_until(lambda: ours(lab) == EXPECTED, DEADLINE_S, "the route is back")


def test_a_table_gets_another_number(lab: Lab) -> None:
    reload(lab, TABLES.replace("number: 100", "number: 101") + STATIC)
    moved = {(101 if table == 100 else table, prefix) for table, prefix in EXPECTED}
    wait_until(lambda: ours(lab) == moved, DEADLINE_S, "the routes are in the other table")


def test_a_gateway_follows_the_main_table(lab: Lab) -> None:
    """A gateway of another table is resolved by a route of the main one, and goes with it."""
    far = "  - {prefix: 10.50.0.0/16, via: 10.0.2.2}\n"
    by_far = "  - {prefix: 10.9.4.0/24, via: 10.50.0.1, table: isp2}\n"

    def next_hop() -> str | None:
        rows = lab.routectl("R", "show", "routes", "table", "isp2")
        (row,) = [row for row in rows if row["prefix"] == "10.9.4.0/24"]
        return row["next_hops"][0]["dev"] if row["fib_state"] == "installed" else None

    reload(lab, TABLES + STATIC + far + by_far)
    wait_until(lambda: next_hop() == "eth-B", DEADLINE_S, "it goes through B")
    reload(lab, TABLES + STATIC + far.replace("10.0.2.2", "10.0.1.1") + by_far)
    wait_until(lambda: next_hop() == "eth-A", DEADLINE_S, "it goes through A")
    reload(lab, TABLES + STATIC + by_far)
    wait_until(lambda: next_hop() is None, DEADLINE_S, "it is not reachable")


def test_injected_routes_of_a_table_outlive_the_engine_and_end_with_the_table(lab: Lab) -> None:
    def injected() -> list[tuple[str, str, str]]:
        rows = lab.routectl("R", "show", "routes", "table", "all", "source", "injected")
        return [(row["table"], row["prefix"], row["fib_state"]) for row in rows]

    expected = [("isp2", "10.99.1.0/24", "installed"), ("1000", "10.99.2.0/24", "installed")]
    add = ["routectl", "route", "add", "10.99.1.0/24", "via", "10.0.1.1", "table", "isp2"]
    assert lab.run("R", add).returncode == 0
    lines = "10.99.2.0/24 via 10.0.1.1 table 1000\n"
    load = f"printf '{lines}' | routectl route import - table 1000"
    imported = lab.run("R", ["sh", "-c", load])
    assert imported.returncode == 0, imported.stderr
    wait_until(lambda: injected() == expected, DEADLINE_S, "both are installed")
    lab.kill("R", "engine")
    wait_until(lambda: injected() == expected, DEADLINE_S, "a new engine has them")
    reload(lab, "")
    wait_until(lambda: ours(lab) == set(), DEADLINE_S, "all tables are empty")
    reload(lab, TABLES + STATIC)
    wait_until(lambda: installed(lab), DEADLINE_S, "the static routes come again")
    assert injected() == [], "and injected ones do not"
    delete = ["routectl", "route", "delete", "10.99.1.0/24", "table", "isp2"]
    assert "injected no route to 10.99.1.0/24" in lab.run("R", delete).stderr
