"""Foreign routes that the kernel prefers to ours: same table and prefix, lower priority, or the
same priority and (`ip route prepend`) the first place. Pure.

IPv6 has no first place: among routes of one priority Linux uses any whose router is reachable
(net/ipv6/route.c, rt6_select). So one alongside ours receives packets, or may at any time.

Such a route is not an error that the daemon could repair: it is left alone, and ours stays
installed in case the other one is removed. But packets do not follow the RIB. So the state of our
route is `shadowed`, with the foreign route as its reason (each change is sent to the engine), and
it is logged once.

Bounds: PREFERRED_FOREIGN_MAX foreign prefixes are recorded for each table and family; further ones
are not reported. (If another daemon's whole table has a better priority, the first ones suffice.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

__all__ = ["PREFERRED_FOREIGN_MAX", "PreferredForeignRoute", "PreferredForeignRoutes"]

PREFERRED_FOREIGN_MAX = 100_000


class PreferredForeignRoute(NamedTuple):
    """A foreign route that the kernel uses instead of one of ours."""

    key: int
    """`Prefix.as_int`."""
    priority: int
    """The priority of the best foreign route."""
    protocol: int
    """The rtm_protocol of that route."""
    is_beside: bool = False
    """IPv6: whether it has our priority, so that the kernel uses either."""


class PreferredForeignRoutes:
    """The foreign routes of one table and family that are better than ours would be."""

    def __init__(self, is_desired: Callable[[int], bool]) -> None:
        """Begin without routes.

        Args:
            is_desired: returns whether there is a desired route for a prefix.
        """
        self.news: list[PreferredForeignRoute] = []
        """Entries to log: one for each route of ours that becomes shadowed."""
        self._is_desired = is_desired
        self._routes: dict[int, dict[int, int]] = {}
        """The protocol, by prefix and priority."""
        self._equals: dict[int, PreferredForeignRoute] = {}
        """By prefix, foreign routes of our own priority that precede ours."""
        self._current: dict[int, PreferredForeignRoute] = {}
        """By prefix, for our desired routes."""
        self.unsent: dict[int, None] = {}
        """Prefixes whose change was not yet sent to the engine."""

    def __len__(self) -> int:
        """Number of our routes that are shadowed."""
        return len(self._current)

    def __contains__(self, key: int) -> bool:
        """Whether our route for a prefix is shadowed."""
        return key in self._current

    def found(self, key: int, priority: int, protocol: int) -> None:
        """Record a foreign route."""
        if key in self._routes or len(self._routes) < PREFERRED_FOREIGN_MAX:
            self._routes.setdefault(key, {})[priority] = protocol
            self._compare(key)

    def gone(self, key: int, priority: int) -> None:
        """Record that a foreign route was removed."""
        routes = self._routes.get(key)
        if routes is not None:
            routes.pop(priority, None)
            if not routes:
                del self._routes[key]
            self._compare(key)

    def equal_found(
        self, key: int, priority: int, protocol: int, *, is_beside: bool = False
    ) -> None:
        """Record a foreign route of our own key that precedes ours or (IPv6) is alongside it."""
        self._equals[key] = PreferredForeignRoute(key, priority, protocol, is_beside)
        self._compare(key)

    def equal_gone(self, key: int) -> None:
        """Record that no foreign route of our own key precedes ours."""
        if self._equals.pop(key, None) is not None:
            self._compare(key)

    def equals_gone(self, keys: Iterable[int]) -> None:
        """Record that our routes were removed, so that no route precedes them."""
        for key in self._equals.keys() & keys if self._equals else ():
            self.equal_gone(key)

    def reconcile(self, seen: Mapping[int, Mapping[int, int]], overtaken: Container[int]) -> None:
        """Apply a complete dump; prefixes with a newer notification are left alone."""
        for key in [key for key in self._routes if key not in seen and key not in overtaken]:
            del self._routes[key]
            self._compare(key)
        for key, routes in seen.items():
            if key not in overtaken and (
                key in self._routes or len(self._routes) < PREFERRED_FOREIGN_MAX
            ):
                self._routes[key] = dict(routes)
                self._compare(key)

    def desired(self, keys: Iterable[int]) -> None:
        """Compare prefixes that are desired from now on."""
        if self._routes or self._equals:
            for key in (self._routes.keys() | self._equals.keys()).intersection(keys):
                self._compare(key)

    def withdrawn(self, keys: Iterable[int]) -> None:
        """Forget prefixes that are no longer desired."""
        if self._current:
            for key in self._current.keys() & keys:
                del self._current[key]
                self.unsent[key] = None

    def _compare(self, key: int) -> None:
        """Update the state of one prefix."""
        routes = self._routes.get(key)
        equal = self._equals.get(key)
        before = self._current.get(key)
        if not (routes or equal) or not self._is_desired(key):
            if self._current.pop(key, None) is not None:
                self.unsent[key] = None
            return
        foreign = PreferredForeignRoute(key, *min(routes.items())) if routes else equal
        assert foreign is not None, "there are such routes"
        if foreign != before:
            self._current[key] = foreign
            self.unsent[key] = None
            if before is None:
                self.news.append(foreign)

    def begin_session(self) -> None:
        """Mark all as unsent, for a new engine."""
        self.unsent = dict.fromkeys(self._current)

    def pop_unsent_tables(self, limit: int) -> list[tuple[int, PreferredForeignRoute | None]]:
        """Pop changes for the engine: shadowed prefixes with the foreign route; None for those that
        are no longer shadowed."""
        keys = list(itertools.islice(self.unsent, max(0, limit)))
        for key in keys:
            del self.unsent[key]
        return [(key, self._current.get(key)) for key in keys]
