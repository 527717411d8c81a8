"""Descriptors in ancillary data: send or receive at most one, and refuse those of untrusted peers.

The receiver must close a descriptor that a peer sends, and close(2) may block for as long as the
sender wants: a TCP socket with SO_LINGER waits for its peer, a file on FUSE for its server. This
holds for unread messages, too: close(2) of the connection also closes the descriptors in its queue.
So sockets for untrusted peers are set to carry none (SO_PASSRIGHTS off, Linux 6.16): sendmsg(2)
then fails at the sender's end. On older kernels `ipc/closing.py` closes them outside the event
loop.

The control buffer has room for as many descriptors as one message can carry. What does not fit is
closed by the kernel, within our recvmsg(2), and that would block as well.

Sources: unix(7), SCM_RIGHTS; recvmsg(2), MSG_CTRUNC; net/unix/af_unix.c and include/net/scm.h of
Linux 6.16 (SO_PASSRIGHTS, SCM_MAX_FD).
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from collections.abc import Iterable

__all__ = [
    "DESCRIPTORS_MAX",
    "AncillaryMessage",
    "close_descriptors",
    "descriptor_space",
    "may_carry_descriptors",
    "pack_descriptor",
    "received_descriptors",
    "refuse_descriptors",
    "take_descriptors",
]

DESCRIPTORS_MAX = 253
"""Most descriptors of one message (SCM_MAX_FD)."""

_SO_PASSRIGHTS = 83

_INT_BYTES = array.array("i").itemsize

AncillaryMessage = tuple[int, int, bytes]


def descriptor_space() -> int:
    """Return the bytes of control buffer for the descriptors of one message."""
    return socket.CMSG_SPACE(DESCRIPTORS_MAX * _INT_BYTES)


def pack_descriptor(descriptor: int | None) -> list[AncillaryMessage]:
    """Return the ancillary data that carries one descriptor, or none."""
    if descriptor is None:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]).tobytes())]


def refuse_descriptors(connection: socket.socket) -> bool:
    """Make peers fail to send descriptors; connections inherit this from a listening socket.

    Returns:
        Whether the kernel does that (Linux 6.16).

    Raises:
        OSError: not a Unix socket.
    """
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False
    return True


def may_carry_descriptors(connection: socket.socket) -> bool:
    """Return whether a peer may have sent a descriptor on a connection, read or not."""
    if connection.family != socket.AF_UNIX:
        return False
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS) != 0
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return True


def received_descriptors(ancillary: Iterable[AncillaryMessage]) -> list[int]:
    """Return every descriptor in received ancillary data; the caller owns them."""
    received: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % _INT_BYTES])
            received.extend(numbers)
    return received


def take_descriptors(ancillary: Iterable[AncillaryMessage], *, accept: int = 1) -> list[int]:
    """Return the descriptors in ancillary data of a trusted daemon; the caller owns them.

    Args:
        ancillary: as recvmsg gives it.
        accept: how many may come at most; when more came, all are closed and none is returned.
    """
    received = received_descriptors(ancillary)
    if len(received) > accept:
        close_descriptors(received)
        return []
    return received


def close_descriptors(descriptors: Iterable[int]) -> None:
    """Close each descriptor; a number that is already closed is ignored."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
