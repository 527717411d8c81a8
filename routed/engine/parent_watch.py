"""Liveness of the parent: the engine's side of the pings.

    ticks without a message   0, 1, 2     3 ...         a message
                              --------    -----------   ---------
                              as usual    "silent"      as usual

A parent that hangs does not program the kernel, and routes that this router advertises would lead
into a black hole. Two measures follow, at different times. At once, and without this module:
improved routes are not advertised before they are in the kernel, however long the parent is silent
(`routed.nup.transport.forwarding_wait`). After SILENT_TICKS ticks: the log and `show status` report
it.

Ticks are counted, not seconds, so that an engine that was itself stopped does not report a silent
parent.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from routed.log.logger import Logger

__all__ = ["SILENT_TICKS", "TICK_S", "ParentWatch"]

TICK_S = 5.0
"""Length of a tick. The parent pings as often, and an engine answers each ping."""

SILENT_TICKS = 3


class ParentWatch:
    """Owns the time of the parent's last message."""

    def __init__(self, now: Callable[[], float], log: Logger) -> None:
        """Begin as if a message had just been received.

        Args:
            now: seconds on a monotonic clock.
            log: for the beginning and the end of silence.
        """
        self._now = now
        self._log = log
        self._last_message_at = now()
        self._ticks = 0

    @property
    def silent_since(self) -> float | None:
        """Time of the last message, if the parent hangs; None while it does not."""
        return self._last_message_at if self._ticks >= SILENT_TICKS else None

    def record_message(self) -> None:
        """Record that the parent has sent something."""
        now = self._now()
        if self._ticks >= SILENT_TICKS:
            self._log.emit("parent-back", after_s=round(now - self._last_message_at))
        self._last_message_at, self._ticks = now, 0

    async def run(self) -> None:
        """Count the ticks without a message."""
        while True:
            await trio.sleep(TICK_S)
            self._ticks += 1
            if self._ticks == SILENT_TICKS:
                self._log.emit("parent-silent", for_s=round(self._now() - self._last_message_at))
