"""The book of the kernel FIB: what is wanted, what is there, what failed and why. Pure.

    engine   --set_desired / delete_desired / in_sync-->  +--------+  --plan-->  operations
    kernel   --dumped / route_changed ----------------->  | Ledger |
    apply    --record (outcome per operation) --------->  +--------+  --take_report-->  engine

One owner of the whole state, no I/O, `now` passed in: `sync.py` runs it against the kernel, the
tests against a fake one.

The gate: nothing is removed before the engine of this session has said that it is in sync. What an
earlier life left is adopted when it is equal to what is wanted, and swept after the gate when
nobody asked for it. When an engine dies, its wishes stay and are defended; the next engine claims
them one by one, and those still unclaimed at its gate go.

Invariants:
    A foreign route is never in the tracker, only (when it sits on a key of ours) among the rivals.
    A failed key is held until its retry is due, or until something relevant changed.

Failure: an operation that the kernel refuses concerns its own key only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from routed.fib.delta import DeltaTracker
from routed.fib.ownership import PROTOCOL_NAMES, KernelRoute, Ownership, RouteKey, RouteValue
from routed.fib.plan import FibOp, OpKind, plan

__all__ = ["BATCH_OPERATIONS", "Drift", "Ledger", "LedgerCounts", "Outcome", "Report"]

BATCH_OPERATIONS = 400
"""Operations in one send: about 1.5 ms inside the kernel, so that link events and signals are
served in between (a 256 KB send was measured to block for 227 ms)."""

_RETRY_FIRST_S = 0.5
_RETRY_LIMIT_S = 60.0


class Outcome(NamedTuple):
    """What became of one operation: errno 0 is success."""

    errno: int
    detail: str
    """The kernel's own words (extended acknowledgement), or empty."""


class Drift(NamedTuple):
    """Somebody changed or deleted a route of ours."""

    key: RouteKey
    what: str


@dataclass(slots=True)
class LedgerCounts:
    """Since the daemon started."""

    adopted: int = 0
    swept: int = 0
    repaired: int = 0
    kernel_writes: int = 0


@dataclass(slots=True)
class _Failure:
    reason: str
    attempts: int
    retry_at: float


class Report(NamedTuple):
    """What changed since the last report."""

    failures: dict[RouteKey, str]
    recovered: tuple[RouteKey, ...]


