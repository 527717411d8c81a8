"""Commands that show or control a real daemon, except those that have their own test file."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from testbed import Lab, LabError
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


def test_the_configuration_in_force_is_shown(lab: Lab) -> None:
    in_force = load_text(lab.read_config("R"))
    for words in ((), ("all",)):
        lines = [row["line"] for row in lab.routectl("R", "show", "config", *words)]
        assert load_text("\n".join(lines)) == in_force
    (line,) = lab.routectl("R", "show", "config", "router_id")
    assert line["value"] == str(in_force.router_id)


def test_a_lab_gets_the_same_answers_as_routectl(lab: Lab) -> None:
    """A lab sends its requests through a program that keeps its connection
    (`netns-lab/asker.py`).
    """
    for words in (("config", "all"), ("protocol",), ("rules",)):
        command = lab.routectl_command("R", "show", *words)
        assert lab.show("R", *words) == lab.run("R", command).stdout.rstrip("\n")
    with pytest.raises(LabError, match="nonsense"):
        lab.routectl("R", "show", "nonsense")


def test_protocols_are_counted(lab: Lab) -> None:
    rows = {row["protocol"]: row for row in lab.routectl("R", "show", "protocol")}
    assert rows["neighbor"]["state"] == rows["connected"]["state"] == "up"
    assert rows["kernel"]["state"] == "off"
    shown = lab.routectl("R", "show", "routes")
    for source, row in rows.items():
        assert row["routes"] == sum(route["source"] == source for route in shown)


def test_routes_are_selected_by_neighbor_and_interface(lab: Lab) -> None:
    rows = lab.routectl("R", "show", "routes")
    learned = [row for row in rows if row["source"] == "neighbor"]
    for neighbor in lab.routectl("R", "show", "neighbors"):
        expected = [
            row["prefix"] for row in learned if row["next_hops"][0]["dev"] == neighbor["interface"]
        ]
        assert len(expected) == 2, "one of each family"
        for name in (neighbor["router_id"], neighbor["address"]):
            found = lab.routectl("R", "show", "routes", "neighbor", name)
            assert [row["prefix"] for row in found] == expected
        by_interface = lab.routectl("R", "show", "routes", "interface", neighbor["interface"])
        assert set(expected) < {row["prefix"] for row in by_interface}
    (via,) = {row["next_hops"][0]["via"] for row in learned if row["prefix"] == "10.255.0.1/32"}
    found = lab.routectl("R", "show", "routes", "via", via)
    assert [row["prefix"] for row in found] == ["10.255.0.1/32"]
    assert lab.routectl("R", "show", "fib", "state", "failed") == []
    (route,) = lab.routectl("R", "show", "route", "10.255.0.1/32")
    assert route["fib_state"] == "installed"


def test_a_cleared_neighbor_goes_down_and_comes_up_again(lab: Lab) -> None:
    before = lab.routectl("R", "show", "neighbors")
    assert {row["state"] for row in before} == {"up"}
    cleared = before[0]["router_id"]
    lab.routectl("R", "clear", "neighbor", cleared)

    def is_back() -> bool:
        after = {row["router_id"]: row for row in lab.routectl("R", "show", "neighbors")}
        downs = lab.routectl("R", "show", "log", "event", "adjacency-down")
        return bool(downs) and after.get(cleared, {}).get("state") == "up"

    wait_until(is_back, DEADLINE_S, "the neighbor is up again")
    (down,) = lab.routectl("R", "show", "log", "event", "adjacency-down")
    assert f"neighbor={cleared}" in down["text"]
    assert "operator" in down["text"]


def test_the_log_level_reaches_both_processes_and_a_new_engine(lab: Lab) -> None:
    lab.routectl("R", "log", "level", "debug")
    lab.routectl("R", "clear", "neighbor", lab.routectl("R", "show", "neighbors")[0]["router_id"])
    # The engine logs this at debug.
    wait_until(lambda: "adjacency-change" in lab.log("R"), DEADLINE_S, "the engine is verbose")
    pid = lab.engine_pid("R")
    lab.kill("R", "engine")
    wait_until(lambda: lab.engine_pid("R") not in (None, pid), DEADLINE_S, "an engine is back")
    seen = lab.log("R").count("adjacency-change")
    wait_until(
        lambda: lab.log("R").count("adjacency-change") > seen,
        DEADLINE_S,
        "the new engine is verbose, too",
    )
