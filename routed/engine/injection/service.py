"""Injected routes in the engine: leases by the clock, and the journal that outlives it.

    requests of clients --> InjectedRoutes (who owns what, until when) --> RIB
           +--> Journal (memory that the parent holds) --an engine's death--> `keep` of the next

A session's routes are not written down: their session has ended with the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from routed.engine.injection.journal import Journal, Kept, Removed, Renewed
from routed.engine.injection.leases import Attributes, InjectedRoutes, Problem
from routed.imsg.columns import pack_keys
from routed.log.logger import Logger
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteColumn
from routed.rib.table import Rib

__all__ = ["Injecting"]


class Injecting:
    """Serves requests, and lets leases end."""

    def __init__(
        self, rib: Rib, now: Callable[[], float], log: Logger, on_change: Callable[[], None]
    ) -> None:
        """Begin with no routes.

        Args:
            rib: where they go.
            now: seconds, monotonic.
            log: where the ends of leases go.
            on_change: called when something is to be decided, or shown otherwise.
        """
        self._routes = InjectedRoutes(rib)
        self._now = now
        self._log = log
        self._on_change = on_change
        self._journal: Journal | None = None
        self._to_expire = trio.Event()

    def remaining_s(self, prefix: Prefix, owner: str, now: float) -> float | None:
        """How long a route stays by itself; None when it has no such end."""
        return self._routes.remaining_s(prefix, owner, now)

    def keep(self, journal: Journal) -> None:
        """Take up what an earlier engine left, and keep what comes for the next one."""
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

    def put(
        self,
        owner: str,
        routes: Sequence[RouteColumn],
        attributes: Sequence[Attributes],
        *,
        is_replace: bool,
        lease_s: float | None,
        session: int | None,
    ) -> list[Problem]:
        """Install routes of one owner; arguments and result as `InjectedRoutes.put`."""
        now = self._now()
        problems = self._routes.put(
            owner,
            routes,
            attributes,
            is_replace=is_replace,
            lease_s=lease_s,
            session=session,
            now=now,
        )
        if self._journal is not None and not problems and session is None:
            until = None if lease_s is None else now + lease_s
            is_new = not is_replace and lease_s is None  # a lease may have run out before
            for column in routes:
                if column.keys:
                    kept = Kept.of(owner, column, attributes, until)
                    self._journal.append(kept, now, is_new=is_new)
        self._on_change()
        self._to_expire.set()
        return problems

    def delete(self, owners: tuple[str, ...], routes: Sequence[RouteColumn]) -> list[Problem]:
        """Take injected routes away; arguments and result as `InjectedRoutes.delete`."""
        problems = self._routes.delete(owners, routes, self._keep_removal)
        self._on_change()
        return problems

    def _keep_removal(self, owner: str, family: Family, keys: list[int]) -> None:
        if self._journal is not None:
            self._journal.append(Removed(owner, family, pack_keys(family, keys)), self._now())

    def renew(self, owner: str, lease_s: float) -> int:
        """Begin an owner's timed leases anew; returns how many there are."""
        now = self._now()
        count = self._routes.renew(owner, lease_s, now)
        if self._journal is not None and count:
            self._journal.append(Renewed(owner, now, now + lease_s), now)
        self._to_expire.set()
        self._on_change()
        return count

    def end_session(self, session: int) -> None:
        """A management session has ended, and what was leased for it goes."""
        count = self._routes.end_session(session)
        if count:
            self._log.emit("lease-ended", owner=f"session {session}", routes=count, why="session")
            self._on_change()

    async def run(self) -> None:
        """End leases in time, until cancelled."""
        while True:
            with trio.move_on_after(max(self._routes.next_expiry() - self._now(), 0.0)):
                await self._to_expire.wait()
                self._to_expire = trio.Event()
                continue
            for owner, count in self._routes.expire(self._now()).items():
                self._log.emit("lease-ended", owner=owner, routes=count, why="time")
            self._on_change()
