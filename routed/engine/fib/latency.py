"""Time from a decision of the RIB until the kernel has it. Pure.

    decided ----> sent (the update's serial) ----> applied (the parent's progress): one observation

An observation is of the oldest change in an update, so a burst of a million routes is measured to
its end, once for each of its updates.
"""

from __future__ import annotations

from collections import deque

from routed.metrics.exposition import Histogram

__all__ = ["ConvergenceClock"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ConvergenceClock:
    """Owns the times of decisions that the kernel does not have yet, and the histogram."""

    def __init__(self) -> None:
        self.histogram = Histogram(BOUNDS_S)
        self._decided_at: float | None = None
        self._in_flight: deque[tuple[int, float]] = deque()

    def decided(self, now: float) -> None:
        """Record that the best path of some prefix has changed."""
        if self._decided_at is None:
            self._decided_at = now

    def sent(self, serial: int, *, is_all: bool) -> None:
        """Record that an update was sent; `is_all` if nothing is left unsent."""
        if self._decided_at is not None:
            self._in_flight.append((serial, self._decided_at))
        if is_all:
            self._decided_at = None

    def applied(self, serial: int, now: float) -> None:
        """Record that the parent has tried every update up to a serial."""
        while self._in_flight and self._in_flight[0][0] <= serial:
            self.histogram.observe(now - self._in_flight.popleft()[1])
