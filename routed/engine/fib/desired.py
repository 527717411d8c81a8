"""What the engine wants in the kernel: desired routes that changed, are on their way, or failed.
Pure.

    decision --changed--> DesiredFib --pop_update--> parent
                              ^--------- progress ----- parent

Only what is still to be said is kept here, not the table; a desired route that changes back before
it was said costs one comparison in the parent. Each update carries a serial; the parent reports up
to which serial it has tried everything, and which routes failed, so a route's state needs no
message of its own: it is installed when it is neither unsaid nor on its way, and not among the
failures.

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

__all__ = ["UPDATE_ROUTES_MAX", "WINDOW_UPDATES", "DesiredFib", "DesiredRoute", "SentUpdate"]

UPDATE_ROUTES_MAX = 2000
"""Routes in one update: 6 ms of the kernel's work."""

UPDATE_NEXT_HOPS_MAX = 1500
"""Next hops in one update, each 32 bytes at most. With UPDATE_ROUTES_MAX prefixes of 21 bytes, and
as many values of 11, an update is well under the frame limit."""

WINDOW_UPDATES = 8
"""Updates on their way: enough that the parent never waits for the engine."""


class DesiredRoute(NamedTuple):
    """What the kernel should do with packets to a prefix."""

    type: RouteType
    next_hops: tuple[NextHop, ...]
    left_out: int = 0
    """How many more next hops the RIB has found than a route may have."""


class _Unsent:
    """The desired routes of one family that the parent has not been told, in the order of their
    change."""

    def __init__(self) -> None:
        self.desired: dict[int, DesiredRoute | None] = {}
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, keys: Sequence[int], desired: Sequence[DesiredRoute | None]) -> None:
        """Changes of one prefix are one change, in its first place.

        Of what changes together, routes without a gateway are said first: gateways may stand on
        them.
        """
        known = self.desired
        fresh = [key for key in keys if key not in known] if known else keys
        known.update(zip(keys, desired, strict=True))
        first = {
            id(desired_route)
            for desired_route in _distinct(desired)
            if desired_route is not None and _has_links(desired_route)
        }
        if not first:
            self._order.extend(fresh)
            return
        self._order.extend(key for key in fresh if id(known[key]) in first)
        self._order.extend(key for key in fresh if id(known[key]) not in first)

    def take(self, limit: int) -> tuple[list[int], list[DesiredRoute | None]]:
        """The next ones, at most so many, with their desired routes; they are forgotten."""
        next_key, forget = self._order.popleft, self.desired.pop
        keys = [next_key() for _ in range(min(limit, len(self._order)))]
        desired = [forget(key) for key in keys]
        if not self._order:
            self.desired = {}  # a dictionary that was large stays large
        return keys, desired

    def put_back(self, keys: Sequence[int], desired: Sequence[DesiredRoute | None]) -> None:
        """What was taken last is the next again."""
        self._order.extendleft(reversed(keys))
        self.desired.update(zip(keys, desired, strict=True))


def _distinct(desired: Sequence[DesiredRoute | None]) -> Iterable[DesiredRoute | None]:
    """By identity: a table has few desired routes and many routes."""
    return {id(desired_route): desired_route for desired_route in desired}.values()


def _has_links(desired_route: DesiredRoute) -> bool:
    return bool(desired_route.next_hops) and all(hop.via is None for hop in desired_route.next_hops)


