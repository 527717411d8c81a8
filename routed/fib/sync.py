"""The loop that keeps the kernel FIB as desired: dump, gate, apply, retry, resync.

    desired routes --+
    notifications ---+--> FibTables --plan--> kernel --outcomes--> FibTables --report--> engine
    timers ----------+

One task does the work of the FIB tables; other tasks only record facts and wake it. Work is done in
small batches with the event loop in between, so writing a million routes delays no other task.

Resync (a dump, compared) happens at start, after lost notifications, after an outcome that
contradicts the FIB table, when a link went down or lost an address (Linux removes IPv4 routes
without a notification), on request, and on a jittered timer.

Failure: a route that the kernel refuses fails alone, with the kernel's message as its reason. A
whole request that fails, or whose answer cannot be decoded, is logged and leads to a resync, at
most one every RESYNC_GAP_S.
"""

from __future__ import annotations

import errno
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import trio

from routed.clock import jitter
from routed.fib.messages import DesiredChanges, Progress, ResyncReport, RouteKernel
from routed.fib.nexthop_sync import NO_OBJECTS, ObjectSync
from routed.fib.nexthops.codec import SeenNextHop
from routed.fib.routes.hints import add_hints, is_waiting
from routed.fib.routes.link_prefixes import LinkPrefixes
from routed.fib.routes.ownership import PROTOCOL_NAMES, KernelRoute, Ownership, RouteValue
from routed.fib.routes.plan import FibBatch, OpKind, Refusals
from routed.fib.routes.table import Drift
from routed.fib.routes.tables import FibTables
from routed.log.logger import Logger
from routed.model.columns import ValueColumn
from routed.model.fib import PROGRESS_ROUTES_MAX, FibCounters, FibFailure, PreferredRoute
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop
from routed.netlink.socket import DUMP_ATTEMPTS, DumpInterrupted, NetlinkError

__all__ = ["EVALUATION_S", "FibSync"]

DRIFT_LINES, FAILURE_LINES = 5, 20
"""Most log lines for one group of routes; of the rest only the number is logged."""

RESYNC_GAP_S = 1.0
"""Least seconds between two dumps that failed."""

EVALUATION_S = 1.0
"""Longest delay, in seconds, of reports of failures after a link is lost. The engine is about to
send new next hops for the routes of the link; once it has, failures are reported at once."""

LOOK_GAP_S = 1.0
"""Least seconds between two dumps that changes of foreign routes cause."""

LOOK_SHARE = 0.02
"""Share of the time that such dumps may take: other programs may change routes at any rate."""

FLUSH_TIMEOUT_S = 30.0
"""Seconds that an orderly stop may take to remove our routes."""


class _InSync(NamedTuple):
    """The engine has sent all desired routes."""


class _Verified(NamedTuple):
    """The engine has evaluated the suspected next hops."""

    suspicions: int


