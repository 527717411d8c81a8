"""Link quality from heartbeats: loss, by gaps in their numbers, and the cost that follows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from routed.nup.link.adjacency import Adjacency
from routed.nup.link.quality import ETX_MAX, WINDOW, HeartbeatHistory, loss_factor
from routed.nup.wire.message import MessageType
from tests.fakes.fake_wire import FakeWire, Node, Segment, router_id
from tests.fakes.nup_pair import LOOPBACK, PEER


def history_of(*sequences: int) -> HeartbeatHistory:
    history = HeartbeatHistory()
    for sequence in sequences:
        history.record(sequence)
    return history


def test_gaps_in_the_numbers_are_losses() -> None:
    history = history_of(*(number for number in range(1, 33) if number % 4))
    assert (history.received, history.expected) == (24, 31)  # 32 is not known to have been sent
    history.record(33)
    assert (history.received, history.expected) == (24, WINDOW)
    assert history.share == 0.75


def test_a_late_heartbeat_was_not_lost_and_a_repeated_one_counts_once() -> None:
    history = history_of(*range(1, 10), 11)
    assert (history.received, history.expected) == (10, 11)
    history.record(10)
    history.record(10)
    assert (history.received, history.expected) == (11, 11)


def test_what_was_lost_long_ago_is_forgotten() -> None:
    history = history_of(1, 10, *range(11, 11 + WINDOW))
    assert (history.received, history.expected) == (WINDOW, WINDOW)


def test_a_jump_of_the_counter_begins_anew_and_numbers_wrap() -> None:
    assert history_of(1, 2, 1000).expected == 1
    wrapped = history_of(2**32 - 2, 2**32 - 1, 0, 2)
    assert (wrapped.received, wrapped.expected) == (4, 5)


def test_of_a_few_heartbeats_nothing_is_concluded() -> None:
    history = history_of(1, 3, 5)
    assert not history.is_conclusive
    assert history.share == 1.0


def test_the_factor_is_the_expected_transmissions_and_has_a_ceiling() -> None:
    assert loss_factor(1.0, 1.0, 1.0) == 1.0
    assert loss_factor(0.5, 1.0, 1.0) == 2.0
    assert loss_factor(0.5, 0.5, 1.0) == 4.0
    assert loss_factor(0.0, 1.0, 1.0) == ETX_MAX
    assert loss_factor(0.1, 0.1, 1.0) == ETX_MAX


def test_small_changes_are_not_followed_and_a_clean_window_always_is() -> None:
    assert loss_factor(31 / 32, 1.0, 1.0) == 1.0
    assert loss_factor(0.5, 0.95, 2.0) == 2.0
    assert loss_factor(0.8, 1.0, 2.0) == pytest.approx(1.25)
    assert loss_factor(1.0, 1.0, 1.05) == 1.0


def by_loss(wire: FakeWire, segment: Segment) -> None:
    for node, ifindex in segment.plugs:
        settings = dataclasses.replace(node.links[ifindex][1], is_loss_based=True)
        wire.reconfigure(node, ifindex, settings)


def every_other_heartbeat_of(*senders: Node) -> Callable[[Node, Node, bytes], bool]:
    """Return a rule that never drops two heartbeats of one node in a row, so that adjacencies stay
    up."""
    counts = dict.fromkeys(senders, 0)

    def drops(sender: Node, _receiver: Node, data: bytes) -> bool:
        if sender not in counts or data[1] != MessageType.HEARTBEAT:
            return False
        counts[sender] += 1
        return counts[sender] % 2 == 0

    return drops


def lossy_square() -> tuple[FakeWire, Node, Node, Segment]:
    """Build a and b on a wire with configurable loss, and another path at three times the cost."""
    wire = FakeWire(7)
    a, b = wire.add_node("a"), wire.add_node("b")
    direct, detour = wire.connect("a", "b"), wire.connect("a", "b", cost=30)
    for segment in (direct, detour):
        by_loss(wire, segment)
    wire.originate("a", str(LOOPBACK))
    wire.run(10)
    return wire, a, b, direct


def test_traffic_leaves_a_lossy_link_and_comes_back_when_it_is_good_again() -> None:
    wire, a, b, direct = lossy_square()
    assert b.learned[LOOPBACK].metric == 10
    changes = len(b.adjacency_log)
    direct.drops = every_other_heartbeat_of(a)
    wire.run(60)
    (lossy,) = (row for row in b.instance.neighbors(wire.now) if row.ifindex == 1)
    assert lossy.loss_here == pytest.approx(0.5, abs=0.1)
    assert lossy.cost == pytest.approx(20, abs=3)
    (told,) = (row for row in a.instance.neighbors(wire.now) if row.ifindex == 1)
    assert told.loss_there == pytest.approx(lossy.loss_here, abs=0.05)
    assert told.cost == pytest.approx(lossy.cost, abs=3)  # both ends use the product
    direct.drops = every_other_heartbeat_of(a, b)
    wire.run_until(lambda: b.learned[LOOPBACK].metric == 30, limit_s=120)
    direct.drops = None
    wire.run_until(lambda: b.learned[LOOPBACK].metric == 10, limit_s=120)
    assert len(b.adjacency_log) == changes  # all the time both links were up


def test_a_good_link_says_nothing_of_reception() -> None:
    wire, a, b, _ = lossy_square()
    for node in (a, b):
        for row in node.instance.neighbors(wire.now):
            assert (row.loss_here, row.loss_there, row.cost) == (
                0.0, 0.0, 10 if row.ifindex == 1 else 30,
            )  # fmt: skip


def test_where_the_metric_is_fixed_loss_is_shown_and_costs_nothing() -> None:
    wire = FakeWire(7)
    a, b = wire.add_node("a"), wire.add_node("b")
    segment = wire.connect("a", "b")
    segment.drops = every_other_heartbeat_of(a)
    wire.run(60)
    (row,) = b.instance.neighbors(wire.now)
    assert row.loss_here == pytest.approx(0.5, abs=0.1)
    assert row.cost == 10


def test_a_neighbors_new_boot_has_a_new_history() -> None:
    adjacency = Adjacency(router_id(2), PEER, boot_id=1, now=0.0)
    for sequence in range(1, 40, 2):
        adjacency.history.record(sequence)
    adjacency.begin_boot(2)
    assert adjacency.history.expected == 0
