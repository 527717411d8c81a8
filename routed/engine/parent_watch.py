"""Whether the parent is there: the engine's side of the pings.

    ticks without a message   0, 1, 2     3 ...         a message
                              --------    -----------   ---------
                              as usual    "silent"      as usual

A parent that hangs writes nothing into the kernel, and what this router advertises would lead into
a black hole. Two things follow, at different times. At once, and without this module: what is
better than before waits for the kernel however long the parent says nothing
(`routed.nup.transport.forwarding_wait`). After SILENT_TICKS ticks: the log and `show status` say
so.

Ticks and not seconds are counted, so that an engine that was stopped itself blames nobody.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from routed.log.logger import Logger

__all__ = ["SILENT_TICKS", "TICK_S", "ParentWatch"]

TICK_S = 5.0
"""The parent pings as often, and an engine answers each ping."""

SILENT_TICKS = 3


class ParentWatch:
    """Owns when the parent was last heard of."""

    def __init__(self, now: Callable[[], float], log: Logger) -> None:
        """Begin with a parent that was just heard of.

        Args:
            now: seconds on a monotonic clock.
            log: for silence and its end.
        """
        self._now = now
        self._log = log
        self._heard_at = now()
        self._ticks = 0

    @property
    def silent_since(self) -> float | None:
        """When the parent was last heard of, if it hangs; None while it does not."""
        return self._heard_at if self._ticks >= SILENT_TICKS else None

    def heard(self) -> None:
        """The parent has said something."""
        now = self._now()
        if self._ticks >= SILENT_TICKS:
            self._log.emit("parent-back", after_s=round(now - self._heard_at))
        self._heard_at, self._ticks = now, 0

    async def run(self) -> None:
        """Count the ticks without a word."""
        while True:
            await trio.sleep(TICK_S)
            self._ticks += 1
            if self._ticks == SILENT_TICKS:
                self._log.emit("parent-silent", for_s=round(self._now() - self._heard_at))
