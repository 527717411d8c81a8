"""The codec: a declared value is decoded unchanged, and any other is refused."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import CodecError, decode, decode_plain, encode, encode_plain
from ipc.control import Configure, Lease, RouteChange, RouteOperation
from routed.imsg.authority import AUTHORITY
from routed.model.prefix import Address, Prefix


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    left: int
    right: str | None


@dataclass(frozen=True, slots=True)
class Everything:
    flag: bool
    number: int
    share: float
    text: str
    raw: bytes
    colour: Colour
    pairs: tuple[Pair, ...]
    fixed: tuple[int, str]
    named: dict[str, int]
    prefix: Prefix
    address: Address | None


EVERYTHING = st.builds(
    Everything,
    flag=st.booleans(),
    number=st.integers(-(2**63), 2**64 - 1),
    share=st.floats(allow_nan=False),
    text=st.text(max_size=10),
    raw=st.binary(max_size=10),
    colour=st.sampled_from(Colour),
    pairs=st.lists(
        st.builds(Pair, st.integers(0, 9), st.none() | st.text(max_size=3)), max_size=3
    ).map(tuple),
    fixed=st.tuples(st.integers(0, 9), st.text(max_size=3)),
    named=st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3),
    prefix=st.sampled_from([Prefix.parse("10.0.0.0/8"), Prefix.parse("2001:db8::/32")]),
    address=st.none() | st.just(Address.parse("fe80::1")),
)


@given(EVERYTHING)
def test_what_is_encoded_comes_back(value: Everything) -> None:
    assert decode(Everything, encode(value)) == value


@given(st.binary(max_size=80))
def test_any_bytes_are_the_message_or_a_codec_error(body: bytes) -> None:
    for kind in (Everything, Pair, *(authority.message for authority in AUTHORITY.values())):
        try:
            decode(kind, body)
        except CodecError:
            pass


@given(EVERYTHING, st.integers(0, 60), st.binary(max_size=10))
def test_a_mutated_tail_is_the_message_or_a_codec_error(
    value: Everything, cut: int, tail: bytes
) -> None:
    try:
        decode(Everything, encode(value)[:cut] + tail)
    except CodecError:
        pass


def packed(**changes: object) -> bytes:
    value = Everything(
        True, 1, 1.5, "t", b"r", Colour.RED, (), (1, "x"), {}, Prefix.parse("10.0.0.0/8"), None
    )
    items = msgpack.unpackb(encode(value))
    names = [field.name for field in fields(Everything)]
    for name, change in changes.items():
        items[names.index(name)] = change
    return bytes(msgpack.packb(items))


@pytest.mark.parametrize(
    "changes",
    [
        {"flag": 1},
        {"number": True},
        {"number": 1.0},
        {"share": 1},
        {"text": b"t"},
        {"raw": "r"},
        {"colour": 3},
        {"colour": True},
        {"colour": [1]},
        {"pairs": [[1, "x", 2]]},
        {"pairs": [1]},
        {"fixed": [1]},
        {"named": {"a": "b"}},
        {"named": []},
        {"prefix": [b"\x0a\x00\x00\x01", 8]},
        {"prefix": [b"\x0a", 8]},
        {"address": "fe80::1"},
        {"address": b"123"},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        decode(Everything, packed(**changes))


def test_too_few_and_too_many_fields_are_refused() -> None:
    for body in (b"\x90", bytes(msgpack.packb([1, None, 3]))):
        with pytest.raises(CodecError, match="2 fields"):
            decode(Pair, body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "given twice"),
        (b"\x91" * 20 + b"\x90", "too deep"),
        (b"\x91" * 2000 + b"\x90", "not msgpack"),
        (b"\xc7\x04\x01abcd", "not msgpack"),
        (b"\x01\x01", "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\x81\x01\x02", "not msgpack"),
        (b"\xa1\xff", "not msgpack"),
    ],
)
def test_hostile_msgpack_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        decode_plain(body)


def test_plain_values_come_back() -> None:
    value = {"a": [1, None, {"b": "c"}], "d": b"e"}
    assert decode_plain(encode_plain(value)) == value


def test_our_own_mistakes_are_codec_errors_too() -> None:
    with pytest.raises(CodecError):
        encode(Pair("not a number", None))  # type: ignore[arg-type]
    with pytest.raises(CodecError):
        encode_plain(object())


def test_a_moment_that_is_no_number_does_not_come_in() -> None:
    """It does not compare with other numbers, and a timer set to it would fail much later."""
    for share in (float("inf"), 1e308, -0.0):
        assert decode(Everything, packed(share=share)).share == share
    with pytest.raises(CodecError, match="not a number"):
        decode(Everything, packed(share=float("nan")))


def test_a_number_that_is_none_is_not_sent_and_the_error_names_it() -> None:
    with pytest.raises(CodecError, match=r"^confirm_s: a float that is not a number$"):
        encode(Configure("reload", math.nan))
    with pytest.raises(CodecError, match=r"^lease: seconds: a float that is not a number$"):
        encode(RouteChange(RouteOperation.ADD, (), lease=Lease(math.nan)))
