"""DNS over UDP: the query that a probe sends, and the answer that it expects. Pure.

Only what the probe needs is read: the response code, and the records of one type in the answer
section. Names of records are skipped and never followed, so a compression loop costs nothing. The
question must come back as it was sent, with the letters in the case that was drawn at random for
this attempt (draft-vixie-dnsext-dns0x20): with the query id and the port that is a proof of having
seen the query.

Bounds: ANSWER_BYTES_MAX bytes of an answer, ANSWER_RECORDS_MAX records of its answer section.

Sources: RFC 1035, sections 3.1 and 4.1; RFC 3596.
"""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

from routed.model.prefix import Address, Family
from routed.model.probe import RecordType

__all__ = [
    "ANSWER_BYTES_MAX",
    "ANSWER_RECORDS_MAX",
    "DnsAnswer",
    "DnsQuery",
    "decode_answer",
    "encode_name",
    "make_query",
]

ANSWER_BYTES_MAX = 512
"""Longest answer without EDNS, which is not sent."""
ANSWER_RECORDS_MAX = 64

_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_IS_ANSWER, _OPCODE, _IS_TRUNCATED, _WANTS_RECURSION = 0x8000, 0x7800, 0x0200, 0x0100
_RCODE = 0x000F
_CLASS_IN = 1
_LABEL_MAX, _NAME_MAX = 63, 255
_POINTER = 0xC0

_NUMBERS = {
    RecordType.A: 1,
    RecordType.NS: 2,
    RecordType.SOA: 6,
    RecordType.TXT: 16,
    RecordType.AAAA: 28,
}
_ADDRESS_BYTES = {RecordType.A: 4, RecordType.AAAA: 16}


class DnsQuery(NamedTuple):
    """A query as it was sent."""

    data: bytes
    type: RecordType

    @property
    def question(self) -> bytes:
        """The question section."""
        return self.data[_HEADER.size :]


class DnsAnswer(NamedTuple):
    """What an answer says."""

    rcode: int
    records: int
    """Records of the type of the query in the answer section."""
    addresses: tuple[Address, ...]
    """Of those that have one."""
    is_truncated: bool


def encode_name(name: str) -> bytes:
    """Encode a domain name.

    Raises:
        ValueError: it is none: an empty or long label, a character that is not ASCII, too long.
    """
    text = name.removesuffix(".")
    encoded = b""
    for label in text.split(".") if text else []:
        if not label.isascii() or not 1 <= len(label) <= _LABEL_MAX:
            raise ValueError(f"{name!r} is not a domain name")
        encoded += bytes([len(label)]) + label.encode("ascii")
    if len(encoded) >= _NAME_MAX:
        raise ValueError(f"{name!r} is longer than {_NAME_MAX} bytes")
    return encoded + b"\0"


def make_query(name: str, kind: RecordType, rng: random.Random) -> DnsQuery:
    """Encode a query with a random id, and letters in random case.

    Args:
        name: a domain name that `encode_name` accepts.
        kind: the type of the records.
        rng: its state must be unpredictable.
    """
    letters = "".join(rng.choice((letter.lower(), letter.upper())) for letter in name)
    header = _HEADER.pack(rng.getrandbits(16), _WANTS_RECURSION, 1, 0, 0, 0)
    question = encode_name(letters) + struct.pack(">HH", _NUMBERS[kind], _CLASS_IN)
    return DnsQuery(header + question, kind)


def decode_answer(data: bytes, query: DnsQuery) -> DnsAnswer | None:
    """Decode a packet.

    Args:
        data: as it was received, cut after ANSWER_BYTES_MAX + 1 bytes.
        query: the outstanding one.

    Returns:
        The answer; None if the packet is no answer to the query, or is malformed.
    """
    start = len(query.data)
    if not start <= len(data) <= ANSWER_BYTES_MAX:
        return None
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    (wanted,) = struct.unpack_from(">H", query.data)
    if number != wanted or not flags & _IS_ANSWER or flags & _OPCODE or questions != 1:
        return None
    if data[_HEADER.size : start] != query.question:
        return None
    try:
        found = _records(data, start, min(answers, ANSWER_RECORDS_MAX), query.type)
    except (IndexError, struct.error):
        return None
    family = Family.IPV4 if query.type is RecordType.A else Family.IPV6
    length = _ADDRESS_BYTES.get(query.type)
    addresses = tuple(
        Address(family, int.from_bytes(value, "big")) for value in found if len(value) == length
    )
    return DnsAnswer(flags & _RCODE, len(found), addresses, bool(flags & _IS_TRUNCATED))


def _records(data: bytes, at: int, count: int, kind: RecordType) -> list[bytes]:
    """Return the values of the records of a type.

    Raises:
        IndexError, struct.error: the packet ends within a record.
    """
    found = []
    for _ in range(count):
        at = _skip_name(data, at)
        number, class_, _, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise IndexError("the packet ends within a record")
        if (number, class_) == (_NUMBERS[kind], _CLASS_IN):
            found.append(data[at : at + length])
        at += length
    return found


def _skip_name(data: bytes, at: int) -> int:
    """Return the offset after a name.

    Raises:
        IndexError: it does not end, or has a label of an unknown kind.
    """
    while True:
        length = data[at]
        if length & _POINTER == _POINTER:
            return at + 2
        if length & _POINTER:
            raise IndexError("a label of an unknown kind")
        at += 1 + length
        if length == 0:
            return at
