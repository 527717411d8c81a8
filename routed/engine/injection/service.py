"""Injected routes in the engine: requests, leases that expire, and the journal that outlives both.

    requests of clients --> InjectedRoutes (leases by owner) --> RIB
           +--> Journal (memory that the parent holds) --> `restore` of the next engine

Routes of a session are not in the journal: the session ends with the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from ipc.control import RouteOperation
from routed.control.injection import Injection, InjectionRefusal, find_martian_routes
from routed.engine.injection.journal import Journal, Kept, Removed, Renewed
from routed.engine.injection.leases import InjectedRoutes, Problem
from routed.imsg.columns import pack_keys
from routed.log.logger import Logger
from routed.model.prefix import Family, Prefix
from routed.rib.table import Rib

__all__ = ["InjectionService"]


class InjectionService:
    """Owns the journal, and ends leases in time."""

    def __init__(
        self, rib: Rib, now: Callable[[], float], log: Logger, on_change: Callable[[], None]
    ) -> None:
        """Begin with no routes.

        Args:
            rib: receives the routes.
            now: seconds, monotonic.
            log: for leases that end.
            on_change: called when the RIB has to decide, or a lease has changed.
        """
        self._routes = InjectedRoutes(rib)
        self._now = now
        self._log = log
        self._on_change = on_change
        self._allowed_martians: Sequence[Prefix] = ()
        self._journal: Journal | None = None
        self._to_expire = trio.Event()

    def allow_martians(self, prefixes: Sequence[Prefix]) -> None:
        """Accept routes of these martians in requests that come from now on."""
        self._allowed_martians = prefixes

    def remaining_s(self, prefix: Prefix, owner: str, now: float) -> float | None:
        """Return the time until a route's lease expires; None if it has no timed lease."""
        return self._routes.remaining_s(prefix, owner, now)

    def restore(self, journal: Journal) -> None:
        """Install the routes of an earlier engine, and record later changes for the next one."""
        self._journal = journal
        now, routes = self._now(), 0
        for kept in journal.restore(now):
            column = kept.column()
            routes += len(column.keys)
            self._routes.put(
                kept.owner,
                [column],
                kept.attributes,
                is_replace=True,
                lease_s=None if kept.until is None else kept.until - now,
                session=None,
                now=now,
            )
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
        problems = self._routes.put(
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
                    kept = Kept.of(owner, column, attributes, until)
                    self._journal.append(kept, now, is_new=is_new)
        self._on_change()
        self._to_expire.set()
        return problems

    def _delete(self, injection: Injection) -> list[Problem]:
        problems = self._routes.delete(injection.owners, injection.routes, self._record_removal)
        self._on_change()
        return problems

    def _record_removal(self, owner: str, family: Family, keys: list[int]) -> None:
        if self._journal is not None:
            self._journal.append(Removed(owner, family, pack_keys(family, keys)), self._now())

    def renew(self, owner: str, lease_s: float) -> int:
        """Renew the timed leases of an owner. Returns how many there are."""
        now = self._now()
        count = self._routes.renew(owner, lease_s, now)
        if self._journal is not None and count:
            self._journal.append(Renewed(owner, now, now + lease_s), now)
        self._to_expire.set()
        self._on_change()
        return count

    def session_ended(self, session: int) -> None:
        """Withdraw the routes that were leased for a management session."""
        count = self._routes.end_session(session)
        if count:
            self._log.emit("lease-ended", owner=f"session {session}", routes=count, why="session")
            self._on_change()

    # --- leases

    async def run(self) -> None:
        """Expire leases in time, until cancelled."""
        while True:
            with trio.move_on_after(max(self._routes.next_expiry() - self._now(), 0.0)):
                await self._to_expire.wait()
                self._to_expire = trio.Event()
                continue
            for owner, count in self._routes.expire(self._now()).items():
                self._log.emit("lease-ended", owner=owner, routes=count, why="time")
            self._on_change()
