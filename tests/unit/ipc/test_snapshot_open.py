"""`FibReader.open`: over the management socket, across daemons, and with a maximum age."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ipc.blocking import DaemonUnreachable, Denied
from ipc.snapshot import FibReader, SnapshotError, StaleSnapshot
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fib_writer import Writer, add

SECOND = 10**9
ALLOWED = AccessList(read_uids=frozenset({os.getuid()}))


class DaemonWithSnapshot(FakeDaemon):
    """A daemon with a real snapshot of one route, whose metric distinguishes the daemons."""

    def __init__(self, metric: int) -> None:
        super().__init__()
        self.writer = Writer()
        self.writer.apply(add("10.0.0.0/8", metric=metric))

    def snapshot_fd(self) -> int:
        return self.writer.snapshot.fileno()

    def beat(self, now_ns: int) -> None:
        self.writer.snapshot.heartbeat(now_ns)

    def close(self) -> None:
        super().close()
        self.writer.snapshot.close()


@contextmanager
def daemon_at(
    path: Path, metric: int, access: AccessList = ALLOWED
) -> Iterator[DaemonWithSnapshot]:
    """Run a daemon behind a socket; at the end both are removed, as when it is stopped."""
    with closing(DaemonWithSnapshot(metric)) as daemon, serving(path, daemon, access):
        yield daemon
    path.unlink(missing_ok=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routed.sock"


class Clock:
    """A clock in nanoseconds that the test advances."""

    def __init__(self) -> None:
        self.now_ns = 10 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def metric_of(reader: FibReader) -> int:
    found = reader.lookup("10.1.2.3")
    assert found is not None
    return found.metric


def test_open_reads_the_table_of_the_daemon_behind_the_socket(path: Path) -> None:
    with daemon_at(path, 7), FibReader.open(str(path)) as reader:
        assert metric_of(reader) == 7
        assert reader.generation == 1
        assert reader.router_id == "10.255.0.1"


def test_open_says_who_is_not_there_and_who_is_not_let_in(path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="not running"):
        FibReader.open(str(path))
    with daemon_at(path, 7, AccessList(admin_uids=frozenset())), pytest.raises(Denied):
        FibReader.open(str(path))
    with pytest.raises(ValueError, match="at least 2"):
        FibReader.open(str(path), max_age_s=1)


def test_the_last_table_stays_usable_after_the_daemon(path: Path) -> None:
    with daemon_at(path, 7):
        reader = FibReader.open(str(path))
        was_closed = reader.is_closed
    with reader:
        assert (was_closed, reader.is_closed) == (False, True)
        assert metric_of(reader) == 7
        with pytest.raises(DaemonUnreachable):
            reader.refresh()
        assert metric_of(reader) == 7


def test_refresh_changes_to_another_daemon_and_not_to_the_same(path: Path) -> None:
    with daemon_at(path, 7):
        reader = FibReader.open(str(path))
        assert not reader.refresh()
    with reader, daemon_at(path, 8):
        listing = reader.routes()
        next(listing)
        assert reader.refresh()
        assert metric_of(reader) == 8
        with pytest.raises(SnapshotError, match="exchanged"):
            next(listing)


def test_refresh_needs_a_socket_to_ask() -> None:
    writer = Writer()
    with writer.reader() as reader, pytest.raises(ValueError, match="open"):
        reader.refresh()
    writer.snapshot.close()


def test_a_reader_with_an_age_limit_gets_no_older_answer(path: Path) -> None:
    clock = Clock()
    with daemon_at(path, 7) as daemon:
        daemon.beat(clock.now_ns)
        with FibReader.open(str(path), max_age_s=3, clock=clock) as reader:
            clock.now_ns += 3 * SECOND
            assert reader.age_s == 3
            assert metric_of(reader) == 7
            clock.now_ns += 1
            for ask in (
                lambda: reader.lookup("10.1.2.3"),
                lambda: reader.lookup_many(bytes(4)),
                lambda: next(reader.routes()),
            ):
                with pytest.raises(StaleSnapshot, match=r"3\.0 s ago"):
                    ask()
            daemon.beat(clock.now_ns)
            assert metric_of(reader) == 7, "it lives after all"


def test_a_new_daemon_is_found_without_being_asked_for(path: Path) -> None:
    clock = Clock()
    with daemon_at(path, 7) as first:
        first.beat(clock.now_ns)
        reader = FibReader.open(str(path), max_age_s=3, clock=clock)
    with reader:
        assert metric_of(reader) == 7, "ended, but not too old yet"
        clock.now_ns += 4 * SECOND
        with pytest.raises(StaleSnapshot, match="has ended; routed is not running"):
            reader.lookup("10.1.2.3")
        with daemon_at(path, 8) as second:
            second.beat(clock.now_ns)
            with pytest.raises(StaleSnapshot):
                reader.lookup("10.1.2.3")  # asked once a second at most
            clock.now_ns += SECOND
            assert metric_of(reader) == 8
