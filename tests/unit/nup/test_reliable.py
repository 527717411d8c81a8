"""The reliable transport: window, timeout, acknowledgement, giving up."""

from __future__ import annotations

import random

import pytest

from routed.model.prefix import Address
from routed.nup.transport.reliable import (
    ACK_DELAY_MAX_S,
    ACK_EVERY,
    GIVE_UP_FLOOR_S,
    INITIAL_WINDOW,
    MAX_OWED,
    MESSAGE_LIFETIME_S,
    RECEIVE_WINDOW,
    RTO_INITIAL_S,
    RTO_MAX_S,
    RTO_MIN_S,
    OutgoingData,
    ReceiveStream,
    ReceiveVerdict,
    ReliableReceiver,
    ReliableSender,
    RttEstimator,
)
from routed.nup.wire.message import Ack, AckRange, Stream

ROUTER_ID = Address.parse("10.255.0.1")
NEW, DUPLICATE = ReceiveVerdict.NEW, ReceiveVerdict.DUPLICATE


def message(sequence: int, stream: Stream = Stream.MULTICAST) -> OutgoingData:
    return OutgoingData(stream, sequence, b"", version=sequence)


def ack(cumulative: int, *ranges: tuple[int, int]) -> Ack:
    runs = tuple(AckRange(*run) for run in ranges)
    return Ack(ROUTER_ID, 1, Stream.MULTICAST, cumulative, runs)


def sender_owing(count: int, now: float = 0.0) -> tuple[ReliableSender, list[OutgoingData]]:
    sender = ReliableSender()
    messages = [message(sequence) for sequence in range(1, count + 1)]
    for each in messages:
        sender.owe(each, now)
    return sender, messages


def resent(sender: ReliableSender, now: float) -> list[int]:
    return [transmission.message.sequence for transmission in sender.transmissions(now)]


def test_rto_follows_rfc_6298() -> None:
    estimator = RttEstimator()
    assert estimator.rto_s == RTO_INITIAL_S
    estimator.sample(0.4)
    assert (estimator.srtt_s, estimator.rttvar_s) == (0.4, 0.2)
    assert estimator.rto_s == pytest.approx(1.2)
    estimator.sample(0.8)
    assert estimator.rttvar_s == pytest.approx(0.75 * 0.2 + 0.25 * 0.4)
    assert estimator.srtt_s == pytest.approx(0.45)


def test_rto_stays_between_its_floor_and_its_cap() -> None:
    estimator = RttEstimator()
    estimator.sample(0.0001)
    assert estimator.rto_s == RTO_MIN_S
    for _ in range(20):
        estimator.back_off()
    assert estimator.rto_s == RTO_MAX_S


def test_an_unacknowledged_message_is_sent_again_after_the_timeout_which_then_doubles() -> None:
    sender, _ = sender_owing(1)
    assert sender.next_timer() == RTO_INITIAL_S
    sender.expire(RTO_INITIAL_S / 2)
    assert resent(sender, RTO_INITIAL_S / 2) == []
    sender.expire(RTO_INITIAL_S)
    assert resent(sender, RTO_INITIAL_S) == [1]
    assert sender.next_timer() == RTO_INITIAL_S + 2 * RTO_INITIAL_S
    assert sender.retransmissions == 1


def test_an_acknowledgement_of_a_repeated_message_is_no_rtt_sample() -> None:
    sender, _ = sender_owing(1)
    sender.expire(RTO_INITIAL_S)
    assert resent(sender, RTO_INITIAL_S) == [1]
    sender.acknowledge(ack(1), RTO_INITIAL_S + 0.001)
    assert sender.estimator.srtt_s is None


def test_a_message_is_delivered_when_the_last_neighbor_has_acknowledged() -> None:
    first, second = ReliableSender(), ReliableSender()
    shared = message(1)
    first.owe(shared, 0.0)
    second.owe(shared, 0.0)
    assert first.acknowledge(ack(1), 0.01) == []
    assert second.acknowledge(ack(1), 0.01) == [shared]


