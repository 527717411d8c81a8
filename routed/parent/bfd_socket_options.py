"""The sockets of BFD: opened here, complete, and handed to the liveness process.

    receive   one for each family and kind; port 3784 (single hop) or 4784 (multihop), any address
    send      one for each session; a port from 49152 on, hop limit 255, bound to the interface and
              the address of the session where it has one

A filter drops what is no control packet before it fills the receive buffer: another
version, an impossible length, and on a single hop another hop limit than 255. A sending socket
receives nothing at all. The liveness process checks the same again.

A sending socket may be bound to an address that this system does not have yet (IP_FREEBIND):
packets then fail until it has it.

Failure: OSError, with errno as the kernel gave it; the socket is closed.

Sources: RFC 5881, sections 4 and 5; RFC 5883, section 5; ip(7), ipv6(7).
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket

from routed.model.bfd import BfdSettings
from routed.model.prefix import Family
from routed.parent.socket_filters import (
    AND,
    HOP_LIMIT_AT,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    LOAD_BYTE,
    LOAD_LENGTH,
    NETWORK_HEADER,
    RETURN,
    UDP_HEADER_BYTES,
    Instruction,
    attach_filter,
)

__all__ = ["open_receiver", "open_sender"]

_PORTS = {False: 3784, True: 4784}
"""By whether sessions are multihop."""
_SOURCE_PORTS = range(49_152, 65_536)
_PORT_ATTEMPTS = 64
_HOP_LIMIT = 255
_TRAFFIC_CLASS_CS6 = 0xC0
_SOCKET_PRIORITY = 6
_RECEIVE_BUFFER_BYTES = 1024 * 1024
"""About 1,300 packets with the kernel's overhead: one each of all sessions."""
_VERSION_MASK, _VERSION = 0xE0, 0x20
_PACKET_BYTES_MIN = 24

# linux/in.h, linux/in6.h and asm-generic/socket.h; Python's socket module does not name them all.
_IP_PKTINFO, _IP_RECVTTL, _IP_FREEBIND, _IPV6_FREEBIND = 8, 12, 15, 78
_SO_RCVBUFFORCE = 33


def open_receiver(family: Family, *, is_multihop: bool) -> socket.socket:
    """Open the socket that receives the packets of all sessions of a family and kind.

    Raises:
        OSError: EADDRINUSE when another program has the port.
    """
    sock = _opened(family)
    try:
        attach_filter(sock, _filter(family, is_multihop=is_multihop))
        with contextlib.suppress(PermissionError):  # as much as the system allows, then
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        if family is Family.IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(("::" if family is Family.IPV6 else "", _PORTS[is_multihop]))
    except BaseException:
        sock.close()
        raise
    return sock


def open_sender(settings: BfdSettings, ifname: str | None) -> socket.socket:
    """Open the socket that sends the packets of one session.

    Args:
        settings: the session.
        ifname: name of its link; None if it may send by any.

    Raises:
        OSError: ENODEV when the link has gone, EADDRINUSE when no port is free.
    """
    family = settings.peer.family
    sock = _opened(family)
    try:
        attach_filter(sock, [(RETURN, 0, 0, 0)])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _SOCKET_PRIORITY)
        if ifname is not None:
            device = ifname.encode() + b"\0"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        if family is Family.IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _TRAFFIC_CLASS_CS6)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOP_LIMIT)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TRAFFIC_CLASS_CS6)
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        _bind_to_free_port(sock, settings)
    except BaseException:
        sock.close()
        raise
    return sock


def _opened(family: Family) -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if family is Family.IPV4:
        return socket.socket(socket.AF_INET, kind)
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _bind_to_free_port(sock: socket.socket, settings: BfdSettings) -> None:
    """Bind to the session's address, and to a port that is hard to guess (RFC 5881, section 4)."""
    address = "" if settings.source is None else str(settings.source)
    rng = random.SystemRandom()
    for attempt in range(_PORT_ATTEMPTS):
        port = rng.choice(_SOURCE_PORTS)
        try:
            if settings.peer.family is Family.IPV6:
                is_link_local = settings.source is not None and settings.source.is_link_local
                scope = settings.ifindex if is_link_local else 0
                sock.bind((address or "::", port, 0, scope))
            else:
                sock.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == _PORT_ATTEMPTS - 1:
                raise
        else:
            return


def _filter(family: Family, *, is_multihop: bool) -> list[Instruction]:
    """Build the filter of a receiving socket."""
    hop_limit = [
        (LOAD_BYTE, 0, 0, NETWORK_HEADER + HOP_LIMIT_AT[family]),
        (JUMP_IF_EQUAL, 0, 6, _HOP_LIMIT),
    ]
    return [
        *([] if is_multihop else hop_limit),
        (LOAD_LENGTH, 0, 0, 0),
        (JUMP_IF_AT_LEAST, 0, 4, UDP_HEADER_BYTES + _PACKET_BYTES_MIN),
        (LOAD_BYTE, 0, 0, UDP_HEADER_BYTES),
        (AND, 0, 0, _VERSION_MASK),
        (JUMP_IF_EQUAL, 0, 1, _VERSION),
        (RETURN, 0, 0, 0xFFFF_FFFF),
        (RETURN, 0, 0, 0),
    ]
