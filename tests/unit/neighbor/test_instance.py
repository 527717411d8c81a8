"""One instance, or a few on an imagined wire: what it does with every kind of input."""

from __future__ import annotations

import dataclasses
import random

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY, NextHop
from routed.neighbor.events import (
    AdjacencyReason,
    AdjacencyState,
    Datagram,
    LinkSettings,
    RouteHeld,
    RouteLearned,
    RouteLost,
    SendDatagram,
    TraceCode,
    UsageError,
)
from routed.neighbor.instance import MAX_NEIGHBORS_PER_LINK, NeighborInstance
from routed.neighbor.linkcost import RttCost
from routed.neighbor.wire import (
    Flag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings, router_id

LOOPBACK = Prefix.parse("10.255.0.1/32")
IPV6 = Prefix.parse("2001:db8:1::/48")
PEER = Address.parse("fe80::2:1")


def make_instance(number: int = 1) -> NeighborInstance:
    return NeighborInstance(router_id(number), 100 + number, 1000, random.Random(number))


def heartbeat(number: int, sequence: int = 1, heard: tuple[NeighborHeard, ...] = ()) -> bytes:
    tlvs: tuple[Tlv, ...] = (Hello(1000, 3, 1500, 0), *heard)
    sender = Sender(router_id(number), 7)
    return encode(Message(MessageType.HEARTBEAT, Flag(0), sequence, 1, sender, tlvs))


def listening_instance() -> NeighborInstance:
    instance = make_instance()
    instance.link_up(link_settings(1, 1), 0.0)
    instance.outputs()
    return instance


def pair(faults: WireFaults | None = None, **link: float | bool) -> tuple[FakeWire, Node, Node]:
    """a and b on one wire; a brings in a prefix of each family."""
    wire = FakeWire(1, faults)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b", **link)  # type: ignore[arg-type]
    wire.originate("a", str(LOOPBACK), str(IPV6))
    return wire, a, b


def many_prefixes(count: int) -> list[str]:
    """172.16.0.0/24 and those after it."""
    return [f"172.{16 + number // 256}.{number % 256}.0/24" for number in range(count)]


def states(node: Node) -> list[AdjacencyState]:
    return [change.new for change in node.adjacency_log]


# Forming and ending an adjacency


def test_a_cold_start_takes_milliseconds_and_every_state_once() -> None:
    wire, a, b = pair()
    assert wire.run_until(wire.all_up, limit_s=1) < 0.1
    expected = [
        AdjacencyState.INIT,
        AdjacencyState.TWO_WAY,
        AdjacencyState.LOADING,
        AdjacencyState.UP,
    ]
    assert states(a) == states(b) == expected
    assert b.learned.keys() == {LOOPBACK, IPV6}


@pytest.mark.parametrize("seed", range(5))
def test_crossing_first_heartbeats_do_not_cost_a_hello_interval(seed: int) -> None:
    wire = FakeWire(seed)
    wire.add_node("a")
    wire.add_node("b")
    segment = wire.connect("a", "b")
    wire.cut(segment)
    wire.mend(segment)  # both ends come up in the same instant
    assert wire.run_until(wire.all_up, limit_s=1) < 0.1


def test_a_one_way_link_never_passes_init() -> None:
    wire, a, b = pair()
    wire.segments[0].drops = lambda sender, _receiver, _data: sender is a
    wire.run(10)
    assert states(a) == [AdjacencyState.INIT]
    assert states(b) == []
    assert a.instance.pending_adjacencies(wire.now) == 0


def test_a_link_that_becomes_one_way_falls_back_on_both_sides_and_loses_the_routes() -> None:
    wire, a, b = pair()
    wire.run(1)
    wire.segments[0].drops = lambda sender, _receiver, _data: sender is a
    wire.run(5)
    assert b.adjacency_log[-1].reason is AdjacencyReason.DEAD_INTERVAL
    assert a.adjacency_log[-1].reason is AdjacencyReason.ONE_WAY
    assert a.adjacency_log[-1].new is AdjacencyState.INIT
    assert b.learned == {}


def test_a_silent_neighbor_is_down_after_its_dead_interval() -> None:
    wire, _, b = pair()
    wire.run(2)
    wire.cut(wire.segments[0], has_carrier_loss=False)
    took_s = wire.run_until(lambda: not b.learned, limit_s=4)
    assert 3 - 1.25 <= took_s <= 3
    assert b.adjacency_log[-1].reason is AdjacencyReason.DEAD_INTERVAL


def test_fast_timers_notice_within_their_dead_interval() -> None:
    wire, _, b = pair(hello_interval_s=0.1)
    wire.run(2)
    wire.cut(wire.segments[0], has_carrier_loss=False)
    assert wire.run_until(lambda: not b.learned, limit_s=1) <= 0.3


def test_a_process_that_was_kept_from_running_does_not_blame_its_neighbors() -> None:
    instance = listening_instance()
    others = {number: Address.parse(f"fe80::{number}:1") for number in (2, 3)}
    for number, source in others.items():
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    waiting = [
        Datagram(heartbeat(number, sequence=2), source, 1, 255) for number, source in others.items()
    ]
    late = 9.0  # three dead intervals later
    instance.receive_burst(waiting, late)
    assert [row.state for row in instance.neighbors(late)] == [AdjacencyState.INIT] * 2
    instance.receive_burst([], late + 4)
    assert instance.neighbors(late + 4) == []


def test_carrier_loss_takes_the_adjacency_down_at_once() -> None:
    wire, _, b = pair()
    wire.run(1)
    wire.cut(wire.segments[0])
    assert b.adjacency_log[-1].reason is AdjacencyReason.LINK_DOWN
    assert b.learned == {}


def test_goodbye_takes_the_adjacency_down_at_once() -> None:
    wire, _, b = pair()
    wire.run(1)
    wire.stop("a", is_restart=False)
    wire.run(0.01)
    assert b.adjacency_log[-1].reason is AdjacencyReason.GOODBYE
    assert b.learned == {}


def test_a_stopped_instance_ignores_everything() -> None:
    instance = listening_instance()
    instance.stop(False, 1.0)
    (goodbye,) = instance.outputs()
    assert isinstance(goodbye, SendDatagram)
    instance.receive_datagram(heartbeat(2), PEER, 1, 255, 2.0)
    instance.link_up(link_settings(1, 2), 2.0)
    instance.originate(LOOPBACK, 0, 0, False, 2.0)
    instance.handle_timer(3.0)
    assert instance.outputs() == []
    assert instance.next_timer() is None


def test_clearing_a_neighbor_starts_it_afresh_on_both_sides() -> None:
    wire, a, b = pair()
    wire.run(1)
    assert b.instance.clear_neighbor(router_id(1), wire.now)
    assert not b.instance.clear_neighbor(router_id(9), wire.now)
    wire.run(1)
    assert wire.all_up()
    assert AdjacencyReason.CLEARED in {change.reason for change in b.adjacency_log}
    assert {AdjacencyReason.ONE_WAY, AdjacencyReason.NEIGHBOR_RESET} & {
        change.reason for change in a.adjacency_log
    }
    assert b.learned.keys() == {LOOPBACK, IPV6}


def test_a_neighbor_that_acknowledges_nothing_is_given_up() -> None:
    wire, a, b = pair()
    wire.run(1)

    def is_ack(sender: Node, _receiver: Node, data: bytes) -> bool:
        message = decode(data)
        has_acks = any(type(tlv).__name__ == "Ack" for tlv in message.tlvs)
        return sender is b and has_acks

    wire.segments[0].drops = is_ack
    wire.originate("a", "192.0.2.0/24")
    wire.run_until(lambda: a.adjacency_log[-1].reason is AdjacencyReason.UNACKNOWLEDGED, limit_s=6)


def test_a_neighbor_that_moves_to_another_address_is_followed() -> None:
    wire, a, b = pair()
    wire.run(1)
    moved = dataclasses.replace(
        a.links[1][1],
        local_address=Address.parse("fe80::77"),
        addresses=(InterfaceAddress(Address.parse("fe80::77"), 64),),
    )
    wire.reconfigure(a, 1, moved)
    wire.run(3)
    assert wire.all_up()
    assert b.learned[LOOPBACK].next_hops == (NextHop(Address.parse("fe80::77"), 1),)


# What is refused


@pytest.mark.parametrize(
    ("source", "ifindex", "hop_limit", "code"),
    [
        (PEER, 9, 255, TraceCode.DROPPED_UNKNOWN_LINK),
        (PEER, 1, 254, TraceCode.DROPPED_HOP_LIMIT),
        (PEER, 1, None, TraceCode.DROPPED_HOP_LIMIT),
        (Address.parse("2001:db8::2"), 1, 255, TraceCode.DROPPED_SOURCE_OFF_LINK),
        (Address.parse("192.0.2.1"), 1, 255, TraceCode.DROPPED_SOURCE_OFF_LINK),
    ],
)
def test_a_datagram_from_elsewhere_is_dropped_and_counted(
    source: Address, ifindex: int, hop_limit: int | None, code: TraceCode
) -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), source, ifindex, hop_limit, 1.0)
    assert instance.counters()[code.value] == 1
    assert instance.neighbors(1.0) == []


