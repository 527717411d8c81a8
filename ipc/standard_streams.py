"""Standard streams that are closed when a program starts, or that cannot be written.

After `program >&-` the descriptor is closed; the next file that is opened gets its number, and
later output would be written to a pid file or a socket. So closed descriptors are opened with
/dev/null first, or where it does not exist, as in a container with an empty /dev, with an empty
file in memory.

If the disk is full, the reader has closed the pipe, or a pipe is full and not read, a message is
lost, and the program continues.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time

__all__ = ["MESSAGE_WAIT_S", "occupy_standard_streams", "open_nothing", "write_message"]

MESSAGE_WAIT_S = 1.0
"""Longest wait for the reader of a message, in seconds: a terminal takes a few kilobytes at a
time."""

_STDERR = 2


def open_nothing(*, takes_writes: bool = False) -> int:
    """Open an empty file: /dev/null, or a file in memory without a /dev.

    Args:
        takes_writes: whether writes succeed, also without a /dev, where they use memory until the
            file is closed; for output of bounded length. Otherwise they are errors.
    """
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        descriptor = os.memfd_create("nothing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        if not takes_writes:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        return descriptor


def occupy_standard_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    To be called before anything else is opened.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            open_nothing()  # the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it stays open, like the original)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def write_message(text: str, descriptor: int = _STDERR) -> None:
    """Write a message as far as it can be written within MESSAGE_WAIT_S; the rest is lost.

    poll(2) says that a pipe is writable when PIPE_BUF bytes fit (pipe(7)), so no write waits.
    """
    data = text.encode("utf-8", "backslashreplace")
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    until = time.monotonic() + MESSAGE_WAIT_S
    while data:
        left_ms = max(until - time.monotonic(), 0.0) * 1000
        try:
            if not poll.poll(left_ms):
                return
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
        except OSError:  # a full disk, or the reader has closed it
            return
