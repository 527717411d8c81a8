"""The numbers of prefixes that each neighbor has advertised, and their limits.

Reachable ones are limited. Retractions are remembered for a while and known alongside; both
together are limited to twice as many. Updates over the limit are counted until the neighbor is
asked for its table again.

All neighbors together are limited, too: a link without keys has room for 256 of them, real
or forged, and not all can use the full limit of one. A neighbor that fills the table takes
nothing from others that they need to be reached: even then each neighbor has room for RESERVE
prefixes.
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
"""Prefixes that are learned of each neighbor although all together have reached MAX_ROUTES."""
FILLERS_NAMED = 5
_NO_LIMIT = 1 << 62
MARTIANS_KEPT = 64
"""Martians that are named for each neighbor; others are only counted."""


class PrefixCounts:
    """Owner of the limits and counts by neighbor."""

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
        """Limit the reachable prefixes of a neighbor; those that are learned already stay."""
        self._limits[key] = max_prefixes

    def limit(self, key: NeighborKey) -> int:
        """Return how many reachable prefixes may be learned of a neighbor."""
        return self._limits.get(key, _NO_LIMIT)

    def room(self, key: NeighborKey, known: int, *, is_retraction: bool, retracted: int = 0) -> int:
        """Return how many prefixes a neighbor may add.

        Args:
            key: the neighbor.
            known: how many prefixes are known of it, retracted or not; 0 where the added ones are
                among them and take no more room.
            is_retraction: whether the added ones are retracted, rather than advertised.
            retracted: how many retractions of all neighbors are remembered.
        """
        limit = self._limits.get(key, _NO_LIMIT)
        of_all = max(2 * MAX_ROUTES - self.total - retracted, 2 * RESERVE - known)
        room = min(2 * limit - known, of_all)
        if not is_retraction:
            room = min(room, limit - self._reachable[key], self._room_in_table(key))
        return max(room, 0)

    def _room_in_table(self, key: NeighborKey) -> int:
        """Return how many prefixes a neighbor may add, whatever its own limit is."""
        return max(MAX_ROUTES - self.total, RESERVE - self._reachable[key])

    def add(self, key: NeighborKey, count: int) -> None:
        """Count more reachable prefixes of a neighbor; fewer when negative."""
        self._reachable[key] += count
        self.total += count

    def record_refused(self, key: NeighborKey, count: int) -> None:
        """Count updates that were refused for want of room."""
        self._refused[key] += count

    def record_unremembered(self, key: NeighborKey, count: int) -> None:
        """Count updates that were refused because their origin could not be remembered."""
        self._unremembered[key] += count

    def record_martians(
        self, key: NeighborKey, prefixes: Iterable[Prefix], *, is_advertised: bool
    ) -> None:
        """Record that a neighbor advertises martians, or no longer advertises them."""
        advertised = self._martians.setdefault(key, {})
        for prefix in prefixes:
            if not is_advertised:
                advertised.pop(prefix, None)
            elif len(advertised) < MARTIANS_KEPT:
                advertised[prefix] = None
        if not advertised:
            del self._martians[key]

    def clear_martians(self, key: NeighborKey, prefixes: Collection[Prefix]) -> None:
        """Count martians of a neighbor that may be learned now: it is to be asked for them."""
        self.record_martians(key, prefixes, is_advertised=False)
        if prefixes:
            self._allowed[key] += len(prefixes)

    def allowed(self, key: NeighborKey) -> int:
        """Return how many refused martians are allowed now, since the neighbor was last asked; at
        least."""
        return self._allowed[key]

    def unremembered(self, key: NeighborKey) -> int:
        """Return how many updates were refused for their origin since the neighbor was last
        asked."""
        return self._unremembered[key]

    def martians(self, key: NeighborKey) -> list[Prefix]:
        """Return the martians that a neighbor advertises, at most MARTIANS_KEPT."""
        return list(self._martians.get(key, ()))

    def reachable(self, key: NeighborKey) -> int:
        """Return how many prefixes a neighbor advertises."""
        return self._reachable[key]

    def refused(self, key: NeighborKey) -> int:
        """Return how many updates of a neighbor were over its limit since it was last asked."""
        return self._refused[key]

    def has_room_again(self, key: NeighborKey) -> bool:
        """Return whether an update of a neighbor was refused that would be accepted now."""
        if self._unremembered[key] or self._allowed[key]:
            return True
        has_room = self._reachable[key] < self._limits[key] and self._room_in_table(key) > 0
        return self._refused[key] > 0 and has_room

    @property
    def is_full(self) -> bool:
        """Whether all neighbors together have reached MAX_ROUTES."""
        return self.total >= MAX_ROUTES

    def is_crowded_out(self, key: NeighborKey) -> bool:
        """Return whether a neighbor's further prefixes are refused because of those of others."""
        return self._reachable[key] < self.limit(key) and self._room_in_table(key) <= 0

    def fillers(self) -> dict[NeighborKey, int]:
        """Return the neighbors with the most prefixes while the table is full, the first one
        first."""
        if not self.is_full:
            return {}
        return dict(
            heapq.nlargest(FILLERS_NAMED, self._reachable.items(), key=lambda item: item[1])
        )

    def clear_refused(self, key: NeighborKey) -> None:
        """Count refused updates from zero: a neighbor sends its table again."""
        self._refused.pop(key, None)
        self._unremembered.pop(key, None)
        self._allowed.pop(key, None)
        self._martians.pop(key, None)

    def forget(self, key: NeighborKey) -> None:
        """Remove a neighbor with all its routes."""
        self.clear_refused(key)
        self.total -= self._reachable.pop(key, 0)
        self._limits.pop(key, None)