def test_a_leaving_neighbor_no_longer_holds_up_delivery() -> None:
    first, second = ReliableSender(), ReliableSender()
    shared = message(1)
    first.owe(shared, 0.0)
    second.owe(shared, 0.0)
    assert first.abandon() == []
    assert second.abandon() == [shared]
    assert second.next_timer() is None


def test_only_what_was_missed_is_sent_again_before_any_timeout() -> None:
    sender, messages = sender_owing(6)
    assert sender.acknowledge(ack(1), 0.01) == messages[:1]
    delivered = sender.acknowledge(ack(1, (1, 4)), 0.03)
    assert delivered == messages[2:]
    assert resent(sender, 0.03) == [2]


def test_reordering_by_two_is_not_taken_for_loss() -> None:
    sender, _ = sender_owing(3)
    sender.acknowledge(ack(0, (1, 2)), 0.3)
    assert resent(sender, 0.3) == []


def test_a_gap_halves_the_window_once_per_round_trip() -> None:
    sender, _ = sender_owing(INITIAL_WINDOW)
    sender.acknowledge(ack(0, (3, 1)), 0.05)  # 4 has arrived, 1 has not, and is three behind
    grown = INITIAL_WINDOW + 1
    assert sender.window == grown / 2
    sender.acknowledge(ack(0, (3, 2)), 0.05)  # 2 is lost, too: the same round trip
    assert sender.window >= grown / 2


def test_after_a_timeout_two_messages_ask_whether_anybody_is_there() -> None:
    sender, _ = sender_owing(INITIAL_WINDOW)
    sender.expire(RTO_INITIAL_S)
    assert resent(sender, RTO_INITIAL_S) == [1, 2]
    sender.acknowledge(ack(INITIAL_WINDOW), RTO_INITIAL_S + 0.01)  # it had only been busy
    assert resent(sender, RTO_INITIAL_S + 0.01) == []
    assert sender.retransmissions == 2
    assert sender.window >= INITIAL_WINDOW / 2


def test_the_window_doubles_each_round_trip_in_slow_start_then_grows_slowly() -> None:
    sender, _ = sender_owing(INITIAL_WINDOW)
    sender.acknowledge(ack(INITIAL_WINDOW), 0.01)
    assert sender.window == 2 * INITIAL_WINDOW
    sender.owe(message(INITIAL_WINDOW + 1), 0.02)
    sender.expire(1.0)  # a loss: the threshold is now half the window
    assert resent(sender, 1.0) == [INITIAL_WINDOW + 1]
    sender.acknowledge(ack(INITIAL_WINDOW + 1), 1.01)
    assert sender.window == 3  # from the least, 2, in slow start again
    first = INITIAL_WINDOW + 2
    for sequence in range(first, first + 6):
        sender.owe(message(sequence), 1.02)
        sender.acknowledge(ack(sequence), 1.03)
    assert sender.window == pytest.approx(INITIAL_WINDOW + 1 / INITIAL_WINDOW)


def test_a_timeout_doubles_once_for_all_that_left_within_a_round_trip() -> None:
    sender = ReliableSender()
    for sequence in range(1, 7):
        sender.owe(message(sequence), sequence * 0.01)
    for step in range(10):
        sender.expire(RTO_INITIAL_S + 0.01 + step * 0.01)
    assert sender.estimator.rto_s == 2 * RTO_INITIAL_S
    sender.acknowledge(ack(1), 0.3)
    assert sender.estimator.rto_s == 2 * RTO_INITIAL_S  # nothing is known of the round trip yet


def test_a_lost_begin_of_the_table_does_not_wait_behind_messages_that_need_it() -> None:
    sender = ReliableSender()
    sender.owe(message(1, Stream.UNICAST), 0.0)
    for sequence in range(1, 6):
        sender.owe(message(sequence), 0.01)
    sender.expire(0.5)
    first = next(iter(sender.transmissions(0.5)))
    assert first.message.stream is Stream.UNICAST


