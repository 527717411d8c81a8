"""What the rest of the daemon is told about routes: learned, held, lost.

What was said last and what is true now are compared, so that a seqno that changed, or a choice that
came back to what it was, says nothing. A prefix that becomes unreachable while neighbors still
believe in it is held first, and lost when all of them have acknowledged (see
`advertise.RetractionHold`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routed.model.prefix import Family, Prefix
from routed.model.route import NextHop
from routed.neighbor.advertise import OriginTable, RetractionHold
from routed.neighbor.events import RouteHeld, RouteLearned, RouteLost
from routed.neighbor.feasibility import NeighborKey, RouteTable, Selection
from routed.neighbor.links import Link
from routed.neighbor.outputs import OutputLog
from routed.neighbor.reliable import OutgoingData

__all__ = ["RouteReporter"]


class RouteReporter:
    """Turns selections into RouteLearned, RouteHeld and RouteLost."""

    def __init__(
        self,
        log: OutputLog,
        table: RouteTable,
        origins: OriginTable,
        hold: RetractionHold,
        links: Mapping[int, Link],
    ) -> None:
        self._log = log
        self._table = table
        self._origins = origins
        self._hold = hold
        self._links = links
        self._reported: dict[Prefix, RouteLearned] = {}

    def report_all(self, prefixes: Iterable[Prefix]) -> dict[tuple[NeighborKey, ...], list[Prefix]]:
        """Say how these prefixes are reached now, each if that differs from what was said last.

        Returns:
            The prefixes by the neighbors through which they are reached; () for none.

        Cost: a few microseconds each; next hops are worked out once for all that share neighbors.
        """
        known: dict[tuple[tuple[NeighborKey, ...], Family], tuple[NextHop, ...]] = {}
        through: dict[tuple[NeighborKey, ...], list[Prefix]] = {}
        for prefix in prefixes:
            selection = self._table.selection(prefix)
            if selection is None:
                if self._reported.pop(prefix, None) is not None:
                    self._report_unreachable(prefix)
                through.setdefault((), []).append(prefix)
            else:
                self._report_reachable(prefix, selection, known)
                through.setdefault(selection.neighbors, []).append(prefix)
        return through

    def _report_reachable(
        self,
        prefix: Prefix,
        selection: Selection,
        known: dict[tuple[tuple[NeighborKey, ...], Family], tuple[NextHop, ...]],
    ) -> None:
        self._hold.release(prefix)
        shared = (selection.neighbors, prefix.family)
        next_hops = known.get(shared)
        if next_hops is None:
            next_hops = known[shared] = self._next_hops(*shared)
        learned = RouteLearned(
            prefix,
            selection.metric,
            selection.tag,
            selection.is_external,
            selection.origin,
            next_hops,
            selection.distance,
        )
        if learned != self._reported.get(prefix):
            self._reported[prefix] = learned
            self._log.emit(learned)

    def note_delivered(self, ifindex: int, message: OutgoingData) -> None:
        """Every neighbor that was owed a message has acknowledged it, or is gone."""
        self._report_lost(self._hold.note_delivered(message.retracted, ifindex, message.version))

    def note_link_empty(self, ifindex: int) -> None:
        """Nobody is left on a link who could believe in anything."""
        self._report_lost(self._hold.note_link_empty(ifindex))

    def cancel_hold(self, prefix: Prefix) -> None:
        """A prefix becomes ours: neighbors will be told that it is reachable again."""
        if self._hold.is_held(prefix):
            self._hold.release(prefix)
            self._log.emit(RouteLost(prefix))

    def _report_unreachable(self, prefix: Prefix) -> None:
        """Hold a prefix as long as somebody was told that we reach it; not when we still do."""
        believers = [
            ifindex for ifindex, link in self._links.items() if prefix in link.advertiser.advertised
        ]
        if believers and prefix not in self._origins:
            self._hold.hold(prefix, believers)
            self._log.emit(RouteHeld(prefix))
        else:
            self._log.emit(RouteLost(prefix))

    def _report_lost(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            self._log.emit(RouteLost(prefix))

    def _next_hops(self, keys: tuple[NeighborKey, ...], family: Family) -> tuple[NextHop, ...]:
        """The selected neighbors as the kernel takes them; each has a next hop for the family."""
        hops = []
        for key in keys:
            link = self._links[key.ifindex]
            hop = link.neighbors[key.router_id].next_hop(link.settings, family)
            if hop is not None:
                hops.append(hop)
        return tuple(sorted(hops, key=NextHop.sort_key))
