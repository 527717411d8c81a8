"""What an engine leaves to the next one must not harm that one, nor the parent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest
import trio

from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.parent.engine_process import journals
from routed.parent.engine_process.journals import DEATHS_MAX, Journals
from routed.parent.engine_process.supervisor import RESTART_WINDOW_S, Supervisor


class ListSink:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def write(self, record: LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def held(sink: ListSink) -> Iterator[Journals]:
    held = Journals(Logger(sink, "parent", Level.INFO))
    yield held
    held.close()


def leave(held: Journals, *contents: bytes) -> None:
    """Be an engine that writes into its copies."""
    for copy, content in zip(held.copies(), contents, strict=True):
        os.write(copy, content)
        os.close(copy)


def found(held: Journals) -> list[bytes]:
    """Be the next engine."""
    contents = []
    for copy in held.copies():
        contents.append(os.pread(copy, 1000, 0))
        os.close(copy)
    return contents


def test_the_next_engine_finds_the_journal_of_the_last(held: Journals, sink: ListSink) -> None:
    leave(held, b"one", b"two")
    assert found(held) == [b"one", b"two"]
    held.engine_died(has_desired_routes=True)
    assert found(held) == [b"one", b"two"]
    assert sink.records == []


def test_a_file_longer_than_an_honest_engine_writes_is_given_up(
    held: Journals, sink: ListSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "JOURNAL_BYTES_MAX", 10)
    leave(held, b"x" * 11, b"y" * 10)
    assert found(held) == [b"", b"y" * 10]
    assert [record.event for record in sink.records] == ["journal-given-up"]
    assert sink.records[0].fields["number"] == "0"


def test_a_journal_that_ends_engines_is_not_passed_on(held: Journals, sink: ListSink) -> None:
    leave(held, b"poison", b"")
    for _ in range(DEATHS_MAX - 1):
        held.engine_died(has_desired_routes=False)
        assert found(held) == [b"poison", b""]
    held.engine_died(has_desired_routes=False)
    assert found(held) == [b"", b""]
    assert [record.fields["number"] for record in sink.records] == ["0"], "the other one was empty"


def test_an_engine_that_lived_with_it_acquits_it(held: Journals) -> None:
    leave(held, b"kept", b"")
    for _ in range(10):
        for _ in range(DEATHS_MAX - 1):
            held.engine_died(has_desired_routes=False)
            assert found(held)[0] == b"kept"
        held.engine_died(has_desired_routes=True)
        assert found(held)[0] == b"kept"


def test_the_last_engine_that_is_tried_does_without_it(held: Journals, sink: ListSink) -> None:
    """What it holds may kill long after the first desired route, and would then end the daemon."""
    leave(held, b"poison", b"")
    for _ in range(10):
        held.engine_died(has_desired_routes=True)
        assert found(held) == [b"poison", b""]
    held.engine_died(has_desired_routes=True, is_next_last=True)
    assert found(held) == [b"", b""]
    assert [record.event for record in sink.records] == ["journal-given-up"]


async def test_the_supervisor_recognises_the_last_engine() -> None:
    supervisor = Supervisor(Logger(ListSink(), "parent", Level.INFO))
    now = trio.current_time()
    said = []
    for age_s in (RESTART_WINDOW_S + 1, 50, 40, 30):
        said.append(supervisor.is_next_last)  # the death just now not counted among the others
        supervisor._deaths.append(now - age_s)
    assert said == [False] * 4
    assert supervisor.is_next_last, "three within the minute, and this one; the fifth ends all"


def test_engines_without_the_journal_do_not_count_against_it(held: Journals) -> None:
    leave(held, b"kept", b"")
    held.engine_died(has_desired_routes=False)
    for _ in range(10):
        held.engine_died(has_desired_routes=False)
    assert found(held)[0] == b"kept"


def test_an_engine_cannot_have_the_next_one_overwrite(held: Journals) -> None:
    first = held.copies()[0]
    os.write(first, b"one ")
    fcntl.fcntl(first, fcntl.F_SETFL, 0)  # flags and position are the parent's descriptor's too
    os.lseek(first, 0, os.SEEK_SET)
    os.close(first)
    leave(held, b"two", b"")
    assert found(held)[0] == b"one two"


def test_a_copy_that_a_dead_engine_gave_away_reaches_no_later_engine(held: Journals) -> None:
    """S12: whoever holds it could go on saying what clients have injected."""
    given_away = held.copies()
    os.write(given_away[0], b"injected")
    held.engine_died(has_desired_routes=True)
    assert found(held) == [b"injected", b""]
    os.write(given_away[0], b" and forged")
    os.ftruncate(given_away[1], 0)
    assert found(held) == [b"injected", b""]
    for copy in given_away:
        os.close(copy)


def test_the_content_of_a_journal_is_copied_whole(held: Journals) -> None:
    content = os.urandom(5 << 20)
    leave(held, content, b"")
    before = held.copies()
    assert os.pread(before[0], len(content) + 1, 0) == content
    os.write(before[0], b"appended")
    for each in before:
        os.close(each)
    after = held.copies()
    assert os.pread(after[0], 8, len(content)) == b"appended"
    for each in after:
        os.close(each)
