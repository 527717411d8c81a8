"""The loop that keeps the kernel FIB equal to what is wanted: dump, gate, apply, retry, resync.

    engine's wishes --+
    kernel's news ----+--> Ledger (pure) --plan--> kernel --outcomes--> Ledger --report--> engine
    timers -----------+

One task owns the ledger's work; everybody else only enters facts and wakes it. Work is done in
small batches with the event loop in between, so a million routes being written delay nobody.

Resync (a dump, compared) happens at start, after lost notifications, after an outcome that
contradicts the book, when a link went down or lost an address (Linux removes IPv4 routes without a
word), on request, and on a jittered timer.

Failure: one route that the kernel refuses is that route's failure, with the kernel's words as its
reason. A whole request that fails (or answers nonsense) is logged and leads to a resync, at most
one every RESYNC_GAP_S.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import trio

from routed.clock import jitter
from routed.fib.ledger import Drift, Ledger, Outcome
from routed.fib.netlink import DumpInterrupted, NetlinkError
from routed.fib.ownership import KernelRoute, Ownership, RouteValue
from routed.fib.plan import FibOp
from routed.log import Logger
from routed.model.fib import FibCounters, FibFailure
from routed.model.prefix import Prefix
from routed.model.route import FibRoute

__all__ = ["FibSync", "Progress", "RouteKernel"]

DUMP_ATTEMPTS = 5
"""How often an interrupted dump is repeated at once."""

RESYNC_GAP_S = 1.0
"""Least time between two dumps that failed."""

FLUSH_TIMEOUT_S = 30.0
"""How long an orderly stop may take to remove our routes."""


class RouteKernel(Protocol):
    """What the loop needs of a kernel: `netlink.RequestSocket`, or the tests' fake."""

    async def dump_routes(self, table_id: int) -> list[KernelRoute]:
        """Every route of one table; DumpInterrupted to be asked again, NetlinkError if refused."""
        ...

    async def apply(self, operations: Sequence[FibOp]) -> list[Outcome]:
        """Do all of them; an outcome each, in order. NetlinkError if that cannot be told."""
        ...


class Progress(NamedTuple):
    """What changed since the engine was last told."""

    applied_serial: int
    """Every wish up to this update was tried."""
    failures: tuple[FibFailure, ...]
    """New or with a new reason."""
    recovered: tuple[tuple[int, Prefix], ...]
    """(table, prefix) that fail no longer."""
    counters: FibCounters


