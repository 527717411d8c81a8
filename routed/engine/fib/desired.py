"""What the engine wants in the kernel: wishes that changed, are on their way, or failed. Pure.

    decision --changed--> FibWishes --take_update--> parent
                              ^--------- progress ----- parent

Only what is still to be said is kept here, not the table; a wish that changes back before it was
said costs one comparison in the parent. Each update carries a serial; the parent reports up to
which serial it has tried everything, and which routes failed, so a route's state needs no message
of its own: it is installed when it is neither unsaid nor on its way, and not among the failures.

Flow: at most WINDOW_UPDATES are on their way. Whatever changes meanwhile waits here, where changes
of one prefix are one change, and neither process holds a backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from routed.imsg.columns import pack_indices, pack_keys
from routed.imsg.messages import FibColumns, FibUpdate, FibValue
from routed.model.fib import FibCounters, FibFailure, PreferredRoute
from routed.model.prefix import Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, RouteType

__all__ = ["UPDATE_ROUTES_MAX", "WINDOW_UPDATES", "FibWishes", "Said", "Wish"]

UPDATE_ROUTES_MAX = 2000
"""Routes in one update: 6 ms of the kernel's work."""

UPDATE_NEXT_HOPS_MAX = 1500
"""Next hops in one update, each 32 bytes at most. With UPDATE_ROUTES_MAX prefixes of 21 bytes, and
as many values of 11, an update is well under the frame limit."""

WINDOW_UPDATES = 8
"""Updates on their way: enough that the parent never waits for the engine."""


class Wish(NamedTuple):
    """What the kernel should do with packets to a prefix."""

    type: RouteType
    next_hops: tuple[NextHop, ...]
    left_out: int = 0
    """How many more next hops the RIB has found than a route may have."""


class _Unsaid:
    """The wishes of one family that the parent has not been told, in the order of their change."""

    def __init__(self) -> None:
        self.wishes: dict[int, Wish | None] = {}
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, keys: Sequence[int], wishes: Sequence[Wish | None]) -> None:
        """Changes of one prefix are one change, in its first place.

        Of what changes together, routes without a gateway are said first: gateways may stand on
        them.
        """
        known = self.wishes
        fresh = [key for key in keys if key not in known] if known else keys
        known.update(zip(keys, wishes, strict=True))
        first = {id(wish) for wish in _distinct(wishes) if wish is not None and _has_links(wish)}
        if not first:
            self._order.extend(fresh)
            return
        self._order.extend(key for key in fresh if id(known[key]) in first)
        self._order.extend(key for key in fresh if id(known[key]) not in first)

    def take(self, limit: int) -> tuple[list[int], list[Wish | None]]:
        """The next ones, at most so many, with their wishes; they are forgotten."""
        next_key, forget = self._order.popleft, self.wishes.pop
        keys = [next_key() for _ in range(min(limit, len(self._order)))]
        wishes = [forget(key) for key in keys]
        if not self._order:
            self.wishes = {}  # a dictionary that was large stays large
        return keys, wishes

    def put_back(self, keys: Sequence[int], wishes: Sequence[Wish | None]) -> None:
        """What was taken last is the next again."""
        self._order.extendleft(reversed(keys))
        self.wishes.update(zip(keys, wishes, strict=True))


def _distinct(wishes: Sequence[Wish | None]) -> Iterable[Wish | None]:
    """By identity: a table has few wishes and many routes."""
    return {id(wish): wish for wish in wishes}.values()


