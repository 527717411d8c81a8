"""How many prefixes each neighbor has told, and how many may be learned from it.

Reachable ones are limited. Retractions are remembered for a while, and are known beside them; both
together are limited to twice as many. What is over the limit is counted until the neighbor is asked
for its table again.

All neighbors together are limited, too: a link without keys has room for 256 of them, whoever they
are, and what one is allowed many cannot all have. Whoever fills the table takes nothing from others
that they need to be reached: beyond its limit each neighbor has room for RESERVE prefixes.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable

from routed.model.prefix import Prefix
from routed.nup.routes.entries import NeighborKey

__all__ = ["MAX_ROUTES", "PrefixCounts"]

MAX_ROUTES = 1_000_000
"""Reachable prefixes learned from all neighbors, each counted for each of them."""
RESERVE = 1024
"""So many prefixes are learned of each neighbor although all together have told MAX_ROUTES."""
FILLERS_NAMED = 5
_NO_LIMIT = 1 << 62
MARTIANS_KEPT = 64
"""Martians that are named for each neighbor; others are only counted."""


class PrefixCounts:
    """Owns limits and counts by neighbor."""

    def __init__(self) -> None:
        self.total = 0
        """Reachable, of all neighbors."""
        self._reachable: Counter[NeighborKey] = Counter()
        self._limits: dict[NeighborKey, int] = {}
        self._refused: Counter[NeighborKey] = Counter()
        self._unremembered: Counter[NeighborKey] = Counter()
        self._allowed: Counter[NeighborKey] = Counter()
        """Refused as martians that are none any more."""
        self._martians: dict[NeighborKey, dict[Prefix, None]] = {}
        """Offered and refused, at most MARTIANS_KEPT of each."""

    def set_limit(self, key: NeighborKey, max_prefixes: int) -> None:
        """Learn so many reachable prefixes of a neighbor; what is learned already stays."""
        self._limits[key] = max_prefixes

    def limit(self, key: NeighborKey) -> int:
        """How many reachable prefixes may be learned of a neighbor."""
        return self._limits.get(key, _NO_LIMIT)

    def room(self, key: NeighborKey, known: int, *, is_retraction: bool, retracted: int = 0) -> int:
        """For how many prefixes there is room that a neighbor does not offer yet.

        Args:
            key: the neighbor.
            known: how many prefixes are known of it, retracted or not; 0 where these are among
                them and take no more room.
            is_retraction: whether these are retracted, rather than offered.
            retracted: how many retractions of all neighbors are remembered.
        """
        limit = self._limits.get(key, _NO_LIMIT)
        of_all = max(2 * MAX_ROUTES - self.total - retracted, 2 * RESERVE - known)
        room = min(2 * limit - known, of_all)
        if not is_retraction:
            room = min(room, limit - self._reachable[key], self._room_in_table(key))
        return max(room, 0)

    def _room_in_table(self, key: NeighborKey) -> int:
        """For how many prefixes of a neighbor there is room, whatever its own limit is."""
        return max(MAX_ROUTES - self.total, RESERVE - self._reachable[key])

    def add(self, key: NeighborKey, count: int) -> None:
        """So many more are reachable through a neighbor; fewer when negative."""
        self._reachable[key] += count
        self.total += count

    def record_refused(self, key: NeighborKey, count: int) -> None:
        """There was no room for so many updates."""
        self._refused[key] += count

    def record_unremembered(self, key: NeighborKey, count: int) -> None:
        """There was no room to remember the origin of so many updates."""
        self._unremembered[key] += count

    def record_martians(
        self, key: NeighborKey, prefixes: Iterable[Prefix], *, is_offered: bool
    ) -> None:
        """A neighbor offers martians, or does not any more."""
        offered = self._martians.setdefault(key, {})
        for prefix in prefixes:
            if not is_offered:
                offered.pop(prefix, None)
            elif len(offered) < MARTIANS_KEPT:
                offered[prefix] = None
        if not offered:
            del self._martians[key]

    def clear_martians(self, key: NeighborKey, prefixes: Collection[Prefix]) -> None:
        """Martians that a neighbor offers may be learned now: it is to be asked for them."""
        self.record_martians(key, prefixes, is_offered=False)
        if prefixes:
            self._allowed[key] += len(prefixes)

    def allowed(self, key: NeighborKey) -> int:
        """How many prefixes are martians no more, since the neighbor was last asked; at least."""
        return self._allowed[key]

    def unremembered(self, key: NeighborKey) -> int:
        """How many updates were refused for their origin since the neighbor was last asked."""
        return self._unremembered[key]

    def martians(self, key: NeighborKey) -> list[Prefix]:
        """The martians that a neighbor offers, at most MARTIANS_KEPT."""
        return list(self._martians.get(key, ()))

    def reachable(self, key: NeighborKey) -> int:
        """How many prefixes a neighbor offers."""
        return self._reachable[key]

    def refused(self, key: NeighborKey) -> int:
        """How many updates of a neighbor were over its limit since it was last asked for all."""
        return self._refused[key]

    def has_room_again(self, key: NeighborKey) -> bool:
        """Whether a neighbor was refused something, and would not be now."""
        if self._unremembered[key] or self._allowed[key]:
            return True
        has_room = self._reachable[key] < self._limits[key] and self._room_in_table(key) > 0
        return self._refused[key] > 0 and has_room

    @property
    def is_full(self) -> bool:
        """Whether all neighbors together have told what there is room for."""
        return self.total >= MAX_ROUTES

    def is_crowded_out(self, key: NeighborKey) -> bool:
        """Whether what a neighbor tells more is refused for what others have told."""
        return self._reachable[key] < self.limit(key) and self._room_in_table(key) <= 0

    def fillers(self) -> dict[NeighborKey, int]:
        """Those that have told most, and how much, while the table is full; the first one first."""
        if not self.is_full:
            return {}
        return dict(
            heapq.nlargest(FILLERS_NAMED, self._reachable.items(), key=lambda item: item[1])
        )

    def clear_refused(self, key: NeighborKey) -> None:
        """A neighbor tells its table anew: what is over the limit is counted again."""
        self._refused.pop(key, None)
        self._unremembered.pop(key, None)
        self._allowed.pop(key, None)
        self._martians.pop(key, None)

    def forget(self, key: NeighborKey) -> None:
        """A neighbor is gone, with all that it told."""
        self.clear_refused(key)
        self.total -= self._reachable.pop(key, 0)
        self._limits.pop(key, None)
