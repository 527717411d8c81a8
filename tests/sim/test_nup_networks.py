"""Whole networks in virtual time converge to shortest paths, and never form a loop on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from routed.model.prefix import Prefix
from tests.fakes.fake_wire import FakeWire, WireFaults
from tests.fakes.network_laws import (
    LoopWatch,
    assert_converged,
    build_grid,
    build_lan,
    build_line,
    build_random,
    build_ring,
    originate_loopbacks,
)

Builder = Callable[[FakeWire], None]

TOPOLOGIES: dict[str, Builder] = {
    "line5": lambda wire: build_line(wire, 5),
    "ring8": lambda wire: build_ring(wire, 8),
    "grid16": lambda wire: build_grid(wire, 4),
    "lan5": lambda wire: build_lan(wire, 5),
    "random12": lambda wire: build_random(wire, 12, seed=7),
}
LOSSY = WireFaults(loss=0.1, duplication=0.05, delay_s=0.0005, jitter_s=0.02)

every_topology = pytest.mark.parametrize("build", TOPOLOGIES.values(), ids=TOPOLOGIES.keys())


def started(build: Builder, seed: int, faults: WireFaults | None = None) -> FakeWire:
    """A network whose routers have just been switched on, watched for loops."""
    wire = FakeWire(seed, faults)
    build(wire)
    LoopWatch(wire)
    originate_loopbacks(wire)
    return wire


@every_topology
def test_a_network_on_good_wires_converges_within_half_a_second(build: Builder) -> None:
    wire = started(build, seed=1)
    wire.run(0.5)
    assert wire.all_up()
    assert_converged(wire)


@every_topology
@pytest.mark.parametrize("seed", [1, 2])
def test_a_network_on_bad_wires_converges(build: Builder, seed: int) -> None:
    wire = started(build, seed, LOSSY)
    wire.run(20)
    wire.faults = WireFaults()
    wire.run(12)
    assert wire.all_up()
    assert_converged(wire)


@every_topology
@pytest.mark.parametrize("has_carrier_loss", [True, False], ids=["carrier", "silent"])
def test_a_cut_link_is_avoided_and_a_restored_one_is_used_again(
    build: Builder, has_carrier_loss: bool
) -> None:
    wire = started(build, seed=3)
    wire.run(2)
    segment = wire.segments[len(wire.segments) // 2]
    wire.cut(segment, has_carrier_loss=has_carrier_loss)
    wire.run(2 if has_carrier_loss else 6)
    assert_converged(wire)
    wire.mend(segment)
    wire.run(3)
    assert wire.all_up()
    assert_converged(wire)


@every_topology
def test_a_withdrawn_prefix_disappears_everywhere(build: Builder) -> None:
    wire = started(build, seed=4)
    wire.run(2)
    wire.withdraw("r1", "10.255.0.1/32")
    wire.run(1)
    prefix = Prefix.parse("10.255.0.1/32")
    assert all(prefix not in node.learned for node in wire.nodes.values())
    assert_converged(wire)


@every_topology
@pytest.mark.parametrize("cost", [1, 200])
def test_a_changed_cost_moves_traffic_to_the_shortest_paths(build: Builder, cost: int) -> None:
    wire = started(build, seed=5)
    wire.run(2)
    changes_before = {name: len(node.adjacency_log) for name, node in wire.nodes.items()}
    wire.change_cost(wire.segments[0], cost)
    wire.run(3)
    assert_converged(wire)
    changes_after = {name: len(node.adjacency_log) for name, node in wire.nodes.items()}
    assert changes_after == changes_before


@every_topology
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "crash"])
def test_routes_through_a_restarting_router_are_never_removed(
    build: Builder, is_announced: bool
) -> None:
    wire = started(build, seed=6)
    wire.run(3)
    before = {name: dict(node.routes) for name, node in wire.nodes.items()}
    if is_announced:
        wire.stop("r1", is_restart=True)
    else:
        wire.crash("r1")
    wire.run(1)
    wire.revive("r1")
    end = wire.now + 8
    while wire.now < end:
        wire.run(0.005)
        for name, node in wire.nodes.items():
            # An ECMP set may shrink while the new boot's seqno has arrived on one side only.
            assert node.routes.keys() == before[name].keys()
            for prefix, route in node.routes.items():
                assert route.metric == before[name][prefix].metric
                assert set(route.next_hops) <= set(before[name][prefix].next_hops)
    assert {name: node.routes for name, node in wire.nodes.items()} == before
    assert wire.all_up()
    assert_converged(wire)


@every_topology
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "crash"])
def test_routes_stay_while_two_neighboring_routers_are_silent_at_once(
    build: Builder, is_announced: bool
) -> None:
    wire = started(build, seed=8)
    for node in wire.nodes.values():
        for ifindex, (_, settings) in node.links.items():
            wire.reconfigure(node, ifindex, dataclasses.replace(settings, multiplier=6))
    wire.run(3)
    before = {name: set(node.routes) for name, node in wire.nodes.items()}
    for name in ("r1", "r2"):
        if is_announced:
            wire.stop(name, is_restart=True)
        else:
            wire.crash(name)
    wire.run(0.1)
    wire.revive("r1")  # it has advertised all that it learned long before it can receive from r2
    r2_back, end = wire.now + 3, wire.now + 12  # no router considers r2 dead before that
    is_whole = False
    while wire.now < end:
        wire.run(0.005)
        if not is_whole and wire.now > r2_back:
            wire.revive("r2")
            is_whole = True
        assert {name: set(node.routes) for name, node in wire.nodes.items()} == before
    assert wire.all_up()
    assert_converged(wire)


def silences(wire: FakeWire, names: Sequence[str]) -> list[tuple[float, str, str]]:
    """The times at which each router stops and returns: each within 1.2 s, the first one twice, for
    up to 2 s.
    """
    events = []
    for name in names:
        moment = wire.now + wire.rng.uniform(0, 1.2)
        for _ in range(2 if name == names[0] else 1):
            events.append((moment, wire.rng.choice(["stop", "crash"]), name))
            moment += wire.rng.uniform(0.05, 2)
            events.append((moment, "revive", name))
            moment += wire.rng.uniform(0.02, 0.8)
    return sorted(events)


def metrics_of(wire: FakeWire) -> dict[str, dict[Prefix, int]]:
    """The metric of each route that a router forwards with."""
    return {
        name: {prefix: route.metric for prefix, route in node.routes.items()}
        for name, node in wire.nodes.items()
    }


@pytest.mark.parametrize("seed", range(20, 30))
def test_no_route_moves_while_three_routers_in_a_row_stop_and_return(seed: int) -> None:
    wire = FakeWire(seed, WireFaults(jitter_s=0.002), kernel_lag_s=0.005)
    build_ring(wire, 8)
    for node in wire.nodes.values():
        for ifindex, (_, settings) in list(node.links.items()):
            patient = dataclasses.replace(settings, hello_interval_s=0.3, multiplier=20)
            wire.reconfigure(node, ifindex, patient)
    LoopWatch(wire)
    originate_loopbacks(wire)
    wire.run(5)
    before = metrics_of(wire)
    for moment, what, name in [*silences(wire, ["r8", "r1", "r2"]), (wire.now + 12, "end", "")]:
        while wire.now < moment:
            wire.run_until_time(min(wire.now + 0.005, moment))
            assert metrics_of(wire) == before
        if what == "crash":
            wire.crash(name)
        elif what == "stop":
            wire.stop(name, is_restart=True)
        elif what == "revive":
            wire.revive(name)
    assert_converged(wire)


def test_routers_that_all_restart_wait_for_each_other_no_longer_than_their_dead_interval() -> None:
    wire = started(lambda wire: build_ring(wire, 4), seed=12)
    wire.run(3)
    before = metrics_of(wire)
    for name in wire.nodes:
        wire.crash(name)
    wire.run(0.5)
    for name in wire.nodes:
        wire.revive(name)
    wire.run(2.9)
    assert not any(node.instance.is_loaded(wire.now) for node in wire.nodes.values())
    assert metrics_of(wire) == before
    wire.run(0.3)
    assert all(node.instance.is_loaded(wire.now) for node in wire.nodes.values())
    wire.run(10)
    assert metrics_of(wire) == before
    assert_converged(wire)


@pytest.mark.parametrize("seed", range(6))
def test_flapping_links_and_changing_costs_on_lossy_wires_never_form_a_loop(seed: int) -> None:
    wire = started(lambda wire: build_random(wire, 9, seed), seed, LOSSY)
    wire.run(3)
    for _ in range(12):
        segment = wire.rng.choice(wire.segments)
        if segment.is_cut:
            wire.mend(segment)
        elif wire.rng.random() < 0.5:
            wire.cut(segment, has_carrier_loss=wire.rng.random() < 0.5)
        else:
            wire.change_cost(segment, wire.rng.randint(1, 40))
        wire.run(wire.rng.uniform(0.01, 1.5))
    for segment in wire.segments:
        if segment.is_cut:
            wire.mend(segment)
    wire.faults = WireFaults()
    wire.run(25)
    assert wire.all_up()
    assert_converged(wire)


KERNEL_LAG_S = 0.02
"""Far more than a kernel needs for a few routes: updates cross the whole network meanwhile."""


def change_topology(wire: FakeWire) -> None:
    """Cut and restore every third link, with and without loss of carrier, and change costs."""
    LoopWatch(wire)
    originate_loopbacks(wire)
    wire.run(3)
    for number, segment in enumerate(wire.segments[::3]):
        has_carrier_loss = number % 2 == 0
        wire.cut(segment, has_carrier_loss=has_carrier_loss)
        wire.run(1 if has_carrier_loss else 5)
        wire.mend(segment)
        wire.run(2)
        wire.change_cost(wire.segments[-1 - number], 1 + 9 * number)
        wire.run(1)


@every_topology
@pytest.mark.parametrize("faults", [None, LOSSY], ids=["good", "lossy"])
def test_kernels_that_lag_never_form_a_loop(build: Builder, faults: WireFaults | None) -> None:
    wire = FakeWire(9, faults, kernel_lag_s=KERNEL_LAG_S)
    build(wire)
    change_topology(wire)
    wire.faults = WireFaults()
    wire.run(12)
    assert_converged(wire)
    for node in wire.nodes.values():
        assert node.routes == node.learned
        assert node.instance.counters()["forwarding_late"] == 0


@pytest.mark.parametrize("name", ["ring8", "grid16", "random12"])
def test_without_the_forwarding_wait_kernels_that_lag_form_a_loop(name: str) -> None:
    wire = FakeWire(9, kernel_lag_s=KERNEL_LAG_S, awaits_forwarding=False)
    TOPOLOGIES[name](wire)
    with pytest.raises(AssertionError, match="loops through"):
        change_topology(wire)


def test_restarts_of_routers_whose_kernels_lag_move_no_traffic() -> None:
    wire = FakeWire(10, kernel_lag_s=KERNEL_LAG_S)
    build_ring(wire, 8)
    LoopWatch(wire)
    originate_loopbacks(wire)
    wire.run(3)
    before = {name: dict(node.routes) for name, node in wire.nodes.items()}
    for name in ("r1", "r4"):
        wire.crash(name)
        wire.run(1)
        wire.revive(name)
        end = wire.now + 8
        while wire.now < end:
            wire.run(0.005)
            for router, node in wire.nodes.items():
                assert node.routes.keys() == before[router].keys()
    assert {name: node.routes for name, node in wire.nodes.items()} == before
