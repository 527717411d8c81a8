"""A router with two links to one wire: an adjacency on each, and none that flaps (B4)."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import NextHop
from routed.nup.events import AdjacencyReason, AdjacencyState, SendDatagram
from routed.nup.wire.message import HeaderFlag, MessageType, NeighborHeard, decode
from tests.fakes.fake_wire import FakeWire, Node, WireFaults
from tests.fakes.nup_pair import LOOPBACK, heartbeat, listening_instance

BEHIND_B = Prefix.parse("198.51.100.0/24")


def on_one_wire(*names: str, seed: int = 1, faults: WireFaults | None = None) -> FakeWire:
    """Build nodes with as many links to the wire as their name occurs; a and b originate a
    prefix."""
    wire = FakeWire(seed, faults)
    for name in dict.fromkeys(names):
        wire.add_node(name)
    wire.connect(*names, has_ipv4=False)
    wire.originate("a", str(LOOPBACK))
    wire.originate("b", str(BEHIND_B))
    return wire


def links_of(wire: FakeWire, name: str) -> list[Address]:
    return [settings.local_address for _, settings in wire.nodes[name].links.values()]


def losses(node: Node) -> list[AdjacencyReason]:
    return [change.reason for change in node.adjacency_log if change.old is AdjacencyState.UP]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("names", ["aab", "abb", "aabb", "aabc", "aaabb"])
def test_every_pair_of_links_has_an_adjacency_and_none_ever_flaps(names: str, seed: int) -> None:
    wire = on_one_wire(*names, seed=seed)
    wire.run_until(wire.all_up, limit_s=2)
    wire.run(60)
    assert wire.all_up()
    for node in wire.nodes.values():
        assert losses(node) == []
    up = sum(
        row.state is AdjacencyState.UP
        for node in wire.nodes.values()
        for row in node.instance.neighbors(wire.now)
    )
    pairs = sum(one != other for one in names for other in names)
    assert up == pairs


def test_both_links_are_used_and_either_is_enough() -> None:
    wire = on_one_wire("a", "a", "b")
    wire.run(2)
    b = wire.nodes["b"]
    first, second = links_of(wire, "a")
    assert b.routes[LOOPBACK].next_hops == (NextHop(first, 1), NextHop(second, 1))
    assert len(wire.nodes["a"].routes[BEHIND_B].next_hops) == 2
    wire.nodes["a"].instance.link_down(1, wire.now)
    wire.run(4)
    assert b.routes[LOOPBACK].next_hops == (NextHop(second, 1),)


def test_loss_costs_no_more_than_on_a_wire_of_single_links() -> None:
    wire = on_one_wire("a", "a", "b", "b", faults=WireFaults(loss=0.05, duplication=0.1))
    wire.run(30)
    assert wire.all_up()
    reasons = {reason for node in wire.nodes.values() for reason in losses(node)}
    assert reasons <= {AdjacencyReason.DEAD_INTERVAL, AdjacencyReason.ONE_WAY}
    assert LOOPBACK in wire.nodes["b"].routes


def test_a_restart_of_the_router_with_two_links_moves_no_traffic() -> None:
    wire = on_one_wire("a", "a", "b")
    wire.run(3)
    b = wire.nodes["b"]
    before = b.routes[LOOPBACK]
    seen: set[bool] = set()
    wire.on_step = lambda: seen.add(LOOPBACK in b.routes)
    wire.crash("a")
    wire.run(0.5)
    wire.revive("a")
    wire.run(10)
    assert wire.all_up()
    assert b.routes[LOOPBACK] == before
    assert seen == {True}


def test_a_router_that_moves_is_followed_at_once_and_leaves_no_second_neighbor() -> None:
    wire = on_one_wire("a", "b")
    wire.run(3)
    a, b = wire.nodes["a"], wire.nodes["b"]
    to = Address.parse("fe80::77")
    moved = dataclasses.replace(
        a.links[1][1], local_address=to, addresses=(InterfaceAddress(to, 64),)
    )
    wire.reconfigure(a, 1, moved)
    wire.run(0.1)
    assert [row.address for row in b.instance.neighbors(wire.now)] == [to]
    assert b.adjacency_log[-4].reason is AdjacencyReason.HEARD
    assert AdjacencyReason.ADDRESS_CHANGED in losses(b)
    assert wire.all_up()


def test_a_list_of_several_pages_names_all_links_of_a_router_on_one() -> None:
    """Otherwise the page without our session would look like a neighbor that began anew."""
    instance = listening_instance()
    for number in range(2, 62):
        for link in (1, 2):
            source = Address.parse(f"fe80::{number:x}:{link}")
            instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    instance.outputs()
    instance.handle_timer(0.2)
    pages = [
        decode(output.data) for output in instance.outputs() if isinstance(output, SendDatagram)
    ]
    assert len(pages) > 1
    assert all(HeaderFlag.PARTIAL_LIST in page.flags for page in pages)
    assert len({page.sequence for page in pages}) == len(pages)
    listed = [
        {tlv.router_id for tlv in page.tlvs if isinstance(tlv, NeighborHeard)} for page in pages
    ]
    assert sum(map(len, listed)) == len(set().union(*listed)) == 60


def test_each_link_reports_its_own_losses() -> None:
    wire = on_one_wire("a", "a", "b")
    wire.run(2)
    a, b = wire.nodes["a"], wire.nodes["b"]
    first, second = links_of(wire, "a")
    datagrams = 0

    def hear(_sender: Node, receiver: Node, data: bytes) -> bool:
        """b misses every fourth heartbeat of the first link: they leave in the order of links."""
        nonlocal datagrams
        if receiver is not b or decode(data).type is not MessageType.HEARTBEAT:
            return False
        datagrams += 1
        return datagrams % 8 == 1

    measuring = dataclasses.replace(a.links[1][1], is_loss_based=True)
    wire.reconfigure(a, 1, measuring)
    wire.reconfigure(a, 2, dataclasses.replace(a.links[2][1], is_loss_based=True))
    wire.run(2)
    wire.segments[0].drops = hear
    wire.run(40)
    wire.segments[0].drops = None
    losses_here = {row.address: row.loss_here for row in b.instance.neighbors(wire.now)}
    losses_there = {row.ifindex: row.loss_there for row in a.instance.neighbors(wire.now)}
    assert losses_here[first] != losses_here[second]
    assert losses_there == {1: losses_here[first], 2: losses_here[second]}
