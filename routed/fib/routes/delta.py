"""Desired routes, kernel routes, and the difference between them, always current.

        desired only            both             kernel only
      +----------------+---------------------+----------------+
      | `to_install`,  | `same` | to_install |  `to_remove`   |
      | or `held`      |        | + replaced |                |
      +----------------+---------------------+----------------+

A key is in exactly one of `same`, `to_install`, `held` and `to_remove`; `replaced` has the kernel's
value of keys that are to be installed or held. So a million routes that are in order take one
dictionary entry each, and neither "is there anything to do" nor "what" needs a walk over the table
or past the keys that are held. The maps depend on the two sides alone, not on the history of a
key (a property test compares them with the dictionary difference under any sequence of calls).

Order: the maps are ordered by when a key came in; the order of arrival is the fairest one.

`native_tracker.py` is the same in C, for the routes of a kernel table; `tracker.py` decides which
of the two a FIB table has.

Source: the idea of two sides and a derived difference is Calico Felix's delta tracker.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from routed.fib.routes.pending import Pending, PendingQueue

__all__ = ["DeltaTracker"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DeltaTracker(Generic[K, V]):
    """Desired and kernel sides with their pending difference.

    Values are compared with == and must not be changed in place.
    """

    def __init__(self) -> None:
        self._same: dict[K, V] = {}
        self._to_install: dict[K, V] = {}
        self._held: dict[K, V] = {}
        self._replaced: dict[K, V] = {}
        self._to_remove: dict[K, V] = {}
        self._writes: PendingQueue[K] = PendingQueue(is_scattered=False)
        self._removals: PendingQueue[K] = PendingQueue(is_scattered=True)
        self._marked: set[K] = set()

    # --- queries

    @property
    def same(self) -> Mapping[K, V]:
        """Keys whose desired value is in the kernel; read only."""
        return self._same

    @property
    def to_install(self) -> Mapping[K, V]:
        """Desired keys that the kernel lacks or has with another value, oldest first."""
        return self._to_install

    @property
    def held(self) -> Mapping[K, V]:
        """Desired keys, missing or different, that are not tried before `release`."""
        return self._held

    @property
    def replaced(self) -> Mapping[K, V]:
        """Values in the kernel of keys of `to_install` and `held`, if it has any."""
        return self._replaced

    @property
    def to_remove(self) -> Mapping[K, V]:
        """Keys in the kernel that are not desired: to be removed, oldest first."""
        return self._to_remove

    @property
    def desired_count(self) -> int:
        """Number of desired keys."""
        return len(self._same) + len(self._to_install) + len(self._held)

    @property
    def kernel_count(self) -> int:
        """Number of keys in the kernel."""
        return len(self._same) + len(self._replaced) + len(self._to_remove)

    def desired(self, key: K) -> V | None:
        """Look up the desired value of a key."""
        value = self._same.get(key)
        if value is None:
            value = self._to_install.get(key)
        return self._held.get(key) if value is None else value

    def kernel(self, key: K) -> V | None:
        """Look up the kernel's value of a key, as far as it is known."""
        value = self._same.get(key)
        if value is None:
            value = self._replaced.get(key)
        return self._to_remove.get(key) if value is None else value

    def desired_rows(self) -> tuple[Sequence[K], Sequence[V]]:
        """List every desired key and its desired value."""
        sides = (self._same, self._to_install, self._held)
        return [key for side in sides for key in side], [
            value for side in sides for value in side.values()
        ]

    def kernel_keys(self) -> Sequence[K]:
        """List every key in the kernel."""
        return [*self._same, *self._replaced, *self._to_remove]

    def kernel_count_of(self, keys: Iterable[K]) -> int:
        """Count the keys among these that are in the kernel."""
        return sum(self.kernel(key) is not None for key in keys)

    def values_in_use(self) -> list[V]:
        """List every value of either side, at least once.

        Cost: 50 ns a key.
        """
        return self._distinct(
            self._same, self._to_install, self._held, self._replaced, self._to_remove
        )

    def kernel_values(self) -> list[V]:
        """List every value in the kernel, at least once; cost as of `values_in_use`."""
        return self._distinct(self._same, self._replaced, self._to_remove)

    @staticmethod
    def _distinct(*sides: dict[K, V]) -> list[V]:
        # Routes share their values, so that looking at each value once saves most of the work.
        return list({id(value): value for side in sides for value in side.values()}.values())

    # --- pending work, a few keys at a time

    def pop_to_install(self, limit: int) -> Pending[K, V]:
        """Pop at most `limit` keys of `to_install`, oldest first; none only if there are none.

        They stay in `to_install` until `written`, and are popped again after all others.
        """
        keys = self._writes.pop(self._to_install, limit)
        values = [self._to_install[key] for key in keys]
        there = [self._replaced.get(key) for key in keys] if self._replaced else None
        return Pending(keys, values, there)

    def pop_to_remove(self, limit: int) -> Pending[K, V]:
        """Pop keys of `to_remove`, far apart from each other; as `pop_to_install`."""
        keys = self._removals.pop(self._to_remove, limit)
        return Pending(keys, [self._to_remove[key] for key in keys], None)

    # --- comparison with a dump

    def differing(self, keys: Sequence[K], value: V) -> Sequence[K]:
        """Select the keys that are not both desired and in the kernel with this value."""
        same = self._same
        return [key for key in keys if same.get(key) != value]

    def clear_marks(self) -> None:
        """Clear the record of the keys that were seen."""
        self._marked = set()

    def mark(self, keys: Iterable[K]) -> None:
        """Record that these keys were seen in the kernel."""
        self._marked.update(keys)

    def unmarked(self) -> Sequence[K]:
        """List the keys of the kernel side that were not seen since `clear_marks`."""
        return [key for key in self.kernel_keys() if key not in self._marked]

    # --- the desired side

    def set_desired(self, key: K, value: V) -> None:
        """Set the desired value of a key. If it is new, a held key may be tried again."""
        there = self._same.get(key)
        if there is not None:
            if there == value:
                return
            del self._same[key]
            self._replaced[key] = there
        elif (there := self._to_remove.pop(key, None)) is not None:
            if there == value:
                self._same[key] = value
                return
            self._replaced[key] = there
        elif key in self._held:
            if self._held[key] == value:
                return
            del self._held[key]
        self._set_desired(key, value)

    def _set_desired(self, key: K, value: V) -> None:
        """Set the value of a key in `to_install`, or of one just removed from another map."""
        if self._replaced and self._replaced.get(key) == value:
            del self._replaced[key]
            self._to_install.pop(key, None)
            self._same[key] = value
        else:
            self._to_install[key] = value

    def delete_desired(self, key: K) -> None:
        """Delete the desired value of a key, if it has one."""
        there = self._same.pop(key, None)
        if there is None:
            is_desired = self._to_install.pop(key, None) is not None
            if is_desired or self._held.pop(key, None) is not None:
                there = self._replaced.pop(key, None)
        if there is not None:
            self._to_remove[key] = there

    def withdraw_all(self, keys: Iterable[K]) -> Sequence[K]:
        """Call `delete_desired` for many keys. Returns those that are in `to_remove` then."""
        several = list(keys)
        for key in several:
            self.delete_desired(key)
        return [key for key in several if key in self._to_remove]

    def set_all_desired(self, keys: Iterable[K], values: Iterable[V]) -> int:
        """Set the desired values of many keys, as `set_desired`, at a third of its cost for keys
        that are new, or in the kernel and not desired yet.

        Returns:
            How many were in `to_remove` with the value that is desired now.
        """
        claimed = 0
        same, held, to_install = self._same, self._held, self._to_install
        pop = self._to_remove.pop
        for key, value in zip(keys, values, strict=True):
            there = pop(key, None)
            if there is not None:
                if there == value:
                    same[key] = value
                    claimed += 1
                else:
                    self._replaced[key] = there
                    to_install[key] = value
            elif key in same or key in held or key in to_install:
                self.set_desired(key, value)
            else:
                to_install[key] = value
        return claimed

    # --- keys that have to wait

    def hold(self, key: K) -> None:
        """Move a key of `to_install` to `held` until `release`; other keys are left alone."""
        value = self._to_install.pop(key, None)
        if value is not None:
            self._held[key] = value

    def release(self, key: K) -> None:
        """Move a held key back to `to_install`, behind all that are pending already."""
        value = self._held.pop(key, None)
        if value is not None:
            self._to_install[key] = value

    # --- the kernel side

    def set_kernel(self, key: K, value: V) -> None:
        """Record that the kernel has this value."""
        desired = self.desired(key)
        if desired is None:
            self._to_remove[key] = value
        elif desired == value:
            self._to_install.pop(key, None)
            self._held.pop(key, None)
            self._replaced.pop(key, None)
            self._same[key] = desired
        else:
            if self._same.pop(key, None) is not None:
                self._to_install[key] = desired
            self._replaced[key] = value

    def set_kernel_all(self, keys: Iterable[K], value: V) -> None:
        """Record that the kernel has all of these keys with one value, as `set_kernel`."""
        if self.desired_count:
            for key in keys:
                self.set_kernel(key, value)
        else:
            self._to_remove.update(dict.fromkeys(keys, value))

    def delete_kernel(self, key: K) -> None:
        """Record that the kernel no longer has the key."""
        desired = self._same.pop(key, None)
        if desired is not None:
            self._to_install[key] = desired
        elif self._replaced.pop(key, None) is None:
            self._to_remove.pop(key, None)

    def written(self, keys: Iterable[K], values: Iterable[V]) -> None:
        """Record that desired routes are in the kernel: each key is in `to_install` with its value.

        Cost: 0.1 us for each.
        """
        to_install, replaced, same = self._to_install, self._replaced, self._same
        for key, value in zip(keys, values, strict=True):
            del to_install[key]
            same[key] = value
        if replaced:
            for key in keys:
                replaced.pop(key, None)

    def removed(self, keys: Iterable[K]) -> int:
        """Record that the kernel no longer has these keys of `to_remove` or `replaced`; others are
        left alone.

        Returns:
            How many of them were in `to_remove`.
        """
        count = 0
        for key in keys:
            if self._to_remove.pop(key, None) is None:
                self._replaced.pop(key, None)
            else:
                count += 1
        return count
