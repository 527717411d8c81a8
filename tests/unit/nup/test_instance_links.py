"""Views of an instance; unicast neighbors; costs that follow the link."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address
from routed.model.route import NextHop
from routed.nup.events import (
    AdjacencyState,
    LearnedPath,
    SendDatagram,
    TraceCode,
)
from routed.nup.link.cost import RttCost
from routed.nup.wire.message import MessageType
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings, router_id
from tests.fakes.nup_pair import (
    IPV6,
    LOOPBACK,
    PEER,
    make_instance,
    pair,
)


def test_the_neighbor_row_says_what_show_needs() -> None:
    wire, _, b = pair()
    wire.run(2.5)
    (row,) = b.instance.neighbors(wire.now)
    assert (row.router_id, row.ifindex, row.ifname) == (router_id(1), 1, "eth1")
    assert row.state is AdjacencyState.UP
    assert 2 < row.uptime_s < 2.5
    assert 1.5 < row.dead_in_s <= 3
    assert row.rtt_ms == pytest.approx(0.4, abs=0.05)
    assert (row.cost, row.prefixes, row.retransmissions) == (10, 2, 0)
    assert row.received >= 3


def test_the_learned_rows_have_the_update_of_every_neighbor() -> None:
    wire, _, b = pair()
    wire.run(1)
    rows = b.instance.learned()
    assert [(row.prefix, row.metric, row.is_selected) for row in rows] == [
        (LOOPBACK, 0, True),
        (IPV6, 0, True),
    ]


def test_every_trace_code_has_a_counter() -> None:
    assert make_instance().counters().keys() == {code.value for code in TraceCode}


def test_a_run_is_a_pure_function_of_its_seed() -> None:
    def run() -> list[LearnedPath]:
        wire, _, b = pair(WireFaults(loss=0.2, jitter_s=0.05))
        wire.run(5)
        return [*b.learned.values()]

    assert run() == run()


def test_unicast_neighbors_get_their_own_datagrams_and_others_are_dropped() -> None:
    wire = FakeWire(1)
    nodes = [wire.add_node(name) for name in "abc"]
    segment = wire.connect("a", "b", "c")
    addresses = {node.name: node.links[1][1].local_address for node in nodes}
    told = {"a": ("b",), "b": ("a",), "c": ("a", "b")}
    for node in nodes:
        named = tuple(addresses[name] for name in told[node.name])
        unicast = dataclasses.replace(node.links[1][1], unicast_neighbors=named)
        node.links[1] = (segment, unicast)
        node.start_life(wire.now)
    wire.originate("a", str(LOOPBACK))
    wire.run(2)
    a, b, c = nodes
    rows = {row.router_id: row.problem for row in a.instance.neighbors(wire.now)}
    assert rows == {
        router_id(2): "",
        None: "not among the neighbors that are configured for the link",
    }
    assert LOOPBACK in b.learned
    assert c.learned == {}
    assert a.instance.counters()[TraceCode.DROPPED_SOURCE_OFF_LINK.value] > 0


def test_nothing_goes_to_the_group_where_neighbors_are_named() -> None:
    instance = make_instance()
    settings = dataclasses.replace(link_settings(1, 1), unicast_neighbors=(PEER,))
    instance.link_up(settings, 0.0)
    sent = [output for output in instance.outputs() if isinstance(output, SendDatagram)]
    assert {datagram.destination for datagram in sent} == {PEER}


def test_the_cost_grows_with_the_round_trip_between_two_bounds_and_not_with_every_breath() -> None:
    cost = RttCost(min_s=0.010, max_s=0.110, max_extra=80)
    assert [cost.surcharge(rtt_s, 0) for rtt_s in (None, 0.001, 0.010, 0.060, 0.110, 3.0)] == [
        0, 0, 0, 40, 80, 80,
    ]  # fmt: skip
    assert cost.surcharge(0.071, 40) == 40  # 49 would be right, and is too near
    assert cost.surcharge(0.074, 40) == 51
    assert cost.surcharge(None, 40) == 40


def test_a_far_neighbor_costs_more_and_no_adjacency_suffers() -> None:
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    far, near = wire.connect("a", "b"), wire.connect("a", "b", cost=30)
    for segment in (far, near):
        for node, ifindex in segment.plugs:
            by_distance = dataclasses.replace(
                node.links[ifindex][1], rtt_cost=RttCost(0.010, 0.110, 100)
            )
            wire.reconfigure(node, ifindex, by_distance)
    wire.originate("a", str(LOOPBACK))
    wire.run(5)
    assert b.learned[LOOPBACK].metric == 10
    wire.faults.delay_s = 0.035  # both links: 70 ms there and back
    wire.run(60)
    assert b.learned[LOOPBACK].metric > 60
    costs = {row.ifindex: row.cost for row in b.instance.neighbors(wire.now)}
    assert costs[2] - costs[1] == 20
    changes = len(b.adjacency_log)
    wire.run(60)
    assert len(b.adjacency_log) == changes
    assert {row.ifindex: row.cost for row in b.instance.neighbors(wire.now)} == costs
    assert a.instance.is_loaded(wire.now)


def test_an_mtu_that_differs_is_named_with_both_values() -> None:
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.reconfigure(a, 1, dataclasses.replace(a.links[1][1], mtu=1400))
    wire.run(3)
    (row,) = b.instance.neighbors(wire.now)
    assert row.state is AdjacencyState.UP
    assert row.problem == "MTU differs: theirs 1400, ours 1500"


def test_timers_that_differ_are_reported_on_both_sides_and_harmless() -> None:
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.run(1)
    assert [row.problem for row in b.instance.neighbors(wire.now)] == [""]
    faster = dataclasses.replace(a.links[1][1], hello_interval_s=0.2, multiplier=5)
    wire.reconfigure(a, 1, faster)
    wire.run(3)
    assert wire.all_up()
    problems = [node.instance.neighbors(wire.now)[0].problem for node in (a, b)]
    assert problems == [
        "hello differs: theirs 1000 ms x 3, ours 200 ms x 5",
        "hello differs: theirs 200 ms x 5, ours 1000 ms x 3",
    ]


def heartbeat_sizes(wire: FakeWire, node: Node, duration_s: float) -> list[int]:
    """Return the bytes of every heartbeat that a node sends in a time."""
    sizes: list[int] = []

    def listen(sender: Node, _receiver: Node, data: bytes) -> bool:
        if sender is node and data[1] == MessageType.HEARTBEAT:
            sizes.append(len(data))
        return False

    wire.segments[0].drops = listen
    wire.run(duration_s)
    return sizes


def test_addresses_are_sent_while_needed_and_seldom_afterwards() -> None:
    wire, a, b = pair()
    wire.run(10)
    sizes = heartbeat_sizes(wire, a, 32)
    assert len(sizes) // 16 <= sizes.count(max(sizes)) <= len(sizes) // 16 + 1
    assert max(sizes) - min(sizes) == 8 + 20  # an IPv4 address and a link-local one
    (address,) = (entry for entry in a.links[1][1].addresses if entry.prefix_len == 16)
    other = InterfaceAddress(Address.parse("10.0.77.77"), 16)
    addresses = tuple(other if entry is address else entry for entry in a.links[1][1].addresses)
    wire.reconfigure(a, 1, dataclasses.replace(a.links[1][1], addresses=addresses))
    wire.run(0.1)
    assert b.learned[LOOPBACK].next_hops == (NextHop(via=other.address, ifindex=1),)
