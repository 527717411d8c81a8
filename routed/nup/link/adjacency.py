"""One neighbor on one link: the states of the adjacency, from its first heartbeat to its end.

        DOWN --heard--> INIT --heard both ways--> TWO_WAY --begin--> LOADING --exchanged--> UP
          ^               ^                                             |                   |
          |               +-------- one way, reset, neighbor restarted -+-------------------+
          +---- dead, goodbye, link down, unacknowledged, restart announced -----------------

`TRANSITIONS` holds every pair of state and event; a pair without effect says IGNORE. Only this
table decides about the state: the instance turns datagrams and timers into events, looks up the
pair, and carries out the action. docs/nup.md prints the same table.

Two numbers distinguish incarnations. A *boot id* is new when a router lost its state. A *session*
is chosen by each side for each incarnation of the adjacency, and heartbeats echo it, as BFD does
with its discriminators: a neighbor that dropped and re-formed the adjacency between two of our
packets is found by its new session, and no message that was sent to an earlier incarnation is
accepted.

A heartbeat lists the neighbors that its sender hears. We are heard both ways when the entry with
our router id carries our boot id and our session. A list that was too long for one datagram is
flagged partial, and being absent from it proves nothing; then the adjacency falls back only when no
heartbeat has confirmed it for a dead interval.

Invariants: a one-way link never passes INIT. The dead interval is the neighbor's own (its interval
times its multiplier), not ours.

Sources: RFC 2328 section 10 (states), RFC 5880 (three-way handshake, discriminators, jitter), RFC
8966 section 3.4 (advertised intervals), RFC 9616 (RTT from echoed timestamps and hold times).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from routed.model.prefix import Address
from routed.nup.events import AdjacencyState
from routed.nup.link.quality import HeartbeatHistory
from routed.nup.wire.message import Hello, NeighborHeard

__all__ = [
    "TRANSITIONS",
    "Adjacency",
    "AdjacencyAction",
    "AdjacencyEvent",
    "AdjacencyTransition",
    "timestamp_us",
]

_CLOCK_MODULUS = 1 << 32
PATIENCE_S = 30.0
PATIENCE_INTERVALS = 1.5
"""Before it exchanges routes a neighbor may be silent for PATIENCE_S, or this many of its hello
intervals if that is longer, whatever dead interval it advertises: no routes can be lost with it."""
LOADING_MIN_S, LOADING_MAX_S = 10.0, 120.0
"""A table of which no more has arrived for a dead interval, and at least LOADING_MIN_S, or that has
not ended after LOADING_MAX_S, is used as far as it has arrived and not waited for. A neighbor that
restarts is given as much (`lifecycle.GRACE_MIN_S`, `receive.GRACE_MAX_S`)."""
_RTT_LIMIT_US = 10_000_000
"""An echo older than this is a delayed or forged datagram, not a round trip."""
REST_INTERVALS = 2
"""A router at rest sends its heartbeats this many hello intervals apart."""
LATE_INTERVALS = 2.1
"""A neighbor without a heartbeat for so many intervals is late: one was lost, or it is dead."""
REQUESTS = 4
"""Heartbeats that are requested before a silent neighbor counts as dead."""
_RTT_GAIN = 1 / 8
"""Share of a new sample in the smoothed RTT, as SRTT in RFC 6298."""


class AdjacencyEvent(enum.Enum):
    """Events of an adjacency."""

    HELLO_HEARD = "a heartbeat that proves nothing about us"
    HELLO_ONE_WAY = "a heartbeat whose complete list lacks us"
    HELLO_TWO_WAY = "a heartbeat, or DATA, that names our session"
    EXCHANGE_BEGUN = "our table is being sent"
    TABLES_EXCHANGED = "both tables were sent and acknowledged"
    NEIGHBOR_RESET = "the neighbor uses a new session"
    NEIGHBOR_RESTARTED = "the neighbor uses a new boot id"
    RESTART_ANNOUNCED = "CONTROL with RESTART"
    GOODBYE_HEARD = "CONTROL with GOODBYE"
    DEAD_TIMER = "nothing heard for the dead interval"
    GIVEN_UP = "DATA not acknowledged for too long"
    LINK_LOST = "no carrier, or the link is no longer ours"
    CLEARED = "the operator, a changed address, or room for a newcomer"


class AdjacencyAction(enum.Enum):
    """Actions of a transition, in addition to the change of the state."""

    IGNORE = "nothing"
    GREET = "open a session; send a heartbeat soon"
    BEGIN_EXCHANGE = "send a heartbeat soon; send the table"
    ESTABLISH = "record the time"
    FALL_BACK = "forget its routes; open a new session"
    RETAIN = "keep its routes as stale; open a new session"
    EXPIRE = "forget it, unless its routes are retained"
    FORGET = "forget it and its routes"


class AdjacencyTransition(NamedTuple):
    """The next state, and the action."""

    state: AdjacencyState
    action: AdjacencyAction


def _build_transitions() -> dict[tuple[AdjacencyState, AdjacencyEvent], AdjacencyTransition]:
    """Write the table row by row: one line per event, one column per state."""
    down, init, two_way = AdjacencyState.DOWN, AdjacencyState.INIT, AdjacencyState.TWO_WAY
    loading, up = AdjacencyState.LOADING, AdjacencyState.UP
    act, event = AdjacencyAction, AdjacencyEvent

    greet = AdjacencyTransition(init, act.GREET)
    begin = AdjacencyTransition(two_way, act.BEGIN_EXCHANGE)
    load = AdjacencyTransition(loading, act.IGNORE)
    establish = AdjacencyTransition(up, act.ESTABLISH)
    back = AdjacencyTransition(init, act.FALL_BACK)
    retain = AdjacencyTransition(init, act.RETAIN)
    wait = AdjacencyTransition(down, act.RETAIN)
    expire = AdjacencyTransition(down, act.EXPIRE)
    forget = AdjacencyTransition(down, act.FORGET)
    stay = None

    rows: dict[AdjacencyEvent, tuple[AdjacencyTransition | None, ...]] = {
        #                          DOWN    INIT    TWO_WAY  LOADING    UP
        event.HELLO_HEARD: (greet, stay, stay, stay, stay),
        event.HELLO_ONE_WAY: (greet, stay, back, back, back),
        event.HELLO_TWO_WAY: (greet, begin, stay, stay, stay),
        event.EXCHANGE_BEGUN: (stay, stay, load, stay, stay),
        event.TABLES_EXCHANGED: (stay, stay, stay, establish, stay),
        event.NEIGHBOR_RESET: (stay, stay, back, back, back),
        event.NEIGHBOR_RESTARTED: (stay, retain, retain, retain, retain),
        event.RESTART_ANNOUNCED: (stay, wait, wait, wait, wait),
        event.GOODBYE_HEARD: (forget, forget, forget, forget, forget),
        event.DEAD_TIMER: (stay, expire, expire, expire, expire),
        event.GIVEN_UP: (stay, stay, expire, expire, expire),
        event.LINK_LOST: (forget, forget, forget, forget, forget),
        event.CLEARED: (forget, forget, forget, forget, forget),
    }
    columns = (down, init, two_way, loading, up)
    return {
        (state, an_event): cell or AdjacencyTransition(state, act.IGNORE)
        for an_event, cells in rows.items()
        for state, cell in zip(columns, cells, strict=True)
    }


TRANSITIONS = _build_transitions()


def timestamp_us(now: float) -> int:
    """Return the header's timestamp: microseconds of a monotonic clock, modulo 2**32."""
    return int(now * 1_000_000) % _CLOCK_MODULUS


