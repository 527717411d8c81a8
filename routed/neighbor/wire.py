"""NUP on the wire: the header, the TLVs, and what a datagram must look like to be believed.

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------+---------------+-------------------------------+
   |  version = 1  |     type      |             flags             |
   +---------------+---------------+-------------------------------+
   |                           sequence                            |
   +---------------------------------------------------------------+
   |                           timestamp                           |
   +-------------------------------+-------------------------------+
   |        payload length         |           checksum            |
   +-------------------------------+-------------------------------+
   |  TLVs: type u16 (top bit: mandatory), length u16, value ...

Network byte order; no alignment, no padding. The length counts the value only. The first TLV is
SENDER, always: nothing else in a datagram means anything before it is known who speaks, and in
which of its lives.

Every TLV is a frozen class that packs and unpacks its own value; `TLV_CLASSES` is the registry that
drives the decoder, the property tests and the table in docs/nup.md. Which TLVs may occur in which
type of message is a table too (`_ALLOWED`), so that a handler never meets a TLV out of its place.

Invariants: `decode(encode(message)) == message`. Any bytes either decode or raise `DecodeError`,
which names a reason and an offset; nothing else escapes. A prefix with host bits, a length that
disagrees, an unknown mandatory TLV refuse the whole message; an unknown optional TLV is skipped.

Sources: RFC 1071 (checksum), RFC 8966 section 4 (TLVs that may be skipped), RFC 9000's habit of
naming the reason for every refusal; datagrams stay within 1232 bytes so that IPv6's minimum MTU
(RFC 8200 section 5) carries them unfragmented.
"""

from __future__ import annotations

import enum
import functools
import struct
from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from routed.model.prefix import Address, Family, Prefix

__all__ = [
    "GROUP_IPV4",
    "GROUP_IPV6",
    "HEADER_BYTES",
    "MANDATORY",
    "MAX_ACK_RANGES",
    "MAX_DATAGRAM_BYTES",
    "NUP_PORT",
    "NUP_VERSION",
    "TLV_CLASSES",
    "TLV_HEADER_BYTES",
    "Ack",
    "AckRange",
    "BeginTable",
    "DecodeError",
    "DecodeReason",
    "EndOfTable",
    "Flag",
    "Goodbye",
    "Hello",
    "LinkAddress",
    "Message",
    "MessageType",
    "NeighborHeard",
    "Receiver",
    "RestartNotice",
    "RouteUpdate",
    "Sender",
    "SeqnoRequest",
    "Stream",
    "TableVersion",
    "Tlv",
    "checksum",
    "decode",
    "encode",
    "encode_tlvs",
    "seal",
    "tlv_bytes",
]

NUP_VERSION = 1
NUP_PORT = 61698
"""UDP, source and destination."""
GROUP_IPV6 = Address.parse("ff12::6e75:70")
"""Link-local scope, transient; the group id spells "nup"."""
GROUP_IPV4 = Address.parse("239.255.61.98")
"""Administratively scoped (RFC 2365), for links that have no IPv6."""

HEADER_BYTES = 16
TLV_HEADER_BYTES = 4
MAX_DATAGRAM_BYTES = 1232
"""Header and payload: 1280, less an IPv6 and a UDP header."""
MANDATORY = 0x8000
"""The bit of a TLV type that says: refuse the message if you do not know me."""
MAX_ACK_RANGES = 64
"""Ranges in one ACK TLV; what lies above them is acknowledged by a later one."""

_HEADER = struct.Struct("!BBHIIHH")
_TLV_HEADER = struct.Struct("!HH")


class MessageType(enum.IntEnum):
    """What a datagram is for. Numbers are never reused."""

    DATA = 1
    ACK = 2
    HEARTBEAT = 3
    CONTROL = 4


class Flag(enum.IntFlag):
    """Header flags. Unknown ones are sent as zero and ignored on receipt."""

    UNICAST_STREAM = 0x0001
    """DATA: the sequence counts the unicast stream between two neighbors, not the link's
    multicast stream."""
    RETRANSMISSION = 0x0002
    """DATA: sent before."""
    PARTIAL_LIST = 0x0004
    """HEARTBEAT: not every neighbor heard is listed; absence proves nothing."""
    CONVERGING = 0x0008
    """HEARTBEAT: the sender has begun a new life and not yet told all that it will learn from its
    neighbors; what it has not told may still come."""


