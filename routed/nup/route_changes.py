"""Reports of learned, held and lost routes to the rest of the daemon.

A route is compared with what was reported last, so that a changed seqno, or a selection that is
what it was, causes no report. A prefix that becomes unreachable while neighbors may still use us
for it is held first, and lost when all of them have acknowledged the retraction (see
`advertise.RetractionHold`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeAlias

from routed.model.prefix import Family, Prefix
from routed.model.route import NextHop
from routed.nup.events import LearnedPath, RouteHeld, RouteLost, RoutesLearned
from routed.nup.routes.table import NeighborKey, SelectedRoute
from routed.nup.shared_state import SharedState
from routed.nup.transport.reliable import OutgoingData

__all__ = ["ByNeighbors", "Reported", "RouteReporter"]

ByNeighbors: TypeAlias = dict[tuple[NeighborKey, ...], list[Prefix]]
"""Prefixes by the neighbors that they are reached through; () for none."""


class Reported(NamedTuple):
    """Prefixes that are to be advertised after a report."""

    by_next_hop: ByNeighbors
    """Prefixes to advertise now."""
    waiting_prefixes: Collection[Prefix]
    """Prefixes to advertise when the kernel has been updated."""


class RouteReporter:
    """Turns selections into RoutesLearned, RouteHeld and RouteLost; owns what was reported."""

    def __init__(self, state: SharedState) -> None:
        self._log = state.log
        self._table = state.table
        self._origins = state.origins
        self._hold = state.hold
        self._links = state.links
        self._wait = state.wait
        self._reported: dict[Prefix, LearnedPath] = {}

    def report_all(
        self, prefixes: Collection[Prefix], better: Collection[Prefix], now: float
    ) -> Reported:
        """Report the routes to these prefixes, each if it differs from what was reported last.

        Args:
            prefixes: any.
            better: those of them of which we claim something better than before. With the
                forwarding wait on, these are reported in any case: the receiver is to report when
                the kernel has been updated.
            now: seconds, monotonic.

        Cost: 0.5 us each where they share their routes.
        """
        if not (better and self._wait.is_on):
            return Reported(self._report(prefixes, is_always=False), ())
        waiting_prefixes, others = prefixes, []
        if len(better) < len(prefixes):
            waiting_prefixes = [prefix for prefix in prefixes if prefix in better]
            others = [prefix for prefix in prefixes if prefix not in better]
        self._wait.add(waiting_prefixes, now)
        self._report(waiting_prefixes, is_always=True)
        return Reported(self._report(others, is_always=False), waiting_prefixes)

    def _report(self, prefixes: Collection[Prefix], *, is_always: bool) -> ByNeighbors:
        kinds: dict[tuple[int, Family], tuple[SelectedRoute | None, list[Prefix]]] = {}
        selection_of = self._table.selection
        for prefix in prefixes:
            selection = selection_of(prefix)
            kind = kinds.get((id(selection), prefix[0]))
            if kind is None:
                kinds[id(selection), prefix[0]] = (selection, [prefix])
            else:
                kind[1].append(prefix)
        by_next_hop: ByNeighbors = {}
        known: dict[tuple[tuple[NeighborKey, ...], Family], tuple[NextHop, ...]] = {}
        waiting: tuple[Family, list[Prefix], LearnedPath] | None = None
        for (_, family), (selection, alike) in kinds.items():
            if selection is None:
                by_next_hop[()] = [*by_next_hop.get((), ()), *alike]
                self._report_unreachable(alike)
                continue
            neighbors = selection.neighbors
            next_hops = known.get((neighbors, family))
            if next_hops is None:
                next_hops = known[neighbors, family] = self._next_hops(neighbors, family)
            by_next_hop.setdefault(neighbors, []).extend(alike)
            path = _path(selection, next_hops)
            # Groups that were learned in consecutive messages mostly have one path.
            if waiting is not None and path == waiting[2] and family is waiting[0]:
                waiting[1].extend(alike)
                continue
            if waiting is not None:
                self._report_reachable(*waiting, is_always=is_always)
            waiting = (family, alike, path)
        if waiting is not None:
            self._report_reachable(*waiting, is_always=is_always)
        return by_next_hop

    def _report_reachable(
        self, family: Family, prefixes: list[Prefix], path: LearnedPath, *, is_always: bool
    ) -> None:
        self._hold.release(prefixes)
        reported = self._reported
        fresh = prefixes
        if not is_always:
            fresh = [prefix for prefix in prefixes if reported.get(prefix) != path]
        if fresh:
            for prefix in fresh:
                reported[prefix] = path
            self._log.emit(RoutesLearned(family, tuple(fresh), path))

    def record_delivered(self, ifindex: int, message: OutgoingData) -> None:
        """Handle a message that no neighbor still has to acknowledge."""
        self._report_lost(self._hold.record_delivered(message.retracted, ifindex, message.version))

    def record_link_empty(self, ifindex: int) -> None:
        """Handle a link without listeners: no neighbor on it can use us any more."""
        self._report_lost(self._hold.record_link_empty(ifindex))

    def cancel_hold(self, prefixes: Iterable[Prefix]) -> None:
        """End the hold of prefixes that become ours: they are advertised as reachable again."""
        held = [prefix for prefix in prefixes if self._hold.is_held(prefix)]
        self._hold.release(held)
        self._report_lost(held)

    def _report_unreachable(self, prefixes: Iterable[Prefix]) -> None:
        """Hold prefixes that were advertised on some link; report the others lost."""
        for prefix in prefixes:
            if self._reported.pop(prefix, None) is None:
                continue
            advertised_on = [
                ifindex
                for ifindex, link in self._links.items()
                if prefix in link.advertiser.advertised
            ]
            if advertised_on and prefix not in self._origins:
                self._hold.hold(prefix, advertised_on)
                self._log.emit(RouteHeld(prefix))
            else:
                self._log.emit(RouteLost(prefix))

    def _report_lost(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            self._log.emit(RouteLost(prefix))

    def _next_hops(self, keys: tuple[NeighborKey, ...], family: Family) -> tuple[NextHop, ...]:
        """Return the next hops of the selected neighbors; each has one for the family."""
        hops = []
        for key in keys:
            link = self._links[key.ifindex]
            hop = link.neighbors[key].next_hop(link.settings, family)
            if hop is not None:
                hops.append(hop)
        return tuple(sorted(hops, key=NextHop.sort_key))


def _path(selection: SelectedRoute, next_hops: tuple[NextHop, ...]) -> LearnedPath:
    return LearnedPath(
        selection.metric,
        selection.tag,
        selection.is_external,
        selection.origin,
        next_hops,
        selection.distance,
    )
