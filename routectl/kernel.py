"""The kernel's own answer: which route it would take, asked by RTM_GETROUTE.

Anybody may ask; the answer is that of the network namespace that routectl runs in, which is the
daemon's own unless somebody put them apart. RTM_F_FIB_MATCH has the kernel show the entry that
matched, with its prefix and all its next hops, rather than the one next hop it would take now.

A route that refuses packets is answered by an error: EINVAL for a blackhole, EHOSTUNREACH for
unreachable, EACCES for prohibit.

A route that points at a nexthop object shows its id alone where net.ipv4.nexthop_compat_mode is 0:
the object is asked for then, and the members of a group after it.

For an IPv6 route through a nexthop object the kernel shows any of the routes that share the object
or a member of it: the destination cache belongs to the object, and remembers the route that filled
it. Prefix, metric, table and protocol are then another route's, and its next hops may be. Only the
next hop that packets take now is true: that one is asked for, without RTM_F_FIB_MATCH, and the
rest is left open.

While there are no policy rules Linux keeps the IPv4 tables local and main as one, and names main
for the routes of both: the table of a local or broadcast route is left open then. A packet of this
host to 0.0.0.0 stays in the host, whatever the routes; the kernel answers EHOSTUNREACH to the
question for an entry, because there is none.

Sources: rtnetlink(7); linux/rtnetlink.h; linux/nexthop.h; net/ipv4/route.c, inet_rtm_getroute;
net/ipv6/route.c, rt6_get_pcpu_route.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from routectl.render.text import Row

__all__ = ["KernelError", "agreement", "ask_kernel"]

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLMSG_ERROR, _NLM_F_REQUEST = 2, 1
_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = (
    1, 4, 5, 6, 9, 15, 18,
)  # fmt: skip

_RTA_NH_ID = 30

_RTM_NEWNEXTHOP, _RTM_GETNEXTHOP = 104, 106
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_GATEWAY = 1, 2, 5, 6

_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_NEXT_HOP = struct.Struct("=HBBI")
_NEXTHOP_OBJECT = struct.Struct("=BBBBI")
_GROUP_MEMBER = struct.Struct("=IBBH")
_TIMEOUT_S = 2.0

_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_REFUSALS = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
}
_OF_THE_HOST = {"local", "broadcast", "anycast", "multicast"}
_IPV4_UNSPECIFIED = bytes(4)
_TABLE_MAIN = 254
_OF_TABLE_LOCAL = {"local", "broadcast"}
_NO_ENTRY: Row = dict.fromkeys(("prefix", "table", "protocol", "priority"))


class KernelError(Exception):
    """The kernel could not be asked; the text says why."""


def ask_kernel(address: str) -> Row:
    """The kernel's route for a destination.

    Args:
        address: IPv4 or IPv6, as text.

    Returns:
        `type` (none when there is no route), `prefix`, `next_hops`, `table`, `protocol`,
        `priority`; None for what the kernel does not say. Without `prefix`, a unicast route has
        the next hop that packets take now, of possibly several.

    Raises:
        KernelError: no netlink here, or no address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise KernelError("what routed answers for is no address") from None
    if packed == _IPV4_UNSPECIFIED:
        return {**_NO_ENTRY, "type": "local", "next_hops": []}
    destination = _ATTRIBUTE.pack(4 + len(packed), _RTA_DST) + packed
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(_TIMEOUT_S)

            def answer(flags: int) -> bytes:
                fields = (family, 8 * len(packed), 0, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE | flags)
                return _exchange(netlink, _RTM_GETROUTE, _ROUTE.pack(*fields) + destination)

            matched = answer(_RTM_F_FIB_MATCH)
            if _is_of_shared_object(matched):
                return _without_entry(_read(answer(0), lambda _number: []))
            return _read(matched, lambda number: _object_hops(netlink, number, 1))
    except OSError as error:
        raise KernelError(str(error.strerror or error)) from error


def _is_of_shared_object(message: bytes) -> bool:
    """Whether an answer may show another route of the same nexthop object."""
    _, kind, *_ = _HEADER.unpack_from(message)
    if kind != _RTM_NEWROUTE:
        return False
    family, *_ = _ROUTE.unpack_from(message, _HEADER.size)
    attributes = dict(_attributes(message[_HEADER.size + _ROUTE.size :]))
    return bool(family == socket.AF_INET6 and _RTA_NH_ID in attributes)


def _without_entry(row: Row) -> Row:
    """An answer with nothing of what tells one route from another."""
    return {**row, **_NO_ENTRY}


def _exchange(netlink: socket.socket, kind: int, body: bytes) -> bytes:
    header = _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST, 1, 0)
    netlink.send(header + body)
    return netlink.recv(65_536)


def _object_hops(netlink: socket.socket, number: int, weight: int) -> list[Row]:
    """The next hops of a nexthop object, or of the members of a group; none when it has gone."""
    attribute = _ATTRIBUTE.pack(8, _NHA_ID) + struct.pack("=I", number)
    body = _NEXTHOP_OBJECT.pack(0, 0, 0, 0, 0) + attribute
    message = _exchange(netlink, _RTM_GETNEXTHOP, body)
    _, kind, *_ = _HEADER.unpack_from(message)
    if kind != _RTM_NEWNEXTHOP:
        return []
    family, *_ = _NEXTHOP_OBJECT.unpack_from(message, _HEADER.size)
    attributes = dict(_attributes(message[_HEADER.size + _NEXTHOP_OBJECT.size :]))
    if _NHA_GROUP in attributes:
        members = _GROUP_MEMBER.iter_unpack(attributes[_NHA_GROUP])
        # A group has no groups inside (linux/nexthop.h), so this ends.
        return [
            hop
            for member, low, high, _ in members
            for hop in _object_hops(netlink, member, (high << 8 | low) + 1)
        ]
    gateway = attributes.get(_NHA_GATEWAY)
    return [
        {
            "via": None if gateway is None else socket.inet_ntop(family, gateway),
            "dev": _ifname(_number(attributes.get(_NHA_OIF))),
            "weight": weight,
        }
    ]


