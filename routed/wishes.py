"""What the engine wants in the kernel: wishes that changed, are on their way, or failed. Pure.

    decision --changed(prefix)--> FibWishes --take_update--> parent
                                     ^--------- progress ----- parent

What is wanted for a prefix is asked when it is said, so nothing of the table is kept here, and a
wish that changes back before it was said costs one comparison in the parent. Each update carries a
serial; the parent reports up to which serial it has tried everything, and which routes failed, so a
route's state needs no message of its own: it is installed when it is neither unsaid nor on its way,
and not among the failures.

Flow: at most WINDOW_UPDATES are on their way. Whatever changes meanwhile waits here, where changes
of one prefix are one change, and neither process holds a backlog.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ipc.columns import pack_indices, pack_keys
from ipc.internal import FibColumns, FibUpdate, FibValue
from routed.model.fib import FibCounters, FibFailure
from routed.model.prefix import Family, Prefix
from routed.model.route import NextHop, RouteType

__all__ = ["UPDATE_ROUTES_MAX", "WINDOW_UPDATES", "FibWishes", "Wish"]

UPDATE_ROUTES_MAX = 2000
"""Routes in one update: 6 ms of the kernel's work."""

UPDATE_NEXT_HOPS_MAX = 1500
"""Next hops in one update, each 40 bytes at most: with the prefixes well under the frame limit."""

WINDOW_UPDATES = 8
"""Updates on their way: enough that the parent never waits for the engine."""


class Wish(NamedTuple):
    """What the kernel should do with packets to a prefix."""

    type: RouteType
    next_hops: tuple[NextHop, ...]


class FibWishes:
    """The wishes of one kernel table."""

    def __init__(self, table_id: int, wish_of: Callable[[Prefix], Wish | None]) -> None:
        """Args:
        table_id: of the kernel table.
        wish_of: what is wanted for a prefix now; None for no route of ours.
        """
        self.counters = FibCounters()
        """The parent's, as last told."""
        self.table_id = table_id
        self._wish_of = wish_of
        self._unsaid: dict[Prefix, None] = {}
        self._on_their_way: deque[tuple[int, frozenset[Prefix]]] = deque()
        self._failures: dict[Prefix, str] = {}
        self._serial = 0

    def changed(self, prefixes: Iterable[Prefix]) -> None:
        """What is wanted for these prefixes may be something else now."""
        self._unsaid.update(dict.fromkeys(prefixes))

    @property
    def has_unsaid(self) -> bool:
        """Whether something is still to be said."""
        return bool(self._unsaid)

    def take_update(self) -> FibUpdate | None:
        """The next update to send; None when everything was said, or enough is on its way."""
        if not self._unsaid or len(self._on_their_way) >= WINDOW_UPDATES:
            return None
        return self._say()

    def take_first_update(self) -> FibUpdate:
        """The first update of an engine's life, sent even when nothing is wanted: it says "I have
        decided", on which the daemon's readiness waits."""
        return self.take_update() or self._say()

    def _say(self) -> FibUpdate:
        columns, said = _Columns(), []
        for prefix in itertools.islice(self._unsaid, UPDATE_ROUTES_MAX):
            columns.add(prefix, self._wish_of(prefix))
            said.append(prefix)
            if columns.next_hops >= UPDATE_NEXT_HOPS_MAX:
                break
        for prefix in said:
            del self._unsaid[prefix]
        if self._failures:
            for prefix in columns.removed:
                self._failures.pop(prefix, None)
        self._serial += 1
        self._on_their_way.append((self._serial, frozenset(said)))
        return columns.update(self._serial, self.table_id)

    def progress(
        self,
        applied_serial: int,
        failures: Iterable[FibFailure],
        recovered: Iterable[tuple[int, Prefix]],
        counters: FibCounters,
    ) -> None:
        """Take in what the parent reports."""
        while self._on_their_way and self._on_their_way[0][0] <= applied_serial:
            self._on_their_way.popleft()
        for _, prefix in recovered:
            self._failures.pop(prefix, None)
        for failure in failures:
            if failure.table_id == self.table_id:
                self._failures[failure.prefix] = failure.reason
        self.counters = counters

    def __contains__(self, prefix: Prefix) -> bool:
        """Whether a route of ours is wanted for a prefix."""
        return self._wish_of(prefix) is not None

    def wish(self, prefix: Prefix) -> Wish | None:
        """What is wanted for a prefix now."""
        return self._wish_of(prefix)

    def is_pending(self, prefix: Prefix) -> bool:
        """Whether the kernel has not answered for the wanted route yet."""
        return prefix in self._unsaid or any(
            prefix in prefixes for _, prefixes in self._on_their_way
        )

    def failure_of(self, prefix: Prefix) -> str:
        """Why the kernel does not have the route; empty when it did not fail."""
        return self._failures.get(prefix, "")


class _Columns:
    """Collects wishes by family, with each distinct value once."""

    def __init__(self) -> None:
        self.removed: list[Prefix] = []
        self.next_hops = 0
        """In all values so far."""
        self._keys: dict[Family, list[int]] = {family: [] for family in Family}
        self._indices: dict[Family, list[int]] = {family: [] for family in Family}
        self._removals: dict[Family, list[int]] = {family: [] for family in Family}
        self._values: dict[Wish, int] = {}

    def add(self, prefix: Prefix, wish: Wish | None) -> None:
        family, addr_bits, prefix_len = prefix
        key = addr_bits << 8 | prefix_len
        if wish is None:
            self.removed.append(prefix)
            self._removals[family].append(key)
            return
        index = self._values.get(wish)
        if index is None:
            index = self._values[wish] = len(self._values)
            self.next_hops += len(wish.next_hops)
        self._keys[family].append(key)
        self._indices[family].append(index)

    def update(self, serial: int, table_id: int) -> FibUpdate:
        install = tuple(
            FibColumns(table_id, family, pack_keys(family, keys), pack_indices(indices))
            for (family, keys), indices in zip(
                self._keys.items(), self._indices.values(), strict=True
            )
            if keys
        )
        remove = tuple(
            FibColumns(table_id, family, pack_keys(family, keys), b"")
            for family, keys in self._removals.items()
            if keys
        )
        values = tuple(FibValue(wish.type, wish.next_hops) for wish in self._values)
        return FibUpdate(serial, values, install, remove)
