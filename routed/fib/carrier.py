"""Carrier loss, detected by polling, because Linux reports it late.

A driver detects a carrier loss at once. The rest of the kernel is notified by linkwatch, which runs
at most once a second: when another link changed just before, a loss is reported up to a second
late, and until then the kernel sends packets into the dead link. But a request for one link makes
the kernel process that link's events first (RTM_GETLINK calls linkwatch_sync_dev since Linux 6.9),
and remove its nexthop objects from their groups before it answers; an older kernel at least answers
that the carrier is gone.

So every link that is up is polled periodically (`fib.carrier_check`). An answer is decoded only if
it differs from the last one. With more than LINKS_EACH_LOOK links, each round polls that many in
turn: the cost of a round stays the same, and each link is polled less often.

Cost: 16 us per link, and ten times as much for each wake-up: some 3 % of a processor for three
links every 10 ms, 6 % for LINKS_EACH_LOOK or more.

Failure: a request that fails is counted and repeated in a later round; notifications still arrive.

Sources: net/core/link_watch.c, rtnl_getlink of Linux.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from routed.fib.links.codec import link_flags
from routed.netlink.message import NetlinkDecodeError, NetlinkMessage
from routed.netlink.socket import NetlinkError

__all__ = ["LINKS_EACH_LOOK", "CarrierCheck", "LinkAsker"]

LINKS_EACH_LOOK = 30
"""Most links that are polled in one round. With a round every 10 ms, each of 300 links is polled
every 100 ms."""


class LinkAsker(Protocol):
    """The source of link states: a separate `RequestSocket`, or the tests' fake."""

    def ask_link(self, ifindex: int) -> NetlinkMessage | None:
        """Read the state of a link; None if there is no such link. NetlinkError: unknown."""
        ...


class CarrierCheck:
    """Polls links in turn, and reports changed flags."""

    def __init__(
        self,
        kernel: LinkAsker,
        links_up: Callable[[], Iterable[int]],
        on_answer: Callable[[NetlinkMessage], None],
        period_s: float | None,
    ) -> None:
        """Begin; nothing is polled before `run`.

        Args:
            kernel: answers the requests.
            links_up: returns the links (by ifindex) that may lose their carrier.
            on_answer: called with an RTM_NEWLINK whose flags have changed.
            period_s: seconds between two rounds; None to poll nothing.
        """
        self.failures = 0
        self._kernel = kernel
        self._links_up = links_up
        self._on_answer = on_answer
        self._period_s = period_s
        self._changed = trio.Event()
        self._flags: dict[int, int] = {}
        self._last_asked = 0

    @property
    def period_s(self) -> float | None:
        """Seconds between two rounds; None if nothing is polled."""
        return self._period_s

    @period_s.setter
    def period_s(self, period_s: float | None) -> None:
        self._period_s = period_s
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Poll the links until cancelled."""
        while True:
            changed = self._changed
            if self._period_s is None:
                await changed.wait()
                continue
            with trio.move_on_after(self._period_s) as until_next:
                await changed.wait()
            if until_next.cancelled_caught:
                self.look()

    def look(self) -> None:
        """Poll every link once, or the next LINKS_EACH_LOOK."""
        links = sorted(self._links_up())
        flags = {ifindex: self._flags[ifindex] for ifindex in links if ifindex in self._flags}
        first = bisect.bisect_right(links, self._last_asked)
        for ifindex in (links[first:] + links[:first])[:LINKS_EACH_LOOK]:
            self._last_asked = ifindex
            flags.pop(ifindex, None)
            try:
                answer = self._kernel.ask_link(ifindex)
                if answer is None:
                    continue
                flags[ifindex] = link_flags(answer)
                if self._flags.get(ifindex) != flags[ifindex]:
                    self._on_answer(answer)
            except (NetlinkError, NetlinkDecodeError, OSError):
                self.failures += 1
        self._flags = flags
