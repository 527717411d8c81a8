"""Reliable multicast: sent once, acknowledged by each neighbor, repeated only to those that missed
it.

A DATA message is owed to one neighbor (unicast stream) or to several (multicast stream). It is sent
once. Each neighbor acknowledges for itself; one that does not gets it again by unicast, with the
same sequence, at that neighbor's own pace:

    OutgoingData  -- owed to -->  ReliableSender (neighbor 1)   window, RTO, backlog
                  -- owed to -->  ReliableSender (neighbor 2)   its own, however slow

A message whose turn comes while a neighbor's window is full goes into that neighbor's backlog. A
multicast copy of it has been sent all the same, and most likely arrives; so when the window has
room it is not sent again, only tracked from then on like any other. The stream as a whole waits for
all windows, but for no longer than `PATIENCE_S` (in `link/state`) while some neighbor has room. So
a neighbor that is a little slower sets the pace, and one that is much slower delays no other.

Delivery is unordered on purpose. There are two streams, and retransmissions overtake; no message
waits for a missing one. That is sound because the content carries its own order: each DATA message
has the sender's `table_version`, and a receiver ignores an update of a prefix that is older than
the one it has (see `routes/table`). The last update sent wins, in any order of arrival.

Acknowledgements say "everything up to here, and these runs beyond". They wait a few milliseconds,
with jitter, so that a burst costs one, and are carried by a heartbeat that happens to leave. Every
eighth message, a duplicate and a gap hasten them.

Retransmission timeout per neighbor: SRTT and RTTVAR, no sample from a message sent twice (Karn),
doubling on timeout; 100 ms to 4 s. A link's round trip is measured in microseconds, so TCP's floor
of one second would be absurd here; the delayed acknowledgement (at most 12 ms) is well below it. A
message that lies three acknowledged ones behind counts as lost at once (RFC 5681's three
duplicates). The window starts at 8 messages, doubles each round trip up to the threshold, then
grows by one per round trip, and halves on loss. After a timeout it starts from the least: a
neighbor that was merely busy acknowledges all with its first ACK, and two messages were repeated in
vain, not a whole window.

Invariants: the messages owed to one neighbor are bounded (MAX_OWED), and so is the memory of a
receiver (RECEIVE_WINDOW, MAX_RUNS). No number that a neighbor writes decides how long anything
takes: an ACK costs at most the number of messages owed, to send one at most MAX_ACK_RANGES. A
neighbor that acknowledges nothing for its dead interval (at least GIVE_UP_FLOOR_S), or leaves a
message unacknowledged MAX_TRIES times or for MESSAGE_LIFETIME_S, is given up.

Sources: RFC 7868 section 5.3 (EIGRP's reliable transport, conditional receive), RFC 6298 (RTO), RFC
5681 (slow start, congestion avoidance, fast retransmit), RFC 2018 (selective acknowledgement).
"""

from __future__ import annotations

import enum
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Prefix
from routed.model.seqno import is_newer, next_seqno, seqno_distance
from routed.nup.wire.message import MAX_ACK_RANGES, MAX_ACK_SPAN, Ack, AckRange, Stream

__all__ = [
    "ACK_DELAY_MAX_S",
    "INITIAL_WINDOW",
    "MAX_OWED",
    "MAX_RUNS",
    "MAX_TRIES",
    "MAX_WINDOW",
    "MESSAGE_LIFETIME_S",
    "RECEIVE_WINDOW",
    "RTO_INITIAL_S",
    "RTO_MAX_S",
    "RTO_MIN_S",
    "OutgoingData",
    "ReceiveStream",
    "ReceiveVerdict",
    "ReliableReceiver",
    "ReliableSender",
    "RttEstimator",
    "Transmission",
]

RTO_INITIAL_S = 0.25
RTO_MIN_S = 0.1
RTO_MAX_S = 4.0
_CLOCK_GRANULARITY_S = 0.001

INITIAL_WINDOW = 8
MIN_WINDOW = 2
MAX_WINDOW = 256
"""Messages in flight to one neighbor: some 11,000 routes. A busy neighbor has to read them before
our heartbeats: this much takes it a tenth of a second or two."""
LOSS_THRESHOLD = 3
"""Sequences acknowledged beyond a missing one that prove it lost."""

