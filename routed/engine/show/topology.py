"""The network as NUP knows it: this router, its neighbors, and all routers that originate prefixes.

A distance-vector protocol does not know the links between other routers. Of a router it knows how
far the nearest of its prefixes is, and through which neighbors it is reached. One walk over all
prefixes sums that up, for all clients that ask at the same time:

    RIB, origins --TopologyWalk, a step in each turn--> TopologySummary --by router id--> readers

A reader holds the last router id that it was given, and nothing else. When a newer summary replaces
the one that it reads, it continues there. So there are at most two summaries, one that is read and
one that is made, however many clients ask and however slowly they read, and both are released with
the last of these clients.

Invariants:
    A step is at most STEP_WORK, and the next hops of one route: 1 to 2 ms.
    A reader is given once each router that stays known, and whose role does not change, meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence

from routed.control.tables import SHARED_S
from routed.control.views import TopologyView
from routed.engine.router import Router
from routed.model.prefix import Address, Prefix
from routed.model.route import NextHop
from routed.nup.events import NeighborRow
from routed.nup.views import position_of

__all__ = ["STEP_WORK", "VIA_MAX", "TopologyTable", "neighbor_chunks"]

STEP_WORK = 1000
"""Units of work between two turns of the event loop: one for a prefix, and more for its origin
and next hops."""

CHUNK_ROWS = 128
"""Routers in one chunk."""

NEIGHBORS_CHUNK = 64
"""Adjacencies in one chunk."""

VIA_MAX = 32
"""Neighbors listed for a router that is reached through more: the first ones by router id."""

_MEMO_MAX = 1024
"""Distinct next hops of routes whose neighbors are cached during a walk."""

Via = tuple[Address, ...]


class TopologySummary:
    """Distance and neighbors of each router that originates prefixes. About 150 bytes a router."""

    def __init__(self) -> None:
        """Begin without routers."""
        self.router_ids: list[Address] = []
        """Ascending; complete once the walk is."""
        self._numbers: dict[Address, int] = {}
        self._prefixes = array("L")
        self._metrics = array("q")
        """-1 while no prefix is reached."""
        self._via: list[Via] = []

    def number_of(self, router_id: Address) -> int | None:
        """Return the number of a router; None if it is new."""
        return self._numbers.get(router_id)

    def add_router(self, router_id: Address) -> int:
        """Add a new router, and return its number."""
        number = self._numbers[router_id] = len(self._via)
        self._prefixes.append(0)
        self._metrics.append(-1)
        self._via.append(())
        return number

    def count(self, number: int, metric: int | None) -> None:
        """Count a prefix of a router; its metric is None if it is not reached."""
        self._prefixes[number] += 1
        if metric is not None and not 0 <= self._metrics[number] <= metric:
            self._metrics[number] = metric

    def via(self, number: int) -> Via:
        """Return the neighbors through which a router is reached, as far as they are known."""
        return self._via[number]

    def set_via(self, number: int, via: Via) -> None:
        """Set the neighbors through which a router is reached."""
        self._via[number] = via

    def reach(self, router_id: Address | None) -> tuple[int | None, int, tuple[str, ...]]:
        """Return the columns `metric`, `prefixes` and `via` of a router."""
        number = None if router_id is None else self._numbers.get(router_id)
        if number is None:
            return None, 0, ()
        metric = self._metrics[number]
        via = tuple(map(str, self._via[number]))
        return None if metric < 0 else metric, self._prefixes[number], via


class TopologyWalk:
    """Owns a summary that is being made, step by step."""

    def __init__(self, router: Router) -> None:
        """Begin a walk over a router's prefixes."""
        self.summary = TopologySummary()
        self._router = router
        self._neighbors_at: dict[tuple[Address, int], Address] = {}
        """Router ids by address and link."""
        self._via_cache: dict[int, tuple[tuple[NextHop, ...], Via]] = {}
        """Neighbors by identity of the next hops, which are kept so that no other object has it."""
        self._runs: list[list[Address]] = [[]]
        """Router ids in runs, each sorted but the last."""
        self._steps = self._walk()

    def step(self) -> bool:
        """Take one step. Returns whether the summary is complete."""
        return next(self._steps, None) is None

    def _walk(self) -> Iterator[object]:
        for chunk in neighbor_chunks(self._router):
            self._neighbors_at.update(
                ((row.address, row.ifindex), row.router_id)
                for row in chunk
                if row.router_id is not None
            )
            yield self
        after: Prefix | None = None
        while prefixes := self._router.rib.prefixes_after(after, STEP_WORK):
            after = self._sum_up(prefixes)
            yield self
        self._neighbors_at, self._via_cache = {}, {}
        self._runs[-1].sort()
        merged = heapq.merge(*self._runs)
        while found := list(itertools.islice(merged, STEP_WORK)):
            self.summary.router_ids += found
            yield self
        self._runs = []

    def _sum_up(self, prefixes: Sequence[Prefix]) -> Prefix:
        """Count prefixes until the work of a step is done. Returns the last one."""
        work, origins = 0, self._router.origins
        for prefix in prefixes:
            origin = origins.get(prefix)
            work += 1 if origin is None else self._count(prefix, origin)
            if work >= STEP_WORK:
                return prefix
        return prefixes[-1]

    def _count(self, prefix: Prefix, origin: Address) -> int:
        """Count a prefix for the router that originates it. Returns the work done."""
        summary = self.summary
        number = summary.number_of(origin)
        if number is None:
            number = summary.add_router(origin)
            self._add_to_run(origin)
        best_path = self._router.rib.best(prefix)
        if best_path is None:
            summary.count(number, None)
            return 2
        summary.count(number, best_path.attributes.metric)
        found, work = self._via_of(best_path.next_hops)
        via = summary.via(number)
        if found is not via and found != via:
            summary.set_via(number, tuple(sorted({*via, *found})[:VIA_MAX]) if via else found)
            work += len(via) + len(found)
        return 2 + work

    def _add_to_run(self, router_id: Address) -> None:
        run = self._runs[-1]
        if len(run) == STEP_WORK:
            run.sort()
            run = []
            self._runs.append(run)
        run.append(router_id)

    def _via_of(self, next_hops: tuple[NextHop, ...]) -> tuple[Via, int]:
        """Return the neighbors that next hops belong to, and the work done."""
        known = self._via_cache.get(id(next_hops))
        if known is not None:
            return known[1], 0
        if len(self._via_cache) >= _MEMO_MAX:
            self._via_cache.clear()
        neighbors_at = self._neighbors_at
        found = {
            router_id
            for hop in next_hops
            if hop.via is not None
            and (router_id := neighbors_at.get((hop.via, hop.ifindex))) is not None
        }
        via = tuple(sorted(found)[:VIA_MAX])
        self._via_cache[id(next_hops)] = next_hops, via
        return via, len(next_hops)


