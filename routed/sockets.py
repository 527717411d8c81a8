"""Sockets that only the parent may open: made here, complete, and handed to the engine.

A neighbor socket belongs to one link and one address family. It is bound to the device, so that a
datagram can only come from that link and leave by it; the group is joined by interface index.

    IPv6  ff12::6e75:70, link-local source chosen by the kernel, hop limit 255
    IPv4  239.255.61.98, TTL 255, for links without IPv6

What the kernel does not do for us: it enforces no minimum hop limit on UDP (IP_MINTTL and
IPV6_MINHOPCOUNT work for TCP only), so the receiver asks for the hop limit of each datagram and
judges it. IP_MULTICAST_ALL is on by default and would deliver groups that other sockets
joined; it is off here.

SO_REUSEADDR is not set: a second daemon on the same link must fail, and say so.

Failure: OSError, with errno as the kernel gave it; the socket is closed. A group that is already
joined on the link (EADDRINUSE) is what we wanted, and no error.

Sources: ip(7), ipv6(7), socket(7); RFC 5082 (hop limit), RFC 2474 and RFC 4594 (class selector 6
for network control).
"""

from __future__ import annotations

import errno
import socket
import struct

from routed.model.prefix import Family
from routed.neighbor.assigned import GROUP_IPV4, GROUP_IPV6, NUP_PORT

__all__ = ["open_neighbor_socket"]

HOP_LIMIT = 255
TRAFFIC_CLASS_CS6 = 0xC0
SOCKET_PRIORITY = 6
"""Interactive control: what Linux gives CS6 traffic (TC_PRIO_INTERACTIVE)."""
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""A window of 1,024 datagrams from each of several neighbors, with the kernel's overhead; the
kernel caps it at net.core.rmem_max unless SO_RCVBUFFORCE is allowed."""

# linux/in.h and linux/in6.h; Python's socket module does not name them all.
_IP_PKTINFO = 8
_IP_RECVTTL = 12
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_SO_RCVBUFFORCE = 33


def open_neighbor_socket(ifindex: int, ifname: str, family: Family) -> socket.socket:
    """Open the socket that NUP speaks through on one link.

    Args:
        ifindex: the link.
        ifname: its name now; binding to a device goes by name.
        family: what to speak over.

    Returns:
        A bound, non-blocking UDP socket with the group joined. It reports the hop limit and the
        interface of each datagram as ancillary data.

    Raises:
        OSError: EPERM without CAP_NET_RAW or CAP_NET_ADMIN, EADDRINUSE when another process has
            the port on this link, ENODEV when the link has gone.
    """
    sock = socket.socket(
        socket.AF_INET6 if family is Family.IPV6 else socket.AF_INET,
        socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, SOCKET_PRIORITY)
        _enlarge_receive_buffer(sock)
        if family is Family.IPV6:
            _prepare_ipv6(sock, ifindex)
        else:
            _prepare_ipv4(sock, ifindex)
    except BaseException:
        sock.close()
        raise
    return sock


def _enlarge_receive_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        # Without CAP_NET_ADMIN in the first user namespace: as much as the system allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _prepare_ipv6(sock: socket.socket, ifindex: int) -> None:
    level = socket.IPPROTO_IPV6
    sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(level, socket.IPV6_MULTICAST_IF, ifindex)
    sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(level, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 0)
    sock.setsockopt(level, _IPV6_MULTICAST_ALL, 0)
    sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(level, socket.IPV6_RECVPKTINFO, 1)
    sock.setsockopt(level, socket.IPV6_TCLASS, TRAFFIC_CLASS_CS6)
    sock.bind(("::", NUP_PORT))
    _join(sock, level, socket.IPV6_JOIN_GROUP, GROUP_IPV6.packed + struct.pack("@I", ifindex))


def _prepare_ipv4(sock: socket.socket, ifindex: int) -> None:
    level = socket.IPPROTO_IP
    any_address = bytes(4)
    # struct ip_mreqn: group, local address (any), interface index.
    by_index = struct.pack("@4s4si", any_address, any_address, ifindex)
    sock.setsockopt(level, socket.IP_MULTICAST_IF, by_index)
    sock.setsockopt(level, socket.IP_MULTICAST_TTL, HOP_LIMIT)
    sock.setsockopt(level, socket.IP_TTL, HOP_LIMIT)
    sock.setsockopt(level, socket.IP_MULTICAST_LOOP, 0)
    sock.setsockopt(level, _IP_MULTICAST_ALL, 0)
    sock.setsockopt(level, _IP_RECVTTL, 1)
    sock.setsockopt(level, _IP_PKTINFO, 1)
    sock.setsockopt(level, socket.IP_TOS, TRAFFIC_CLASS_CS6)
    sock.bind(("", NUP_PORT))
    request = struct.pack("@4s4si", GROUP_IPV4.packed, any_address, ifindex)
    _join(sock, level, socket.IP_ADD_MEMBERSHIP, request)


def _join(sock: socket.socket, level: int, option: int, request: bytes) -> None:
    try:
        sock.setsockopt(level, option, request)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
