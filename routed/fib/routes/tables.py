"""The FIB tables, one for each kernel table and family, and what concerns them all. Pure.

    engine   --set_desired / withdraw / open_gate----->  +-----------+  --plan-->  batches
    kernel   --begin_dump, route_changed ------------->  | FibTables |
    apply    --record (refusals of each batch) ------->  +-----------+  --pop_report-->  engine

One owner of the whole state, no I/O, `now` passed in: `sync.py` runs it against the kernel, the
tests against a fake one.

The gate: nothing is removed before the engine of this session has reported that it is in sync.
Routes that an earlier run left are adopted if they equal desired routes, otherwise swept after the
gate opened. When an engine dies, its desired routes are kept and repaired; the next engine claims
them by repeating them, and those still unclaimed when its gate opens are removed.

Invariants:
    A foreign route is in no tracker, only (if it has a key of ours) among a FIB table's conflicts.
    No removal is planned while a write is pending anywhere: a destination that moves from one
    prefix, or table, to another keeps a path.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from routed.fib.routes.ownership import (
    KernelRoute,
    Ownership,
    RouteKey,
    RouteValue,
    SeenRoute,
    TableKey,
)
from routed.fib.routes.plan import FibBatch, Refusals
from routed.fib.routes.preferred_foreign import PREFERRED_FOREIGN_MAX, PreferredForeignRoute
from routed.fib.routes.table import Drift, FibTable, FibTableCounts
from routed.fib.routes.tos import TosRoutes
from routed.model.columns import KeyColumn
from routed.model.prefix import Address, Family
from routed.model.route import NextHop

__all__ = ["BATCH_OPERATIONS", "DumpComparison", "FibTables", "Report", "SeenRoute"]

BATCH_OPERATIONS = 400
"""Operations in one send: about 1.5 ms inside the kernel, so that link events and signals are
served in between (a 256 KB send was measured to block for 227 ms)."""


class Report(NamedTuple):
    """Failures with their reasons, and routes that no longer fail."""

    failures: dict[RouteKey, str]
    recovered: tuple[RouteKey, ...]


class FibTables:
    """Desired and kernel FIB with failures, conflicts and the gate."""

    def __init__(self, ownership: Ownership) -> None:
        self.is_over_dead_link: Callable[[RouteValue], bool] = lambda _value: False
        """Whether a route cannot be in the kernel because its link is down; set by `FibSync`."""
        self.is_link_route: Callable[[RouteValue], bool] = lambda value: value.is_link_route
        """Whether gateways of other routes may resolve over a route; set by `FibSync`."""
        self.counts = FibTableCounts()
        self._ownership = ownership
        self._tables: dict[TableKey, FibTable] = {}
        self._tos = TosRoutes()
        self._dump: DumpComparison | None = None
        self._is_gate_open = False
        self._is_coupled = True

    # --- the desired side

    @property
    def ownership(self) -> Ownership:
        """What makes a route ours."""
        return self._ownership

    def change_ownership(self, ownership: Ownership) -> None:
        """Apply the tables and priority of a new configuration.

        The gate closes until the engine is in sync by the new keys; all other routes stay.
        """
        if ownership.protocol != self._ownership.protocol:
            raise ValueError("the protocol number cannot change while the daemon runs")
        added, self._ownership = ownership.tables - self._ownership.tables, ownership
        left = [table for key, table in self._tables.items() if not ownership.holds(key)]
        for fib_table in left:
            fib_table.begin_claims()
        self._is_gate_open &= not (added or left)

    def begin_session(self) -> None:
        """Prepare for a new engine: close the gate; desired routes are kept until it opens."""
        self._is_gate_open = False
        for fib_table in self._tables.values():
            fib_table.begin_session()

    def set_desired(
        self, table_id: int, family: Family, keys: Sequence[int], values: Sequence[RouteValue]
    ) -> None:
        """Set desired routes of one table (`Prefix.as_int` each); equal ones need no write."""
        for tos, of_tos, new, gone in self._tos.split(table_id, family, keys, values):
            fib_table = self.fib_table(self._ownership.table_key_of(table_id, family, tos))
            fib_table.withdraw(gone)
            fib_table.set_desired(of_tos, new)

    def withdraw(self, table_id: int, family: Family, keys: Iterable[int]) -> None:
        """Delete desired routes."""
        for tos, of_tos in self._tos.forget(table_id, family, keys).items():
            fib_table = self._tables.get(self._ownership.table_key_of(table_id, family, tos))
            if fib_table is not None:
                fib_table.withdraw(of_tos)

    def open_gate(self) -> None:
        """Open the gate: the engine is in sync, and unclaimed routes may be removed."""
        for fib_table in self._tables.values():
            fib_table.end_claims()
        self._is_gate_open = True

    def clear_desired(self) -> None:
        """Delete all desired routes, for a daemon that stops and removes its routes."""
        self._tos.clear()
        for fib_table in self._tables.values():
            fib_table.withdraw(fib_table.desired_keys())
        self.open_gate()

    @property
    def is_coupled(self) -> bool:
        """Whether desired routes are written to the kernel."""
        return self._is_coupled

    def decouple(self) -> None:
        """Remove every route of ours from the kernel; the desired routes are kept."""
        self._is_coupled = False
        for fib_table in self._tables.values():
            fib_table.decouple()

    def couple(self) -> None:
        """Install the desired routes again."""
        self._is_coupled = True
        for fib_table in self._tables.values():
            fib_table.couple()

    # --- the kernel side

    def begin_dump(self, table_id: int, family: Family, *, is_thorough: bool) -> DumpComparison:
        """Begin to compare a dump of one kernel table and family with its FIB table.

        Args:
            table_id: of the dump.
            family: of the dump.
            is_thorough: whether to record every key, so that missing routes can be named.
                Otherwise only *that* something is missing is known, without memory for the keys.
        """
        tables = [
            fib_table
            for table_key, fib_table in self._tables.items()
            if table_key.table_id == table_id and table_key.family is family
        ]
        self._dump = DumpComparison(self, tables, is_thorough=is_thorough)
        return self._dump

    def end_dump(self) -> None:
        """End the comparison of a dump, finished or not."""
        self._dump = None

    def route_changed(
        self, route: KernelRoute, now: float, *, is_removed: bool, is_replacing: bool = False
    ) -> Drift | None:
        """Apply one notification about a route, ours or foreign, that we did not cause.

        Args:
            route: the route, as it is or was.
            now: seconds, monotonic.
            is_removed: whether it was removed.
            is_replacing: whether it replaced another route of its key.
        """
        table_key, key = route.key.table_key, route.key.prefix.as_int
        if self._dump is not None:
            self._dump.overtaken(table_key, key)
        if self._ownership.is_preferred_foreign(table_key, route.protocol):
            self._preferred_foreign_changed(table_key, key, route.protocol, is_removed=is_removed)
            return None
        if self._ownership.is_conflict(table_key, route.protocol):
            fib_table = self.fib_table(table_key)
            if is_removed:
                fib_table.conflict_gone(key)
                return None
            return fib_table.conflict_found(key, route.protocol, now, is_replacing=is_replacing)
        if not self._ownership.is_ours(table_key, route.protocol):
            return None
        fib_table = self.fib_table(table_key)
        if is_removed:
            return next(iter(fib_table.gone([key], now)), None)
        if is_replacing:
            fib_table.conflict_replaced(key)
            if table_key.priority < self._ownership.priority and not table_key.tos:
                self._preferred_foreign_changed(table_key, key, route.protocol, is_removed=True)
        return fib_table.found(key, route.value, now, is_alone=is_replacing)

    def _preferred_foreign_changed(
        self, table_key: TableKey, key: int, protocol: int, *, is_removed: bool
    ) -> None:
        shadowed = self._ownership.table_key_of(table_key.table_id, table_key.family)
        if self._dump is not None:
            self._dump.overtaken(shadowed, key)
        preferred_foreign = self.fib_table(shadowed).preferred_foreign
        if is_removed:
            preferred_foreign.gone(key, table_key.priority)
        else:
            preferred_foreign.found(key, table_key.priority, protocol)

    def is_contested(self, key: RouteKey) -> bool:
        """Whether a foreign route has this key of ours, or wins against ours."""
        fib_table = self._tables.get(self._ownership.table_key_of(key.table_id, key.prefix.family))
        if fib_table is None or key.tos or key.priority > self._ownership.priority:
            return False
        number = key.prefix.as_int
        return number in fib_table.preferred_foreign or fib_table.is_contested(number)

    @property
    def has_contested(self) -> bool:
        """Whether the kernel prefers foreign routes to ours, or foreign routes hold our keys."""
        return any(
            len(fib_table.preferred_foreign) or fib_table.conflict_keys()
            for fib_table in self._tables.values()
        )

    def retry_everything(self) -> None:
        """Retry all failed routes, after a change of a link or address."""
        for fib_table in self._tables.values():
            fib_table.retry_everything()

    def rewrite(self, addresses: Container[Address]) -> None:
        """Write routes through former addresses of this host again: see `FibTable.rewrite`."""
        for table_key, fib_table in self._tables.items():
            for key in fib_table.rewrite(addresses) if table_key.family is Family.IPV4 else ():
                if self._dump is not None:
                    self._dump.overtaken(table_key, key)

    def retry_through(self, nexthop_ids: Container[int]) -> None:
        """Retry failed routes through nexthop objects that are in the kernel now."""
        for fib_table in self._tables.values():
            fib_table.retry_if(lambda value: value.nexthop_id in nexthop_ids)

    def retry_covered(
        self,
        is_covered: Callable[[Address], bool],
        hops_of: Callable[[RouteValue], Iterable[NextHop]],
    ) -> None:
        """Retry failed routes whose gateways may resolve over routes that are in the kernel now.

        Args:
            is_covered: whether a gateway may resolve over these routes.
            hops_of: returns the next hops of a route, through an object or not.
        """
        for fib_table in self._tables.values():
            fib_table.retry_if(
                lambda value: any(
                    hop.via is not None and is_covered(hop.via) for hop in hops_of(value)
                )
            )

    def fib_table(self, table_key: TableKey) -> FibTable:
        """Look up the FIB table of a table key; create it if there is none."""
        fib_table = self._tables.get(table_key)
        if fib_table is None:
            fib_table = self._tables[table_key] = FibTable(
                table_key,
                self.counts,
                lambda value: self.is_over_dead_link(value),
                lambda value: self.is_link_route(value),
            )
            if not self._is_coupled:
                fib_table.decouple()
        return fib_table

    # --- plans and their outcomes

    @property
    def has_link_routes(self) -> bool:
        """Whether `plan_link_routes` may have something."""
        return any(fib_table.has_link_routes for fib_table in self._tables.values())

    def plan_link_routes(self, limit: int = BATCH_OPERATIONS) -> list[FibBatch]:
        """Plan the next writes of routes over which gateways may resolve; they come first."""
        batches: list[FibBatch] = []
        for fib_table in self._tables.values():
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0:
                batches += fib_table.plan_link_routes(room)
        return batches

    def plan(self, now: float, limit: int = BATCH_OPERATIONS) -> list[FibBatch]:
        """Plan the next operations; empty if there is nothing to do now."""
        batches: list[FibBatch] = []
        for fib_table in self._tables.values():
            fib_table.release_due(now)
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0 and fib_table.tracker.to_install:
                batches += fib_table.plan_writes(room)
        if batches or (self._is_coupled and not self._is_gate_open):
            return batches
        for fib_table in self._tables.values():
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0 and fib_table.tracker.to_remove:
                batches += fib_table.plan_removals(room)
        return batches

    def record(self, batches: Sequence[FibBatch], refusals: Sequence[Refusals], now: float) -> bool:
        """Record the outcome of the last `plan`; no other change may have been made in between.

        Returns:
            False if the kernel's state differs from the known one and should be read again.
        """
        agrees = [
            self._tables[batch.table_key].record(batch, refused, now)
            for batch, refused in zip(batches, refusals, strict=True)
        ]
        return all(agrees)

    def retry_at(self) -> float:
        """Return when the next held route is due; math.inf if none waits."""
        return min((fib_table.retry_at() for fib_table in self._tables.values()), default=math.inf)

    # --- reports

    @property
    def has_tried_all(self) -> bool:
        """Whether every desired route was tried: installed, or failed with a reason."""
        return not any(fib_table.tracker.to_install for fib_table in self._tables.values())

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Return the numbers of routes desired, installed, failed and pending."""
        tables = self._tables.values()
        desired = sum(fib_table.desired_count for fib_table in tables)
        installed = sum(len(fib_table.tracker.same) for fib_table in tables)
        failed = self.failed_count
        return desired, installed, failed, desired - installed - failed

    @property
    def failed_count(self) -> int:
        """Number of desired routes that failed and are not installed since."""
        return sum(fib_table.failed_count for fib_table in self._tables.values())

    @property
    def stale_count(self) -> int:
        """Number of our kernel routes that are not desired: they wait for the gate or removal."""
        return sum(len(fib_table.tracker.to_remove) for fib_table in self._tables.values())

    @property
    def is_gate_open(self) -> bool:
        """Whether leftovers may be removed."""
        return self._is_gate_open

    def hops(self) -> set[tuple[Address, int]]:
        """Collect the gateways and links of our kernel routes; cost as of `FibTable.hops`."""
        return set().union(*(fib_table.hops() for fib_table in self._tables.values()))

    def nexthop_ids(self) -> set[int]:
        """Collect the nexthop objects in use; cost as of `FibTable.nexthop_ids`."""
        return set().union(*(fib_table.nexthop_ids() for fib_table in self._tables.values()))

    @property
    def kernel_count(self) -> int:
        """Number of our routes in the kernel."""
        return sum(fib_table.tracker.kernel_count for fib_table in self._tables.values())

    def pop_report(self, limit: int) -> Report:
        """Pop failures to report to the engine, at most `limit` routes."""
        failures: dict[RouteKey, str] = {}
        recovered: list[RouteKey] = []
        for fib_table in [each for each in self._tables.values() if each.unsent]:
            room = limit - len(failures) - len(recovered)
            failed, ended = fib_table.pop_unsent(room)
            failures |= {fib_table.table_key.key(key): reason for key, reason in failed.items()}
            recovered += [fib_table.table_key.key(key) for key in ended]
        return Report(failures, tuple(recovered))

    def pop_changes(self) -> Report:
        """Pop new failures and ends of failures since the last call, for the log."""
        failures: dict[RouteKey, str] = {}
        recovered: list[RouteKey] = []
        for fib_table in self._tables.values():
            to_key = fib_table.table_key.key
            failures |= {to_key(key): reason for key, reason in fib_table.news.items()}
            recovered += [to_key(key) for key in fib_table.recovered]
            fib_table.news, fib_table.recovered = {}, []
        return Report(failures, tuple(recovered))

    @property
    def shadowed_count(self) -> int:
        """Number of our routes to which the kernel prefers a foreign one."""
        return sum(len(fib_table.preferred_foreign) for fib_table in self._tables.values())

    def pop_preferred(self, limit: int) -> list[tuple[RouteKey, PreferredForeignRoute | None]]:
        """Pop foreign routes that the kernel prefers to ours; None where that has ended."""
        changes: list[tuple[RouteKey, PreferredForeignRoute | None]] = []
        for fib_table in [each for each in self._tables.values() if each.preferred_foreign.unsent]:
            unsent = fib_table.preferred_foreign.pop_unsent_tables(limit - len(changes))
            changes += [(fib_table.table_key.key(key), foreign) for key, foreign in unsent]
        return changes

    def pop_preferred_foreign(self) -> list[tuple[RouteKey, PreferredForeignRoute]]:
        """Pop foreign routes that the kernel prefers to ours since the last call, for the log."""
        news = []
        for fib_table in self._tables.values():
            news += [
                (fib_table.table_key.key(foreign.key), foreign)
                for foreign in fib_table.preferred_foreign.news
            ]
            fib_table.preferred_foreign.news.clear()
        self.counts.shadowed += len(news)
        return news


