"""The synchronisation of nexthop objects: written before the routes, swept after them.

    FibSync --value_for, work, sweep--> ObjectSync --NexthopTable.plan--> kernel
    notifications, suspicions -------------^

All calls are synchronous and short, on a separate socket, so a next hop that dies is removed from
its groups even while `FibSync` waits for a dump.

Failure: a request that fails as a whole is logged, and the objects are read again with the routes.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from routed.fib.nexthops.codec import Hop, NextHopKind, NextHopWrite, SeenNextHop
from routed.fib.nexthops.table import NextHopState, NexthopTable
from routed.fib.routes.ownership import PROTOCOL_NAMES, RouteValue
from routed.fib.routes.plan import FibBatch, KernelRefusal, Refusals
from routed.fib.routes.tables import BATCH_OPERATIONS, FibTables
from routed.log.logger import Logger
from routed.model.columns import ValueColumn
from routed.model.prefix import Address, Family
from routed.model.route import MAX_WEIGHT
from routed.netlink.socket import DUMP_ATTEMPTS, DumpInterrupted, NetlinkError

__all__ = ["NO_OBJECTS", "NextHopKernel", "ObjectSync"]

NO_OBJECTS = "next hops are written into each route (this kernel has no nexthop objects)"

SWEEP_GAP_S = 1.0
"""Least seconds between two walks over all routes for unreferenced objects."""

SWEEP_SHARE = 0.01
"""Share of the time that such walks may take; one over a million routes takes 50 ms."""

_MODE_READ_S = 1.0

DRIFT_LINES = 5
"""Most log lines at a time, one for each object that was replaced from outside."""


class NextHopKernel(Protocol):
    """The part of a kernel that is needed: a separate `RequestSocket`, or the tests' fake."""

    def dump_nexthops(self) -> list[SeenNextHop] | None:
        """Read every object; None if the kernel has no nexthop objects. DumpInterrupted: it must
        be repeated; NetlinkError: it was refused."""
        ...

    def write_nexthops(self, writes: Sequence[NextHopWrite]) -> list[KernelRefusal]:
        """Carry out all writes, in order; errno 0 means success."""
        ...


