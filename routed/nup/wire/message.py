"""NUP on the wire: the header, and the checks that a datagram must pass.

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
always SENDER: no other content means anything before the sender and its boot id are known.

The TLVs themselves are in `tlvs`, and are exported here too. A table (`_ALLOWED`) says which of
them may occur in which type of message, so that a handler never gets a misplaced TLV.

Invariants: `decode(encode(message)) == message`. Any bytes either decode or raise `DecodeError`,
which names a reason and an offset; nothing else escapes. A prefix with host bits, a wrong length,
or an unknown mandatory TLV makes the whole message refused; an unknown optional TLV is skipped.

Sources: RFC 1071 (checksum), RFC 8966 section 4 (TLVs that may be skipped), RFC 9000's habit of
naming the reason for every refusal; datagrams stay within 1232 bytes so that IPv6's minimum MTU
(RFC 8200 section 5) carries them unfragmented.
"""

from __future__ import annotations

import enum
import struct

from ipc.lazy_dataclass import dataclass
from routed.nup.wire.tlvs import (
    MANDATORY,
    MAX_ACK_RANGES,
    MAX_ACK_SPAN,
    TLV_CLASSES,
    TLV_HEADER,
    TLV_HEADER_BYTES,
    Ack,
    AckRange,
    BeginTable,
    ChallengeReply,
    ChallengeRequest,
    DecodeReason,
    EndOfTable,
    Goodbye,
    HeartbeatRequest,
    Hello,
    LinkAddress,
    Mac,
    NeighborHeard,
    Receiver,
    Reception,
    RefusedError,
    ReplayCounter,
    RestartNotice,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    Stream,
    TableRequest,
    TableVersion,
    Tlv,
    tlv_bytes,
)