_KNOWN_FLAGS = Flag.UNICAST_STREAM | Flag.RETRANSMISSION | Flag.PARTIAL_LIST | Flag.CONVERGING


class Stream(enum.IntEnum):
    """The two sequence spaces of DATA between two neighbors."""

    MULTICAST = 0
    UNICAST = 1


class DecodeReason(enum.Enum):
    """Why a datagram was refused."""

    TOO_SHORT = "shorter than a header"
    TOO_LONG = "longer than a datagram may be"
    BAD_VERSION = "another version of the protocol"
    BAD_TYPE = "an unknown message type"
    BAD_LENGTH = "the payload length disagrees with the datagram"
    BAD_CHECKSUM = "the checksum is wrong"
    TRUNCATED_TLV = "a TLV runs past the end"
    BAD_TLV_LENGTH = "a TLV has a length that its type cannot have"
    BAD_VALUE = "a field has a value that it cannot have"
    UNKNOWN_MANDATORY = "a mandatory TLV of unknown type"
    MISPLACED_TLV = "a TLV in a message where it does not belong, or twice"
    MISSING_TLV = "a message lacks a TLV that it must have"


class DecodeError(Exception):
    """A datagram that is no NUP message: the sender's fault, or the wire's."""

    def __init__(self, reason: DecodeReason, offset: int) -> None:
        super().__init__(f"{reason.value} (at byte {offset})")
        self.reason = reason
        self.offset = offset
        """Bytes from the start of the datagram to what is wrong."""


