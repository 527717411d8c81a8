"""Every event that is ever logged, declared once, and the way a line takes to where it is read.

    room --emit--> Logger (level, rate limit) --record--> sink
                                                 parent: `routed.parent.log_sinks`
                                                 engine: a LOG_EVENT to the parent (it has no files)

A line is stable enough to grep: `adjacency-up neighbor=10.255.0.2 link=eth0`. In JSON form the
event and its fields are keys of one object.

Invariants:
    An event that is not declared cannot be emitted: `emit` raises KeyError, and a test walks every
    call. What a stranger can trigger is declared with a rate limit; what the limit swallowed is
    counted in the next line that passes (`suppressed=12`).
    A line is bounded: FIELD_BYTES_MAX for a field, RECORD_BYTES_MAX for all of them. What is longer
    is cut, and `...` marks the cut.
    A line is one line of printable characters, whatever a value holds: the rest is escaped as
    in JSON, also what is no control character of ASCII (U+009B, U+2028, the marks that turn text
    around).
    A line that the engine wrote says so (`engine:`, `"process": "engine"`), and has limits of its
    own: it takes no room from the parent's lines.
    Secrets are never fields.

Failure: a sink that fails must not take the daemon along; lines are then lost and counted, and the
count is said as soon as a line goes through.
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
"""Of UTF-8, before it is escaped."""


class LogRecord(NamedTuple):
    """One line to be."""

    level: Level
    event: str
    fields: Mapping[str, str]
    process: str
    """`parent` or `engine`."""


class Sink(Protocol):
    """Where records end up."""

    def write(self, record: LogRecord) -> None:
        """Write one record.

        Raises:
            OSError: it could not be written; the logger counts it.
        """
        ...

    def close(self) -> None:
        """Let go of what the sink holds; it is not written to again."""
        ...


class TokenBucket:
    """So many lines a second, so many at once; what did not pass is counted."""

    __slots__ = ("_burst", "_per_s", "_refilled_at", "_suppressed", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        """Start full.

        Args:
            per_s: tokens that come in a second.
            burst: tokens that fit in; at least 1.
            now: seconds, of the clock that `take` is asked with.
        """
        self._per_s = per_s
        self._burst = self._tokens = float(burst)
        self._refilled_at = now
        self._suppressed = 0

    def take(self, now: float, amount: float = 1.0) -> int | None:
        """Take tokens. Returns how many askers went without since the last one that got some, or
        None if there are not so many left."""
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
    """Declared events in, records out: filters by level and by rate."""

    def __init__(
        self,
        sink: Sink,
        process: str,
        level: Level = Level.INFO,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.level = level
        self.sink = sink
        self.on_record: Callable[[LogRecord], None] | None = None
        """Told of every record that passed level and limit, written or not."""
        self.lost = 0
        """Records that the sink failed to write since the last one that went through."""
        self._process = process
        self._now = now
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        """By process and event."""

    def emit(self, event: str, /, **fields: object) -> None:
        """Log one declared event with exactly its declared fields.

        Raises:
            KeyError: the event is not declared, or a field is missing or too many (our bug).
        """
        spec = EVENTS[event]
        if spec.fields != tuple(fields) and set(spec.fields) != set(fields):
            raise KeyError(f"{event} is declared with {spec.fields}, not {tuple(fields)}")
        if spec.level >= self.level:
            self.write(event, {name: str(fields[name]) for name in spec.fields}, self._process)

    def write(self, event: str, fields: dict[str, str], process: str) -> None:
        """Pass on a declared event whose fields are text already (an engine's LOG_EVENT).

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
    """The fields of one line, cut to FIELD_BYTES_MAX each and max_bytes in all.

    Cost: linear in max_bytes, whatever the length of the values.
    """
    room = max_bytes
    clipped = {}
    for name, value in fields.items():
        text = clipped[name] = clip_text(value, max(3, min(FIELD_BYTES_MAX, room)))
        room -= len(text) if text.isascii() else len(text.encode())
    return clipped


def _escaped(text: str) -> str:
    """Printable text, where everything else is escaped as in JSON."""
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
    """`event key=value ...`: one line whatever the values hold."""
    words = [record.event]
    words += [f"{name}={_quoted(value)}" for name, value in record.fields.items()]
    return " ".join(words)


def format_json(record: LogRecord) -> str:
    """One JSON object on one line."""
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
    """When a line is logged: seconds since 1970."""
    return time.time()  # noqa: TID251  (a log line says when, in wall time)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
