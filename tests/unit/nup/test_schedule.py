"""Links that are served, and when: not too many, and none is forgotten."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.nup import loading as loading_module
from routed.nup.auth.guard import LinkGuard
from routed.nup.events import AdjacencyState
from routed.nup.instance import NeighborInstance
from routed.nup.link.adjacency import Adjacency
from routed.nup.link.schedule import Schedule
from routed.nup.link.state import Exchange, Link, LinkMemory, Neighbor
from routed.nup.routes.table import NeighborKey
from routed.nup.transport.reliable import INITIAL_WINDOW, OutgoingData
from routed.nup.wire.message import Ack, Stream
from tests.fakes.fake_wire import FakeWire, WireFaults, link_settings, router_id
from tests.fakes.network_laws import build_random
from tests.fakes.nup_pair import PEER, heartbeat, listening_instance


def link_local(number: int) -> Address:
    return Address(Family.IPV6, (0xFE80 << 112) + number)


@dataclass
class Alarm:
    """A link that consists of its timer only."""

    moment: float

    def next_timer(self) -> float:
        return self.moment


def schedule_of(**moments: float) -> tuple[Schedule, dict[int, Alarm]]:
    links = {int(name[1:]): Alarm(moment) for name, moment in moments.items()}
    schedule = Schedule(links)
    for ifindex in links:
        schedule.add(ifindex)
    for ifindex in schedule.pop_due(0):
        schedule.arm(ifindex)
    return schedule, links


def test_links_are_taken_when_touched_or_due_in_the_order_in_which_they_came_up() -> None:
    schedule, _ = schedule_of(_9=2.0, _5=7.0, _1=3.0)
    assert schedule.pop_due(1.0) == []
    schedule.touch(1)
    schedule.touch(9)
    assert schedule.pop_due(1.0) == [9, 1]
    schedule.touch(1)
    assert schedule.pop_due(2.0) == [9, 1]
    assert schedule.due(3.0) == [9, 1]


def test_the_next_moment_follows_a_touched_link_and_forgets_one_that_is_gone() -> None:
    schedule, links = schedule_of(_1=5.0, _2=6.0)
    links[2].moment = 1.0
    schedule.touch(2)
    assert schedule.next_timer() == 1.0
    schedule.drop(2)
    assert schedule.next_timer() == 5.0
    schedule.drop(1)
    assert schedule.next_timer() is None
    assert schedule.pop_due(9.0) == []


def test_what_concerns_all_touches_all() -> None:
    schedule, _ = schedule_of(_1=5.0, _2=6.0)
    schedule.touch_all()
    assert schedule.pop_due(0.0) == [1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_a_link_goes_by_unnoticed(seed: int) -> None:
    faults = WireFaults(loss=0.1, duplication=0.05, delay_s=0.0005, jitter_s=0.02)
    wire = FakeWire(seed, faults)
    build_random(wire, 7, seed)
    for node in wire.nodes.values():
        wire.originate(node.name, f"10.255.0.{node.number}/32")
    looked_at = 0

    def look() -> None:
        nonlocal looked_at
        for node in wire.nodes.values():
            links, schedule = node.instance._links, node.instance._schedule
            for ifindex, moment in schedule._moments.items():
                if ifindex not in schedule._touched:
                    assert moment == links[ifindex].next_timer(), (node.name, ifindex)
                    looked_at += 1

    wire.on_step = look
    wire.run(2)
    wire.cut(wire.segments[0])
    wire.change_cost(wire.segments[1], 50)
    wire.cut(wire.segments[2], has_carrier_loss=False)
    wire.crash("r5")
    wire.run(4)
    wire.mend(wire.segments[0])
    wire.withdraw("r2", "10.255.0.2/32")
    wire.revive("r5")
    wire.nodes["r1"].instance.clear_neighbor(router_id(2), wire.now)
    wire.run(4)
    assert looked_at > 10_000


def test_a_datagram_concerns_one_link_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = NeighborInstance(router_id(1), 1, 1, random.Random(1))
    for ifindex in range(1, 101):
        hub.link_up(link_settings(1, ifindex), 0.0)
    hub.handle_timer(0.5)
    hub.next_timer()
    asked: list[int] = []
    next_timer = Link.next_timer

    def counted(link: Link) -> float:
        asked.append(link.settings.ifindex)
        return next_timer(link)

    monkeypatch.setattr(Link, "next_timer", counted)
    hub.receive_datagram(heartbeat(2), PEER, 7, 255, 0.6)
    assert hub.next_timer() is not None
    assert set(asked) == {7}


def test_unconfirmed_neighbors_do_not_make_every_datagram_dearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = listening_instance()
    for number in range(2, 200):
        instance.receive_datagram(heartbeat(number), link_local(number), 1, 255, 0.1)
    instance.handle_timer(1.5)  # nobody else is waited for
    asked = 0
    is_pending = loading_module._is_pending

    def counted(adjacency: Adjacency, now: float) -> bool:
        nonlocal asked
        asked += 1
        return is_pending(adjacency, now)

    monkeypatch.setattr(loading_module, "_is_pending", counted)
    for sequence in range(2, 12):
        instance.receive_datagram(heartbeat(2, sequence), link_local(2), 1, 255, 1.6)
    assert not instance.is_loaded(1.6)
    assert asked <= 11


def test_a_link_whose_last_window_has_opened_goes_on_at_once() -> None:
    schedule = Schedule({})
    guard = LinkGuard(random.Random(1), lambda: 0.0)
    link = Link(link_settings(1, 1), guard, LinkMemory(), schedule, 0.0, is_converging=False)
    adjacency = Adjacency(router_id(2), PEER, 7, 0.0)
    adjacency.state = AdjacencyState.UP
    neighbor = Neighbor(NeighborKey(1, router_id(2)), adjacency, Exchange.fresh(random.Random(1)))
    link.add_neighbor(neighbor)
    sender = neighbor.exchange.sender
    for sequence in range(1, INITIAL_WINDOW + 2):
        sender.owe(OutgoingData(Stream.MULTICAST, sequence, b"", sequence), 0.1)
    link.advertiser.mark(Prefix.parse("192.0.2.0/24"), 0.1)
    link.listening_until = None
    link.heartbeat_due = 9.0
    assert not link.has_room(0.1)
    assert link.next_timer() > 0.1  # an acknowledgement will say
    sender.acknowledge(Ack(router_id(1), 0, Stream.MULTICAST, INITIAL_WINDOW), 0.11)
    assert list(sender.transmissions(0.11)) == []  # the backlog is in the air already
    assert link.next_timer() == 0.1