class _RefusedError(Exception):
    """A TLV value is wrong; `decode` adds where."""

    def __init__(self, reason: DecodeReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _need(is_right: bool, reason: DecodeReason = DecodeReason.BAD_VALUE) -> None:
    if not is_right:
        raise _RefusedError(reason)


def _fields(layout: struct.Struct, value: bytes) -> tuple[int, ...]:
    """Unpack a value that has exactly the layout's size."""
    _need(len(value) == layout.size, DecodeReason.BAD_TLV_LENGTH)
    return layout.unpack(value)


@functools.lru_cache(maxsize=4096)
def _router_id(bits: int) -> Address:
    return Address(Family.IPV4, bits)


_FAMILY_CODE = {Family.IPV4: 4, Family.IPV6: 6}
_FAMILY_OF_CODE = {code: family for family, code in _FAMILY_CODE.items()}


def _pack_prefix(prefix: Prefix) -> bytes:
    """The bytes of a prefix that its length leaves any bits in."""
    return (
        prefix.addr_bits >> (prefix.family.width - _prefix_bytes(prefix.prefix_len) * 8)
    ).to_bytes(_prefix_bytes(prefix.prefix_len), "big")


def _prefix_bytes(prefix_len: int) -> int:
    return (prefix_len + 7) // 8


def _unpack_prefix(family_code: int, prefix_len: int, packed: bytes) -> Prefix:
    family = _FAMILY_OF_CODE.get(family_code)
    if family is None or prefix_len > family.width:
        raise _RefusedError(DecodeReason.BAD_VALUE)
    _need(len(packed) == _prefix_bytes(prefix_len), DecodeReason.BAD_TLV_LENGTH)
    addr_bits = int.from_bytes(packed, "big") << (family.width - len(packed) * 8)
    host_bits = family.width - prefix_len
    _need(addr_bits >> host_bits << host_bits == addr_bits)
    return Prefix.trusted(family, addr_bits, prefix_len)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks, and in which of its lives. The first TLV of every message."""

    router_id: Address
    boot_id: int
    """Random, new whenever the speaker has lost its state."""

    TYPE: ClassVar[int] = MANDATORY | 1
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!II")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.router_id.addr_bits, self.boot_id)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        router_bits, boot_id = _fields(cls._LAYOUT, value)
        return cls(_router_id(router_bits), boot_id)


@dataclass(frozen=True, slots=True)
class Hello:
    """The sender's timers and link, in every HEARTBEAT."""

    interval_ms: int
    """The nominal time between its heartbeats, 10 to 60,000."""
    multiplier: int
    """It is dead after this many silent intervals, 1 to 255."""
    mtu: int
    """Of its interface, bytes."""
    multicast_sequence: int
    """The last sequence of its multicast stream on this link."""

    TYPE: ClassVar[int] = MANDATORY | 2
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IBII")

    @property
    def dead_interval_s(self) -> float:
        """How long the sender may be silent before it counts as dead."""
        return self.interval_ms * self.multiplier / 1000

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(
            self.interval_ms, self.multiplier, self.mtu, self.multicast_sequence
        )

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        hello = cls(*_fields(cls._LAYOUT, value))
        _need(10 <= hello.interval_ms <= 60_000 and hello.multiplier >= 1)
        return hello


@dataclass(frozen=True, slots=True)
class NeighborHeard:
    """One neighbor that the sender hears on this link, in its HEARTBEAT."""

    router_id: Address
    boot_id: int
    session: int
    """The sender's number for this adjacency; new whenever the sender starts it afresh."""
    heard_session: int
    """The neighbor's number for it as the sender knows it; 0 when it does not yet."""
    echo_timestamp: int
    """The timestamp of the neighbor's last heartbeat."""
    hold_us: int
    """How long ago that one arrived, microseconds."""

    TYPE: ClassVar[int] = MANDATORY | 3
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IIIIII")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(
            self.router_id.addr_bits,
            self.boot_id,
            self.session,
            self.heard_session,
            self.echo_timestamp,
            self.hold_us,
        )

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        router_bits, *rest = _fields(cls._LAYOUT, value)
        return cls(_router_id(router_bits), *rest)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of the sender on this link, for next hops. Optional: without it, IPv6 serves."""

    address: Address

    TYPE: ClassVar[int] = 4

    def pack(self) -> bytes:
        """The value in network order: 4 or 16 bytes."""
        return self.address.packed

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        _need(len(value) in (4, 16), DecodeReason.BAD_TLV_LENGTH)
        return cls(Address.unpack(value))


@dataclass(frozen=True, slots=True)
class AckRange:
    """A gap and the run of received messages after it."""

    missing: int
    """Sequences not received, 1 to 65,535, counted on from what came before."""
    received: int
    """Sequences received after them, 1 to 65,535."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What was received of one stream: everything up to a sequence, and runs beyond."""

    router_id: Address
    """Whose DATA is acknowledged: an ACK may ride on a multicast HEARTBEAT."""
    session: int
    """That router's number for the adjacency."""
    stream: Stream
    cumulative: int
    """Every sequence up to and including this one has been received."""
    ranges: tuple[AckRange, ...] = ()
    """At most MAX_ACK_RANGES."""

    TYPE: ClassVar[int] = MANDATORY | 5
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!IIBI")
    _RANGE: ClassVar[struct.Struct] = struct.Struct("!HH")

    def pack(self) -> bytes:
        """The value in network order."""
        fixed = self._LAYOUT.pack(
            self.router_id.addr_bits, self.session, self.stream, self.cumulative
        )
        return fixed + b"".join(self._RANGE.pack(run.missing, run.received) for run in self.ranges)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        tail = value[cls._LAYOUT.size :]
        _need(
            len(tail) % cls._RANGE.size == 0 and len(tail) <= MAX_ACK_RANGES * cls._RANGE.size,
            DecodeReason.BAD_TLV_LENGTH,
        )
        router_bits, session, stream, cumulative = _fields(cls._LAYOUT, value[: cls._LAYOUT.size])
        ranges = tuple(AckRange(*pair) for pair in cls._RANGE.iter_unpack(tail))
        _need(stream in (0, 1) and all(run.missing and run.received for run in ranges))
        return cls(_router_id(router_bits), session, Stream(stream), cumulative, ranges)


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The age of a DATA message's content: of two about one prefix, the higher is the truth.

    64 bits, so that it never wraps: an update of a prefix that has been quiet for years must still
    be newer than what the receiver remembers.
    """

    version: int

    TYPE: ClassVar[int] = MANDATORY | 6
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!Q")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.version)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        return cls(*_fields(cls._LAYOUT, value))


@dataclass(frozen=True, slots=True)
class RouteUpdate:
    """A prefix that the sender reaches at a metric; METRIC_INFINITY retracts it."""

    prefix: Prefix
    metric: int
    tag: int
    is_external: bool
    """Redistributed by its origin from another source."""
    origin: Address
    """Router id of the router that brought the prefix into the network."""
    seqno: int
    """The origin's freshness counter for it."""

    TYPE: ClassVar[int] = MANDATORY | 7
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBBIIII")
    _EXTERNAL: ClassVar[int] = 0x01

    def pack(self) -> bytes:
        """The value in network order."""
        fixed = self._LAYOUT.pack(
            _FAMILY_CODE[self.prefix.family],
            self.prefix.prefix_len,
            self._EXTERNAL if self.is_external else 0,
            self.metric,
            self.tag,
            self.origin.addr_bits,
            self.seqno,
        )
        return fixed + _pack_prefix(self.prefix)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`. Unknown flag bits are ignored."""
        size = cls._LAYOUT.size
        family_code, prefix_len, flags, metric, tag, origin_bits, seqno = _fields(
            cls._LAYOUT, value[:size]
        )
        prefix = _unpack_prefix(family_code, prefix_len, value[size:])
        is_external = bool(flags & cls._EXTERNAL)
        return cls(prefix, metric, tag, is_external, _router_id(origin_bits), seqno)


@dataclass(frozen=True, slots=True)
class SeqnoRequest:
    """Somebody cannot use any route to a prefix before its origin refreshes it."""

    prefix: Prefix
    origin: Address
    seqno: int
    """The origin is asked to reach at least this seqno."""
    hop_count: int
    """How many more routers may pass it on, 1 to 255."""

    TYPE: ClassVar[int] = MANDATORY | 8
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBBII")

    def pack(self) -> bytes:
        """The value in network order."""
        fixed = self._LAYOUT.pack(
            _FAMILY_CODE[self.prefix.family],
            self.prefix.prefix_len,
            self.hop_count,
            self.origin.addr_bits,
            self.seqno,
        )
        return fixed + _pack_prefix(self.prefix)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        size = cls._LAYOUT.size
        family_code, prefix_len, hop_count, origin_bits, seqno = _fields(cls._LAYOUT, value[:size])
        prefix = _unpack_prefix(family_code, prefix_len, value[size:])
        _need(hop_count >= 1)
        return cls(prefix, _router_id(origin_bits), seqno, hop_count)


@dataclass(frozen=True, slots=True)
class BeginTable:
    """The sender's whole table follows on the unicast stream."""

    multicast_base: int
    """The receiver is owed everything of the multicast stream after this sequence."""

    TYPE: ClassVar[int] = MANDATORY | 9
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.multicast_base)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        return cls(*_fields(cls._LAYOUT, value))


@dataclass(frozen=True, slots=True)
class EndOfTable:
    """The table is told, once everything up to this message's sequence has been received."""

    count: int
    """Route updates on the unicast stream since BEGIN_TABLE."""

    TYPE: ClassVar[int] = MANDATORY | 10
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.count)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        return cls(*_fields(cls._LAYOUT, value))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender leaves: forget it and its routes now."""

    TYPE: ClassVar[int] = MANDATORY | 11

    def pack(self) -> bytes:
        """Nothing more to say."""
        return b""

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        _need(not value, DecodeReason.BAD_TLV_LENGTH)
        return cls()


@dataclass(frozen=True, slots=True)
class RestartNotice:
    """The sender's control plane restarts; it goes on forwarding meanwhile."""

    grace_ms: int
    """How long to keep its routes."""

    TYPE: ClassVar[int] = MANDATORY | 12
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!I")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.grace_ms)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        return cls(*_fields(cls._LAYOUT, value))


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom a unicast DATA is for, and in which incarnation of the adjacency."""

    router_id: Address
    session: int
    """The receiver's number for the adjacency."""

    TYPE: ClassVar[int] = MANDATORY | 13
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("!II")

    def pack(self) -> bytes:
        """The value in network order."""
        return self._LAYOUT.pack(self.router_id.addr_bits, self.session)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`."""
        router_bits, session = _fields(cls._LAYOUT, value)
        return cls(_router_id(router_bits), session)


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
    | RestartNotice
    | Receiver
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
    RestartNotice,
    Receiver,
)
TLV_CLASSES: dict[int, type[Sender | Tlv]] = {cls.TYPE: cls for cls in _CLASSES}
"""The registry. 0x10 to 0x1f are set aside for authentication."""

_ALLOWED: dict[MessageType, frozenset[type]] = {
    MessageType.DATA: frozenset(
        {Receiver, TableVersion, BeginTable, RouteUpdate, SeqnoRequest, EndOfTable}
    ),
    MessageType.ACK: frozenset({Ack}),
    MessageType.HEARTBEAT: frozenset({Hello, NeighborHeard, LinkAddress, Ack}),
    MessageType.CONTROL: frozenset({Goodbye, RestartNotice}),
}
_REQUIRED: dict[MessageType, frozenset[type]] = {
    MessageType.DATA: frozenset({TableVersion}),
    MessageType.ACK: frozenset({Ack}),
    MessageType.HEARTBEAT: frozenset({Hello}),
    MessageType.CONTROL: frozenset(),
}
_AT_MOST_ONCE: frozenset[type] = frozenset(
    {Hello, TableVersion, BeginTable, EndOfTable, Goodbye, RestartNotice, Receiver}
)


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram, decoded."""

    type: MessageType
    flags: Flag
    sequence: int
    """DATA: the stream's. HEARTBEAT and CONTROL: one counter for a life of the sender. ACK: 0."""
    timestamp: int
    """The sender's monotonic clock, microseconds modulo 2**32."""
    sender: Sender
    tlvs: tuple[Tlv, ...]

    @property
    def stream(self) -> Stream:
        """Which sequence space a DATA message counts in."""
        return Stream.UNICAST if self.flags & Flag.UNICAST_STREAM else Stream.MULTICAST


