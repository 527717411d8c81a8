"""Transmission of all messages: heartbeats, DATA on both streams, retransmissions, ACKs.

`serve_link` sends what is due on one link and what windows allow, most urgent first: heartbeat,
updates for all, then for each neighbor its retransmissions, requests, table and ACK. The content of
updates is decided elsewhere (`advertisements`).

The table version is kept here. It lasts for a whole boot, so that later messages can be recognised
as newer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from routed.model.prefix import Address, Family, Prefix
from routed.model.seqno import next_seqno
from routed.nup.advertisements import Advertisements
from routed.nup.events import AdjacencyState, SendDatagram, TraceCode
from routed.nup.link.adjacency import REST_INTERVALS, Adjacency, timestamp_us
from routed.nup.link.state import Link, Neighbor
from routed.nup.shared_state import SharedState
from routed.nup.transport.advertise import UpdateBatch, pop_fitting
from routed.nup.transport.reliable import OutgoingData
from routed.nup.wire.message import (
    CONTENT_MAX_BYTES,
    HEADER_BYTES,
    Ack,
    EndOfTable,
    HeaderFlag,
    HeartbeatRequest,
    Hello,
    LinkAddress,
    MessageType,
    Receiver,
    Reception,
    RouteUpdate,
    Stream,
    TableVersion,
    Tlv,
    encode_tlvs,
    tlv_bytes,
)

__all__ = ["MAX_LISTED_ADDRESSES", "Transmitter"]

HEARTBEAT_JITTER = 0.25
"""Part of the interval by which a heartbeat may be sent early, and never late (RFC 5880 section
6.8.7): with jitter both ways, two heartbeats lost in a row would end an adjacency with a multiplier
of 3 every other time."""
REST_JITTER = 0.15
"""Hello intervals by which a heartbeat may be early at rest, when a neighbor that misses one asks
for it."""
TRIGGERED_JITTER_S = 0.004
TRIGGERED_GAP_S = 0.01
"""The least time between two heartbeats, whatever triggers them."""
TRIGGERED_AT_ONCE = 32
TRIGGERED_REFILL_INTERVALS, TRIGGERED_REFILL_MAX_S = 1 / 8, 0.125
"""Token bucket of triggered heartbeats on a link: TRIGGERED_AT_ONCE at once, then one in each such
part of the hello interval. An unauthenticated datagram of 40 bytes can trigger one, which lists
every neighbor on the link, on each router there."""
ANSWER_INTERVALS = 1 / 8
"""HEARTBEAT_REQUESTs on a link, from any sender, are answered once in this part of the hello
interval. A neighbor asks REQUESTS times between LATE_INTERVALS and the end of its dead interval, so
earlier requests are another neighbor's, and one heartbeat to the group answers both."""
MAX_LISTED_ADDRESSES = 16

Advertise: TypeAlias = Callable[[Prefix, int], RouteUpdate | None]


