"""Calls that may block forever in a file system, in threads that share no open files.

A system call on a mount whose server does not answer may never return, and SIGKILL does not end its
thread. If the process is killed then, the files that its threads share are not closed: the lock of
the pid file, the sockets, and the abstract socket that locks the protocol number. No other daemon
could start in its place. Hence such a thread has a descriptor table of its own, which has only the
standard streams and at most one other descriptor.

If the kernel or the container does not allow that (before Linux 5.9, if a filter refuses
unshare(2)), the thread shares the table of the process.

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

__all__ = ["call_isolated", "isolate_files", "open_isolated", "run_in_thread"]

_T = TypeVar("_T")

_CLOSE_RANGE = 436  # the same on every architecture, as for all system calls since Linux 5.1
_CLOSE_RANGE_UNSHARE = 2
_CLONE_FILES = 0x400
_LAST = (1 << 32) - 1
_DESCRIPTOR_BYTES = 4
_FIRST = 3
"""The first descriptor that is closed. The standard streams stay open: otherwise a warning could be
written to a file that has received the number 2."""


class _Result(Generic[_T]):
    """The value that a call in another thread returned, or the error that it raised.

    The reference to an error is dropped when it is raised again. Its traceback refers to the frames
    of the call, which refer to the text of a whole file. If one of these frames referred to the
    error, it would not be freed before the next run of the garbage collector, which may be hours
    later.
    """

    def __init__(self) -> None:
        self._values: list[_T] = []
        self._errors: list[BaseException] = []

    def capture(self, call: Callable[[], _T]) -> None:
        """Call a function and keep its result; runs in the other thread."""
        try:
            self._values.append(call())
        except BaseException as error:  # noqa: BLE001  (`take` raises it)
            self._errors.append(error)

    def take(self) -> _T:
        """Return the value of the call, or raise its error; once, and after the call has ended."""
        if self._errors:
            try:
                raise self._errors[0]
            finally:
                self._errors.clear()
        return self._values.pop()


async def run_in_thread(call: Callable[[], _T], limiter: trio.CapacityLimiter) -> _T:
    """Call a function in a thread, which is abandoned if the task is cancelled.

    Args:
        call: the function.
        limiter: limits the number of threads of this kind.

    Raises:
        BaseException: every error of the function.
    """
    result: _Result[_T] = _Result()
    await trio.to_thread.run_sync(result.capture, call, abandon_on_cancel=True, limiter=limiter)
    return result.take()


def call_isolated(call: Callable[[], _T], *, kept: int | None = None) -> _T:
    """Call a function in a thread that shares no open files, and wait for its end.

    Args:
        call: the function.
        kept: a descriptor that it needs; None if it needs none.

    Raises:
        BaseException: every error of the function.
    """
    result: _Result[_T] = _Result()

    def run() -> None:
        isolate_files(kept)
        result.capture(call)

    thread = threading.Thread(target=run, name="files", daemon=True)
    thread.start()
    thread.join()
    return result.take()


def open_isolated(open_file: Callable[[], int]) -> int:
    """Open a file by `call_isolated`, and return a descriptor that is open in this thread.

    Args:
        open_file: opens the file and returns its descriptor.

    Raises:
        OSError: raised by `open_file`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def open_and_send() -> None:
        descriptor = open_file()
        try:
            socket.send_fds(theirs, [b"."], [descriptor])
        finally:
            os.close(descriptor)

    with ours, theirs:
        call_isolated(open_and_send, kept=theirs.fileno())
        _, ancillary, _, _ = ours.recvmsg(
            1, socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
        )
    ((_, _, descriptor),) = ancillary
    return int.from_bytes(descriptor[:_DESCRIPTOR_BYTES], sys.byteorder)


def isolate_files(kept: int | None = None) -> bool:
    """Give this thread a descriptor table of its own, with the standard streams and `kept`.

    The descriptors stay open in the other threads.

    Args:
        kept: another descriptor that stays open in this thread; None for no other.

    Returns:
        Whether this thread has a table of its own now.
    """
    ranges = [(_FIRST, _LAST)] if kept is None else [(_FIRST, kept - 1), (kept + 1, _LAST)]
    try:
        for first, last in ranges:
            if first <= last:
                syscall(_CLOSE_RANGE, first, last, _CLOSE_RANGE_UNSHARE)
    except OSError:
        return _isolate_by_unshare(ranges)
    return True


def _isolate_by_unshare(ranges: list[tuple[int, int]]) -> bool:
    if libc.unshare(_CLONE_FILES) < 0:
        return False
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for first, last in ranges:
        os.closerange(first, min(last + 1, highest))
    return True
