"""Threads that a file system may block for ever, and the resources that they share with the
process.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from routed.log.events import Level
from routed.log.logger import LogRecord
from routed.parent.file_threads import call_isolated, open_isolated
from routed.parent.log_sinks import FileSink
from waiting import wait_until


def descriptors(thread_id: int) -> list[str]:
    """The open descriptors of a thread by name, except for the standard streams."""
    directory = Path(f"/proc/self/task/{thread_id}/fd")
    names = []
    for entry in sorted(directory.iterdir()):
        if int(entry.name) > 2:
            try:
                names.append(os.readlink(entry))
            except OSError:
                continue  # the descriptor of the listing itself
    return names


def test_a_call_in_another_thread_holds_no_descriptor_of_the_process() -> None:
    """Its process may be dead while it is still in the kernel; locks and names must be free."""
    with socket.socket() as held:
        assert f"socket:[{os.fstat(held.fileno()).st_ino}]" in descriptors(
            threading.get_native_id()
        )
        within = call_isolated(lambda: descriptors(threading.get_native_id()))
        assert not [name for name in within if not name.startswith("/proc/")]
        held.getsockname()  # it is still open here


def test_a_call_in_another_thread_returns_and_raises_as_here() -> None:
    assert call_isolated(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_isolated(lambda: 1 // 0)


def test_a_file_opened_in_another_thread_is_open_here(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    descriptor = open_isolated(lambda: os.open(path, os.O_RDONLY))
    assert os.read(descriptor, 100) == b"content"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    before = descriptors(threading.get_native_id())
    with pytest.raises(FileNotFoundError):
        open_isolated(lambda: os.open(tmp_path / "nowhere", os.O_RDONLY))
    assert descriptors(threading.get_native_id()) == before


def test_the_thread_of_a_log_file_holds_that_file_only_and_releases_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket():
        sink = FileSink(str(path), as_json=False, has_thread=True)
        sink.write(LogRecord(Level.INFO, "test", {}, "parent"))
        wait_until(lambda: path.read_text() != "", 30.0, "a line in the log")
        (thread,) = (each for each in threading.enumerate() if each.name == "log file")
        assert thread.native_id is not None
        assert descriptors(thread.native_id) == [str(path)]
        sink.reopen()
        sink.close()
    assert str(path) not in descriptors(threading.get_native_id())
