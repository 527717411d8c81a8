"""A router's kernel routes, read through rtnetlink and normalised.

Both families have one form. Different encodings of one meaning are made equal: a single next hop in
RTA_GATEWAY and one in RTA_MULTIPATH, an IPv6 blackhole's `dev lo`, the table number in the header
and in RTA_TABLE, next hops in the route and those of its nexthop object.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import rtnetlink
from rtnetlink import Attributes, Rtnetlink, attribute, read_attributes

__all__ = [
    "PROTOCOL_ROUTED",
    "KernelNextHop",
    "KernelRoute",
    "RouteDump",
    "add_route",
    "as_ip_route",
    "count_nexthops",
    "decode_routes",
    "delete_nexthop",
    "delete_route",
    "dump_routes",
    "read_nexthops",
    "read_routes",
]

PROTOCOL_ROUTED = 205
"""The rtm_protocol of routed's routes."""

PROTOCOL_STATIC = 4
"""RTPROT_STATIC: the protocol of routes that the lab adds."""

TABLE_MAIN = 254
_SCOPE_UNIVERSE = 0
_CLONED = 0x200
"""RTM_F_CLONED: an entry of the route cache, not a route."""

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 9, 15, 18, 30
NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY = 1, 2, 5, 6

_ROUTE_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
_NEXT_HOP = struct.Struct("=HBBi")
_MEMBER = struct.Struct("=IBBH")

NextHopObjects = dict[int, tuple["KernelNextHop", ...]]
"""Next hops of the nexthop objects of a router, by id."""


@dataclass(frozen=True, slots=True)
class KernelNextHop:
    """Next hop of a route."""

    via: str | None
    dev: str | None
    weight: int = 1

    @property
    def sort_key(self) -> tuple[str, str, int]:
        """Return the key for sorting: link, then address."""
        return self.dev or "", self.via or "", self.weight


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """One kernel route."""

    prefix: str
    next_hops: tuple[KernelNextHop, ...]
    """Sorted; empty for a type without next hops."""
    type: str
    protocol: int
    priority: int
    table: int
    nexthop_id: int = field(default=0, compare=False)
    """Id of the route's nexthop object. Its next hops are listed as the route's, so routes with the
    same next hops are equal with or without an object."""

    @property
    def devices(self) -> frozenset[str]:
        """The links that the route uses."""
        return frozenset(hop.dev for hop in self.next_hops if hop.dev is not None)


def read_routes(
    netlink: Rtnetlink, protocol: int | None = PROTOCOL_ROUTED, table: int | None = TABLE_MAIN
) -> list[KernelRoute]:
    """Read the routes of a router, both families, sorted by family, prefix and priority.

    Args:
        netlink: a socket of the router.
        protocol: only routes with this rtm_protocol; None for all.
        table: only routes of this table; None for all.

    Raises:
        OSError: the kernel refused.
    """
    return decode_routes(dump_routes(netlink), netlink.link_names(), protocol, table)


class RouteDump(NamedTuple):
    """A router's routes as the kernel encodes them; equal tables have equal dumps."""

    routes: list[bytes]
    nexthops: list[bytes]
    """The nexthop objects that routes may use."""


def dump_routes(netlink: Rtnetlink) -> RouteDump:
    """Read the routes of a router and the nexthop objects, without decoding.

    Raises:
        OSError: the kernel refused.
    """
    nexthops = _dump_nexthops(netlink)
    routes = [
        body
        for family in (socket.AF_INET, socket.AF_INET6)
        for body in netlink.dump(
            rtnetlink.RTM_GETROUTE, rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        )
    ]
    return RouteDump(routes, nexthops)


def decode_routes(
    dump: RouteDump,
    names: dict[int, str],
    protocol: int | None = PROTOCOL_ROUTED,
    table: int | None = TABLE_MAIN,
) -> list[KernelRoute]:
    """Decode the result of `dump_routes`, sorted by family, prefix and priority.

    Args:
        dump: from `dump_routes`.
        names: the router's links, by ifindex.
        protocol: only routes with this rtm_protocol; None for all.
        table: only routes of this table; None for all.
    """
    objects = _decode_nexthops(dump.nexthops, names, None)
    read = (_read_route(body, names, objects) for body in dump.routes)
    routes = [route for route in read if route is not None]
    wanted = [
        route
        for route in routes
        if protocol in (None, route.protocol) and table in (None, route.table)
    ]
    return sorted(wanted, key=_sort_key)


