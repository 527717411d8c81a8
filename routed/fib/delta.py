"""Two maps, what is wanted and what is there, and the difference between them, always current.

        desired only          both            kernel only
      +---------------+------------------+----------------+
      |   to install  | equal | to change |   to remove    |
      +---------------+------------------+----------------+

Every change on either side updates the two sets of pending keys in constant time, so that "is there
anything to do" and "what" never need a walk over the table. The difference is derived, not
remembered: whatever happened in between, the sets are what the maps say (a property test holds them
to the dictionary difference under any sequence of calls).

Order: pending keys come out in the order in which they became pending, not sorted: the kernel
deletes a sorted million three times slower than a shuffled one (measured, peers.md section 1), and
the order of arrival is the fairest one.

Source: the idea is Calico Felix's delta tracker.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

__all__ = ["DeltaTracker"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DeltaTracker(Generic[K, V]):
    """Desired and kernel maps with their pending difference.

    Values are compared with == and must not be changed in place.
    """

    def __init__(self) -> None:
        self._desired: dict[K, V] = {}
        self._kernel: dict[K, V] = {}
        # Dictionaries as ordered sets.
        self._updates: dict[K, None] = {}
        self._removals: dict[K, None] = {}

    @property
    def desired(self) -> Mapping[K, V]:
        """What is wanted; read only."""
        return self._desired

    @property
    def kernel(self) -> Mapping[K, V]:
        """What is there as far as we know; read only."""
        return self._kernel

    @property
    def updates(self) -> Mapping[K, None]:
        """Keys that are wanted and missing or different, oldest first."""
        return self._updates

    @property
    def removals(self) -> Mapping[K, None]:
        """Keys that are there and not wanted, oldest first."""
        return self._removals

    def set_desired(self, key: K, value: V) -> None:
        """Want this value under this key."""
        self._desired[key] = value
        self._settle(key)

    def delete_desired(self, key: K) -> None:
        """Want the key no longer; no matter if it was not wanted."""
        self._desired.pop(key, None)
        self._settle(key)

    def set_kernel(self, key: K, value: V) -> None:
        """Learn that the kernel has this value."""
        self._kernel[key] = value
        self._settle(key)

    def delete_kernel(self, key: K) -> None:
        """Learn that the kernel has the key no longer."""
        self._kernel.pop(key, None)
        self._settle(key)

    def replace_kernel(self, dump: Mapping[K, V]) -> list[K]:
        """Learn the whole kernel side from a complete dump.

        Returns:
            Each key whose kernel side was not what we believed.
        """
        vanished = [key for key in self._kernel if key not in dump]
        for key in vanished:
            self.delete_kernel(key)
        changed = [
            key
            for key, value in dump.items()
            if key not in self._kernel or self._kernel[key] != value
        ]
        for key in changed:
            self.set_kernel(key, dump[key])
        return vanished + changed

    def _settle(self, key: K) -> None:
        """Recompute whether a key is pending."""
        is_wanted, is_there = key in self._desired, key in self._kernel
        if is_wanted and not (is_there and self._desired[key] == self._kernel[key]):
            self._updates[key] = None
        else:
            self._updates.pop(key, None)
        if is_there and not is_wanted:
            self._removals[key] = None
        else:
            self._removals.pop(key, None)
