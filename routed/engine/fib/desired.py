"""Desired routes of the kernel table that are unsent, in flight, or failed. Pure.

    decision --set_routes--> DesiredFib --pop_update--> parent
                                 ^-- record_progress -- parent

Only unsent changes are kept here, not the table. A desired route that changes back before it is
sent costs one comparison in the parent. Each update carries a serial. The parent reports up to
which serial it has tried everything, and which routes failed, so a route's state needs no message
of its own: it is installed if it is neither unsent nor in flight nor among the failures.

Flow: at most WINDOW_UPDATES of all tables are in flight. Later changes wait here and are merged per
prefix, so neither process builds up a backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from routed.engine.fib.window import SentUpdate, UpdateWindow
from routed.imsg.columns import pack_indices, pack_keys
from routed.imsg.messages import FibColumns, FibUpdate, FibValue
from routed.model.fib import FibCounters, FibFailure, PreferredRoute
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, RouteType

__all__ = ["UPDATE_ROUTES_MAX", "DesiredFib", "DesiredRoute"]

UPDATE_ROUTES_MAX = 2000
"""Routes in one update: 6 ms of the kernel's work."""

UPDATE_NEXT_HOPS_MAX = 1500
"""Next hops in one update, each 32 bytes at most. With UPDATE_ROUTES_MAX prefixes of 21 bytes, and
as many values of 12, an update is well under the frame limit."""

ATTRIBUTES_AS_NEXT_HOPS = 5
"""Next hops that are as long in an update as the attributes of one value: 160 bytes."""


class DesiredRoute(NamedTuple):
    """The route that the kernel should have to a prefix."""

    type: RouteType
    next_hops: tuple[NextHop, ...]
    left_out: int = 0
    """Next hops that the RIB has found beyond what a route may have."""
    attributes: KernelAttributes | None = None
    """None for a plain route."""


