"""The wire format, held against vectors that are also printed in docs/nup.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from routed.model.prefix import Address, Prefix
from routed.nup.wire.message import (
    MANDATORY,
    MAX_ACK_RANGES,
    MAX_DATAGRAM_BYTES,
    TLV_CLASSES,
    Ack,
    DecodeError,
    DecodeReason,
    Goodbye,
    HeaderFlag,
    Hello,
    MessageType,
    Reception,
    RouteUpdate,
    Sender,
    TableVersion,
    checksum,
    decode,
    encode,
    encode_tlvs,
    seal,
    tlv_bytes,
)
from tests.fakes.nup_vectors import load_vectors, message_from_fields, message_to_fields

DOCUMENT = Path(__file__).parents[3] / "docs" / "nup.md"
MESSAGES = load_vectors("nup_messages.json")
REFUSALS = load_vectors("nup_refusals.json")
SENDER = Sender(Address.parse("10.255.0.1"), 1)

every_message = pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector["name"])
every_refusal = pytest.mark.parametrize("vector", REFUSALS, ids=lambda vector: vector["name"])


@every_message
def test_fields_encode_to_the_vector(vector: dict[str, Any]) -> None:
    assert encode(message_from_fields(vector["fields"])).hex() == vector["hex"]


@every_message
def test_the_vector_decodes_to_its_fields(vector: dict[str, Any]) -> None:
    assert message_to_fields(decode(bytes.fromhex(vector["hex"]))) == vector["fields"]


@every_message
def test_the_checksum_is_that_of_rfc_1071_word_by_word(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    data += b"\0" * (len(data) % 2)
    total = 0
    for position in range(0, len(data), 2):
        total += int.from_bytes(data[position : position + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


@every_refusal
def test_a_malformed_datagram_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex(vector["hex"]))
    assert (caught.value.reason.name, caught.value.offset) == (vector["reason"], vector["offset"])


def test_every_reason_but_an_overlong_datagram_has_a_vector() -> None:
    covered = {vector["reason"] for vector in REFUSALS}
    assert covered == {reason.name for reason in DecodeReason} - {"TOO_LONG"}


def test_every_tlv_occurs_in_a_vector() -> None:
    named = {tlv["tlv"] for vector in MESSAGES for tlv in vector["fields"]["tlvs"]} | {"Sender"}
    assert named == {cls.__name__ for cls in TLV_CLASSES.values()}


def test_the_specification_shows_every_vector_and_every_tlv() -> None:
    text = DOCUMENT.read_text()
    shown = text.replace("\n", "").replace(" ", "")
    for vector in MESSAGES:
        assert vector["hex"] in shown, vector["name"]
        assert f"`{vector['name']}`" in text
    for number, cls in TLV_CLASSES.items():
        assert f"| 0x{number:04x} | {cls.__name__} |" in text


def test_a_datagram_over_the_limit_is_refused() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(bytes(MAX_DATAGRAM_BYTES + 1))
    assert caught.value.reason is DecodeReason.TOO_LONG


def test_a_payload_over_the_limit_is_the_callers_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        seal(MessageType.DATA, HeaderFlag(0), 1, 0, bytes(MAX_DATAGRAM_BYTES))


def test_an_unknown_optional_tlv_is_skipped() -> None:
    unknown = (0x00FF).to_bytes(2, "big") + (3).to_bytes(2, "big") + b"abc"
    payload = encode_tlvs(SENDER, ()) + unknown + tlv_bytes(Goodbye())
    message = decode(seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload))
    assert message.tlvs == (Goodbye(),)


def test_unknown_flags_are_ignored() -> None:
    payload = encode_tlvs(SENDER, (Goodbye(),))
    assert decode(seal(MessageType.CONTROL, HeaderFlag(0x8000), 1, 0, payload)).flags == HeaderFlag(
        0
    )


@pytest.mark.parametrize("hello", [Hello(9, 3, 1500, 0), Hello(60_001, 3, 1500, 0)])
def test_a_hello_interval_out_of_range_is_refused(hello: Hello) -> None:
    payload = encode_tlvs(SENDER, (hello,))
    with pytest.raises(DecodeError) as caught:
        decode(seal(MessageType.HEARTBEAT, HeaderFlag(0), 1, 0, payload))
    assert caught.value.reason is DecodeReason.BAD_VALUE


def test_a_prefix_takes_no_more_bytes_than_its_length_needs() -> None:
    def size(text: str) -> int:
        origin = Address.parse("10.255.0.1")
        return len(tlv_bytes(RouteUpdate(Prefix.parse(text), 1, 0, False, origin, 1)))

    assert size("2001:db8::/32") - size("::/0") == 4
    assert size("10.0.0.0/9") - size("10.0.0.0/8") == 1


def test_a_full_ack_fits_and_one_more_range_is_refused() -> None:
    vector = next(vector for vector in MESSAGES if vector["name"] == "ack-with-gap")
    message = message_from_fields(vector["fields"])
    ack = message.tlvs[0]
    assert isinstance(ack, Ack)
    full = dataclasses.replace(ack, ranges=ack.ranges * MAX_ACK_RANGES)
    over = dataclasses.replace(ack, ranges=ack.ranges * (MAX_ACK_RANGES + 1))
    assert decode(encode(dataclasses.replace(message, tlvs=(full,)))).tlvs == (full,)
    with pytest.raises(DecodeError):
        decode(encode(dataclasses.replace(message, tlvs=(over,))))


def test_the_registry_numbers_are_those_that_the_classes_carry() -> None:
    assert all(number == cls.TYPE for number, cls in TLV_CLASSES.items())
    assert TLV_CLASSES[MANDATORY | 1] is Sender


def test_the_checksum_of_data_that_sums_to_nothing_is_zero() -> None:
    assert checksum(b"\xff\xff") == 0
    assert checksum(b"\xff\xfe") == 1
    assert checksum(b"\x00\x01\xf2") == 0xFFFF - 0xF201


def test_an_empty_data_message_has_a_version_only() -> None:
    payload = encode_tlvs(SENDER, (TableVersion(2**64 - 1),))
    message = decode(seal(MessageType.DATA, HeaderFlag(0), 7, 0, payload))
    assert message.tlvs == (TableVersion(2**64 - 1),)


RUN = tuple(
    RouteUpdate(Prefix.parse(f"10.0.{number}.0/23"), 7, 1, True, SENDER.router_id, 9)
    for number in range(0, 12, 2)
)


def data(*tlvs: bytes) -> bytes:
    payload = encode_tlvs(SENDER, (TableVersion(1),)) + b"".join(tlvs)
    return seal(MessageType.DATA, HeaderFlag(0), 7, 0, payload)


def test_a_host_bit_within_a_run_is_found_where_it_is() -> None:
    packed = [tlv_bytes(update) for update in RUN]
    packed[3] = packed[3][:-1] + bytes([packed[3][-1] | 1])
    with pytest.raises(DecodeError) as caught:
        decode(data(*packed))
    assert caught.value.reason is DecodeReason.BAD_VALUE
    assert caught.value.offset == len(data(*packed[:3])) + 4


def test_a_run_that_is_cut_is_refused_where_it_ends() -> None:
    packed = [tlv_bytes(update) for update in RUN]
    with pytest.raises(DecodeError) as caught:
        decode(data(*packed[:3], packed[3][:-1]))
    assert caught.value.reason is DecodeReason.TRUNCATED_TLV
    assert caught.value.offset == len(data(*packed[:3]))


def test_a_run_of_default_routes_ends() -> None:
    default = RUN[0]._replace(prefix=Prefix.parse("0.0.0.0/0"))
    message = decode(data(*[tlv_bytes(default)] * 3, tlv_bytes(RUN[0])))
    assert message.tlvs[1:] == (default, default, default, RUN[0])


def test_a_known_number_with_the_other_mandatory_bit_is_an_unknown_tlv() -> None:
    """All 16 bits name a TLV: 0x0001 is not SENDER, and is skipped; 0x8010 refuses the message."""
    value = SENDER.pack()
    optional = (1).to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    payload = encode_tlvs(SENDER, ()) + optional + tlv_bytes(Goodbye())
    assert decode(seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload)).tlvs == (Goodbye(),)


def test_unknown_flags_of_a_message_and_of_a_route_are_ignored() -> None:
    update = RouteUpdate(Prefix.parse("192.0.2.0/24"), 1, 0, False, SENDER.router_id, 1)
    packed = bytearray(tlv_bytes(update))
    packed[6] |= 0xFE
    payload = encode_tlvs(SENDER, (TableVersion(1),)) + bytes(packed)
    message = decode(seal(MessageType.DATA, HeaderFlag(0xFFF0), 1, 0, payload))
    assert (message.flags, message.tlvs[1]) == (HeaderFlag(0), update)


def test_reception_may_speak_of_more_heartbeats_than_a_receiver_remembers() -> None:
    heard = tlv_bytes(Reception(SENDER.router_id, 254, 255))
    payload = encode_tlvs(SENDER, (Hello(1000, 3, 1500, 0),)) + heard
    message = decode(seal(MessageType.HEARTBEAT, HeaderFlag(0), 1, 0, payload))
    assert message.tlvs[1] == Reception(SENDER.router_id, 254, 255)
