"""Carrier loss, detected by polling, because Linux reports it late.

A driver notices at once that a carrier is gone. The rest of the kernel hears of it by linkwatch,
which looks at most once a second: when another link changed a moment before, a loss takes up to a
second to be told, and until then the kernel sends packets into the dead link. But a kernel that is
asked about one link catches up with it first (RTM_GETLINK calls linkwatch_sync_dev since Linux
6.9), and takes the link's nexthop objects out of their groups before it answers; an older one at
least answers that the carrier is gone.

So every link that is up is asked about, again and again (`fib.carrier_check`). Only an answer that
is another than the last one is decoded. With more than LINKS_EACH_LOOK links, each look asks about
the next so many: the cost of a look stays the same, and a link's turn comes later.

Cost: 16 us for a link, and as much again ten times over for waking up: some 3 % of a processor for
three links every 10 ms, 6 % for LINKS_EACH_LOOK or more.

Failure: a question that fails is counted and asked again in its time; notifications come anyway.

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
"""With a check every 10 ms, 300 links are asked about every 100 ms."""


class LinkAsker(Protocol):
    """Who answers: a `RequestSocket` of its own, or a test."""

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
        """Args:
        kernel: whom to ask.
        links_up: which links (by ifindex) may lose a carrier.
        on_answer: called with an RTM_NEWLINK whose flags are not what they were.
        period_s: between two looks; None to ask nothing.
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
        """Between two looks; None: it asks nothing."""
        return self._period_s

    @period_s.setter
    def period_s(self, period_s: float | None) -> None:
        self._period_s = period_s
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Ask for ever; cancel to stop."""
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
        """Ask about every link once, or about the next LINKS_EACH_LOOK."""
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
