"""The engine's log lines: whose events, how many, and how many bytes."""

from __future__ import annotations

import pytest

from ipc.framing import IpcError
from routed.imsg.messages import LogEvent
from routed.log.events import EVENTS, Level
from routed.log.logger import Logger, LogRecord, format_text
from routed.parent.engine_process.log_relay import (
    LOG_BYTES_BURST,
    LOG_BYTES_PER_S,
    LOG_LINES_BURST,
    LogRelay,
    RelayBudget,
)


class ListSink:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def write(self, record: LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.records.clear()

    @property
    def written_bytes(self) -> int:
        return sum(len(format_text(record).encode()) for record in self.records)


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


def relay_to(sink: ListSink, budget: RelayBudget | None = None) -> LogRelay:
    return LogRelay(Logger(sink, "parent", Level.DEBUG), budget or RelayBudget())


def worst_line(event: str = "sandboxed") -> LogEvent:
    """Six bytes in the log for each that it has here."""
    return LogEvent(event, dict.fromkeys(EVENTS[event].fields, "\x01" * 2000))


@pytest.mark.parametrize("event", [name for name, spec in EVENTS.items() if not spec.is_engines])
def test_an_event_of_the_parents_is_not_the_engines_to_log(event: str, sink: ListSink) -> None:
    fields = dict.fromkeys(EVENTS[event].fields, "forged")
    with pytest.raises(IpcError, match="not for the engine to log"):
        relay_to(sink).relay(LogEvent(event, fields), 0.0)
    assert sink.records == []


@pytest.mark.parametrize("event", [name for name, spec in EVENTS.items() if spec.is_engines])
def test_a_line_of_the_engine_is_marked(event: str, sink: ListSink) -> None:
    relay_to(sink).relay(LogEvent(event, dict.fromkeys(EVENTS[event].fields, "x")), 0.0)
    (record,) = sink.records
    assert record.process == "engine"


@pytest.mark.parametrize("event", ["sandboxed", "nup-trace"])
def test_bytes_are_limited_as_they_are_written(event: str, sink: ListSink) -> None:
    relay = relay_to(sink)
    for _ in range(LOG_LINES_BURST):
        relay.relay(worst_line(event), 0.0)
    assert 0 < sink.written_bytes <= LOG_BYTES_BURST


def test_bytes_are_limited_for_long(sink: ListSink) -> None:
    relay = relay_to(sink)
    for second in range(101):
        for _ in range(100):
            relay.relay(worst_line(), float(second))
    assert sink.written_bytes <= LOG_BYTES_BURST + 100 * LOG_BYTES_PER_S + 10_000


def test_dropped_lines_are_counted_for_every_limit(sink: ListSink) -> None:
    relay = relay_to(sink)
    sent = 0
    for _ in range(LOG_LINES_BURST + 100):
        relay.relay(worst_line(), 0.0)
        sent += 1
    passed = len(sink.records)
    relay.relay(LogEvent("sandboxed", {"by": "x"}), 10_000.0)
    dropped = next(record for record in sink.records if record.event == "engine-lines-dropped")
    assert int(dropped.fields["lines"]) == sent - passed
    assert dropped.process == "parent"


def test_engines_of_one_daemon_share_the_budget(sink: ListSink) -> None:
    budget = RelayBudget()
    for _ in range(5):
        relay = relay_to(sink, budget)
        for _ in range(LOG_LINES_BURST):
            relay.relay(worst_line(), 0.0)
    assert sink.written_bytes <= LOG_BYTES_BURST
