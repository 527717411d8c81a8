"""Formation and end of adjacencies of an instance."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family
from routed.model.route import NextHop
from routed.nup.events import (
    AdjacencyReason,
    AdjacencyState,
    Datagram,
    SendDatagram,
    TraceCode,
)
from routed.nup.link.state import Neighbor
from routed.nup.wire.message import MessageType, decode
from tests.fakes.fake_wire import FakeWire, Node, link_settings, router_id
from tests.fakes.nup_pair import (
    IPV6,
    LOOPBACK,
    PEER,
    heartbeat,
    listening_instance,
    pair,
    states,
)


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
    assert 3 - 2.25 <= took_s <= 3
    assert b.adjacency_log[-1].reason is AdjacencyReason.DEAD_INTERVAL
    (lost,) = [change.lost_next_hops for change in b.adjacency_log if change.lost_next_hops]
    assert {hop.via for hop in lost} >= {b.adjacency_log[-1].address}


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


def test_a_heartbeat_costs_no_look_at_the_other_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = listening_instance()
    for number in range(2, 202):
        source = Address(Family.IPV6, PEER.addr_bits + number)
        instance.receive_datagram(heartbeat(number), source, 1, 255, 1.0)
    instance.handle_timer(1.5)
    looks = 0
    next_timer = Neighbor.next_timer

    def counted(neighbor: Neighbor) -> float | None:
        nonlocal looks
        looks += 1
        return next_timer(neighbor)

    monkeypatch.setattr(Neighbor, "next_timer", counted)
    instance.receive_datagram(
        heartbeat(7, sequence=2), Address(Family.IPV6, PEER.addr_bits + 7), 1, 255, 1.6
    )
    instance.next_timer()
    assert looks <= 2
    instance.handle_timer(1.0 + 3.01)  # all but one are dead by now, and none is forgotten
    assert [row.router_id for row in instance.neighbors(4.01)] == [router_id(7)]


def heartbeats_of(wire: FakeWire, node: Node, duration_s: float) -> int:
    """Return how many heartbeats a node sends in a time."""
    count = 0

    def listen(sender: Node, _receiver: Node, data: bytes) -> bool:
        nonlocal count
        count += sender is node and data[1] == MessageType.HEARTBEAT
        return False

    wire.segments[0].drops = listen
    wire.run(duration_s)
    return count


def test_at_rest_every_second_heartbeat_is_saved() -> None:
    wire, a, b = pair()
    wire.run(10)
    assert 100 / 2 <= heartbeats_of(wire, a, 100) <= 100 / 1.85 + 1
    assert b.instance.counters()[TraceCode.HEARTBEAT_REQUESTED.value] == 0
    measuring = dataclasses.replace(a.links[1][1], is_loss_based=True)
    wire.reconfigure(a, 1, measuring)
    assert heartbeats_of(wire, a, 100) >= 100


def test_the_heartbeats_of_all_links_leave_together_and_none_too_early() -> None:
    """Waking a process costs more than sending a heartbeat."""
    wire = FakeWire(1)
    hub = wire.add_node("hub")
    segments = [wire.connect("hub", wire.add_node(f"r{number}").name) for number in range(5)]
    for node in wire.nodes.values():
        node.start_life(wire.now)
    wire.run(20)
    sent_at: dict[str, list[float]] = {}

    def listen(sender: Node, receiver: Node, data: bytes) -> bool:
        if sender is hub and data[1] == MessageType.HEARTBEAT:
            sent_at.setdefault(receiver.name, []).append(wire.now)
        return False

    for segment in segments:
        segment.drops = listen
    wire.run(100)
    assert len(sent_at) == len(segments)
    assert len({tuple(moments) for moments in sent_at.values()}) == 1, "each time all of them"
    moments = next(iter(sent_at.values()))
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert all(1.85 <= gap <= 2 for gap in gaps)
    assert len(set(gaps)) > len(gaps) / 2, "never in step with anybody else's"


def test_a_lost_heartbeat_is_requested_and_no_adjacency_ends() -> None:
    wire, a, b = pair()
    wire.run(10)
    lost = 0

    def lose(sender: Node, _receiver: Node, data: bytes) -> bool:
        nonlocal lost
        message = decode(data)
        is_lost = sender is a and message.type is MessageType.HEARTBEAT and wire.rng.random() < 0.25
        lost += is_lost
        return is_lost

    wire.segments[0].drops = lose
    changes = len(a.adjacency_log), len(b.adjacency_log)
    wire.run(100)
    assert lost >= 10
    assert b.instance.counters()[TraceCode.HEARTBEAT_REQUESTED.value] >= lost
    assert (len(a.adjacency_log), len(b.adjacency_log)) == changes


def test_a_dead_neighbor_gets_four_requests_and_is_not_waited_for() -> None:
    wire, _, b = pair()
    wire.run(10)
    wire.crash("a")
    wire.run(3.01)
    assert b.adjacency_log[-1].reason is AdjacencyReason.DEAD_INTERVAL
    assert b.instance.counters()[TraceCode.HEARTBEAT_REQUESTED.value] == 4


@pytest.mark.parametrize("phase", range(20))
def test_a_daemon_that_is_back_within_one_interval_loses_no_route_whenever_it_died(
    phase: int,
) -> None:
    """At rest, with the default multiplier: multiplier - 2 intervals (docs/reliability.md, 1)."""
    wire, _, b = pair()
    wire.run(10 + phase / 10)
    is_there: set[bool] = set()
    wire.on_step = lambda: is_there.add(LOOPBACK in b.routes)
    wire.crash("a")
    wire.run(0.98)
    wire.revive("a")
    wire.run(8)
    assert wire.all_up()
    assert is_there == {True}
    assert AdjacencyReason.DEAD_INTERVAL not in {change.reason for change in b.adjacency_log}