class DesiredFib:
    """The desired routes of one kernel table."""

    def __init__(self, table_id: int, desired_for: Callable[[Prefix], DesiredRoute | None]) -> None:
        """Args:
        table_id: of the kernel table.
        desired_for: what is wanted for a prefix now; None for no route of ours.
        """
        self.counters = FibCounters()
        """The parent's, as last told."""
        self.table_id = table_id
        self._desired_for = desired_for
        self._unsent = {family: _Unsent() for family in Family}
        self._in_flight: deque[tuple[int, SentUpdate]] = deque()
        self._failures: dict[Prefix, str] = {}
        self._preferred: dict[Prefix, str] = {}
        self._serial = 0
        self._start_left: dict[Family, int] = {}
        """Of what was decided when the first update was sent: how many are still to be said."""

    def changed(
        self, family: Family, keys: Sequence[int], desired: Sequence[DesiredRoute | None]
    ) -> None:
        """Something else may be wanted for these prefixes now.

        Args:
            family: of all of them.
            keys: `Prefix.as_int`, each once.
            desired routes: one for each; None for no route of ours.
        """
        self._unsent[family].add(keys, desired)

    @property
    def has_unsent(self) -> bool:
        """Whether something is still to be said."""
        return any(unsent.desired for unsent in self._unsent.values())

    def pop_update(self) -> FibUpdate | None:
        """The next update to send; None when everything was said, or enough is on its way."""
        if not self.has_unsent or len(self._in_flight) >= WINDOW_UPDATES:
            return None
        return self._say()

    def pop_first_update(self) -> FibUpdate:
        """The first update of an engine's life, sent even when nothing is wanted: it says "I have
        decided", on which the daemon's readiness waits. That it waits for all that was decided by
        then, and for nothing later, is said by `completes_start` of the last of these."""
        self._start_left = {family: len(unsent) for family, unsent in self._unsent.items()}
        return self._say()

    def _say(self) -> FibUpdate:
        columns = _Columns()
        waiting = [family for family, unsent in self._unsent.items() if unsent.desired]
        for family in waiting:  # neither waits for a million of the other
            keys, desired = self._unsent[family].take(UPDATE_ROUTES_MAX // len(waiting))
            count = columns.take(family, keys, desired)
            if count < len(keys):
                self._unsent[family].put_back(keys[count:], desired[count:])
            if self._start_left:
                self._start_left[family] -= count
        if self._failures:
            for prefix in columns.removed():
                self._failures.pop(prefix, None)
        self._serial += 1
        self._in_flight.append((self._serial, columns.said()))
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
    ) -> list[SentUpdate]:
        """Take in what the parent reports: as `routed.imsg.messages.FibProgress` has it.

        Returns:
            The updates that were tried.
        """
        tried: list[SentUpdate] = []
        while self._in_flight and self._in_flight[0][0] <= applied_serial:
            tried.append(self._in_flight.popleft()[1])
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
        return self._desired_for(prefix) is not None

    def desired_route(self, prefix: Prefix) -> DesiredRoute | None:
        """What is wanted for a prefix now."""
        return self._desired_for(prefix)

    @property
    def is_settled(self) -> bool:
        """Whether the kernel has all that is wanted, and uses it: nothing failed, nothing is
        pending, it prefers no foreign route."""
        return not (self._in_flight or self._failures or self._preferred or self.has_unsent)

    def is_pending(self, prefix: Prefix) -> bool:
        """Whether the kernel has not answered for the wanted route yet."""
        family, key = prefix.family, prefix.as_int
        return key in self._unsent[family].desired or any(
            said.has(family, key) for _, said in self._in_flight
        )

    def pending_among(self, family: Family, keys: AbstractSet[int]) -> set[int]:
        """The same for many at once: those of these prefixes (`Prefix.as_int`) that are pending."""
        unsent = self._unsent[family].desired
        pending = set(unsent.keys() & keys) if unsent else set()
        for _, said in self._in_flight:
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


class SentUpdate:
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
    """Collects desired routes by family, with each distinct value once."""

    def __init__(self) -> None:
        self._keys: dict[Family, list[int]] = {family: [] for family in Family}
        self._indices: dict[Family, list[int]] = {family: [] for family in Family}
        self._removals: dict[Family, list[int]] = {family: [] for family in Family}
        self._values: dict[DesiredRoute, int] = {}
        self._next_hops = 0
        """In all values so far."""

    def take(self, family: Family, keys: list[int], desired: list[DesiredRoute | None]) -> int:
        """Add desired routes; returns how many of them, before there are too many next hops."""
        numbers: dict[int, int] = {}
        count, values = len(keys), self._values
        # By identity: a table has few desired routes and many routes.
        distinct = {id(desired_route): desired_route for desired_route in desired}
        for identity, desired_route in distinct.items():
            if desired_route is None:
                continue
            if desired_route not in values:
                next_hops = self._next_hops + len(desired_route.next_hops[:NEXT_HOPS_MAX])
                if next_hops > UPDATE_NEXT_HOPS_MAX:
                    count = next(at for at, each in enumerate(desired) if each is desired_route)
                    break
                values[desired_route] = len(values)
                self._next_hops = next_hops
            numbers[identity] = values[desired_route]
        if id(None) not in distinct:  # a table that is loaded
            self._keys[family] += keys[:count]
            self._indices[family] += [
                numbers[id(desired_route)] for desired_route in desired[:count]
            ]
            return count
        taken = list(zip(keys[:count], desired[:count], strict=True))
        self._removals[family] += [key for key, desired_route in taken if desired_route is None]
        self._keys[family] += [key for key, desired_route in taken if desired_route is not None]
        self._indices[family] += [
            numbers[id(desired_route)] for _, desired_route in taken if desired_route is not None
        ]
        return count

    def removed(self) -> Iterator[Prefix]:
        """Prefixes for which nothing is wanted any more."""
        for family, keys in self._removals.items():
            for key in keys:
                yield Prefix.from_int(family, key)

    def said(self) -> SentUpdate:
        """Everything that was taken; nothing more may be."""
        return SentUpdate(
            {family: (keys, self._removals[family]) for family, keys in self._keys.items()}
        )

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
        values = tuple(
            FibValue(desired_route.type, desired_route.next_hops[:NEXT_HOPS_MAX])
            for desired_route in self._values
        )
        return FibUpdate(serial, values, install, remove, completes_start)