class Adjacency:
    """The knowledge about one neighbor, and when it counts as dead. No I/O, no decisions."""

    def __init__(self, router_id: Address, address: Address, boot_id: int, now: float) -> None:
        self.router_id = router_id
        self.address = address
        self.boot_id = boot_id
        self.state = AdjacencyState.DOWN
        self.session = 0
        """Our number for this incarnation; 0 only before the first."""
        self.neighbor_session = 0
        """The neighbor's number for this incarnation, once a heartbeat has carried it; 0 before."""
        self.guessed_session = 0
        """A number that may be its, while no heartbeat has carried it; answered to, never used."""
        self.named: tuple[Address, ...] = ()
        """The neighbor's addresses on the link, as advertised."""
        self.addresses: tuple[Address, ...] = ()
        """Those of `named` that may be next hops."""
        self.address_problem = ""
        """Reason why the other addresses may not be next hops."""
        self.is_unlisted = False
        """Whether its last complete list lacked us."""
        self.is_signing = False
        """Whether its last heartbeat had a signature."""
        self.hello: Hello | None = None
        self.heartbeat_sequence: int | None = None
        """Sequence of its newest HEARTBEAT or CONTROL; older ones are dropped."""
        self.heard_at = now
        self.confirmed_at = now
        """Time at which it last confirmed that it hears us."""
        self.pending_since = now
        """Time at which the adjacency last began to form."""
        self.loading_since = now
        """Time at which its table last began to arrive."""
        self.loading_until: float | None = None
        """Time until which its table is awaited; None if it is not awaited."""
        self.up_since: float | None = None
        self.rtt_s: float | None = None
        self.extra_cost = 0
        """Cost added to the link's cost because of the round trip."""
        self.history = HeartbeatHistory()
        self.share_there = 1.0
        """The share of our heartbeats that arrive, as it says; 0 to 1."""
        self.loss_factor = 1.0
        """The factor on the link's cost, by the loss."""
        self.asked_at: float | None = None
        """Time at which it was last asked for a heartbeat, since it was heard."""
        self._echo_timestamp = 0
        self._echo_heard_at = now

    @property
    def dead_interval_s(self) -> float:
        """Longest silence, as it advertised, before it counts as dead; seconds."""
        return 0.0 if self.hello is None else self.hello.dead_interval_s

    def begin_loading(self, now: float) -> None:
        """Start to wait for its table."""
        self.loading_since = self.loading_until = now
        self.record_progress(now)

    def record_progress(self, now: float) -> None:
        """Record that more of its table has arrived; a table that is no longer awaited stays so."""
        if self.loading_until is not None:
            patience_s = max(self.dead_interval_s, LOADING_MIN_S)
            self.loading_until = min(now + patience_s, self.loading_since + LOADING_MAX_S)

    @property
    def dead_at(self) -> float:
        """Time at which it counts as dead if no message is heard before."""
        if self.state.exchanges_routes:
            return self.heard_at + self.dead_interval_s
        return self.heard_at + self.patience_s

    @property
    def patience_s(self) -> float:
        """Longest silence, or wait, before it exchanges routes; seconds."""
        if self.hello is None:
            return 0.0
        hello_interval_s = self.hello.interval_ms / 1000
        return min(self.dead_interval_s, max(PATIENCE_S, PATIENCE_INTERVALS * hello_interval_s))

    @property
    def ask_at(self) -> float | None:
        """Time at which to ask it for a heartbeat, if none is heard before; None for never."""
        if self.hello is None or self.hello.multiplier <= LATE_INTERVALS:
            return None
        late_at = self.heard_at + LATE_INTERVALS * self.hello.interval_ms / 1000
        if self.asked_at is None or self.asked_at < late_at:
            return late_at
        return self.asked_at + (self.dead_at - late_at) / REQUESTS

    @property
    def unconfirmed_at(self) -> float:
        """Time at which it counts as one-way, if no heartbeat confirms before that it hears us."""
        return self.confirmed_at + self.dead_interval_s

    def open_session(self, session: int, now: float) -> None:
        """Start a new incarnation; the agreements of the last one are void."""
        self.session = session
        self.neighbor_session = self.guessed_session = 0
        self.pending_since = now
        self.loading_until = None
        self.confirmed_at = now
        self.up_since = None

    def begin_boot(self, boot_id: int) -> None:
        """Apply a new boot id of the neighbor: its counters start again."""
        self.boot_id = boot_id
        self.heartbeat_sequence = None
        self.rtt_s = None
        self.history = HeartbeatHistory()
        self.share_there = 1.0

    def record_hello(self, hello: Hello, sequence: int, timestamp: int, now: float) -> None:
        """Apply the timers and the sequence of a heartbeat."""
        self.hello = hello
        self.heartbeat_sequence = sequence
        self.history.record(sequence)
        self.heard_at = now
        self._echo_timestamp = timestamp
        self._echo_heard_at = now

    def confirm(self, now: float) -> None:
        """Record a message with our session: the neighbor is alive, and hears us."""
        self.heard_at = now
        self.confirmed_at = now

    def measure_rtt(self, entry: NeighborHeard, now: float) -> None:
        """Measure a round trip by our own echoed timestamp: no clocks need to agree."""
        if not entry.echo_timestamp:
            return
        elapsed_us = (timestamp_us(now) - entry.echo_timestamp - entry.hold_us) % _CLOCK_MODULUS
        if elapsed_us > _RTT_LIMIT_US:
            return
        sample_s = elapsed_us / 1_000_000
        self.rtt_s = (
            sample_s if self.rtt_s is None else self.rtt_s + _RTT_GAIN * (sample_s - self.rtt_s)
        )

    def cost(self, link_cost: int) -> int:
        """Return the cost of its routes beyond their metric, given the cost of the link."""
        return round(link_cost * self.loss_factor) + self.extra_cost

    def heard_entry(self, now: float) -> NeighborHeard:
        """Return the entry for this neighbor in our own heartbeat."""
        hold_us = min(int((now - self._echo_heard_at) * 1_000_000), _CLOCK_MODULUS - 1)
        return NeighborHeard(
            router_id=self.router_id,
            boot_id=self.boot_id,
            session=self.session,
            heard_session=self.neighbor_session or self.guessed_session,
            echo_timestamp=self._echo_timestamp,
            hold_us=hold_us,
        )
