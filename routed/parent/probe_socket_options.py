"""The sockets of probes: opened here, bound, and handed to the liveness process.

    ICMP  one for each probe, connected to its target; a datagram socket where
          net.ipv4.ping_group_range permits it, else a raw one with a filter, by CAP_NET_RAW
    TCP   one for each attempt; it has begun to connect
    DNS   one for each attempt, of UDP, connected: each has another port

Each is bound to the interface, the address and the mark of its probe, so that a probe of one uplink
cannot succeed by another one. A raw socket's filter leaves only echo replies with its identifier.
The liveness process checks the same again.

Failure: OSError, with errno as the kernel gave it; the socket is closed.

Sources: icmp(7), raw(7), ip(7), ipv6(7), tcp(7).
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
from typing import NamedTuple

from routed.model.prefix import Family
from routed.model.probe import ProbeKind, ProbeSettings
from routed.parent.socket_filters import (
    JUMP_IF_EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_HALF_AT_INDEX,
    LOAD_IP_HEADER_BYTES,
    RETURN,
    Instruction,
    attach_filter,
)

__all__ = ["EchoSocket", "connect_socket", "open_echo_socket"]

# linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h and asm-generic/socket.h; Python's socket
# module does not name them all.
_IP_FREEBIND, _IPV6_FREEBIND, _IP_BIND_ADDRESS_NO_PORT = 15, 78, 24
_SO_MARK = 36
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_ECHO_REPLY, _ECHO_REPLY_V6 = 0, 129
_IDENTIFIER_AT = 4
_RECEIVE_BUFFER_BYTES = 16 * 1024

_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


class EchoSocket(NamedTuple):
    """A socket for echo requests."""

    sock: socket.socket
    identifier: int
    has_ip_header: bool
    """Whether packets that are received begin with an IPv4 header."""


def open_echo_socket(settings: ProbeSettings, ifindex: int) -> EchoSocket:
    """Open the socket of an ICMP probe.

    Args:
        settings: the probe.
        ifindex: of its interface, which exists; 0 for any.

    Raises:
        OSError: EPERM or EACCES without permission for either kind of socket.
    """
    assert settings.target is not None  # an ICMP probe has one
    family = settings.target.family
    protocol = socket.IPPROTO_ICMP if family is Family.IPV4 else socket.IPPROTO_ICMPV6
    try:
        sock = socket.socket(_FAMILIES[family], socket.SOCK_DGRAM | _FLAGS, protocol)
        is_raw = False
    except PermissionError:
        sock = socket.socket(_FAMILIES[family], socket.SOCK_RAW | _FLAGS, protocol)
        is_raw = True
    try:
        identifier = 0
        if is_raw:
            identifier = secrets.randbelow(0x10000)
            _leave_replies_only(sock, family, identifier)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        _bind(sock, settings, ifindex)
        sock.connect(_target(settings, 0, ifindex))
        if not is_raw:
            identifier = sock.getsockname()[1]
    except BaseException:
        sock.close()
        raise
    return EchoSocket(sock, identifier, has_ip_header=is_raw and family is Family.IPV4)


def connect_socket(settings: ProbeSettings, ifindex: int) -> socket.socket:
    """Open a socket, and begin to connect it to the target of a TCP or DNS probe.

    Args:
        settings: the probe.
        ifindex: of its interface, which exists; 0 for any.

    Raises:
        ConnectionRefusedError: the target refused at once.
        OSError: it cannot be tried.
    """
    assert settings.target is not None  # a probe of these kinds has one
    kind = socket.SOCK_STREAM if settings.kind is ProbeKind.TCP else socket.SOCK_DGRAM
    sock = socket.socket(_FAMILIES[settings.target.family], kind | _FLAGS)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        if settings.kind is ProbeKind.DNS:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        _bind(sock, settings, ifindex)
        number = sock.connect_ex(_target(settings, settings.port, ifindex))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, settings: ProbeSettings, ifindex: int) -> None:
    """Bind to the interface, the mark and the address of a probe.

    The address need not exist yet: packets then fail until it does.
    """
    if settings.interface:
        device = settings.interface.encode() + b"\0"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    if settings.mark:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, settings.mark)
    source = settings.source
    if source is None:
        return
    if source.family is Family.IPV6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        sock.bind((str(source), 0, 0, ifindex if source.is_link_local else 0))
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind((str(source), 0))


def _target(
    settings: ProbeSettings, port: int, ifindex: int
) -> tuple[str, int] | tuple[str, int, int, int]:
    target = settings.target
    if target is not None and target.family is Family.IPV6:
        return (str(target), port, 0, ifindex if target.is_link_local else 0)
    return (str(target), port)


def _leave_replies_only(sock: socket.socket, family: Family, identifier: int) -> None:
    """Drop everything but echo replies with an identifier, in the kernel."""
    if family is Family.IPV4:
        refused = 0xFFFF_FFFF & ~(1 << _ECHO_REPLY)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", refused))
    else:
        words = [0xFFFF_FFFF] * 8
        words[_ECHO_REPLY_V6 // 32] &= ~(1 << _ECHO_REPLY_V6 % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *words))
    attach_filter(sock, _filter(family, identifier))


def _filter(family: Family, identifier: int) -> list[Instruction]:
    """Build the filter of a raw socket, whose packets begin with the IPv4 or the ICMPv6 header."""
    load: list[Instruction]
    if family is Family.IPV4:
        load = [(LOAD_IP_HEADER_BYTES, 0, 0, 0), (LOAD_HALF_AT_INDEX, 0, 0, _IDENTIFIER_AT)]
    else:
        load = [(LOAD_BYTE, 0, 0, 0), (JUMP_IF_EQUAL, 0, 3, _ECHO_REPLY_V6)]
        load += [(LOAD_HALF, 0, 0, _IDENTIFIER_AT)]
    return [
        *load,
        (JUMP_IF_EQUAL, 0, 1, identifier),
        (RETURN, 0, 0, 0xFFFF_FFFF),
        (RETURN, 0, 0, 0),
    ]