__all__ = [
    "CHECKSUM_BYTES_AT",
    "CONTENT_MAX_BYTES",
    "HEADER_BYTES",
    "MAC_ROOM_BYTES",
    "MANDATORY",
    "MAX_ACK_RANGES",
    "MAX_ACK_SPAN",
    "MAX_DATAGRAM_BYTES",
    "NUP_VERSION",
    "TLV_CLASSES",
    "TLV_HEADER_BYTES",
    "Ack",
    "AckRange",
    "BeginTable",
    "ChallengeReply",
    "ChallengeRequest",
    "DecodeError",
    "DecodeReason",
    "EndOfTable",
    "Goodbye",
    "HeaderFlag",
    "HeartbeatRequest",
    "Hello",
    "LinkAddress",
    "Mac",
    "Message",
    "MessageType",
    "NeighborHeard",
    "Receiver",
    "Reception",
    "ReplayCounter",
    "RestartNotice",
    "RouteUpdate",
    "Sender",
    "SeqnoRequest",
    "Stream",
    "TableRequest",
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

HEADER_BYTES = 16
MAX_DATAGRAM_BYTES = 1232
"""Header and payload: 1280, less an IPv6 and a UDP header."""
MAC_ROOM_BYTES = 57
"""Bytes kept free in every datagram for REPLAY_COUNTER and MAC, so that a payload that was packed
once can be signed again whenever it is repeated."""
CONTENT_MAX_BYTES = MAX_DATAGRAM_BYTES - MAC_ROOM_BYTES
"""Header and payload before it is signed."""
CHECKSUM_BYTES_AT = 14
"""The offset of the checksum in the header."""

_HEADER = struct.Struct("!BBHIIHH")


class MessageType(enum.IntEnum):
    """The purpose of a datagram. Numbers are never reused."""

    DATA = 1
    ACK = 2
    HEARTBEAT = 3
    CONTROL = 4


class HeaderFlag(enum.IntFlag):
    """Header flags. Unknown ones are sent as zero and ignored on receipt."""

    UNICAST_STREAM = 0x0001
    """DATA: the sequence counts the unicast stream between two neighbors, not the link's
    multicast stream."""
    RETRANSMISSION = 0x0002
    """DATA: sent before."""
    PARTIAL_LIST = 0x0004
    """HEARTBEAT: not every neighbor heard is listed; absence proves nothing."""
    CONVERGING = 0x0008
    """HEARTBEAT: the sender has restarted and not yet advertised all that it will learn from its
    neighbors; more may still come."""


_KNOWN_FLAGS = (
    HeaderFlag.UNICAST_STREAM
    | HeaderFlag.RETRANSMISSION
    | HeaderFlag.PARTIAL_LIST
    | HeaderFlag.CONVERGING
)


class DecodeError(Exception):
    """A datagram that is not a NUP message: the sender's fault, or the wire's."""

    def __init__(self, reason: DecodeReason, offset: int) -> None:
        super().__init__(f"{reason.value} (at byte {offset})")
        self.reason = reason
        self.offset = offset
        """Bytes from the start of the datagram to the fault."""


_IN_ALL: frozenset[type] = frozenset({Sender, ReplayCounter, Mac})
_SPECIFIC: dict[MessageType, frozenset[type]] = {
    MessageType.DATA: frozenset(
        {
            Receiver,
            TableVersion,
            BeginTable,
            RouteUpdate,
            SeqnoRequest,
            EndOfTable,
            TableRequest,
        }
    ),
    MessageType.ACK: frozenset({Ack}),
    MessageType.HEARTBEAT: frozenset({Hello, NeighborHeard, Reception, LinkAddress, Ack}),
    MessageType.CONTROL: frozenset(
        {Goodbye, RestartNotice, ChallengeRequest, ChallengeReply, HeartbeatRequest}
    ),
}
_ALLOWED = {kind: peculiar | _IN_ALL for kind, peculiar in _SPECIFIC.items()}
_REQUIRED: dict[MessageType, frozenset[type]] = {
    MessageType.DATA: frozenset({TableVersion}),
    MessageType.ACK: frozenset({Ack}),
    MessageType.HEARTBEAT: frozenset({Hello}),
    MessageType.CONTROL: frozenset(),
}
_AT_MOST_ONCE: frozenset[type] = frozenset(
    {
        Hello,
        TableVersion,
        BeginTable,
        EndOfTable,
        Goodbye,
        HeartbeatRequest,
        RestartNotice,
        Receiver,
        ReplayCounter,
        ChallengeRequest,
        ChallengeReply,
        Mac,
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram, decoded."""

    type: MessageType
    flags: HeaderFlag
    sequence: int
    """DATA: the stream's. HEARTBEAT and CONTROL: one counter for a boot of the sender. ACK: 0."""
    timestamp: int
    """The sender's monotonic clock, microseconds modulo 2**32."""
    sender: Sender
    tlvs: tuple[Tlv, ...]

    @property
    def stream(self) -> Stream:
        """The sequence space that a DATA message counts in."""
        return Stream.UNICAST if self.flags & HeaderFlag.UNICAST_STREAM else Stream.MULTICAST


def checksum(data: bytes) -> int:
    """Compute the Internet checksum of bytes whose checksum field is zero.

    Ones' complement addition of 16-bit words is arithmetic modulo 0xFFFF, and Python divides a long
    integer in C: about 2 microseconds for a whole datagram.

    Source: RFC 1071 section 1 and 2(B).
    """
    padded = data if len(data) % 2 == 0 else data + b"\0"
    return 0xFFFF - (int.from_bytes(padded, "big") % 0xFFFF or 0xFFFF)


def encode_tlvs(sender: Sender, tlvs: tuple[Tlv, ...]) -> bytes:
    """Encode a payload: SENDER, then the others in order."""
    return tlv_bytes(sender) + b"".join(tlv_bytes(tlv) for tlv in tlvs)


def seal(
    message_type: MessageType, flags: HeaderFlag, sequence: int, timestamp: int, payload: bytes
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
    """Encode a whole message as a datagram.

    Raises:
        ValueError: it does not fit one.
    """
    payload = encode_tlvs(message.sender, message.tlvs)
    return seal(message.type, message.flags, message.sequence, message.timestamp, payload)


def decode(data: bytes) -> Message:
    """Decode a datagram, without trust in its content.

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
    known_flags = HeaderFlag(flags & _KNOWN_FLAGS)
    message = Message(message_type, known_flags, sequence, timestamp, sender, tlvs)
    _check_shape(message, len(data))
    return message


def _decode_payload(data: bytes, message_type: MessageType) -> tuple[Sender, tuple[Tlv, ...]]:
    """Decode the TLVs after the header."""
    allowed = _ALLOWED[message_type]
    sender: Sender | None = None
    tlvs: list[Tlv] = []
    seen_once: set[type] = set()
    offset, end = HEADER_BYTES, len(data)
    while offset < end:
        value_at = offset + TLV_HEADER_BYTES
        if value_at > end:
            raise DecodeError(DecodeReason.TRUNCATED_TLV, offset)
        number, length = TLV_HEADER.unpack_from(data, offset)
        value_end = value_at + length
        if value_end > end:
            raise DecodeError(DecodeReason.TRUNCATED_TLV, offset)
        cls = TLV_CLASSES.get(number)
        if seen_once and Mac in seen_once:  # it covers all before it, and so nothing may follow
            raise DecodeError(DecodeReason.MISPLACED_TLV, offset)
        if cls is None:
            if number & MANDATORY:
                raise DecodeError(DecodeReason.UNKNOWN_MANDATORY, offset)
        else:
            if (cls is Sender) is not (sender is None):
                reason = DecodeReason.MISSING_TLV if sender is None else DecodeReason.MISPLACED_TLV
                raise DecodeError(reason, offset)
            if cls in _AT_MOST_ONCE:
                if cls in seen_once:
                    raise DecodeError(DecodeReason.MISPLACED_TLV, offset)
                seen_once.add(cls)
            if cls not in allowed:
                raise DecodeError(DecodeReason.MISPLACED_TLV, offset)
            try:
                tlv = cls.unpack(data[value_at:value_end])
                if isinstance(tlv, RouteUpdate):
                    run = RouteUpdate.unpack_run(data, value_end, tlv)
                    tlvs += (tlv, *run)
                    offset = value_end + len(run) * (value_end - offset)
                    continue
            except RefusedError as refused:
                raise DecodeError(refused.reason, value_at) from None
            if isinstance(tlv, Sender):
                sender = tlv
            else:
                tlvs.append(tlv)
        offset = value_end
    if sender is None:
        raise DecodeError(DecodeReason.MISSING_TLV, end)
    return sender, tuple(tlvs)


def _check_shape(message: Message, end: int) -> None:
    """Check that a message has the TLVs that its type and flags demand."""
    present = {type(tlv) for tlv in message.tlvs}
    if not _REQUIRED[message.type] <= present:
        raise DecodeError(DecodeReason.MISSING_TLV, end)
    if message.type is MessageType.DATA:
        is_unicast = message.stream is Stream.UNICAST
        if is_unicast is not (Receiver in present):
            reason = DecodeReason.MISSING_TLV if is_unicast else DecodeReason.MISPLACED_TLV
            raise DecodeError(reason, end)
        if not is_unicast and present & {BeginTable, EndOfTable, SeqnoRequest, TableRequest}:
            raise DecodeError(DecodeReason.MISPLACED_TLV, end)
