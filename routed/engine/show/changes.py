"""From what happens in the router to what `monitor` shows.

    Router --routes, neighbors, links--> ChangeObserver --> ChangeHub --> feeds

Views are made when a watcher takes them, and nothing is done while nobody watches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from routed.control.changes import CHANGES_MAX, ChangeFeed, ChangeHub, ChangeView, Topic
from routed.control.views import NextHopView
from routed.model.link import Interface
from routed.model.prefix import Prefix
from routed.model.route import NextHop, RouteSource
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["ChangeObserver"]


class ChangeObserver:
    """Tells the watchers; see `routed.engine.router.Observer`."""

    def __init__(self, ifname_of: Callable[[int], str]) -> None:
        self._hub = ChangeHub()
        self._ifname_of = ifname_of

    def watch(self, topics: frozenset[Topic], uid: int) -> ChangeFeed | None:
        """A new feed of changes for a user; None when that user has as many as it may."""
        return self._hub.watch(topics, uid)

    def watches_routes(self) -> bool:
        """Whether `routes_changed` is worth a call."""
        return self._hub.is_watched(Topic.ROUTES)

    def routes_changed(self, changes: BestPathChanges, had_route: Callable[[Prefix], bool]) -> None:
        """The choice for some prefixes changes; `had_route` says which had one before.

        Cost: the last CHANGES_MAX of them, whatever their number and that of the watchers.
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
        )

    def _next_hop_view(self, hop: NextHop) -> NextHopView:
        return NextHopView(hop.via, self._ifname_of(hop.ifindex), hop.weight)

    def neighbor_changed(self, change: AdjacencyChanged) -> None:
        """An adjacency moved."""
        view = ChangeView(
            "neighbor",
            change.new.value,
            str(change.router_id),
            interface=self._ifname_of(change.ifindex),
            reason=change.reason.value,
        )
        self._hub.record(Topic.NEIGHBORS, [lambda: view])

    def link_changed(self, before: Interface | None, after: Interface | None) -> None:
        """A link is there, is different, or is gone; only what is worth a line is told."""
        link = after or before
        assert link is not None  # one of them is there
        word = _link_word(before, after)
        if word:
            view = ChangeView("link", word, link.ifname)
            self._hub.record(Topic.LINKS, [lambda: view])


def _link_word(before: Interface | None, after: Interface | None) -> str:
    """What happened, in a word; empty when nothing that counts."""
    if after is None:
        return "delete"
    if before is None:
        return "add"
    if before.is_up is not after.is_up:
        return "up" if after.is_up else "down"
    return "change" if before != after else ""
