"""The AF_NETLINK socket for requests: dumps and writes of routes, rules, nexthop objects. An edge.

Writing. Many route messages go in one send, followed by a message that only requests an
acknowledgement: the barrier. The kernel processes a whole send before the call returns, and answers
each message that it refuses. So once the barrier is acknowledged, a message without an answer has
succeeded. Sequence numbers show to which message an error belongs. (An acknowledgement for each
message costs 34 %, measured in peers.md section 1.)

Reading. Only a complete dump is valid: after NLM_F_DUMP_INTR (`DumpInterrupted`) and after an error
during the dump, which NLMSG_DONE carries (`NetlinkError`), the caller repeats it. Messages with
another sequence number are the rest of an earlier dump. NETLINK_GET_STRICT_CHK makes the kernel
filter by table.

Failure: `NetlinkError` when a request fails as a whole; the refusal of one message of many is a
result of that message.

Sources: netlink(7), rtnetlink(7); the synchronous send is netlink_rcv_skb of Linux.
"""

from __future__ import annotations

import bisect
import errno
import functools
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import trio

from routed.fib.links import codec as events
from routed.fib.links.device_routes import CONNECTED_PROTOCOLS, find_devices, is_refusing
from routed.fib.links.table import AddressEvent, LinkEvent
from routed.fib.nexthops.codec import (
    NEXTHOP_MESSAGES,
    OWN_GATEWAY,
    NextHopKind,
    NextHopWrite,
    SeenNextHop,
    decode_nexthop,
    encode_nexthop,
    encode_nexthop_dump,
)
from routed.fib.routes.bulk import BatchEncoder, DumpDecoder
from routed.fib.routes.codec import decode_end, encode_barrier, encode_route_dump
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.plan import FibBatch, KernelRefusal, Refusals
from routed.fib.routes.tables import SeenRoute
from routed.fib.rule_codec import (
    RULE_MESSAGES,
    SeenRule,
    decode_rule,
    encode_rule,
    encode_rule_dump,
)
from routed.model.prefix import Family
from routed.model.rule import PolicyRule
from routed.netlink.message import (
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkDecodeError,
    NetlinkMessage,
    decode_error,
)
from routed.netlink.socket import (
    RECEIVE_BYTES,
    DumpInterrupted,
    NetlinkError,
    NetlinkSocket,
    raise_overrun,
)

__all__ = ["RequestSocket"]

_REQUEST_BUFFER_BYTES = 4 * 1024 * 1024
"""Receive buffer: room for an error answer to every message of a batch."""

_SEQUENCE_LIMIT = 1 << 31
"""Limit at which sequence numbers restart: well within 32 bits, so that no buffer wraps."""

DUMP_BURST = 4
"""Pages of a dump that are handled before other tasks get a turn: about 2 ms of work."""

_NO_TABLE = frozenset({errno.ENOENT})
"""A table that does not exist yet is empty."""

_NO_OBJECTS = frozenset({errno.EOPNOTSUPP, errno.EINVAL})
"""Kernels before Linux 5.3 have no nexthop objects."""

_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
"""A kernel without IPv6 (ipv6.disable=1), or without CONFIG_IP_MULTIPLE_TABLES."""


SEND_BYTES_MAX = 64 * 1024
"""Most bytes of one send, a third of the default buffer; 400 routes of one next hop are 25 kB."""


