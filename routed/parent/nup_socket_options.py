"""The NUP sockets, which only the parent may open: creation, options and filter.

A NUP socket belongs to one link and one address family. It is bound to the device, so that its
datagrams arrive from and leave through that link only; the group is joined by interface index.

    IPv6  ff12::6e75:70, link-local source chosen by the kernel, hop limit 255
    IPv4  239.255.61.98, TTL 255, for links without IPv6

A classic BPF filter on the socket drops datagrams that no neighbor sends, before they reach the
receive buffer: those with a hop limit (TTL) other than 255, another source port, another version,
or an impossible length. A flood of such datagrams uses neither buffer space nor time of the engine.
The filter sees the packet from the UDP header on; the hop limit is in the fixed part of the network
header, independent of options and extension headers. The filter is locked: no process can replace
or detach it. (IP_MINTTL and IPV6_MINHOPCOUNT work for TCP only.) The engine checks the same again.

The parent keeps each socket and sends a copy to each engine in turn. Copies share their options:
`is_reusable` detects the changes that an engine may have made, and reverts those that it can.

IP_MULTICAST_ALL is on by default and would deliver datagrams of groups that other sockets joined;
it is off here.

SO_REUSEADDR is not set: a second daemon on the same link must fail and report it.

Failure: OSError with the kernel's errno; the socket is closed. A group that has been joined on the
link already (EADDRINUSE) is not an error.

Sources: ip(7), ipv6(7), socket(7); Documentation/networking/filter.rst of Linux; RFC 5082 (hop
limit), RFC 2474 and RFC 4594 (class selector 6 for network control).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from routed.model.nup_addresses import GROUP_IPV4, GROUP_IPV6, NUP_PORT
from routed.model.prefix import Address, Family
from routed.parent.socket_filters import (
    HOP_LIMIT_AT,
    JUMP_IF_ABOVE,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_LENGTH,
    NETWORK_HEADER,
    RETURN,
    UDP_HEADER_BYTES,
    Instruction,
    attach_filter,
    has_peer,
    is_shut_for_reading,
)

__all__ = ["is_reusable", "open_neighbor_socket"]

HOP_LIMIT = 255
TRAFFIC_CLASS_CS6 = 0xC0
SOCKET_PRIORITY = 6
"""The priority that Linux gives CS6 traffic (TC_PRIO_INTERACTIVE)."""
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Size of the receive buffer: a window of 1,024 datagrams from each of several neighbors, with the
kernel's overhead. The kernel limits it to net.core.rmem_max unless SO_RCVBUFFORCE is allowed."""

# linux/in.h and linux/in6.h; Python's socket module does not have all of them.
_IP_PKTINFO = 8
_IP_RECVTTL = 12
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_SO_RCVBUFFORCE = 33


NUP_VERSION = 1
NUP_BYTES_MIN, NUP_BYTES_MAX = 16, 1232
"""The sizes of the header and of the largest datagram; the same numbers as in
`routed.nup.wire.message`, which this process does not load."""
_DISCARD_PORT = 9


def open_neighbor_socket(ifindex: int, ifname: str, family: Family) -> socket.socket:
    """Open the NUP socket of one link.

    Args:
        ifindex: interface index of the link.
        ifname: present name of the link, because sockets are bound to a device by name.
        family: address family of the socket.

    Returns:
        A bound, non-blocking UDP socket with the group joined. It reports the hop limit and the
        interface of each datagram as ancillary data.

    Raises:
        OSError: EPERM without CAP_NET_RAW or CAP_NET_ADMIN, EADDRINUSE if another process uses
            the port on this link, ENODEV if the link no longer exists.
    """
    sock = socket.socket(
        socket.AF_INET6 if family is Family.IPV6 else socket.AF_INET,
        socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode() + b"\0")
        attach_filter(sock, filter_program(family))
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
    """Restore the options of a socket that another engine had, if that is possible.

    Args:
        sock: a socket that was opened by `open_neighbor_socket`.
        ifindex: interface index of its link.
        ifname: present name of its link.
        family: address family of the socket.
        own: an address of the link, to which an empty datagram is sent (port 9, discard); None to
            send none.

    Returns:
        Whether the socket can be used again. If not (it was connected, shut down, or bound to
        another link, or an option cannot be set), the caller must replace it.
    """
    try:
        if has_peer(sock) or is_shut_for_reading(sock) or not _can_send(sock, ifindex, own):
            return False
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        if device.rstrip(b"\0") != ifname.encode():
            return False
        sock.setblocking(False)
        _set_options(sock, ifindex, family)
        # Leave first: the kernel may have dropped the group on a link that lost its addresses.
        with contextlib.suppress(OSError):
            sock.setsockopt(*_membership(ifindex, family, is_leave=True))
        _join(sock, ifindex, family)
    except OSError:
        return False
    return True


def _can_send(sock: socket.socket, ifindex: int, own: Address | None) -> bool:
    """Whether a socket is not shut down for writing, which only sending a datagram shows."""
    if own is None:
        return True
    target = (str(own), _DISCARD_PORT)
    try:
        sock.sendto(b"", (*target, 0, ifindex) if own.family is Family.IPV6 else target)
    except OSError as error:
        return error.errno != errno.EPIPE
    return True


def filter_program(family: Family) -> list[Instruction]:
    """Return the socket filter, as (code, skip if true, skip if false, operand) of each step."""
    shortest, longest = UDP_HEADER_BYTES + NUP_BYTES_MIN, UDP_HEADER_BYTES + NUP_BYTES_MAX
    return [
        (LOAD_BYTE, 0, 0, NETWORK_HEADER + HOP_LIMIT_AT[family]),
        (JUMP_IF_EQUAL, 0, 8, HOP_LIMIT),
        (LOAD_HALF, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 6, NUP_PORT),
        (LOAD_LENGTH, 0, 0, 0),
        (JUMP_IF_AT_LEAST, 0, 4, shortest),
        (JUMP_IF_ABOVE, 3, 0, longest),
        (LOAD_BYTE, 0, 0, UDP_HEADER_BYTES),
        (JUMP_IF_EQUAL, 0, 1, NUP_VERSION),
        (RETURN, 0, 0, 0xFFFF_FFFF),  # accept the whole datagram
        (RETURN, 0, 0, 0),  # drop it
    ]


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
        # Without CAP_NET_ADMIN in the initial user namespace: up to net.core.rmem_max.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _prepare_ipv6(sock: socket.socket, ifindex: int) -> None:
    level = socket.IPPROTO_IPV6
    with contextlib.suppress(OSError):  # a bound socket does not allow it, also not to an engine
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
    """Return level, option and value of joining the group, or of leaving it."""
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
