"""The lifecycle of adjacencies: carries out what the transition table says.

`fire` is the only place where an adjacency changes its state: it looks the event up
(`adjacency.TRANSITIONS`), emits the change, and carries out the action: sessions are numbered,
table exchanges begin and end, routes are kept or forgotten, neighbors dropped.

State kept here: the number of sessions opened, and the key that their numbers are derived
from. All other state belongs to the links and neighbors, or to `RouteTable` and `RouteReporter`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from routed.model.prefix import Family, Prefix
from routed.model.route import NextHop
from routed.model.seqno import is_newer
from routed.nup.events import (
    AdjacencyChanged,
    AdjacencyReason,
    AdjacencyState,
    TraceCode,
)
from routed.nup.link.adjacency import TRANSITIONS, AdjacencyAction, AdjacencyEvent
from routed.nup.link.state import Exchange, Link, Neighbor
from routed.nup.route_changes import RouteReporter
from routed.nup.shared_state import SharedState
from routed.nup.transmit import Transmitter
from routed.nup.transport.advertise import TableDump
from routed.nup.wire.message import BeginTable, Stream, TableRequest

__all__ = ["Lifecycle", "has_complete_table"]

_NO_FLAPS = frozenset(
    {AdjacencyEvent.NEIGHBOR_RESTARTED, AdjacencyEvent.RESTART_ANNOUNCED, AdjacencyEvent.CLEARED}
)
"""Ends of an adjacency that move no traffic, or that an operator requested."""

TABLE_REQUEST_GAP_S = 30.0
"""The least time between two requests for a neighbor's whole table."""
TABLE_ANSWER_GAP_S = 15.0
"""The least time between two answered requests of a neighbor: half of TABLE_REQUEST_GAP_S, so that
no delay in the network makes a request that keeps this gap look too early."""
TABLE_REQUEST_WAIT_S = 1.0
"""The time until the next try while the neighbor's first table is incomplete, or its window is
full."""

GRACE_MIN_S = 10.0
"""A neighbor that restarted unannounced has this long, or its dead interval, to send its table."""


