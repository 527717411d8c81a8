"""Pending seqno requests, for prefixes whose only route or better route is not feasible.

A request is sent after REQUEST_DELAY_S, then repeated in doubling intervals, at most
REQUEST_RETRY_MAX_S, until the origin has raised its seqno or another request replaces it. The
number of routes of each neighbor that wait for a seqno is counted for display.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Prefix
from routed.nup.routes.entries import NeighborKey

__all__ = ["REQUEST_DELAY_S", "REQUEST_RETRY_S", "PendingSeqnoRequests"]

REQUEST_DELAY_S = 0.002
"""Delay of the first request: retractions that make it unnecessary usually arrive together with
its cause."""
REQUEST_RETRY_S = 0.35
"""Delay of the first repetition. It is longer than relays suppress equal requests
(`seqno_relay.FORWARD_SUPPRESS_S`): a request is lost if a relay passes it on to a router that has
failed and whose adjacency has not expired yet."""
REQUEST_RETRY_MAX_S = 8.0


@dataclass(slots=True)
class _Pending:
    """A request to the origin of a prefix."""

    origin: Address
    seqno: int
    keys: tuple[NeighborKey, ...]
    """The neighbors whose routes are not feasible."""
    since: float
    next_at: float
    interval_s: float = REQUEST_RETRY_S


class PendingSeqnoRequests:
    """Owner of the pending requests, at most one for each prefix."""

    def __init__(self) -> None:
        self._pending: dict[Prefix, _Pending] = {}
        self._waiting: Counter[NeighborKey] = Counter()
        self._heap: list[tuple[float, Prefix]] = []
        """It has stale entries of requests that were dropped, or sent since."""

    def add(
        self,
        prefix: Prefix,
        origin: Address,
        seqno: int,
        keys: tuple[NeighborKey, ...],
        now: float,
    ) -> None:
        """Request a seqno of an origin. An equal request that is pending keeps its time.

        Args:
            prefix: with a route that waits.
            origin: of the route that waits.
            seqno: that would make it feasible.
            keys: the neighbors whose routes are not feasible.
            now: seconds, monotonic.
        """
        request = self._pending.get(prefix)
        if request is not None:
            self._waiting.subtract(request.keys)
        self._waiting.update(keys)
        if request is not None and (request.origin, request.seqno) == (origin, seqno):
            request.keys = keys
            return
        since = now if request is None else request.since
        self._pending[prefix] = _Pending(origin, seqno, keys, since, now + REQUEST_DELAY_S)
        heapq.heappush(self._heap, (now + REQUEST_DELAY_S, prefix))

    def drop(self, prefixes: Iterable[Prefix]) -> None:
        """Drop the requests for these prefixes."""
        if self._pending:
            for prefix in prefixes:
                request = self._pending.pop(prefix, None)
                if request is not None:
                    self._waiting.subtract(request.keys)
            if not self._pending:
                self._waiting.clear()

    def waiting(self, key: NeighborKey) -> int:
        """Return how many routes of a neighbor wait for a newer seqno."""
        return self._waiting[key]

    def waits_since(self, prefix: Prefix) -> float | None:
        """Return since when a route to a prefix waits; None when none does."""
        request = self._pending.get(prefix)
        return None if request is None else request.since

    def pop_due(self, now: float) -> Iterator[tuple[Prefix, Address, int]]:
        """Yield prefix, origin and seqno of the requests to send now; each is due again later."""
        while self._heap and self._heap[0][0] <= now:
            next_at, prefix = heapq.heappop(self._heap)
            request = self._pending.get(prefix)
            if request is None or request.next_at != next_at:
                continue  # granted, or moved
            request.next_at = now + request.interval_s
            request.interval_s = min(request.interval_s * 2, REQUEST_RETRY_MAX_S)
            heapq.heappush(self._heap, (request.next_at, prefix))
            yield prefix, request.origin, request.seqno

    def next_times(self) -> list[float]:
        """Return when the next may be due, as a list of one or none."""
        return [self._heap[0][0]] if self._heap else []
