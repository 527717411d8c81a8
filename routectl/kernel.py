"""Queries of the kernel for the route that it would use, by RTM_GETROUTE.

No privilege is needed. The answer is that of the network namespace of routectl, which must be the
daemon's (`check_namespace`). With RTM_F_FIB_MATCH the kernel returns the entry that matched, with
its prefix and all its next hops, rather than the one next hop that it would use now.

A route that rejects packets is answered by an error: EINVAL for a blackhole, EHOSTUNREACH for
unreachable, EACCES for prohibit.

For a route that uses a nexthop object the kernel returns only the object's id if
net.ipv4.nexthop_compat_mode is 0: then the object is queried, and after it the members of a group.

For an IPv6 route through a nexthop object the kernel returns any of the routes that share the
object or a member of it: the destination cache belongs to the object, and keeps the route that
filled it. Prefix, metric, table and protocol then belong to another route, and its next hops may
differ. Only the next hop that packets use now is correct. It is queried without RTM_F_FIB_MATCH,
and the other fields are left empty.

While there are no policy rules, Linux keeps the IPv4 tables local and main as one, and reports main
for the routes of both: the table of a local or broadcast route is left empty then. A packet of this
host to 0.0.0.0 stays in the host, whatever the routes; the kernel answers EHOSTUNREACH to a query
for the entry, because there is none.

Sources: rtnetlink(7); linux/rtnetlink.h; linux/nexthop.h; net/ipv4/route.c, inet_rtm_getroute;
net/ipv6/route.c, rt6_get_pcpu_route.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from routectl.render.text import Row
from routed.netlink.message import (
    NHMSG,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RTM_GETNEXTHOP,
    RTM_GETROUTE,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    RTMSG,
    NetlinkDecodeError,
    NetlinkMessage,
    Nha,
    Rta,
    attributes,
    decode_address,
    decode_error,
    decode_group,
    decode_multipath,
    decode_u32,
    decode_via,
    pack_attribute,
    pack_message,
    pack_u32_attribute,
    split_messages,
)

__all__ = ["KernelError", "agreement", "ask_kernel", "check_namespace"]

_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
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
    """The kernel could not be queried; the text gives the reason."""


def ask_kernel(address: str) -> Row:
    """Return the kernel's route for a destination.

    Args:
        address: IPv4 or IPv6, as text.

    Returns:
        `type` (`none` if there is no route), `prefix`, `next_hops`, `table`, `protocol`,
        `priority`; None for fields that the kernel does not report. Without `prefix`, a unicast
        route has the next hop that packets use now, of possibly several.

    Raises:
        KernelError: netlink cannot be used, or `address` is not an address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise KernelError("routed's answer does not name an address") from None
    if packed == _IPV4_UNSPECIFIED:
        return {**_NO_ENTRY, "type": "local", "next_hops": []}
    destination = pack_attribute(Rta.DST, packed)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(_TIMEOUT_S)

            def answer(flags: int) -> NetlinkMessage:
                fields = (family, 8 * len(packed), 0, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE | flags)
                return _exchange(netlink, RTM_GETROUTE, RTMSG.pack(*fields) + destination)

            matched = answer(_RTM_F_FIB_MATCH)
            if _is_of_shared_object(matched):
                return _without_entry(_decode_route(answer(0), lambda _number: []))
            return _decode_route(matched, lambda number: _object_hops(netlink, number, 1))
    except OSError as error:
        raise KernelError(str(error.strerror or error)) from error
    except NetlinkDecodeError as error:
        raise KernelError(f"its answer cannot be read: {error}") from error


def check_namespace(inode: object) -> None:
    """Check that the daemon is in the network namespace of this process.

    Args:
        inode: of the daemon's network namespace, as it reports; None if it is not known.

    Raises:
        KernelError: it is in another one, whose kernel routes cannot be queried from here.
    """
    try:
        own = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return  # without /proc the namespaces cannot be compared
    if isinstance(inode, int) and inode != own:
        raise KernelError(
            "not queried: routed is in another network namespace than this command; run routectl "
            "there (nsenter --net, ip netns exec)"
        )


def _is_of_shared_object(message: NetlinkMessage) -> bool:
    """Return whether an answer may show another route of the same nexthop object."""
    if message.type != RTM_NEWROUTE:
        return False
    family, found = _decode_attributes(message, RTMSG)
    return family == socket.AF_INET6 and Rta.NH_ID in found


def _without_entry(row: Row) -> Row:
    """Remove the fields that would differ for another route of the same object."""
    return {**row, **_NO_ENTRY}


def _exchange(netlink: socket.socket, kind: int, body: bytes) -> NetlinkMessage:
    netlink.send(pack_message(kind, NLM_F_REQUEST, 1, body))
    answer = next(split_messages(netlink.recv(65_536)), None)
    if answer is None:
        raise NetlinkDecodeError("it is empty")
    return answer


def _decode_attributes(
    message: NetlinkMessage, header: struct.Struct
) -> tuple[int, dict[int, bytes]]:
    """Return the first byte of a header, its family, and the attributes after the header."""
    payload = message.payload
    if len(payload) < header.size:
        raise NetlinkDecodeError(f"it has {len(payload)} bytes")
    return payload[0], dict(attributes(payload, header.size, len(payload)))