class Lifecycle:
    """Moves adjacencies through their states."""

    def __init__(
        self, state: SharedState, reporter: RouteReporter, transmitter: Transmitter
    ) -> None:
        self._session_key = state.rng.randbytes(32)
        self._sessions = 0
        """Number of sessions opened; hashed with the key, so that no number can be derived from
        another."""
        self._rng = state.rng
        self._log = state.log
        self._table = state.table
        self._origins = state.origins
        self._order = state.order
        self._reporter = reporter
        self._transmitter = transmitter

    def fire(
        self,
        link: Link,
        neighbor: Neighbor,
        event: AdjacencyEvent,
        reason: AdjacencyReason,
        now: float,
        *,
        grace_s: float | None = None,
    ) -> None:
        """Look an event up in the table, change the state, carry out the action."""
        link.queue_service(neighbor)
        adjacency = neighbor.adjacency
        old = adjacency.state
        transition = TRANSITIONS[old, event]
        adjacency.state = transition.state
        if transition.state is not old:
            self._log.emit(
                AdjacencyChanged(
                    adjacency.router_id,
                    link.settings.ifindex,
                    adjacency.address,
                    old,
                    transition.state,
                    reason,
                    _lost_next_hops(link, neighbor, old, transition.action),
                )
            )
        if old is AdjacencyState.UP is not transition.state and event not in _NO_FLAPS:
            self._record_flap(link, neighbor, now)
        match transition.action:
            case AdjacencyAction.IGNORE:
                pass
            case AdjacencyAction.GREET:
                self._open_session(link, neighbor, now)
            case AdjacencyAction.BEGIN_EXCHANGE:
                self._transmitter.hasten_heartbeat(link, now)
                self._begin_exchange(link, neighbor, now)
            case AdjacencyAction.ESTABLISH:
                adjacency.up_since = now
                adjacency.loading_until = None
            case AdjacencyAction.FALL_BACK:
                self._end_exchange(link, neighbor)
                self._table.remove_neighbor(neighbor.key, now)
                neighbor.retained_until = None
                self._open_session(link, neighbor, now)
            case AdjacencyAction.RETAIN:
                self._end_exchange(link, neighbor)
                self._retain_routes(neighbor, grace_s, now)
                self._open_session(link, neighbor, now)
            case AdjacencyAction.EXPIRE:
                self._end_exchange(link, neighbor)
                if neighbor.retained_until is None or neighbor.retained_until <= now:
                    self._drop_neighbor(link, neighbor, now)
            case AdjacencyAction.FORGET:
                self._end_exchange(link, neighbor)
                self._drop_neighbor(link, neighbor, now)

    def _record_flap(self, link: Link, neighbor: Neighbor, now: float) -> None:
        if link.record_flap(neighbor, now):
            self._log.trace(
                TraceCode.NEIGHBOR_DAMPED,
                link.settings.ifindex,
                neighbor.adjacency.address,
                f"{neighbor.key.router_id} for {link.suppressed_for(neighbor, now):.0f} s",
            )

    def _open_session(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Number the new incarnation, and send a heartbeat with it soon."""
        neighbor.adjacency.open_session(self._next_session(neighbor.adjacency.session), now)
        self._transmitter.hasten_heartbeat(link, now)

    def _next_session(self, last: int) -> int:
        """Return an unpredictable number: not 0, which means unknown, nor the last of the
        adjacency."""
        while True:
            self._sessions += 1
            counted = self._sessions.to_bytes(8, "big")
            digest = hashlib.blake2s(counted, key=self._session_key, digest_size=4).digest()
            session = int.from_bytes(digest, "big")
            if session not in (0, last):
                return session

    def _begin_exchange(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Start our table dump to a neighbor; from here on the multicast stream is for it too."""
        link.newcomers.pop(neighbor.key, None)
        reason = AdjacencyReason.TABLES_BEGUN
        self.fire(link, neighbor, AdjacencyEvent.EXCHANGE_BEGUN, reason, now)
        neighbor.adjacency.begin_loading(now)
        self._table.set_path(neighbor.key, neighbor.path(link.settings), now)
        self._table.counts.set_limit(neighbor.key, link.settings.max_prefixes)
        neighbor.exchange.begin_dump(TableDump(self._listed()), now)
        link.advertiser.pause(now)
        self._transmitter.send_unicast(link, neighbor, (BeginTable(link.multicast_sequence),), now)

    def _end_exchange(self, link: Link, neighbor: Neighbor) -> None:
        """Drop everything that was exchanged in this incarnation."""
        for delivered in neighbor.exchange.sender.abandon():
            self._reporter.record_delivered(link.settings.ifindex, delivered)
        neighbor.exchange = Exchange.fresh(self._rng)
        if not link.listeners():
            link.advertiser.reset()
            self._reporter.record_link_empty(link.settings.ifindex)

    def _retain_routes(self, neighbor: Neighbor, grace_s: float | None, now: float) -> None:
        """Keep a restarting neighbor's routes for its grace; a second restart adds none."""
        self._table.mark_stale(neighbor.key, now)
        if neighbor.retained_until is None:
            unannounced_s = max(neighbor.adjacency.dead_interval_s, GRACE_MIN_S)
            neighbor.retained_until = now + (unannounced_s if grace_s is None else grace_s)

    def _drop_neighbor(self, link: Link, neighbor: Neighbor, now: float) -> None:
        self._table.remove_neighbor(neighbor.key, now)
        link.remove_neighbor(neighbor)

    def check_exchanged(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Remove stale routes when the neighbor's table is complete; go UP when ours is
        acknowledged too."""
        exchange = neighbor.exchange
        if exchange.neighbor_end is not None and not exchange.is_table_received:
            end_sequence, count = exchange.neighbor_end
            cumulative = exchange.receiver.streams[Stream.UNICAST].cumulative
            if cumulative is not None and not is_newer(end_sequence, cumulative):
                exchange.is_table_received = True
                self._check_count(link, neighbor, count)
        if neighbor.retained_until is not None and has_complete_table(exchange):
            self._table.sweep_stale(neighbor.key, now)
            neighbor.retained_until = None
            self.plan_request_if_room(neighbor, now)
        if exchange.is_table_received and exchange.is_table_acknowledged:
            reason = AdjacencyReason.TABLES_EXCHANGED
            self.fire(link, neighbor, AdjacencyEvent.TABLES_EXCHANGED, reason, now)

    def _check_count(self, link: Link, neighbor: Neighbor, count: int) -> None:
        received = neighbor.exchange.updates_received
        if received != count:
            self._log.trace(
                TraceCode.TABLE_COUNT_MISMATCH,
                link.settings.ifindex,
                neighbor.adjacency.address,
                f"{received} of {count} updates",
            )

    def confirm_two_way(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Handle the proof that a neighbor hears us: it has named our session."""
        neighbor.adjacency.confirm(now)
        reason = AdjacencyReason.HEARD_BOTH_WAYS
        self.fire(link, neighbor, AdjacencyEvent.HELLO_TWO_WAY, reason, now)

    def expire(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Apply the timers of one neighbor: dead, one-way, given up, grace over."""
        adjacency = neighbor.adjacency
        if adjacency.state is not AdjacencyState.DOWN and now >= adjacency.dead_at:
            event, reason = AdjacencyEvent.DEAD_TIMER, AdjacencyReason.DEAD_INTERVAL
            self.fire(link, neighbor, event, reason, now)
        elif neighbor.exchanges_routes:
            if now >= adjacency.unconfirmed_at:
                event, reason = AdjacencyEvent.HELLO_ONE_WAY, AdjacencyReason.ONE_WAY
                self.fire(link, neighbor, event, reason, now)
            elif neighbor.exchange.sender.has_given_up(now, adjacency.dead_interval_s):
                link.record_given_up(neighbor, now)
                event, reason = AdjacencyEvent.GIVEN_UP, AdjacencyReason.UNACKNOWLEDGED
                self.fire(link, neighbor, event, reason, now)
        if adjacency.loading_until is not None and now >= adjacency.loading_until:
            adjacency.loading_until = None  # read by `loading`
        request_at = neighbor.exchange.table_request_at
        if neighbor.exchanges_routes and request_at is not None and now >= request_at:
            self._request_table(link, neighbor, now)
        self.report_duplicate_id(link, neighbor, now)
        if neighbor.retained_until is not None and now >= neighbor.retained_until:
            neighbor.retained_until = None
            self._table.sweep_stale(neighbor.key, now)
            if adjacency.state is AdjacencyState.DOWN and self._is_current(link, neighbor):
                self._drop_neighbor(link, neighbor, now)

    def report_duplicate_id(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Trace once that another router has our router id, when a neighbor's routes prove it."""
        watch = neighbor.exchange.duplicate_ids
        prefix = watch.found(now)
        if prefix is not None and not watch.is_reported:
            watch.is_reported = True
            self._log.trace(
                TraceCode.OWN_ID_ELSEWHERE,
                link.settings.ifindex,
                neighbor.adjacency.address,
                f"{prefix} is announced by another router with our router id",
            )

    def plan_request_if_room(self, neighbor: Neighbor, now: float) -> None:
        """Plan to request a table that was refused in part, if there may be room for it now."""
        exchange = neighbor.exchange
        if exchange.table_request_at is None and self._table.counts.has_room_again(neighbor.key):
            exchange.table_request_at = max(now, exchange.table_requested_at + TABLE_REQUEST_GAP_S)

    def plan_table_request(self, neighbor: Neighbor, at: float) -> None:
        """Plan to request a table that was refused in part, no sooner than `at`."""
        exchange = neighbor.exchange
        if exchange.table_request_at is None:
            exchange.table_request_at = max(at, exchange.table_requested_at + TABLE_REQUEST_GAP_S)

    def _request_table(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Request the neighbor's table again; only a complete one can be sent again."""
        exchange = neighbor.exchange
        if not (exchange.is_table_received and exchange.sender.has_room):
            exchange.table_request_at = now + TABLE_REQUEST_WAIT_S
            return
        exchange.table_request_at = None
        if self._table.counts.has_room_again(neighbor.key):
            exchange.table_requested_at = now
            self._table.counts.clear_refused(neighbor.key)
            self._log.count(TraceCode.TABLE_REQUESTED)
            self._transmitter.send_unicast(link, neighbor, (TableRequest(),), now)

    def resend_table(self, neighbor: Neighbor, now: float) -> None:
        """Answer a neighbor's request for our table: from its beginning, if a dump is under way."""
        exchange = neighbor.exchange
        if now < exchange.table_resent_at + TABLE_ANSWER_GAP_S:
            self._log.count(TraceCode.IGNORED_TABLE_REQUEST)
            return
        exchange.table_resent_at = now
        sent_before = exchange.dump.count if exchange.dump is not None else 0
        exchange.begin_dump(TableDump(self._listed(), sent_before), now)

    def _listed(self) -> Sequence[Prefix]:
        """Return all prefixes that may be advertised now, in the order of dumps."""
        return self._order.listed(self._origins.prefixes(), self._table.selections())

    def _is_current(self, link: Link, neighbor: Neighbor) -> bool:
        return link.neighbors.get(neighbor.key) is neighbor

    def refresh_path(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Select again, and name next hops again, after the link's cost or a neighbor's addresses
        changed."""
        if not neighbor.exchanges_routes and neighbor.retained_until is None:
            return
        through = self._table.prefixes_via(neighbor.key)
        self._table.set_path(neighbor.key, neighbor.path(link.settings), now)
        self._reporter.report_all(through, (), now)
        self._table.counts.set_limit(neighbor.key, link.settings.max_prefixes)
        self.plan_request_if_room(neighbor, now)
        link.queue_service(neighbor)


def has_complete_table(exchange: Exchange) -> bool:
    """Return whether a restarted neighbor has advertised all its routes, and all of them have
    arrived."""
    cumulative = exchange.receiver.streams[Stream.MULTICAST].cumulative
    return (
        exchange.is_table_received
        and exchange.converged_sequence is not None
        and cumulative is not None
        and not is_newer(exchange.converged_sequence, cumulative)
    )


_LOSING = frozenset({AdjacencyAction.FALL_BACK, AdjacencyAction.EXPIRE, AdjacencyAction.FORGET})
"""Actions after which the neighbor is no next hop; one whose routes are retained keeps
forwarding."""


def _lost_next_hops(
    link: Link, neighbor: Neighbor, old: AdjacencyState, action: AdjacencyAction
) -> tuple[NextHop, ...]:
    if old is not AdjacencyState.UP or action not in _LOSING:
        return ()
    hops = (neighbor.next_hop(link.settings, family) for family in Family)
    return tuple(dict.fromkeys(hop for hop in hops if hop is not None))