class FibSync:
    """Runs a ledger against a kernel."""

    def __init__(
        self,
        ledger: Ledger,
        kernel: RouteKernel,
        *,
        resync_s: float,
        log: Logger,
        rng: random.Random,
        on_progress: Callable[[], None],
    ) -> None:
        """Args:
        ledger: the book; nobody else plans or records in it.
        kernel: where routes are read and written.
        resync_s: mean time between two dumps that nothing asked for.
        log: for drift, failures and resyncs.
        rng: for jitter.
        on_progress: called when `take_progress` has something new.
        """
        self.ledger = ledger
        self.resyncs = 0
        self.overruns = 0
        self.resync_s = resync_s
        self._kernel = kernel
        self._log = log
        self._rng = rng
        self._on_progress = on_progress
        self._wake = trio.Event()
        self._resync_reason = "start"
        self._received_serial = 0
        self._applied_serial = 0
        self._has_gate_news = False
        self._last_told: Progress | None = None

    # --- facts, entered by others

    def begin_session(self) -> None:
        """A new engine starts counting its updates from 1."""
        self.ledger.begin_session()
        self._received_serial = self._applied_serial = 0
        self._last_told = None

    def update(
        self,
        serial: int,
        install: Iterable[FibRoute],
        remove: Iterable[tuple[int, Prefix]],
    ) -> list[tuple[Prefix, str]]:
        """Take the engine's wishes in.

        Args:
            serial: counts updates; `Progress.applied_serial` reaches it when all were tried.
            install: wanted from now on.
            remove: (table, prefix) wanted no longer.

        Returns:
            (prefix, problem) of each route that it may not ask for; those are not taken.
        """
        refused = []
        ownership = self.ledger.ownership
        for route in install:
            problem = ownership.find_violation(route)
            if problem:
                refused.append((route.prefix, problem))
                continue
            key = ownership.key_of(route.table_id, route.prefix)
            self.ledger.set_desired(key, RouteValue.canonical(route.type, route.next_hops))
        for table_id, prefix in remove:
            self.ledger.delete_desired(ownership.key_of(table_id, prefix))
        self._received_serial = serial
        self._wake.set()
        return refused

    def in_sync(self) -> None:
        """The engine has said everything it wants: the gate opens."""
        self.ledger.open_gate()
        self._has_gate_news = True
        self._wake.set()

    def route_notified(self, route: KernelRoute, is_removed: bool) -> None:
        """Somebody else changed a kernel route."""
        drift = self.ledger.route_changed(route, is_removed=is_removed)
        if drift is not None:
            self._tell_drift(drift)
        self._wake.set()

    def links_changed(self, *, may_have_lost_routes: bool) -> None:
        """A link or address changed: retry what failed; look again if routes may be gone."""
        self.ledger.something_changed()
        if may_have_lost_routes:
            self.request_resync("link")
        self._wake.set()

    def request_resync(self, reason: str) -> None:
        """Read the kernel again soon; several requests are one."""
        self._resync_reason = self._resync_reason or reason
        self._wake.set()

    def notifications_lost(self) -> None:
        """The kernel dropped notifications."""
        self.overruns += 1
        self._log.emit("fib-overrun", overruns=self.overruns)
        self.request_resync("overrun")

    def change_ownership(self, ownership: Ownership) -> None:
        """Follow a reload."""
        has_new_table = bool(ownership.tables - self.ledger.ownership.tables)
        self.ledger.change_ownership(ownership)
        if has_new_table:
            self.request_resync("table")

    @property
    def has_applied_first_update(self) -> bool:
        """Whether an engine has spoken and all that it first wanted was tried."""
        return self._applied_serial > 0

    # --- the loop

    async def run(self) -> None:
        """Keep the kernel equal for ever; cancel to stop (between two batches)."""
        resync_at = trio.current_time() + jitter(self.resync_s, self._rng)
        while True:
            self._wake = trio.Event()
            if self._resync_reason:
                await self._resync()
                resync_at = trio.current_time() + jitter(self.resync_s, self._rng)
            if await self._work():
                continue
            retry_at = self.ledger.retry_at()
            deadline = resync_at if retry_at is None else min(resync_at, retry_at)
            with trio.move_on_at(deadline):
                await self._wake.wait()
            if trio.current_time() >= resync_at:
                self.request_resync("timer")

    async def flush(self) -> int:
        """Remove every route of ours; `run` must have been cancelled before.

        Returns:
            How many are left because the kernel refused or time ran out.
        """
        self.ledger.want_nothing()
        with trio.move_on_after(FLUSH_TIMEOUT_S):
            while await self._work():
                pass
        return self.ledger.leftovers + sum(self.ledger.totals[1:])

    async def _work(self) -> bool:
        """One batch; returns whether there was anything to do."""
        operations = self.ledger.plan(trio.current_time())
        if operations:
            try:
                outcomes = await self._kernel.apply(operations)
            except (NetlinkError, OSError) as error:
                await self._distrust("writing routes", error)
                return True
            now = trio.current_time()
            agrees = [
                self.ledger.record(operation, outcome, now)
                for operation, outcome in zip(operations, outcomes, strict=True)
            ]
            if not all(agrees):
                self.request_resync("contradiction")
        if self.ledger.is_settled:
            self._applied_serial = self._received_serial
            if self._has_gate_news and not operations:
                self._tell_gate()
        self._on_progress()
        return bool(operations)

    async def _resync(self) -> None:
        reason, self._resync_reason = self._resync_reason, ""
        before = self.ledger.counts.repaired
        try:
            routes = await self._dump()
        except (NetlinkError, OSError) as error:
            await self._distrust("reading routes", error)
            return
        self.resyncs += 1
        for drift in self.ledger.dumped(routes):
            self._tell_drift(drift)
        self._log.emit("fib-resync", reason=reason, repaired=self.ledger.counts.repaired - before)

    async def _dump(self) -> list[KernelRoute]:
        attempt = 0
        while True:
            attempt += 1
            try:
                return [
                    route
                    for table_id in sorted(self.ledger.ownership.tables)
                    for route in await self._kernel.dump_routes(table_id)
                ]
            except DumpInterrupted:
                if attempt == DUMP_ATTEMPTS:
                    raise

    async def _distrust(self, what: str, error: Exception) -> None:
        """A request went wrong as a whole: say so, wait a little, read everything again."""
        number = error.errno if isinstance(error, OSError) else None
        words = errno.errorcode.get(number, str(error)) if number else str(error)
        self._log.emit("netlink-error", what=what, error=words)
        await trio.sleep(RESYNC_GAP_S)
        self.request_resync("error")

    # --- what is told

    def _tell_drift(self, drift: Drift) -> None:
        self._log.emit("fib-drift", prefix=drift.key.prefix, what=drift.what)

    def _tell_gate(self) -> None:
        self._has_gate_news = False
        counts = self.ledger.counts
        self._log.emit(
            "fib-in-sync",
            desired=self.ledger.totals[0],
            adopted=counts.adopted,
            swept=counts.swept,
        )

    def counters(self) -> FibCounters:
        """The numbers of `show fib` and `show status`."""
        desired, installed, failed, pending = self.ledger.totals
        counts = self.ledger.counts
        return FibCounters(
            desired=desired,
            installed=installed,
            failed=failed,
            pending=pending,
            adopted=counts.adopted,
            swept=counts.swept,
            repaired=counts.repaired,
            resyncs=self.resyncs,
            overruns=self.overruns,
            kernel_writes=counts.kernel_writes,
        )

    def take_progress(self) -> Progress | None:
        """What the engine should be told; None when it knows already."""
        report = self.ledger.take_report()
        failures = report.failures if self._last_told else self.ledger.all_failures()
        for key, reason in report.failures.items():
            self._log.emit("fib-route-failed", prefix=key.prefix, reason=reason)
        for key in report.recovered:
            self._log.emit("fib-route-recovered", prefix=key.prefix)
        progress = Progress(
            applied_serial=self._applied_serial,
            failures=tuple(
                FibFailure(key.table_id, key.prefix, reason) for key, reason in failures.items()
            ),
            recovered=tuple((key.table_id, key.prefix) for key in report.recovered),
            counters=self.counters(),
        )
        if (
            self._last_told is not None
            and not (progress.failures or progress.recovered)
            and progress.applied_serial == self._last_told.applied_serial
            and progress.counters == self._last_told.counters
        ):
            return None
        self._last_told = progress
        return progress
