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

from routed.sandbox.kernel import libc, syscall

__all__ = ["call_apart", "leave_shared_files", "open_apart"]

_T = TypeVar("_T")

_CLOSE_RANGE = 436  # of every machine: it came after their numbers were made one
_CLOSE_RANGE_UNSHARE = 2
_CLONE_FILES = 0x400
_LAST = (1 << 32) - 1
_DESCRIPTOR_BYTES = 4
_FIRST = 3
"""The standard streams stay: a warning must not go into a file that has got the number 2."""


def call_apart(call: Callable[[], _T], *, kept: int | None = None) -> _T:
    """Call in a thread without open files of ours; this one waits, and can be killed.

    Args:
        call: what is done.
        kept: a descriptor that it needs.

    Raises:
        Whatever the call does.
    """
    apart = _Apart(call, kept)
    apart.start()
    apart.join()
    if apart.error is not None:
        raise apart.error
    return apart.answers[0]


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


class _Apart(threading.Thread, Generic[_T]):
    def __init__(self, call: Callable[[], _T], kept: int | None) -> None:
        super().__init__(name="files", daemon=True)
        self._call = call
        self._kept = kept
        self.answers: list[_T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        leave_shared_files(self._kept)
        try:
            self.answers.append(self._call())
        except BaseException as error:  # noqa: BLE001  (it is the caller's to judge)
            self.error = error


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
