"""The network as NUP knows it: this router, its neighbors, and whoever announces something.

A distance-vector protocol does not know the links between others. What it knows of a router is how
far the nearest of its prefixes is, and which neighbors lead there.

    requests --views--> Topology --step, step, ...--> one summary of all prefixes, for all who ask

A summary has an entry for each origin, and there may be as many origins as prefixes. So it is made
once for all who ask at the same time, in steps that each of them may take; none of them holds more
than the position that it has come to, and one that goes on with a newer summary misses nothing that
is in both.

Bounds: two summaries, one made and one being made; none when nobody asks. A step looks at
STEP_PREFIXES prefixes, or puts as many entries in order; a chunk has CHUNK_VIEWS views.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from routed.control.views import TopologyView
from routed.engine.router import Router
from routed.model.prefix import Address, Prefix
from routed.nup.events import NeighborRow

__all__ = ["CHUNK_VIEWS", "SHARED_S", "STEP_PREFIXES", "Topology"]

STEP_PREFIXES = 1000
CHUNK_VIEWS = 128
SHARED_S = 1.0
"""How old a summary may be for somebody who asks now."""


@dataclass(slots=True)
class _Known:
    prefixes: int = 0
    metric: int | None = None
    via: tuple[Address, ...] = ()


_NOTHING = _Known()
_END = object()


class _Summary:
    """All origins at one time; made by `step`, in order by router id."""

    def __init__(self, router: Router, now: float) -> None:
        self.done_at: float | None = None
        """Seconds, monotonic; None while it is being made."""
        self.neighbors = router.neighbors.neighbors(now)
        self.known: dict[Address, _Known] = {}
        self.order: list[Address] = []
        self._router = router
        self._by_hop = {(row.address, row.ifindex): row.router_id for row in self.neighbors}
        self._vias: dict[tuple[Address, ...], tuple[Address, ...]] = {}
        """Many origins are reached by the same neighbors."""
        self._steps: Iterator[object] = self._make()

    def step(self, now: float) -> None:
        """Do a part of what is left."""
        if next(self._steps, _END) is _END and self.done_at is None:
            self.done_at = now

    def _make(self) -> Iterator[None]:
        prefixes = list(self._router.origins)
        for start in range(0, len(prefixes), STEP_PREFIXES):
            for prefix in prefixes[start : start + STEP_PREFIXES]:
                self._look_at(prefix)
            yield
        prefixes.clear()
        runs: list[list[Address]] = []
        others = iter(self.known)
        while run := sorted(itertools.islice(others, STEP_PREFIXES)):
            runs.append(run)
            yield
        merged = heapq.merge(*runs)
        while part := list(itertools.islice(merged, STEP_PREFIXES)):
            self.order += part
            yield

    def _look_at(self, prefix: Prefix) -> None:
        origin = self._router.origins.get(prefix)
        if origin is None:
            return  # it has gone meanwhile
        entry = self.known.setdefault(origin, _Known())
        entry.prefixes += 1
        selection = self._router.rib.best(prefix)
        if selection is None:
            return
        metric = selection.attributes.metric
        entry.metric = metric if entry.metric is None else min(entry.metric, metric)
        for hop in selection.next_hops:
            leads = None if hop.via is None else self._by_hop.get((hop.via, hop.ifindex))
            if leads is not None and leads not in entry.via:
                via = (*entry.via, leads)
                entry.via = self._vias.setdefault(via, via)


class Topology:
    """Owns the summaries."""

    def __init__(self, router: Router, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without any.

        Args:
            router: what is summed up.
            now: seconds, monotonic.
        """
        self._router = router
        self._now = now
        self._made: _Summary | None = None
        self._making: _Summary | None = None
        self._readers = 0

    def views(self, router_id: Address) -> Iterator[Sequence[TopologyView]]:
        """Every router, this one first, then neighbors, then the others by router id; chunks may be
        empty.

        To be closed by whoever does not read it to its end.
        """
        self._readers += 1
        try:
            summary = self._begin()
            while summary.done_at is None:
                summary.step(self._now())
                yield []
            if summary is self._making:
                self._made, self._making = summary, None
            yield [TopologyView(router_id, "self", "", None, None, None, None, 0, ())]
            rows, ours = summary.neighbors, {row.router_id for row in summary.neighbors}
            for start in range(0, len(rows), CHUNK_VIEWS):
                some = rows[start : start + CHUNK_VIEWS]
                yield [_neighbor_view(row, summary) for row in some]
            del summary, rows
            after: Address | None = None
            while some_ids := self._ids_after(after):
                after = some_ids[-1]
                yield self._router_views(some_ids, ours)
        finally:
            self._readers -= 1
            if not self._readers:
                self._made = self._making = None

    def _begin(self) -> _Summary:
        """A summary for somebody who asks now: made a moment ago, being made, or to be made."""
        if self._making is not None:
            return self._making
        made, oldest = self._made, self._now() - SHARED_S
        if made is not None and made.done_at is not None and made.done_at >= oldest:
            return made
        self._making = _Summary(self._router, self._now())
        return self._making

    def _ids_after(self, after: Address | None) -> list[Address]:
        assert self._made is not None  # there is a reader
        order = self._made.order
        start = 0 if after is None else bisect.bisect_right(order, after)
        return order[start : start + CHUNK_VIEWS]

    def _router_views(
        self, ids: Sequence[Address], ours: set[Address | None]
    ) -> list[TopologyView]:
        assert self._made is not None
        known = self._made.known
        return [
            TopologyView(each, "router", "", None, None, None, *_reach(known[each]))
            for each in ids
            if each not in ours
        ]


def _neighbor_view(row: NeighborRow, summary: _Summary) -> TopologyView:
    known = _NOTHING if row.router_id is None else summary.known.get(row.router_id, _NOTHING)
    return TopologyView(
        row.router_id,
        "neighbor",
        row.ifname,
        row.address,
        row.state.value,
        row.cost,
        *_reach(known),
    )


def _reach(entry: _Known) -> tuple[int | None, int, tuple[str, ...]]:
    return entry.metric, entry.prefixes, tuple(map(str, sorted(entry.via)))
