"""Seqno requests on their way to the origin: granted here, or passed on.

Source: RFC 8966 section 3.8.1.2.
"""

from __future__ import annotations

from collections import OrderedDict

from routed.model.prefix import Address, Prefix
from routed.model.seqno import REACH, is_newer_origin, seqno_distance
from routed.nup.events import TraceCode
from routed.nup.link.state import Link, Neighbor
from routed.nup.pending_updates import PendingUpdates
from routed.nup.routes.seqno_limits import Raise
from routed.nup.routes.table import NeighborKey
from routed.nup.shared_state import SharedState
from routed.nup.wire.message import SeqnoRequest

__all__ = ["RequestRelay"]

FORWARD_SUPPRESS_S = 0.3
"""Time for which a seqno request is not passed on again (RFC 8966 section 3.8.1.2).

Requests are equal if they name the same seqno. A newer seqno does not suppress an older one: a
router that requests seqnos that no origin ever grants would block the requests of all others. Nor
does a request with fewer hops left.
"""
MAX_FORWARDED = 4096
REQUEST_REACH = REACH // 2
"""A seqno further ahead of all that we know of an origin is not granted (`seqno_limits.LEAP`)."""


class RequestRelay:
    """Owner of the requests passed on lately, so that no request circles."""

    def __init__(self, state: SharedState, pending_updates: PendingUpdates) -> None:
        self._router_id = state.own.router_id
        self._log = state.log
        self._table = state.table
        self._origins = state.origins
        self._links = state.links
        self._pending_updates = pending_updates
        self._forwarded: OrderedDict[tuple[Prefix, Address, int], tuple[int, float]] = OrderedDict()
        """Remaining hops of a request that was passed on, and the time until which it is not passed
        on again, by prefix, origin and seqno. Oldest first."""

    def send_due(self, now: float) -> None:
        """Queue the requests of our own route table."""
        for key, request in self._table.pop_requests(now):
            self._log.count(TraceCode.SEQNO_REQUEST_SENT)
            self.queue(key, request)

    def receive(self, link: Link, neighbor: Neighbor, request: SeqnoRequest, now: float) -> None:
        """Grant a seqno request, or pass it on towards the origin (RFC 8966 section 3.8.1.2)."""
        prefix = request.prefix
        own = self._origins.get(prefix)
        if own is not None:
            self._answer(link, request, now)
            return
        selection = self._table.selection(prefix)
        if selection is not None and (
            selection.origin != request.origin
            or not is_newer_origin(request.seqno, selection.seqno)
        ):
            link.advertiser.mark(prefix, now)
        elif self._is_far_ahead(request):
            self._log.count(TraceCode.IGNORED_SEQNO_REQUEST)
        elif self._may_forward(request, now):
            self._pass_on(request, neighbor.key)

    def _answer(self, link: Link, request: SeqnoRequest, now: float) -> None:
        """Raise the seqno of a prefix of ours, or advertise it on the link as it is."""
        prefix = request.prefix
        verdict = Raise.BEHIND
        if request.origin == self._router_id:
            verdict = self._origins.raise_seqno(prefix, request.seqno, now)
        match verdict:
            case Raise.GRANTED:
                self._log.count(TraceCode.SEQNO_RAISED)
                self._pending_updates.mark(prefix, now)
            case Raise.BEHIND:
                link.advertiser.mark(prefix, now)
            case Raise.TOO_FAR | Raise.TOO_SOON:
                self._log.count(TraceCode.SEQNO_RAISE_REFUSED)

    def _pass_on(self, request: SeqnoRequest, requester: NeighborKey) -> None:
        """Pass a request on towards its origin; its hop count falls only where it could circle."""
        keys, is_on_route = self._table.forwarders(request, requester)
        hop_count = request.hop_count - (not is_on_route)
        if hop_count == 0:
            return
        passed_on = SeqnoRequest(request.prefix, request.origin, request.seqno, hop_count)
        for key in keys:
            self._log.count(TraceCode.SEQNO_REQUEST_FORWARDED)
            self.queue(key, passed_on)

    def _may_forward(self, request: SeqnoRequest, now: float) -> bool:
        """Return whether this request has not been passed on recently, and record that it is
        now."""
        key = (request.prefix, request.origin, request.seqno)
        hop_count, until = self._forwarded.get(key, (0, 0.0))
        if now < until and request.hop_count <= hop_count:
            return False
        self._forwarded.pop(key, None)
        while len(self._forwarded) >= MAX_FORWARDED:
            del self._forwarded[next(iter(self._forwarded))]
        self._forwarded[key] = (request.hop_count, now + FORWARD_SUPPRESS_S)
        return True

    def _is_far_ahead(self, request: SeqnoRequest) -> bool:
        """Return whether a request names a seqno more than REQUEST_REACH beyond every one known of
        its origin for the prefix. A request for an unknown origin does not."""
        known = [
            route.seqno
            for _, _, route, _ in self._table.learned_of(request.prefix)
            if route.origin == request.origin
        ]
        return bool(known) and all(
            seqno_distance(request.seqno, seqno) > REQUEST_REACH for seqno in known
        )

    def queue(self, key: NeighborKey, request: SeqnoRequest) -> None:
        """Send a request when the neighbor's window has room; the same one waits only once."""
        link = self._links.get(key.ifindex)
        if link is None:
            return
        neighbor = link.neighbors.get(key)
        if neighbor is None:
            return
        waiting, name = neighbor.exchange.requests, (request.prefix, request.origin, request.seqno)
        if len(waiting) >= MAX_FORWARDED and name not in waiting:
            return  # the router that waits for it repeats the request
        if neighbor.exchanges_routes:
            waiting[name] = request
            link.queue_service(neighbor)
