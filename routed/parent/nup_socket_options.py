"""Sockets that only the parent may open: made here, complete, and handed to the engine.

A neighbor socket belongs to one link and one address family. It is bound to the device, so that a
datagram can only come from that link and leave by it; the group is joined by interface index.

    IPv6  ff12::6e75:70, link-local source chosen by the kernel, hop limit 255
    IPv4  239.255.61.98, TTL 255, for links without IPv6

A classic BPF filter on the socket drops, before the receive buffer, what no neighbor sends: another
hop limit (TTL) than 255, another source port, another version, an impossible length. A flood of
such datagrams takes no room from the neighbors' and no time of the engine's. The filter sees the
packet from the UDP header on; the hop limit is in the fixed part of the network header, whatever
options or extension headers follow it. The filter is locked: nobody can exchange or detach it.
(IP_MINTTL and IPV6_MINHOPCOUNT work for TCP only.) The receiver judges the same again.

The parent keeps each socket and hands copies to engines one after another. A copy shares the
options: `is_reusable` finds what an engine can have spoilt, and sets again what can be set.

IP_MULTICAST_ALL is on by default and would deliver groups that other sockets
joined; it is off here.

SO_REUSEADDR is not set: a second daemon on the same link must fail, and say so.

Failure: OSError, with errno as the kernel gave it; the socket is closed. A group that is already
joined on the link (EADDRINUSE) is what we wanted, and no error.

Sources: ip(7), ipv6(7), socket(7); Documentation/networking/filter.rst of Linux; RFC 5082 (hop
limit), RFC 2474 and RFC 4594 (class selector 6 for network control).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import socket
import struct

from routed.model.nup_addresses import GROUP_IPV4, GROUP_IPV6, NUP_PORT
from routed.model.prefix import Address, Family

__all__ = ["is_reusable", "open_neighbor_socket"]

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
_SO_LOCK_FILTER = 44
_SO_ATTACH_FILTER = 26

# linux/filter.h
_LOAD_BYTE, _LOAD_HALF, _LOAD_LENGTH = 0x30, 0x28, 0x80
_JUMP_IF_EQUAL, _JUMP_IF_ABOVE, _JUMP_IF_AT_LEAST, _RETURN = 0x15, 0x25, 0x35, 0x06
_NETWORK_HEADER = 0xFFF0_0000
"""SKF_NET_OFF: offsets from here on count from the IP header, others from the UDP header."""
_UDP_HEADER_BYTES = 8
_HOP_LIMIT_AT = {Family.IPV6: 7, Family.IPV4: 8}

NUP_VERSION = 1
NUP_BYTES_MIN, NUP_BYTES_MAX = 16, 1232
"""A header alone, and the largest datagram; the same numbers as in `routed.nup.wire.message`, which
this process does not load."""
_DISCARD_PORT = 9


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
        _attach_filter(sock, family)
        _set_options(sock, ifindex, family)
        sock.bind(("::" if family is Family.IPV6 else "", NUP_PORT))
        _join(sock, ifindex, family)
    except BaseException:
        sock.close()
        raise
    return sock


def is_reusable(
    sock: socket.socket, ifindex: int, ifname: str, family: Family, own: Address | None
) -> bool:
    """Make a socket that another engine had as good as new, if that can be done.

    Args:
        sock: opened by `open_neighbor_socket`.
        ifindex: its link.
        ifname: the name of the link now.
        family: the socket's.
        own: an address of the link, to which an empty datagram is sent (port 9, discard).

    Returns:
        False when the socket was connected, shut down or bound to another link, which cannot be
        undone: it must be replaced.
    """
    try:
        if _has_peer(sock) or _is_shut_for_reading(sock) or not _can_send(sock, ifindex, own):
            return False
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        if device.rstrip(b"\0") != ifname.encode():
            return False
        sock.setblocking(False)
        _set_options(sock, ifindex, family)
        # Leave first: the kernel may have forgotten the group of a link that lost its addresses.
        with contextlib.suppress(OSError):
            sock.setsockopt(*_membership(ifindex, family, is_leave=True))
        _join(sock, ifindex, family)
    except OSError:
        return False
    return True


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def _is_shut_for_reading(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _can_send(sock: socket.socket, ifindex: int, own: Address | None) -> bool:
    """Nothing but a datagram shows whether a socket was shut down for writing."""
    if own is None:
        return True
    target = (str(own), _DISCARD_PORT)
    try:
        sock.sendto(b"", (*target, 0, ifindex) if own.family is Family.IPV6 else target)
    except OSError as error:
        return error.errno != errno.EPIPE
    return True


def filter_program(family: Family) -> list[tuple[int, int, int, int]]:
    """The socket filter, as (code, skip if true, skip if false, operand)."""
    shortest, longest = _UDP_HEADER_BYTES + NUP_BYTES_MIN, _UDP_HEADER_BYTES + NUP_BYTES_MAX
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER + _HOP_LIMIT_AT[family]),
        (_JUMP_IF_EQUAL, 0, 8, HOP_LIMIT),
        (_LOAD_HALF, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 6, NUP_PORT),
        (_LOAD_LENGTH, 0, 0, 0),
        (_JUMP_IF_AT_LEAST, 0, 4, shortest),
        (_JUMP_IF_ABOVE, 3, 0, longest),
        (_LOAD_BYTE, 0, 0, _UDP_HEADER_BYTES),
        (_JUMP_IF_EQUAL, 0, 1, NUP_VERSION),
        (_RETURN, 0, 0, 0xFFFF_FFFF),  # all of it
        (_RETURN, 0, 0, 0),  # nothing: dropped
    ]


def _attach_filter(sock: socket.socket, family: Family) -> None:
    program = filter_program(family)
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def _set_options(sock: socket.socket, ifindex: int, family: Family) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, SOCKET_PRIORITY)
    _enlarge_receive_buffer(sock)
    if family is Family.IPV6:
        _prepare_ipv6(sock, ifindex)
    else:
        _prepare_ipv4(sock, ifindex)


def _enlarge_receive_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        # Without CAP_NET_ADMIN in the first user namespace: as much as the system allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _prepare_ipv6(sock: socket.socket, ifindex: int) -> None:
    level = socket.IPPROTO_IPV6
    with contextlib.suppress(OSError):  # bound already: it cannot have been changed either
        sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(level, socket.IPV6_MULTICAST_IF, ifindex)
    sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(level, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 0)
    sock.setsockopt(level, _IPV6_MULTICAST_ALL, 0)
    sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(level, socket.IPV6_RECVPKTINFO, 1)
    sock.setsockopt(level, socket.IPV6_TCLASS, TRAFFIC_CLASS_CS6)


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


def _membership(ifindex: int, family: Family, *, is_leave: bool = False) -> tuple[int, int, bytes]:
    """Level, option and request of joining the group, or of leaving it."""
    if family is Family.IPV6:
        option = socket.IPV6_LEAVE_GROUP if is_leave else socket.IPV6_JOIN_GROUP
        return socket.IPPROTO_IPV6, option, GROUP_IPV6.packed + struct.pack("@I", ifindex)
    option = socket.IP_DROP_MEMBERSHIP if is_leave else socket.IP_ADD_MEMBERSHIP
    request = struct.pack("@4s4si", GROUP_IPV4.packed, bytes(4), ifindex)
    return socket.IPPROTO_IP, option, request


def _join(sock: socket.socket, ifindex: int, family: Family) -> None:
    try:
        sock.setsockopt(*_membership(ifindex, family))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
