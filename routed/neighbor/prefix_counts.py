"""How many prefixes each neighbor has told, and how many may be learned from it.

Reachable ones are limited. Retractions are remembered for a while, and are known beside them; both
together are limited to twice as many. What is over the limit is counted until the neighbor is asked
for its table again.
"""

from __future__ import annotations

from collections import Counter

from routed.neighbor.candidates import NeighborKey

__all__ = ["PrefixCounts"]

_NO_LIMIT = 1 << 62


class PrefixCounts:
    """Owns limits and counts by neighbor."""

    def __init__(self) -> None:
        self._reachable: Counter[NeighborKey] = Counter()
        self._limits: dict[NeighborKey, int] = {}
        self._refused: Counter[NeighborKey] = Counter()

    def set_limit(self, key: NeighborKey, max_prefixes: int) -> None:
        """Learn so many reachable prefixes of a neighbor; what is learned already stays."""
        self._limits[key] = max_prefixes

    def room(self, key: NeighborKey, known: int, *, is_retraction: bool) -> int:
        """For how many prefixes there is room that a neighbor does not offer yet.

        Args:
            key: the neighbor.
            known: how many prefixes are known of it, retracted or not; 0 where these are among
                them and take no more room.
            is_retraction: whether these are retracted, rather than offered.
        """
        limit = self._limits.get(key, _NO_LIMIT)
        room = 2 * limit - known
        if not is_retraction:
            room = min(room, limit - self._reachable[key])
        return max(room, 0)

    def add(self, key: NeighborKey, count: int) -> None:
        """So many more are reachable through a neighbor; fewer when negative."""
        self._reachable[key] += count

    def note_refused(self, key: NeighborKey, count: int) -> None:
        """There was no room for so many updates."""
        self._refused[key] += count

    def reachable(self, key: NeighborKey) -> int:
        """How many prefixes a neighbor offers."""
        return self._reachable[key]

    def refused(self, key: NeighborKey) -> int:
        """How many updates of a neighbor were over its limit since it was last asked for all."""
        return self._refused[key]

    def has_room_again(self, key: NeighborKey) -> bool:
        """Whether a neighbor was refused something, and would not be now."""
        return self._refused[key] > 0 and self._reachable[key] < self._limits[key]

    def forgive(self, key: NeighborKey) -> None:
        """A neighbor tells its table anew: what is over the limit is counted again."""
        self._refused.pop(key, None)

    def forget(self, key: NeighborKey) -> None:
        """A neighbor is gone, with all that it told."""
        self._refused.pop(key, None)
        self._reachable.pop(key, None)
        self._limits.pop(key, None)
