"""The routes that neighbors have advertised, retractions included.

    prefix --> routes by neighbor (one shared object for all prefixes that are advertised alike)
    neighbor --> its prefixes
    tombstones: retracted routes, kept for their table version

Order of delivery: each update carries its sender's table version. A retraction stays as a tombstone
with its version for TOMBSTONE_S, longer than any message is repeated
(`reliable.MESSAGE_LIFETIME_S`), and as long as anything is missing of the neighbor's streams. The
newest version of the tombstones that have been dropped is kept as the neighbor's floor: an update
of an unknown prefix with an older version arrives too late.

Updates of one message that differ in nothing but their prefixes share one `LearnedRoute`, and their
prefixes one `NeighborRoutes`. Both are never changed, only replaced: so all that follows is decided
once for each group, and costs little more than a dictionary entry for each prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from routed.model.prefix import Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.routes.entries import LearnedRoute, NeighborKey, NeighborRoutes
from routed.nup.routes.prefix_counts import PrefixCounts

__all__ = ["NO_ROUTES", "TOMBSTONE_S", "LearnedRoutes", "set_all"]

_Value = TypeVar("_Value")

TOMBSTONE_S = 120.0
NO_ROUTES: NeighborRoutes = {}
_NO_PREFIXES: dict[Prefix, None] = {}


class LearnedRoutes:
    """Owner of the learned routes, their tombstones, and their numbers by neighbor."""

    def __init__(self, counts: PrefixCounts) -> None:
        """Start empty.

        Args:
            counts: kept in step with the reachable routes.
        """
        self._counts = counts
        self._routes: dict[Prefix, NeighborRoutes] = {}
        self._by_neighbor: dict[NeighborKey, dict[Prefix, None]] = {}
        """Prefixes that each neighbor has advertised or retracted."""
        self._tombstones: OrderedDict[tuple[NeighborKey, Prefix], float] = OrderedDict()
        """Retracted routes kept for their version, and since when; oldest first."""
        self._floors: dict[NeighborKey, int] = {}
        """The newest version of any tombstone of a neighbor that has been dropped."""
        self._relearned: dict[NeighborKey, dict[Prefix, None]] = {}
        """Prefixes that neighbors with stale routes have advertised since their restart. A further
        restart costs no more than these."""

    @property
    def tombstones(self) -> int:
        """Number of retractions that are remembered."""
        return len(self._tombstones)

    @property
    def neighbors(self) -> Iterable[NeighborKey]:
        """Neighbors that have an entry."""
        return self._by_neighbor.keys()

    def prefixes(self) -> Iterable[Prefix]:
        """Prefixes that any neighbor has advertised or retracted."""
        return self._routes.keys()

    def routes_of(self, prefix: Prefix) -> NeighborRoutes:
        """Return the routes to a prefix by neighbor, retractions included."""
        return self._routes.get(prefix, NO_ROUTES)

    def prefixes_of(self, key: NeighborKey) -> Mapping[Prefix, None]:
        """Return the prefixes that a neighbor has advertised or retracted; not to be changed."""
        return self._by_neighbor.get(key, _NO_PREFIXES)

    def group_alike(
        self, prefixes: Collection[Prefix]
    ) -> list[tuple[NeighborRoutes, list[Prefix]]]:
        """Group prefixes, each once, by their routes: each group is decided once."""
        routes_of = self._routes.get
        if len(prefixes) == 1:
            (prefix,) = prefixes
            return [(routes_of(prefix, NO_ROUTES), [prefix])]
        groups: dict[int, tuple[NeighborRoutes, list[Prefix]]] = {}
        for prefix in dict.fromkeys(prefixes):
            neighbor_routes = routes_of(prefix, NO_ROUTES)
            group = groups.get(id(neighbor_routes))
            if group is None:
                groups[id(neighbor_routes)] = (neighbor_routes, [prefix])
            else:
                group[1].append(prefix)
        return list(groups.values())

    # Changes

    def add_neighbor(self, key: NeighborKey) -> None:
        """Make an entry for a neighbor, if it has none."""
        self._by_neighbor.setdefault(key, {})

    def remove_neighbor(self, key: NeighborKey) -> None:
        """Remove a neighbor whose routes have all been removed."""
        self._by_neighbor.pop(key, None)
        self._floors.pop(key, None)
        self._relearned.pop(key, None)
        self._counts.forget(key)

    def store(
        self,
        key: NeighborKey,
        neighbor_routes: NeighborRoutes,
        prefixes: Sequence[Prefix],
        route: LearnedRoute,
    ) -> NeighborRoutes:
        """Store a route of a neighbor.

        Args:
            key: the neighbor.
            neighbor_routes: the routes that these prefixes have.
            prefixes: all with the same routes.
            route: added, or put in place of the neighbor's earlier one.

        Returns:
            The routes that the prefixes have now.
        """
        before = neighbor_routes.get(key)
        neighbor_routes = {**neighbor_routes, key: route}
        set_all(self._routes, prefixes, neighbor_routes)
        if before is None:
            set_all(self._by_neighbor[key], prefixes, None)
        if key in self._relearned:
            set_all(self._relearned[key], prefixes, None)
        was_reachable = before is not None and before.metric != METRIC_INFINITY
        is_reachable = route.metric != METRIC_INFINITY
        if is_reachable is not was_reachable:
            self._counts.add(key, len(prefixes) if is_reachable else -len(prefixes))
        return neighbor_routes

    def forget(
        self, key: NeighborKey, neighbor_routes: NeighborRoutes, prefixes: Sequence[Prefix]
    ) -> NeighborRoutes:
        """Remove a neighbor's route to prefixes that have these routes. Returns the others."""
        left = {other: route for other, route in neighbor_routes.items() if other != key}
        if left:
            set_all(self._routes, prefixes, left)
        else:
            for prefix in prefixes:
                del self._routes[prefix]
        known = self._by_neighbor[key]
        for prefix in prefixes:
            del known[prefix]
        if neighbor_routes[key].metric != METRIC_INFINITY:
            self._counts.add(key, -len(prefixes))
        else:
            self.clear_tombstones(key, prefixes)
        return left

    # Restarts

    def begin_restart(self, key: NeighborKey) -> Collection[Prefix]:
        """Record that a neighbor has restarted.

        Returns:
            The prefixes that it has advertised since its last restart: the others are stale
            already.
        """
        self._floors.pop(key, None)
        known = self._by_neighbor.get(key, _NO_PREFIXES)
        relearned = self._relearned.pop(key, None)
        if relearned is None:
            return known
        return [prefix for prefix in relearned if prefix in known]

    def await_table(self, key: NeighborKey) -> None:
        """Count what a neighbor advertises from here on as learned since its restart."""
        self._relearned[key] = {}

    def end_restart(self, key: NeighborKey) -> None:
        """Record that a neighbor's table is complete, or is not waited for any longer."""
        self._relearned.pop(key, None)

    # Tombstones

    def oldest_version(self, key: NeighborKey, version: int) -> int:
        """Return the oldest version that an unknown prefix of a neighbor may come with.

        Args:
            key: the neighbor.
            version: the result where no tombstone of it has been dropped.
        """
        return self._floors.get(key, version)

    def add_tombstones(self, key: NeighborKey, prefixes: Iterable[Prefix], now: float) -> None:
        """Keep the retractions of these prefixes from now on."""
        for prefix in prefixes:
            self._tombstones.pop((key, prefix), None)
            self._tombstones[key, prefix] = now

    def clear_tombstones(self, key: NeighborKey, prefixes: Iterable[Prefix]) -> None:
        """Drop the tombstones of prefixes that are reachable again, or gone."""
        if self._tombstones:
            for prefix in prefixes:
                self._tombstones.pop((key, prefix), None)

    def expire_tombstones(self, now: float, has_gap: Callable[[NeighborKey], bool]) -> None:
        """Drop the tombstones that are no longer needed.

        Args:
            now: seconds, monotonic.
            has_gap: whether messages of a neighbor are missing that later ones have overtaken.
        """
        expired: dict[NeighborKey, list[Prefix]] = {}
        while self._tombstones:
            (key, prefix), since = next(iter(self._tombstones.items()))
            if now < since + TOMBSTONE_S:
                break
            del self._tombstones[key, prefix]
            if has_gap(key):
                self._tombstones[key, prefix] = now
            else:
                expired.setdefault(key, []).append(prefix)
        for key, prefixes in expired.items():
            for neighbor_routes, same in self.group_alike(prefixes):
                self._floors[key] = max(self._floors.get(key, -1), neighbor_routes[key].version)
                self.forget(key, neighbor_routes, same)

    def next_times(self) -> list[float]:
        """Return when the oldest tombstone expires, as a list of one or none."""
        if not self._tombstones:
            return []
        return [next(iter(self._tombstones.values())) + TOMBSTONE_S]


def set_all(mapping: dict[Prefix, _Value], prefixes: Sequence[Prefix], value: _Value) -> None:
    """Set one value for all prefixes: `fromkeys` is ten times as fast for many, slower for one."""
    if len(prefixes) == 1:
        mapping[prefixes[0]] = value
    else:
        mapping.update(dict.fromkeys(prefixes, value))