def checksum(data: bytes) -> int:
    """The Internet checksum of bytes whose checksum field is zero.

    Ones' complement addition of 16-bit words is arithmetic modulo 0xFFFF, and Python divides a long
    integer in C: about 2 microseconds for a whole datagram.

    Source: RFC 1071 section 1 and 2(B).
    """
    padded = data if len(data) % 2 == 0 else data + b"\0"
    return 0xFFFF - (int.from_bytes(padded, "big") % 0xFFFF or 0xFFFF)


def tlv_bytes(tlv: Sender | Tlv) -> bytes:
    """One TLV, header and value."""
    value = tlv.pack()
    return _TLV_HEADER.pack(tlv.TYPE, len(value)) + value


def encode_tlvs(sender: Sender, tlvs: tuple[Tlv, ...]) -> bytes:
    """A payload: SENDER, then the others in order."""
    return tlv_bytes(sender) + b"".join(tlv_bytes(tlv) for tlv in tlvs)


def seal(
    message_type: MessageType, flags: Flag, sequence: int, timestamp: int, payload: bytes
) -> bytes:
    """Put the header before an encoded payload. A retransmission seals the same payload again.

    Raises:
        ValueError: the payload is too long for a datagram (our bug: it should have been split).
    """
    if HEADER_BYTES + len(payload) > MAX_DATAGRAM_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes does not fit a datagram")
    fields = (NUP_VERSION, message_type, flags, sequence, timestamp, len(payload))
    blank = _HEADER.pack(*fields, 0) + payload
    return _HEADER.pack(*fields, checksum(blank)) + payload