def count_nexthops(netlink: Rtnetlink, protocol: int = PROTOCOL_ROUTED) -> int:
    """Return the number of nexthop objects of a protocol; 0 if the kernel does not support them.

    Raises:
        OSError: the kernel refused.
    """
    return len(read_nexthops(netlink, protocol))


def _sort_key(route: KernelRoute) -> tuple[int, bytes, int, int]:
    network = ip_network(route.prefix)
    return network.version, network.network_address.packed, network.prefixlen, route.priority


def read_nexthops(netlink: Rtnetlink, protocol: int | None = PROTOCOL_ROUTED) -> NextHopObjects:
    """Read the nexthop objects of a router: those with this nhm_protocol, or all.

    Raises:
        OSError: the kernel refused.
    """
    return _decode_nexthops(_dump_nexthops(netlink), netlink.link_names(), protocol)


def _dump_nexthops(netlink: Rtnetlink) -> list[bytes]:
    try:
        request = rtnetlink.NEXTHOP.pack(0, 0, 0, 0, 0)
        return netlink.dump(rtnetlink.RTM_GETNEXTHOP, request)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # before Linux 5.3
            return []
        raise


def _decode_nexthops(
    bodies: Iterable[bytes], names: dict[int, str], protocol: int | None
) -> NextHopObjects:
    found: NextHopObjects = {}
    groups: dict[int, list[tuple[int, int]]] = {}
    others = set()
    for body in bodies:
        attributes = read_attributes(body[rtnetlink.NEXTHOP.size :])
        nexthop_id = _number(attributes, NHA_ID, 0)
        if protocol not in (None, body[2]):
            others.add(nexthop_id)
        if NHA_GROUP in attributes:
            groups[nexthop_id] = [
                (member, low + 1)
                for member, low, _, _ in _MEMBER.iter_unpack(attributes[NHA_GROUP])
            ]
            continue
        gateway = attributes.get(NHA_GATEWAY)
        via = str(ip_address(gateway)) if gateway is not None else None
        found[nexthop_id] = (KernelNextHop(via, names.get(_number(attributes, NHA_OIF, 0))),)
    for nexthop_id, group in groups.items():
        hops = [
            KernelNextHop(hop.via, hop.dev, weight)
            for member, weight in group
            for hop in found.get(member, ())
        ]
        found[nexthop_id] = tuple(sorted(hops, key=lambda hop: hop.sort_key))
    return {nexthop_id: hops for nexthop_id, hops in found.items() if nexthop_id not in others}


def delete_nexthop(netlink: Rtnetlink, nexthop_id: int) -> None:
    """Remove a nexthop object; the kernel removes its routes with it.

    Raises:
        OSError: the kernel refused; ENOENT if there is none.
    """
    body = rtnetlink.NEXTHOP.pack(0, 0, 0, 0, 0) + attribute(NHA_ID, struct.pack("=I", nexthop_id))
    netlink.request(rtnetlink.RTM_DELNEXTHOP, 0, body, f"delete nexthop {nexthop_id}")


