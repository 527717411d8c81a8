"""News that neighbors get only when this router forwards by them.

What is chosen here and what the kernel does differ for the time that it takes to write. Neighbors
that are told in between may send packets that the kernel still sends back to them: a loop of a few
milliseconds (a micro-loop, RFC 5715). So an update that makes our claim better (`feasibility`)
waits until whoever drives the instance says that the kernel has followed.

Why that is enough. Let K be the feasibility distance by which the kernel forwards now: that of the
selection which was last written. K only improves, as FD does. Since nothing better than K is
claimed, K(j) <= claim(j) for all that j has ever claimed and not retracted; and i's kernel uses j
only by a selection with claim(j) < K(i). So along the kernels' next hops K strictly improves, and
such a chain cannot close: the argument of `feasibility`, word for word, with the kernels' routes in
the place of the tables'. Claims that get worse, and retractions, break nothing and are never late.

    selected, FD improved --await_all--> waiting --followed, or AWAITED_MAX_S--> told

A prefix waits as a whole: what becomes of it meanwhile is told with it, except for a retraction.

Bounds: one entry for each prefix; AWAITED_MAX_S, after which neighbors are told all the same, so
that a kernel which is slow stops no news. This holds only while whoever writes the kernel is alive:
it must have been heard of (`driver_heard_at`) after that time was over. Nothing better is ever
advertised on behalf of a process that hangs.

Sources: RFC 5715 (the problem); RFC 6976 (ordered updates, by timers; here by acknowledgements).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from routed.model.prefix import Prefix

__all__ = ["AWAITED_MAX_S", "ForwardingWait"]

AWAITED_MAX_S = 1.0
"""A hundred times what a kernel takes for a few routes; a table of 300,000 is written meanwhile."""


class ForwardingWait:
    """Owns which prefixes wait for the kernel."""

    def __init__(self) -> None:
        self.is_on = False
        """Off: nobody says what the kernel does, and nothing waits."""
        self.driver_heard_at = math.inf
        """When whoever writes the kernel was last heard of; at first it is taken for alive."""
        self._since: dict[Prefix, float] = {}
        """Oldest first."""
        self._unasked: dict[Prefix, None] = {}
        """Chosen anew, and the caller has not been told to look: what the kernel is said to have is
        what was chosen before."""

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._since

    def __len__(self) -> int:
        return len(self._since)

    def await_all(self, prefixes: Collection[Prefix], now: float) -> None:
        """Tell nothing of these but retractions until the kernel forwards by what was chosen."""
        if self.is_on:
            since = self._since
            self._unasked.update(dict.fromkeys(prefixes))
            since.update(dict.fromkeys([each for each in prefixes if each not in since], now))

    def pop_unasked(self) -> list[Prefix]:
        """What was chosen since the last call and waits; the caller is to say when it has ended."""
        unasked, self._unasked = self._unasked, {}
        return list(unasked)

    def end(self, prefixes: Iterable[Prefix]) -> list[Prefix]:
        """The kernel has followed for these; those of them that were waiting."""
        unasked, forget = self._unasked, self._since.pop
        return [
            prefix
            for prefix in prefixes
            if prefix not in unasked and forget(prefix, None) is not None
        ]

    def end_all(self) -> list[Prefix]:
        """Nothing waits any more; what did."""
        waiting = list(self._since)
        self._since.clear()
        self._unasked.clear()
        return waiting

    def expire(self, now: float) -> list[Prefix]:
        """What has waited for too long, and does not any more."""
        late = []
        alive_until = min(now, self.driver_heard_at)
        for prefix, since in self._since.items():
            if alive_until < since + AWAITED_MAX_S:
                break
            late.append(prefix)
        for prefix in late:
            del self._since[prefix]
        return late

    def next_timer(self) -> float | None:
        """When `expire` has something to do; None also while only a word of the driver can tell."""
        for since in self._since.values():
            due = since + AWAITED_MAX_S
            return due if due <= self.driver_heard_at else None
        return None
