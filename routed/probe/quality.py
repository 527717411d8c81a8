"""The quality of a path: mean round-trip time and loss over the last attempts, with limits. Pure.

A limit that is exceeded stays so until the value is at most RECOVERED of it, so that a value close
to the limit does not flap.
"""

from __future__ import annotations

from collections import deque

from routed.model.probe import NO_ANSWER, ProbeSettings

__all__ = ["RECOVERED", "Quality"]

RECOVERED = 0.8
"""The part of a limit at which it counts as kept again."""


class Quality:
    """Owns the results of the last attempts of one probe, and whether they exceed a limit."""

    def __init__(self) -> None:
        self._results: deque[int] = deque()
        self._is_slow = False
        self._is_lossy = False

    def add(self, result: int, settings: ProbeSettings) -> str:
        """Add the result of an attempt.

        Args:
            result: round-trip time in microseconds, or NO_ANSWER.
            settings: has the limits, and the length of the window.

        Returns:
            Which limit is exceeded, with the value; empty if none.
        """
        self._results.append(result)
        while len(self._results) > settings.window:
            self._results.popleft()
        times = [rtt for rtt in self._results if rtt != NO_ANSWER]
        mean_ms = sum(times) / len(times) / 1000 if times else 0.0
        lost = 100 * (len(self._results) - len(times)) / len(self._results)
        rtt_max_ms, loss_max = settings.rtt_max_s * 1000, settings.loss_max
        self._is_slow = bool(rtt_max_ms) and _exceeds(mean_ms, rtt_max_ms, was=self._is_slow)
        # A single loss in a window that is not full yet says little.
        is_full = len(self._results) == settings.window
        self._is_lossy = loss_max < 100 and is_full and _exceeds(lost, loss_max, was=self._is_lossy)
        if self._is_slow:
            return f"mean round trip {mean_ms:.3g} ms, limit {rtt_max_ms:g} ms"
        return f"loss {lost:.3g} %, limit {loss_max} %" if self._is_lossy else ""


def _exceeds(value: float, limit: float, *, was: bool) -> bool:
    return value > (limit * RECOVERED if was else limit)