class TopologyTable:
    """Owns the summary that is read, and the walk that makes the next one."""

    def __init__(self, router: Router, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without a summary.

        Args:
            router: whose prefixes and neighbors are shown.
            now: seconds, monotonic.
        """
        self._router = router
        self._now = now
        self._summary: TopologySummary | None = None
        self._made_at = 0.0
        self._walk: TopologyWalk | None = None
        self._readers = 0

    def rows(self, router_id: Address) -> Generator[Sequence[TopologyView], None, None]:
        """Iterate over every router: this one, then neighbors, then the others by router id.

        Chunks are empty while the summary is made. The caller closes the generator.
        """
        self._readers += 1
        try:
            yield from self._make_summary(self._now() - SHARED_S)
            yield [TopologyView(router_id, "self", "", None, None, None, None, 0, ())]
            for chunk in neighbor_chunks(self._router):
                yield [self._neighbor_view(row) for row in chunk]
            last: Address | None = None
            while found := self._router_ids_after(last):
                last = found[-1]
                yield self._router_views(found)
        finally:
            self._readers -= 1
            if not self._readers:
                self._summary = self._walk = None

    def _make_summary(self, oldest: float) -> Generator[Sequence[TopologyView], None, None]:
        """Take steps until there is a summary made at a time or later.

        All readers that wait for it take steps of the same walk.
        """
        while self._summary is None or self._made_at < oldest:
            if self._walk is None:
                self._walk = TopologyWalk(self._router)
            if self._walk.step():
                self._summary, self._walk = self._walk.summary, None
                self._made_at = self._now()
            yield ()

    def _router_ids_after(self, last: Address | None) -> Sequence[Address]:
        """Return the next router ids of the present summary."""
        assert self._summary is not None  # there is a reader
        router_ids = self._summary.router_ids
        start = 0 if last is None else bisect_right(router_ids, last)
        return router_ids[start : start + CHUNK_ROWS]

    def _router_views(self, router_ids: Sequence[Address]) -> Sequence[TopologyView]:
        assert self._summary is not None
        shown = self._router.neighbors.neighbor_ids()
        return [
            TopologyView(each, "router", "", None, None, None, *self._summary.reach(each))
            for each in router_ids
            if each not in shown
        ]

    def _neighbor_view(self, row: NeighborRow) -> TopologyView:
        assert self._summary is not None
        return TopologyView(
            row.router_id,
            "neighbor",
            row.ifname,
            row.address,
            row.state.value,
            row.cost,
            *self._summary.reach(row.router_id),
        )


def neighbor_chunks(router: Router) -> Iterator[Sequence[NeighborRow]]:
    """Iterate over every adjacency, a few at a time; a walk holds only its position."""
    after = None
    while rows := router.neighbors.neighbors_after(after, NEIGHBORS_CHUNK, time.monotonic()):
        yield rows
        after = position_of(rows[-1])
