"""Netlink messages and attributes <-> bytes: what every family of messages shares. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from routed.model.prefix import Address

__all__ = [
    "ERRNO",
    "NLMSG_DONE",
    "NLMSG_ERROR",
    "NLMSG_HEADER",
    "NLMSG_NOOP",
    "NLM_F_ACK",
    "NLM_F_ACK_TLVS",
    "NLM_F_CAPPED",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_ECHO",
    "NLM_F_EXCL",
    "NLM_F_REPLACE",
    "NLM_F_REQUEST",
    "SEQUENCE_OFFSET",
    "NetlinkDecodeError",
    "NetlinkMessage",
    "attributes",
    "decode_address",
    "decode_error",
    "decode_u32",
    "pack_attribute",
    "pack_message",
    "pack_u32_attribute",
    "split_messages",
]

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3


NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP_INTR = 0x1, 0x4, 0x8, 0x10


NLM_F_DUMP = 0x300


NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200


NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400


_NLMSGERR_ATTR_MSG = 1


_NLA_TYPE_MASK = 0x3FFF


NLMSG_HEADER = struct.Struct("=IHHII")


SEQUENCE_OFFSET = 8


_ATTRIBUTE = struct.Struct("=HH")


_U32_ATTRIBUTE = struct.Struct("=HHI")


_U32 = struct.Struct("=I")


ERRNO = struct.Struct("=i")


class NetlinkDecodeError(Exception):
    """Bytes that are no netlink message, or no route message."""


class NetlinkMessage(NamedTuple):
    """One message of a received buffer, its payload not decoded."""

    type: int
    flags: int
    sequence: int
    port_id: int
    """Whose request caused it; ours when it is our own echo."""
    payload: bytes


def split_messages(buffer: bytes) -> Iterator[NetlinkMessage]:
    """Walk the messages of one received buffer.

    Raises:
        DecodeError: a length that cannot be.
    """
    offset, end = 0, len(buffer)
    while offset + NLMSG_HEADER.size <= end:
        length, kind, flags, sequence, port_id = NLMSG_HEADER.unpack_from(buffer, offset)
        if length < NLMSG_HEADER.size or offset + length > end:
            raise NetlinkDecodeError(f"a message of {length} bytes at offset {offset} of {end}")
        payload = buffer[offset + NLMSG_HEADER.size : offset + length]
        yield NetlinkMessage(kind, flags, sequence, port_id, payload)
        offset += (length + 3) & ~3


def pack_message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Lay out one request; the payload is padded already."""
    return NLMSG_HEADER.pack(NLMSG_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def pack_attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def pack_u32_attribute(kind: int, value: int) -> bytes:
    """One attribute that is a number."""
    return _U32_ATTRIBUTE.pack(8, kind, value)


def attributes(payload: bytes, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Walk the attributes between two offsets: type and payload of each.

    Raises:
        DecodeError: a length that cannot be.
    """
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            raise NetlinkDecodeError(f"an attribute of {length} bytes at offset {offset} of {end}")
        yield kind & _NLA_TYPE_MASK, payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def decode_u32(payload: bytes) -> int:
    """A number in host order; DecodeError when it is none."""
    if len(payload) != _U32.size:
        raise NetlinkDecodeError(f"a number of {len(payload)} bytes")
    return int(_U32.unpack(payload)[0])


def decode_address(payload: bytes) -> Address:
    """An address of either family; DecodeError when it is none."""
    try:
        return Address.unpack(payload)
    except ValueError as error:
        raise NetlinkDecodeError(str(error)) from error


def decode_error(message: NetlinkMessage) -> tuple[int, str]:
    """An NLMSG_ERROR: the positive errno (0 is an acknowledgement) and the kernel's own words.

    Raises:
        DecodeError: malformed.
    """
    payload = message.payload
    if len(payload) < ERRNO.size:
        raise NetlinkDecodeError("an error message without a number")
    number = -ERRNO.unpack_from(payload)[0]
    if not message.flags & NLM_F_ACK_TLVS:
        return number, ""
    offset = ERRNO.size + NLMSG_HEADER.size
    if not message.flags & NLM_F_CAPPED and len(payload) >= offset:
        (original_length,) = _U32.unpack_from(payload, ERRNO.size)
        offset = ERRNO.size + ((original_length + 3) & ~3)
    for kind, value in attributes(payload, offset, len(payload)):
        if kind == _NLMSGERR_ATTR_MSG:
            return number, value.rstrip(b"\0").decode("utf-8", "replace")
    return number, ""
