"""Seqno requests on their way to the origin: granted here, or passed on.

Source: RFC 8966 section 3.8.1.2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from routed.model.prefix import Address, Prefix
from routed.model.seqno import is_newer_origin
from routed.neighbor.advertise import OriginTable
from routed.neighbor.events import TraceCode
from routed.neighbor.feasibility import NeighborKey, RouteTable
from routed.neighbor.links import Link, Neighbor
from routed.neighbor.outputs import OutputLog
from routed.neighbor.raising import Raise
from routed.neighbor.wire import SeqnoRequest

__all__ = ["RequestRelay"]

FORWARD_SUPPRESS_S = 0.3
"""The same seqno request is not passed on twice within this time (RFC 8966 section 3.8.1.2)."""
MAX_FORWARDED = 4096


class RequestRelay:
    """Owns what has been passed on lately, so that no request goes round in circles."""

    def __init__(
        self,
        router_id: Address,
        log: OutputLog,
        table: RouteTable,
        origins: OriginTable,
        links: Mapping[int, Link],
        mark_dirty: Callable[[Prefix, float], None],
    ) -> None:
        self._router_id = router_id
        self._log = log
        self._table = table
        self._origins = origins
        self._links = links
        self._mark_dirty = mark_dirty
        self._forwarded: OrderedDict[tuple[Prefix, Address], tuple[int, float]] = OrderedDict()
        """Oldest first."""

    def send_due(self, now: float) -> None:
        """Queue what our own table asks for."""
        for key, request in self._table.take_requests(now):
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
        elif self._may_forward(request, now):
            self._pass_on(request, neighbor.key)

    def _answer(self, link: Link, request: SeqnoRequest, now: float) -> None:
        """Raise the seqno of a prefix of ours, or tell the link of it as it is."""
        prefix = request.prefix
        verdict = Raise.BEHIND
        if request.origin == self._router_id:
            verdict = self._origins.raise_seqno(prefix, request.seqno, now)
        match verdict:
            case Raise.GRANTED:
                self._log.count(TraceCode.SEQNO_RAISED)
                self._mark_dirty(prefix, now)
            case Raise.BEHIND:
                link.advertiser.mark(prefix, now)
            case Raise.TOO_FAR | Raise.TOO_SOON:
                self._log.count(TraceCode.SEQNO_RAISE_REFUSED)

    def _pass_on(self, request: SeqnoRequest, requester: NeighborKey) -> None:
        """Send a request towards its origin; it is counted down only where it might go astray."""
        keys, is_on_route = self._table.forwarders(request, requester)
        hop_count = request.hop_count - (not is_on_route)
        if hop_count == 0:
            return
        passed_on = SeqnoRequest(request.prefix, request.origin, request.seqno, hop_count)
        for key in keys:
            self._log.count(TraceCode.SEQNO_REQUEST_FORWARDED)
            self.queue(key, passed_on)

    def _may_forward(self, request: SeqnoRequest, now: float) -> bool:
        """Whether this request has not just been passed on; notes that it now is."""
        key = (request.prefix, request.origin)
        seqno, until = self._forwarded.pop(key, (0, 0.0))
        if now < until and not is_newer_origin(request.seqno, seqno):
            self._forwarded[key] = (seqno, until)
            return False
        while len(self._forwarded) >= MAX_FORWARDED:
            del self._forwarded[next(iter(self._forwarded))]
        self._forwarded[key] = (request.seqno, now + FORWARD_SUPPRESS_S)
        return True

    def queue(self, key: NeighborKey, request: SeqnoRequest) -> None:
        """Send a request when the neighbor's window has room; a newer one replaces it."""
        link = self._links.get(key.ifindex)
        if link is None:
            return
        neighbor = link.neighbors.get(key)
        if neighbor is not None and neighbor.exchanges_routes:
            neighbor.exchange.requests[request.prefix, request.origin] = request
            link.attend(neighbor)