def encode(message: Message) -> bytes:
    """A whole message as a datagram.

    Raises:
        ValueError: it does not fit one.
    """
    payload = encode_tlvs(message.sender, message.tlvs)
    return seal(message.type, message.flags, message.sequence, message.timestamp, payload)


def decode(data: bytes) -> Message:
    """Read a datagram, believing nothing.

    Raises:
        DecodeError: it is not a message of this protocol; the reason says which rule it broke.
    """
    if len(data) < HEADER_BYTES:
        raise DecodeError(DecodeReason.TOO_SHORT, len(data))
    if len(data) > MAX_DATAGRAM_BYTES:
        raise DecodeError(DecodeReason.TOO_LONG, MAX_DATAGRAM_BYTES)
    version, type_number, flags, sequence, timestamp, payload_length, _ = _HEADER.unpack_from(data)
    if version != NUP_VERSION:
        raise DecodeError(DecodeReason.BAD_VERSION, 0)
    if payload_length != len(data) - HEADER_BYTES:
        raise DecodeError(DecodeReason.BAD_LENGTH, 12)
    if checksum(data) != 0:
        raise DecodeError(DecodeReason.BAD_CHECKSUM, 14)
    try:
        message_type = MessageType(type_number)
    except ValueError:
        raise DecodeError(DecodeReason.BAD_TYPE, 1) from None
    sender, tlvs = _decode_payload(data, message_type)
    known_flags = Flag(flags & _KNOWN_FLAGS)
    message = Message(message_type, known_flags, sequence, timestamp, sender, tlvs)
    _check_shape(message, len(data))
    return message