MAX_TRIES = 12
GIVE_UP_FLOOR_S = 3.0
MESSAGE_LIFETIME_S = 60.0
"""The longest time that a message may be owed, sent or waiting. Receivers keep the version of a
retraction for twice as long (`learned.TOMBSTONE_S`), and feasibility distances are kept by it
(`distances`)."""
MAX_OWED = 16_384
"""Messages unacknowledged by one neighbor, sent or waiting, before it is given up."""
RECEIVE_WINDOW = MAX_ACK_SPAN
"""Largest distance of a sequence beyond the cumulative point: twice MAX_OWED, which an honest peer
cannot exceed."""
MAX_RUNS = 1024
"""Runs beyond the cumulative point that a receiver remembers of one stream; a message that would
begin one more is not acknowledged, and comes again."""

ACK_DELAY_MIN_S = 0.004
ACK_DELAY_MAX_S = 0.012
ACK_EVERY = 8
"""Messages that hasten an acknowledgement."""
ACK_HASTE_S = 0.001
ACK_TLV_MAX_BYTES = 4 + 13 + 4 * MAX_ACK_RANGES


@dataclass(slots=True, eq=False)
class OutgoingData:
    """A DATA message on its way, shared by all neighbors that it is owed to."""

    stream: Stream
    sequence: int
    payload: bytes
    """Encoded TLVs; the header is sealed at each transmission."""
    version: int
    """Table version of the message."""
    retracted: tuple[Prefix, ...] = ()
    """The prefixes that it retracts: held until the last neighbor has acknowledged."""
    waiting: int = 0
    """Neighbors that have not acknowledged it yet."""


@dataclass(frozen=True, slots=True)
class Transmission:
    """A message to send to one neighbor now."""

    message: OutgoingData
    is_retransmission: bool


class RttEstimator:
    """SRTT, RTTVAR and RTO of one neighbor.

    Source: RFC 6298 section 2, with alpha = 1/8, beta = 1/4, K = 4.
    """

    def __init__(self) -> None:
        self.srtt_s: float | None = None
        self.rttvar_s = 0.0
        self.rto_s = RTO_INITIAL_S

    def sample(self, rtt_s: float) -> None:
        """Add one round trip of a message that was sent once."""
        if self.srtt_s is None:
            self.srtt_s = rtt_s
            self.rttvar_s = rtt_s / 2
        else:
            self.rttvar_s += (abs(self.srtt_s - rtt_s) - self.rttvar_s) / 4
            self.srtt_s += (rtt_s - self.srtt_s) / 8
        self.recover()

    def recover(self) -> None:
        """Undo the doubling by timeouts: a message was acknowledged."""
        if self.srtt_s is not None:
            margin_s = max(_CLOCK_GRANULARITY_S, 4 * self.rttvar_s)
            self.rto_s = min(max(self.srtt_s + margin_s, RTO_MIN_S), RTO_MAX_S)

    def back_off(self) -> None:
        """Double the timeout (RFC 6298 section 5.5)."""
        self.rto_s = min(self.rto_s * 2, RTO_MAX_S)


@dataclass(slots=True, eq=False)
class _Owed:
    """One message owed to one neighbor."""

    message: OutgoingData
    since: float
    """Time at which it became owed."""
    sent_at: float | None = None
    """Time at which it was last sent; None while it waits in the backlog."""
    tries: int = 0
    is_timed: bool = False
    """Whether the one copy that was sent left at `sent_at`: a round trip can be measured by it."""