def _has_links(wish: Wish) -> bool:
    return bool(wish.next_hops) and all(hop.via is None for hop in wish.next_hops)


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
        self._unsaid = {family: _Unsaid() for family in Family}
        self._on_their_way: deque[tuple[int, Said]] = deque()
        self._failures: dict[Prefix, str] = {}
        self._preferred: dict[Prefix, str] = {}
        self._serial = 0
        self._start_left: dict[Family, int] = {}
        """Of what was decided when the first update was sent: how many are still to be said."""

    def changed(self, family: Family, keys: Sequence[int], wishes: Sequence[Wish | None]) -> None:
        """Something else may be wanted for these prefixes now.

        Args:
            family: of all of them.
            keys: `Prefix.as_int`, each once.
            wishes: one for each; None for no route of ours.
        """
        self._unsaid[family].add(keys, wishes)

    @property
    def has_unsaid(self) -> bool:
        """Whether something is still to be said."""
        return any(unsaid.wishes for unsaid in self._unsaid.values())

    def take_update(self) -> FibUpdate | None:
        """The next update to send; None when everything was said, or enough is on its way."""
        if not self.has_unsaid or len(self._on_their_way) >= WINDOW_UPDATES:
            return None
        return self._say()

    def take_first_update(self) -> FibUpdate:
        """The first update of an engine's life, sent even when nothing is wanted: it says "I have
        decided", on which the daemon's readiness waits. That it waits for all that was decided by
        then, and for nothing later, is said by `completes_start` of the last of these."""
        self._start_left = {family: len(unsaid) for family, unsaid in self._unsaid.items()}
        return self._say()

    def _say(self) -> FibUpdate:
        columns = _Columns()
        waiting = [family for family, unsaid in self._unsaid.items() if unsaid.wishes]
        for family in waiting:  # neither waits for a million of the other
            keys, wishes = self._unsaid[family].take(UPDATE_ROUTES_MAX // len(waiting))
            count = columns.take(family, keys, wishes)
            if count < len(keys):
                self._unsaid[family].put_back(keys[count:], wishes[count:])
            if self._start_left:
                self._start_left[family] -= count
        if self._failures:
            for prefix in columns.removed():
                self._failures.pop(prefix, None)
        self._serial += 1
        self._on_their_way.append((self._serial, columns.said()))
        completes_start = bool(self._start_left) and max(self._start_left.values()) <= 0
        if completes_start:
            self._start_left = {}
        return columns.update(self._serial, self.table_id, completes_start=completes_start)

    def progress(
        self,
        applied_serial: int,
        failures: Iterable[FibFailure],
        recovered: Iterable[tuple[int, Prefix]],
        counters: FibCounters,
        preferred: Iterable[PreferredRoute] = (),
        unpreferred: Iterable[tuple[int, Prefix]] = (),
    ) -> list[Said]:
        """Take in what the parent reports: as `routed.imsg.messages.FibProgress` has it.

        Returns:
            The updates that were tried.
        """
        tried: list[Said] = []
        while self._on_their_way and self._on_their_way[0][0] <= applied_serial:
            tried.append(self._on_their_way.popleft()[1])
        for _, prefix in recovered:
            self._failures.pop(prefix, None)
        for failure in failures:
            if failure.table_id == self.table_id:
                self._failures[failure.prefix] = failure.reason
        for table_id, prefix in unpreferred:
            if table_id == self.table_id:
                self._preferred.pop(prefix, None)
        for route in preferred:
            if route.table_id == self.table_id:
                self._preferred[route.prefix] = route.reason
        self.counters = counters
        return tried

    def __contains__(self, prefix: Prefix) -> bool:
        """Whether a route of ours is wanted for a prefix."""
        return self._wish_of(prefix) is not None

    def wish(self, prefix: Prefix) -> Wish | None:
        """What is wanted for a prefix now."""
        return self._wish_of(prefix)

    @property
    def is_settled(self) -> bool:
        """Whether the kernel has all that is wanted, and uses it: nothing failed, nothing is
        pending, it prefers no foreign route."""
        return not (self._on_their_way or self._failures or self._preferred or self.has_unsaid)

    def is_pending(self, prefix: Prefix) -> bool:
        """Whether the kernel has not answered for the wanted route yet."""
        family, key = prefix.family, prefix.as_int
        return key in self._unsaid[family].wishes or any(
            said.has(family, key) for _, said in self._on_their_way
        )

    def pending_among(self, family: Family, keys: AbstractSet[int]) -> set[int]:
        """The same for many at once: those of these prefixes (`Prefix.as_int`) that are pending."""
        unsaid = self._unsaid[family].wishes
        pending = set(unsaid.keys() & keys) if unsaid else set()
        for _, said in self._on_their_way:
            if len(pending) == len(keys):
                break
            pending |= said.among(family, keys)
        return pending

    def failure_of(self, prefix: Prefix) -> str:
        """Why the kernel does not have the route; empty when it did not fail."""
        return self._failures.get(prefix, "")

    def preferred_to(self, prefix: Prefix) -> str:
        """Which foreign route the kernel prefers to ours, in words; empty when to none."""
        return self._preferred.get(prefix, "")


class Said:
    """The prefixes of one update. Few are ever looked for, so a set is made when one is."""

    def __init__(self, columns: Mapping[Family, tuple[list[int], ...]]) -> None:
        self._columns = columns
        self._sets: dict[Family, frozenset[int]] = {}

    def has(self, family: Family, key: int) -> bool:
        """Whether a prefix (`Prefix.as_int`) is among them."""
        return key in self._set(family)

    def among(self, family: Family, keys: AbstractSet[int]) -> AbstractSet[int]:
        """Those of these prefixes that are among them."""
        return keys & self._set(family) if keys else frozenset()

    def _set(self, family: Family) -> frozenset[int]:
        keys = self._sets.get(family)
        if keys is None:
            keys = self._sets[family] = frozenset().union(*self._columns[family])
        return keys


class _Columns:
    """Collects wishes by family, with each distinct value once."""

    def __init__(self) -> None:
        self._keys: dict[Family, list[int]] = {family: [] for family in Family}
        self._indices: dict[Family, list[int]] = {family: [] for family in Family}
        self._removals: dict[Family, list[int]] = {family: [] for family in Family}
        self._values: dict[Wish, int] = {}
        self._next_hops = 0
        """In all values so far."""

    def take(self, family: Family, keys: list[int], wishes: list[Wish | None]) -> int:
        """Add wishes; returns how many of them, before there are too many next hops."""
        numbers: dict[int, int] = {}
        count, values = len(keys), self._values
        # By identity: a table has few wishes and many routes.
        distinct = {id(wish): wish for wish in wishes}
        for identity, wish in distinct.items():
            if wish is None:
                continue
            if wish not in values:
                next_hops = self._next_hops + len(wish.next_hops[:NEXT_HOPS_MAX])
                if next_hops > UPDATE_NEXT_HOPS_MAX:
                    count = next(at for at, each in enumerate(wishes) if each is wish)
                    break
                values[wish] = len(values)
                self._next_hops = next_hops
            numbers[identity] = values[wish]
        if id(None) not in distinct:  # a table that is loaded
            self._keys[family] += keys[:count]
            self._indices[family] += [numbers[id(wish)] for wish in wishes[:count]]
            return count
        taken = list(zip(keys[:count], wishes[:count], strict=True))
        self._removals[family] += [key for key, wish in taken if wish is None]
        self._keys[family] += [key for key, wish in taken if wish is not None]
        self._indices[family] += [numbers[id(wish)] for _, wish in taken if wish is not None]
        return count

    def removed(self) -> Iterator[Prefix]:
        """Prefixes for which nothing is wanted any more."""
        for family, keys in self._removals.items():
            for key in keys:
                yield Prefix.from_int(family, key)

    def said(self) -> Said:
        """Everything that was taken; nothing more may be."""
        return Said({family: (keys, self._removals[family]) for family, keys in self._keys.items()})

    def update(self, serial: int, table_id: int, *, completes_start: bool) -> FibUpdate:
        """The message."""
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
        values = tuple(FibValue(wish.type, wish.next_hops[:NEXT_HOPS_MAX]) for wish in self._values)
        return FibUpdate(serial, values, install, remove, completes_start)
