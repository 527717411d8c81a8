"""Echo requests as the RFCs draw them, and replies that do not count."""

from __future__ import annotations

import pytest

from routed.model.prefix import Family
from routed.probe.icmp import REPLY_BYTES_MAX, TOKEN_BYTES, EchoReply, decode_reply, encode_request

TOKEN = bytes(range(TOKEN_BYTES))
REPLY = EchoReply(0x1234, 0xFFFE, TOKEN)
V4 = bytes.fromhex("0000 0000 1234 fffe") + TOKEN
V6 = bytes.fromhex("8100 0000 1234 fffe") + TOKEN
IP_HEADER = b"\x45" + bytes(19)


def test_a_request_has_a_checksum_that_sums_to_zero() -> None:
    """RFC 1071: the sum over a packet with its checksum has all bits."""
    request = encode_request(Family.IPV4, 0x1234, 7, TOKEN)
    assert request[:2] == b"\x08\x00"
    words = [int.from_bytes(request[at : at + 2], "big") for at in range(0, len(request), 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert encode_request(Family.IPV6, 0x1234, 7, TOKEN)[:4] == b"\x80\x00\x00\x00"


def test_replies_of_each_kind_of_socket() -> None:
    assert decode_reply(Family.IPV4, V4, has_ip_header=False) == REPLY
    assert decode_reply(Family.IPV6, V6, has_ip_header=False) == REPLY
    assert decode_reply(Family.IPV4, IP_HEADER + V4, has_ip_header=True) == REPLY
    options = b"\x4f" + bytes(59)
    assert decode_reply(Family.IPV4, options + V4, has_ip_header=True) == REPLY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        V4[:-1],
        V4 + b"\0",
        V4[:7],
        b"\x08" + V4[1:],
        b"\x00\x01" + V4[2:],
        b"\x81" + V4[1:],
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    assert decode_reply(Family.IPV4, data, has_ip_header=False) is None
    assert decode_reply(Family.IPV4, IP_HEADER + data, has_ip_header=True) is None


@pytest.mark.parametrize("header", [b"", b"\x60" + bytes(19), b"\x41" + bytes(19), b"\x4f"])
def test_what_is_no_ip_header(header: bytes) -> None:
    assert decode_reply(Family.IPV4, header + V4, has_ip_header=True) is None


def test_a_packet_that_is_too_long_is_seen_to_be() -> None:
    longest = b"\x4f" + bytes(59) + V4 + bytes(2000)
    assert decode_reply(Family.IPV4, longest[:REPLY_BYTES_MAX], has_ip_header=True) is None