def test_beyond_the_window_multicast_is_watched_later_and_not_sent_again() -> None:
    sender, _ = sender_owing(INITIAL_WINDOW + 2)
    assert not sender.has_room
    assert sender.in_flight == INITIAL_WINDOW
    assert resent(sender, 0.0) == []
    sender.acknowledge(ack(2), 0.01)
    assert resent(sender, 0.01) == []
    assert sender.in_flight == INITIAL_WINDOW
    sender.acknowledge(ack(INITIAL_WINDOW), 0.02)
    sender.expire(0.01 + sender.estimator.rto_s)  # nothing was heard of the last two
    assert resent(sender, 0.2) == [INITIAL_WINDOW + 1, INITIAL_WINDOW + 2]


def test_beyond_the_window_unicast_waits_and_follows_when_there_is_room() -> None:
    sender = ReliableSender()
    for sequence in range(1, INITIAL_WINDOW + 3):
        sender.owe(message(sequence, Stream.UNICAST), 0.0)
    assert resent(sender, 0.0) == []
    sender.acknowledge(Ack(ROUTER_ID, 1, Stream.UNICAST, 2), 0.01)
    (first, second) = sender.transmissions(0.01)
    assert [first.message.sequence, second.message.sequence] == [9, 10]
    assert not first.is_retransmission


def test_a_waiting_message_whose_multicast_copy_arrived_is_not_sent_again() -> None:
    sender, _ = sender_owing(INITIAL_WINDOW + 2)
    sender.acknowledge(ack(INITIAL_WINDOW + 2), 0.01)
    assert resent(sender, 0.01) == []
    assert sender.has_room


def test_a_neighbor_that_acknowledges_nothing_is_given_up_after_its_dead_interval() -> None:
    sender, _ = sender_owing(1)
    assert not sender.has_given_up(5.0, dead_interval_s=5.0)
    assert sender.has_given_up(5.1, dead_interval_s=5.0)
    assert not sender.has_given_up(GIVE_UP_FLOOR_S, dead_interval_s=0.3)
    assert not ReliableSender().has_given_up(1e9, dead_interval_s=0.3)


def test_no_message_is_owed_for_longer_than_receivers_remember_retractions() -> None:
    """A neighbor that acknowledges all messages but one is given up nevertheless."""
    sender, _ = sender_owing(2)
    now = 0.0
    for number in range(3, 60):
        now = float(number - 2)
        sender.owe(message(number), now)
        sender.acknowledge(ack(0, (1, number - 1)), now)
        assert not sender.has_given_up(now, dead_interval_s=300.0)
    assert not sender.has_given_up(MESSAGE_LIFETIME_S - 0.1, dead_interval_s=300.0)
    assert sender.has_given_up(MESSAGE_LIFETIME_S, dead_interval_s=300.0)


def test_a_neighbor_that_falls_too_far_behind_is_given_up() -> None:
    sender, _ = sender_owing(MAX_OWED)
    assert not sender.has_given_up(0.0, dead_interval_s=3.0)
    sender.owe(message(MAX_OWED + 1), 0.0)
    assert sender.has_given_up(0.0, dead_interval_s=3.0)


def test_the_unicast_stream_has_its_own_sequences_and_acknowledgements() -> None:
    sender = ReliableSender()
    sequence = sender.next_unicast_sequence()
    assert sequence == 1
    sender.owe(message(1, Stream.UNICAST), 0.0)
    sender.owe(message(1, Stream.MULTICAST), 0.0)
    sender.acknowledge(ack(1), 0.01)
    assert sender.is_acknowledged(Stream.MULTICAST, 1)
    assert not sender.is_acknowledged(Stream.UNICAST, 1)


