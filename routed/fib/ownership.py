"""Kernel keys, and which kernel routes are ours.

A route is ours when it carries our `rtm_protocol` and lies in a table that we keep. Nothing else is
remembered or guessed: a daemon that starts anew recognises what an earlier life left, and a route
of anybody else can never match (Felix's lesson: pick a protocol value on day one).

The key of a route is the kernel's own: table, prefix, TOS, priority. Two routes of one key cannot
both be had (IPv6 would merge their next hops), so a foreign route under our key is a conflict to be
reported, never a thing to replace.

Source: fib_table_insert and fib6_add_rt2node of Linux; ip-route(8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from routed.model.prefix import Family, Prefix
from routed.model.route import FibRoute, NextHop, RouteType

__all__ = [
    "IPV6_DEFAULT_PRIORITY",
    "PROTOCOL_NAMES",
    "KernelRoute",
    "Ownership",
    "RouteKey",
    "RouteValue",
]

IPV6_DEFAULT_PRIORITY = 1024
"""What the kernel stores when an IPv6 route is added with priority 0 (IP6_RT_PRIO_USER)."""

PROTOCOL_NAMES = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra",
    12: "bird", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 99: "openr", 186: "bgp",
    187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
"""linux/rtnetlink.h, RTPROT_*."""


class RouteKey(NamedTuple):
    """The kernel's identity of a route."""

    table_id: int
    prefix: Prefix
    tos: int
    priority: int


class RouteValue(NamedTuple):
    """What a route does; two routes with equal keys and values are the same route."""

    type: RouteType
    next_hops: tuple[NextHop, ...]
    """Sorted by `NextHop.sort_key`."""

    @classmethod
    def canonical(cls, route_type: RouteType, next_hops: tuple[NextHop, ...]) -> RouteValue:
        """The one form that the kernel will report back for these next hops.

        A single next hop has no weight in the kernel, and equal next hops are one (IPv6 refuses
        the second).
        """
        if len(next_hops) == 1:
            only = next_hops[0]
            return cls(route_type, next_hops if only.weight == 1 else (only._replace(weight=1),))
        legs: dict[tuple[object, int], NextHop] = {}
        for hop in next_hops:
            legs.setdefault((hop.via, hop.ifindex), hop)
        if len(legs) == 1:
            return cls.canonical(route_type, tuple(legs.values()))
        return cls(route_type, tuple(sorted(legs.values(), key=NextHop.sort_key)))


class KernelRoute(NamedTuple):
    """One route as the kernel reported it."""

    key: RouteKey
    protocol: int
    value: RouteValue


@dataclass(frozen=True, slots=True)
class Ownership:
    """What makes a kernel route ours, and where our routes go."""

    protocol: int
    priority: int
    tables: frozenset[int]

    def is_ours(self, route: KernelRoute) -> bool:
        """Whether an earlier life of this daemon or this one wrote the route."""
        return route.protocol == self.protocol and route.key.table_id in self.tables

    def is_rival(self, route: KernelRoute) -> bool:
        """Whether a foreign route holds a key that one of ours would need."""
        return (
            route.protocol != self.protocol
            and route.key.table_id in self.tables
            and route.key.priority == self.priority
            and route.key.tos == 0
        )

    def key_of(self, table_id: int, prefix: Prefix) -> RouteKey:
        """The key under which our route for a prefix is kept."""
        return RouteKey(table_id, prefix, 0, self.priority)

    def find_violation(self, route: FibRoute) -> str:
        """Why the engine may not ask for this route; empty when it may.

        The prefix is canonical already: the decoder refuses others.
        """
        if route.table_id not in self.tables:
            return f"table {route.table_id} is not configured"
        if route.type.has_next_hops is not bool(route.next_hops):
            return f"a {route.type.name.lower()} route with {len(route.next_hops)} next hops"
        for next_hop in route.next_hops:
            if next_hop.ifindex <= 0:
                return f"next hop on interface index {next_hop.ifindex}"
            if not 1 <= next_hop.weight <= 256:
                return f"next hop with weight {next_hop.weight}"
            via = next_hop.via
            if via is not None and route.prefix.family is Family.IPV6 is not via.family:
                return "an IPv6 route through an IPv4 address"
        return ""