def _object_hops(netlink: socket.socket, number: int, weight: int) -> list[Row]:
    """Return the next hops of a nexthop object, or of a group's members; none if it was removed."""
    body = NHMSG.pack(0, 0, 0, 0, 0) + pack_u32_attribute(Nha.ID, number)
    message = _exchange(netlink, RTM_GETNEXTHOP, body)
    if message.type != RTM_NEWNEXTHOP:
        return []
    _, found = _decode_attributes(message, NHMSG)
    if Nha.GROUP in found:
        # The members of a group are not groups (linux/nexthop.h), so the recursion ends.
        return [
            hop
            for member, member_weight in decode_group(found[Nha.GROUP])
            for hop in _object_hops(netlink, member, member_weight)
        ]
    gateway = found.get(Nha.GATEWAY)
    return [
        {
            "via": None if gateway is None else str(decode_address(gateway)),
            "dev": _ifname(_number(found.get(Nha.OIF))),
            "weight": weight,
        }
    ]


def _decode_route(message: NetlinkMessage, object_hops: Callable[[int], list[Row]]) -> Row:
    if message.type == NLMSG_ERROR:
        code, _ = decode_error(message)
        refusal = _REFUSALS.get(code)
        if refusal is None and code not in (errno.ENETUNREACH, errno.ESRCH):
            raise KernelError(os.strerror(code))
        return {**_NO_ENTRY, "type": refusal or "none", "next_hops": []}
    if message.type != RTM_NEWROUTE:
        raise KernelError(f"it answers with message type {message.type}")
    family, found = _decode_attributes(message, RTMSG)
    _, length, _, _, table_number, protocol, _, type_number, _ = RTMSG.unpack_from(message.payload)
    hops = _next_hops(found)
    nexthop_id = _number(found.get(Rta.NH_ID))
    route_type = _TYPES.get(type_number, str(type_number))
    table = _number(found.get(Rta.TABLE)) or table_number
    is_merged = family == socket.AF_INET and route_type in _OF_TABLE_LOCAL and table == _TABLE_MAIN
    destination = found.get(Rta.DST, bytes(16 if family == socket.AF_INET6 else 4))
    return {
        "type": route_type,
        "prefix": f"{decode_address(destination)}/{length}",
        "next_hops": hops or ([] if nexthop_id is None else object_hops(nexthop_id)),
        "table": None if is_merged else table,
        "protocol": protocol,
        "priority": _number(found.get(Rta.PRIORITY)),
    }


def _next_hops(found: dict[int, bytes]) -> list[Row]:
    if Rta.MULTIPATH in found:
        return [
            _next_hop(ifindex, dict(inner), weight)
            for _flags, weight, ifindex, inner in decode_multipath(found[Rta.MULTIPATH])
        ]
    hop = _next_hop(_number(found.get(Rta.OIF)), found, 1)
    return [hop] if hop["dev"] or hop["via"] else []


def _next_hop(ifindex: int | None, found: dict[int, bytes], weight: int) -> Row:
    via = next(
        (decode_via(kind, found[kind]) for kind in (Rta.GATEWAY, Rta.VIA) if kind in found), None
    )
    return {"via": None if via is None else str(via), "dev": _ifname(ifindex), "weight": weight}


def _ifname(ifindex: int | None) -> str | None:
    if not ifindex:
        return None
    try:
        name = socket.if_indextoname(ifindex)
        name.encode()
    except OSError:
        return f"if{ifindex}"
    except UnicodeEncodeError:
        return f"if:{ifindex}"  # the daemon's name for a link whose name is not UTF-8
    return name


def _number(value: bytes | None) -> int | None:
    return None if value is None else decode_u32(value)


def agreement(explained: Row, kernel: Row) -> tuple[bool | None, str]:
    """Return whether the kernel forwards as the daemon has decided, and a text with the difference.
    None where the daemon has decided nothing: a route of another program is no difference.

    Args:
        explained: a row of `explain`.
        kernel: from `ask_kernel`.
    """
    if kernel["type"] in _OF_THE_HOST:
        return True, f"the address is the host's own ({kernel['type']}), before any route"
    candidates = explained.get("candidates")
    winner = candidates[0] if isinstance(candidates, list) and candidates else None
    if not isinstance(winner, dict):
        if kernel["type"] == "none":
            return True, "neither has a route"
        return None, "routed has no route there; the kernel's belongs to another program"
    if kernel["type"] == "none":
        return False, "the kernel has no route"
    route_type = winner.get("type")
    if kernel["type"] != route_type:
        return False, f"the kernel's route is {kernel['type']}, not {route_type}"
    if route_type != "unicast":
        return True, f"both refuse ({route_type})"
    if kernel["prefix"] is None:
        return _agreement_of_hop(winner, kernel)
    prefix = explained.get("prefix")
    if kernel["prefix"] != prefix:
        return False, f"the kernel takes {kernel['prefix']}, not {prefix}"
    if _hop_set(kernel["next_hops"]) != _hop_set(winner.get("next_hops")):
        return False, "the next hops differ"
    return True, "the same prefix and next hops"


def _agreement_of_hop(winner: Row, kernel: Row) -> tuple[bool, str]:
    """Compare where the kernel reports only the next hop that it uses now; returns as
    `agreement`."""
    if not _hop_set(kernel["next_hops"]) <= _hop_set(winner.get("next_hops")):
        return False, "the kernel takes another next hop"
    return True, "the next hop is one of the route's (the kernel does not say which prefix)"


def _hop_set(next_hops: object) -> set[tuple[str, str]]:
    """Return gateways and interfaces as text, so that any values can be compared."""
    if not isinstance(next_hops, list):
        return set()
    return {
        (str(hop.get("via")), str(hop.get("dev"))) for hop in next_hops if isinstance(hop, dict)
    }
