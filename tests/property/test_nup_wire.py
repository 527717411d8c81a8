"""Laws of the wire format: decoding undoes encoding; any bytes are decoded or refused."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.model.prefix import Address, Family, Prefix
from routed.nup.events import TraceCode
from routed.nup.instance import NeighborInstance
from routed.nup.wire.message import (
    MAX_DATAGRAM_BYTES,
    Ack,
    AckRange,
    BeginTable,
    DecodeError,
    DecodeReason,
    EndOfTable,
    Goodbye,
    HeaderFlag,
    Hello,
    LinkAddress,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    RestartNotice,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    Stream,
    TableVersion,
    Tlv,
    checksum,
    decode,
    encode,
    seal,
)
from tests.fakes.fake_wire import link_settings, router_id

U32 = st.integers(0, 2**32 - 1)
ROUTER_IDS = st.builds(Address, st.just(Family.IPV4), U32)
ADDRESSES = st.one_of(
    ROUTER_IDS, st.builds(Address, st.just(Family.IPV6), st.integers(0, 2**128 - 1))
)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ADDRESSES)
    return Prefix.masked(
        address.family, address.addr_bits, draw(st.integers(0, address.family.width))
    )


LONGEST_DEAD_INTERVAL_S = 60 * 255
SENDER_IDS = st.builds(Address, st.just(Family.IPV4), st.integers(1, 0xDFFF_FFFF))
SENDERS = st.builds(Sender, SENDER_IDS, U32)
UPDATES = st.builds(RouteUpdate, prefixes(), U32, U32, st.booleans(), ROUTER_IDS, U32)
RANGES = st.builds(AckRange, st.integers(1, 256), st.integers(1, 256))
ACKS = st.builds(
    Ack,
    ROUTER_IDS,
    U32,
    st.sampled_from(Stream),
    U32,
    st.lists(RANGES, max_size=8).map(tuple),
)
HELLOS = st.builds(Hello, st.integers(10, 60_000), st.integers(1, 255), U32, U32)
HEARD = st.builds(NeighborHeard, ROUTER_IDS, U32, U32, U32, U32, U32)
VERSIONS = st.builds(TableVersion, st.integers(0, 2**64 - 1))
REQUESTS = st.builds(SeqnoRequest, prefixes(), ROUTER_IDS, U32, st.integers(1, 255))


@st.composite
def runs(draw: st.DrawFn) -> list[RouteUpdate]:
    """Updates that differ in their prefix only, and sometimes in its length."""
    first = draw(UPDATES)
    family, _, prefix_len = first.prefix
    bits = st.integers(0, (1 << family.width) - 1)
    lengths = st.sampled_from([prefix_len] * 8 + [family.width])
    others = draw(st.lists(st.tuples(bits, lengths), max_size=6))
    return [first] + [
        first._replace(prefix=Prefix.masked(family, addr_bits, length))
        for addr_bits, length in others
    ]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message_type = draw(st.sampled_from(MessageType))
    flags = HeaderFlag(0)
    tlvs: list[Tlv] = []
    match message_type:
        case MessageType.DATA:
            if draw(st.booleans()):
                flags = HeaderFlag.UNICAST_STREAM
                tlvs.append(draw(st.builds(Receiver, ROUTER_IDS, U32)))
                tlvs += draw(st.lists(REQUESTS, max_size=4))
                tlvs += draw(st.lists(st.builds(BeginTable, U32), max_size=1))
                tlvs += draw(st.lists(st.builds(EndOfTable, U32), max_size=1))
            tlvs.append(draw(VERSIONS))
            tlvs += draw(st.lists(UPDATES, max_size=12))
            tlvs += draw(runs())
        case MessageType.ACK:
            tlvs += draw(st.lists(ACKS, min_size=1, max_size=3))
        case MessageType.HEARTBEAT:
            tlvs.append(draw(HELLOS))
            tlvs += draw(
                st.lists(st.one_of(HEARD, st.builds(LinkAddress, ADDRESSES), ACKS), max_size=8)
            )
        case MessageType.CONTROL:
            tlvs += draw(st.lists(st.just(Goodbye()), max_size=1))
            tlvs += draw(st.lists(st.builds(RestartNotice, U32), max_size=1))
    return Message(message_type, flags, draw(U32), draw(U32), draw(SENDERS), tuple(tlvs))


def refusal_of(data: bytes) -> DecodeReason | None:
    """Return why a datagram does not decode; None when it does."""
    try:
        decode(data)
    except DecodeError as error:
        return error.reason
    return None


def resealed(data: bytearray) -> bytes:
    """Correct the length and the checksum, so that a mutation reaches the TLVs."""
    data[12:14] = (len(data) - 16).to_bytes(2, "big")
    data[14:16] = b"\0\0"
    data[14:16] = checksum(bytes(data)).to_bytes(2, "big")
    return bytes(data)


@given(messages())
def test_decoding_undoes_encoding(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages())
def test_encoding_again_gives_the_same_bytes(message: Message) -> None:
    data = encode(message)
    assert encode(decode(data)) == data


@given(st.binary(max_size=MAX_DATAGRAM_BYTES + 8))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)


@given(st.sampled_from(MessageType), st.binary(max_size=200))
def test_any_payload_under_a_right_header_decodes_or_is_refused(
    message_type: MessageType, payload: bytes
) -> None:
    with contextlib.suppress(DecodeError):
        decode(seal(message_type, HeaderFlag(0), 1, 2, payload))


@given(messages(), st.data())
def test_a_mutated_message_decodes_canonically_or_is_refused(
    message: Message, data: st.DataObject
) -> None:
    mutated = bytearray(encode(message))
    position = data.draw(st.integers(16, len(mutated) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            mutated[position] ^= data.draw(st.integers(1, 255))
        case "cut":
            del mutated[position:]
        case "grow":
            mutated += data.draw(st.binary(min_size=1, max_size=8))
    with contextlib.suppress(DecodeError):
        again = decode(resealed(mutated))
        assert decode(encode(again)) == again


@given(messages(), st.data())
def test_a_flipped_bit_fails_the_checksum(message: Message, data: st.DataObject) -> None:
    mutated = bytearray(encode(message))
    position = data.draw(st.integers(16, len(mutated) - 1))
    mutated[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DecodeError) as caught:
        decode(bytes(mutated))
    assert caught.value.reason is DecodeReason.BAD_CHECKSUM


@settings(max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=120), messages().map(encode)), max_size=12))
def test_the_instance_survives_any_datagrams_and_counts_the_dropped_ones(
    datagrams: list[bytes],
) -> None:
    instance = NeighborInstance(router_id(1), 1, 1, random.Random(1))
    instance.link_up(link_settings(1, 1), 0.0)
    source = link_settings(2, 1).local_address
    now = 0.0
    for data in datagrams:
        now += 0.01
        before = Counter(instance.counters())
        instance.receive_datagram(data, source, 1, 255, now)
        counted = Counter(instance.counters()) - before
        reason = refusal_of(data)
        if reason is not None:
            assert counted == {TraceCode[f"DROPPED_{reason.name}"].value: 1}
    timer = instance.next_timer()
    assert timer is not None
    end = now + LONGEST_DEAD_INTERVAL_S + 1
    instance.handle_timer(end)
    assert instance.neighbors(end) == []
