"""Log lines: declared, levelled, limited, and one line whatever a value holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routed.log.events import EVENTS, Level
from routed.log.logger import (
    FIELD_BYTES_MAX,
    RECORD_BYTES_MAX,
    Logger,
    LogRecord,
    format_json,
    format_text,
)

ROOT = Path(__file__).resolve().parents[3]


class ListSink:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.fail = False

    def write(self, record: LogRecord) -> None:
        if self.fail:
            raise OSError("no")
        self.records.append(record)

    def close(self) -> None:
        self.records.clear()


def test_undeclared_events_and_fields_are_our_bug() -> None:
    log = Logger(ListSink(), "parent")
    with pytest.raises(KeyError):
        log.emit("no-such-event")
    with pytest.raises(KeyError):
        log.emit("link-up", link="eth0")
    with pytest.raises(KeyError):
        log.emit("link-up", link="eth0", ifindex=2, extra=1)


def test_levels_filter() -> None:
    sink = ListSink()
    log = Logger(sink, "parent", Level.WARNING)
    log.emit("log-level", level="x")
    assert sink.records == []
    log.level = Level.INFO
    log.emit("log-level", level="x")
    assert len(sink.records) == 1


def test_a_flood_is_limited_and_counted() -> None:
    now = 0.0
    sink = ListSink()
    log = Logger(sink, "parent", now=lambda: now)
    for _ in range(100):
        log.emit("client-refused", uid=1, pid=2, reason="x")
    assert len(sink.records) == 30
    now = 60.0
    log.emit("client-refused", uid=1, pid=2, reason="x")
    assert sink.records[-1].fields["suppressed"] == "70"


def test_a_failing_sink_costs_lines_and_nothing_else() -> None:
    sink = ListSink()
    log = Logger(sink, "parent")
    sink.fail = True
    log.emit("log-level", level="x")
    log.emit("log-level", level="x")
    sink.fail = False
    log.emit("log-level", level="x")
    assert sink.records[-1].fields["lines_lost"] == "2"
    assert log.lost == 0


def test_a_value_cannot_break_out_of_its_line() -> None:
    record = LogRecord(Level.INFO, "engine-output", {"line": 'x\n" evil=1'}, "parent")
    assert format_text(record) == 'engine-output line="x\\n\\" evil=1"'
    (line,) = format_json(record).splitlines()
    assert json.loads(line)["line"] == 'x\n" evil=1'


UNPRINTABLE = [
    "\x9b31m",
    "\u2028",
    "\u2029",
    "\x85",
    "\u202e",
    "\ufeff",
    "\x7f",
    "\ud800",
    "\U000e0001",
]


@pytest.mark.parametrize("text", UNPRINTABLE, ids=ascii)
def test_what_is_not_printable_is_escaped(text: str) -> None:
    """C1 controls act on a terminal, U+2028 ends a line for many readers, U+202E reverses text."""
    record = LogRecord(Level.INFO, "engine-output", {"line": f"a{text}b"}, "engine")
    for line in (format_text(record), format_json(record)):
        assert line.isprintable()
        assert line.encode()
    assert json.loads(format_json(record))["line"] == f"a{text}b"
    assert json.loads(format_text(record).partition("line=")[2]) == f"a{text}b"


def test_a_value_that_looks_like_an_escape_is_told_from_one() -> None:
    escaped, literal = (
        format_text(LogRecord(Level.INFO, "engine-output", {"line": text}, "engine"))
        for text in ("\x9b", "\\u009b")
    )
    assert escaped != literal


def test_a_line_is_bounded_whatever_its_values_are() -> None:
    sink = ListSink()
    log = Logger(sink, "parent")
    log.emit("client-refused", uid="\U0001f600" * 50_000, pid="x" * 50_000, reason="y" * 50_000)
    (record,) = sink.records
    sizes = [len(value.encode()) for value in record.fields.values()]
    assert max(sizes) <= FIELD_BYTES_MAX
    assert sum(sizes) <= RECORD_BYTES_MAX + 3
    assert record.fields["pid"].endswith("...")


def test_lines_of_the_engine_use_no_budget_of_the_parent() -> None:
    sink = ListSink()
    log = Logger(sink, "parent", now=lambda: 0.0)
    for _ in range(100):
        log.write("message-dropped", {"message": "x", "problem": "forged"}, "engine")
    log.emit("message-dropped", message="y", problem="true")
    assert sink.records[-1].process == "parent"
    assert sum(record.process == "engine" for record in sink.records) == 30


def test_every_declared_event_is_emitted_somewhere() -> None:
    # events.py itself declares them as dictionary keys, which would make this vacuous.
    source = (ROOT / "routed" / "log" / "events.py").read_text(encoding="utf-8")
    for name in EVENTS:
        assert source.count(f'    "{name}":') == 1
    elsewhere = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "routed").rglob("*.py")
        if path.parent.name != "log"
    )
    assert [name for name in EVENTS if f'"{name}"' not in elsewhere] == []


OURS_OR_THE_ADMINISTRATORS = {
    # once in a life of the daemon or of an engine, and an engine may die five times a minute
    "starting", "ready", "stopping", "stopped", "privileges-dropped", "config-out-of-reach",
    "engine-started", "engine-died", "engine-given-up", "engine-misbehaved", "engine-hangs",
    "engine-version-differs", "daemon-failed", "engine-runs-as-root", "sandboxed",
    "sandbox-degraded", "sandbox-limited", "sandbox-uncounted", "sandbox-violated", "fib-in-sync",
    "injected-restored", "journal-given-up",
    # what this machine is like, said once
    "nexthop-compat-mode",
    "nexthop-weight-limit",
    # asked for by root, with a signal; at a start
    "diagnostic", "config-refused", "config-refused-in-force",
    # once for each table of an earlier life
    "former-table-swept", "former-table-left",
}  # fmt: skip


@pytest.mark.parametrize(
    "event", [name for name, spec in EVENTS.items() if spec.level > Level.DEBUG]
)
def test_events_that_an_unauthenticated_sender_can_trigger_have_a_limit(event: str) -> None:
    """A new event has a limit, or is deliberately added to the list above."""
    is_limited = EVENTS[event].per_minute > 0
    assert is_limited != (event in OURS_OR_THE_ADMINISTRATORS)
