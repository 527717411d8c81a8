"""The forwarding wait: updates that are advertised only when this router forwards by them.

The selected route and the kernel's route differ until the kernel has been written. A neighbor that
receives an update in between may send packets that the kernel still sends back to it: a loop of a
few milliseconds (a micro-loop, RFC 5715). So an update that makes our claim better (`routes/table`)
waits until the caller reports that the kernel has been updated.

Why that is enough. Let K be the feasibility distance by which the kernel forwards now: that of the
selection which was last written. K only improves, as FD does. Since nothing better than K is
claimed, K(j) <= claim(j) for all that j has ever claimed and not retracted; and i's kernel uses j
only by a selection with claim(j) < K(i). So along the kernels' next hops K strictly improves, and
such a chain cannot close: the same argument as for the feasibility condition, with the kernels'
routes in place of the tables. Claims that get worse, and retractions, break nothing and never wait.

    selected, FD improved --add--> waiting --kernel updated, or FORWARDING_WAIT_MAX_S--> advertised

A prefix waits as a whole: later changes of it are advertised with it, except for a retraction.

Bounds: one entry for each prefix; after FORWARDING_WAIT_MAX_S the update is advertised all the
same, so that a slow kernel blocks no update. This holds only while the process that writes the
kernel is alive: it must have reported (`driver_alive_at`) after that time was over. No better claim
is ever advertised on behalf of a process that hangs.

Sources: RFC 5715 (the problem); RFC 6976 (ordered updates, by timers; here by acknowledgements).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from routed.model.prefix import Prefix

__all__ = ["FORWARDING_WAIT_MAX_S", "ForwardingWait"]

FORWARDING_WAIT_MAX_S = 1.0
"""A hundred times the time that a kernel needs for a few routes, and enough to write 300,000."""


class ForwardingWait:
    """Owner of the prefixes that wait for the kernel."""

    def __init__(self) -> None:
        self.is_on = False
        """Off: no caller reports what the kernel has, and nothing waits."""
        self.driver_alive_at = math.inf
        """Time of the last report of the process that writes the kernel; infinite before the
        first."""
        self._since: dict[Prefix, float] = {}
        """Oldest first."""
        self._new: dict[Prefix, None] = {}
        """Selected again, and not handed to the caller yet: a report about them concerns an earlier
        selection."""

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._since

    def __len__(self) -> int:
        return len(self._since)

    def add(self, prefixes: Collection[Prefix], now: float) -> None:
        """Advertise only retractions of these until the kernel forwards by the selection."""
        if self.is_on:
            since = self._since
            self._new.update(dict.fromkeys(prefixes))
            since.update(dict.fromkeys([each for each in prefixes if each not in since], now))

    def pop_new(self) -> list[Prefix]:
        """Return what has begun to wait since the last call; the caller reports when each wait
        ends."""
        unasked, self._new = self._new, {}
        return list(unasked)

    def end(self, prefixes: Iterable[Prefix]) -> list[Prefix]:
        """End the wait of these: the kernel has been updated. Returns those that were waiting."""
        unasked, forget = self._new, self._since.pop
        return [
            prefix
            for prefix in prefixes
            if prefix not in unasked and forget(prefix, None) is not None
        ]

    def end_all(self) -> list[Prefix]:
        """End all waits. Returns the prefixes that were waiting."""
        waiting = list(self._since)
        self._since.clear()
        self._new.clear()
        return waiting

    def expire(self, now: float) -> list[Prefix]:
        """End the waits that have lasted too long. Returns their prefixes."""
        late = []
        alive_until = min(now, self.driver_alive_at)
        for prefix, since in self._since.items():
            if alive_until < since + FORWARDING_WAIT_MAX_S:
                break
            late.append(prefix)
        for prefix in late:
            del self._since[prefix]
        return late

    def next_timer(self) -> float | None:
        """Return when `expire` has something to do; None also while that depends on a report of the
        driver."""
        for since in self._since.values():
            due = since + FORWARDING_WAIT_MAX_S
            return due if due <= self.driver_alive_at else None
        return None
