"""Dumps of the routes, nexthop objects, rules and addresses of this network namespace. An edge.

Synchronous, without privileges, and without an event loop: nothing else runs.

Failure: `NetlinkError` if the kernel refuses, or if its tables change during DUMPS_MAX dumps in a
row; `OSError` if there is no netlink socket.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Callable, Iterator
from typing import Self

from routed.fib.links.codec import ADDRESS_MESSAGES, decode_address, encode_address_dump
from routed.fib.nexthops.codec import (
    NEXTHOP_MESSAGES,
    SeenNextHop,
    decode_nexthop,
    encode_nexthop_dump,
)
from routed.fib.rule_codec import RULE_MESSAGES, encode_rule_dump
from routed.model.link import InterfaceAddress
from routed.model.prefix import Family
from routed.netlink.message import (
    ERRNO,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    NetlinkDecodeError,
    NetlinkMessage,
    decode_error,
    pack_message,
    split_messages,
)
from routed.netlink.socket import DumpInterrupted, NetlinkError

__all__ = ["KernelReader"]

DUMPS_MAX = 5
"""Dumps of one table in a row that may be interrupted by a change."""
_RECEIVE_BYTES = 1 << 20
_ABSENT = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL})
"""A kernel without IPv6, without policy rules, or without nexthop objects."""


class KernelReader:
    """A netlink socket for dumps. A context manager."""

    def __init__(self) -> None:
        """Open the socket.

        Raises:
            OSError: there is none.
        """
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def routes(self) -> list[bytes]:
        """Read the payloads of all route messages, of all tables of both families."""
        return [message.payload for family in Family for message in self._dump_routes(family)]

    def _dump_routes(self, family: Family) -> list[NetlinkMessage]:
        header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        messages = self._dump(
            lambda sequence: pack_message(
                RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, header
            )
        )
        return [message for message in messages if message.type == RTM_NEWROUTE]

    def rules(self) -> list[NetlinkMessage]:
        """Read the rules of both families."""
        encoders = [functools.partial(encode_rule_dump, family) for family in Family]
        found = [message for encode in encoders for message in self._dump(encode)]
        return [message for message in found if message.type in RULE_MESSAGES]

    def nexthops(self) -> list[SeenNextHop]:
        """Read the nexthop objects of all owners."""
        messages = self._dump(encode_nexthop_dump)
        found = (decode_nexthop(each) for each in messages if each.type in NEXTHOP_MESSAGES)
        return [seen for seen in found if seen is not None]

    def addresses(self) -> list[tuple[int, InterfaceAddress]]:
        """Read the addresses of all links, each with the index of its link."""
        messages = self._dump(encode_address_dump)
        found = (decode_address(each) for each in messages if each.type in ADDRESS_MESSAGES)
        return [(event.ifindex, event.address) for event in found if event is not None]

    def _dump(self, encode: Callable[[int], bytes]) -> list[NetlinkMessage]:
        for _ in range(DUMPS_MAX):
            try:
                return list(self._answers(encode))
            except DumpInterrupted:
                continue
            except NetlinkDecodeError as error:
                raise NetlinkError(f"the kernel's answer cannot be decoded: {error}") from error
        raise NetlinkError(f"the kernel's tables changed during {DUMPS_MAX} dumps: try again")

    def _answers(self, encode: Callable[[int], bytes]) -> Iterator[NetlinkMessage]:
        self._sequence += 1
        self._socket.send(encode(self._sequence))
        is_interrupted = False
        while True:
            for message in split_messages(self._socket.recv(_RECEIVE_BYTES)):
                if message.sequence != self._sequence:
                    continue  # of a dump that was not read to its end
                is_interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.type in (NLMSG_ERROR, NLMSG_DONE):
                    _check_end(message)
                    if is_interrupted:
                        raise DumpInterrupted("the table changed during the dump")
                    return
                yield message


def _check_end(message: NetlinkMessage) -> None:
    """Check the last message of a dump: the number of an error, or 0 after a complete dump.

    Raises:
        NetlinkError: the kernel refused the dump, or ended it early.
    """
    number, detail = 0, ""
    if message.type == NLMSG_ERROR:
        number, detail = decode_error(message)
    elif len(message.payload) >= ERRNO.size:
        number = -ERRNO.unpack_from(message.payload)[0]
    if number and number not in _ABSENT:
        raise NetlinkError(detail or os.strerror(number))
