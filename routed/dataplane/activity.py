"""Whether runs of the programs that had begun at some moment have ended. Pure.

Each processor counts the runs that have begun and those that have ended. Runs on one processor
nest at most, so `ended` reaches what `begun` was at a moment exactly when all runs of before that
moment have ended: a grace period as of RCU, without a system call.

    note ---- runs that are in progress end, others begin and end ---- has_ended

Memory that a search may still read, and counters that it may still add to, are used again only
after such a period (`routed/snapshot/mirror.py`).
"""

from __future__ import annotations

from routed.dataplane.layout import ACTIVITY_BYTES

__all__ = ["Activity"]

_STEP = ACTIVITY_BYTES // 8


class Activity:
    """The runs of the programs, and the moment of the last note."""

    def __init__(self, memory: memoryview) -> None:
        """Note the present moment.

        Args:
            memory: the array `activity`, format "B".
        """
        self._longs = memory.cast("Q")
        self._begun: list[int] = []
        self.note()

    def note(self) -> None:
        """Note the runs that have begun by now."""
        self._begun = self._longs[::_STEP].tolist()

    def has_ended(self) -> bool:
        """Return whether every run that had begun at the last note has ended."""
        ended = self._longs[1::_STEP].tolist()
        return all(now >= before for now, before in zip(ended, self._begun, strict=True))
