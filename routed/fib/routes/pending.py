"""The order in which pending keys are processed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Pending", "PendingQueue"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SCATTER = 256
"""Number of parts of the queue over which adjacent keys are spread."""


class Pending(NamedTuple, Generic[K, V]):
    """The next keys to install or to remove, and their values, in columns."""

    keys: Sequence[K]
    values: Sequence[V]
    """The desired values; for a removal, the values in the kernel."""
    there: Sequence[V | None] | None
    """The kernel's value of each key to install; None if it has none of the keys."""


class PendingQueue(Generic[K]):
    """The queue of pending keys.

    A dictionary whose oldest entries are deleted one after the other is slow to find its first (it
    looks at every hole), so keys are popped from a list of those that were pending a while ago, and
    the list is built again when it is used up.
    """

    def __init__(self, *, is_scattered: bool) -> None:
        """Create an empty queue.

        Args:
            is_scattered: process adjacent keys far apart from each other: the kernel removes a
                million sorted routes three times slower than shuffled ones (measured, peers.md
                section 1). Otherwise the oldest comes first.
        """
        self._is_scattered = is_scattered
        self._keys: list[K] = []

    def pop(self, pending: Collection[K], limit: int) -> list[K]:
        """Pop the next keys, at most `limit`; none only if nothing is pending."""
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
