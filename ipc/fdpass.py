"""Descriptors in ancillary data: send at most one, receive at most one, close every stray.

A descriptor that arrives where none was agreed is closed before anybody looks at the message: an
unread SCM_RIGHTS would stay open in this process for ever, which is how a client exhausts a daemon.

Source: unix(7), SCM_RIGHTS; recvmsg(2), MSG_CTRUNC.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable

__all__ = [
    "DESCRIPTORS_MAX",
    "AncillaryMessage",
    "close_descriptors",
    "descriptor_space",
    "pack_descriptor",
    "take_descriptors",
]

DESCRIPTORS_MAX = 4
"""Room for this many in a control buffer: more than one is a misuse, and must be seen to be
closed; beyond that the kernel truncates and closes them itself."""

_INT_BYTES = array.array("i").itemsize

AncillaryMessage = tuple[int, int, bytes]


def descriptor_space() -> int:
    """Bytes of control buffer to receive descriptors in."""
    return socket.CMSG_SPACE(DESCRIPTORS_MAX * _INT_BYTES)


def pack_descriptor(descriptor: int | None) -> list[AncillaryMessage]:
    """The ancillary data that carries one descriptor, or none."""
    if descriptor is None:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]).tobytes())]


def take_descriptors(ancillary: Iterable[AncillaryMessage], *, accept: int = 1) -> list[int]:
    """The descriptors in received ancillary data; the caller owns them.

    Args:
        ancillary: as recvmsg gives it.
        accept: how many may come at most; when more came, all are closed and none is returned.
    """
    received: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % _INT_BYTES])
            received.extend(numbers)
    if len(received) > accept:
        close_descriptors(received)
        return []
    return received


def close_descriptors(descriptors: Iterable[int]) -> None:
    """Close each one; a number that is already closed is no matter."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