class ObjectSync:
    """Keeps the nexthop objects in the kernel equal to a `NexthopTable`, for the FIB tables."""

    def __init__(
        self,
        nexthop_table: NexthopTable,
        kernel: NextHopKernel,
        fib_tables: FibTables,
        log: Logger,
        compat_mode: Callable[[], int | None],
    ) -> None:
        """Start with a table that is not trusted until `read`.

        Args:
            nexthop_table: the table of objects; only this sync plans from it and records in it.
            kernel: where objects are read and written; no dump is under way on it during any call.
            fib_tables: the routes that use the objects.
            log: for failures.
            compat_mode: returns net.ipv4.nexthop_compat_mode; None if the kernel has none.
        """
        self.nexthop_table = nexthop_table
        self.is_trusted = False
        """Whether the table equals the objects in the kernel, as far as is known."""
        self._kernel = kernel
        self._fib_tables = fib_tables
        self._log = log
        self._compat_mode = compat_mode
        self._mode: int | None = None
        self._mode_read_at = -math.inf
        self._needs_sweep = False
        self._sweep_at = 0.0

    # --- events

    def read(self) -> None:
        """Read every object.

        Raises:
            NetlinkError: the kernel refused, or was interrupted DUMP_ATTEMPTS times.
        """
        for attempt in range(DUMP_ATTEMPTS):
            try:
                seen = self._kernel.dump_nexthops()
            except DumpInterrupted:
                if attempt == DUMP_ATTEMPTS - 1:
                    raise
                continue
            self.nexthop_table.read(seen or ())
            self._log_replaced()
            self.is_trusted = True
            self._needs_sweep = True
            return

    def notified(self, seen: SeenNextHop, *, is_removed: bool) -> bool:
        """Handle a change of an object from outside. Returns whether routes of ours may be lost."""
        may_have_lost_routes = self.nexthop_table.changed(seen, is_removed=is_removed)
        self._log_replaced()
        self._needs_sweep = True
        return may_have_lost_routes

    def _log_replaced(self) -> None:
        taken, self.nexthop_table.popped_changes = self.nexthop_table.popped_changes, []
        for seen in taken[:DRIFT_LINES]:
            protocol = PROTOCOL_NAMES.get(seen.protocol, seen.protocol)
            self._log.emit("nexthop-drift", id=seen.id, by=protocol)

    def links_changed(self, *, may_have_lost_objects: bool) -> None:
        """Handle a change of a link or address. A link that goes down removes its objects."""
        if may_have_lost_objects:
            self._read_again()
        self.nexthop_table.links_changed()

    def begin_verification(self, hops: Iterable[tuple[Address | None, int]], now: float) -> int:
        """Remove next hops that are likely dead from every group that has other members: from a
        first batch of groups at once, from the others as `work` processes them.

        Returns:
            The number of groups that were written.
        """
        if not self.nexthop_table.begin_verification(hops, now) or not self.is_trusted:
            return 0
        writes = self.nexthop_table.plan_regroup(now, BATCH_OPERATIONS)
        if writes:
            self._carry_out(writes, now)
        return len(writes)

    # --- values of routes

    def values_for(self, values: Sequence[RouteValue], family: Family) -> Sequence[RouteValue]:
        """Return the same routes through objects; each distinct value is converted once."""
        self._needs_sweep = True
        return ValueColumn.of(values).mapped(
            lambda value: self.nexthop_table.value_for(value, family)
        )

    # --- work

    def work(self, now: float, *, has_links_only: bool = False) -> int:
        """Compare and write what is due, at most one batch of each. Returns how much that was.

        Args:
            now: trio.current_time().
            has_links_only: whether to write only objects without a gateway.
        """
        plan = self.nexthop_table.plan_link_routes if has_links_only else self.nexthop_table.plan
        compared = self.nexthop_table.compare()
        writes = plan(now, BATCH_OPERATIONS)
        if not writes or not self.is_trusted:
            return compared
        self._carry_out(writes, now)
        return compared + len(writes)

    def _carry_out(self, writes: Sequence[NextHopWrite], now: float) -> None:
        weight_limit = self.nexthop_table.weight_limit
        try:
            outcomes = self._kernel.write_nexthops(writes)
        except (NetlinkError, OSError) as error:
            self._distrust("writing nexthop objects", error)
            return
        has_evicted = any(self.nexthop_table.is_to_go(write.id) for write in writes)
        recovered = self.nexthop_table.record(writes, outcomes, now)
        for write, outcome in zip(writes, outcomes, strict=True):
            self._log_refusal(write, outcome)
        if recovered:
            self._fib_tables.retry_through(recovered)
        if has_evicted or any(map(_is_surprise, writes, outcomes)):
            self.is_trusted = False  # the kernel has another object, or lost routes with it
        if self.nexthop_table.weight_limit != weight_limit:
            self._log.emit("nexthop-weight-limit", limit=self.nexthop_table.weight_limit)

    def _log_refusal(self, write: NextHopWrite, outcome: KernelRefusal) -> None:
        """Log the next hop that groups lack; routes through no other have a log line each."""
        form = write.form
        if (
            outcome.errno
            and isinstance(form, Hop)
            and self.nexthop_table.is_new_failure_in_groups(write.id)
        ):
            self._log.emit(
                "nexthop-refused",
                via=form.via or "",
                ifindex=form.ifindex,
                reason=outcome.text,
            )

    def explain(self, batches: Sequence[FibBatch], refusals: Sequence[Refusals]) -> None:
        """Replace "no such nexthop" in the refusals of routes by the reason of the object. Without
        such a reason the objects are read again: an object may be missing unexpectedly."""
        unexplained = set()
        for batch, refused in zip(batches, refusals, strict=True):
            for position, outcome in refused.items():
                nexthop_id = batch.values[position].nexthop_id
                if not nexthop_id or outcome.errno not in _NO_SUCH_OBJECT:
                    continue
                reason = self.nexthop_table.failure_of(nexthop_id)
                if reason is None:
                    unexplained.add(nexthop_id)
                else:
                    refused[position] = reason
        if unexplained:
            self._read_again()
            self.is_trusted &= all(map(self.nexthop_table.is_there, unexplained))

    def sweep_at(self) -> float:
        """Return when the next sweep may be made; math.inf while routes are still to be moved."""
        fib_tables = self._fib_tables
        if not self._needs_sweep or not fib_tables.is_gate_open or not fib_tables.has_tried_all:
            return float("inf")
        return self._sweep_at

    def due_at(self) -> float:
        """Return when the next work is due: a refused object, or a sweep."""
        return min(self.nexthop_table.retry_at(), self.sweep_at())

    def sweep(self, now: float) -> int:
        """Remove objects that no route uses. Returns how many were removed.

        Cost: 50 ns per route, and 10 us for each object removed.
        """
        began = time.perf_counter()
        writes = self.nexthop_table.plan_sweep(self._fib_tables.nexthop_ids())
        took_s = time.perf_counter() - began
        self._needs_sweep = False
        self._sweep_at = now + max(SWEEP_GAP_S, took_s / SWEEP_SHARE)
        for start in range(0, len(writes), BATCH_OPERATIONS):
            self._carry_out(writes[start : start + BATCH_OPERATIONS], now)
        return len(writes)

    def _read_again(self) -> None:
        try:
            self.read()
        except (NetlinkError, OSError) as error:
            self._distrust("reading nexthop objects", error)

    def _distrust(self, what: str, error: Exception) -> None:
        self.is_trusted = False
        self._log.emit("netlink-error", what=what, error=error)

    # --- reports

    @property
    def text(self) -> str:
        """Describe whether routes use objects, and how the kernel shows that, as text for people.

        Every progress report includes it. The kernel's switch is a file, read once a second.
        """
        if not self.nexthop_table.is_enabled:
            return "next hops are written into each route (`nexthop_objects: off`)"
        now = time.monotonic()
        if now - self._mode_read_at >= _MODE_READ_S:
            self._mode, self._mode_read_at = self._compat_mode(), now
        mode, limit = self._mode, self.nexthop_table.weight_limit
        text = "objects" if limit == MAX_WEIGHT else f"objects with weights up to {limit}"
        if mode:
            return f"{text}, slow (net.ipv4.nexthop_compat_mode={mode})"
        return text if mode is None else f"{text} (net.ipv4.nexthop_compat_mode=0)"

    def states_after(self, nexthop_id: int) -> Iterator[NextHopState]:
        """Iterate over our objects with ids above `nexthop_id`, in order."""
        return self.nexthop_table.states_after(nexthop_id)


def _is_surprise(write: NextHopWrite, outcome: KernelRefusal) -> bool:
    """Whether the kernel has another object than was known, or lost one with its routes."""
    if outcome.errno == errno.EADDRINUSE:
        return write.kind is NextHopKind.REPLACE
    return outcome.errno in (errno.EEXIST, errno.ENOENT)


_NO_SUCH_OBJECT = frozenset({errno.EINVAL, errno.ENOENT, errno.ESRCH, errno.ENODEV})
"""Errors of a route through an object that does not exist (fib_check_nexthop)."""
