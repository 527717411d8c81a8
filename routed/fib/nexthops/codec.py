"""Kernel nexthop objects <-> rtnetlink bytes.

A single object is a gateway on a link, or a link alone for IPv6 routes; a group is a list of single
objects with weights. Kinds that this daemon never makes (blackholes, links alone for IPv4, tunnels,
FDB and resilient groups) decode to an object without a form: only its existence is known.

The kernel resolves an IPv4 gateway when the object is written, and keeps the scope of the result.
Scope `host` means that the gateway was an address of this host at that time: packets then leave on
the link as if there were no gateway, until the object is written again.

Failure: `NetlinkDecodeError` for bytes that are no nexthop message.

Sources: linux/nexthop.h; rtm_to_nh_config and nh_fill_node of Linux (net/ipv4/nexthop.c).
"""

from __future__ import annotations

import enum
import errno
from typing import NamedTuple

from routed.fib.routes.codec import RTNH_F_ONLINK
from routed.fib.routes.plan import KernelRefusal
from routed.model.prefix import Address, Family
from routed.netlink.message import (
    NEXTHOP_GRP,
    NHMSG,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_DELNEXTHOP,
    RTM_GETNEXTHOP,
    RTM_NEWNEXTHOP,
    NetlinkDecodeError,
    NetlinkMessage,
    Nha,
    attributes,
    decode_address,
    decode_group,
    decode_u32,
    pack_attribute,
    pack_message,
    pack_u32_attribute,
)

__all__ = [
    "NEXTHOP_MESSAGES",
    "OWN_GATEWAY",
    "Group",
    "Hop",
    "NextHopForm",
    "NextHopKind",
    "NextHopWrite",
    "SeenNextHop",
    "decode_nexthop",
    "encode_nexthop",
    "encode_nexthop_dump",
]

NEXTHOP_MESSAGES = frozenset({RTM_NEWNEXTHOP, RTM_DELNEXTHOP})

_AF_UNSPEC = 0
_RT_SCOPE_HOST = 254


class Hop(NamedTuple):
    """A gateway on a link: the content of a single object."""

    via: Address | None
    """None: the link alone, for IPv6 routes (IPv4 routes have such next hops written into them)."""
    ifindex: int
    is_onlink: bool = False


Group = tuple[tuple[int, int], ...]
"""(id of a single object, weight 1 to 256) of each member, ordered by id."""

NextHopForm = Hop | Group


class SeenNextHop(NamedTuple):
    """One object as the kernel reported it."""

    id: int
    protocol: int
    form: NextHopForm | None
    """None for a kind that this daemon never makes."""
    is_gateway_unused: bool = False
    """Whether the gateway was an address of this host at the write, so that it is not used."""


class NextHopKind(enum.Enum):
    """The kind of an operation on an object."""

    INSTALL = "install"
    """The object must not exist yet."""
    REPLACE = "replace"
    """Replaces the object that exists; routes through it change at once."""
    REMOVE = "remove"
    """The kernel also removes the routes through it and its memberships, without notification."""


class NextHopWrite(NamedTuple):
    """One operation on one object."""

    kind: NextHopKind
    id: int
    form: NextHopForm
    """For a removal, the present form."""


OWN_GATEWAY = KernelRefusal(errno.EADDRINUSE, "Gateway is an address of this host")
"""For an IPv4 gateway that the kernel accepts but does not use; it refuses IPv6 ones itself."""

_FLAGS = {
    NextHopKind.INSTALL: NLM_F_CREATE | NLM_F_EXCL,
    NextHopKind.REPLACE: NLM_F_CREATE | NLM_F_REPLACE,
    NextHopKind.REMOVE: 0,
}


def encode_nexthop(write: NextHopWrite, protocol: int, sequence: int) -> bytes:
    """Encode one operation as an acknowledged request; the kernel echoes an object with a gateway
    in the form that it has stored."""
    kind, nexthop_id, form = write
    flags = NLM_F_REQUEST | NLM_F_ACK | _FLAGS[kind]
    body = pack_u32_attribute(Nha.ID, nexthop_id)
    if kind is NextHopKind.REMOVE:
        payload = NHMSG.pack(_AF_UNSPEC, 0, 0, 0, 0) + body
        return pack_message(RTM_DELNEXTHOP, flags, sequence, payload)
    if isinstance(form, Hop):
        rtnh_flags = RTNH_F_ONLINK if form.is_onlink else 0
        family = Family.IPV6 if form.via is None else form.via.family
        header = NHMSG.pack(family, 0, protocol, 0, rtnh_flags)
        body += pack_u32_attribute(Nha.OIF, form.ifindex)
        if form.via is not None:
            body += pack_attribute(Nha.GATEWAY, form.via.packed)
            flags |= NLM_F_ECHO
    else:
        header = NHMSG.pack(_AF_UNSPEC, 0, protocol, 0, 0)
        members = [NEXTHOP_GRP.pack(member, weight - 1, 0, 0) for member, weight in form]
        body += pack_attribute(Nha.GROUP, b"".join(members))
    return pack_message(RTM_NEWNEXTHOP, flags, sequence, header + body)


def encode_nexthop_dump(sequence: int) -> bytes:
    """Encode a request for every object of any owner."""
    payload = NHMSG.pack(_AF_UNSPEC, 0, 0, 0, 0)
    return pack_message(RTM_GETNEXTHOP, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def decode_nexthop(message: NetlinkMessage) -> SeenNextHop:
    """Decode one object of a dump or notification.

    Raises:
        NetlinkDecodeError: the message is malformed.
    """
    payload = message.payload
    if len(payload) < NHMSG.size:
        raise NetlinkDecodeError(f"a nexthop message of {len(payload)} bytes")
    family, scope, protocol, _zero, flags = NHMSG.unpack_from(payload)
    found = dict(attributes(payload, NHMSG.size, len(payload)))
    if Nha.ID not in found:
        raise NetlinkDecodeError("a nexthop object without an id")
    form = _decode_form(found, family, is_onlink=bool(flags & RTNH_F_ONLINK))
    is_gateway_unused = scope == _RT_SCOPE_HOST and isinstance(form, Hop) and form.via is not None
    return SeenNextHop(decode_u32(found[Nha.ID]), protocol, form, is_gateway_unused)


def _decode_form(found: dict[int, bytes], family: int, *, is_onlink: bool) -> NextHopForm | None:
    if found.keys() & {Nha.BLACKHOLE, Nha.ENCAP, Nha.FDB}:
        return None
    if Nha.GROUP in found:
        is_multipath = not any(found.get(Nha.GROUP_TYPE, b""))
        return tuple(sorted(decode_group(found[Nha.GROUP]))) if is_multipath else None
    if Nha.OIF not in found:
        return None
    if Nha.GATEWAY not in found:
        is_alone = family == Family.IPV6 and not is_onlink
        return Hop(None, decode_u32(found[Nha.OIF])) if is_alone else None
    return Hop(decode_address(found[Nha.GATEWAY]), decode_u32(found[Nha.OIF]), is_onlink)