class FibSync:
    """Runs the FIB tables against a kernel."""

    def __init__(
        self,
        fib_tables: FibTables,
        kernel: RouteKernel,
        *,
        resync_s: float,
        log: Logger,
        rng: random.Random,
        on_progress: Callable[[], None],
        is_link_up: Callable[[int], bool],
        objects: ObjectSync | None = None,
    ) -> None:
        """Create the loop; `run` starts it.

        Args:
            fib_tables: the FIB tables; only this loop plans from them and records outcomes in them.
            kernel: where routes are read and written.
            resync_s: mean time between two periodic dumps.
            log: for drift, failures and resyncs.
            rng: for jitter.
            on_progress: called when `pop_progress` may return a report.
            is_link_up: whether a link (by ifindex) carries packets now.
            objects: nexthop objects for the routes; None if the kernel has none.
        """
        self.fib_tables = fib_tables
        self.objects = objects
        self.resyncs = 0
        self.overruns = 0
        self.errors: Counter[str] = Counter()
        self.refused = 0
        """Number of the engine's desired routes that were not admitted."""
        self.opened = trio.Event()
        """Set once an engine was in sync and all its desired routes up to then were tried."""
        self.resync_s = resync_s
        self._kernel = kernel
        self._log = log
        self._rng = rng
        self._on_progress = on_progress
        self._wake = trio.Event()
        self._resync_reason = "start"
        self._is_link_up = is_link_up
        self.fib_tables.is_over_dead_link = self._is_over_dead_link
        self.fib_tables.is_link_route = self._is_link_route
        self._link_prefixes = LinkPrefixes()
        """Prefixes of routes without a gateway that were installed while something failed."""
        self._evaluation_due = -math.inf
        """Time from which failures are reported: until then the engine evaluates a lost link."""
        self._look_due = math.inf
        """Time at which foreign routes are read again."""
        self._looked_at = -math.inf
        self._updates: deque[DesiredChanges | _InSync | _Verified] = deque()
        """Updates that are not yet applied to the FIB tables."""
        self._taken_serial = 0
        self._applied_serial = 0
        self._start_serial = 0
        """Serial of the update that completed the routes that the engine selected at its start."""
        self._drift: list[Drift] = []
        self._idle = trio.Event()
        self._last_resync = ResyncReport(0, 0, 0, 0.0)
        self._has_gate_changed = False
        self._last_told: Progress | None = None

    # --- events, recorded by other tasks

    def begin_session(self) -> None:
        """Prepare for a new engine, which numbers its updates from 1."""
        self.fib_tables.begin_session()
        self._updates.clear()
        self._applied_serial = self._taken_serial = self._start_serial = 0
        self._last_told = None

    def update(self, update: DesiredChanges) -> None:
        """Queue an update of the engine's desired routes.

        It waits until all earlier updates were tried, so `applied_serial` is exact; the engine
        limits the number of updates in flight (`routed.engine.fib.desired`).
        """
        self._updates.append(update)
        self._wake.set()

    @property
    def updates_waiting(self) -> int:
        """Number of updates that were received and not yet applied."""
        return len(self._updates)

    def in_sync(self) -> None:
        """Record that the engine has sent all desired routes; the gate opens after their trial."""
        self._updates.append(_InSync())
        self._wake.set()

    def begin_verification(self, hops: Iterable[tuple[Address | None, int]]) -> None:
        """Remove next hops (gateway, ifindex) that are likely dead from every group that has other
        members, before all other work. `next_hops_evaluated` ends that."""
        if self.objects is None:
            return
        groups = self.objects.begin_verification(hops, trio.current_time())
        if groups:
            self._log.emit("nexthop-suspected", groups=groups)
        self._wake.set()  # more groups may be left to write

    def next_hops_evaluated(self) -> None:
        """Record that the engine has evaluated the suspected next hops: once its earlier updates
        were tried, groups get the members that the desired routes need."""
        suspicions = 0 if self.objects is None else self.objects.nexthop_table.suspicions
        self._updates.append(_Verified(suspicions))
        self._wake.set()

    def route_notified(
        self, route: KernelRoute, is_removed: bool, is_replacing: bool = False
    ) -> None:
        """Handle a change of a kernel route by another program.

        Args:
            route: the route, as it is or was.
            is_removed: whether it was removed.
            is_replacing: whether it has replaced another route of its key.
        """
        if not is_removed and route.value.is_link_route and self._has_failures:
            self._link_prefixes.add(route.key.prefix)
        if (is_removed or is_replacing) and self.fib_tables.is_contested(route.key):
            self._request_dump()
        drift = self.fib_tables.route_changed(
            route, trio.current_time(), is_removed=is_removed, is_replacing=is_replacing
        )
        if drift is not None:
            self._drift.append(drift)
        self._wake.set()

    def links_changed(self, *, may_have_lost_routes: bool) -> None:
        """Retry failures after a change of a link or address; resync if routes may be lost."""
        self.fib_tables.retry_everything()
        if self.objects is not None:
            self.objects.links_changed(may_have_lost_objects=may_have_lost_routes)
        if may_have_lost_routes:
            self._evaluation_due = trio.current_time() + EVALUATION_S
            self.request_resync("link")
        self._wake.set()

    def addresses_left(self, addresses: Collection[Address]) -> None:
        """Write routes through these gateways again: the host no longer has these addresses."""
        ipv4 = frozenset(address for address in addresses if address.family is Family.IPV4)
        if not ipv4:
            return
        self.fib_tables.rewrite(ipv4)
        if self.objects is not None:
            self.objects.nexthop_table.rewrite(ipv4)
        self._wake.set()

    def nexthop_notified(self, seen: SeenNextHop, is_removed: bool) -> None:
        """Handle a change of a nexthop object by another program."""
        if self.objects is not None and self.objects.notified(seen, is_removed=is_removed):
            self.request_resync("nexthop")
        if is_removed and self.fib_tables.has_contested:
            self._request_dump()  # foreign routes go with their object without notification
        self._wake.set()

    def _request_dump(self) -> None:
        """Request a dump: foreign routes may have changed without a notification."""
        if self._look_due == math.inf:
            gap_s = max(LOOK_GAP_S, self._last_resync.took_s / LOOK_SHARE)
            self._look_due = max(trio.current_time(), self._looked_at + gap_s)

    def request_resync(self, reason: str) -> None:
        """Request a resync; several requests are merged."""
        self._resync_reason = self._resync_reason or reason
        self._wake.set()

    def notifications_lost(self) -> None:
        """Handle the loss of notifications."""
        self.overruns += 1
        self._log.emit("fib-overrun", overruns=self.overruns)
        self.request_resync("overrun")

    def change_ownership(self, ownership: Ownership) -> None:
        """Apply the ownership of a new configuration."""
        before = self.fib_tables.ownership
        self.fib_tables.change_ownership(ownership)
        if ownership.tables - before.tables:
            self.request_resync("table")
        elif ownership.priority != before.priority:
            self.request_resync("priority")  # other foreign routes may be preferred to ours now
        self._wake.set()

    @property
    def has_applied_start(self) -> bool:
        """Whether all routes that an engine had selected at its first update were tried."""
        return 0 < self._start_serial <= self._applied_serial

    # --- commands; each returns once it is carried out

    async def decouple(self) -> int:
        """Remove every route of ours from the kernel; the desired routes are kept.

        Returns:
            How many are left because the kernel refused to remove them.
        """
        self.fib_tables.decouple()
        await self._await_idle()
        return self.fib_tables.kernel_count

    async def couple(self) -> FibCounters:
        """Install the desired routes again. Returns the counters afterwards."""
        self.fib_tables.couple()
        await self._await_idle()
        return self.counters()

    async def resync(self) -> ResyncReport:
        """Read the kernel now and repair every difference from the desired state, also of routes
        that would be tried again later only."""
        before = self.resyncs
        self.request_resync("command")
        while self.resyncs == before:
            await self._await_idle()
        self.fib_tables.retry_everything()
        await self._await_idle()
        return self._last_resync

    async def _await_idle(self) -> None:
        """Wait until the loop is idle."""
        self._wake.set()
        await self._idle.wait()

    # --- the loop

    async def run(self) -> None:
        """Keep the kernel equal to the desired state; cancel to stop (between two batches)."""
        resync_at = trio.current_time() + jitter(self.resync_s, self._rng)
        while True:
            self._wake = trio.Event()
            self._log_drift()
            if self._resync_reason:
                await self._resync()
                resync_at = trio.current_time() + jitter(self.resync_s, self._rng)
            if not self.resyncs:
                continue  # nothing is planned before the kernel was read once
            if await self._work() or self._sweep_objects():
                continue
            self._idle.set()
            self._idle = trio.Event()
            wake_at = min(resync_at, self.fib_tables.retry_at(), self._objects_at())
            wake_at = min(wake_at, self._look_due)
            if self._evaluation_due > -math.inf:
                wake_at = min(wake_at, self._evaluation_due)
            with trio.move_on_at(wake_at):
                await self._wake.wait()
            if self._evaluation_due <= trio.current_time():
                self._end_evaluation()
            if trio.current_time() >= self._look_due:
                self.request_resync("foreign")
            if trio.current_time() >= resync_at:
                self.request_resync("timer")

    def _end_evaluation(self) -> None:
        """Report failures again."""
        if self._evaluation_due > -math.inf:
            self._evaluation_due = -math.inf
            self._on_progress()

    async def flush(self) -> int:
        """Remove every route of ours; `run` must have been cancelled before.

        Returns:
            How many are left because the kernel refused or time ran out.
        """
        self._updates.clear()
        return await self._remove_everything()

    async def sweep_all(self) -> int:
        """Read the kernel once and remove every route of ours; instead of `run`.

        Returns:
            How many are left because the kernel refused or time ran out.

        Raises:
            NetlinkError: the kernel cannot be read.
        """
        await self._resync()
        if not self.resyncs:
            raise NetlinkError("its routes cannot be read")
        return await self._remove_everything()

    async def _remove_everything(self) -> int:
        self.fib_tables.clear_desired()
        with trio.move_on_after(FLUSH_TIMEOUT_S):
            while await self._work():
                pass
            if self.objects is not None:
                self.objects.sweep(trio.current_time())
        return self.fib_tables.kernel_count

    async def _work(self) -> bool:
        """Do one batch of work. Returns whether there was anything to do.

        Routes without a gateway come first, with the objects that they use, because other routes
        depend on them; then objects; then all other routes.
        """
        has_applied = self.fib_tables.has_tried_all and self._apply_update()
        self._retry_covered()
        now = trio.current_time()
        batches: Sequence[FibBatch] = ()
        if self.fib_tables.has_link_routes:
            if self._write_objects(has_links_only=True):
                await trio.lowlevel.checkpoint()
                return True
            batches = self.fib_tables.plan_link_routes()
        if not batches:
            if self._write_objects(has_links_only=False):
                await trio.lowlevel.checkpoint()
                return True
            batches = self.fib_tables.plan(now)
        if batches and not await self._apply(batches):
            return True
        if self.objects is not None and not self.objects.is_trusted:
            self.request_resync("nexthop")
        if self.fib_tables.has_tried_all:
            self._applied_serial = self._taken_serial
            if self._has_gate_changed and not batches:
                self._log_gate()
        self._log_failures()
        self._report_preferred_foreign()
        self._on_progress()
        if not batches and not has_applied:
            return False
        await trio.lowlevel.checkpoint()
        return True

    def _write_objects(self, *, has_links_only: bool) -> bool:
        """Write at most one batch of nexthop objects. Returns whether there were any."""
        if self.objects is None:
            return False
        return bool(self.objects.work(trio.current_time(), has_links_only=has_links_only))

    async def _apply(self, batches: Sequence[FibBatch]) -> bool:
        """Write routes and record the outcome. Returns False if the outcome is unknown."""
        try:
            refusals = self._kernel.apply(batches)
        except (NetlinkError, OSError) as error:
            await self._distrust("writing routes", error)
            return False
        if self.objects is not None:
            self.objects.explain(batches, refusals)
        for batch, refused in zip(batches, refusals, strict=True):
            add_hints(batch, refused)
            for outcome in refused.values():
                if batch.kind is OpKind.REPLACE and outcome.errno == errno.EEXIST:
                    continue  # not an error: another route of the key precedes ours
                self.errors[errno.errorcode.get(outcome.errno, str(outcome.errno))] += 1
        if not self.fib_tables.record(batches, refusals, trio.current_time()):
            self.request_resync("contradiction")
        if self._has_failures:
            for batch, refused in zip(batches, refusals, strict=True):
                self._add_link_prefixes(batch, refused)
        return True

    # --- routes that gateways resolve over

    @property
    def _has_failures(self) -> bool:
        has_failed_objects = self.objects is not None and self.objects.nexthop_table.has_failures
        return has_failed_objects or self.fib_tables.failed_count > 0

    def _is_link_route(self, value: RouteValue) -> bool:
        if value.nexthop_id and self.objects is not None:
            return self.objects.nexthop_table.is_link_route(value.nexthop_id)
        return value.is_link_route

    def _add_link_prefixes(self, batch: FibBatch, refused: Refusals) -> None:
        """Record the prefixes of the routes without a gateway that a batch has installed."""
        if batch.kind is OpKind.REMOVE:
            return
        column = ValueColumn.of(batch.values)
        if not any(map(self._is_link_route, column.distinct)):
            return
        for position, (key, value) in enumerate(zip(batch.keys, column, strict=True)):
            if position not in refused and self._is_link_route(value):
                self._link_prefixes.add(Prefix.from_int(batch.table_key.family, key))

    def _retry_covered(self) -> None:
        """Retry what was refused because of a missing route that is in the kernel now."""
        if not self._link_prefixes:
            return
        covers = self._link_prefixes.covers
        if self.objects is not None:
            self.objects.nexthop_table.retry_covered(covers)
        self.fib_tables.retry_covered(covers, self._hops_of)
        self._link_prefixes.clear()

    def _hops_of(self, value: RouteValue) -> tuple[NextHop, ...]:
        return (
            value.next_hops if self.objects is None else self.objects.nexthop_table.hops_of(value)
        )

    def _is_over_dead_link(self, value: RouteValue) -> bool:
        return any(not self._is_link_up(hop.ifindex) for hop in self._hops_of(value))

    def _objects_at(self) -> float:
        """Return the time at which nexthop objects are checked again."""
        return math.inf if self.objects is None else self.objects.due_at()

    def _sweep_objects(self) -> bool:
        """Remove nexthop objects that no route uses, if due. Returns whether there were any."""
        now = trio.current_time()
        if self.objects is None or self.objects.sweep_at() > now:
            return False
        return bool(self.objects.sweep(now))

    def _apply_update(self) -> bool:
        """Apply the engine's next update to the FIB tables. Returns whether there was one."""
        if not self._updates:
            return False
        update = self._updates.popleft()
        if isinstance(update, _InSync):
            self.fib_tables.open_gate()
            self._has_gate_changed = True
            return True
        if isinstance(update, _Verified):
            self._end_evaluation()
            if self.objects is not None:
                self.objects.nexthop_table.lift(update.suspicions, trio.current_time())
            return True
        for removals in update.remove:
            self.fib_tables.withdraw(*removals)
        for table_id, family, keys, values in update.install:
            if self.objects is not None:
                values = self.objects.values_for(values, family)
            self.fib_tables.set_desired(table_id, family, keys, values)
        self._taken_serial = update.serial
        if update.completes_start:
            self._start_serial = update.serial
        return True

    async def _resync(self) -> None:
        reason, self._resync_reason = self._resync_reason, ""
        began = trio.current_time()
        self._look_due = math.inf
        drift: list[Drift] = []
        try:
            if self.objects is not None:
                self.objects.read()
            for table_id in sorted(self.fib_tables.ownership.tables):
                for family in Family:
                    drift += await self._dump(table_id, family)
        except (NetlinkError, OSError) as error:
            await self._distrust("reading routes", error)
            return
        self.resyncs += 1
        self._looked_at = trio.current_time()
        missing = sum(entry.what == "deleted" for entry in drift)
        took_s = self._looked_at - began
        known = self.fib_tables.kernel_count
        self._last_resync = ResyncReport(known, missing, len(drift) - missing, took_s)
        self._log.emit("fib-resync", reason=reason, drifted=len(drift))
        self._drift += drift
        self._log_drift()

    async def _dump(self, table_id: int, family: Family) -> list[Drift]:
        """Compare one table of one family with its FIB table, repeated until a dump is complete."""
        attempt, is_thorough = 0, False
        try:
            while True:
                comparison = self.fib_tables.begin_dump(table_id, family, is_thorough=is_thorough)
                try:
                    await self._kernel.dump_routes(table_id, family, comparison.receive)
                except DumpInterrupted:
                    attempt += 1
                    if attempt == DUMP_ATTEMPTS:
                        raise
                    continue
                drift = comparison.finish(trio.current_time())
                if drift is not None:
                    return drift
                is_thorough = True
        finally:
            self.fib_tables.end_dump()

    async def _distrust(self, what: str, error: Exception) -> None:
        """Handle a request that failed as a whole: log it, pause, and read everything again."""
        number = error.errno if isinstance(error, OSError) else None
        words = errno.errorcode.get(number, str(error)) if number else str(error)
        self.errors[words if number else type(error).__name__] += 1
        self._log.emit("netlink-error", what=what, error=words)
        await trio.sleep(RESYNC_GAP_S)
        self.request_resync("error")

    # --- logs and reports

    def _log_drift(self) -> None:
        """Log drift: a line for each of a few routes, the number of the others.

        Routes that were removed with their link are not drift: the kernel removes them, and the
        engine will send others.
        """
        drift, self._drift = self._drift, []
        is_dead = {value: self._is_over_dead_link(value) for value in {e.value for e in drift}}
        strange = [entry for entry in drift if not is_dead[entry.value]]
        for entry in strange[:DRIFT_LINES]:
            self._log.emit("fib-drift", prefix=entry.key.prefix, what=entry.what)
        if len(strange) > DRIFT_LINES:
            self._log.emit("fib-drift-storm", routes=len(strange))

    def _log_gate(self) -> None:
        self._has_gate_changed = False
        self.opened.set()
        counts = self.fib_tables.counts
        self._log.emit(
            "fib-in-sync",
            desired=self.fib_tables.totals[0],
            adopted=counts.adopted,
            swept=counts.swept,
        )

    def _log_failures(self) -> None:
        report = self.fib_tables.pop_changes()
        for key, reason in itertools.islice(report.failures.items(), FAILURE_LINES):
            self._log.emit("fib-route-failed", prefix=key.prefix, reason=reason)
        for key in report.recovered[:FAILURE_LINES]:
            self._log.emit("fib-route-recovered", prefix=key.prefix)
        more = len(report.failures) - FAILURE_LINES
        if more > 0:
            self._log.emit("fib-routes-failed", more=more)

    def _report_preferred_foreign(self) -> None:
        """Log foreign routes that the kernel prefers to ours: a line for each of a few, a total."""
        news = self.fib_tables.pop_preferred_foreign()
        for key, foreign in news[:DRIFT_LINES]:
            self._log.emit(
                "fib-route-shadowed",
                prefix=key.prefix,
                by=PROTOCOL_NAMES.get(foreign.protocol, foreign.protocol),
                priority=foreign.priority,
            )
        if len(news) > DRIFT_LINES:
            self._log.emit("fib-routes-shadowed", more=len(news) - DRIFT_LINES)

    def counters(self) -> FibCounters:
        """Return the numbers of `show fib` and `show status`."""
        desired, installed, failed, pending = self.fib_tables.totals
        counts = self.fib_tables.counts
        return FibCounters(
            desired=desired,
            installed=installed,
            failed=failed,
            pending=pending,
            stale=self.fib_tables.stale_count,
            adopted=counts.adopted,
            swept=counts.swept,
            repaired=counts.repaired,
            shadowed=counts.shadowed,
            shadowed_now=self.fib_tables.shadowed_count,
            resyncs=self.resyncs,
            overruns=self.overruns,
            refused=self.refused,
            errors=dict(self.errors),
            kernel_writes=counts.kernel_writes,
            nexthop_objects=0 if self.objects is None else len(self.objects.nexthop_table),
            nexthops=NO_OBJECTS if self.objects is None else self.objects.text,
            is_coupled=self.fib_tables.is_coupled,
        )

    def pop_progress(self) -> Progress | None:
        """Pop the next report for the engine; None if nothing changed."""
        is_evaluating = self._evaluation_due > trio.current_time()
        report = self.fib_tables.pop_report(0 if is_evaluating else PROGRESS_ROUTES_MAX)
        room = PROGRESS_ROUTES_MAX - len(report.failures) - len(report.recovered)
        preferred = self.fib_tables.pop_preferred(room)
        progress = Progress(
            applied_serial=self._applied_serial,
            failures=tuple(
                FibFailure(key.table_id, key.prefix, reason, is_waiting(reason))
                for key, reason in report.failures.items()
            ),
            recovered=tuple((key.table_id, key.prefix) for key in report.recovered),
            counters=self.counters(),
            preferred=tuple(
                PreferredRoute(
                    key.table_id,
                    key.prefix,
                    PROTOCOL_NAMES.get(foreign.protocol, str(foreign.protocol)),
                    foreign.priority,
                    foreign.is_beside,
                )
                for key, foreign in preferred
                if foreign is not None
            ),
            unpreferred=tuple(
                (key.table_id, key.prefix) for key, foreign in preferred if foreign is None
            ),
        )
        if (
            self._last_told is not None
            and not (progress.failures or progress.recovered or preferred)
            and progress.applied_serial == self._last_told.applied_serial
            and progress.counters == self._last_told.counters
        ):
            return None
        self._last_told = progress
        return progress
