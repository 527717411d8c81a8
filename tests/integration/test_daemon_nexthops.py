"""Nexthop objects end to end: routes share them, and they are repaired, adopted and reduced at
once.
"""

from __future__ import annotations

import signal

import pytest

import kernel
import topology
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


def counter(lab: Lab, name: str) -> int:
    (value,) = [
        row["value"] for row in lab.routectl("R", "show", "counters") if row["name"] == name
    ]
    assert isinstance(value, int)
    return value


def test_routes_share_objects_and_all_views_show_it(lab: Lab) -> None:
    routes, objects = lab.kernel_routes("R"), kernel.read_nexthops(lab.netlink("R"))
    assert {route.nexthop_id for route in routes} == objects.keys()
    shown = {row["id"]: row for row in lab.routectl("R", "show", "nexthops")}
    assert shown.keys() == objects.keys()
    for nexthop_id, hops in objects.items():
        row = shown[nexthop_id]
        assert [(hop["via"], hop["dev"]) for hop in row["next_hops"]] == [
            (hop.via, hop.dev) for hop in hops
        ]
        assert row["active"] == row["next_hops"]
        assert row["state"] == "installed"
    (status,) = lab.routectl("R", "show", "status")
    assert status["fib"]["nexthop_objects"] == len(objects)
    assert status["fib"]["nexthops"] == "objects (net.ipv4.nexthop_compat_mode=0)"


def test_an_object_removed_by_hand_is_restored_with_its_routes(lab: Lab) -> None:
    before = lab.kernel_routes("R")
    kernel.delete_nexthop(lab.netlink("R"), before[0].nexthop_id)
    wait_until(lambda: counter(lab, "fib_repaired") > 0, DEADLINE_S, "routes were put back")
    wait_until(lambda: lab.kernel_routes("R") == before, DEADLINE_S, "all of them")


def test_a_restart_adopts_the_objects_of_the_earlier_daemon(lab: Lab) -> None:
    before = {route.prefix: route.nexthop_id for route in lab.kernel_routes("R")}
    lab.kill("R", "daemon", signal.SIGKILL)
    lab.start_daemons(["R"])
    lab.wait_converged(DEADLINE_S)
    assert {route.prefix: route.nexthop_id for route in lab.kernel_routes("R")} == before
    assert counter(lab, "fib_kernel_writes") == 0


def test_without_objects_routes_have_their_own_next_hops(build_lab: LabBuilder) -> None:
    off = {"fib": {"nexthop_objects": "off"}}
    lab = build_lab(topology.load("line3").with_config(off))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    assert {route.nexthop_id for route in lab.kernel_routes("R")} == {0}
    assert kernel.read_nexthops(lab.netlink("R")) == {}


def test_a_dead_neighbor_is_removed_from_its_groups_before_routes_are_selected(
    build_lab: LabBuilder,
) -> None:
    fast = {"interfaces": {"eth*": {"hello": "300ms", "multiplier": 4}}}
    lab = build_lab(topology.load("ring8").with_config(fast))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    first, second = list(lab.topology.nodes)[:2]

    def groups() -> list[kernel.KernelRoute]:
        return [route for route in lab.kernel_routes(first) if len(route.next_hops) == 2]

    assert groups(), "the far side of a ring is reached both ways"
    lab.kill(second, "daemon", signal.SIGKILL)
    wait_until(lambda: not groups(), DEADLINE_S, "nothing goes through the dead neighbor")
    events = [row["event"] for row in lab.routectl(first, "show", "log")]
    assert "nexthop-suspected" in events
