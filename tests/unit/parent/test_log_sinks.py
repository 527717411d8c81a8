"""Where log lines end up, and that nobody who fails to take them stops the daemon."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from routed.config.schema import LogConfig
from routed.log.events import Level
from routed.log.logger import LogRecord
from routed.parent import log_output, log_sinks
from routed.parent.log_output import DaemonLog
from routed.parent.log_sinks import (
    FileSink,
    JournalSink,
    StreamSink,
    SyslogSink,
    _journal_field,
    open_log,
)

DEADLINE_S = 30.0


def record(level: str = "info") -> LogRecord:
    return LogRecord(Level.INFO, "log-level", {"level": level}, "parent")


def write_until_full(write: Callable[[LogRecord], None]) -> int:
    """How many lines went through before one did not."""
    for count in range(100_000):
        try:
            write(record("x" * 1000))
        except BlockingIOError:
            return count
    raise AssertionError("it takes everything")


def test_a_pipe_without_a_reader_loses_lines_and_delays_nothing() -> None:
    read_end, write_end = os.pipe()
    sink = StreamSink(write_end, as_json=False)
    assert write_until_full(sink.write) > 10
    with pytest.raises(BlockingIOError):
        sink.write(record())
    flags = fcntl.fcntl(write_end, fcntl.F_GETFL)
    assert not flags & os.O_NONBLOCK, "others write to that pipe as well, and expect to wait"
    received = os.read(read_end, 1 << 20)
    sink.write(record("last"))
    received += os.read(read_end, 1 << 20)
    lines = received.splitlines()
    assert lines[-1].endswith(b"level=last")
    assert all(b" info parent: log-level level=" in line for line in lines), "no line is broken"
    os.close(read_end)
    os.close(write_end)


def test_a_line_longer_than_the_pipe_is_finished_before_the_next() -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    sink = StreamSink(write_end, as_json=False)
    sink.write(record("y" * 10_000))
    with pytest.raises(BlockingIOError):
        sink.write(record("lost"))
    received = b""
    while received.count(b"\n") < 2:
        received += os.read(read_end, 1 << 16)
        try:
            sink.write(record("next"))
        except BlockingIOError:
            pass
    first, second = received.splitlines()[:2]
    assert first.endswith(b"y" * 10_000)
    assert second.endswith(b"level=next")
    os.close(read_end)
    os.close(write_end)


def test_a_log_file_is_followed_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "routed.log"
    for has_thread in (False, True):
        sink = FileSink(str(path), as_json=False, has_thread=has_thread)
        sink.write(record("one"))
        path.rename(tmp_path / "routed.log.1")
        sink.reopen()
        sink.write(record("two"))
        sink.close()
        assert path.read_text().endswith("level=two\n")
        assert (tmp_path / "routed.log.1").read_text().endswith("level=one\n")
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
        path.unlink()


def test_a_file_system_that_hangs_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hangs = threading.Event(), threading.Event()
    write = os.write

    def hanging(descriptor: int, data: bytes) -> int:
        hangs.set()
        assert goes_on.wait(DEADLINE_S)
        return write(descriptor, data)

    monkeypatch.setattr("routed.parent.log_sinks.os.write", hanging)
    path = tmp_path / "routed.log"
    sink = FileSink(str(path), as_json=False)
    sink.begin_thread()
    sink.write(record("first"))
    assert hangs.wait(DEADLINE_S)
    kept = write_until_full(sink.write)
    assert kept * 1000 < log_sinks.QUEUE_BYTES_MAX
    goes_on.set()
    sink.close()
    assert len(path.read_text().splitlines()) == kept + 1, "what was taken is written"


def test_a_full_disk_is_reported_by_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink("/dev/full", as_json=False)
    with pytest.raises(OSError, match="No space left"):
        sink.write(record())
    sink.close()


@pytest.mark.parametrize("has_thread", [False, True])
def test_symbolic_links_of_ours_are_followed(has_thread: bool, tmp_path: Path) -> None:
    real = tmp_path / "volume" / "routed.log"
    real.parent.mkdir()
    (tmp_path / "second").symlink_to("volume/routed.log")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    sink = FileSink(str(tmp_path / "first"), as_json=False, has_thread=has_thread)
    sink.write(record("linked"))
    sink.close()
    assert "level=linked" in real.read_text()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a link of another user")
def test_a_symbolic_link_of_another_user_is_refused_with_its_owner(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    os.chown(link, 64_001, 64_001, follow_symlinks=False)
    with pytest.raises(OSError, match="a symbolic link of uid 64001") as refused:
        FileSink(str(link), as_json=False)
    assert "does not follow" in str(refused.value.strerror)
    assert not (tmp_path / "target").exists()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="more than 8 symbolic links"):
        FileSink(str(tmp_path / "a"), as_json=False)


def test_an_open_descriptor_by_its_path(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{write_end}")
    sink = FileSink(str(tmp_path / "stdout"), as_json=False)
    sink.write(record("there"))
    assert os.read(read_end, 1000).endswith(b"level=there\n")
    write_until_full(sink.write)
    sink.close()
    os.close(read_end)
    os.close(write_end)


def test_a_socket_is_not_called_a_fifo(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="a socket, which cannot be opened as a file"):
            FileSink(str(tmp_path / "socket"), as_json=False)


def test_a_terminal_that_is_not_there_is_not_called_a_fifo() -> None:
    program = (
        "from routed.parent.log_sinks import FileSink\n"
        "try: FileSink('/dev/tty', as_json=False)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert done.stdout == "a device that is not there, such as /dev/tty without a terminal\n"


def test_a_fifo_without_a_reader_is_refused_and_one_with_a_reader_never_waits(
    tmp_path: Path,
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="a FIFO without a reader"):
        FileSink(str(path), as_json=False)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(str(path), as_json=False)
    assert write_until_full(sink.write) > 10
    sink.close()
    os.close(reader)


@pytest.mark.parametrize("file", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1"])
def test_a_standard_stream_is_refused_in_the_background(file: str) -> None:
    with pytest.raises(OSError, match="start with --foreground"):
        DaemonLog(LogConfig(file=file), is_foreground=False)


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[DaemonLog]:
    log = DaemonLog(LogConfig(file=str(path)), is_foreground=False)
    log.begin_thread()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        yield log
        nursery.cancel_scope.cancel()
    log.close()


def events_of(path: Path) -> list[str]:
    return [line.split()[3] for line in path.read_text().splitlines()] if path.exists() else []


async def lines_in(path: Path, count: int) -> list[str]:
    """The events in a log, once there are so many."""
    with trio.fail_after(DEADLINE_S):
        while len(events := events_of(path)) < count:  # noqa: ASYNC110
            await trio.sleep(0.01)
    return events


async def test_a_log_is_reopened_at_the_same_and_at_another_path(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with followed(first) as log:
        log.set_level("error")
        first.rename(tmp_path / "first.1")
        await log.reopen()
        log.set_level("info")
        assert await lines_in(first, 1) == ["log-level"]
        log.follow(LogConfig(file=str(second)))
        levels = itertools.cycle(("error", "info"))
        with trio.fail_after(DEADLINE_S):
            while not os.path.exists(second) or not events_of(second):  # noqa: ASYNC240
                log.set_level(next(levels))  # a line, to wherever the log is now
                await trio.sleep(0.01)
        moved = events_of(second)
        assert set(moved) == {"log-level"}
        log.follow(LogConfig(file=str(tmp_path / "nowhere" / "log")))
        assert await lines_in(second, len(moved) + 1) == [*moved, "internal-error"], (
            "it goes on here"
        )


async def test_a_file_system_that_does_not_open_the_log_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reload and each SIGHUP opened it in the event loop: a dead mount stopped the parent."""
    returns = threading.Event()
    opened: list[int] = []

    def hangs(path: str) -> int:
        returns.wait()
        opened.append(open_log(path))
        return opened[-1]

    path = tmp_path / "log"
    async with followed(path) as log:
        monkeypatch.setattr(log_output, "open_log", hangs)
        monkeypatch.setattr(log_output, "OPEN_TIMEOUT_S", 0.01)
        for _ in range(2 * log_output.OPENERS_MAX):
            await log.reopen()
        log.begin_reopening()
        log.follow(LogConfig(file=str(path)))
        events = await lines_in(path, 2 * log_output.OPENERS_MAX)
        assert set(events) == {"internal-error"}
        before = set(os.listdir("/proc/self/fd"))
        returns.set()
        with trio.fail_after(30):
            while len(opened) < log_output.OPENERS_MAX:  # noqa: ASYNC110
                await trio.sleep(0.01)
            while [each for each in threading.enumerate() if each.name == "files"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
        monkeypatch.setattr(log_output, "OPEN_TIMEOUT_S", 30.0)
        await log.reopen()
        assert len(os.listdir("/proc/self/fd")) <= len(before), "nothing was left open"


def test_a_journal_entry_may_contain_invalid_text() -> None:
    assert _journal_field("X", "a\ud800") == b"X=a\\ud800\n"


@pytest.fixture
def datagrams(tmp_path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "log"))
    return receiver


def test_syslog_and_journal_datagrams(datagrams: socket.socket) -> None:
    path = datagrams.getsockname()
    record = LogRecord(
        Level.WARNING, "link-down", {"link": "eth0", "reason": "two\nlines"}, "parent"
    )
    with datagrams:
        syslog, journal = SyslogSink(as_json=False, path=path), JournalSink(path=path)
        syslog.write(record)
        expected = f'<28>routed[{os.getpid()}]: parent: link-down link=eth0 reason="two\\nlines"'
        assert datagrams.recv(4096).decode() == expected
        journal.write(record)
        entry = datagrams.recv(4096)
        syslog.close()
        journal.close()
    assert b"ROUTED_LINK=eth0\n" in entry
    assert b"PRIORITY=4\n" in entry
    assert b"ROUTED_REASON\n" + (9).to_bytes(8, "little") + b"two\nlines\n" in entry
