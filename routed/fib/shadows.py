"""Foreign routes that win against ours in the kernel: same table and prefix, lower priority. Pure.

Such a route is nobody's mistake that we could repair: it is left alone, and ours stays where it is,
for the day on which the other goes. But packets do not go where the RIB says, so people are told,
once for each of our routes, in the log and by a counter (`shadowed`); `routectl explain` shows it
for one address.

Bounds: SHADOWS_MAX foreign prefixes are remembered for each table and family; what is beyond is not
reported. (A whole table of another daemon under a better priority says enough by its first ones.)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

__all__ = ["SHADOWS_MAX", "Shadow", "Shadows"]

SHADOWS_MAX = 100_000


class Shadow(NamedTuple):
    """A route of ours is there, and another one is used."""

    key: int
    """`Prefix.as_int`."""
    priority: int
    """The best of the foreign ones."""
    protocol: int
    """Whose that is."""


class Shadows:
    """The foreign routes of one table and family that are better than ours would be."""

    def __init__(self, is_wanted: Callable[[int], bool]) -> None:
        """Args:
        is_wanted: whether a route of ours is wanted for a prefix.
        """
        self.news: list[Shadow] = []
        """What is to be told."""
        self._is_wanted = is_wanted
        self._routes: dict[int, dict[int, int]] = {}
        """By prefix and priority, whose."""
        self._told: set[int] = set()

    def found(self, key: int, priority: int, protocol: int) -> None:
        """Somebody has such a route."""
        if key in self._routes or len(self._routes) < SHADOWS_MAX:
            self._routes.setdefault(key, {})[priority] = protocol
            if self._is_wanted(key):
                self._tell(key)

    def gone(self, key: int, priority: int) -> None:
        """Somebody has such a route no longer."""
        routes = self._routes.get(key)
        if routes is not None:
            routes.pop(priority, None)
            if not routes:
                del self._routes[key]
                self._told.discard(key)

    def settle(self, seen: Mapping[int, Mapping[int, int]], overtaken: Container[int]) -> None:
        """A dump shows all of them; prefixes that news has overtaken are left alone."""
        for key in [key for key in self._routes if key not in seen and key not in overtaken]:
            del self._routes[key]
            self._told.discard(key)
        for key, routes in seen.items():
            if key not in overtaken:
                self._routes.pop(key, None)
                for priority, protocol in routes.items():
                    self.found(key, priority, protocol)

    def wanted(self, keys: Iterable[int]) -> None:
        """Routes of ours are wanted from now on."""
        if self._routes:
            for key in self._routes.keys() & keys:
                self._tell(key)

    def withdrawn(self, keys: Iterable[int]) -> None:
        """They are wanted no longer."""
        if self._told:
            self._told.difference_update(keys)

    def _tell(self, key: int) -> None:
        if key not in self._told:
            self._told.add(key)
            priority, protocol = min(self._routes[key].items())
            self.news.append(Shadow(key, priority, protocol))
