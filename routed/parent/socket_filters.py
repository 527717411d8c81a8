"""Filters of the sockets that are handed to an unprivileged process, and what such a process can do
to a socket.

A classic BPF filter drops packets before the receive buffer, so a flood of them takes no space from
others and no time of the process. It sees a packet from the UDP header on; the hop limit is in the
fixed part of the network header. The filter is locked: no process can exchange or detach it.

Sources: Documentation/networking/filter.rst of Linux; linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
from collections.abc import Sequence

from routed.model.prefix import Family

__all__ = [
    "AND",
    "HOP_LIMIT_AT",
    "JUMP_IF_ABOVE",
    "JUMP_IF_AT_LEAST",
    "JUMP_IF_EQUAL",
    "LOAD_BYTE",
    "LOAD_HALF",
    "LOAD_HALF_AT_INDEX",
    "LOAD_IP_HEADER_BYTES",
    "LOAD_LENGTH",
    "NETWORK_HEADER",
    "RETURN",
    "UDP_HEADER_BYTES",
    "Instruction",
    "attach_filter",
    "has_peer",
    "is_shut_for_reading",
]

Instruction = tuple[int, int, int, int]
"""Code, instructions to skip if true and if false, operand."""

LOAD_BYTE, LOAD_HALF, LOAD_LENGTH, AND = 0x30, 0x28, 0x80, 0x54
LOAD_IP_HEADER_BYTES, LOAD_HALF_AT_INDEX = 0xB1, 0x48
"""Put the length of the IPv4 header at an offset into the index; load from an offset after it."""
JUMP_IF_EQUAL, JUMP_IF_ABOVE, JUMP_IF_AT_LEAST, RETURN = 0x15, 0x25, 0x35, 0x06
NETWORK_HEADER = 0xFFF0_0000
"""SKF_NET_OFF: an offset from here on is relative to the IP header, others to the UDP header."""
UDP_HEADER_BYTES = 8
HOP_LIMIT_AT = {Family.IPV6: 7, Family.IPV4: 8}

_SO_ATTACH_FILTER = 26
_SO_LOCK_FILTER = 44


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Attach a filter to a socket for good.

    Raises:
        OSError: the kernel refuses it.
    """
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def has_peer(sock: socket.socket) -> bool:
    """Return whether a socket was connected."""
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def is_shut_for_reading(sock: socket.socket) -> bool:
    """Return whether a socket was shut down for reading."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
