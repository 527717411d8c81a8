"""Log lines of the engine on their way into the parent's log: checked, cut and limited.

    engine --LOG_EVENT--> LogRelay --Logger.write(process="engine")--> the log

The engine faces the network, so what it logs is a stranger's text. It may log the events that are
declared as the engine's, with exactly their fields. Lines are limited in number and in bytes, as
they are written, for all engines of a daemon together: a new engine has no new budget. Lines beyond
that are dropped and counted.

Failure: `IpcError` for an event that is not the engine's to log; it ends the engine.
"""

from __future__ import annotations

import math

from ipc.framing import IpcError
from routed.imsg.messages import LogEvent
from routed.log.events import EVENTS, Level
from routed.log.logger import Logger, LogRecord, TokenBucket, clip_fields, format_text

__all__ = [
    "LOG_BYTES_BURST",
    "LOG_BYTES_PER_S",
    "LOG_LINES_BURST",
    "LOG_LINES_PER_S",
    "RELAYED_LINE_BYTES_MAX",
    "LogRelay",
    "RelayBudget",
]

LOG_LINES_BURST = 5000
"""A table's worth of adjacency lines at once."""
LOG_LINES_PER_S = 20.0
DEBUG_LINES_PER_S = 200.0
"""Beyond the burst, for long: what comes faster is lost, and counted."""

LOG_BYTES_BURST = 1_000_000
"""5,000 adjacency lines are 700 kB."""
LOG_BYTES_PER_S = 4_000.0
"""Of escaped text, for long: 350 MB a day."""
DEBUG_BYTES_PER_S = 40_000.0

RELAYED_LINE_BYTES_MAX = 2000
"""Of all values of one line, before they are escaped."""
_LINE_OVERHEAD_BYTES = 64
"""What a log file has beside the text of a line: time, level, process; or the names in JSON."""

_LOGGERS_OWN_FIELDS = {"suppressed", "lines_lost"}


class RelayBudget:
    """Owns what the engines of one daemon may still log."""

    def __init__(self) -> None:
        start = -math.inf  # full, whenever the first line comes
        self._lines = TokenBucket(LOG_LINES_PER_S, LOG_LINES_BURST, start)
        self._bytes = TokenBucket(LOG_BYTES_PER_S, LOG_BYTES_BURST, start)
        self._debug_lines = TokenBucket(DEBUG_LINES_PER_S, LOG_LINES_BURST, start)
        self._debug_bytes = TokenBucket(DEBUG_BYTES_PER_S, LOG_BYTES_BURST, start)
        self._dropped = 0
        """Lines that the number dropped, not yet returned by `take`."""

    def take(self, level: Level, size: int, now: float) -> int | None:
        """Take room for one line.

        Args:
            level: lines for debugging have a budget of their own.
            size: bytes, as written.
            now: seconds, monotonic.

        Returns:
            How many lines were dropped since the last one that had room; None when this one has
            none.
        """
        is_debug = level is Level.DEBUG
        lines = self._debug_lines if is_debug else self._lines
        room = self._debug_bytes if is_debug else self._bytes
        dropped_before = lines.take(now)
        if dropped_before is None:
            return None
        self._dropped += dropped_before
        dropped_before = room.take(now, size)
        if dropped_before is None:
            return None
        dropped, self._dropped = self._dropped + dropped_before, 0
        return dropped


class LogRelay:
    """Passes one engine's log lines on."""

    def __init__(self, log: Logger, budget: RelayBudget) -> None:
        self._log = log
        self._budget = budget

    def relay(self, line: LogEvent, now: float) -> None:
        """Log one line, or count it when there are too many.

        Raises:
            IpcError: the event does not exist, has other fields, or is not the engine's.
        """
        spec = EVENTS.get(line.event)
        if spec is None:
            raise IpcError(f"log event {line.event!r} does not exist")
        if not spec.is_engines:
            raise IpcError(f"log event {line.event} is not for the engine to log")
        if line.fields.keys() - _LOGGERS_OWN_FIELDS != set(spec.fields):
            raise IpcError(f"log event {line.event} with the fields {', '.join(line.fields)}")
        if spec.level < self._log.level:
            return
        fields = clip_fields(line.fields, RELAYED_LINE_BYTES_MAX)
        text = format_text(LogRecord(spec.level, line.event, fields, "engine"))
        size = len(text.encode()) + _LINE_OVERHEAD_BYTES
        dropped = self._budget.take(spec.level, size, now)
        if dropped is None:
            return
        if dropped:
            self._log.emit("engine-lines-dropped", lines=dropped)
        self._log.write(line.event, fields, "engine")
