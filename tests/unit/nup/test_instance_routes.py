"""Routes that an instance learns, holds, loses, and keeps through a restart."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address
from routed.model.route import NextHop
from routed.nup.events import AdjacencyReason, AdjacencyState, RouteHeld, RouteLost, TraceCode
from routed.nup.link.settings import LinkSettings
from routed.nup.wire.message import (
    Message,
    MessageType,
    decode,
)
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings, router_id
from tests.fakes.nup_pair import (
    IPV6,
    LOOPBACK,
    PEER,
    make_instance,
    many_prefixes,
    pair,
)


def test_ipv4_goes_to_the_ipv4_address_and_ipv6_to_the_link_local_one() -> None:
    wire, _, b = pair()
    wire.run(1)
    assert b.learned[LOOPBACK].next_hops == (NextHop(Address.parse("10.0.0.1"), 1),)
    assert b.learned[IPV6].next_hops == (NextHop(Address.parse("fe80::1:1"), 1),)


def test_ipv4_goes_by_ipv6_where_the_link_has_no_ipv4() -> None:
    wire, _, b = pair(has_ipv4=False)
    wire.run(1)
    assert b.learned[LOOPBACK].next_hops == (NextHop(Address.parse("fe80::1:1"), 1),)


def test_ipv4_goes_by_ipv6_where_the_subnets_differ() -> None:
    wire, a, b = pair()
    wire.run(1)
    settings = b.links[1][1]
    other_subnet = InterfaceAddress(Address.parse("172.16.0.2"), 24)
    wire.reconfigure(
        b, 1, dataclasses.replace(settings, addresses=(other_subnet, settings.addresses[1]))
    )
    wire.run(0.1)
    assert b.learned[LOOPBACK].next_hops == (NextHop(Address.parse("fe80::1:1"), 1),)
    assert a.adjacency_log[-1].new is AdjacencyState.UP


def test_over_ipv4_alone_ipv6_prefixes_have_no_next_hop_and_are_not_learned() -> None:
    def ipv4_only(settings: LinkSettings) -> LinkSettings:
        entry = settings.addresses[0]
        return dataclasses.replace(settings, local_address=entry.address, addresses=(entry,))

    wire = FakeWire(1)
    nodes = [wire.add_node("a"), wire.add_node("b")]
    segment = wire.connect("a", "b")
    wire.cut(segment)
    for node in nodes:
        node.links[1] = (segment, ipv4_only(node.links[1][1]))
    wire.mend(segment)
    wire.originate("a", str(LOOPBACK), str(IPV6))
    wire.run(1)
    assert nodes[1].learned.keys() == {LOOPBACK}


def test_a_changed_route_is_reported_and_an_unchanged_one_is_not() -> None:
    wire, a, b = pair()
    wire.run(1)
    reported = b.learned[LOOPBACK]
    wire.originate("a", str(LOOPBACK))
    wire.run(1)
    assert b.learned[LOOPBACK] is reported
    a.instance.originate(LOOPBACK, 5, 9, True, wire.now)
    wire.run(2)
    changed = b.learned[LOOPBACK]
    assert (changed.metric, changed.tag, changed.is_external) == (15, 9, True)
    assert changed.origin == router_id(1)


def test_a_lost_route_is_held_until_all_that_had_it_have_acknowledged() -> None:
    wire = FakeWire(1)
    for name in "abc":
        wire.add_node(name)
    first, second = wire.connect("a", "b"), wire.connect("b", "c")
    wire.originate("a", str(LOOPBACK))
    wire.run(1)
    b, c = wire.nodes["b"], wire.nodes["c"]
    second.drops = lambda sender, _receiver, _data: sender is c  # acknowledgements are lost
    wire.cut(first)
    assert b.held == {LOOPBACK}
    wire.run(0.5)
    assert LOOPBACK not in c.learned
    assert b.held == {LOOPBACK}
    second.drops = None
    wire.run(1.5)
    assert b.held == set()


def test_a_route_that_was_never_advertised_is_lost_at_once() -> None:
    wire, _, b = pair()
    wire.run(1)
    b.instance.link_down(1, wire.now)
    outputs = b.instance.outputs()
    assert {output for output in outputs if isinstance(output, RouteLost)} == {
        RouteLost(LOOPBACK),
        RouteLost(IPV6),
    }
    assert not [output for output in outputs if isinstance(output, RouteHeld)]


def test_originating_a_held_prefix_ends_the_hold() -> None:
    wire = FakeWire(1)
    for name in "abc":
        wire.add_node(name)
    first = wire.connect("a", "b")
    wire.connect("b", "c")
    wire.originate("a", str(LOOPBACK))
    wire.run(1)
    wire.cut(first)
    b, c = wire.nodes["b"], wire.nodes["c"]
    assert b.held == {LOOPBACK}
    wire.originate("b", str(LOOPBACK))
    assert b.held == set()
    wire.run(1)
    assert c.learned[LOOPBACK].origin == router_id(2)


def test_changing_the_cost_or_the_timers_drops_no_adjacency() -> None:
    wire, _, b = pair()
    wire.run(1)
    before = len(b.adjacency_log)
    settings = b.links[1][1]
    wire.reconfigure(
        b, 1, dataclasses.replace(settings, cost=77, hello_interval_s=0.1, multiplier=5)
    )
    wire.run(5)
    assert len(b.adjacency_log) == before
    assert b.learned[LOOPBACK].metric == 77
    (row,) = wire.nodes["a"].instance.neighbors(wire.now)
    assert row.dead_in_s <= 0.5


def test_thousands_of_prefixes_arrive_over_a_lossy_wire_without_overrunning_it() -> None:
    wire, a, b = pair(WireFaults(loss=0.05, jitter_s=0.002))
    wire.originate("a", *many_prefixes(3_000))
    wire.run_until(lambda: len(b.learned) == 3_002 and wire.all_up(), limit_s=30)
    (row,) = a.instance.neighbors(wire.now)
    assert row.retransmissions > 0
    assert b.instance.counters()[TraceCode.TABLE_COUNT_MISMATCH.value] == 0


def test_a_slow_neighbor_does_not_hold_up_the_others() -> None:
    wire = FakeWire(1)
    for name in ("source", "quick", "slow"):
        wire.add_node(name)
    segment = wire.connect("source", "quick", "slow")
    wire.run(1)
    slow = wire.nodes["slow"]
    segment.drops = lambda _sender, receiver, data: (
        receiver is slow and decode(data).type is MessageType.DATA
    )
    wire.originate("source", *many_prefixes(2_000))
    assert wire.run_until(lambda: len(wire.nodes["quick"].learned) == 2_000, limit_s=2) < 0.5
    assert slow.learned == {}
    segment.drops = None
    wire.run_until(lambda: len(slow.learned) == 2_000, limit_s=20)
    rows = {row.router_id: row for row in wire.nodes["source"].instance.neighbors(wire.now)}
    assert rows[router_id(2)].retransmissions == 0


def test_updates_are_multicast_once_whatever_the_number_of_neighbors() -> None:
    wire = FakeWire(1)
    names = [f"r{number}" for number in range(1, 6)]
    for name in names:
        wire.add_node(name)
    wire.connect(*names)
    wire.run(1)
    sent: list[Message] = []

    def record(sender: Node, receiver: Node, data: bytes) -> bool:
        if sender.name == "r1" and receiver.name == "r2":
            sent.append(decode(data))
        return False

    wire.segments[0].drops = record
    wire.originate("r1", "192.0.2.0/24")
    wire.run(0.5)
    assert len([message for message in sent if message.type is MessageType.DATA]) == 1


def test_a_restarted_neighbors_routes_stay_until_its_new_table_is_whole() -> None:
    wire, a, b = pair()
    wire.run(3)
    a.origins.pop(IPV6)  # the new life will not bring this one in
    wire.crash("a")
    wire.run(1)
    wire.revive("a")
    wire.run_until(
        lambda: b.adjacency_log[-1].reason is AdjacencyReason.NEIGHBOR_RESTARTED, limit_s=1
    )
    assert b.learned.keys() == {LOOPBACK, IPV6}
    assert b.instance.neighbors(wire.now)[0].is_restarting
    assert not any(change.lost_next_hops for change in b.adjacency_log), "it forwards all the while"
    wire.run(4)
    assert wire.all_up()
    assert b.learned.keys() == {LOOPBACK}
    assert not b.instance.neighbors(wire.now)[0].is_restarting


def test_an_announced_restart_that_never_comes_is_given_up_after_its_grace() -> None:
    wire, _, b = pair()
    wire.run(1)
    wire.stop("a", is_restart=True)
    wire.run(29)
    assert b.learned.keys() == {LOOPBACK, IPV6}
    wire.run(2)
    assert b.learned == {}
    assert b.instance.neighbors(wire.now) == []


def test_a_restarting_neighbor_that_loses_the_link_is_forgotten_at_once() -> None:
    wire, _, b = pair()
    wire.run(1)
    wire.stop("a", is_restart=True)
    wire.run(1)
    wire.cut(wire.segments[0])
    assert b.learned == {}


def test_an_instance_is_loaded_when_it_has_listened_and_heard_all_tables() -> None:
    wire, _, b = pair()
    assert not b.instance.is_loaded(wire.now)
    wire.run(0.5)
    assert wire.all_up()
    assert b.instance.pending_adjacencies(wire.now) == 0
    assert not b.instance.is_loaded(wire.now)  # somebody else may still be there
    wire.run(1)
    assert b.instance.is_loaded(wire.now)
    assert make_instance().is_loaded(0.0)


@pytest.mark.parametrize("is_back", [True, False], ids=["back", "gone"])
def test_a_restarted_router_is_loaded_once_it_has_heard_whom_it_forwarded_to(is_back: bool) -> None:
    wire = FakeWire(1)
    for name in "abc":
        wire.add_node(name)
    wire.connect("a", "b")
    wire.connect("b", "c")
    wire.originate("a", str(LOOPBACK))
    wire.originate("c", str(IPV6))
    wire.run(3)
    b = wire.nodes["b"]
    wire.crash("b")
    wire.crash("c")
    wire.revive("b")
    wire.run(2.5)
    assert not b.instance.is_loaded(wire.now)
    if is_back:
        wire.revive("c")
        assert wire.run_until(lambda: b.instance.is_loaded(wire.now), limit_s=0.3) < 0.1
    wire.run(0.6)
    assert b.instance.is_loaded(wire.now)
    assert b.learned.keys() == ({LOOPBACK, IPV6} if is_back else {LOOPBACK})


def test_a_restarted_router_waits_for_a_link_that_is_not_up_and_not_for_ever() -> None:
    instance = make_instance()
    instance.expect_neighbors([(7, PEER)], 5.0)
    instance.link_up(link_settings(1, 1), 0.0)
    assert instance.awaits_links
    while (moment := instance.next_timer()) is not None and moment <= 5.0:
        instance.handle_timer(moment)
    assert not instance.awaits_links
