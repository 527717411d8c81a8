"""The TLVs of NUP: their content, their packing, and their ranges.

Every TLV is a frozen class that packs and unpacks its own value; `TLV_CLASSES` is the registry that
drives the decoder (`message`), the property tests and the table in docs/nup.md. Network byte order;
no alignment, no padding; the length counts the value only.

Invariants: `unpack(pack(x)) == x`; `unpack` of anything else raises `RefusedError`. A prefix with
host bits or a wrong length is refused, so a prefix has one spelling on the wire.
"""

from __future__ import annotations

import enum
import functools
import struct
from typing import ClassVar, NamedTuple, Self, TypeAlias

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import HOST_BITS, Address, Family, Prefix
from routed.nup.wire.tlv_fields import (
    FAMILY_CODE,
    MANDATORY,
    TLV_HEADER,
    TLV_HEADER_BYTES,
    Bare,
    DecodeReason,
    Numbers,
    RefusedError,
    RouterNumbers,
    fields,
    is_router_id,
    need,
    pack_prefix,
    prefix_bytes,
    router_id,
    unpack_prefix,
)

__all__ = [
    "MANDATORY",
    "MAX_ACK_RANGES",
    "MAX_ACK_SPAN",
    "TLV_CLASSES",
    "TLV_HEADER",
    "TLV_HEADER_BYTES",
    "Ack",
    "AckRange",
    "BeginTable",
    "ChallengeReply",
    "ChallengeRequest",
    "DecodeReason",
    "EndOfTable",
    "Goodbye",
    "HeartbeatRequest",
    "Hello",
    "LinkAddress",
    "Mac",
    "NeighborHeard",
    "Receiver",
    "Reception",
    "RefusedError",
    "ReplayCounter",
    "RestartNotice",
    "RouteUpdate",
    "Sender",
    "SeqnoRequest",
    "Stream",
    "TableRequest",
    "TableVersion",
    "Tlv",
    "tlv_bytes",
]

MAX_ACK_RANGES = 64
"""Ranges in one ACK TLV; what lies above them is acknowledged by a later one."""
MAX_ACK_SPAN = 32_768
"""Sequences that the ranges of one ACK TLV cover, received or missing: the receive window. No
receiver has anything to acknowledge beyond it."""


class Stream(enum.IntEnum):
    """The two sequence spaces of DATA between two neighbors."""

    MULTICAST = 0
    UNICAST = 1


@dataclass(frozen=True, slots=True)
class Sender(RouterNumbers):
    """The router id and boot id of the sender. The first TLV of every message."""

    router_id: Address
    boot_id: int
    """Random, new whenever the speaker has lost its state."""

    TYPE: ClassVar[int] = MANDATORY | 1
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!II")

    def check(self) -> None:
        """Check that the router id can name a router."""
        need(is_router_id(self.router_id.addr_bits))


@dataclass(frozen=True, slots=True)
class Hello(Numbers):
    """The sender's timers and link, in every HEARTBEAT."""

    interval_ms: int
    """The nominal time between its heartbeats, 10 to 60,000."""
    multiplier: int
    """The sender is dead after this many silent intervals, 1 to 255."""
    mtu: int
    """MTU of its interface, bytes."""
    multicast_sequence: int
    """The last sequence of its multicast stream on this link."""

    TYPE: ClassVar[int] = MANDATORY | 2
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IBII")

    @property
    def dead_interval_s(self) -> float:
        """Longest silence of the sender before it counts as dead."""
        return self.interval_ms * self.multiplier / 1000

    def check(self) -> None:
        """Check the ranges of the timers."""
        need(10 <= self.interval_ms <= 60_000 and self.multiplier >= 1)


