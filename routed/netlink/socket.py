"""AF_NETLINK sockets under trio: their common part, and the socket for notifications. An edge.

Requests and notifications use separate sockets, so that a flood of notifications cannot displace an
answer from its buffer. Both get a large receive buffer by SO_RCVBUFFORCE (which CAP_NET_ADMIN
allows past rmem_max). Our own writes would echo on the event socket, a million of them when a
million routes are written; a socket filter drops them inside the kernel, by the port id of the
request socket (`request_socket.py`). Their outcome is known from the answers, and an old echo would
be misleading.

Failure: `Overrun` when the kernel dropped notifications (ENOBUFS): the caller must read everything
again. Messages that do not come from the kernel (port id not 0) are ignored.

Sources: netlink(7), rtnetlink(7); the synchronous send is netlink_rcv_skb of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self, cast

import trio

from routed.netlink.message import NetlinkDecodeError, NetlinkMessage, split_messages

__all__ = [
    "DUMP_ATTEMPTS",
    "RECEIVE_BYTES",
    "DumpInterrupted",
    "EventSocket",
    "NetlinkError",
    "NetlinkSocket",
    "Overrun",
    "raise_overrun",
]

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33

RECEIVE_BYTES = 64 * 1024
"""Size of a receive: the kernel fills at most 32 KiB per datagram of a dump; a notification is far
smaller."""
_EVENT_BUFFER_BYTES = 16 * 1024 * 1024

DUMP_ATTEMPTS = 5
"""Attempts at a dump that is interrupted before it counts as failed."""

EVENT_BURST = 1000
"""Notifications received at once before other tasks get a turn: about 3 ms of work."""

_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV4_ROUTE = 1, 5, 7
_RTNLGRP_IPV6_IFADDR, _RTNLGRP_IPV6_ROUTE = 9, 11
_RTNLGRP_IPV4_RULE, _RTNLGRP_IPV6_RULE = 8, 19
_RTNLGRP_NEXTHOP = 32
_EVENT_GROUPS = (
    _RTNLGRP_LINK,
    _RTNLGRP_IPV4_IFADDR,
    _RTNLGRP_IPV4_ROUTE,
    _RTNLGRP_IPV6_IFADDR,
    _RTNLGRP_IPV6_ROUTE,
    _RTNLGRP_IPV4_RULE,
    _RTNLGRP_IPV6_RULE,
    _RTNLGRP_NEXTHOP,
)


class NetlinkError(Exception):
    """The kernel refused a whole request, or its answer cannot be decoded."""


class DumpInterrupted(NetlinkError):
    """The table changed during a dump, which is therefore not usable."""


class Overrun(NetlinkError):
    """Notifications were lost."""


class NetlinkSocket:
    """The common part of both sockets: buffers, options and receiving."""

    def __init__(self, receive_buffer_bytes: int, groups: Sequence[int]) -> None:
        raw = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
        except PermissionError:  # inside a user namespace: the unprivileged maximum
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            _switch_on(raw, option)
        raw.bind((0, sum(1 << (group - 1) for group in groups)))
        self.port_id = int(raw.getsockname()[0])
        self._raw = raw
        self._socket = trio.socket.from_stdlib_socket(raw)

    async def _receive(self) -> list[NetlinkMessage]:
        """Wait for a datagram from the kernel. Returns its messages.

        Raises:
            Overrun: the kernel dropped notifications.
            NetlinkError: the bytes are not netlink messages.
        """
        while True:
            try:
                received = await self._socket.recvmsg(RECEIVE_BYTES)
            except OSError as error:
                raise_overrun(error)
                raise
            messages = _accept(received[0], received[2], received[3])
            if messages:
                return messages

    def _receive_waiting(self) -> list[NetlinkMessage]:
        """Receive a datagram that has arrived already. Returns no messages if there is none.

        Raises:
            Overrun, NetlinkError: as `_receive`.
        """
        try:
            received = self._raw.recvmsg(RECEIVE_BYTES, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError as error:
            raise_overrun(error)
            raise
        return _accept(received[0], received[2], received[3])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EventSocket(NetlinkSocket):
    """Notifications of links, addresses, routes, rules and nexthop objects, without our echoes."""

    def __init__(
        self,
        ignored_port_ids: Sequence[int],
        receive_buffer_bytes: int = _EVENT_BUFFER_BYTES,
    ) -> None:
        """Subscribe.

        Args:
            ignored_port_ids: port ids of request sockets, whose echoes are dropped; at most 200.
            receive_buffer_bytes: size of the queue beyond which the kernel drops notifications.
        """
        super().__init__(receive_buffer_bytes, _EVENT_GROUPS)
        _ignore_ports(self._raw, ignored_port_ids)

    async def receive(self) -> list[NetlinkMessage]:
        """Wait for notifications and receive all that have arrived, up to EVENT_BURST datagrams.

        Raises:
            Overrun: notifications were lost; everything must be read again.
            NetlinkError: the bytes are not netlink messages; the same applies.
        """
        messages = await self._receive()
        for _ in range(EVENT_BURST):
            more = self._receive_waiting()
            if not more:
                break
            messages += more
        return messages


def _switch_on(raw: socket.socket, option: int) -> None:
    """Switch an option on if the kernel has it.

    Without NETLINK_EXT_ACK (Linux 4.12) refusals have no text. Without NETLINK_GET_STRICT_CHK
    (4.20) a dump includes other tables; the comparison filters them by number.
    """
    try:
        raw.setsockopt(_SOL_NETLINK, option, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def raise_overrun(error: OSError) -> None:
    if error.errno == errno.ENOBUFS:
        raise Overrun("the kernel dropped messages (ENOBUFS)") from error


def _accept(buffer: bytes, flags: int, source: object) -> list[NetlinkMessage]:
    """Decode one datagram, if the kernel sent it and it is complete."""
    source_port, _groups = cast("tuple[int, int]", source)
    if source_port != 0:
        return []  # only the kernel has port 0; any process can send to a netlink port
    if flags & socket.MSG_TRUNC:
        raise Overrun("a message was cut off")
    try:
        return list(split_messages(buffer))
    except NetlinkDecodeError as error:
        raise NetlinkError(str(error)) from error


def _ignore_ports(listener: socket.socket, port_ids: Sequence[int]) -> None:
    """Drop every message that was caused by one of these ports, before it uses buffer space.

    A classic BPF program, because it needs no privilege and no map:

        load the word at 12 (nlmsg_pid; loads are big-endian, netlink is in host order)
        equal to a port id -> the last instruction, which takes 0 bytes, that is, drops
        otherwise accept the whole message

    Source: socket(7), SO_ATTACH_FILTER; linux/filter.h; netlink_broadcast runs the filter.
    """
    load_word, jump_if_equal, take = 0x20, 0x15, 0x06
    instructions = [(load_word, 0, 0, 12)]
    for position, port_id in enumerate(port_ids):
        (as_loaded,) = struct.unpack(">I", struct.pack("=I", port_id))
        instructions.append((jump_if_equal, len(port_ids) - position, 0, as_loaded))
    instructions += [(take, 0, 0, 0xFFFF_FFFF), (take, 0, 0, 0)]
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    code = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
