"""The desired routes of all tables, in updates that take turns. Pure.

    DesiredFib (main) ---+
    DesiredFib (others) -+--pop_update--> parent --record_progress--> each its own failures

Invariants:
    A table with many changes delays another one by one update at a time.
    The daemon is ready once the routes were tried that all tables had at the first update.
"""

from __future__ import annotations

from collections import deque

from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.window import SentUpdate
from routed.imsg.messages import FibProgress, FibUpdate

__all__ = ["DesiredTables"]


class DesiredTables:
    """Owns the order in which tables send."""

    def __init__(self, main: DesiredFib) -> None:
        """Begin with the main table alone.

        Args:
            main: its desired routes.
        """
        self._main = main
        self._window = main.window
        self._turns = deque([main])
        """All tables; the first one has its turn."""
        self._must_complete_start = False

    def add(self, table_id: int) -> DesiredFib:
        """Add a table. Returns its desired routes, of which there are none yet."""
        desired = DesiredFib(table_id, self._window)
        desired.counters = self._main.counters
        self._turns.append(desired)
        return desired

    def remove(self, desired: DesiredFib) -> None:
        """Remove a table; what it has not sent is forgotten."""
        self._turns.remove(desired)
        if desired in self._window.starting:
            self._window.starting.discard(desired)
            self._must_complete_start = not self._window.starting

    @property
    def has_unsent(self) -> bool:
        """Whether there are unsent changes of any table."""
        return any(desired.has_unsent for desired in self._turns)

    def pop_first_update(self) -> FibUpdate:
        """Take the first update of this engine, of the main table; it may be empty."""
        for desired in self._turns:
            if desired.has_unsent:
                desired.begin_start()
        return self._main.pop_first_update()

    def pop_update(self) -> FibUpdate | None:
        """Take the next update to send; None if nothing is unsent, or the window is full."""
        if self._must_complete_start and not self._window.is_full:
            self._must_complete_start = False
            return self._main.pop_first_update()
        for _ in range(len(self._turns)):
            update = self._turns[0].pop_update()
            self._turns.rotate(-1)
            if update is not None:
                return update
        return None

    def record_progress(self, progress: FibProgress) -> list[SentUpdate]:
        """Record a report of the parent. Returns the updates that were tried.

        Cost: one pass over the report for each table.
        """
        return [
            update
            for desired in self._turns
            for update in desired.record_progress(
                progress.applied_serial,
                progress.failures,
                progress.recovered,
                progress.counters,
                progress.preferred,
                progress.unpreferred,
            )
        ]
