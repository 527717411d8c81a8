"""Places on a link: neighbors heard both ways keep theirs, newcomers replace newcomers."""

from __future__ import annotations

from routed.model.prefix import Address, Family
from routed.nup.events import AdjacencyReason, AdjacencyState, SendDatagram, TraceCode
from routed.nup.instance import MAX_NEIGHBORS_PER_LINK, NeighborInstance
from routed.nup.link.state import TIMERS_EACH, TIMERS_SLACK
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import link_settings, router_id
from tests.fakes.nup_pair import LOOPBACK, PEER, listening_instance, make_instance, pair
from tests.unit.nup.test_instance_transitions import Puppet

SLOWEST = Hello(60_000, 255, 1500, 0)
"""A hello with a dead interval of four hours and a quarter."""


def say(
    instance: NeighborInstance, number: int, sequence: int, now: float, *heard: Tlv
) -> list[NeighborHeard]:
    """Deliver a heartbeat of router `number`; the content changes in turn."""
    source = Address(Family.IPV6, (0xFE80 << 112) + (number << 16) + 1)
    sender = Sender(router_id(number), 7)
    tlvs = (SLOWEST, *heard)
    data = encode(Message(MessageType.HEARTBEAT, HeaderFlag(0), sequence, 1, sender, tlvs))
    instance.receive_datagram(data, source, 1, 255, now)
    instance.handle_timer(now + 0.02)
    return [
        tlv
        for output in instance.outputs()
        if isinstance(output, SendDatagram)
        for tlv in decode(output.data).tlvs
        if isinstance(tlv, NeighborHeard) and tlv.router_id == router_id(number)
    ]


def come_up(instance: NeighborInstance, number: int, now: float) -> None:
    """Have router `number` heard, and then heard both ways."""
    entry = say(instance, number, 1, now)[-1]
    us = router_id(1), instance.boot_id
    say(instance, number, 2, now + 0.1, NeighborHeard(*us, 5, entry.session, 0, 0))


def state_of(instance: NeighborInstance, number: int, now: float) -> AdjacencyState | None:
    rows = [row for row in instance.neighbors(now) if row.router_id == router_id(number)]
    return rows[0].state if rows else None


def test_a_burst_of_newcomers_closes_no_link_to_the_next_one() -> None:
    instance = listening_instance()
    for number in range(100, 100 + 2 * MAX_NEIGHBORS_PER_LINK):
        say(instance, number, 1, 1.0)
    assert len(instance.neighbors(1.1)) == MAX_NEIGHBORS_PER_LINK
    come_up(instance, 2, 2.0)
    assert state_of(instance, 2, 2.2) is AdjacencyState.LOADING
    counters = instance.counters()
    assert counters[TraceCode.NEWCOMER_DISPLACED.value] == MAX_NEIGHBORS_PER_LINK + 1
    assert counters[TraceCode.DROPPED_TOO_MANY_NEIGHBORS.value] == 0


def test_what_a_burst_leaves_behind_is_gone_in_a_minute_and_a_half() -> None:
    instance = listening_instance()
    for number in range(100, 200):
        say(instance, number, 1, 1.0)
    instance.handle_timer(92.0)
    assert instance.neighbors(92.0) == []


def test_newcomers_never_displace_a_neighbor_that_was_heard_both_ways() -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    for number in range(100, 100 + 3 * MAX_NEIGHBORS_PER_LINK):
        say(puppet.instance, number, 1, puppet.now)
    assert state_of(puppet.instance, 2, puppet.now) is AdjacencyState.UP
    assert puppet.knows_route
    puppet.hears_us(session=9)  # it begins anew, and is in INIT for a moment
    for number in range(1100, 1100 + 3 * MAX_NEIGHBORS_PER_LINK):
        say(puppet.instance, number, 1, puppet.now)
    assert state_of(puppet.instance, 2, puppet.now) is not None


def test_a_link_full_of_neighbors_heard_both_ways_accepts_no_other() -> None:
    instance = make_instance()
    instance.link_up(link_settings(1, 1, hello_interval_s=0.1), 0.0)
    for number in range(100, 100 + MAX_NEIGHBORS_PER_LINK):
        come_up(instance, number, number * 0.12)
    now = number * 0.12 + 0.2
    say(instance, 2, 1, now)
    assert state_of(instance, 2, now) is None
    assert instance.counters()[TraceCode.DROPPED_TOO_MANY_NEIGHBORS.value] == 1


def test_timers_of_displaced_newcomers_do_not_accumulate() -> None:
    instance = listening_instance()
    for number in range(100, 5000):
        say(instance, number, 1, 1.0)
    assert len(instance._links[1]._timers) <= TIMERS_EACH * MAX_NEIGHBORS_PER_LINK + TIMERS_SLACK


def test_a_router_with_slow_hellos_comes_up_nevertheless() -> None:
    """It is forgotten between two of its heartbeats, and each of them is a new occasion."""
    wire, a, b = pair(hello_interval_s=60.0)
    wire.segments[0].drops = lambda _sender, _receiver, _data: wire.now < 1150
    wire.run(300)
    assert wire.all_up()
    assert LOOPBACK in b.learned
    reasons = {change.reason for change in a.adjacency_log + b.adjacency_log}
    assert AdjacencyReason.UNACKNOWLEDGED not in reasons


def test_a_sender_that_never_hears_us_delays_the_start_by_half_a_minute() -> None:
    instance = listening_instance()
    for beat in range(1, 5):
        say(instance, 100, beat, beat * 20.0)
    assert instance.pending_adjacencies(21.0) == 1
    assert instance.pending_adjacencies(111.0) == 0
    assert PEER.is_link_local
