"""The logger: checks declared events, filters them by level and rate, and passes them to a sink.

    module --emit--> Logger (level, rate limit) --record--> sink
                                                 parent: `routed.parent.log_sinks`
                                                 engine: a LOG_EVENT to the parent (it has no files)

A line is stable enough to grep: `adjacency-up neighbor=10.255.0.2 link=eth0`. In JSON form the
event and its fields are keys of one object.

Invariants:
    An event that is not declared cannot be emitted: `emit` raises KeyError, and a test walks every
    call. Events that an unauthenticated sender can trigger have a rate limit; the next line that
    passes has the count of suppressed lines (`suppressed=12`).
    A line is bounded: FIELD_BYTES_MAX for a field, RECORD_BYTES_MAX for all of them. Longer values
    are cut, and `...` marks the cut.
    A line is one line of printable characters, whatever a value contains: all others are escaped
    as in JSON, including non-ASCII control characters (U+009B, U+2028, bidirectional marks).
    A line of the engine is marked (`engine:`, `"process": "engine"`) and has its own rate limits,
    so it cannot suppress the parent's lines.
    Secrets are never fields.

Failure: a failing sink must not end the daemon; lines are then lost and counted, and the count is
logged as soon as a line can be written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ipc.texts import clip_text
from routed.log.events import EVENTS, Level

__all__ = [
    "FIELD_BYTES_MAX",
    "RECORD_BYTES_MAX",
    "LogRecord",
    "Logger",
    "Sink",
    "TokenBucket",
    "clip_fields",
    "format_json",
    "format_text",
    "timestamp",
    "wall_time",
]


FIELD_BYTES_MAX = 2000
RECORD_BYTES_MAX = 4000
"""Bytes of UTF-8, before escaping."""


class LogRecord(NamedTuple):
    """One log line before it is formatted."""

    level: Level
    event: str
    fields: Mapping[str, str]
    process: str
    """`parent` or `engine`."""


class Sink(Protocol):
    """A destination of log records."""

    def write(self, record: LogRecord) -> None:
        """Write one record.

        Raises:
            OSError: it could not be written; the logger counts it.
        """
        ...

    def close(self) -> None:
        """Release the sink's resources; it is not written to again."""
        ...


class TokenBucket:
    """A token bucket that counts the requests it could not serve."""

    __slots__ = ("_burst", "_per_s", "_refilled_at", "_suppressed", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        """Start full.

        Args:
            per_s: refill rate, tokens per second.
            burst: capacity in tokens; at least 1.
            now: seconds, on the clock that is passed to `take`.
        """
        self._per_s = per_s
        self._burst = self._tokens = float(burst)
        self._refilled_at = now
        self._suppressed = 0

    def take(self, now: float, amount: float = 1.0) -> int | None:
        """Take tokens. Returns how many requests were refused since the last one that was served,
        or None if too few tokens are left."""
        elapsed = now - self._refilled_at
        self._tokens = min(self._burst, self._tokens + elapsed * self._per_s)
        self._refilled_at = now
        if self._tokens < amount:
            self._suppressed += 1
            return None
        self._tokens -= amount
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class Logger:
    """A filter of declared events by level and rate, which passes their records to a sink."""

    def __init__(
        self,
        sink: Sink,
        process: str,
        level: Level = Level.INFO,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with empty rate limits.

        Args:
            sink: the destination of records.
            process: `parent` or `engine`, the process of emitted events.
            level: the lowest level that is logged.
            now: returns monotonic time in seconds.
        """
        self.level = level
        self.sink = sink
        self.on_record: Callable[[LogRecord], None] | None = None
        """Called with every record that passed level and limit, written or not."""
        self.lost = 0
        """Records that the sink failed to write since the last successful one."""
        self._process = process
        self._now = now
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        """Rate limits by process and event."""

    def emit(self, event: str, /, **fields: object) -> None:
        """Log one declared event with exactly its declared fields.

        Raises:
            KeyError: the event is not declared, or a field is missing or undeclared (our bug).
        """
        spec = EVENTS[event]
        if spec.fields != tuple(fields) and set(spec.fields) != set(fields):
            raise KeyError(f"{event} is declared with {spec.fields}, not {tuple(fields)}")
        if spec.level >= self.level:
            self.write(event, {name: str(fields[name]) for name in spec.fields}, self._process)

    def write(self, event: str, fields: dict[str, str], process: str) -> None:
        """Log a declared event whose fields are text already (an engine's LOG_EVENT).

        Raises:
            KeyError: the event is not declared.
        """
        spec = EVENTS[event]
        if spec.level < self.level:
            return
        if spec.per_minute:
            suppressed = self._bucket(process, event, spec.per_minute).take(self._now())
            if suppressed is None:
                return
            if suppressed:
                fields = {**fields, "suppressed": str(suppressed)}
        if self.lost:
            fields = {**fields, "lines_lost": str(self.lost)}
        record = LogRecord(spec.level, event, clip_fields(fields), process)
        if self.on_record is not None:
            self.on_record(record)
        try:
            self.sink.write(record)
        except OSError:
            self.lost += 1
        else:
            self.lost = 0

    def _bucket(self, process: str, event: str, per_minute: int) -> TokenBucket:
        key = process, event
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(per_minute / 60, per_minute, self._now())
        return bucket


def clip_fields(fields: Mapping[str, str], max_bytes: int = RECORD_BYTES_MAX) -> dict[str, str]:
    """Cut the fields of one line to FIELD_BYTES_MAX each and max_bytes in total.

    Cost: linear in max_bytes, whatever the length of the values.
    """
    room = max_bytes
    clipped = {}
    for name, value in fields.items():
        text = clipped[name] = clip_text(value, max(3, min(FIELD_BYTES_MAX, room)))
        room -= len(text) if text.isascii() else len(text.encode())
    return clipped


def _escaped(text: str) -> str:
    """Escape all characters that are not printable, as in JSON."""
    if text.isprintable():
        return text
    return "".join(
        [
            character if character.isprintable() else json.dumps(character)[1:-1]
            for character in text
        ]
    )


def _quoted(value: str) -> str:
    plain = value.isprintable() and value and not any(mark in value for mark in ' "=\\')
    return value if plain else _escaped(json.dumps(value, ensure_ascii=False))


def format_text(record: LogRecord) -> str:
    """Format a record as `event key=value ...`: one line whatever the values contain."""
    words = [record.event]
    words += [f"{name}={_quoted(value)}" for name, value in record.fields.items()]
    return " ".join(words)


def format_json(record: LogRecord) -> str:
    """Format a record as one JSON object on one line."""
    return _escaped(
        json.dumps(
            {
                "level": record.level.name.lower(),
                "process": record.process,
                "event": record.event,
                **record.fields,
            },
            ensure_ascii=False,
        )
    )


def wall_time() -> float:
    """Return the wall time in seconds since 1970."""
    return time.time()  # noqa: TID251  (log lines have wall time)


def timestamp(seconds: float) -> str:
    """Format seconds since 1970 as RFC 3339 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