@dataclass(frozen=True, slots=True)
class NeighborHeard(RouterNumbers):
    """One neighbor that the sender hears on this link, in its HEARTBEAT."""

    router_id: Address
    boot_id: int
    session: int
    """The sender's number for this adjacency; new whenever the sender starts it again."""
    heard_session: int
    """The neighbor's number for it as the sender knows it; 0 when that is unknown."""
    echo_timestamp: int
    """The timestamp of the neighbor's last heartbeat."""
    hold_us: int
    """Time since that heartbeat arrived, microseconds."""

    TYPE: ClassVar[int] = MANDATORY | 3
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class Reception(RouterNumbers):
    """Number of a neighbor's last heartbeats that arrived; left out while all do."""

    router_id: Address
    """The neighbor."""
    received: int
    """0 to `expected`."""
    expected: int
    """Number of heartbeats that were expected, 1 to 255."""

    TYPE: ClassVar[int] = 0x14
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IBB")

    def check(self) -> None:
        """Check that no more arrived than were sent."""
        need(self.expected >= 1 and self.received <= self.expected)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of the sender on this link, for next hops. Optional: without it, IPv6 serves."""

    address: Address

    TYPE: ClassVar[int] = 4

    def pack(self) -> bytes:
        """Pack the value in network order: 4 or 16 bytes."""
        return self.address.packed

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        need(len(value) in (4, 16), DecodeReason.BAD_TLV_LENGTH)
        return cls(Address.unpack(value))


@dataclass(frozen=True, slots=True)
class AckRange:
    """A gap and the run of received messages after it."""

    missing: int
    """Sequences not received, at least 1, counted on from what came before."""
    received: int
    """Sequences received after them, at least 1."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The messages received of one stream: everything up to a sequence, and runs beyond."""

    router_id: Address
    """The sender of the acknowledged DATA: an ACK may be carried by a multicast HEARTBEAT."""
    session: int
    """That router's number for the adjacency."""
    stream: Stream
    cumulative: int
    """Every sequence up to and including this one has been received."""
    ranges: tuple[AckRange, ...] = ()
    """At most MAX_ACK_RANGES, over at most MAX_ACK_SPAN sequences."""

    TYPE: ClassVar[int] = MANDATORY | 5
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IIBI")
    _RANGE: ClassVar[struct.Struct] = struct.Struct("!HH")

    def pack(self) -> bytes:
        """Pack the value in network order."""
        fixed = self._LAYOUT.pack(
            self.router_id.addr_bits, self.session, self.stream, self.cumulative
        )
        return fixed + b"".join(self._RANGE.pack(run.missing, run.received) for run in self.ranges)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        tail = value[cls._LAYOUT.size :]
        need(
            len(tail) % cls._RANGE.size == 0 and len(tail) <= MAX_ACK_RANGES * cls._RANGE.size,
            DecodeReason.BAD_TLV_LENGTH,
        )
        router_bits, session, stream, cumulative = fields(cls._LAYOUT, value[: cls._LAYOUT.size])
        ranges = tuple(AckRange(*pair) for pair in cls._RANGE.iter_unpack(tail))
        need(stream in (0, 1) and all(run.missing and run.received for run in ranges))
        need(sum(run.missing + run.received for run in ranges) <= MAX_ACK_SPAN)
        return cls(router_id(router_bits), session, Stream(stream), cumulative, ranges)


@dataclass(frozen=True, slots=True)
class TableVersion(Numbers):
    """The age of a DATA message's content: of two updates of one prefix, the higher version counts.

    64 bits, so that it never wraps: an update of a prefix that has been quiet for years must still
    be newer than the version that the receiver remembers.
    """

    version: int

    TYPE: ClassVar[int] = MANDATORY | 6
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!Q")


_UPDATE_BYTES = 19
"""Bytes of a route update, before its prefix."""


class _RouteUpdateFields(NamedTuple):
    prefix: Prefix
    metric: int
    tag: int
    is_external: bool
    """Redistributed by its origin from another source."""
    origin: Address
    """Router id of the router that brought the prefix into the network."""
    seqno: int
    """The origin's freshness counter for it."""


