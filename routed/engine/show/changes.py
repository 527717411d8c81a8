"""Changes of the router, converted to what `monitor` shows.

    Router --best paths, adjacencies, links--> ChangeObserver --> ChangeHub --> feeds

Views are made when a feed is read, and nothing is done while there are no feeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from routed.control.changes import CHANGES_MAX, ChangeHub, ChangeView, Topic
from routed.control.views import NextHopView
from routed.model.kernel_attributes import written
from routed.model.link import Interface
from routed.model.prefix import Prefix
from routed.model.route import NextHop, RouteSource
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["ChangeObserver"]


class ChangeObserver:
    """Records the changes of one router."""

    def __init__(self, hub: ChangeHub, ifname_of: Callable[[int], str]) -> None:
        """Record changes of a router.

        Args:
            hub: receives the changes.
            ifname_of: returns the name of a link.
        """
        self._hub = hub
        self._ifname_of = ifname_of

    def watches_routes(self) -> bool:
        """Return whether `routes_changed` is worth a call."""
        return self._hub.is_watched(Topic.ROUTES)

    def routes_changed(self, changes: BestPathChanges, had_route: Callable[[Prefix], bool]) -> None:
        """Record best-path changes.

        Args:
            changes: any number of them.
            had_route: returns whether a prefix had a best path before; used during the call only.

        Cost: that of the last CHANGES_MAX changes, however many there are.
        """
        newest = changes.newest(CHANGES_MAX)
        self._hub.record(
            Topic.ROUTES,
            [
                functools.partial(self._route_view, prefix, best_path, had_route(prefix))
                for prefix, best_path in newest.items()
            ],
            len(changes.keys) - len(newest.keys),
        )

    def _route_view(
        self, prefix: Prefix, best_path: BestPath | None, was_known: bool
    ) -> ChangeView:
        if best_path is None:
            return ChangeView("route", "delete", str(prefix))
        best = best_path.attributes
        return ChangeView(
            "route",
            "change" if was_known else "add",
            str(prefix),
            source=best.source,
            metric=best.metric,
            type=best.type,
            next_hops=tuple(map(self._next_hop_view, best_path.next_hops)),
            owner=best.owner if best.source is RouteSource.INJECTED else "",
            attributes=dict(written(best.kernel_attributes)),
        )

    def _next_hop_view(self, hop: NextHop) -> NextHopView:
        return NextHopView(hop.via, self._ifname_of(hop.ifindex), hop.weight)

    def neighbor_changed(self, change: AdjacencyChanged) -> None:
        """Record a change of an adjacency."""
        view = ChangeView(
            "neighbor",
            change.new.value,
            str(change.router_id),
            interface=self._ifname_of(change.ifindex),
            reason=change.reason.value,
        )
        self._hub.record(Topic.NEIGHBORS, [lambda: view])

    def link_changed(self, before: Interface | None, after: Interface | None) -> None:
        """Record a link that appeared, changed, or was removed, if the change is worth a line."""
        link = after or before
        assert link is not None  # at least one of them exists
        change = _link_change(before, after)
        if change:
            view = ChangeView("link", change, link.ifname)
            self._hub.record(Topic.LINKS, [lambda: view])


def _link_change(before: Interface | None, after: Interface | None) -> str:
    """Return the kind of a change; empty if it is not worth a line."""
    if after is None:
        return "delete"
    if before is None:
        return "add"
    if before.is_up is not after.is_up:
        return "up" if after.is_up else "down"
    return "change" if before != after else ""
