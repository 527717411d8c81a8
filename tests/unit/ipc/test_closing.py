"""Descriptors of untrusted peers are closed by a limited number of threads."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ipc import closing
from ipc.closing import CLOSING_THREADS_MAX, CLOSING_WAITING_MAX, Closer
from ipc.fdpass import DESCRIPTORS_MAX, may_carry_descriptors, refuse_descriptors

DEADLINE_S = 30.0


class StuckClose:
    """A close(2) of some descriptors that does not end before it is released."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun: list[int] = []
        self.ended = threading.Semaphore(0)

    def __call__(self, descriptor: int) -> None:
        self.begun.append(descriptor)
        assert self.may_end.wait(DEADLINE_S)
        os.close(descriptor)
        self.ended.release()


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckClose]:
    stuck = StuckClose()
    monkeypatch.setattr(closing, "_close", stuck)
    yield stuck
    stuck.may_end.set()


def pipes(count: int) -> tuple[int, list[int]]:
    """Return a pipe's reading end, and copies of its writing end: when all are closed, reading
    ends."""
    reading, writing = os.pipe()
    copies = [writing, *(os.dup(writing) for _ in range(count - 1))]
    return reading, copies


def wait_until(condition: Callable[[], bool]) -> None:
    changed = threading.Event()
    for _ in range(int(DEADLINE_S * 100)):
        if condition():
            return
        changed.wait(0.01)
    raise AssertionError("it did not come to be")


def test_what_is_handed_over_is_closed() -> None:
    closer = Closer()
    reading, copies = pipes(20)
    for copy in copies:
        closer.close([copy])
    with open(reading, "rb") as file:
        assert file.read() == b""


def test_a_close_that_does_not_end_blocks_neither_the_caller_nor_the_others(
    stuck: StuckClose,
) -> None:
    closer = Closer()
    _, copies = pipes(CLOSING_THREADS_MAX + 300)
    closer.close(copies)
    wait_until(lambda: len(stuck.begun) == CLOSING_THREADS_MAX)
    assert closer.waiting == 300
    assert closer.has_room
    stuck.may_end.set()
    for _ in copies:
        assert stuck.ended.acquire(timeout=DEADLINE_S)


def test_a_full_queue_is_reported_before_it_overflows(stuck: StuckClose) -> None:
    closer = Closer()
    given = 0
    while closer.has_room:
        _, copies = pipes(DESCRIPTORS_MAX)
        closer.close(copies)
        given += len(copies)
    assert closer.waiting <= CLOSING_WAITING_MAX
    assert given <= CLOSING_WAITING_MAX + CLOSING_THREADS_MAX
    stuck.may_end.set()
    for _ in range(given):
        assert stuck.ended.acquire(timeout=DEADLINE_S)
    assert closer.has_room


def test_where_no_thread_can_be_started_the_caller_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reading, copies = pipes(2)
    Closer().close(copies)
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_connection_that_can_carry_nothing_is_closed_at_once(stuck: StuckClose) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        if not refuse_descriptors(ours):
            pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
        Closer().close_connection(ours)
        assert theirs.recv(1) == b""
    assert stuck.begun == []


def test_a_connection_is_closed_with_its_unread_data(stuck: StuckClose) -> None:
    """S3: closing a connection closes the descriptors in its queue, in the closer's context."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert may_carry_descriptors(ours)
    reading, (writing,) = pipes(1)
    socket.send_fds(theirs, [b"x"], [writing])
    os.close(writing)
    Closer().close_connection(ours)
    wait_until(lambda: len(stuck.begun) == 1)
    assert ours.fileno() == -1
    stuck.may_end.set()
    with open(reading, "rb") as file:
        assert file.read() == b""
    theirs.close()


def test_a_tcp_connection_carries_no_descriptors() -> None:
    with contextlib.closing(socket.socket()) as tcp:
        assert not may_carry_descriptors(tcp)