class DumpComparison:
    """One dump of one table and family, compared page by page with the FIB tables.

    A route that is as desired is only counted. Changes that are notified while the dump is under
    way are newer than the dump: their keys are left out of the comparison.
    """

    def __init__(self, fib_tables: FibTables, tables: list[FibTable], *, is_thorough: bool) -> None:
        self._fib_tables = fib_tables
        self._tables = {fib_table.table_key: fib_table for fib_table in tables}
        self._is_thorough = is_thorough
        self._matched: dict[TableKey, int] = dict.fromkeys(self._tables, 0)
        self._odd: dict[TableKey, dict[RouteValue, list[Sequence[int]]]] = {}
        self._conflicts: dict[TableKey, dict[int, int]] = {}
        self._seen: Counter[TableKey] = Counter()
        """Number of our routes seen."""
        self._preferred_foreign: dict[TableKey, dict[int, dict[int, int]]] = {}
        """By our table key and by prefix: foreign priorities and their protocols."""
        self._overtaken: dict[TableKey, set[int]] = {}
        if is_thorough:
            for fib_table in tables:
                fib_table.tracker.clear_marks()

    def overtaken(self, table_key: TableKey, key: int) -> None:
        """Record that a notification named this key during the dump."""
        self._overtaken.setdefault(table_key, set()).add(key)

    def receive(self, seen: SeenRoute, keys: Sequence[int]) -> None:
        """Receive a run of routes that differ in their prefix only.

        Cost: 0.05 us for each that is as desired, 0.1 us without the C extension.
        """
        table_key, protocol, value, *_ = seen
        ownership = self._fib_tables.ownership
        if ownership.is_conflict(table_key, protocol):
            self._conflicts.setdefault(table_key, {}).update(dict.fromkeys(keys, protocol))
        elif ownership.is_preferred_foreign(table_key, protocol):
            self._pop_preferred_foreign(table_key, protocol, keys)
        if not ownership.is_ours(table_key, protocol):
            return
        self._seen[table_key] += len(keys)
        strange, fib_table = keys, self._tables.get(table_key)
        if fib_table is not None:
            if fib_table.tracker.same:
                strange = fib_table.tracker.differing(keys, value)
            self._matched[table_key] += len(keys) - len(strange)
            if self._is_thorough:
                fib_table.tracker.mark(keys)
        if strange:
            self._odd.setdefault(table_key, {}).setdefault(value, []).append(strange)

    def _pop_preferred_foreign(
        self, table_key: TableKey, protocol: int, keys: Sequence[int]
    ) -> None:
        shadowed = self._fib_tables.ownership.table_key_of(table_key.table_id, table_key.family)
        preferred_foreign = self._preferred_foreign.setdefault(shadowed, {})
        for key in itertools.islice(keys, max(0, PREFERRED_FOREIGN_MAX - len(preferred_foreign))):
            preferred_foreign.setdefault(key, {})[table_key.priority] = protocol

    def finish(self, now: float) -> list[Drift] | None:
        """Complete the dump: correct the FIB tables.

        Returns:
            Our routes that were changed or removed from outside; None if something is missing and
            only a thorough dump can name it.
        """
        if not self._is_thorough and any(map(self._lacks_something, self._tables.values())):
            return None
        drift: list[Drift | None] = []
        if self._is_thorough:
            for fib_table in self._tables.values():
                missing = self._not_overtaken(fib_table.table_key, fib_table.tracker.unmarked())
                drift += fib_table.gone(missing, now)
        for table_key, odd in self._odd.items():
            fib_table = self._fib_tables.fib_table(table_key)
            for value, pages in odd.items():
                keys = self._not_overtaken(table_key, KeyColumn.joined(pages))
                drift += fib_table.found_all(keys, value, now)
            if self._seen[table_key] > fib_table.tracker.kernel_count:
                drift += fib_table.found_several(
                    self._not_overtaken(table_key, _repeated(odd.values())), now
                )
        self._resolve_conflicts(now)
        for table_key in self._tables.keys() | self._preferred_foreign.keys():
            preferred_foreign = self._preferred_foreign.get(table_key, {})
            self._fib_tables.fib_table(table_key).preferred_foreign.reconcile(
                preferred_foreign, self._overtaken_in(table_key)
            )
        return [entry for entry in drift if entry is not None]

    def _lacks_something(self, fib_table: FibTable) -> bool:
        tracker = fib_table.tracker
        if not tracker.kernel_count:
            return False
        pages = itertools.chain.from_iterable(self._odd.get(fib_table.table_key, {}).values())
        known = sum(map(tracker.kernel_count_of, pages))
        return self._matched[fib_table.table_key] + known != tracker.kernel_count

    def _resolve_conflicts(self, now: float) -> None:
        for table_key in self._tables.keys() | self._conflicts.keys():
            fib_table = self._fib_tables.fib_table(table_key)
            conflicts = self._conflicts.get(table_key, {})
            vanished = [key for key in fib_table.conflict_keys() if key not in conflicts]
            for key in self._not_overtaken(table_key, vanished):
                fib_table.conflict_gone(key)
            for key in self._not_overtaken(table_key, list(conflicts)):
                fib_table.conflict_found(key, conflicts[key], now)

    def _not_overtaken(self, table_key: TableKey, keys: Sequence[int]) -> Sequence[int]:
        """Select the keys without a newer notification."""
        overtaken = self._overtaken_in(table_key)
        return [key for key in keys if key not in overtaken] if overtaken else keys

    def _overtaken_in(self, table_key: TableKey) -> set[int]:
        return self._overtaken.get(table_key, set())


def _repeated(odd: Iterable[Iterable[Sequence[int]]]) -> list[int]:
    """List the keys that occur more than once."""
    counts = Counter(key for pages in odd for keys in pages for key in keys)
    return [key for key, count in counts.items() if count > 1]
