"""Netlink messages and attributes <-> bytes: the one codec, for every family and caller. Pure.

This module has the headers (C structs) and the numbers that more than one caller uses; the codecs
of each family are in `fib/routes/codec.py`, `fib/links/codec.py`, `fib/nexthops/codec.py`,
`fib/rule_codec.py`, `config/vrf.py` and `routectl/kernel.py`.

    nlmsghdr (16)   length u32 | type u16 | flags u16 | sequence u32 | port id u32
    rtmsg    (12)   family u8 | dst_len u8 | src_len u8 | tos u8 |
                    table u8 | protocol u8 | scope u8 | type u8 | flags u32
    rtnexthop (8)   length u16 | flags u8 | hops u8 | ifindex i32 | rtattrs
    nhmsg     (8)   family u8 | scope u8 | protocol u8 | zero u8 | flags u32
    nexthop_grp (8) id u32 | weight - 1, low u8 | the same, high u8 | zero u16
    rtattr          length u16 | type u16 | payload, padded to 4

Everything is in host byte order, except addresses, which are in network order.

Failure: `NetlinkDecodeError` for bytes that are no netlink message.

Sources: netlink(7), rtnetlink(7); linux/netlink.h, linux/rtnetlink.h, linux/if_link.h,
linux/nexthop.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from routed.model.prefix import Address

__all__ = [
    "ERRNO",
    "IFINFOMSG",
    "NEXTHOP_GRP",
    "NHMSG",
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
    "RTMSG",
    "RTM_DELLINK",
    "RTM_DELNEXTHOP",
    "RTM_DELROUTE",
    "RTM_GETLINK",
    "RTM_GETNEXTHOP",
    "RTM_GETROUTE",
    "RTM_NEWLINK",
    "RTM_NEWNEXTHOP",
    "RTM_NEWROUTE",
    "RTNEXTHOP",
    "SEQUENCE_OFFSET",
    "Ifla",
    "NetlinkDecodeError",
    "NetlinkMessage",
    "Nha",
    "Rta",
    "attributes",
    "decode_address",
    "decode_error",
    "decode_group",
    "decode_multipath",
    "decode_u32",
    "decode_via",
    "decode_vrf_table",
    "pack_attribute",
    "pack_message",
    "pack_u32_attribute",
    "split_messages",
]

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106

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
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
ERRNO = struct.Struct("=i")

IFINFOMSG = struct.Struct("=BxHiII")
"""Header of a link message: family, hardware type, ifindex, flags, mask of changed flags."""
RTMSG = struct.Struct("=BBBBBBBBI")
"""Header of a route message."""
RTNEXTHOP = struct.Struct("=HBBi")
"""Header of each next hop in RTA_MULTIPATH."""
NHMSG = struct.Struct("=BBBBI")
"""Header of a nexthop message."""
NEXTHOP_GRP = struct.Struct("=IBBH")
"""One member of a nexthop group."""


_CACHEINFO = struct.Struct("=IIi")
"""The beginning of struct rta_cacheinfo: references, last use, ticks until it expires."""


class Rta:
    """Route attributes (RTA_*); plain numbers, because `match` compares millions of them."""

    DST = 1
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    PREFSRC = 7
    METRICS = 8
    MULTIPATH = 9
    FLOW = 11
    CACHEINFO = 12
    TABLE = 15
    VIA = 18
    PREF = 20
    ENCAP_TYPE = 21
    ENCAP = 22
    EXPIRES = 23
    NH_ID = 30


class Nha:
    """Nexthop attributes (NHA_*)."""

    ID = 1
    GROUP = 2
    GROUP_TYPE = 3
    """0: multipath; others (resilient) are not written by this daemon."""
    BLACKHOLE = 4
    OIF = 5
    GATEWAY = 6
    ENCAP = 8
    FDB = 11


class Ifla:
    """Link attributes (IFLA_*), and those inside IFLA_LINKINFO and its data."""

    IFNAME = 3
    MTU = 4
    MASTER = 10
    LINKINFO = 18
    EXT_MASK = 29
    INFO_KIND = 1
    INFO_DATA = 2
    INFO_SLAVE_KIND = 4
    VRF_TABLE = 1


class NetlinkDecodeError(Exception):
    """Bytes that are not a netlink message, or not one of the expected family."""


class NetlinkMessage(NamedTuple):
    """One message of a received buffer, with its payload not decoded."""

    type: int
    flags: int
    sequence: int
    port_id: int
    """Port id of the socket whose request caused the message: ours for our own echo."""
    payload: bytes


def split_messages(buffer: bytes) -> Iterator[NetlinkMessage]:
    """Iterate over the messages of one received buffer.

    Raises:
        NetlinkDecodeError: an impossible length.
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
    """Encode one request. The payload must be padded already."""
    return NLMSG_HEADER.pack(NLMSG_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def pack_attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def pack_u32_attribute(kind: int, value: int) -> bytes:
    """Encode one attribute whose payload is a 32-bit number."""
    return _U32_ATTRIBUTE.pack(8, kind, value)


def attributes(payload: bytes, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Iterate over the attributes between two offsets: type and payload of each.

    Raises:
        NetlinkDecodeError: an impossible length.
    """
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            raise NetlinkDecodeError(f"an attribute of {length} bytes at offset {offset} of {end}")
        yield kind & _NLA_TYPE_MASK, payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def decode_u32(payload: bytes) -> int:
    """Decode a 32-bit number in host order.

    Raises:
        NetlinkDecodeError: the payload is not four bytes long.
    """
    if len(payload) != _U32.size:
        raise NetlinkDecodeError(f"a number of {len(payload)} bytes")
    return int(_U32.unpack(payload)[0])


def decode_expiry(payload: bytes) -> int:
    """Decode RTA_CACHEINFO of a route. Returns the clock ticks until it expires; 0 for never.

    Raises:
        NetlinkDecodeError: the payload is too short.
    """
    if len(payload) < _CACHEINFO.size:
        raise NetlinkDecodeError(f"cache information of {len(payload)} bytes")
    return int(_CACHEINFO.unpack_from(payload)[2])


def decode_address(payload: bytes) -> Address:
    """Decode an address of either family.

    Raises:
        NetlinkDecodeError: the payload is neither 4 nor 16 bytes long.
    """
    try:
        return Address.unpack(payload)
    except ValueError as error:
        raise NetlinkDecodeError(str(error)) from error


def decode_error(message: NetlinkMessage) -> tuple[int, str]:
    """Decode an NLMSG_ERROR: the positive errno (0 for an acknowledgement) and the kernel's text.

    Raises:
        NetlinkDecodeError: the message is malformed.
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


def decode_via(kind: int, payload: bytes) -> Address:
    """Decode a gateway: RTA_GATEWAY is an address, RTA_VIA has its family before it.

    Raises:
        NetlinkDecodeError: there is no address.
    """
    return decode_address(payload if kind == Rta.GATEWAY else payload[_U16.size :])


def decode_multipath(payload: bytes) -> Iterator[tuple[int, int, int, list[tuple[int, bytes]]]]:
    """Iterate over the next hops of RTA_MULTIPATH: flags, weight, ifindex and attributes of each.

    Raises:
        NetlinkDecodeError: an impossible length.
    """
    offset, end = 0, len(payload)
    while offset + RTNEXTHOP.size <= end:
        length, flags, hops, ifindex = RTNEXTHOP.unpack_from(payload, offset)
        if length < RTNEXTHOP.size or offset + length > end:
            raise NetlinkDecodeError(f"a next hop of {length} bytes at offset {offset} of {end}")
        inner = attributes(payload, offset + RTNEXTHOP.size, offset + length)
        yield flags, hops + 1, ifindex, list(inner)
        offset += (length + 3) & ~3


def decode_group(payload: bytes) -> list[tuple[int, int]]:
    """Decode NHA_GROUP: id and weight of each member.

    Raises:
        NetlinkDecodeError: the length is not a whole number of members.
    """
    if len(payload) % NEXTHOP_GRP.size:
        raise NetlinkDecodeError(f"a nexthop group of {len(payload)} bytes")
    members = NEXTHOP_GRP.iter_unpack(payload)
    return [(member, (high << 8 | low) + 1) for member, low, high, _zero in members]


def decode_vrf_table(link_info: bytes) -> int:
    """Decode the table of a VRF device from IFLA_LINKINFO. Returns 0 for any other link.

    Raises:
        NetlinkDecodeError: the attribute is malformed.
    """
    info = dict(attributes(link_info, 0, len(link_info)))
    if info.get(Ifla.INFO_KIND, b"").rstrip(b"\0") != b"vrf":
        return 0
    data = info.get(Ifla.INFO_DATA, b"")
    table = dict(attributes(data, 0, len(data))).get(Ifla.VRF_TABLE)
    return 0 if table is None else decode_u32(table)