class Ledger:
    """Desired and kernel FIB with failures, rivals and the gate."""

    def __init__(self, ownership: Ownership) -> None:
        self.counts = LedgerCounts()
        self._ownership = ownership
        self._tracker: DeltaTracker[RouteKey, RouteValue] = DeltaTracker()
        self._failures: dict[RouteKey, _Failure] = {}
        self._rivals: dict[RouteKey, int] = {}
        self._leftovers: set[RouteKey] = set()
        """Found in the kernel and never yet asked for in this life."""
        self._unclaimed: set[RouteKey] = set()
        """Wishes of the engine before, not yet repeated by this one."""
        self._lost: set[RouteKey] = set()
        """Taken from us by somebody else and not yet put back."""
        self._news: dict[RouteKey, str] = {}
        self._recovered: dict[RouteKey, None] = {}
        self._is_gate_open = False

    # --- what the engine wants

    @property
    def ownership(self) -> Ownership:
        """What makes a route ours."""
        return self._ownership

    def change_ownership(self, ownership: Ownership) -> None:
        """Follow a reload: other tables or another priority from now on.

        Routes under the old keys stay in the book as no longer wanted and are removed by their old
        keys; the engine asks for the new ones.
        """
        if ownership.protocol != self._ownership.protocol:
            raise ValueError("the protocol number cannot change while the daemon runs")
        self._ownership = ownership
        for key in list(self._tracker.desired):
            if key.table_id not in ownership.tables or key.priority != ownership.priority:
                self.delete_desired(key)

    def begin_session(self) -> None:
        """A new engine starts: close the gate; earlier wishes hold until it has spoken."""
        self._is_gate_open = False
        self._unclaimed = set(self._tracker.desired)

    def set_desired(self, key: RouteKey, value: RouteValue) -> None:
        """Want a route; equal to what is there costs nothing."""
        self._unclaimed.discard(key)
        if key in self._leftovers:
            self._leftovers.discard(key)
            if self._tracker.kernel.get(key) == value:
                self.counts.adopted += 1
        if self._tracker.desired.get(key) != value:
            self._forgive(key)
            self._tracker.set_desired(key, value)

    def delete_desired(self, key: RouteKey) -> None:
        """Want a route no longer."""
        self._unclaimed.discard(key)
        self._lost.discard(key)
        self._forgive(key)
        self._tracker.delete_desired(key)

    def open_gate(self) -> None:
        """The engine is in sync: what nobody claimed may go."""
        unclaimed, self._unclaimed = self._unclaimed, set()
        for key in unclaimed:
            self.delete_desired(key)
        self._is_gate_open = True

    def want_nothing(self) -> None:
        """The daemon stops and takes its routes along."""
        for key in list(self._tracker.desired):
            self.delete_desired(key)
        self.open_gate()

    # --- what the kernel says

    def dumped(self, routes: Iterable[KernelRoute]) -> list[Drift]:
        """Take over a complete dump of our tables.

        Returns:
            Our own routes that were not as we had left them.
        """
        ours: dict[RouteKey, RouteValue] = {}
        rivals: dict[RouteKey, int] = {}
        for route in routes:
            if self._ownership.is_ours(route):
                ours[route.key] = route.value
            elif self._ownership.is_rival(route):
                rivals[route.key] = route.protocol
        drift = []
        believed = dict(self._tracker.kernel)
        for key in self._tracker.replace_kernel(ours):
            if key not in believed:
                self._found(key)
            elif key in self._tracker.desired:
                drift.append(self._lose(key, "changed" if key in ours else "deleted"))
        for key in self._rivals.keys() - rivals.keys():
            self._forgive(key)
        self._rivals = rivals
        return drift

    def route_changed(self, route: KernelRoute, *, is_removed: bool) -> Drift | None:
        """Take over one notification about a route, ours or foreign, that we did not cause."""
        key = route.key
        if self._ownership.is_rival(route):
            if is_removed:
                self._rivals.pop(key, None)
                self._forgive(key)
            else:
                self._rivals[key] = route.protocol
            return None
        if not self._ownership.is_ours(route):
            return None
        if is_removed:
            was_there = key in self._tracker.kernel
            self._tracker.delete_kernel(key)
            self._leftovers.discard(key)
            if was_there and key in self._tracker.desired:
                return self._lose(key, "deleted")
            return None
        if self._tracker.kernel.get(key) == route.value:
            return None
        self._tracker.set_kernel(key, route.value)
        if key not in self._tracker.desired:
            self._found(key)
            return None
        if key in self._tracker.updates:
            return self._lose(key, "changed")
        return None

    def something_changed(self) -> None:
        """A link or an address changed: what failed for want of one may work now."""
        for failure in self._failures.values():
            failure.retry_at = 0.0
            failure.attempts = 0

    def _found(self, key: RouteKey) -> None:
        """A route of ours turned up that this life did not write."""
        if key in self._tracker.desired:
            if key not in self._tracker.updates:
                self.counts.adopted += 1
        else:
            self._leftovers.add(key)

    def _lose(self, key: RouteKey, what: str) -> Drift:
        self._lost.add(key)
        return Drift(key, what)

    # --- what is to be done

    def plan(self, now: float, limit: int = BATCH_OPERATIONS) -> list[FibOp]:
        """The next operations, as `plan.plan` orders them; rivals' keys become failures."""

        def is_held(key: RouteKey) -> bool:
            rival = self._rivals.get(key)
            if rival is not None and key not in self._tracker.kernel:
                name = PROTOCOL_NAMES.get(rival, str(rival))
                self._fail(
                    key,
                    f"a route of protocol {name} holds this prefix with our priority "
                    f"{key.priority}; give one of them another priority",
                    now,
                )
                return True
            failure = self._failures.get(key)
            return failure is not None and now < failure.retry_at

        return plan(self._tracker, may_remove=self._is_gate_open, is_held=is_held, limit=limit)

    def record(self, operation: FibOp, outcome: Outcome, now: float) -> bool:
        """Enter what became of an operation.

        Returns:
            False when the kernel's state is not what we believed and should be read again.
        """
        self.counts.kernel_writes += 1
        kind, key, value = operation
        match kind, outcome.errno:
            case OpKind.REMOVE, 0 | errno.ESRCH:
                self._tracker.delete_kernel(key)
                if key in self._leftovers:
                    self._leftovers.discard(key)
                    self.counts.swept += 1
            case _, 0:
                self._tracker.set_kernel(key, value)
                self._forgive(key)
                if key in self._lost:
                    self._lost.discard(key)
                    self.counts.repaired += 1
            case OpKind.REPLACE, errno.ENOENT | errno.ESRCH:
                self._tracker.delete_kernel(key)
                return False
            case OpKind.INSTALL, errno.EEXIST:
                self._fail(key, "the kernel already has a route under this key", now)
                return False
            case _:
                words = os.strerror(outcome.errno)
                reason = f"{outcome.detail} ({words})" if outcome.detail else words
                self._fail(key, reason, now)
        return True

    def retry_at(self) -> float | None:
        """When the next held operation becomes due; None when nothing waits."""
        due = [
            failure.retry_at
            for key, failure in self._failures.items()
            if key not in self._rivals
            and (key in self._tracker.updates or key in self._tracker.removals)
        ]
        return min(due, default=None)

    def _fail(self, key: RouteKey, reason: str, now: float) -> None:
        failure = self._failures.get(key)
        attempts = failure.attempts + 1 if failure else 1
        delay = min(_RETRY_FIRST_S * 2 ** (attempts - 1), _RETRY_LIMIT_S)
        self._failures[key] = _Failure(reason, attempts, now + delay)
        if failure is None or failure.reason != reason:
            self._news[key] = reason
            self._recovered.pop(key, None)

    def _forgive(self, key: RouteKey) -> None:
        if self._failures.pop(key, None) is not None:
            self._news.pop(key, None)
            self._recovered[key] = None

    # --- what is told

    @property
    def is_settled(self) -> bool:
        """Whether every wish was tried: installed, or failed with a reason."""
        return all(key in self._failures for key in self._tracker.updates)

    @property
    def leftovers(self) -> int:
        """Routes of an earlier life that nobody has claimed or swept yet."""
        return len(self._leftovers)

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Routes desired, installed, failed, pending."""
        updates = self._tracker.updates
        failed = sum(key in updates for key in self._failures)
        desired = len(self._tracker.desired)
        return desired, desired - len(updates), failed, len(updates) - failed

    def failure_of(self, key: RouteKey) -> str:
        """Why a wanted route is not in the kernel; empty when it did not fail."""
        failure = self._failures.get(key)
        return failure.reason if failure else ""

    def all_failures(self) -> dict[RouteKey, str]:
        """Every failure that stands, for an engine that has just come."""
        return {key: failure.reason for key, failure in self._failures.items()}

    def take_report(self) -> Report:
        """What changed since the last call."""
        report = Report(self._news, tuple(self._recovered))
        self._news, self._recovered = {}, {}
        return report
