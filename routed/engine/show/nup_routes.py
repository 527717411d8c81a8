"""NUP's own table for `show nup routes`, in the order of prefixes.

The table has no order of its own: a walk over all of it sorts a copy of its prefixes in runs, a run
in each turn of the event loop, and merges them. So a walk holds a reference to each prefix, 8 bytes
and a little more, and at most WALKS_MAX walks exist at the same time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator, Iterator, Sequence
from inspect import GEN_CLOSED, getgeneratorstate
from weakref import WeakSet

from routed.control.nup_views import NupRouteView
from routed.control.selection import NupRouteSelector
from routed.engine.router import Router
from routed.model.prefix import Prefix
from routed.nup.route_rows import NupRouteRow

__all__ = ["WALKS_MAX", "NupChunks", "NupRouteTable"]

WALKS_MAX = 4
"""Walks over the whole table at the same time: 32 MB for four times a million prefixes."""

_RUN = 2000
"""Prefixes that are sorted in one turn: 2 ms."""
_CHUNK = 64
"""Prefixes in one chunk of rows: 1 to 2 ms."""

NupChunks = Generator[Sequence[NupRouteView], None, None]


class NupRouteTable:
    """Reads NUP's table, and limits the number of walks."""

    def __init__(self, router: Router) -> None:
        """Show the table of a router."""
        self._router = router
        self._walks: WeakSet[NupChunks] = WeakSet()

    def rows(self, selector: NupRouteSelector) -> NupChunks | None:
        """Return the selected rows in chunks; None if too many walks are under way."""
        if selector.prefix is not None:
            return self._chunks(selector, iter([selector.prefix]))
        # A session may drop a walk that it has not begun, so no code of the walk can count it.
        if sum(getgeneratorstate(walk) != GEN_CLOSED for walk in self._walks) >= WALKS_MAX:
            return None
        walk = self._walk(selector)
        self._walks.add(walk)
        return walk

    def _walk(self, selector: NupRouteSelector) -> NupChunks:
        prefixes = self._router.neighbors.route_rows.prefixes()
        runs = []
        for at in range(0, len(prefixes), _RUN):
            runs.append(sorted(prefixes[at : at + _RUN]))
            yield []
        del prefixes
        in_order = (prefix for prefix, _ in itertools.groupby(heapq.merge(*runs)))
        yield from self._chunks(selector, in_order)

    def _chunks(self, selector: NupRouteSelector, prefixes: Iterator[Prefix]) -> NupChunks:
        while chunk := list(itertools.islice(prefixes, _CHUNK)):
            yield [self._view(row) for prefix in chunk for row in self._rows(selector, prefix)]

    def _rows(self, selector: NupRouteSelector, prefix: Prefix) -> Iterator[NupRouteRow]:
        table, neighbor = self._router.neighbors.route_rows, selector.neighbor
        if selector.direction != "advertised":
            yield from table.received(prefix, neighbor)
        if selector.direction != "received":
            links = None if neighbor is None else table.links_of(neighbor)
            yield from table.advertised(prefix, links)

    def _view(self, row: NupRouteRow) -> NupRouteView:
        return NupRouteView(
            prefix=row.prefix,
            direction="advertised" if row.is_advertised else "received",
            neighbor=None if row.key is None else row.key.router_id,
            interface=self._router.ifname_of(row.ifindex),
            metric=row.metric,
            origin=row.origin,
            seqno=row.seqno,
            distance_seqno=None if row.distance is None else row.distance.seqno,
            distance_metric=None if row.distance is None else row.distance.metric,
            state=_state(row),
            tag=row.tag,
            is_external=row.is_external,
            is_stale=row.is_stale,
        )


def _state(row: NupRouteRow) -> str:
    if row.is_advertised:
        return "advertised"
    if not row.is_accepted:
        return "refused"
    if row.is_selected:
        return "selected"
    return "feasible" if row.is_feasible else "infeasible"
