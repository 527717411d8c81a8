"""What is wanted, what is there, and the difference between them, always current.

        desired only           both            kernel only
      +----------------+------------------+----------------+
      | `wanted`, or   | `same` | wanted  |   `unwanted`   |
      | `held` for now |        |+replaced|                |
      +----------------+------------------+----------------+

A key is in exactly one of `same`, `wanted`, `held` and `unwanted`; `replaced` says what the kernel
has under a wanted or held key meanwhile. So a million routes that are in order take one dictionary
entry each, and "is there anything to do" and "what" never need a walk over the table, nor past what
has to wait. Nothing else is remembered of how a key came where it is: whatever happened in between,
the maps are what the two sides say (a property test holds them to the dictionary difference under
any sequence of calls).

Order: the maps are ordered by when a key came in; the order of arrival is the fairest one.

`native_tracker.py` is the same in C, for the routes of a kernel table; which one a book has is
decided in `tracker.py`.

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
        self._wanted: dict[K, V] = {}
        self._held: dict[K, V] = {}
        self._replaced: dict[K, V] = {}
        self._unwanted: dict[K, V] = {}
        self._writes: PendingQueue[K] = PendingQueue(is_scattered=False)
        self._removals: PendingQueue[K] = PendingQueue(is_scattered=True)
        self._marked: set[K] = set()

    # --- looking

    @property
    def same(self) -> Mapping[K, V]:
        """Wanted, and there as wanted; read only."""
        return self._same

    @property
    def wanted(self) -> Mapping[K, V]:
        """Wanted, and missing or different in the kernel: what is to be written, oldest first."""
        return self._wanted

    @property
    def held(self) -> Mapping[K, V]:
        """Wanted, missing or different, and not to be tried before `release`."""
        return self._held

    @property
    def replaced(self) -> Mapping[K, V]:
        """What the kernel has under keys of `wanted` and `held`, where it has something."""
        return self._replaced

    @property
    def unwanted(self) -> Mapping[K, V]:
        """There, and not wanted: what is to be removed, oldest first."""
        return self._unwanted

    @property
    def desired_count(self) -> int:
        """Keys that are wanted."""
        return len(self._same) + len(self._wanted) + len(self._held)

    @property
    def kernel_count(self) -> int:
        """Keys that are there."""
        return len(self._same) + len(self._replaced) + len(self._unwanted)

    def desired(self, key: K) -> V | None:
        """What is wanted under a key."""
        value = self._same.get(key)
        if value is None:
            value = self._wanted.get(key)
        return self._held.get(key) if value is None else value

    def kernel(self, key: K) -> V | None:
        """What is there under a key, as far as we know."""
        value = self._same.get(key)
        if value is None:
            value = self._replaced.get(key)
        return self._unwanted.get(key) if value is None else value

    def desired_rows(self) -> tuple[Sequence[K], Sequence[V]]:
        """Every wanted key, and what is wanted under it."""
        sides = (self._same, self._wanted, self._held)
        return [key for side in sides for key in side], [
            value for side in sides for value in side.values()
        ]

    def kernel_keys(self) -> Sequence[K]:
        """Every key that is there."""
        return [*self._same, *self._replaced, *self._unwanted]

    def kernel_count_of(self, keys: Iterable[K]) -> int:
        """How many of these are there."""
        return sum(self.kernel(key) is not None for key in keys)

    def values_in_use(self) -> list[V]:
        """Every value of either side, at least once.

        Cost: 50 ns a key.
        """
        return self._distinct(self._same, self._wanted, self._held, self._replaced, self._unwanted)

    def kernel_values(self) -> list[V]:
        """Every value that is there, at least once; cost as of `values_in_use`."""
        return self._distinct(self._same, self._replaced, self._unwanted)

    @staticmethod
    def _distinct(*sides: dict[K, V]) -> list[V]:
        # Routes share their values, so looking at each value once is most of the work saved.
        return list({id(value): value for side in sides for value in side.values()}.values())

    # --- taking what is to be done, a few at a time

    def pop_wanted(self, limit: int) -> Pending[K, V]:
        """The next of `wanted`, at most `limit`, the oldest first; none only when there are none.

        They stay what they are until `written`, and are taken again when all others were.
        """
        keys = self._writes.take(self._wanted, limit)
        values = [self._wanted[key] for key in keys]
        there = [self._replaced.get(key) for key in keys] if self._replaced else None
        return Pending(keys, values, there)

    def pop_unwanted(self, limit: int) -> Pending[K, V]:
        """The next of `unwanted`, far apart from each other; as `pop_wanted`."""
        keys = self._removals.take(self._unwanted, limit)
        return Pending(keys, [self._unwanted[key] for key in keys], None)

    # --- comparing with what is seen

    def differing(self, keys: Sequence[K], value: V) -> Sequence[K]:
        """Those of these keys that are not wanted, and there, with this value."""
        same = self._same
        return [key for key in keys if same.get(key) != value]

    def clear_marks(self) -> None:
        """Nothing was seen yet."""
        self._marked = set()

    def mark(self, keys: Iterable[K]) -> None:
        """These were seen in the kernel."""
        self._marked.update(keys)

    def unmarked(self) -> Sequence[K]:
        """Keys that should be there and were not seen since `clear_marks`."""
        return [key for key in self.kernel_keys() if key not in self._marked]

    # --- the desired side

    def set_desired(self, key: K, value: V) -> None:
        """Want this value under this key; a key that was held may be tried again if it is new."""
        there = self._same.get(key)
        if there is not None:
            if there == value:
                return
            del self._same[key]
            self._replaced[key] = there
        elif (there := self._unwanted.pop(key, None)) is not None:
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
        """Under a key that is wanted already, or has just been taken from another map."""
        if self._replaced and self._replaced.get(key) == value:
            del self._replaced[key]
            self._wanted.pop(key, None)
            self._same[key] = value
        else:
            self._wanted[key] = value

    def delete_desired(self, key: K) -> None:
        """Want the key no longer; no matter if it was not wanted."""
        there = self._same.pop(key, None)
        if there is None:
            is_desired = self._wanted.pop(key, None) is not None
            if is_desired or self._held.pop(key, None) is not None:
                there = self._replaced.pop(key, None)
        if there is not None:
            self._unwanted[key] = there

    def withdraw_all(self, keys: Iterable[K]) -> Sequence[K]:
        """Want many no longer, as `delete_desired` for each; those of them that are `unwanted`."""
        several = list(keys)
        for key in several:
            self.delete_desired(key)
        return [key for key in several if key in self._unwanted]

    def set_all_desired(self, keys: Iterable[K], values: Iterable[V]) -> int:
        """Want many: as `set_desired` for each, at a third of its cost for keys that are new, or
        there already and not wanted yet.

        Returns:
            How many were `unwanted` with the very value that is wanted now.
        """
        claimed = 0
        same, held, wanted = self._same, self._held, self._wanted
        take = self._unwanted.pop
        for key, value in zip(keys, values, strict=True):
            there = take(key, None)
            if there is not None:
                if there == value:
                    same[key] = value
                    claimed += 1
                else:
                    self._replaced[key] = there
                    wanted[key] = value
            elif key in same or key in held or key in wanted:
                self.set_desired(key, value)
            else:
                wanted[key] = value
        return claimed

    # --- what has to wait

    def hold(self, key: K) -> None:
        """Do not try a wanted key before `release`; others are left alone."""
        value = self._wanted.pop(key, None)
        if value is not None:
            self._held[key] = value

    def release(self, key: K) -> None:
        """Try a held key again, after everything that is waiting already."""
        value = self._held.pop(key, None)
        if value is not None:
            self._wanted[key] = value

    # --- the kernel side

    def set_kernel(self, key: K, value: V) -> None:
        """Learn that the kernel has this value."""
        desired = self.desired(key)
        if desired is None:
            self._unwanted[key] = value
        elif desired == value:
            self._wanted.pop(key, None)
            self._held.pop(key, None)
            self._replaced.pop(key, None)
            self._same[key] = desired
        else:
            if self._same.pop(key, None) is not None:
                self._wanted[key] = desired
            self._replaced[key] = value

    def set_kernel_all(self, keys: Iterable[K], value: V) -> None:
        """Learn that the kernel has all of these with one value, as `set_kernel` for each."""
        if self.desired_count:
            for key in keys:
                self.set_kernel(key, value)
        else:
            self._unwanted.update(dict.fromkeys(keys, value))

    def delete_kernel(self, key: K) -> None:
        """Learn that the kernel has the key no longer."""
        desired = self._same.pop(key, None)
        if desired is not None:
            self._wanted[key] = desired
        elif self._replaced.pop(key, None) is None:
            self._unwanted.pop(key, None)

    def written(self, keys: Iterable[K], values: Iterable[V]) -> None:
        """Learn that desired routes were carried out: each key is in `wanted` with this very value.

        Cost: 0.1 us for each.
        """
        wanted, replaced, same = self._wanted, self._replaced, self._same
        for key, value in zip(keys, values, strict=True):
            del wanted[key]
            same[key] = value
        if replaced:
            for key in keys:
                replaced.pop(key, None)

    def removed(self, keys: Iterable[K]) -> int:
        """Learn that keys of `unwanted` or `replaced` are there no longer; others are left alone.

        Returns:
            How many of them were `unwanted`.
        """
        unwanted = 0
        for key in keys:
            if self._unwanted.pop(key, None) is None:
                self._replaced.pop(key, None)
            else:
                unwanted += 1
        return unwanted
