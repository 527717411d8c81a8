"""The FIB table of one table key: routes desired, in the kernel, failed, and why. Pure.

    set_desired / withdraw -----------> +-----------+ --to install, remove-> plan
    found / gone / conflicts (kernel) > | FibTable |
    record (outcomes of batches) -----> +-----------+ --failed, recovered--> report

A refused route is held (`tracker.held`), with a reason for people, until its retry is due, until
something relevant changes, or until its desired value changes. So is a route whose key a foreign
route holds, as long as it does, and a route that another program removes repeatedly: the first loss
is repaired at once, each further one within REPAIR_MEMORY_S after twice the pause. A route that was
removed with its link is not drift: it waits for the link, or until its desired value changes.

Routes without a gateway are written before all others: the kernel accepts a gateway only over such
a route. Refused routes are retried as soon as a route appears over which their gateway resolves.

Failure: a refusal by the kernel affects its own key only.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from ipc.lazy_dataclass import dataclass
from routed.fib.routes.ownership import PROTOCOL_NAMES, SEVERAL, RouteKey, RouteValue, TableKey
from routed.fib.routes.pending import Pending
from routed.fib.routes.plan import (
    FibBatch,
    KernelRefusal,
    OpKind,
    Refusals,
    plan_pending,
    plan_removals,
)
from routed.fib.routes.preferred_foreign import PreferredForeignRoutes
from routed.fib.routes.tracker import RouteTracker, new_tracker
from routed.model.backoff import Backoff
from routed.model.columns import ValueColumn
from routed.model.prefix import Address, Family

__all__ = ["Drift", "FibTable", "FibTableCounts"]

REPAIR_MEMORY_S = 30.0
"""Seconds after a repair in which another loss of the route doubles the pause before the next."""

_RETRY = Backoff(first_s=0.5, limit_s=60.0)
_REPAIRS_REMEMBERED = 100_000


@dataclass(slots=True)
class FibTableCounts:
    """Counters since the daemon started."""

    adopted: int = 0
    swept: int = 0
    repaired: int = 0
    kernel_writes: int = 0
    shadowed: int = 0


class Drift(NamedTuple):
    """A route of ours that was changed or deleted from outside."""

    key: RouteKey
    value: RouteValue
    """The value that we had written."""
    what: str
    """`deleted` or `changed`."""


@dataclass(slots=True)
class _Failure:
    reason: str
    attempts: int
    retry_at: float
    """math.inf: time alone causes no retry."""
    is_news: bool
    """Whether it is to be logged: removals from outside are already logged as drift."""


class _Repair(NamedTuple):
    times: int
    at: float


def _is_never_dead(_value: RouteValue) -> bool:
    return False


def _names_links_alone(value: RouteValue) -> bool:
    return value.is_link_route


class FibTable:
    """Desired and kernel routes of one table key, with failures and conflicts."""

    def __init__(
        self,
        table_key: TableKey,
        counts: FibTableCounts,
        is_over_dead_link: Callable[[RouteValue], bool] = _is_never_dead,
        is_link_route: Callable[[RouteValue], bool] = _names_links_alone,
    ) -> None:
        """Args:
        table_key: table, family, TOS and priority.
        counts: shared by all FIB tables.
        is_over_dead_link: whether a route cannot be in the kernel because its link is down.
        is_link_route: whether gateways of other routes may resolve over a route.
        """
        self.table_key = table_key
        self._is_over_dead_link = is_over_dead_link
        self._is_link_route = is_link_route
        self._link_routes: deque[int] = deque()
        """Keys of link routes that may be desired, in the order of their turn."""
        self._rewrites: set[int] = set()
        """Keys to write again although the kernel shows them as desired (`rewrite`)."""
        self.tracker: RouteTracker = new_tracker(table_key.family)
        self.preferred_foreign = PreferredForeignRoutes(
            lambda key: self.tracker.desired(key) is not None
        )
        self.unsent: dict[int, None] = {}
        """Keys whose failure began, changed or ended, not yet reported to the engine."""
        self.news: dict[int, str] = {}
        """New failures and their reasons, for the log."""
        self.recovered: list[int] = []
        """Keys that no longer fail, for the log."""
        self._counts = counts
        self._failures: dict[int, _Failure] = {}
        self._retries: list[tuple[float, int]] = []
        """A heap of (time, key); entries of failures that were cleared since are skipped."""
        self._conflicts: dict[int, int] = {}
        self._first: set[int] = set()
        """Keys of `_conflicts` for which the kernel has our route before the foreign one."""
        self._several: set[int] = set()
        """Keys under which the kernel may have more than one route of ours."""
        self._unclaimed: set[int] = set()
        """Desired routes of the previous engine that this one has not yet repeated."""
        self._retired: set[int] = set()
        """Keys of `to_remove` that were desired earlier; the others are from an earlier run."""
        self._lost: set[int] = set()
        """Keys of our routes that were removed from outside and are not restored yet."""
        self._repairs: dict[int, _Repair] = {}
        self._told: set[int] = set()
        """Keys whose failure was reported to the engine."""
        self._parked: dict[int, RouteValue] | None = None
        """While decoupled: the desired routes, which must not be in the kernel."""

    # --- the desired side

    def set_desired(self, keys: Sequence[int], values: Sequence[RouteValue]) -> None:
        """Set desired routes; those that are already in the kernel need no write.

        Cost: 0.1 us for each, three times as much without the C extension.
        """
        tracker = self.tracker
        if self._unclaimed:
            self._unclaimed.difference_update(keys)
        if self._parked is not None:
            self._parked.update(zip(keys, values, strict=True))
            return
        if self._failures:
            self._clear_changed_damping(keys, values)
        again = self._retired.intersection(keys) if self._retired else set()
        self._retired -= again
        column = ValueColumn.of(values)
        claimed = tracker.set_all_desired(keys, column)
        self._put_first(keys, column)
        self._counts.adopted += claimed - sum(key in tracker.same for key in again)
        if self._conflicts:
            for key in self._conflicts.keys() & keys:
                self._evaluate_conflict(key)
        self.preferred_foreign.desired(keys)

    def _put_first(self, keys: Sequence[int], values: ValueColumn[RouteValue]) -> None:
        """Queue those over which gateways may resolve before all others."""
        first = {id(value) for value in values.distinct if self._is_link_route(value)}
        if len(first) == len(values.distinct):
            self._link_routes.extend(keys)
        elif first:
            self._link_routes.extend(
                key for key, value in zip(keys, values, strict=True) if id(value) in first
            )

    def withdraw(self, keys: Iterable[int]) -> None:
        """Delete desired routes."""
        keys = list(keys)
        if self._unclaimed:
            self._unclaimed.difference_update(keys)
        if self._parked is not None:
            for key in keys:
                self._parked.pop(key, None)
            return
        if self._lost:
            self._lost.difference_update(keys)
        if self._failures:
            for key in keys:
                self._clear_damping(key)
        self.preferred_foreign.withdrawn(keys)
        if self._first:
            self._first.difference_update(keys)
        self._rewrites.difference_update(keys)
        self._retired.update(self.tracker.withdraw_all(keys))

    def decouple(self) -> None:
        """Remove everything from the kernel, and keep the desired routes."""
        if self._parked is None:
            keys, values = self.tracker.desired_rows()
            parked = dict(zip(keys, values, strict=True))
            self.withdraw(keys)
            self._parked = parked

    def couple(self) -> None:
        """Install the desired routes again."""
        if self._parked is not None:
            parked, self._parked = self._parked, None
            self.set_desired(list(parked), list(parked.values()))

    def desired_keys(self) -> Sequence[int]:
        """List every desired key, coupled or not."""
        return list(self._parked) if self._parked is not None else self.tracker.desired_rows()[0]

    @property
    def desired_count(self) -> int:
        """Number of desired keys, coupled or not."""
        return self.tracker.desired_count if self._parked is None else len(self._parked)

    def begin_session(self) -> None:
        """Prepare for a new engine: it must claim the desired routes; all failures are unsent."""
        self.begin_claims()
        self.unsent = dict.fromkeys(self._failures)
        self._told.clear()
        self.preferred_foreign.begin_session()

    def begin_claims(self) -> None:
        """Keep the desired routes until `end_claims`, and after it those that are set again."""
        self._unclaimed = set(self.desired_keys())

    def end_claims(self) -> None:
        """End the claims: routes that the engine has not claimed are no longer desired."""
        unclaimed, self._unclaimed = self._unclaimed, set()
        self.withdraw(unclaimed)

    def _clear_changed_damping(self, keys: Iterable[int], values: Iterable[RouteValue]) -> None:
        for key, value in zip(keys, values, strict=True):
            if key in self._failures and self.tracker.desired(key) != value:
                self._clear_damping(key)

    # --- the kernel side

    def found(
        self, key: int, value: RouteValue, now: float, *, is_alone: bool = False
    ) -> Drift | None:
        """Record a route of ours that the kernel has and that our last write did not cause.

        Args:
            key: the key of the route.
            value: its value in the kernel.
            now: seconds, monotonic.
            is_alone: whether it replaced another one, so that the kernel has only one.
        """
        before = self.tracker.kernel(key)
        if key in self._rewrites:
            value = value._replace(is_altered=True)
        if before == value:
            return None
        if before is not None and not is_alone:
            value = SEVERAL
            self._several.add(key)
        was_desired = self.tracker.desired(key)
        self.tracker.set_kernel(key, value)
        self._look_beside(key)
        if was_desired is None:
            return None
        if self._is_link_route(was_desired):
            self._link_routes.append(key)
        if key in self.tracker.same:
            self._clear_damping(key)
            if key in self._lost:
                self._lost.discard(key)
            elif before is None:
                self._counts.adopted += 1
            return None
        return self._lose(key, was_desired, "changed", now) if before == was_desired else None

    def found_all(self, keys: Sequence[int], value: RouteValue, now: float) -> list[Drift]:
        """Record routes of ours that a dump shows with one value, which differs from the known."""
        if not self.tracker.desired_count:
            self.tracker.set_kernel_all(keys, value)
            return []
        drift = [self.found(key, value, now) for key in keys]
        return [entry for entry in drift if entry is not None]

    def gone(self, keys: Iterable[int], now: float) -> list[Drift]:
        """Record that routes of ours were removed from outside."""
        drift: list[Drift] = []
        known: dict[RouteValue, tuple[bool, bool]] = {}
        for key in keys:
            wanted = self.tracker.same.get(key)
            self.tracker.delete_kernel(key)
            self._retired.discard(key)
            self._rewrites.discard(key)
            self.preferred_foreign.equal_gone(key)
            if wanted is None:
                continue
            if wanted not in known:
                known[wanted] = self._is_over_dead_link(wanted), self._is_link_route(wanted)
            is_over_dead_link, is_link_route = known[wanted]
            if is_link_route:
                self._link_routes.append(key)
            if is_over_dead_link:
                self._fail(key, "its link is down", 1, math.inf, is_news=False)
                drift.append(Drift(self.table_key.key(key), wanted, "deleted"))
            else:
                drift.append(self._lose(key, wanted, "deleted", now))
        return drift

    def rewrite(self, addresses: Container[Address]) -> list[int]:
        """Write routes again whose gateways were addresses of this host until now. The kernel
        accepts such an IPv4 gateway without using it, and does not show that for a route with next
        hops written into it; so such routes are written again, whatever it shows.

        Returns:
            Their keys.

        Cost: as of `kernel_values`; a walk over all routes where some value has such a gateway.
        """
        values = {
            value
            for value in self.tracker.kernel_values()
            if any(hop.via in addresses for hop in value.next_hops)
        }
        if not values:
            return []
        keys, wanted = self.tracker.desired_rows()
        same = self.tracker.same
        again = [
            key for key, value in zip(keys, wanted, strict=True) if value in values and key in same
        ]
        for key in again:
            is_behind = key in self._conflicts and key not in self._first
            there = SEVERAL if is_behind else same[key]._replace(is_altered=True)
            self.tracker.set_kernel(key, there)
        self._rewrites.update(again)
        return again

    def conflict_found(
        self, key: int, protocol: int, now: float, *, is_replacing: bool = False
    ) -> Drift | None:
        """Record a foreign route under a key of this table.

        Args:
            key: the key of the route.
            protocol: its rtm_protocol.
            now: seconds, monotonic.
            is_replacing: whether it replaced the first route of that key.
        """
        was_first = key not in self._conflicts or key in self._first
        self._conflicts[key] = protocol
        self._first.discard(key)
        drift: list[Drift] = []
        if is_replacing and was_first and self.tracker.kernel(key) is not None:
            drift = self.gone([key], now)
        self._look_who_is_first(key)
        self._look_beside(key)
        self._evaluate_conflict(key)
        return drift[0] if drift else None

    def conflict_gone(self, key: int) -> None:
        """Record that the foreign route of a key was removed."""
        if self._conflicts.pop(key, None) is None:
            return
        self._first.discard(key)
        self.preferred_foreign.equal_gone(key)
        self._clear_damping(key)
        self._look_who_is_first(key)

    def _look_who_is_first(self, key: int) -> None:
        """Determine whether ours precedes a foreign route of its key. The kernel does not report
        it, but replaces only the first one: writing ours again unchanged has no effect, and is
        refused (EEXIST) if ours is not the first. IPv6 always appends: ours was there before.
        """
        value = self.tracker.same.get(key)
        if value is None or self.table_key.family is Family.IPV6 or self._is_over_dead_link(value):
            return
        self._rewrites.add(key)
        self.tracker.set_kernel(key, value._replace(is_altered=True))

    def _look_beside(self, key: int) -> None:
        """Handle IPv6: among routes of one key the kernel uses any that is reachable."""
        if self.table_key.family is not Family.IPV6:
            return
        protocol = self._conflicts.get(key)
        if protocol is not None and key in self.tracker.same:
            self.preferred_foreign.equal_found(
                key, self.table_key.priority, protocol, is_beside=True
            )
        else:
            self.preferred_foreign.equal_gone(key)

    def found_several(self, keys: Iterable[int], now: float) -> list[Drift]:
        """Record keys that a dump shows more than once."""
        drift = []
        for key in keys:
            if self.tracker.kernel(key) is None:
                continue
            self._several.add(key)
            drift.append(self.found(key, SEVERAL, now))
        return [entry for entry in drift if entry is not None]

    def is_contested(self, key: int) -> bool:
        """Whether the kernel has a route of ours and a foreign one under this key."""
        return key in self._conflicts and self.tracker.kernel(key) is not None

    def conflict_replaced(self, key: int) -> None:
        """Record that a route of ours replaced the first one of this key."""
        if key not in self._first:
            self.conflict_gone(key)

    def conflict_keys(self) -> list[int]:
        """List the keys that foreign routes hold."""
        return list(self._conflicts)

    def _evaluate_conflict(self, key: int) -> None:
        protocol = self._conflicts.get(key)
        tracker = self.tracker
        is_missing = key in tracker.to_install or key in tracker.held
        if protocol is None or not is_missing or key in tracker.replaced:
            return
        name = PROTOCOL_NAMES.get(protocol, str(protocol))
        reason = (
            f"a route of protocol {name} holds this prefix with our priority "
            f"{self.table_key.priority}; give one of them another priority"
        )
        self._fail(key, reason, 1, math.inf)

    def _lose(self, key: int, value: RouteValue, what: str, now: float) -> Drift:
        self._lost.add(key)
        repair = self._repairs.get(key)
        if repair is not None and now - repair.at <= REPAIR_MEMORY_S:
            reason = f"{what} by another program, {repair.times + 1} times in a row"
            self._fail(key, reason, repair.times, now + _RETRY.pause_s(repair.times), is_news=False)
        return Drift(self.table_key.key(key), value, what)

    # --- plans and their outcomes

    def plan_link_routes(self, limit: int) -> list[FibBatch]:
        """Plan the next desired routes over which gateways may resolve, at most `limit`."""
        wanted, replaced = self.tracker.to_install, self.tracker.replaced
        pending: dict[int, RouteValue] = {}
        while self._link_routes and len(pending) < limit:
            key = self._link_routes.popleft()
            if (value := wanted.get(key)) is not None:
                pending[key] = value
        there = [replaced.get(key) for key in pending] if replaced else None
        return self._plan(Pending(list(pending), list(pending.values()), there))

    @property
    def has_link_routes(self) -> bool:
        """Whether `plan_link_routes` may have something."""
        return bool(self._link_routes)

    def plan_writes(self, limit: int) -> list[FibBatch]:
        """Plan the next desired routes to write, at most `limit`."""
        return self._plan(self.tracker.pop_to_install(limit))

    def _plan(self, pending: Pending[int, RouteValue]) -> list[FibBatch]:
        """Plan the writes of these desired routes. If a foreign route has a key of ours, a replace
        would change the first route of the key, which may be the foreign one."""
        keys, values, there = pending
        if self._conflicts and there is not None:
            rows = zip(keys, values, there, strict=True)
            there = [self._replaceable(key, wanted, before) for key, wanted, before in rows]
        return plan_pending(self.table_key, Pending(keys, values, there))

    def _replaceable(
        self, key: int, wanted: RouteValue, there: RouteValue | None
    ) -> RouteValue | None:
        if there is None or key not in self._conflicts or key in self._first:
            return there
        is_same = key in self._rewrites and there == wanted._replace(is_altered=True)
        return there if is_same else SEVERAL

    def plan_removals(self, limit: int) -> list[FibBatch]:
        """Plan the next removals, at most `limit`."""
        return plan_removals(self.table_key, self.tracker, limit)

    def record(self, batch: FibBatch, refusals: Refusals, now: float) -> bool:
        """Record the outcome of a batch that was planned from this FIB table just before.

        Returns:
            False if the kernel's state differs from the known one and should be read again.
        """
        kind, _, keys, values = batch
        self._counts.kernel_writes += len(keys)
        if refusals:
            done = [at for at in range(len(keys)) if at not in refusals]
            keys, values = [keys[at] for at in done], [values[at] for at in done]
        if kind is OpKind.REMOVE:
            self._removed(keys)
            if self._several:
                self._look_for_more(self._several.intersection(keys))
        else:
            self._record_first(kind, keys)
            self.tracker.written(keys, values)
            if self._rewrites:
                self._rewrites.difference_update(keys)
            if self._failures:
                for key in keys:
                    self._clear_damping(key)
            if self._lost:
                self._repaired(keys, now)
        agrees = [
            self._refused(kind, batch.keys[position], outcome, now)
            for position, outcome in refusals.items()
        ]
        return all(agrees)

    def _removed(self, keys: Sequence[int]) -> None:
        self.preferred_foreign.equals_gone(keys)
        retired = self._retired.intersection(keys) if self._retired else set()
        self._retired -= retired
        self._counts.swept += self.tracker.removed(keys) - len(retired)

    def _look_for_more(self, keys: Iterable[int]) -> None:
        """Handle the removal of one of our routes of each key; the kernel may have others of it."""
        for key in keys:
            if self.tracker.desired(key) is None:
                self.tracker.set_kernel(key, SEVERAL)
                self._retired.add(key)

    def _record_first(self, kind: OpKind, keys: Iterable[int]) -> None:
        """Record written routes: an install shows that they are alone, a replace that they lead."""
        if self._several and kind is OpKind.INSTALL:
            self._several.difference_update(keys)
        for key in self._conflicts.keys() & keys if self._conflicts else ():
            self.preferred_foreign.equal_gone(key)
            if kind is OpKind.REPLACE:
                self._first.add(key)

    def _repaired(self, keys: Iterable[int], now: float) -> None:
        if len(self._repairs) > _REPAIRS_REMEMBERED:
            self._repairs.clear()
        for key in keys:
            if key not in self._lost:
                continue
            self._lost.discard(key)
            self._counts.repaired += 1
            repair = self._repairs.get(key)
            is_fought = repair is not None and now - repair.at <= 2 * _RETRY.limit_s
            self._repairs[key] = _Repair(repair.times + 1 if repair and is_fought else 1, now)

    def _refused(self, kind: OpKind, key: int, outcome: KernelRefusal, now: float) -> bool:
        match kind, outcome.errno:
            case OpKind.REMOVE, errno.ESRCH:
                self._several.discard(key)
                self._removed([key])
            case OpKind.REPLACE, errno.EEXIST if self.table_key.family is Family.IPV4:
                self._is_behind(key)
            case OpKind.INSTALL, errno.EEXIST if key in self._several:
                self.tracker.set_kernel(key, SEVERAL)
            case OpKind.INSTALL, errno.EEXIST if key in self._conflicts:
                self._evaluate_conflict(key)
            case OpKind.REPLACE, errno.ENOENT | errno.ESRCH:
                self.tracker.delete_kernel(key)
                self.preferred_foreign.equal_gone(key)
                return False
            case OpKind.INSTALL, errno.EEXIST:
                self._refuse(key, "the kernel already has a route under this key", now)
                return False
            case OpKind.REMOVE, _:
                # An immediate retry would fail again; the next dump finds the route again.
                self.tracker.removed([key])
                self._retired.discard(key)
                self.news[key] = f"cannot be removed: {outcome.text}"
            case _:
                self._refuse(key, outcome.text, now)
        return True

    def _is_behind(self, key: int) -> None:
        """Record that the kernel has our route as desired, behind another one of its key."""
        self._rewrites.discard(key)
        protocol = self._conflicts.get(key)
        wanted = self.tracker.desired(key)
        if protocol is None or wanted is None:
            self._several.add(key)
            self.tracker.set_kernel(key, SEVERAL)
            return
        self.tracker.set_kernel(key, wanted)
        self._lost.discard(key)
        self._clear_damping(key)
        self.preferred_foreign.equal_found(key, self.table_key.priority, protocol)

    # --- failures

    def _refuse(self, key: int, reason: str, now: float) -> None:
        failure = self._failures.get(key)
        attempts = failure.attempts + 1 if failure else 1
        self._fail(key, reason, attempts, now + _RETRY.pause_s(attempts))

    def _fail(
        self, key: int, reason: str, attempts: int, retry_at: float, *, is_news: bool = True
    ) -> None:
        old = self._failures.get(key)
        self._failures[key] = _Failure(reason, attempts, retry_at, is_news)
        self.tracker.hold(key)
        if retry_at < math.inf:
            heapq.heappush(self._retries, (retry_at, key))
        if old is None or old.reason != reason:
            self.unsent[key] = None
            if is_news:
                self.news[key] = reason

    def _clear_damping(self, key: int) -> None:
        failure = self._failures.pop(key, None) if self._failures else None
        if failure is not None:
            self._release(key)
            if key in self._told:
                self.unsent[key] = None
            else:  # the failure began and ended between two reports
                self.unsent.pop(key, None)
            if self.news.pop(key, None) is None and failure.is_news:
                self.recovered.append(key)

    def pop_unsent(self, limit: int) -> tuple[dict[int, str], list[int]]:
        """Pop failures with their reasons, and ends of failures, to report to the engine."""
        failures: dict[int, str] = {}
        recovered: list[int] = []
        for key in list(itertools.islice(self.unsent, limit)):
            del self.unsent[key]
            failure = self._failures.get(key)
            if failure is not None:
                failures[key] = failure.reason
                self._told.add(key)
            else:
                recovered.append(key)
                self._told.discard(key)
        return failures, recovered

    def retry_everything(self) -> None:
        """Retry all failed routes: a change of a link or address may have removed the cause.

        Cost: 0.5 us for each failed route; one look at each distinct value among them.
        """
        is_dead: dict[RouteValue, bool] = {}
        for key, failure in self._failures.items():
            wanted = self.tracker.desired(key)
            if key in self._conflicts:
                continue
            if wanted is not None:
                if wanted not in is_dead:
                    is_dead[wanted] = self._is_over_dead_link(wanted)
                if is_dead[wanted]:
                    continue
            failure.attempts = 0
            self._release(key)

    def retry_if(self, is_ready: Callable[[RouteValue], bool]) -> None:
        """Retry the refused routes whose value satisfies a condition.

        Cost: one call for each distinct value among them.
        """
        known: dict[RouteValue, bool] = {}
        for key, failure in self._failures.items():
            wanted = self.tracker.desired(key)
            if wanted is None or key in self._conflicts or not failure.is_news:
                continue
            if wanted not in known:
                known[wanted] = is_ready(wanted) and not self._is_over_dead_link(wanted)
            if known[wanted]:
                failure.attempts = 0
                self._release(key)

    def _release(self, key: int) -> None:
        self.tracker.release(key)
        wanted = self.tracker.desired(key)
        if wanted is not None and self._is_link_route(wanted):
            self._link_routes.append(key)

    def retry_at(self) -> float:
        """Return when the next held route is due, on the clock of `now`; math.inf if none waits."""
        while self._retries and not self._is_current(*self._retries[0]):
            heapq.heappop(self._retries)
        return self._retries[0][0] if self._retries else math.inf

    def release_due(self, now: float) -> None:
        """Retry the held routes that are due."""
        while self.retry_at() <= now:
            _, key = heapq.heappop(self._retries)
            self._release(key)

    def _is_current(self, retry_at: float, key: int) -> bool:
        failure = self._failures.get(key)
        return failure is not None and failure.retry_at == retry_at and key in self.tracker.held

    def nexthop_ids(self) -> set[int]:
        """Collect the nexthop objects that routes use or are to use.

        Cost: as of `values_in_use`; negligible with the C extension.
        """
        parked = {id(value): value for value in (self._parked or {}).values()}
        ids = {value.nexthop_id for value in (*self.tracker.values_in_use(), *parked.values())}
        ids.discard(0)
        return ids

    def hops(self) -> set[tuple[Address, int]]:
        """Collect the gateways and links that are written into kernel routes of ours.

        Cost: as of `kernel_values`.
        """
        hops = {hop for value in self.tracker.kernel_values() for hop in value.next_hops}
        return {(hop.via, hop.ifindex) for hop in hops if hop.via is not None}

    @property
    def failed_count(self) -> int:
        """Number of desired routes that failed and are not installed since."""
        return len(self._failures)

    def failure_of(self, key: int) -> str:
        """Return why a route is not as desired; empty if it did not fail."""
        failure = self._failures.get(key)
        return "" if failure is None else failure.reason