def test_an_ipv4_neighbor_on_the_subnet_is_heard() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), Address.parse("10.0.0.2"), 1, 255, 1.0)
    assert [row.state for row in instance.neighbors(1.0)] == [AdjacencyState.INIT]


def test_our_own_message_looped_back_is_dropped() -> None:
    instance = make_instance()
    instance.link_up(link_settings(1, 1), 0.0)
    (first,) = [output for output in instance.outputs() if isinstance(output, SendDatagram)]
    instance.receive_datagram(first.data, PEER, 1, 255, 0.1)
    assert instance.counters()[TraceCode.DROPPED_OWN_MESSAGE.value] == 1


def test_our_router_id_from_another_router_is_named() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(1), PEER, 1, 255, 0.1)
    assert instance.counters()[TraceCode.DUPLICATE_ROUTER_ID.value] == 1
    (row,) = instance.neighbors(0.1)
    assert (row.router_id, row.address, row.state) == (None, PEER, AdjacencyState.DOWN)
    assert row.problem == "has our router id 10.255.0.1"
    assert instance.neighbors(31.0) == []


def test_two_neighbors_with_one_router_id_do_not_displace_each_other() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), PEER, 1, 255, 0.1)
    other = encode(
        Message(
            MessageType.HEARTBEAT,
            Flag(0),
            1,
            1,
            Sender(router_id(2), 8),
            (Hello(1000, 3, 1500, 0),),
        )
    )
    instance.receive_datagram(other, Address.parse("fe80::99"), 1, 255, 0.2)
    assert instance.counters()[TraceCode.DUPLICATE_NEIGHBOR_ID.value] == 1
    assert [row.address for row in instance.neighbors(0.2)] == [PEER]