class RouteUpdate(_RouteUpdateFields):
    """A prefix that the sender reaches at a metric; METRIC_INFINITY retracts it.

    A tuple, unlike the others: a table is a hundred thousand of them, and a tuple is made three
    times as fast as a frozen dataclass.
    """

    __slots__ = ()

    TYPE: ClassVar[int] = MANDATORY | 7
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBBIIII")
    EXTERNAL: ClassVar[int] = 0x01

    def pack(self) -> bytes:
        """Pack the value in network order."""
        return self.pack_tlv()[TLV_HEADER_BYTES:]

    def pack_tlv(self) -> bytes:
        """Pack the TLV with its header: most updates of a table share few heads."""
        prefix, *claim = self
        return _update_head(prefix.family, prefix.prefix_len, *claim) + pack_prefix(prefix)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`. Unknown flag bits are ignored."""
        need(len(value) >= _UPDATE_BYTES, DecodeReason.BAD_TLV_LENGTH)
        family_code, prefix_len, flags, metric, tag, origin_bits, seqno = cls.LAYOUT.unpack_from(
            value
        )
        prefix = unpack_prefix(family_code, prefix_len, value[_UPDATE_BYTES:])
        is_external = flags & cls.EXTERNAL != 0
        return cls(prefix, metric, tag, is_external, router_id(origin_bits), seqno)

    @classmethod
    def unpack_run(cls, data: bytes, offset: int, first: Self) -> list[Self]:
        """Unpack the updates that follow one and differ from it in nothing but the prefix.

        Most of a table is such runs: the common part is compared as bytes, and unpacked once.

        Args:
            data: the datagram.
            offset: where the TLV after `first` begins.
            first: the one before, unpacked.

        Returns:
            These updates, up to one that cannot be read like this, valid or not.

        Cost: 0.5 us each, a fourth of `unpack`.
        """
        (family, _, prefix_len), metric, tag, is_external, origin, seqno = first
        packed_bytes = prefix_bytes(prefix_len)
        size = TLV_HEADER_BYTES + _UPDATE_BYTES + packed_bytes
        head = data[offset - size : offset - packed_bytes]
        run: list[Self] = []
        if not data.startswith(head, offset):
            return run
        shift = family.width - packed_bytes * 8
        host_bits = HOST_BITS[family][prefix_len]
        last = len(data) - size
        while offset <= last and data.startswith(head, offset):
            offset += size
            packed = data[offset - packed_bytes : offset]
            addr_bits = int.from_bytes(packed, "big") << shift
            if addr_bits & host_bits:
                break
            prefix = Prefix.trusted(family, addr_bits, prefix_len)
            run.append(tuple.__new__(cls, (prefix, metric, tag, is_external, origin, seqno)))
        return run


@functools.lru_cache(maxsize=1024)
def _update_head(
    family: Family,
    prefix_len: int,
    metric: int,
    tag: int,
    is_external: bool,
    origin: Address,
    seqno: int,
) -> bytes:
    """Pack a route update up to its prefix."""
    length = _UPDATE_BYTES + prefix_bytes(prefix_len)
    return TLV_HEADER.pack(RouteUpdate.TYPE, length) + RouteUpdate.LAYOUT.pack(
        FAMILY_CODE[family],
        prefix_len,
        RouteUpdate.EXTERNAL if is_external else 0,
        metric,
        tag,
        origin.addr_bits,
        seqno,
    )


@dataclass(frozen=True, slots=True)
class SeqnoRequest:
    """A request to the origin of a prefix for a newer seqno: the requester has no feasible
    route."""

    prefix: Prefix
    origin: Address
    seqno: int
    """The origin is asked to reach at least this seqno."""
    hop_count: int
    """Number of routers that may still pass it on, 1 to 255."""

    TYPE: ClassVar[int] = MANDATORY | 8
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBBII")

    def pack(self) -> bytes:
        """Pack the value in network order."""
        fixed = self._LAYOUT.pack(
            FAMILY_CODE[self.prefix.family],
            self.prefix.prefix_len,
            self.hop_count,
            self.origin.addr_bits,
            self.seqno,
        )
        return fixed + pack_prefix(self.prefix)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        size = cls._LAYOUT.size
        family_code, prefix_len, hop_count, origin_bits, seqno = fields(cls._LAYOUT, value[:size])
        prefix = unpack_prefix(family_code, prefix_len, value[size:])
        need(hop_count >= 1)
        return cls(prefix, router_id(origin_bits), seqno, hop_count)


@dataclass(frozen=True, slots=True)
class BeginTable(Numbers):
    """The sender's whole table follows on the unicast stream."""

    multicast_base: int
    """The receiver is owed everything of the multicast stream after this sequence."""

    TYPE: ClassVar[int] = MANDATORY | 9
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class EndOfTable(Numbers):
    """The end of a table, once everything up to this message's sequence has been received."""

    count: int
    """Route updates on the unicast stream since BEGIN_TABLE."""

    TYPE: ClassVar[int] = MANDATORY | 10
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Goodbye(Bare):
    """The sender leaves: its neighbors forget it and its routes now."""

    TYPE: ClassVar[int] = MANDATORY | 11


@dataclass(frozen=True, slots=True)
class HeartbeatRequest(Bare):
    """A request for a heartbeat: the receiver's last one is overdue."""

    TYPE: ClassVar[int] = MANDATORY | 21


@dataclass(frozen=True, slots=True)
class TableRequest(Bare):
    """A request to send the whole table again: a part was refused for want of room.

    Optional: a receiver that does not know it sends nothing again.
    """

    TYPE: ClassVar[int] = 0x16


@dataclass(frozen=True, slots=True)
class RestartNotice(Numbers):
    """The sender's control plane restarts; the sender goes on forwarding meanwhile."""

    grace_ms: int
    """Time for which to keep its routes, milliseconds."""

    TYPE: ClassVar[int] = MANDATORY | 12
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Receiver(RouterNumbers):
    """The receiver of a unicast DATA, and the incarnation of the adjacency."""

    router_id: Address
    session: int
    """The receiver's number for the adjacency."""

    TYPE: ClassVar[int] = MANDATORY | 13
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class ReplayCounter(Numbers):
    """The number of a signed datagram. Optional, as all of authentication: others skip it."""

    index: int
    """The series of numbers; 64 bits, random, one for each link and boot of the sender."""
    counter: int
    """64 bits, grows by at least one with each datagram."""

    TYPE: ClassVar[int] = 0x10
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!QQ")


@dataclass(frozen=True, slots=True)
class ChallengeRequest(Numbers):
    """A request to prove presence, by repeating the nonce."""

    nonce: int
    """64 bits, never used before."""

    TYPE: ClassVar[int] = 0x11
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class ChallengeReply(Numbers):
    """The answer to a CHALLENGE_REQUEST: proves the index of the datagram that it is in."""

    nonce: int

    TYPE: ClassVar[int] = 0x12
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Mac:
    """The signature of a datagram; its last TLV."""

    key_id: int
    digest: bytes
    """16 bytes (BLAKE2s) or 32 (HMAC-SHA256)."""

    TYPE: ClassVar[int] = 0x13

    def pack(self) -> bytes:
        """Pack the value in network order."""
        return bytes((self.key_id,)) + self.digest

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        need(len(value) in (17, 33), DecodeReason.BAD_TLV_LENGTH)
        return cls(value[0], value[1:])


Tlv: TypeAlias = (
    Hello
    | NeighborHeard
    | LinkAddress
    | Ack
    | TableVersion
    | RouteUpdate
    | SeqnoRequest
    | BeginTable
    | EndOfTable
    | Goodbye
    | HeartbeatRequest
    | TableRequest
    | RestartNotice
    | Receiver
    | Reception
    | ReplayCounter
    | ChallengeRequest
    | ChallengeReply
    | Mac
)
"""Every TLV but SENDER, which is a field of `Message`."""

_CLASSES: tuple[type[Sender | Tlv], ...] = (
    Sender,
    Hello,
    NeighborHeard,
    LinkAddress,
    Ack,
    TableVersion,
    RouteUpdate,
    SeqnoRequest,
    BeginTable,
    EndOfTable,
    Goodbye,
    HeartbeatRequest,
    TableRequest,
    RestartNotice,
    Receiver,
    ReplayCounter,
    ChallengeRequest,
    ChallengeReply,
    Mac,
    Reception,
)
TLV_CLASSES: dict[int, type[Sender | Tlv]] = {cls.TYPE: cls for cls in _CLASSES}
"""The registry."""


def tlv_bytes(tlv: Sender | Tlv) -> bytes:
    """Encode one TLV, header and value."""
    if isinstance(tlv, RouteUpdate):
        return tlv.pack_tlv()
    value = tlv.pack()
    return TLV_HEADER.pack(tlv.TYPE, len(value)) + value
