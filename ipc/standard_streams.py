"""Standard streams that a program was started without, or that cannot be written.

By `program >&-` a descriptor is not open; it is the next one that anything opens gets, and what is
printed later would go into a pid file or a socket. So the places are taken by /dev/null first, or
where there is none, as in a container with an empty /dev, by an empty file in memory.

If the disk is full, the reader has gone, or a pipe is full and not read, a message is lost, and the
program continues.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time

__all__ = ["MESSAGE_WAIT_S", "occupy_standard_streams", "open_nothing", "write_message"]

MESSAGE_WAIT_S = 1.0
"""How long a whole message may wait for a reader: a terminal takes a few kilobytes at a time."""

_STDERR = 2


def open_nothing(*, takes_writes: bool = False) -> int:
    """Open what reads as empty: /dev/null, or the same without a /dev.

    Args:
        takes_writes: writes succeed there, too, and take memory until it is closed; for what is
            bounded. Otherwise they are errors.
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
        except OSError:  # a full disk, a reader who has left
            return
