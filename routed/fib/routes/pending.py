"""In which order pending keys have their turn. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Pending", "PendingQueue"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SCATTER = 256
"""Keys that came next to each other have their turns this many parts of the whole apart."""


class Pending(NamedTuple, Generic[K, V]):
    """What is to be done next, side by side."""

    keys: Sequence[K]
    values: Sequence[V]
    """Wanted; for a removal what is there now."""
    there: Sequence[V | None] | None
    """What the kernel has under each wanted key; None when it has nothing under any."""


class PendingQueue(Generic[K]):
    """The order in which pending keys have their turn.

    A dictionary whose oldest entries are deleted one after the other is slow to find its first (it
    looks at every hole), so keys are taken from a list of those that were pending a while ago, and
    the list is made anew when it is used up.
    """

    def __init__(self, *, is_scattered: bool) -> None:
        """Args:
        is_scattered: let keys that came next to each other have their turns far apart: the
            kernel takes a sorted million out three times slower than a shuffled one (measured,
            peers.md section 1). Otherwise the oldest comes first.
        """
        self._is_scattered = is_scattered
        self._keys: list[K] = []

    def take(self, pending: Collection[K], limit: int) -> list[K]:
        """The next keys, at most `limit`; none only when nothing is pending."""
        while pending:
            if not self._keys:
                self._keys = self._scattered(list(pending)) if self._is_scattered else list(pending)
                self._keys.reverse()
            taken = self._keys[: -limit - 1 : -1]
            del self._keys[-limit:]
            keys = [key for key in taken if key in pending]
            if keys:
                return keys
        self._keys.clear()
        return []

    @staticmethod
    def _scattered(keys: list[K]) -> list[K]:
        return [key for start in range(_SCATTER) for key in keys[start::_SCATTER]]