class Transmitter:
    """The sending side of one instance."""

    def __init__(self, state: SharedState) -> None:
        self._sender = state.own
        self._rng = state.rng
        self._log = state.log
        self._hold = state.hold
        self._wait = state.wait
        self._advertise: Advertise = Advertisements(state).lookup
        self._table_version = 0
        self._drawn = -math.inf, 0.0
        """A moment, and the random number drawn for it."""

    def send_control(
        self, link: Link, notice: Tlv, now: float, destination: Address | None = None
    ) -> None:
        """Send a notice about ourselves to all neighbors on a link, or to one address there."""
        if destination is None:  # a number used for one neighbor would be a gap to all others
            link.control_sequence = next_seqno(link.control_sequence)
        sequence = link.control_sequence
        self._send(link, destination, MessageType.CONTROL, HeaderFlag(0), sequence, (notice,), now)

    def serve_link(self, link: Link, now: float) -> None:
        """Send what one link has to send."""
        if now >= link.heartbeat_due:
            self._send_heartbeat(link, now)
        flush_at = link.advertiser.flush_at
        if flush_at is not None and now >= flush_at:
            self._flush_updates(link, now)
        for neighbor in link.pop_service_queue():
            if neighbor.exchanges_routes:
                self._serve_neighbor(link, neighbor, now)
            link.set_timer(neighbor)

    def _serve_neighbor(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Send retransmissions first, then requests, then the rest of the table, then the ACK."""
        exchange = neighbor.exchange
        exchange.sender.expire(now)
        for transmission in exchange.sender.transmissions(now):
            self._transmit(
                link, neighbor.adjacency.address, transmission.message, now, is_repeated=True
            )
        while exchange.requests and exchange.sender.has_room:
            self.send_unicast(link, neighbor, tuple(pop_fitting(exchange.requests)), now)
        self._continue_dump(link, neighbor, now)
        self._ask_for_heartbeat(link, neighbor.adjacency, now)
        ack_due_at = exchange.receiver.ack_due_at
        if ack_due_at is not None and now >= ack_due_at:
            acks = exchange.receiver.acks(
                neighbor.key.router_id, neighbor.adjacency.neighbor_session
            )
            destination = neighbor.adjacency.address
            self._send(link, destination, MessageType.ACK, HeaderFlag(0), 0, tuple(acks), now)

    def _ask_for_heartbeat(self, link: Link, adjacency: Adjacency, now: float) -> None:
        """Ask a neighbor whose heartbeat is late for one."""
        if adjacency.ask_at is not None and now >= adjacency.ask_at:
            adjacency.asked_at = now
            self._log.count(TraceCode.HEARTBEAT_REQUESTED)
            self.send_control(link, HeartbeatRequest(), now, adjacency.address)

    def _continue_dump(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Send as much of the table as the window allows, and END_OF_TABLE after it."""
        exchange = neighbor.exchange
        if not self._may_dump(link, neighbor, now):
            return
        while exchange.dump is not None and exchange.sender.has_room:
            batch = exchange.dump.pop_batch(
                lambda prefix: self._advertise(prefix, link.settings.ifindex), self._wait
            )
            if batch is not None:
                link.advertiser.advertised.update([update.prefix for update in batch.updates])
                self.send_unicast(link, neighbor, (), now, batch.packed)
            elif exchange.dump.is_sent:
                end = EndOfTable(exchange.dump.count)
                exchange.dump = None
                exchange.end_sequence = self.send_unicast(link, neighbor, (end,), now)
            else:
                return  # the next prefix waits for forwarding

    def _may_dump(self, link: Link, neighbor: Neighbor, now: float) -> bool:
        """Return whether a table dump may go on; one that would begin too soon waits."""
        exchange, router_id = neighbor.exchange, neighbor.key.router_id
        if exchange.dump_at is None:
            return True
        if now < exchange.dump_at:
            return False
        limits = link.memory.dump_limits
        open_at = limits.open_at(router_id)
        if now < open_at:
            exchange.dump_at = open_at
            self._log.count(TraceCode.TABLE_DELAYED)
            return False
        exchange.dump_at = None
        limits.record_begun(router_id, now)
        return True

    def _flush_updates(self, link: Link, now: float) -> None:
        """Send the dirty prefixes, as far as windows allow."""
        ifindex = link.settings.ifindex
        while link.has_room(now):
            batch = link.advertiser.pop_batch(
                lambda prefix: self._advertise(prefix, ifindex),
                self._sender.router_id,
                now,
                self._wait,
            )
            if batch is None:
                return
            self._send_multicast(link, batch, now)

    def _send(
        self,
        link: Link,
        destination: Address | None,
        message_type: MessageType,
        flags: HeaderFlag,
        sequence: int,
        tlvs: tuple[Tlv, ...],
        now: float,
    ) -> None:
        payload = encode_tlvs(self._sender, tlvs)
        self._emit(link, destination, message_type, flags, sequence, payload, now)

    def _emit(
        self,
        link: Link,
        destination: Address | None,
        message_type: MessageType,
        flags: HeaderFlag,
        sequence: int,
        payload: bytes,
        now: float,
    ) -> None:
        """Sign and send. Each sending has a signature and a counter of its own."""
        source = link.settings.local_address
        data = link.guard.seal(
            message_type, flags, sequence, timestamp_us(now), payload, source, now
        )
        if data is None:
            self._log.count(TraceCode.SILENCED)
            return
        group = link.settings.unicast_neighbors or (None,)
        for address in group if destination is None else (destination,):
            self._log.emit(SendDatagram(link.settings.ifindex, address, data, source))

    def _send_multicast(self, link: Link, batch: UpdateBatch, now: float) -> None:
        self._table_version += 1
        link.multicast_sequence = next_seqno(link.multicast_sequence)
        message = OutgoingData(
            stream=Stream.MULTICAST,
            sequence=link.multicast_sequence,
            payload=encode_tlvs(self._sender, (TableVersion(self._table_version),)) + batch.packed,
            version=self._table_version,
            retracted=batch.retracted,
        )
        self._hold.record_sent(batch.retracted, link.settings.ifindex, message.version)
        for neighbor in link.listeners():
            neighbor.exchange.sender.owe(message, now)
            link.queue_service(neighbor)
        self._transmit(link, None, message, now, is_repeated=False)

    def send_unicast(
        self,
        link: Link,
        neighbor: Neighbor,
        content: tuple[Tlv, ...],
        now: float,
        packed: bytes = b"",
    ) -> int:
        """Send TLVs on the unicast stream, and more that are packed. Returns the sequence used."""
        self._table_version += 1
        adjacency, sender = neighbor.adjacency, neighbor.exchange.sender
        receiver = Receiver(adjacency.router_id, adjacency.neighbor_session)
        tlvs = (receiver, TableVersion(self._table_version), *content)
        message = OutgoingData(
            stream=Stream.UNICAST,
            sequence=sender.next_unicast_sequence(),
            payload=encode_tlvs(self._sender, tlvs) + packed,
            version=self._table_version,
        )
        sender.owe(message, now)
        self._transmit(link, adjacency.address, message, now, is_repeated=False)
        return message.sequence

    def _transmit(
        self,
        link: Link,
        destination: Address | None,
        message: OutgoingData,
        now: float,
        *,
        is_repeated: bool,
    ) -> None:
        flags = HeaderFlag.UNICAST_STREAM if message.stream is Stream.UNICAST else HeaderFlag(0)
        if is_repeated:
            flags |= HeaderFlag.RETRANSMISSION
        self._emit(
            link, destination, MessageType.DATA, flags, message.sequence, message.payload, now
        )

    def hasten_heartbeat(self, link: Link, now: float) -> None:
        """Send the next heartbeat soon because it has something new, within the rate limit."""
        soon = now + self._rng.uniform(0, TRIGGERED_JITTER_S)
        if link.heartbeat_at is not None:
            soon = max(soon, link.heartbeat_at + TRIGGERED_GAP_S)
        soon = max(soon, link.hastened_until - (TRIGGERED_AT_ONCE - 1) * _refill_s(link))
        self._hasten(link, soon)

    def answer_heartbeat_request(self, link: Link, now: float) -> None:
        """Answer a neighbor's request with a heartbeat to all, within the rate limit."""
        soon = now + self._rng.uniform(0, TRIGGERED_JITTER_S)
        soon = max(soon, link.answer_open_at)
        if soon < link.heartbeat_due:  # otherwise the next one answers in time
            link.answer_open_at = soon + ANSWER_INTERVALS * link.settings.hello_interval_s
            self._hasten(link, soon)

    def _hasten(self, link: Link, soon: float) -> None:
        if soon < link.heartbeat_due:
            link.heartbeat_due = soon
            link.is_hastened = True
        link.touch()

    def _send_heartbeat(self, link: Link, now: float) -> None:
        """Send a heartbeat that lists the neighbors heard, in as few datagrams as possible."""
        limit, jitter = (
            (REST_INTERVALS, REST_JITTER) if link.is_at_rest else (1.0, HEARTBEAT_JITTER)
        )
        interval_s = link.settings.hello_interval_s
        if link.is_hastened:
            link.is_hastened = False
            link.hastened_until = max(link.hastened_until, now) + _refill_s(link)
        link.heartbeat_at = now
        link.heartbeat_due = now + interval_s * (limit - jitter * self._chance(now))
        link.heartbeat_open_at = now + interval_s * (limit - jitter)
        heard: dict[Address, list[Tlv]] = {}  # by router: a page has all entries of one, or none
        for key, neighbor in link.neighbors.items():
            if neighbor.adjacency.state is AdjacencyState.DOWN or link.suppressed_for(
                neighbor, now
            ):
                continue
            heard.setdefault(key.router_id, []).extend(_heard(neighbor.adjacency, now))
        fixed = self._heartbeat_head(link)
        room_bytes = CONTENT_MAX_BYTES - HEADER_BYTES - len(encode_tlvs(self._sender, fixed))
        pages = _paginate(heard.values(), room_bytes)
        flags = HeaderFlag.PARTIAL_LIST if len(pages) > 1 else HeaderFlag(0)
        if link.is_converging:
            flags |= HeaderFlag.CONVERGING
        for page in pages:
            used_bytes = sum(len(tlv_bytes(tlv)) for tlv in page)
            acks = self._piggyback_acks(link, room_bytes - used_bytes)
            link.control_sequence = next_seqno(link.control_sequence)
            self._send(
                link,
                None,
                MessageType.HEARTBEAT,
                flags,
                link.control_sequence,
                (*fixed, *page, *acks),
                now,
            )

    def _chance(self, now: float) -> float:
        """Return a number from 0 to 1, the same for all heartbeats of one moment.

        What leaves together now should leave together next time, and the first of several draws
        would come earlier than one.
        """
        if self._drawn[0] != now:
            self._drawn = now, self._rng.random()
        return self._drawn[1]

    def _heartbeat_head(self, link: Link) -> tuple[Tlv, ...]:
        """Return the TLVs that every heartbeat on a link begins with."""
        settings = link.settings
        hello = Hello(
            interval_ms=round(settings.hello_interval_s * 1000),
            multiplier=settings.multiplier,
            mtu=settings.mtu,
            multicast_sequence=link.multicast_sequence,
        )
        if not link.lists_addresses():
            return (hello,)
        usable = sorted({entry.address for entry in settings.addresses if entry.is_usable})
        # IPv4 sorts first, and then link-local before global would not hold: name what serves as a
        # next hop, and nothing else.
        named = [
            LinkAddress(address)
            for address in usable
            if address.family is Family.IPV4 or address.is_link_local
        ]
        return (hello, *named[:MAX_LISTED_ADDRESSES])

    def _piggyback_acks(self, link: Link, room_bytes: int) -> list[Ack]:
        """Return acknowledgements that are owed on a link, as many as fit."""
        riding: list[Ack] = []
        for neighbor in link.listeners():
            receiver = neighbor.exchange.receiver
            if receiver.ack_due_at is None:
                continue
            if room_bytes < receiver.acks_max_bytes:
                break
            acks = receiver.acks(neighbor.key.router_id, neighbor.adjacency.neighbor_session)
            room_bytes -= sum(len(tlv_bytes(ack)) for ack in acks)
            riding += acks
        return riding


def _refill_s(link: Link) -> float:
    """Return how long it takes until one more heartbeat may leave before its time."""
    interval_s = TRIGGERED_REFILL_INTERVALS * link.settings.hello_interval_s
    return min(interval_s, TRIGGERED_REFILL_MAX_S)


def _heard(adjacency: Adjacency, now: float) -> tuple[Tlv, ...]:
    """Return a neighbor's entries in a heartbeat: that it is heard, and the loss if there is
    any."""
    entry, history = adjacency.heard_entry(now), adjacency.history
    if not history.is_conclusive or history.received == history.expected:
        return (entry,)
    return entry, Reception(adjacency.router_id, history.received, history.expected)


def _paginate(groups: Iterable[Sequence[Tlv]], room_bytes: int) -> list[list[Tlv]]:
    """Split TLVs into pages that fit, groups undivided; at least one page, perhaps empty."""
    pages: list[list[Tlv]] = [[]]
    left_bytes = room_bytes
    for group in groups:
        size_bytes = sum(len(tlv_bytes(tlv)) for tlv in group)
        if size_bytes > left_bytes:
            pages.append([])
            left_bytes = room_bytes
        pages[-1] += group
        left_bytes -= size_bytes
    return pages