def test_sequences_are_acknowledged_across_the_wrap() -> None:
    sender = ReliableSender()
    messages = [message(sequence % 2**32) for sequence in range(2**32 - 2, 2**32 + 2)]
    for each in messages:
        sender.owe(each, 0.0)
    assert sender.acknowledge(ack(0), 0.01) == messages[:3]


def test_a_stream_reports_gaps_and_runs() -> None:
    stream = ReceiveStream(base=10)
    assert [stream.accept(sequence) for sequence in (11, 13, 14, 17)] == [NEW] * 4
    assert stream.cumulative == 11
    assert stream.ranges() == (AckRange(1, 2), AckRange(2, 1))
    assert stream.accept(12) is NEW
    assert stream.cumulative == 14
    assert stream.ranges() == (AckRange(2, 1),)


def test_a_stream_knows_duplicates_before_and_beyond_its_cumulative_point() -> None:
    stream = ReceiveStream(base=10)
    stream.accept(12)
    assert [stream.accept(sequence) for sequence in (10, 5, 12)] == [DUPLICATE] * 3


def test_a_stream_refuses_what_lies_beyond_its_window() -> None:
    stream = ReceiveStream(base=0)
    assert stream.accept(RECEIVE_WINDOW + 1) is ReceiveVerdict.OUT_OF_WINDOW
    assert stream.accept(RECEIVE_WINDOW) is NEW


def test_a_stream_without_a_base_is_not_ready() -> None:
    assert ReceiveStream().accept(1) is ReceiveVerdict.NOT_READY


def test_a_stream_continues_across_the_wrap() -> None:
    stream = ReceiveStream(base=2**32 - 2)
    assert [stream.accept(sequence) for sequence in (2**32 - 1, 1, 0)] == [NEW] * 3
    assert stream.cumulative == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_receiver_acknowledges_exactly_what_a_sender_completes(seed: int) -> None:
    rng = random.Random(seed)
    sender, messages = sender_owing(200)
    stream = ReceiveStream(base=0)
    arrived = [each for each in messages if rng.random() < 0.8]
    rng.shuffle(arrived)
    for each in arrived:
        stream.accept(each.sequence)
    assert stream.cumulative is not None
    told = Ack(ROUTER_ID, 1, Stream.MULTICAST, stream.cumulative, stream.ranges())
    assert {each.sequence for each in sender.acknowledge(told, 1.0)} == {
        each.sequence for each in arrived
    }


def test_acknowledgements_wait_a_little_and_are_coalesced() -> None:
    receiver = ReliableReceiver(random.Random(1))
    receiver.accept(Stream.UNICAST, 1, 0.0)
    first_due = receiver.ack_due_at
    receiver.accept(Stream.UNICAST, 2, 0.001)
    assert receiver.ack_due_at == first_due
    assert first_due is not None
    assert 0 < first_due <= ACK_DELAY_MAX_S
    (only,) = receiver.acks(ROUTER_ID, 5)
    assert (only.stream, only.cumulative) == (Stream.UNICAST, 2)
    assert receiver.ack_due_at is None


@pytest.mark.parametrize("sequences", [range(1, ACK_EVERY + 1), [1, 1], [1, 3]])
def test_a_burst_a_duplicate_and_a_gap_hasten_the_acknowledgement(sequences: list[int]) -> None:
    receiver = ReliableReceiver(random.Random(1))
    for sequence in sequences:
        receiver.accept(Stream.UNICAST, sequence, 0.0)
    assert receiver.ack_due_at is not None
    assert receiver.ack_due_at < 0.002


def test_a_heartbeat_that_shows_a_lost_tail_hastens_the_acknowledgement() -> None:
    receiver = ReliableReceiver(random.Random(1))
    receiver.start_multicast(7, 0.0)
    receiver.acks(ROUTER_ID, 5)
    receiver.record_multicast_sequence(7, 1.0)
    assert receiver.ack_due_at is None
    receiver.record_multicast_sequence(8, 1.0)
    assert receiver.ack_due_at == pytest.approx(1.001)
