"""Receiving on a UDP socket: wait for datagrams, read what the kernel reports about each, close.

NUP and BFD both receive a hop limit and an interface with each datagram, and count the datagrams
that the kernel dropped. The sockets are non-blocking, and have these options from the parent.

Sources: ip(7), ipv6(7), socket(7); `struct in_pktinfo` and `struct in6_pktinfo` of Linux.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

import trio

__all__ = ["ANCILLARY_BYTES", "PacketInfo", "close", "dropped", "is_readable", "read_ancillary"]

_INT = struct.Struct("@i")
_IP_PKTINFO = 8
_IN_PKTINFO = struct.Struct("@i4s4s")
"""Index, local address, destination in the header."""
_IN6_PKTINFO = struct.Struct("@16si")
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_MEMINFO_DROPS = 8

ANCILLARY_BYTES = socket.CMSG_SPACE(_INT.size) + socket.CMSG_SPACE(_IN6_PKTINFO.size)
"""Space for the hop limit and the packet information of either family."""


class PacketInfo(NamedTuple):
    """The kernel's report about a datagram; None where the socket has not the option."""

    hop_limit: int | None
    ifindex: int | None
    """The interface that it arrived on."""
    destination: bytes | None
    """The destination address in its header: 4 or 16 bytes."""


def read_ancillary(ancillary: list[tuple[int, int, bytes]]) -> PacketInfo:
    """Decode the ancillary data of a datagram, as `recvmsg` returns it."""
    hop_limit: int | None = None
    ifindex: int | None = None
    destination: bytes | None = None
    for level, kind, value in ancillary:
        match level, kind:
            case (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) | (
                socket.IPPROTO_IP,
                socket.IP_TTL,
            ):
                (hop_limit,) = _INT.unpack(value)
            case (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                destination, ifindex = _IN6_PKTINFO.unpack(value)
            case (socket.IPPROTO_IP, kind) if kind == _IP_PKTINFO:
                ifindex, _, destination = _IN_PKTINFO.unpack(value)
    return PacketInfo(hop_limit, ifindex, destination)


async def is_readable(sock: socket.socket) -> bool:
    """Wait until a datagram or an error has arrived; False when the socket was closed.

    A socket may be closed before the first turn of its reader, or by the consequences of its own
    datagrams; it has no descriptor to wait for then. So a cancellation takes effect first.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        await trio.lowlevel.wait_readable(sock)
    except trio.ClosedResourceError:
        return False
    return True


def close(sock: socket.socket, reader: trio.CancelScope) -> None:
    """Cancel the task that reads a socket, and close the socket."""
    reader.cancel()
    trio.lowlevel.notify_closing(sock)
    sock.close()


def dropped(sock: socket.socket) -> int:
    """Return the kernel's count of datagrams dropped on a socket; 0 where it is unknown."""
    try:
        counts = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):
        return 0
    return int(counts[_MEMINFO_DROPS])