class _Unsent:
    """Unsent desired routes of one family, in the order in which they first changed."""

    def __init__(self) -> None:
        self.desired: dict[int, DesiredRoute | None] = {}
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, keys: Sequence[int], desired: Sequence[DesiredRoute | None]) -> None:
        """Add changes. A prefix that is here already keeps its place and gets the new route.

        Of routes that change together, those without a gateway are sent first: the gateways of
        others may resolve through them.
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

    def pop(self, limit: int) -> tuple[list[int], list[DesiredRoute | None]]:
        """Remove and return the next keys, at most `limit`, with their desired routes."""
        next_key, pop_route = self._order.popleft, self.desired.pop
        keys = [next_key() for _ in range(min(limit, len(self._order)))]
        desired = [pop_route(key) for key in keys]
        if not self._order:
            self.desired = {}  # a dictionary that was large stays large
        return keys, desired

    def put_back(self, keys: Sequence[int], desired: Sequence[DesiredRoute | None]) -> None:
        """Put back what was popped last, as the next."""
        self._order.extendleft(reversed(keys))
        self.desired.update(zip(keys, desired, strict=True))


def _distinct(desired: Sequence[DesiredRoute | None]) -> Iterable[DesiredRoute | None]:
    """Distinct desired routes, by identity: many prefixes share one."""
    return {id(desired_route): desired_route for desired_route in desired}.values()


def _has_links(desired_route: DesiredRoute) -> bool:
    return bool(desired_route.next_hops) and all(hop.via is None for hop in desired_route.next_hops)


def _weight_of(desired_route: DesiredRoute) -> int:
    """Return how much of an update a value takes, in next hops."""
    count = len(desired_route.next_hops[:NEXT_HOPS_MAX])
    return count if desired_route.attributes is None else count + ATTRIBUTES_AS_NEXT_HOPS


class DesiredFib:
    """The desired routes of one kernel table."""

    def __init__(self, table_id: int, window: UpdateWindow | None = None) -> None:
        """Begin without routes.

        Args:
            table_id: of the kernel table.
            window: shared by all tables; one of its own when absent.
        """
        self.counters = FibCounters()
        """The parent's, as last reported."""
        self.table_id = table_id
        self._unsent = {family: _Unsent() for family in Family}
        self.window = UpdateWindow() if window is None else window
        """The updates in flight."""
        self._failures: dict[Prefix, FibFailure] = {}
        self._preferred: dict[Prefix, str] = {}
        self._start_left: dict[Family, int] = {}
        """Unsent routes of those that were decided when the first update was sent."""

    def set_table(self, table_id: int) -> None:
        """Use another kernel table, from the next update on."""
        self.table_id = table_id

    def set_routes(
        self, family: Family, keys: Sequence[int], desired: Sequence[DesiredRoute | None]
    ) -> None:
        """Set the desired routes of some prefixes.

        Args:
            family: of all of them.
            keys: `Prefix.as_int`, each once.
            desired: one for each key; None for no route.
        """
        self._unsent[family].add(keys, desired)

    @property
    def has_unsent(self) -> bool:
        """Whether there are unsent changes."""
        return any(unsent.desired for unsent in self._unsent.values())

    def pop_update(self) -> FibUpdate | None:
        """Take the next update to send; None if nothing is unsent, or the window is full."""
        if not self.has_unsent or self.window.is_full:
            return None
        return self._build_update()

    def pop_first_update(self) -> FibUpdate:
        """Take the first update of this engine, which may be empty.

        It says that the engine has decided. The daemon is ready once all routes that were decided
        by then have been tried, and later ones do not delay it: the update that carries the last of
        them has `completes_start`.
        """
        self.begin_start()
        return self._build_update()

    def begin_start(self) -> None:
        """Count the routes that are unsent now among those of the start."""
        self._start_left = {family: len(unsent) for family, unsent in self._unsent.items()}
        self.window.starting.add(self)

    def _build_update(self) -> FibUpdate:
        columns = _Columns()
        waiting = [family for family, unsent in self._unsent.items() if unsent.desired]
        for family in waiting:  # neither family waits for a million routes of the other
            keys, desired = self._unsent[family].pop(UPDATE_ROUTES_MAX // len(waiting))
            count = columns.add(family, keys, desired)
            if count < len(keys):
                self._unsent[family].put_back(keys[count:], desired[count:])
            if self._start_left:
                self._start_left[family] -= count
        if self._failures:
            for prefix in columns.removed():
                self._failures.pop(prefix, None)
        serial = self.window.add(columns.sent(self.table_id))
        completes_start = bool(self._start_left) and max(self._start_left.values()) <= 0
        if completes_start:
            self._start_left = {}
            self.window.starting.discard(self)
            completes_start = not self.window.starting
        return columns.update(serial, self.table_id, completes_start=completes_start)

    def record_progress(
        self,
        applied_serial: int,
        failures: Iterable[FibFailure],
        recovered: Iterable[tuple[int, Prefix]],
        counters: FibCounters,
        preferred: Iterable[PreferredRoute] = (),
        unpreferred: Iterable[tuple[int, Prefix]] = (),
    ) -> list[SentUpdate]:
        """Record what the parent reports, in the fields of `routed.imsg.messages.FibProgress`.

        Returns:
            The updates that were tried.
        """
        tried = self.window.pop_tried(applied_serial)
        for table_id, prefix in recovered:
            if table_id == self.table_id:
                self._failures.pop(prefix, None)
        for failure in failures:
            if failure.table_id == self.table_id:
                self._failures[failure.prefix] = failure
        for table_id, prefix in unpreferred:
            if table_id == self.table_id:
                self._preferred.pop(prefix, None)
        for route in preferred:
            if route.table_id == self.table_id:
                self._preferred[route.prefix] = route.reason
        self.counters = counters
        return tried

    @property
    def is_reconciled(self) -> bool:
        """Whether the kernel has and uses all desired routes: nothing failed, nothing is pending,
        and it prefers no foreign route."""
        return not (self.window or self._failures or self._preferred or self.has_unsent)

    def is_pending(self, prefix: Prefix) -> bool:
        """Return whether the kernel has not answered for the desired route yet."""
        family, key = prefix.family, prefix.as_int
        return key in self._unsent[family].desired or any(
            sent.has(family, key) for sent in self.window.of_table(self.table_id)
        )

    def pending_among(self, family: Family, keys: AbstractSet[int]) -> set[int]:
        """Select those of some prefixes (`Prefix.as_int`) that are pending."""
        unsent = self._unsent[family].desired
        pending = set(unsent.keys() & keys) if unsent else set()
        for sent in self.window.of_table(self.table_id):
            if len(pending) == len(keys):
                break
            pending |= sent.among(family, keys)
        return pending

    def failure_of(self, prefix: Prefix) -> str:
        """Return why the kernel does not have the route; empty if it did not fail."""
        failure = self._failures.get(prefix)
        return "" if failure is None else failure.reason

    def is_waiting(self, prefix: Prefix) -> bool:
        """Return whether the route failed because it waits for its source address."""
        failure = self._failures.get(prefix)
        return failure is not None and failure.is_waiting

    def preferred_to(self, prefix: Prefix) -> str:
        """Describe the foreign route that the kernel prefers; empty if there is none."""
        return self._preferred.get(prefix, "")


class _Columns:
    """Desired routes of one update by family, with each distinct value once."""

    def __init__(self) -> None:
        self._keys: dict[Family, list[int]] = {family: [] for family in Family}
        self._indices: dict[Family, list[int]] = {family: [] for family in Family}
        self._removals: dict[Family, list[int]] = {family: [] for family in Family}
        self._values: dict[DesiredRoute, int] = {}
        self._next_hops = 0
        """Number of next hops in all values so far."""

    def add(self, family: Family, keys: list[int], desired: list[DesiredRoute | None]) -> int:
        """Add desired routes until there are too many next hops. Returns how many were added."""
        numbers: dict[int, int] = {}
        count, values = len(keys), self._values
        # By identity: many prefixes share one desired route.
        distinct = {id(desired_route): desired_route for desired_route in desired}
        for identity, desired_route in distinct.items():
            if desired_route is None:
                continue
            if desired_route not in values:
                next_hops = self._next_hops + _weight_of(desired_route)
                if next_hops > UPDATE_NEXT_HOPS_MAX:
                    count = next(at for at, each in enumerate(desired) if each is desired_route)
                    break
                values[desired_route] = len(values)
                self._next_hops = next_hops
            numbers[identity] = values[desired_route]
        if id(None) not in distinct:  # the usual case while a table is loaded
            self._keys[family] += keys[:count]
            self._indices[family] += [
                numbers[id(desired_route)] for desired_route in desired[:count]
            ]
            return count
        added = list(zip(keys[:count], desired[:count], strict=True))
        self._removals[family] += [key for key, desired_route in added if desired_route is None]
        self._keys[family] += [key for key, desired_route in added if desired_route is not None]
        self._indices[family] += [
            numbers[id(desired_route)] for _, desired_route in added if desired_route is not None
        ]
        return count

    def removed(self) -> Iterator[Prefix]:
        """Iterate over the prefixes whose route is to be removed."""
        for family, keys in self._removals.items():
            for key in keys:
                yield Prefix.from_int(family, key)

    def sent(self, table_id: int) -> SentUpdate:
        """Return the prefixes that were added. Nothing may be added afterwards."""
        return SentUpdate(
            table_id,
            {family: (keys, self._removals[family]) for family, keys in self._keys.items()},
        )

    def update(self, serial: int, table_id: int, *, completes_start: bool) -> FibUpdate:
        """Build the message."""
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
            FibValue(each.type, each.next_hops[:NEXT_HOPS_MAX], each.attributes)
            for each in self._values
        )
        return FibUpdate(serial, values, install, remove, completes_start)
