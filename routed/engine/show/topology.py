"""The network as NUP knows it: this router, its neighbors, and whoever announces something.

A distance-vector protocol does not know the links between others. What it knows of a router is how
far the nearest of its prefixes is, and which neighbors lead there. That is summed up by one walk
over all prefixes, for everybody who asks at the same time:

    RIB, origins --TopologyWalk, a step in each turn--> TopologySummary --by router id--> readers

A reader keeps the router id that it has come to, and nothing else; when a newer summary takes the
place of the one that it reads, it goes on there. So two summaries are all there are, the one that
is read and the one that is made, however many clients ask and however slowly they read, and both
are gone with the last of these clients.

Invariants:
    A step is STEP_WORK, and the next hops of one route, at most: 1 to 2 ms.
    A reader is shown once each router that stays known, and stays a neighbor or none, meanwhile.
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
"""Work between two turns of the event loop; a prefix is one, what else there is of it a little
more."""

CHUNK_ROWS = 128
"""Routers shown between two turns."""

NEIGHBORS_CHUNK = 64

VIA_MAX = 32
"""Neighbors that are named of those that lead to a router: the first ones by router id."""

_MEMO_MAX = 1024
"""Distinct next hops of routes that are remembered while a walk lasts."""

Via = tuple[Address, ...]


class TopologySummary:
    """What is known of each router that announces something. About 150 bytes a router."""

    def __init__(self) -> None:
        self.router_ids: list[Address] = []
        """In order; complete once the walk is."""
        self.made_at = 0.0
        self._numbers: dict[Address, int] = {}
        self._prefixes = array("L")
        self._metrics = array("q")
        """-1 while none is reached."""
        self._via: list[Via] = []

    def number_of(self, router_id: Address) -> int | None:
        """The place of a router that was seen before."""
        return self._numbers.get(router_id)

    def enter(self, router_id: Address) -> int:
        """Give a router that is new a place."""
        number = self._numbers[router_id] = len(self._via)
        self._prefixes.append(0)
        self._metrics.append(-1)
        self._via.append(())
        return number

    def add(self, number: int, metric: int | None) -> None:
        """One more prefix; None for one that is not reached."""
        self._prefixes[number] += 1
        if metric is not None and not 0 <= self._metrics[number] <= metric:
            self._metrics[number] = metric

    def via(self, number: int) -> Via:
        """Who leads there, as far as is known."""
        return self._via[number]

    def set_via(self, number: int, via: Via) -> None:
        """Others do, too."""
        self._via[number] = via

    def reach(self, router_id: Address | None) -> tuple[int | None, int, tuple[str, ...]]:
        """The columns `metric`, `prefixes` and `via` of a router."""
        number = None if router_id is None else self._numbers.get(router_id)
        if number is None:
            return None, 0, ()
        metric = self._metrics[number]
        via = tuple(map(str, self._via[number]))
        return None if metric < 0 else metric, self._prefixes[number], via


class TopologyWalk:
    """Makes a summary, step by step."""

    def __init__(self, router: Router) -> None:
        self.summary = TopologySummary()
        self._router = router
        self._legs: dict[tuple[Address, int], Address] = {}
        """Whose address on which link it is."""
        self._leads: dict[int, tuple[tuple[NextHop, ...], Via]] = {}
        """By identity of the next hops, which are kept: nothing else then has their identity."""
        self._runs: list[list[Address]] = [[]]
        """Router ids, as they were found; all runs but the last are in order."""
        self._steps = self._walk()

    def step(self) -> bool:
        """Go on; whether the summary is complete."""
        return next(self._steps, None) is None

    def _walk(self) -> Iterator[object]:
        for chunk in neighbor_chunks(self._router):
            self._legs.update(
                ((row.address, row.ifindex), row.router_id)
                for row in chunk
                if row.router_id is not None
            )
            yield self
        after: Prefix | None = None
        while prefixes := self._router.rib.prefixes_after(after, STEP_WORK):
            after = self._sum_up(prefixes)
            yield self
        self._legs, self._leads = {}, {}
        self._runs[-1].sort()
        merged = heapq.merge(*self._runs)
        while found := list(itertools.islice(merged, STEP_WORK)):
            self.summary.router_ids += found
            yield self
        self._runs = []

    def _sum_up(self, prefixes: Sequence[Prefix]) -> Prefix:
        """Enter as many prefixes as there is work allowed; the last one of them."""
        work, origins = 0, self._router.origins
        for prefix in prefixes:
            origin = origins.get(prefix)
            work += 1 if origin is None else self._enter(prefix, origin)
            if work >= STEP_WORK:
                return prefix
        return prefixes[-1]

    def _enter(self, prefix: Prefix, origin: Address) -> int:
        """Count a prefix for the router that announces it; how much work that was."""
        summary = self.summary
        number = summary.number_of(origin)
        if number is None:
            number = summary.enter(origin)
            self._add_to_run(origin)
        selection = self._router.rib.best(prefix)
        if selection is None:
            summary.add(number, None)
            return 2
        summary.add(number, selection.attributes.metric)
        leads, work = self._leading(selection.next_hops)
        via = summary.via(number)
        if leads is not via and leads != via:
            summary.set_via(number, tuple(sorted({*via, *leads})[:VIA_MAX]) if via else leads)
            work += len(via) + len(leads)
        return 2 + work

    def _add_to_run(self, router_id: Address) -> None:
        run = self._runs[-1]
        if len(run) == STEP_WORK:
            run.sort()
            run = []
            self._runs.append(run)
        run.append(router_id)

    def _leading(self, next_hops: tuple[NextHop, ...]) -> tuple[Via, int]:
        """The neighbors that next hops are of, and how much work it was to find them."""
        known = self._leads.get(id(next_hops))
        if known is not None:
            return known[1], 0
        if len(self._leads) >= _MEMO_MAX:
            self._leads.clear()
        legs = self._legs
        found = {
            leads
            for hop in next_hops
            if hop.via is not None and (leads := legs.get((hop.via, hop.ifindex))) is not None
        }
        via = tuple(sorted(found)[:VIA_MAX])
        self._leads[id(next_hops)] = next_hops, via
        return via, len(next_hops)


class TopologyTable:
    """Shows summaries to readers; owns the two that there may be."""

    def __init__(self, router: Router, now: Callable[[], float] = time.monotonic) -> None:
        """Args:
        router: whose rooms are looked at.
        now: seconds, monotonic.
        """
        self._router = router
        self._now = now
        self._summary: TopologySummary | None = None
        self._walk: TopologyWalk | None = None
        self._readers = 0

    def rows(self, router_id: Address) -> Generator[Sequence[TopologyView], None, None]:
        """Every router, this one first, then neighbors, then the others by router id.

        Chunks are empty while the summary is made. Close it when nobody wants the rest.
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
        """Take steps until there is a summary that was made at this time or later.

        Whoever waits for it takes the next step of the one walk.
        """
        while self._summary is None or self._summary.made_at < oldest:
            if self._walk is None:
                self._walk = TopologyWalk(self._router)
            if self._walk.step():
                self._summary, self._walk = self._walk.summary, None
                self._summary.made_at = self._now()
            yield ()

    def _router_ids_after(self, last: Address | None) -> Sequence[Address]:
        """The next ones of the summary that is there now."""
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
    """Every adjacency, few at a time; a walk holds its position and nothing else."""
    after = None
    while rows := router.neighbors.neighbors_after(after, NEIGHBORS_CHUNK, time.monotonic()):
        yield rows
        after = position_of(rows[-1])