class RequestSocket(NetlinkSocket):
    """Dumps and writes, one at a time: a socket is used by one task."""

    def __init__(self, protocol: int) -> None:
        """Open the socket.

        Args:
            protocol: the rtm_protocol of everything that is written.
        """
        super().__init__(_REQUEST_BUFFER_BYTES, ())
        self._protocol = protocol
        self._sequence = 0
        self._encoder = BatchEncoder(protocol)

    def _next_sequence(self) -> int:
        self._sequence = self._sequence + 1 if self._sequence < _SEQUENCE_LIMIT else 1
        return self._sequence

    def apply(self, batches: Sequence[FibBatch]) -> list[Refusals]:
        """Send batches in one buffer, or in several if routes have many next hops, and read the
        refusals.

        Blocks while the kernel works, about 4 us per route. No other task runs meanwhile, so the
        state on which the plan is based is unchanged when the result is recorded.

        Returns:
            The refusals of each batch.

        Raises:
            NetlinkError: the answers cannot be decoded; the kernel state must be read again.
            OSError: a buffer was not sent.
        """
        parts, starts, sequence = [], [], self._sequence + 1
        if sequence > _SEQUENCE_LIMIT:
            sequence = 1
        for batch in batches:
            starts.append(sequence)
            parts.append(self._encoder.encode(batch, sequence))
            sequence += len(batch.keys)
        if sum(map(len, parts)) > SEND_BYTES_MAX and sequence - starts[0] > 1:
            return self._apply_halves(batches)
        self._sequence = sequence
        parts.append(encode_barrier(sequence))
        self._raw.send(b"".join(parts))
        refusals: list[Refusals] = [{} for _ in batches]
        for answer in self._answers_before(sequence):
            which = bisect.bisect_right(starts, answer.sequence) - 1
            if which >= 0:
                refusals[which][answer.sequence - starts[which]] = KernelRefusal(
                    *_decode_error(answer)
                )
        return refusals

    def _apply_halves(self, batches: Sequence[FibBatch]) -> list[Refusals]:
        """Apply each half of the batches: the kernel always refuses a send that is longer than
        the socket's buffer."""
        if len(batches) > 1:
            middle = len(batches) // 2
            return self.apply(batches[:middle]) + self.apply(batches[middle:])
        (batch,) = batches
        middle = len(batch.keys) // 2
        first, second = (
            batch._replace(keys=batch.keys[part], values=batch.values[part])
            for part in (slice(middle), slice(middle, None))
        )
        (before,), (after,) = self.apply([first]), self.apply([second])
        return [before | {middle + at: outcome for at, outcome in after.items()}]

    def _answers_before(self, barrier: int) -> Iterator[NetlinkMessage]:
        """Iterate over the errors that the kernel has answered, up to the barrier's answer."""
        while messages := self._receive_waiting():
            for message in messages:
                if message.type != NLMSG_ERROR:
                    continue
                if message.sequence == barrier:
                    return
                yield message
        raise NetlinkError("the kernel did not answer")

    async def dump_routes(
        self,
        table_id: int,
        family: Family,
        receive: Callable[[SeenRoute, Sequence[int]], None],
        protocol: int = 0,
    ) -> None:
        """Read one table of one family.

        Args:
            table_id: the table.
            family: the family of the routes.
            receive: called with routes that share everything except the prefix; its calls are
                invalid if an exception follows.
            protocol: rtm_protocol by which the kernel selects the routes; 0 for all.

        Raises:
            DumpInterrupted: the dump must be repeated.
            NetlinkError: the kernel refused.

        Cost: 0.7 us per route inside the kernel and 0.1 us here (0.4 us without the C extension);
        the event loop gets a turn every DUMP_BURST pages.
        """
        sequence = self._next_sequence()
        decoder = DumpDecoder(family, sequence, self._encoder.recording(receive))
        self._raw.send(encode_route_dump(family, table_id, sequence, protocol))
        pages = 0
        while decoder.end is None:
            # The kernel makes the next page when this one is received: it need not be awaited.
            page = self._receive_page()
            if not page:
                await trio.lowlevel.wait_readable(self._raw)
                continue
            try:
                decoder.page(page)
            except NetlinkDecodeError as error:
                raise NetlinkError(str(error)) from error
            pages += 1
            if pages % DUMP_BURST == 0:
                await trio.lowlevel.checkpoint()
        _check_end(decoder.end, _NO_TABLE)
        if decoder.is_interrupted:
            raise DumpInterrupted("the table changed under the dump")

    async def dump_device_routes(self, tables: Iterable[int]) -> list[KernelRoute]:
        """Read the routes of both families that make subnets connected (`device_routes.py`).

        Args:
            tables: ids of the tables that may have them.

        Raises:
            DumpInterrupted, NetlinkError, OSError: as `dump_routes`.

        Cost: the kernel walks each table once for each of CONNECTED_PROTOCOLS, and returns no
        routes of other protocols.
        """
        found: list[KernelRoute] = []

        def receive(seen: SeenRoute, keys: Sequence[int]) -> None:
            next_hops = seen.value.next_hops
            if not next_hops or next_hops[0].via is None:
                routes = (KernelRoute(seen.table_key.key(key), *seen[1:]) for key in keys)
                found.extend(route for route in routes if find_devices(route) or is_refusing(route))

        for table_id in sorted(tables):
            for family in Family:
                for protocol in CONNECTED_PROTOCOLS:
                    await self.dump_routes(table_id, family, receive, protocol)
        return found

    def _receive_page(self) -> bytes:
        try:
            received = self._raw.recvmsg(RECEIVE_BYTES, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise_overrun(error)
            raise
        source_port, _groups = cast("tuple[int, int]", received[3])
        return received[0] if source_port == 0 else b""

    async def dump_links(self) -> tuple[list[LinkEvent], list[AddressEvent]]:
        """Read every link and every address.

        Raises:
            DumpInterrupted: the dump must be repeated.
            NetlinkError: the kernel refused.
        """
        try:
            links = [
                events.decode_link(message)
                for message in await self._dump(events.encode_link_dump)
                if message.type in events.LINK_MESSAGES
            ]
            addresses = [
                events.decode_address(message)
                for message in await self._dump(events.encode_address_dump)
                if message.type in events.ADDRESS_MESSAGES
            ]
        except NetlinkDecodeError as error:
            raise NetlinkError(str(error)) from error
        return (
            [link for link in links if link is not None],
            [address for address in addresses if address is not None],
        )

    async def dump_rules(self) -> list[SeenRule]:
        """Read all policy rules of both families that `PolicyRule` can express, not the kernel's.

        A kernel without a family, or without policy rules, has none.

        Raises:
            DumpInterrupted: the dump must be repeated.
            NetlinkError: the kernel refused.
        """
        found = []
        for family in Family:
            encode = functools.partial(encode_rule_dump, family)
            for message in await self._dump(encode, _NO_SUCH_FAMILY):
                try:
                    seen = decode_rule(message) if message.type in RULE_MESSAGES else None
                except NetlinkDecodeError:
                    seen = None  # of a kind that this version cannot decode: it is not ours
                if seen is not None:
                    found.append(seen)
        return found

    def ask_link(self, ifindex: int) -> NetlinkMessage | None:
        """Read the current state of one link; None if there is no such link.

        Cost: 16 us.

        Raises:
            NetlinkError: the kernel refused, or the answer cannot be decoded.
            OSError: the request was not sent.
        """
        sequence = self._next_sequence()
        self._raw.send(events.encode_link_request(ifindex, sequence))
        while messages := self._receive_waiting():
            for message in messages:
                if message.sequence != sequence:
                    continue
                if message.type in events.LINK_MESSAGES:
                    return message
                if message.type == NLMSG_ERROR:
                    number, detail = _decode_error(message)
                    if number == errno.ENODEV:
                        return None
                    raise NetlinkError(f"link: {detail or errno.errorcode.get(number)}")
        raise NetlinkError("the kernel did not answer")

    def add_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Add a policy rule of ours. Returns errno 0 if it is in the kernel now.

        Raises:
            NetlinkError: the answer cannot be decoded.
            OSError: the request was not sent.
        """
        return self._request(
            lambda sequence: encode_rule(rule, self._protocol, sequence, is_removal=False)
        )

    def remove_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Remove a policy rule of ours; raises as `add_rule`."""
        return self._request(
            lambda sequence: encode_rule(rule, self._protocol, sequence, is_removal=True)
        )

    def dump_nexthops(self) -> list[SeenNextHop] | None:
        """Read every nexthop object of any owner; None if the kernel has no nexthop objects.

        Blocks: the kernel fills a page before the send returns, and the next one whenever one is
        received. So nothing that this process does can intervene.

        Raises:
            DumpInterrupted: the dump must be repeated.
            NetlinkError: the kernel refused.
        """
        sequence = self._next_sequence()
        self._raw.send(encode_nexthop_dump(sequence))
        found: list[SeenNextHop] = []
        is_interrupted = False
        while messages := self._receive_waiting():
            for message in messages:
                if message.sequence != sequence:
                    continue
                is_interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.type in (NLMSG_DONE, NLMSG_ERROR):
                    if not _check_end(message, _NO_OBJECTS):
                        return None
                    if is_interrupted:
                        raise DumpInterrupted("nexthop objects changed under the dump")
                    return found
                if message.type in NEXTHOP_MESSAGES:
                    found.append(_decode_nexthop(message))
        raise NetlinkError("the kernel did not answer")

    def write_nexthops(self, writes: Sequence[NextHopWrite]) -> list[KernelRefusal]:
        """Carry out operations on nexthop objects, in order; errno 0 means success.

        An IPv4 gateway that is an address of this host is refused here with EADDRINUSE: the kernel
        would accept it and send packets out on the link as if there were no gateway (it refuses an
        IPv6 one by itself). An object that existed before is removed then, and its routes with it.

        Blocks while the kernel works: 10 us for each object, and longer to remove an object that
        routes use, because the kernel removes them, too.

        Raises:
            NetlinkError: the answers cannot be decoded.
            OSError: a request was not sent.
        """
        return [self._write_nexthop(write) for write in writes]

    def _write_nexthop(self, write: NextHopWrite) -> KernelRefusal:
        echoes: list[NetlinkMessage] = []
        outcome = self._request(
            functools.partial(encode_nexthop, write, self._protocol), echoes.append
        )
        for echo in echoes:
            if echo.type in NEXTHOP_MESSAGES and _decode_nexthop(echo).is_gateway_unused:
                removal = write._replace(kind=NextHopKind.REMOVE)
                self._request(functools.partial(encode_nexthop, removal, self._protocol))
                return OWN_GATEWAY
        return outcome

    def _request(
        self,
        encode: Callable[[int], bytes],
        on_echo: Callable[[NetlinkMessage], None] | None = None,
    ) -> KernelRefusal:
        """Send one acknowledged request; the kernel has answered when the send returns."""
        sequence = self._next_sequence()
        self._raw.send(encode(sequence))
        while messages := self._receive_waiting():
            for message in messages:
                if message.sequence != sequence:
                    continue
                if message.type == NLMSG_ERROR:
                    return KernelRefusal(*_decode_error(message))
                if on_echo is not None:
                    on_echo(message)
        raise NetlinkError("the kernel did not answer")

    async def _dump(
        self, encode: Callable[[int], bytes], absent: frozenset[int] = frozenset()
    ) -> list[NetlinkMessage]:
        """Read the messages of a dump; none if the kernel answers with an error of `absent`."""
        sequence = self._next_sequence()
        await self._socket.send(encode(sequence))
        found: list[NetlinkMessage] = []
        is_interrupted = False
        while True:
            for message in await self._receive():
                if message.sequence != sequence:
                    continue  # the rest of a dump that was cancelled
                is_interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.type in (NLMSG_DONE, NLMSG_ERROR):
                    if not _check_end(message, _NO_TABLE | absent):
                        return []
                    if is_interrupted:
                        raise DumpInterrupted("the table changed under the dump")
                    return found
                found.append(message)


def _check_end(end: NetlinkMessage, absent: frozenset[int]) -> bool:
    """Whether a dump is complete; False if the kernel has nothing of that kind.

    Raises:
        NetlinkError: the kernel refused, or failed during the dump, which is therefore invalid.
    """
    try:
        number, detail = decode_end(end)
    except NetlinkDecodeError as error:
        raise NetlinkError(str(error)) from error
    if number and number not in absent:
        raise NetlinkError(f"dump refused: {detail or errno.errorcode.get(number)}")
    return not number


def _decode_nexthop(message: NetlinkMessage) -> SeenNextHop:
    try:
        return decode_nexthop(message)
    except NetlinkDecodeError as error:
        raise NetlinkError(str(error)) from error


def _decode_error(message: NetlinkMessage) -> tuple[int, str]:
    try:
        return decode_error(message)
    except NetlinkDecodeError as error:
        raise NetlinkError(str(error)) from error