class ReliableSender:
    """The messages owed to one neighbor: window, timeout, backlog. One per adjacency
    incarnation."""

    def __init__(self) -> None:
        self.estimator = RttEstimator()
        self.retransmissions = 0
        self.sent = 0
        self.window = float(INITIAL_WINDOW)
        self._threshold = float(MAX_WINDOW)
        self._owed: dict[Stream, dict[int, _Owed]] = {stream: {} for stream in Stream}
        """Owed messages by sequence, oldest first."""
        self._in_flight: dict[_Owed, None] = {}
        """Messages in flight in the order of sending: the timeout of the first one is the next."""
        self._backlog: deque[_Owed] = deque()
        self._unicast_sequence = 0
        self._progress_at = 0.0
        self._recovered_at = 0.0
        """Losses before this moment belong to a halving that was done already."""
        self._has_overstayed = False

    @property
    def in_flight(self) -> int:
        """Messages sent and unacknowledged."""
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether another message may leave for this neighbor."""
        return len(self._in_flight) < int(self.window) and not self._backlog

    def next_unicast_sequence(self) -> int:
        """Count a new message on the unicast stream; the first is 1."""
        self._unicast_sequence = next_seqno(self._unicast_sequence)
        return self._unicast_sequence

    @property
    def last_unicast_sequence(self) -> int:
        """The sequence of the newest message on the unicast stream; 0 before the first."""
        return self._unicast_sequence

    def is_acknowledged(self, stream: Stream, sequence: int) -> bool:
        """Return whether a message that was once owed is no longer owed."""
        return sequence not in self._owed[stream]

    def owe(self, message: OutgoingData, now: float) -> None:
        """Add a message that is being transmitted right now.

        With the window full it joins the backlog: a multicast copy has been sent, but this neighbor
        gets no timer for it until its window has room.
        """
        if not any(self._owed.values()):
            self._progress_at = now
        owed = _Owed(message, now)
        message.waiting += 1
        self._owed[message.stream][message.sequence] = owed
        self.sent += 1
        if self.has_room:
            self._launch(owed, now)
            owed.is_timed = True
        else:
            self._backlog.append(owed)
        self._has_overstayed |= sum(map(len, self._owed.values())) > MAX_OWED

    def acknowledge(self, ack: Ack, now: float) -> list[OutgoingData]:
        """Apply an ACK of this neighbor.

        Returns:
            Messages that every neighbor they were owed to has now acknowledged.

        Cost: proportional to the newly acknowledged messages and the runs listed; with runs, and
        when any message is newly acknowledged, at most to the number of messages owed.
        """
        stream = self._owed[ack.stream]
        acked = list(_acknowledged(stream, ack))
        if not acked:
            return []
        self._progress_at = now
        self.estimator.recover()
        self._sample_rtt(acked, now)
        delivered: list[OutgoingData] = []
        for owed in acked:
            self._complete(owed, delivered)
        if ack.ranges:
            self._detect_losses(stream, acked[-1].message.sequence, now)
        return delivered

    def expire(self, now: float) -> None:
        """Count all messages in flight as lost if the oldest one's timeout has passed.

        All of them are lost together, with one doubling of the timeout: they were sent one after
        the other, and each would otherwise double it again within one round trip. Messages that
        have arrived all the same are acknowledged together with the two that are then repeated
        first (RFC 6298 section 5.4 and 5.5).
        """
        oldest = next(iter(self._in_flight), None)
        if oldest is None or oldest.sent_at is None:
            return
        if oldest.sent_at + self.estimator.rto_s <= now:
            self.estimator.back_off()
            self._lose(list(self._in_flight), now)
            self.window = float(MIN_WINDOW)

    def transmissions(self, now: float) -> Iterator[Transmission]:
        """Yield the messages that may leave for this neighbor now: the backlog, as the window
        allows.

        A message that was never lost was sent by multicast already, and is only tracked from now
        on.
        """
        while self._backlog and len(self._in_flight) < int(self.window):
            owed = self._backlog.popleft()
            if owed.message.sequence not in self._owed[owed.message.stream]:
                continue  # acknowledged while it waited: the multicast copy had arrived
            is_first = owed.tries == 0
            self._launch(owed, now)
            if is_first and owed.message.stream is Stream.MULTICAST:
                continue
            self.retransmissions += not is_first
            owed.is_timed = is_first
            yield Transmission(owed.message, not is_first)

    def has_given_up(self, now: float, dead_interval_s: float) -> bool:
        """Return whether the neighbor has left messages unacknowledged for too long."""
        if not any(self._owed.values()):
            return False
        stalled_s = now - self._progress_at
        oldest = min(next(iter(owed.values())).since for owed in self._owed.values() if owed)
        if now >= oldest + MESSAGE_LIFETIME_S:
            return True
        return self._has_overstayed or stalled_s > max(dead_interval_s, GIVE_UP_FLOOR_S)

    def next_timer(self) -> float | None:
        """Return when the oldest message in flight times out."""
        for owed in self._in_flight:
            return None if owed.sent_at is None else owed.sent_at + self.estimator.rto_s
        return None

    def abandon(self) -> list[OutgoingData]:
        """Drop all messages owed to this neighbor.

        Returns:
            Messages that were owed to this neighbor only.
        """
        delivered: list[OutgoingData] = []
        for stream in self._owed.values():
            for owed in list(stream.values()):
                self._complete(owed, delivered)
        self._backlog.clear()
        return delivered

    def _launch(self, owed: _Owed, now: float) -> None:
        owed.sent_at = now
        owed.tries += 1
        self._has_overstayed |= owed.tries > MAX_TRIES
        self._in_flight[owed] = None

    def _complete(self, owed: _Owed, delivered: list[OutgoingData]) -> None:
        """Remove one message: the neighbor has acknowledged it, or was removed."""
        message = owed.message
        del self._owed[message.stream][message.sequence]
        self._in_flight.pop(owed, None)
        growth = 1.0 if self.window < self._threshold else 1 / self.window
        self.window = min(self.window + growth, MAX_WINDOW)
        message.waiting -= 1
        if message.waiting == 0:
            delivered.append(message)

    def _sample_rtt(self, acked: list[_Owed], now: float) -> None:
        """Measure by the newest message that was sent just once (Karn's rule)."""
        samples = [owed.sent_at for owed in acked if owed.is_timed and owed.sent_at is not None]
        if samples:
            self.estimator.sample(now - max(samples))

    def _detect_losses(self, stream: dict[int, _Owed], highest: int, now: float) -> None:
        """Count messages well below the highest acknowledged one as lost, without a timeout."""
        smoothed_s = self.estimator.srtt_s or self.estimator.rto_s
        lost: list[_Owed] = []
        for sequence, owed in stream.items():
            if seqno_distance(highest, sequence) < LOSS_THRESHOLD:
                break
            if owed.sent_at is not None and owed.sent_at + smoothed_s <= now:
                lost.append(owed)
        if lost:
            self._lose(lost, now)

    def _lose(self, lost: list[_Owed], now: float) -> None:
        """Queue lost messages before all others, and halve the window once per round trip.

        The unicast stream comes first: BEGIN_TABLE is in it, and a neighbor that lacks it
        acknowledges nothing of the multicast stream, which would keep the window full for good.
        """
        in_order = sorted(lost, key=lambda owed: owed.message.stream, reverse=True)
        for owed in reversed(in_order):
            del self._in_flight[owed]
            owed.sent_at, owed.is_timed = None, False
            self._backlog.appendleft(owed)
        if now >= self._recovered_at:
            self._threshold = max(self.window / 2, MIN_WINDOW)
            self.window = self._threshold
            self._recovered_at = now + (self.estimator.srtt_s or self.estimator.rto_s)


def _acknowledged(stream: dict[int, _Owed], ack: Ack) -> Iterator[_Owed]:
    """Yield the owed messages that an ACK covers, oldest first."""
    for sequence, owed in stream.items():
        if is_newer(sequence, ack.cumulative):
            break
        yield owed
    if not ack.ranges or not stream:
        return
    if sum(run.received for run in ack.ranges) <= len(stream):
        yield from _acknowledged_in_runs(stream, ack)
        return
    runs = iter(_offsets(ack))
    first, last = next(runs)
    for sequence, owed in stream.items():
        offset = seqno_distance(sequence, ack.cumulative)
        while offset > last:
            following = next(runs, None)
            if following is None:
                return
            first, last = following
        if offset >= first:
            yield owed


def _acknowledged_in_runs(stream: dict[int, _Owed], ack: Ack) -> Iterator[_Owed]:
    """Do the same beyond the cumulative point, by looking each listed sequence up."""
    for first, last in _offsets(ack):
        for offset in range(first, last + 1):
            owed = stream.get(next_seqno(ack.cumulative, offset))
            if owed is not None:
                yield owed


def _offsets(ack: Ack) -> Iterator[tuple[int, int]]:
    """Yield the first and the last sequence of each run, counted from the cumulative point."""
    position = 0
    for run in ack.ranges:
        first = position + run.missing + 1
        position = first + run.received - 1
        yield first, position


class ReceiveVerdict(enum.Enum):
    """The meaning of a sequence for its stream."""

    NEW = "new"
    DUPLICATE = "duplicate"
    OUT_OF_WINDOW = "out of window"
    NOT_READY = "not ready"


class ReceiveStream:
    """The sequences of one stream that have arrived."""

    def __init__(self, base: int | None = None) -> None:
        self.cumulative = base
        """Sequence up to which everything has arrived; None until the stream's base is known."""
        self.highest = base
        """The newest that has arrived."""
        self._position = 0
        """Position of the cumulative point, counted from the base without wrapping."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        """The runs beyond it, in order: positions of their first and last sequences. Two runs are
        never adjacent, and none touches the cumulative point."""

    @property
    def has_gap(self) -> bool:
        """Whether a sequence has arrived out of turn."""
        return bool(self._starts)

    def accept(self, sequence: int) -> ReceiveVerdict:
        """Record one arrival. Cost: O(log MAX_RUNS)."""
        if self.cumulative is None:
            return ReceiveVerdict.NOT_READY
        distance = seqno_distance(sequence, self.cumulative)
        if distance <= 0:
            return ReceiveVerdict.DUPLICATE
        if distance > RECEIVE_WINDOW:
            return ReceiveVerdict.OUT_OF_WINDOW
        verdict = self._record(self._position + distance)
        if verdict is ReceiveVerdict.NEW:
            if self.highest is None or is_newer(sequence, self.highest):
                self.highest = sequence
            if self._starts and self._starts[0] == self._position + 1:
                self._starts.pop(0)
                reached = self._ends.pop(0)
                self.cumulative = next_seqno(self.cumulative, reached - self._position)
                self._position = reached
        return verdict

    def _record(self, position: int) -> ReceiveVerdict:
        """Add a position beyond the cumulative point to the runs."""
        starts, ends = self._starts, self._ends
        index = bisect_right(starts, position)
        if index and position <= ends[index - 1]:
            return ReceiveVerdict.DUPLICATE
        extends_last = index > 0 and ends[index - 1] == position - 1
        extends_next = index < len(starts) and starts[index] == position + 1
        if extends_last and extends_next:
            ends[index - 1] = ends.pop(index)
            del starts[index]
        elif extends_last:
            ends[index - 1] = position
        elif extends_next:
            starts[index] = position
        elif len(starts) >= MAX_RUNS and position != self._position + 1:
            return ReceiveVerdict.OUT_OF_WINDOW
        else:
            starts.insert(index, position)
            ends.insert(index, position)
        return ReceiveVerdict.NEW

    def ranges(self) -> tuple[AckRange, ...]:
        """Return runs beyond the cumulative point, lowest first, as many as one ACK carries."""
        runs: list[AckRange] = []
        previous_end = self._position
        for start, end in zip(self._starts[:MAX_ACK_RANGES], self._ends, strict=False):
            runs.append(AckRange(start - previous_end - 1, end - start + 1))
            previous_end = end
        return tuple(runs)


class ReliableReceiver:
    """Both streams of one neighbor, and when to acknowledge them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.streams = {
            Stream.MULTICAST: ReceiveStream(),
            Stream.UNICAST: ReceiveStream(base=0),
        }
        self.received = 0
        self.duplicates = 0
        self.out_of_order = 0
        self.ack_due_at: float | None = None
        self._unacknowledged = 0

    def accept(self, stream: Stream, sequence: int, now: float) -> ReceiveVerdict:
        """Record a DATA message, and schedule its acknowledgement."""
        highest = self.streams[stream].highest
        verdict = self.streams[stream].accept(sequence)
        if verdict is ReceiveVerdict.NEW:
            self.out_of_order += highest is not None and is_newer(highest, sequence)
            self.received += 1
            self._unacknowledged += 1
            is_hasty = self._unacknowledged >= ACK_EVERY or self.streams[stream].has_gap
            self._schedule_ack(now, is_hasty)
        elif verdict is ReceiveVerdict.DUPLICATE:
            self.duplicates += 1
            self._schedule_ack(now, True)  # our acknowledgement was lost, or is late
        return verdict

    def start_multicast(self, base: int, now: float) -> None:
        """Set where the multicast stream begins for us."""
        if self.streams[Stream.MULTICAST].cumulative is None:
            self.streams[Stream.MULTICAST] = ReceiveStream(base)
            self._schedule_ack(now, False)

    def record_multicast_sequence(self, last_sent: int, now: float) -> None:
        """Record from a heartbeat how far the stream has come: a lost tail shows at once."""
        cumulative = self.streams[Stream.MULTICAST].cumulative
        if cumulative is not None and is_newer(last_sent, cumulative):
            self._schedule_ack(now, True)

    @property
    def has_gap(self) -> bool:
        """Whether a message is missing that later ones of its stream have overtaken."""
        return any(stream.has_gap for stream in self.streams.values())

    @property
    def acks_max_bytes(self) -> int:
        """The most bytes that the ACK TLVs of both streams need."""
        return len(self.streams) * ACK_TLV_MAX_BYTES

    def acks(self, router_id: Address, session: int) -> list[Ack]:
        """Return the ACKs that are owed now; none is owed afterwards."""
        self.ack_due_at = None
        self._unacknowledged = 0
        return [
            Ack(router_id, session, stream, received.cumulative, received.ranges())
            for stream, received in self.streams.items()
            if received.cumulative is not None
        ]

    def _schedule_ack(self, now: float, is_hasty: bool) -> None:
        delay_s = ACK_HASTE_S if is_hasty else self._rng.uniform(ACK_DELAY_MIN_S, ACK_DELAY_MAX_S)
        due_at = now + delay_s
        self.ack_due_at = due_at if self.ack_due_at is None else min(self.ack_due_at, due_at)
