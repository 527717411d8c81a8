"""Relay of the engine's log lines to the parent's log, with validation and limits.

    engine --LOG_EVENT--> LogRelay --Logger.write(process="engine")--> the log

The engine is exposed to the network, so its lines may contain text of unauthenticated senders. It
may log the events that are declared as the engine's, with exactly their fields. The number of lines
and of bytes, as they are written, is limited for all engines of a daemon together: a new engine has
no new budget. Lines beyond the limits are dropped and counted.

Failure: `IpcError` for an event that the engine may not log; it ends the engine.
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
"""The most lines at once: one for each of a great many adjacencies."""
LOG_LINES_PER_S = 20.0
DEBUG_LINES_PER_S = 200.0
"""The most lines per second after the burst; further ones are lost and counted."""

LOG_BYTES_BURST = 1_000_000
"""The most bytes at once; 5,000 lines about adjacencies have 700 kB."""
LOG_BYTES_PER_S = 4_000.0
"""The most bytes of escaped text per second after the burst: 350 MB a day."""
DEBUG_BYTES_PER_S = 40_000.0

RELAYED_LINE_BYTES_MAX = 2000
"""The most bytes of all values of a line, before they are escaped."""
_LINE_OVERHEAD_BYTES = 64
"""The bytes of a log file's line in addition to its text: time, level, process; or JSON names."""

_LOGGERS_OWN_FIELDS = {"suppressed", "lines_lost"}


class RelayBudget:
    """The lines and bytes that the engines of one daemon may still log."""

    def __init__(self) -> None:
        """Begin with a full budget."""
        start = -math.inf  # the buckets are full when the first line arrives
        self._lines = TokenBucket(LOG_LINES_PER_S, LOG_LINES_BURST, start)
        self._bytes = TokenBucket(LOG_BYTES_PER_S, LOG_BYTES_BURST, start)
        self._debug_lines = TokenBucket(DEBUG_LINES_PER_S, LOG_LINES_BURST, start)
        self._debug_bytes = TokenBucket(DEBUG_BYTES_PER_S, LOG_BYTES_BURST, start)
        self._dropped = 0
        """Lines dropped by the limit of lines that `take` has not returned yet."""

    def take(self, level: Level, size: int, now: float) -> int | None:
        """Reduce the budget by one line.

        Args:
            level: level of the line; debug lines have a budget of their own.
            size: bytes of the line as written.
            now: monotonic time in seconds.

        Returns:
            The number of lines dropped since the last line within the budget; None if this line
            exceeds the budget.
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
    """The relay of one engine's log lines."""

    def __init__(self, log: Logger, budget: RelayBudget) -> None:
        """Relay to a log within a budget, which all engines of the daemon share."""
        self._log = log
        self._budget = budget

    def relay(self, line: LogEvent, now: float) -> None:
        """Log one line, or drop and count it if it exceeds the budget.

        Args:
            line: an event of the engine.
            now: monotonic time in seconds.

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