def _read_route(body: bytes, names: dict[int, str], objects: NextHopObjects) -> KernelRoute | None:
    family, prefix_len, _, _, table, protocol, _, kind, flags = rtnetlink.ROUTE.unpack_from(body)
    if flags & _CLONED:
        return None
    attributes = read_attributes(body[rtnetlink.ROUTE.size :])
    address = attributes.get(RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    route_type = _ROUTE_TYPES.get(kind, f"type-{kind}")
    nexthop_id = _number(attributes, RTA_NH_ID, 0)
    hops: list[KernelNextHop] = []
    if nexthop_id:
        hops = list(objects.get(nexthop_id, ()))
    elif route_type == "unicast":
        hops = list(_next_hops(attributes, names))
    return KernelRoute(
        prefix=f"{ip_address(address)}/{prefix_len}",
        next_hops=tuple(sorted(hops, key=lambda hop: hop.sort_key)),
        type=route_type,
        protocol=protocol,
        priority=_number(attributes, RTA_PRIORITY, 0),
        table=_number(attributes, RTA_TABLE, table),
        nexthop_id=nexthop_id,
    )


def _number(attributes: Attributes, kind: int, default: int) -> int:
    return int.from_bytes(attributes[kind], sys.byteorder) if kind in attributes else default


def _next_hops(attributes: Attributes, names: dict[int, str]) -> Iterator[KernelNextHop]:
    multipath = attributes.get(RTA_MULTIPATH)
    if multipath is None:
        ifindex = _number(attributes, RTA_OIF, 0)
        yield KernelNextHop(_via(attributes), names.get(ifindex))
        return
    offset = 0
    while offset + _NEXT_HOP.size <= len(multipath):
        length, _, hops, ifindex = _NEXT_HOP.unpack_from(multipath, offset)
        inner = read_attributes(multipath[offset + _NEXT_HOP.size : offset + length])
        yield KernelNextHop(_via(inner), names.get(ifindex), hops + 1)
        offset += length + (-length % 4)


def _via(attributes: Attributes) -> str | None:
    if RTA_GATEWAY in attributes:
        return str(ip_address(attributes[RTA_GATEWAY]))
    if RTA_VIA in attributes:  # struct rtvia: the family, then the address
        return str(ip_address(attributes[RTA_VIA][2:]))
    return None


def _route_message(
    prefix: str, via: str | None, dev: str, names: dict[int, str], protocol: int
) -> bytes:
    network: IPv4Network | IPv6Network = ip_network(prefix)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    ifindex = {name: index for index, name in names.items()}[dev]
    header = rtnetlink.ROUTE.pack(
        family, network.prefixlen, 0, 0, TABLE_MAIN, protocol, _SCOPE_UNIVERSE, 1, 0
    )
    body = header + attribute(RTA_DST, network.network_address.packed)
    if via is not None:
        body += attribute(RTA_GATEWAY, ip_address(via).packed)
    return body + attribute(RTA_OIF, struct.pack("=i", ifindex))


def add_route(
    netlink: Rtnetlink,
    prefix: str,
    *,
    via: str | None,
    dev: str,
    protocol: int = PROTOCOL_STATIC,
) -> None:
    """Add a foreign route to the main table, as `ip route add PREFIX via VIA dev DEV` does.

    Raises:
        OSError: the kernel refused; EEXIST if the prefix has one.
        KeyError: there is no such link.
    """
    body = _route_message(prefix, via, dev, netlink.link_names(), protocol)
    netlink.request(rtnetlink.RTM_NEWROUTE, 0x600, body, f"add route {prefix}")


def delete_route(netlink: Rtnetlink, route: KernelRoute) -> None:
    """Remove a route, whatever its owner: by prefix, protocol, priority and table.

    Raises:
        OSError: the kernel refused; ESRCH if there is none.
    """
    network = ip_network(route.prefix)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    header = rtnetlink.ROUTE.pack(family, network.prefixlen, 0, 0, 0, route.protocol, 0, 0, 0)
    body = (
        header
        + attribute(RTA_DST, network.network_address.packed)
        + attribute(RTA_PRIORITY, struct.pack("=I", route.priority))
        + attribute(RTA_TABLE, struct.pack("=I", route.table))
    )
    netlink.request(rtnetlink.RTM_DELROUTE, 0, body, f"delete route {route.prefix}")


def as_ip_route(route: KernelRoute) -> str:
    """Format one route as ip-route(8) prints it."""
    network = ip_network(route.prefix)
    is_host = network.prefixlen == network.max_prefixlen
    destination = str(network.network_address) if is_host else str(network)
    words = [] if route.type == "unicast" else [route.type]
    words.append("default" if network.prefixlen == 0 else destination)
    if len(route.next_hops) == 1:
        words += _hop_words(route.next_hops[0], network.version)
    words += ["proto", str(route.protocol), "metric", str(route.priority)]
    if len(route.next_hops) > 1:
        for hop in route.next_hops:
            hop_words = [*_hop_words(hop, network.version), "weight", str(hop.weight)]
            words.append("\n\tnexthop " + " ".join(hop_words))
    return " ".join(words)


def _hop_words(hop: KernelNextHop, version: int) -> list[str]:
    words = []
    if hop.via is not None:
        is_other_family = ip_address(hop.via).version != version
        words += ["via", "inet6", hop.via] if is_other_family else ["via", hop.via]
    if hop.dev is not None:
        words += ["dev", hop.dev]
    return words
