"""Calls that a file system may never answer: in a thread that shares no open file with the process.

A system call on a mount whose server is gone does not return, and SIGKILL does not end its thread.
The process is dead then, and what its threads share is not closed: a pid file's lock, sockets, the
name that says which table is ours. Nobody could start in its place. So such a thread has a table of
descriptors of its own, with nothing of ours in it but the standard streams.

Where a kernel or a container does not let it (before Linux 5.9 by a filter that refuses
unshare(2)), the thread shares the table as usual.

Source: close_range(2), CLOSE_RANGE_UNSHARE; unshare(2), CLONE_FILES.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from routed.sandbox.kernel import libc, syscall

__all__ = ["call_apart", "leave_shared_files", "open_apart", "run_in_thread"]

_T = TypeVar("_T")

_CLOSE_RANGE = 436  # of every machine: it came after their numbers were made one
_CLOSE_RANGE_UNSHARE = 2
_CLONE_FILES = 0x400
_LAST = (1 << 32) - 1
_DESCRIPTOR_BYTES = 4
_FIRST = 3
"""The standard streams stay: a warning must not go into a file that has got the number 2."""


class _Result(Generic[_T]):
    """What a call in another thread returned or raised.

    An error is let go of when it is raised again. Its traceback holds the frames of the call, with
    the text of a whole file, and an error that a frame of its own traceback holds is not freed
    until the garbage collector runs, which here may be hours later.
    """

    def __init__(self) -> None:
        self._values: list[_T] = []
        self._errors: list[BaseException] = []

    def capture(self, call: Callable[[], _T]) -> None:
        """Call, in the other thread."""
        try:
            self._values.append(call())
        except BaseException as error:  # noqa: BLE001  (`take` raises it)
            self._errors.append(error)

    def take(self) -> _T:
        """Return or raise what the call did; once, and after it has ended."""
        if self._errors:
            try:
                raise self._errors[0]
            finally:
                self._errors.clear()
        return self._values.pop()


async def run_in_thread(call: Callable[[], _T], limiter: trio.CapacityLimiter) -> _T:
    """Call in a thread, which is abandoned when the task is cancelled.

    Args:
        call: what is done.
        limiter: how many threads of this kind there may be.

    Raises:
        Whatever the call does.
    """
    result: _Result[_T] = _Result()
    await trio.to_thread.run_sync(result.capture, call, abandon_on_cancel=True, limiter=limiter)
    return result.take()


def call_apart(call: Callable[[], _T], *, kept: int | None = None) -> _T:
    """Call in a thread without open files of ours; this one waits, and can be killed.

    Args:
        call: what is done.
        kept: a descriptor that it needs.

    Raises:
        Whatever the call does.
    """
    result: _Result[_T] = _Result()

    def run() -> None:
        leave_shared_files(kept)
        result.capture(call)

    thread = threading.Thread(target=run, name="files", daemon=True)
    thread.start()
    thread.join()
    return result.take()


def open_apart(open_file: Callable[[], int]) -> int:
    """Open a file by `call_apart`, and have the descriptor here.

    Raises:
        OSError: what opening it raises.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def open_and_send() -> None:
        descriptor = open_file()
        try:
            socket.send_fds(theirs, [b"."], [descriptor])
        finally:
            os.close(descriptor)

    with ours, theirs:
        call_apart(open_and_send, kept=theirs.fileno())
        _, ancillary, _, _ = ours.recvmsg(
            1, socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
        )
    ((_, _, descriptor),) = ancillary
    return int.from_bytes(descriptor[:_DESCRIPTOR_BYTES], sys.byteorder)


def leave_shared_files(kept: int | None = None) -> bool:
    """Have this thread keep the standard streams and one descriptor; the others' stay open.

    Args:
        kept: the descriptor, if any.

    Returns:
        Whether this thread has a table of its own now.
    """
    ranges = [(_FIRST, _LAST)] if kept is None else [(_FIRST, kept - 1), (kept + 1, _LAST)]
    try:
        for first, last in ranges:
            if first <= last:
                syscall(_CLOSE_RANGE, first, last, _CLOSE_RANGE_UNSHARE)
    except OSError:
        return _leave_by_unshare(ranges)
    return True


def _leave_by_unshare(ranges: list[tuple[int, int]]) -> bool:
    if libc.unshare(_CLONE_FILES) < 0:
        return False
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for first, last in ranges:
        os.closerange(first, min(last + 1, highest))
    return True