def _read(message: bytes, object_hops: Callable[[int], list[Row]]) -> Row:
    _, kind, *_ = _HEADER.unpack_from(message)
    if kind == _NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", message, _HEADER.size)
        refusal = _REFUSALS.get(-code)
        if refusal is None and -code not in (errno.ENETUNREACH, errno.ESRCH):
            raise KernelError(os.strerror(-code))
        return {**_NO_ENTRY, "type": refusal or "none", "next_hops": []}
    if kind != _RTM_NEWROUTE:
        raise KernelError(f"it answers with message type {kind}")
    fields = _ROUTE.unpack_from(message, _HEADER.size)
    family, length, table_number, protocol, type_number = (fields[i] for i in (0, 1, 4, 5, 7))
    attributes = dict(_attributes(message[_HEADER.size + _ROUTE.size :]))
    hops = _next_hops(family, attributes)
    nexthop_id = _number(attributes.get(_RTA_NH_ID))
    route_type = _TYPES.get(type_number, str(type_number))
    table = _number(attributes.get(_RTA_TABLE)) or table_number
    is_merged = family == socket.AF_INET and route_type in _OF_TABLE_LOCAL and table == _TABLE_MAIN
    destination = attributes.get(_RTA_DST, bytes(16 if family == socket.AF_INET6 else 4))
    return {
        "type": route_type,
        "prefix": f"{socket.inet_ntop(family, destination)}/{length}",
        "next_hops": hops or ([] if nexthop_id is None else object_hops(nexthop_id)),
        "table": None if is_merged else table,
        "protocol": protocol,
        "priority": _number(attributes.get(_RTA_PRIORITY)),
    }


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3


def _next_hops(family: int, attributes: dict[int, bytes]) -> list[Row]:
    if _RTA_MULTIPATH not in attributes:
        hop = _next_hop(family, _number(attributes.get(_RTA_OIF)), attributes, 1)
        return [hop] if hop["dev"] or hop["via"] else []
    hops, data, at = [], attributes[_RTA_MULTIPATH], 0
    while at + _NEXT_HOP.size <= len(data):
        length, _, hop_weight, ifindex = _NEXT_HOP.unpack_from(data, at)
        inner = dict(_attributes(data[at + _NEXT_HOP.size : at + length]))
        hops.append(_next_hop(family, ifindex, inner, hop_weight + 1))
        at += max(length + 3 & ~3, _NEXT_HOP.size)
    return hops


def _next_hop(family: int, ifindex: int | None, attributes: dict[int, bytes], weight: int) -> Row:
    via = None
    if _RTA_GATEWAY in attributes:
        via = socket.inet_ntop(family, attributes[_RTA_GATEWAY])
    elif _RTA_VIA in attributes:
        value = attributes[_RTA_VIA]
        via = socket.inet_ntop(struct.unpack_from("=H", value)[0], value[2:])
    return {"via": via, "dev": _ifname(ifindex), "weight": weight}


def _ifname(ifindex: int | None) -> str | None:
    if not ifindex:
        return None
    try:
        name = socket.if_indextoname(ifindex)
        name.encode()
    except OSError:
        return f"if{ifindex}"
    except UnicodeEncodeError:
        return f"if:{ifindex}"  # as the daemon calls a link whose name is no UTF-8
    return name


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, "little" if _IS_LITTLE else "big")


_IS_LITTLE = struct.pack("=H", 1) == b"\x01\0"


def agreement(explained: Row, kernel: Row) -> tuple[bool, str]:
    """Whether the kernel forwards as the daemon has decided, and in words what differs.

    Args:
        explained: a row of `explain`.
        kernel: from `ask_kernel`.
    """
    if kernel["type"] in _OF_THE_HOST:
        return True, f"the address is the host's own ({kernel['type']}), before any route"
    candidates = explained.get("candidates")
    winner = candidates[0] if isinstance(candidates, list) and candidates else None
    if winner is None:
        is_same = kernel["type"] == "none"
        return is_same, "neither has a route" if is_same else "only the kernel has a route"
    if kernel["type"] == "none":
        return False, "the kernel has no route"
    if kernel["type"] != winner["type"]:
        return False, f"the kernel's route is {kernel['type']}, not {winner['type']}"
    if winner["type"] != "unicast":
        return True, f"both refuse ({winner['type']})"
    if kernel["prefix"] is None:
        return _agreement_of_hop(winner, kernel)
    if kernel["prefix"] != explained["prefix"]:
        return False, f"the kernel takes {kernel['prefix']}, not {explained['prefix']}"
    if _hop_set(kernel["next_hops"]) != _hop_set(winner["next_hops"]):
        return False, "the next hops differ"
    return True, "the same prefix and next hops"


def _agreement_of_hop(winner: Row, kernel: Row) -> tuple[bool, str]:
    """The same where the kernel says only which next hop it takes now."""
    if not _hop_set(kernel["next_hops"]) <= _hop_set(winner["next_hops"]):
        return False, "the kernel takes another next hop"
    return True, "the next hop is one of the route's (the kernel does not say which prefix)"


def _hop_set(next_hops: object) -> set[tuple[object, object]]:
    assert isinstance(next_hops, list)  # every row of both has a list
    return {(hop["via"], hop["dev"]) for hop in next_hops}