def _decode_payload(data: bytes, message_type: MessageType) -> tuple[Sender, tuple[Tlv, ...]]:
    """Walk the TLVs after the header."""
    allowed = _ALLOWED[message_type]
    sender: Sender | None = None
    tlvs: list[Tlv] = []
    seen_once: set[type] = set()
    offset, end = HEADER_BYTES, len(data)
    while offset < end:
        number, value_at, value_end = _tlv_bounds(data, offset)
        cls = TLV_CLASSES.get(number)
        if cls is None:
            if number & MANDATORY:
                raise DecodeError(DecodeReason.UNKNOWN_MANDATORY, offset)
        else:
            if (cls is Sender) is not (sender is None):
                reason = DecodeReason.MISSING_TLV if sender is None else DecodeReason.MISPLACED_TLV
                raise DecodeError(reason, offset)
            if cls is not Sender and (cls not in allowed or cls in seen_once):
                raise DecodeError(DecodeReason.MISPLACED_TLV, offset)
            if cls in _AT_MOST_ONCE:
                seen_once.add(cls)
            try:
                tlv = cls.unpack(data[value_at:value_end])
            except _RefusedError as refused:
                raise DecodeError(refused.reason, value_at) from None
            if isinstance(tlv, Sender):
                sender = tlv
            else:
                tlvs.append(tlv)
        offset = value_end
    if sender is None:
        raise DecodeError(DecodeReason.MISSING_TLV, end)
    return sender, tuple(tlvs)


def _tlv_bounds(data: bytes, offset: int) -> tuple[int, int, int]:
    """The type of the TLV at an offset, and where its value starts and ends."""
    value_at = offset + TLV_HEADER_BYTES
    if value_at > len(data):
        raise DecodeError(DecodeReason.TRUNCATED_TLV, offset)
    number, length = _TLV_HEADER.unpack_from(data, offset)
    if value_at + length > len(data):
        raise DecodeError(DecodeReason.TRUNCATED_TLV, offset)
    return number, value_at, value_at + length


def _check_shape(message: Message, end: int) -> None:
    """Whether a message has the TLVs that its type and flags demand."""
    present = {type(tlv) for tlv in message.tlvs}
    if not _REQUIRED[message.type] <= present:
        raise DecodeError(DecodeReason.MISSING_TLV, end)
    if message.type is MessageType.DATA:
        is_unicast = message.stream is Stream.UNICAST
        if is_unicast is not (Receiver in present):
            reason = DecodeReason.MISSING_TLV if is_unicast else DecodeReason.MISPLACED_TLV
            raise DecodeError(reason, end)
        if not is_unicast and present & {BeginTable, EndOfTable, SeqnoRequest}:
            raise DecodeError(DecodeReason.MISPLACED_TLV, end)
