"""Foreign routes that win against ours in the kernel: same table and prefix, lower priority, or the
same priority and (`ip route prepend`) the first place. Pure.

IPv6 has no first place: among routes of one priority Linux uses whichever has a router that answers
(net/ipv6/route.c, rt6_select). So one beside ours takes packets, or may at any time.

Such a route is nobody's mistake that we could repair: it is left alone, and ours stays where it is,
for the day on which the other goes. But packets do not go where the RIB says. So the state of such
a route is `shadowed`, with the foreign route as its reason (the engine is sent each change), and
the log says it once.

Bounds: PREFERRED_FOREIGN_MAX foreign prefixes are remembered for each table and family; what is
beyond is not reported. (A whole table of another daemon under a better priority says enough by its
first ones.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

__all__ = ["PREFERRED_FOREIGN_MAX", "PreferredForeignRoute", "PreferredForeignRoutes"]

PREFERRED_FOREIGN_MAX = 100_000


class PreferredForeignRoute(NamedTuple):
    """A route of ours is there, and another one is used."""

    key: int
    """`Prefix.as_int`."""
    priority: int
    """The best of the foreign ones."""
    protocol: int
    """Whose that is."""
    is_beside: bool = False
    """IPv6: it has our priority, and the kernel uses either."""


class PreferredForeignRoutes:
    """The foreign routes of one table and family that are better than ours would be."""

    def __init__(self, is_desired: Callable[[int], bool]) -> None:
        """Args:
        is_wanted: whether there is a desired route for a prefix.
        """
        self.news: list[PreferredForeignRoute] = []
        """What is to be logged: once for each route of ours that begins to lose."""
        self._is_wanted = is_desired
        self._routes: dict[int, dict[int, int]] = {}
        """By prefix and priority, whose."""
        self._equals: dict[int, PreferredForeignRoute] = {}
        """By prefix, foreign routes of our own priority that come before ours."""
        self._current: dict[int, PreferredForeignRoute] = {}
        """By prefix, for our desired routes."""
        self._unsent: dict[int, None] = {}
        """Prefixes for which the engine does not know that."""

    def __len__(self) -> int:
        """Routes of ours that lose."""
        return len(self._current)

    def __contains__(self, key: int) -> bool:
        """Whether a route of ours loses."""
        return key in self._current

    def found(self, key: int, priority: int, protocol: int) -> None:
        """Somebody has such a route."""
        if key in self._routes or len(self._routes) < PREFERRED_FOREIGN_MAX:
            self._routes.setdefault(key, {})[priority] = protocol
            self._compare(key)

    def gone(self, key: int, priority: int) -> None:
        """Somebody has such a route no longer."""
        routes = self._routes.get(key)
        if routes is not None:
            routes.pop(priority, None)
            if not routes:
                del self._routes[key]
            self._compare(key)

    def equal_found(
        self, key: int, priority: int, protocol: int, *, is_beside: bool = False
    ) -> None:
        """A foreign route of our own key comes before ours, or (IPv6) beside it."""
        self._equals[key] = PreferredForeignRoute(key, priority, protocol, is_beside)
        self._compare(key)

    def equal_gone(self, key: int) -> None:
        """None does."""
        if self._equals.pop(key, None) is not None:
            self._compare(key)

    def equals_gone(self, keys: Iterable[int]) -> None:
        """Ours are there no longer, so nothing comes before them."""
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
                self._unsent[key] = None

    def _compare(self, key: int) -> None:
        """Set what is so for one prefix."""
        routes = self._routes.get(key)
        equal = self._equals.get(key)
        before = self._current.get(key)
        if not (routes or equal) or not self._is_wanted(key):
            if self._current.pop(key, None) is not None:
                self._unsent[key] = None
            return
        foreign = PreferredForeignRoute(key, *min(routes.items())) if routes else equal
        assert foreign is not None, "there are such routes"
        if foreign != before:
            self._current[key] = foreign
            self._unsent[key] = None
            if before is None:
                self.news.append(foreign)

    def begin_session(self) -> None:
        """A new engine knows nothing of them."""
        self._unsent = dict.fromkeys(self._current)

    def pop_unsent_tables(self, limit: int) -> list[tuple[int, PreferredForeignRoute | None]]:
        """What the engine should know: prefixes of ours that lose, and to whom; None for those that
        do no longer."""
        keys = list(itertools.islice(self._unsent, max(0, limit)))
        for key in keys:
            del self._unsent[key]
        return [(key, self._current.get(key)) for key in keys]
