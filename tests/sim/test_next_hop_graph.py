"""The search for loops: it finds one exactly when one exists, wherever it closes."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.prefix import Prefix
from routed.model.route import NextHop
from routed.nup.events import LearnedPath
from tests.fakes.fake_wire import FakeWire, router_id
from tests.fakes.network_laws import LoopWatch, build_ring
from tests.fakes.next_hop_graph import NextHopGraph

NODES = "abcdefg"

steps = st.lists(
    st.dictionaries(st.sampled_from(NODES), st.sets(st.sampled_from(NODES), max_size=3)),
    max_size=40,
)


def has_loop(successors: Mapping[str, set[str]]) -> bool:
    """Answer the same question with the standard library, about the whole graph."""
    try:
        graphlib.TopologicalSorter(successors).prepare()
    except graphlib.CycleError:
        return True
    return False


@given(steps)
def test_it_finds_a_loop_exactly_when_there_is_one(steps: list[dict[str, set[str]]]) -> None:
    graph = NextHopGraph()
    now: dict[str, set[str]] = {}
    for step in steps:
        wanted = now | step
        if has_loop(wanted):
            assert graph.change(step) is not None
            graph = NextHopGraph()  # one with a loop is of no further use
            assert graph.change(now) is None
        else:
            assert graph.change(step) is None
            now = wanted


def point(wire: FakeWire, name: str, follower: str, prefix: Prefix) -> None:
    """Let a router forward a prefix to the next one, by hand."""
    node = wire.nodes[name]
    for ifindex, (segment, _) in node.links.items():
        for peer, its_ifindex in segment.plugs:
            if peer.name == follower:
                via = peer.links[its_ifindex][1].local_address
                hops = (NextHop(via, ifindex),)
                origin = router_id(peer.number)
                node.routes[prefix] = LearnedPath(1, 0, False, origin, hops)
    wire.changed[name, prefix] = None


@pytest.mark.parametrize("closes_at", range(5))
def test_a_forwarding_loop_stops_the_run_wherever_it_closes(closes_at: int) -> None:
    wire = FakeWire(1)
    build_ring(wire, 5)
    LoopWatch(wire)
    prefix = Prefix.parse("192.0.2.0/24")
    names = list(wire.nodes)
    around = [
        (names[start % 5], names[(start + 1) % 5]) for start in range(closes_at, 5 + closes_at)
    ]
    for name, follower in around[:-1]:
        point(wire, name, follower, prefix)
        wire.run(0.1)
    point(wire, *around[-1], prefix)
    with pytest.raises(AssertionError, match=r"192\.0\.2\.0/24 loops through"):
        wire.run(1)


def test_a_router_whose_own_prefix_is_withdrawn_is_checked_again() -> None:
    wire = FakeWire(1)
    build_ring(wire, 3)
    LoopWatch(wire)
    wire.originate("r1", "192.0.2.0/24")
    wire.run(1)
    point(wire, "r1", "r2", Prefix.parse("192.0.2.0/24"))  # not used: the prefix is its own
    wire.run(0.1)
    wire.nodes["r1"].instance.stop(is_restart=True, now=wire.now)  # it advertises nothing
    wire.withdraw("r1", "192.0.2.0/24")
    with pytest.raises(AssertionError, match="loops through r1"):
        wire.run(1)
