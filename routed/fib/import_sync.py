"""The loop that keeps what is learned equal to the kernel: dumps when there is reason, else news.

Notifications are entered as they come. The kernel is read at start, after lost notifications, when
a link went down or lost an address (Linux removes IPv4 routes without a word), when the rules
changed, and on the resync timer.

Failure: a dump that fails is logged and asked for again after RETRY_S; until then what was known
stays known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from routed.fib.imported import LearnRule, RouteLearner
from routed.fib.nexthops.codec import SeenNextHop
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.tables import SeenRoute
from routed.log.logger import Logger
from routed.model.prefix import Family
from routed.netlink.socket import DumpInterrupted, NetlinkError

__all__ = ["LearnKernel", "LearnSync"]

RETRY_S = 1.0


class LearnKernel(Protocol):
    """What the loop needs of a kernel: `netlink.RequestSocket`, or the tests' fake."""

    async def dump_routes(
        self, table_id: int, family: Family, take: Callable[[SeenRoute, Sequence[int]], None]
    ) -> None:
        """Read one table of one family; DumpInterrupted to be asked again."""
        ...

    def dump_nexthops(self) -> list[SeenNextHop] | None:
        """Every nexthop object; None when the kernel has no such thing."""
        ...


class LearnSync:
    """Runs a learner against a kernel."""

    def __init__(
        self, kernel: LearnKernel, *, resync_s: float, log: Logger, on_change: Callable[[], None]
    ) -> None:
        """Args:
        kernel: where routes are read; this task's own.
        resync_s: seconds between two rounds that nothing asked for.
        log: for dumps that fail.
        on_change: called when `learner.pop_changes` may have something.
        """
        self.learner = RouteLearner()
        self.resync_s = resync_s
        self._kernel = kernel
        self._log = log
        self._on_change = on_change
        self._wake = trio.Event()

    def set_desired(self, rules: Sequence[LearnRule]) -> None:
        """Follow a configuration."""
        self.learner.set_desired(rules)
        self._on_change()
        self.look_again()

    def look_again(self) -> None:
        """The kernel may have changed without a word."""
        self._wake.set()

    def route_notified(self, route: KernelRoute, is_removed: bool) -> None:
        """The kernel has said what changed."""
        self.learner.has_riddles = False
        self.learner.changed(route, is_removed=is_removed)
        if self.learner.has_riddles:
            self.look_again()
        self._on_change()

    def nexthop_notified(self) -> None:
        """Somebody has changed a nexthop object: routes through it may go elsewhere."""
        if self.learner.tables:
            self.look_again()

    async def run(self) -> None:
        """Keep up for ever."""
        while True:
            self._wake = trio.Event()
            is_complete = await self._round()
            self._on_change()
            with trio.move_on_after(self.resync_s if is_complete else RETRY_S):
                await self._wake.wait()

    async def _round(self) -> bool:
        """Read every table that some rule is about; whether that went well."""
        if not self._read_objects():
            return False
        left_out: Counter[str] = Counter()
        for table_id in sorted(self.learner.tables):
            for family in Family:
                dump = self.learner.begin_dump(table_id, family)
                try:
                    await self._kernel.dump_routes(table_id, family, dump.take)
                except DumpInterrupted:
                    return False
                except (NetlinkError, OSError) as error:
                    self._log.emit("netlink-error", what="reading routes to learn", error=error)
                    return False
                left_out += dump.finish()
        self._say_left_out(dict(left_out))
        return True

    def _say_left_out(self, left_out: dict[str, int]) -> None:
        """Log how many routes are not learned, when that is another number than before."""
        before, self.learner.left_out = self.learner.left_out, left_out
        for reason in sorted(before.keys() | left_out):
            count = left_out.get(reason, 0)
            if count != before.get(reason, 0):
                self._log.emit("routes-not-learned", routes=count, reason=reason)

    def _read_objects(self) -> bool:
        if not self.learner.tables:
            return True
        try:
            seen = self._kernel.dump_nexthops()
        except DumpInterrupted:
            return False
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="reading nexthop objects to learn", error=error)
            return False
        self.learner.objects = {entry.id: entry.form for entry in seen or ()}
        return True
