"""ICMP and ICMPv6 echo: the request that a probe sends, and the replies that come. Pure.

    0               1               2               3
    |  type         |  code 0       |  checksum                     |
    |  identifier                   |  sequence number              |
    |  token, 16 bytes                                              |

The token is random for each attempt, so only a system that saw the request can make a reply that
counts. The identifier is that of the socket: with a datagram socket the kernel puts it in. The
kernel calculates ICMPv6 checksums, because they cover the addresses.

Sources: RFC 792; RFC 4443, section 4.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from routed.model.prefix import Family

__all__ = ["REPLY_BYTES_MAX", "TOKEN_BYTES", "EchoReply", "decode_reply", "encode_request"]

TOKEN_BYTES = 16
_HEADER = struct.Struct(">BBHHH")
_IPV4_HEADER_MAX = 60

REPLY_BYTES_MAX = _IPV4_HEADER_MAX + _HEADER.size + TOKEN_BYTES + 1
"""Bytes that are read of a packet: one that is longer than a reply is seen to be."""

_REQUEST = {Family.IPV4: 8, Family.IPV6: 128}
_REPLY = {Family.IPV4: 0, Family.IPV6: 129}


class EchoReply(NamedTuple):
    """The fields of a reply."""

    identifier: int
    sequence: int
    token: bytes


def encode_request(family: Family, identifier: int, sequence: int, token: bytes) -> bytes:
    """Encode an echo request.

    Args:
        family: IPv4: with a checksum; IPv6: the kernel adds it.
        identifier: 0 to 65535.
        sequence: 0 to 65535.
        token: TOKEN_BYTES bytes.
    """
    header = _HEADER.pack(_REQUEST[family], 0, 0, identifier, sequence)
    if family is Family.IPV6:
        return header + token
    checksum = _checksum(header + token)
    return _HEADER.pack(_REQUEST[family], 0, checksum, identifier, sequence) + token


def decode_reply(family: Family, data: bytes, *, has_ip_header: bool) -> EchoReply | None:
    """Decode a packet.

    Args:
        family: of the socket.
        data: as it was received, cut after REPLY_BYTES_MAX bytes.
        has_ip_header: whether it begins with an IPv4 header, as a raw socket's packets do.

    Returns:
        The reply; None if the packet is none, or not one that a request of ours may have.
    """
    if has_ip_header:
        if not data or data[0] >> 4 != 4:
            return None
        header_bytes = (data[0] & 0x0F) * 4
        if header_bytes < 20:
            return None
        data = data[header_bytes:]
    if len(data) != _HEADER.size + TOKEN_BYTES:
        return None
    kind, code, _, identifier, sequence = _HEADER.unpack_from(data)
    if kind != _REPLY[family] or code != 0:
        return None
    return EchoReply(identifier, sequence, data[_HEADER.size :])


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
