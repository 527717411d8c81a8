"""The loop that keeps imported routes equal to the kernel, by notifications and dumps.

Notifications are applied as they arrive. The kernel is read at start, after lost notifications,
when a link went down or lost an address (Linux removes IPv4 routes without a notification), when
the rules changed, and on the resync timer.

Failure: a dump that fails is logged and repeated after RETRY_S; until then the imported routes stay
as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from routed.fib.imported import KernelImportRule, RouteImporter
from routed.fib.nexthops.codec import SeenNextHop
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.tables import SeenRoute
from routed.log.logger import Logger
from routed.model.prefix import Family
from routed.netlink.socket import DumpInterrupted, NetlinkError

__all__ = ["ImportKernel", "ImportSync"]

RETRY_S = 1.0


class ImportKernel(Protocol):
    """The part of a kernel that the loop needs: `RequestSocket`, or the tests' fake."""

    async def dump_routes(
        self, table_id: int, family: Family, receive: Callable[[SeenRoute, Sequence[int]], None]
    ) -> None:
        """Read one table of one family; DumpInterrupted if it must be read again."""
        ...

    def dump_nexthops(self) -> list[SeenNextHop] | None:
        """Read every nexthop object; None if the kernel has no nexthop objects."""
        ...


class ImportSync:
    """Runs an importer against a kernel."""

    def __init__(
        self, kernel: ImportKernel, *, resync_s: float, log: Logger, on_change: Callable[[], None]
    ) -> None:
        """Start with no rules.

        Args:
            kernel: where routes are read; used by this task only.
            resync_s: seconds between two periodic rounds.
            log: for dumps that fail.
            on_change: called when `importer.pop_changes` may return changes.
        """
        self.importer = RouteImporter()
        self.resync_s = resync_s
        self._kernel = kernel
        self._log = log
        self._on_change = on_change
        self._wake = trio.Event()

    def set_desired(self, rules: Sequence[KernelImportRule]) -> None:
        """Apply the rules of a configuration."""
        self.importer.set_desired(rules)
        self._on_change()
        self.request_dump()

    def request_dump(self) -> None:
        """Request a dump: the kernel may have changed without a notification."""
        self._wake.set()

    def route_notified(self, route: KernelRoute, is_removed: bool) -> None:
        """Apply the notification of a route."""
        self.importer.has_unknown_objects = False
        self.importer.changed(route, is_removed=is_removed)
        if self.importer.has_unknown_objects:
            self.request_dump()
        self._on_change()

    def nexthop_notified(self) -> None:
        """Request a dump if needed: routes through a changed nexthop object may have other hops."""
        if self.importer.tables:
            self.request_dump()

    async def run(self) -> None:
        """Follow the kernel forever."""
        while True:
            self._wake = trio.Event()
            is_complete = await self._round()
            self._on_change()
            with trio.move_on_after(self.resync_s if is_complete else RETRY_S):
                await self._wake.wait()

    async def _round(self) -> bool:
        """Read every table that a rule names. Returns whether all were read."""
        if not self._read_objects():
            return False
        left_out: Counter[str] = Counter()
        for table_id in sorted(self.importer.tables):
            for family in Family:
                dump = self.importer.begin_dump(table_id, family)
                try:
                    await self._kernel.dump_routes(table_id, family, dump.receive)
                except DumpInterrupted:
                    return False
                except (NetlinkError, OSError) as error:
                    self._log.emit("netlink-error", what="reading routes to import", error=error)
                    return False
                left_out += dump.finish()
        self._log_left_out(dict(left_out))
        return True

    def _log_left_out(self, left_out: dict[str, int]) -> None:
        """Log how many routes are not imported, if the number has changed."""
        before, self.importer.left_out = self.importer.left_out, left_out
        for reason in sorted(before.keys() | left_out):
            count = left_out.get(reason, 0)
            if count != before.get(reason, 0):
                self._log.emit("routes-not-learned", routes=count, reason=reason)

    def _read_objects(self) -> bool:
        if not self.importer.tables:
            return True
        try:
            seen = self._kernel.dump_nexthops()
        except DumpInterrupted:
            return False
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="reading nexthop objects to import", error=error)
            return False
        self.importer.objects = {entry.id: entry.form for entry in seen or ()}
        return True
