"""Injected routes in the engine: requests, leases that expire, and the journal that outlives both.

    requests of clients --> InjectedRoutes of a table (leases by owner) --> its RIB
           +--> Journal (memory that the parent holds) --> `restore` of the next engine

Routes of a session are not in the journal: the session ends with the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from ipc.control import RouteOperation
from routed.control.injection import Injection, InjectionRefusal, find_martian_routes
from routed.engine.injection.journal import Dropped, Journal, Kept, Record, Removed, Renewed
from routed.engine.injection.leases import InjectedRoutes, Problem
from routed.imsg.columns import pack_keys
from routed.log.logger import Logger
from routed.model.prefix import Prefix
from routed.rib.table import Rib

__all__ = ["InjectionService"]

_MAIN = 0
"""Stands for the main table, whose number a reload may change."""


class InjectionService:
    """Owns the journal, and ends leases in time."""

    def __init__(
        self, rib: Rib, now: Callable[[], float], log: Logger, on_change: Callable[[], None]
    ) -> None:
        """Begin with no routes.

        Args:
            rib: receives the routes of the main table.
            now: seconds, monotonic.
            log: for leases that end.
            on_change: called when the RIB has to decide, or a lease has changed.
        """
        self._tables = {_MAIN: InjectedRoutes(rib)}
        """By number; _MAIN for the main table."""
        self._now = now
        self._log = log
        self._on_change = on_change
        self._allowed_martians: Sequence[Prefix] = ()
        self._journal: Journal | None = None
        self._to_expire = trio.Event()

    def allow_martians(self, prefixes: Sequence[Prefix]) -> None:
        """Accept routes of these martians in requests that come from now on."""
        self._allowed_martians = prefixes

    def follow_tables(self, ribs: Mapping[int, Rib]) -> None:
        """Follow the tables besides the main one; routes of those that are gone are forgotten.

        Args:
            ribs: by the number of the kernel table; the RIB of a table stays the same.
        """
        for table_id in self._tables.keys() - ribs.keys() - {_MAIN}:
            del self._tables[table_id]
            self._append(Dropped(table_id))
        for table_id, rib in ribs.items():
            if table_id not in self._tables:
                self._tables[table_id] = InjectedRoutes(rib)

    def remaining_s(self, prefix: Prefix, owner: str, now: float, table_id: int) -> float | None:
        """Return the time until a route's lease expires; None if it has no timed lease.

        Args:
            prefix: of the route.
            owner: of the route.
            now: seconds, monotonic.
            table_id: of the kernel table.
        """
        routes = self._tables.get(table_id, self._tables[_MAIN])
        return routes.remaining_s(prefix, owner, now)

    def restore(self, journal: Journal) -> None:
        """Install the routes of an earlier engine, and record later changes for the next one."""
        self._journal = journal
        now, routes = self._now(), 0
        gone: set[int] = set()
        for kept in journal.restore(now):
            if kept.table_id not in self._tables:
                gone.add(kept.table_id)
                continue
            column = kept.column()
            routes += len(column.keys)
            self._tables[kept.table_id].put(
                kept.owner,
                [column],
                kept.attributes,
                is_replace=True,
                lease_s=None if kept.until is None else kept.until - now,
                session=None,
                now=now,
            )
        for table_id in gone:
            self._append(Dropped(table_id))
        if routes:
            self._log.emit("injected-restored", routes=routes)
        self._on_change()
        self._to_expire.set()

    # --- requests

    def inject(self, injection: Injection) -> Sequence[InjectionRefusal]:
        """Carry out a request, for all of its routes or for none. Returns why not."""
        if injection.operation is RouteOperation.DELETE:
            problems = self._delete(injection)
        else:
            refusals = find_martian_routes(injection.routes, self._allowed_martians)
            if refusals:
                return refusals
            problems = self._put(injection)
        return [InjectionRefusal(*problem) for problem in problems]

    def _put(self, injection: Injection) -> list[Problem]:
        owner, attributes = injection.owners[0], injection.attributes
        is_replace = injection.operation is RouteOperation.REPLACE
        now = self._now()
        problems = self._tables[injection.table_id].put(
            owner,
            injection.routes,
            attributes,
            is_replace=is_replace,
            lease_s=injection.lease_s,
            session=injection.session,
            now=now,
        )
        if self._journal is not None and not problems and injection.session is None:
            until = None if injection.lease_s is None else now + injection.lease_s
            is_new = not is_replace and until is None  # a lease may have expired before
            for column in injection.routes:
                if column.keys:
                    kept = Kept.of(owner, column, attributes, until, injection.table_id)
                    self._journal.append(kept, now, is_new=is_new)
        self._on_change()
        self._to_expire.set()
        return problems

    def _delete(self, injection: Injection) -> list[Problem]:
        table_id = injection.table_id
        problems = self._tables[table_id].delete(
            injection.owners,
            injection.routes,
            lambda owner, family, keys: self._append(
                Removed(owner, family, pack_keys(family, keys), table_id)
            ),
        )
        self._on_change()
        return problems

    def _append(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.append(record, self._now())

    def renew(self, owner: str, lease_s: float) -> int:
        """Renew the timed leases of an owner, in all tables. Returns how many there are."""
        now = self._now()
        count = sum(routes.renew(owner, lease_s, now) for routes in self._tables.values())
        if count:
            self._append(Renewed(owner, now, now + lease_s))
        self._to_expire.set()
        self._on_change()
        return count

    def session_ended(self, session: int) -> None:
        """Withdraw the routes that were leased for a management session."""
        count = sum(routes.end_session(session) for routes in self._tables.values())
        if count:
            self._log.emit("lease-ended", owner=f"session {session}", routes=count, why="session")
            self._on_change()

    # --- leases

    async def run(self) -> None:
        """Expire leases in time, until cancelled."""
        while True:
            expiry = min(routes.next_expiry() for routes in self._tables.values())
            with trio.move_on_after(max(expiry - self._now(), 0.0)):
                await self._to_expire.wait()
                self._to_expire = trio.Event()
                continue
            for routes in list(self._tables.values()):
                for owner, count in routes.expire(self._now()).items():
                    self._log.emit("lease-ended", owner=owner, routes=count, why="time")
            self._on_change()
