"""DNS queries and answers, and hostile answers: loops, wrong ids, other questions, rubbish."""

from __future__ import annotations

import random
import struct

import pytest

from routed.model.prefix import Address
from routed.model.probe import RecordType
from routed.probe.dns import (
    ANSWER_BYTES_MAX,
    ANSWER_RECORDS_MAX,
    DnsQuery,
    decode_answer,
    encode_name,
    make_query,
)

QUERY = make_query("www.example.org", RecordType.A, random.Random(1))
POINTER = b"\xc0\x0c"


def record(value: bytes, *, number: int = 1, class_: int = 1, name: bytes = POINTER) -> bytes:
    return name + struct.pack(">HHIH", number, class_, 60, len(value)) + value


def answer(
    *records: bytes, query: DnsQuery = QUERY, flags: int = 0x8180, count: int | None = None
) -> bytes:
    number = query.data[:2]
    counts = struct.pack(">HHHH", 1, len(records) if count is None else count, 0, 0)
    return number + struct.pack(">H", flags) + counts + query.question + b"".join(records)


def test_a_query_has_the_name_in_random_case_and_a_random_id() -> None:
    made = [make_query("www.example.org", RecordType.AAAA, random.Random(n)) for n in range(20)]
    for query in made:
        assert query.question.lower() == b"\3www\7example\3org\0\0\x1c\0\1"
        assert query.data[2:12] == b"\1\0\0\1\0\0\0\0\0\0"
    assert len({query.data[:2] for query in made}) > 10
    assert len({query.question for query in made}) > 10


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "é.org", ".".join(["a" * 63] * 4)])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a domain name|is longer than"):
        encode_name(name)


def test_the_root_and_a_final_dot() -> None:
    assert encode_name(".") == encode_name("") == b"\0"
    assert encode_name("a.b.") == encode_name("a.b") == b"\1a\1b\0"


def test_an_answer_with_an_alias() -> None:
    alias = record(b"\3web\xc0\x10", number=5)
    found = decode_answer(
        answer(alias, record(b"\xc0\0\2\1", name=b"\3web\xc0\x10"), record(b"\xc0\0\2\2")), QUERY
    )
    assert found is not None
    assert (found.rcode, found.records, found.is_truncated) == (0, 2, False)
    assert found.addresses == (Address.parse("192.0.2.1"), Address.parse("192.0.2.2"))


def test_an_answer_of_ipv6() -> None:
    query = make_query("a", RecordType.AAAA, random.Random(2))
    address = Address.parse("2001:db8::1")
    value = address.addr_bits.to_bytes(16, "big")
    found = decode_answer(answer(record(value, number=28), query=query), query)
    assert found is not None
    assert found.addresses == (address,)


def test_codes_and_truncation() -> None:
    found = decode_answer(answer(flags=0x8183), QUERY)
    assert found is not None
    assert (found.rcode, found.records) == (3, 0)
    found = decode_answer(answer(flags=0x8380), QUERY)
    assert found is not None
    assert found.is_truncated


def test_records_of_other_types_classes_and_lengths_have_no_address() -> None:
    found = decode_answer(
        answer(
            record(b"\1\2\3\4", number=16), record(b"\1\2\3\4", class_=3), record(b"\1\2\3"),
        ),
        QUERY,
    )  # fmt: skip
    assert found is not None
    assert (found.records, found.addresses) == (1, ())


GOOD = answer(record(b"\xc0\0\2\1"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUERY.data,
        GOOD[:-1],
        GOOD[: len(QUERY.data) - 1],
        bytes([GOOD[0] ^ 1]) + GOOD[1:],
        answer(record(b"\xc0\0\2\1"), flags=0x8980),
        GOOD.replace(b"\7", b"\6"),
        GOOD.swapcase(),
        GOOD[:4] + b"\0\2" + GOOD[6:],
        answer(record(b"\xc0\0\2\1"), count=2),
        answer(record(b"\1\2\3\4", name=b"\x80")),
        answer(record(b"\1\2\3\4", name=b"\x3f")),
        answer(b"\xc0"),
        answer(struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 0xFFFF)),
        answer(*[record(b"\xc0\0\2\1")] * 30) + bytes(ANSWER_BYTES_MAX),
    ],
)
def test_what_is_no_answer_to_the_query(data: bytes) -> None:
    assert decode_answer(data, QUERY) is None


def test_a_loop_of_pointers_is_not_followed() -> None:
    at = len(QUERY.data)
    loop = record(b"\xc0\0\2\1", name=struct.pack(">H", 0xC000 | at))
    found = decode_answer(answer(loop, loop), QUERY)
    assert found is not None
    assert found.records == 2


def test_the_records_that_are_read_are_bounded() -> None:
    many = [b"\0" + struct.pack(">HHIH", 1, 1, 0, 0)] * 100
    data = answer(*many, count=0xFFFF)
    assert len(data) > ANSWER_BYTES_MAX
    assert decode_answer(data, QUERY) is None
    short = answer(*many[:40], count=0xFFFF)
    assert decode_answer(short, QUERY) is None, "it has fewer than it says"
    assert ANSWER_RECORDS_MAX < 100
