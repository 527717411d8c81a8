"""One wake-up for the earliest of many timers."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

__all__ = ["Timer"]


class Timer:
    """Waits for the next timer of an instance, which may become an earlier one meanwhile."""

    def __init__(self, next_timer: Callable[[], float | None], clock: Callable[[], float]) -> None:
        """Begin without waiting.

        Args:
            next_timer: returns when the instance is to be served, in seconds; None: never.
            clock: seconds, monotonic.
        """
        self._next_timer = next_timer
        self._clock = clock
        self._rearm = trio.Event()
        self._armed_for = -math.inf
        """When the task wakes by itself; never later than `next_timer`."""

    @property
    def is_due(self) -> bool:
        """Whether the instance is to be served now."""
        return self._next() <= self._clock()

    def check(self) -> None:
        """Have the waiting task wait less, if there is an earlier timer now."""
        if self._next() < self._armed_for:
            self._rearm.set()

    async def run(self, serve: Callable[[], None]) -> None:
        """Call a function whenever the instance is to be served, until cancelled."""
        while True:
            self._rearm = trio.Event()
            self._armed_for = self._next()
            with trio.move_on_after(max(self._armed_for - self._clock(), 0)):
                await self._rearm.wait()
            if self.is_due:
                serve()
            # A timer that is due again and again must not keep other tasks from running.
            await trio.lowlevel.checkpoint_if_cancelled()

    def _next(self) -> float:
        moment = self._next_timer()
        return math.inf if moment is None else moment
