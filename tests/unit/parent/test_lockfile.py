"""Locks: only their holder's user can take them, and one path has one holder."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from routed.parent import lockfile
from routed.parent.lockfile import LockFile, LockHeldError, LockRefusedError
from routed.parent.pidfile import AlreadyRunning, PidFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "routed.pid"


def test_a_file_of_an_older_release_is_closed_to_others(path: Path) -> None:
    """S4: flock(2) works on a descriptor that may only read, and the file was 0644."""
    path.parent.mkdir()
    path.write_text("123456\n")
    path.chmod(0o644)
    pid_file = PidFile(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.remove()


def test_the_umask_opens_and_closes_nothing(path: Path) -> None:
    before = os.umask(0)
    try:
        pid_file = PidFile(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pid_file.remove()


def test_a_starter_that_opened_the_file_before_it_was_removed_locks_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S23: it held the lock of a file without a name, and a third daemon started."""
    first = PidFile(str(path))
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.remove()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    second = PidFile(str(path))
    assert path.exists()
    with pytest.raises(AlreadyRunning, match=f"already running as pid {os.getpid()} "):
        PidFile(str(path))
    second.remove()


def test_an_ending_daemon_leaves_anothers_file_alone(path: Path) -> None:
    first = PidFile(str(path))
    path.unlink()
    second = PidFile(str(path))
    first.remove()
    assert path.exists()
    with pytest.raises(AlreadyRunning):
        PidFile(str(path))
    second.remove()
    assert not path.exists()


def test_a_path_that_changes_for_ever_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def flock(descriptor: int, operation: int) -> None:
        nonlocal attempts
        attempts += 1
        path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LockRefusedError, match="replaced again and again"):
        LockFile(str(path), "x")
    assert attempts == lockfile._OPEN_ATTEMPTS_MAX
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_second_name_would_have_us_write_into_another_file(path: Path) -> None:
    path.parent.mkdir()
    precious = path.with_name("precious")
    precious.write_text("precious")
    os.link(precious, path)
    with pytest.raises(LockRefusedError, match="has another name as well: remove it"):
        LockFile(str(path), "x")
    assert precious.read_text() == "precious"


def test_what_is_no_plain_file_is_refused_without_waiting(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(LockRefusedError, match="is not a plain file"):
        LockFile(str(path), "x")


@pytest.mark.root
def test_a_file_of_another_user_is_not_a_lock(path: Path) -> None:
    """S20b: in a directory that everybody may write, it could be locked before we come."""
    path.parent.mkdir(mode=0o777)
    path.write_text("1\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(LockRefusedError, match="belongs to uid 65534: remove it"):
        LockFile(str(path), "x")
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("wrote", ["1", "", "routes.yaml"])
def test_the_holder_is_named_as_it_is_seen_from_here(path: Path, wrote: str) -> None:
    """A13: a daemon in a container was "pid 1", which is somebody else outside."""
    lock = LockFile(str(path), wrote)
    with pytest.raises(LockHeldError) as caught:
        LockFile(str(path), "x")
    assert caught.value.holder == f"pid {os.getpid()}"
    lock.remove()


@pytest.mark.parametrize(
    ("locks", "holder"),
    [
        ("", "a process that is not visible here"),
        ("1: FLOCK  ADVISORY  WRITE 12 08:01:INODE 0 EOF\n", "pid 12"),
        ("1: POSIX  ADVISORY  WRITE 12 08:01:INODE 0 EOF\n", "a process that is not visible here"),
        ("1: FLOCK  ADVISORY  WRITE 12 08:01:1INODE 0 EOF\n", "a process that is not visible here"),
        ("1: FLOCK  ADVISORY  WRITE 0 08:01:INODE 0 EOF\n", "a process that is not visible here"),
        (
            "1: FLOCK  ADVISORY  WRITE 12 08:01:INODE 0 EOF\n"
            "2: FLOCK  ADVISORY  WRITE 13 08:02:INODE 0 EOF\n",
            "a process that is not visible here",
        ),
        (
            "1: FLOCK  ADVISORY  WRITE 12 08:01:INODE 0 EOF\n"
            "2: FLOCK  ADVISORY  WRITE 7 08:02:INODE 0 EOF\n",
            "pid 7",
        ),
        (None, "pid 7 by its own count"),
    ],
)
def test_a_holder_in_another_pid_namespace_has_no_pid_here(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, locks: str | None, holder: str
) -> None:
    lock = LockFile(str(path), "7\n")
    if locks is not None:
        text = locks.replace("INODE", str(path.stat().st_ino))
        (tmp_path / "locks").write_text(text)
    monkeypatch.setattr(lockfile, "_LOCKS", str(tmp_path / "locks"))
    with pytest.raises(LockHeldError) as caught:
        LockFile(str(path), "x")
    assert caught.value.holder == holder
    with pytest.raises(AlreadyRunning, match=f"^already running as {holder} .it holds {path}.$"):
        PidFile(str(path))
    lock.remove()


def test_the_text_of_the_holder_is_returned(path: Path) -> None:
    lock = LockFile(str(path), "pid 7, routes.yaml\n")
    with pytest.raises(LockHeldError, match=r"^pid 7, routes\.yaml$"):
        LockFile(str(path), "x")
    lock.remove()
    again = LockFile(str(path), "x")
    assert path.read_text() == "x"
    again.remove()