def test_an_old_heartbeat_is_not_believed() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2, sequence=5), PEER, 1, 255, 0.1)
    instance.receive_datagram(heartbeat(2, sequence=4), PEER, 1, 255, 0.2)
    assert instance.counters()[TraceCode.DROPPED_OLD_SEQUENCE.value] == 1


def test_a_flood_of_forged_neighbors_is_bounded() -> None:
    instance = listening_instance()
    for number in range(2, MAX_NEIGHBORS_PER_LINK + 40):
        source = Address.parse(f"fe80::{number:x}:1")
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    assert len(instance.neighbors(0.1)) == MAX_NEIGHBORS_PER_LINK
    assert instance.counters()[TraceCode.DROPPED_TOO_MANY_NEIGHBORS.value] == 38
    instance.handle_timer(3.2)
    assert instance.neighbors(3.2) == []


def test_more_neighbors_than_fit_one_heartbeat_are_listed_in_several() -> None:
    instance = listening_instance()
    for number in range(2, 102):
        source = Address.parse(f"fe80::{number:x}:1")
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    instance.handle_timer(0.2)
    beats = [
        decode(output.data) for output in instance.outputs() if isinstance(output, SendDatagram)
    ]
    full = [beat for beat in beats if Flag.PARTIAL_LIST in beat.flags]
    heard = {tlv.router_id for beat in full for tlv in beat.tlvs if isinstance(tlv, NeighborHeard)}
    assert heard == {router_id(number) for number in range(2, 102)}


def test_a_differing_mtu_is_traced_once() -> None:
    wire = FakeWire(1)
    a, _ = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.reconfigure(a, 1, dataclasses.replace(a.links[1][1], mtu=9000))
    wire.run(5)
    assert [trace.code for trace in a.traces].count(TraceCode.MTU_MISMATCH) == 1


@pytest.mark.parametrize(("cost", "hello_interval_s"), [(0, 1.0), (1, 0.001), (1, 61.0)])
def test_settings_out_of_range_are_the_callers_error(cost: int, hello_interval_s: float) -> None:
    with pytest.raises(UsageError):
        link_settings(1, 1, cost=cost, hello_interval_s=hello_interval_s)


def test_misuse_is_the_callers_error() -> None:
    instance = make_instance()
    with pytest.raises(UsageError):
        instance.link_changed(link_settings(1, 1), 0.0)
    with pytest.raises(UsageError):
        instance.originate(LOOPBACK, METRIC_INFINITY, 0, False, 0.0)
    with pytest.raises(UsageError):
        NeighborInstance(Address.parse("::1"), 1, 1, random.Random(1))


# Routes


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


def test_a_lost_route_is_held_until_those_who_were_told_have_acknowledged() -> None:
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


def test_a_lost_route_that_nobody_was_told_of_is_lost_at_once() -> None:
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


# Restart


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


# Views


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


def test_the_learned_rows_name_every_neighbors_word() -> None:
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
    def run() -> list[RouteLearned]:
        wire, _, b = pair(WireFaults(loss=0.2, jitter_s=0.05))
        wire.run(5)
        return [*b.learned.values()]

    assert run() == run()


# Unicast neighbors


def test_unicast_neighbors_are_spoken_to_one_by_one_and_nobody_else_is_heard() -> None:
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
    assert [row.router_id for row in a.instance.neighbors(wire.now)] == [router_id(2)]
    assert LOOPBACK in b.learned
    assert c.learned == {}
    assert a.instance.counters()[TraceCode.DROPPED_SOURCE_OFF_LINK.value] > 0


def test_nothing_goes_to_the_group_where_neighbors_are_named() -> None:
    instance = make_instance()
    settings = dataclasses.replace(link_settings(1, 1), unicast_neighbors=(PEER,))
    instance.link_up(settings, 0.0)
    sent = [output for output in instance.outputs() if isinstance(output, SendDatagram)]
    assert {datagram.destination for datagram in sent} == {PEER}


# Costs by distance


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
