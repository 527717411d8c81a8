"""Kernel keys, and which kernel routes are ours.

A route is ours when it carries our `rtm_protocol` and is in a table that we manage. No other state
is needed: a daemon that starts again recognises the routes that an earlier run left, and a foreign
route can never match (as in Calico Felix, the protocol value is fixed from the start).

The key of a route is the kernel's own: table, prefix, TOS, priority. A foreign route under our key
is a conflict that is reported; it is never replaced. The kernel has several routes of one key only
if a program requested that (NLM_F_APPEND, `ip route prepend`): it forwards by the first of them.

Source: fib_table_insert and fib6_add_rt2node of Linux; ip-route(8).
"""

from __future__ import annotations

from typing import NamedTuple

from ipc.lazy_dataclass import dataclass
from routed.model.kernel_attributes import NONE, KernelAttributes
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import MAX_WEIGHT, NextHop, RouteType
from routed.model.route_checks import kernel_problem

__all__ = [
    "IPV6_DEFAULT_PRIORITY",
    "NEXT_HOPS_MAX",
    "PROTOCOL_NAMES",
    "SEVERAL",
    "KernelRoute",
    "Ownership",
    "RouteKey",
    "RouteValue",
    "SeenRoute",
    "TableKey",
    "find_violation",
    "scope_of",
]

NEXT_HOPS_MAX = 1500
"""Most next hops of a route: each takes up to 40 bytes, and an attribute's length has 16 bits."""

IPV6_DEFAULT_PRIORITY = 1024
"""Priority that the kernel stores for an IPv6 route added with priority 0 (IP6_RT_PRIO_USER)."""

PROTOCOL_NAMES = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra",
    12: "bird", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 99: "openr", 186: "bgp",
    187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
"""linux/rtnetlink.h, RTPROT_*."""


class TableKey(NamedTuple):
    """The kernel's identity of a route without the prefix; a million routes share it."""

    table_id: int
    family: Family
    tos: int
    priority: int

    def key(self, prefix_int: int) -> RouteKey:
        """Build the whole identity of one route from its `Prefix.as_int`."""
        prefix = Prefix.from_int(self.family, prefix_int)
        return RouteKey(self.table_id, prefix, self.tos, self.priority)


class RouteKey(NamedTuple):
    """The kernel's identity of a route."""

    table_id: int
    prefix: Prefix
    tos: int
    priority: int

    @property
    def table_key(self) -> TableKey:
        """The identity without the prefix."""
        return TableKey(self.table_id, self.prefix.family, self.tos, self.priority)


class RouteValue(NamedTuple):
    """The content of a route; two routes with equal keys and values are the same route."""

    type: RouteType
    next_hops: tuple[NextHop, ...]
    """Sorted by `NextHop.sort_key`."""
    nexthop_id: int = 0
    """The kernel nexthop object that the route uses instead of `next_hops`; 0 for none."""
    is_altered: bool = False
    """Only for kernel routes: the route has attributes that this daemon never writes (an
    encapsulation, an expiry, ...), or is to be written again for another reason."""
    attributes: KernelAttributes | None = None
    """None for a plain route. Its scope is None if it is `scope_of` the rest."""

    @property
    def is_several(self) -> bool:
        """Whether this is `SEVERAL`."""
        return self.is_altered and self == SEVERAL

    @property
    def is_link_route(self) -> bool:
        """Whether it names links alone: gateways of other routes may resolve over it."""
        return self.type is RouteType.UNICAST and _names_links_alone(self.next_hops)

    @property
    def has_realm(self) -> bool:
        """Whether it has a realm, for which a nexthop object has no place."""
        return self.attributes is not None and self.attributes.realm != 0

    @property
    def is_wide(self) -> bool:
        """Whether it is an IPv4 route that names links alone, with a scope wider than `link`, so
        that the kernel accepts no gateway over it."""
        attributes = self.attributes
        if attributes is None or attributes.scope is None or not self.is_link_route:
            return False
        return attributes.scope < _SCOPE_LINK

    @classmethod
    def canonical(
        cls,
        route_type: RouteType,
        next_hops: tuple[NextHop, ...],
        attributes: KernelAttributes | None = None,
    ) -> RouteValue:
        """Build the form in which the kernel reports these next hops and attributes.

        A single next hop has no weight in the kernel, and equal next hops are one (IPv6 refuses
        the second).
        """
        if attributes is not None:
            plain = cls.canonical(route_type, next_hops)
            return plain._replace(attributes=_canonical_attributes(plain, attributes))
        if len(next_hops) == 1:
            only = next_hops[0]
            return cls(route_type, next_hops if only.weight == 1 else (only._replace(weight=1),))
        hops: dict[tuple[object, int], NextHop] = {}
        for hop in next_hops:
            hops.setdefault((hop.via, hop.ifindex), hop)
        if len(hops) == 1:
            return cls.canonical(route_type, tuple(hops.values()))
        return cls(route_type, tuple(sorted(hops.values(), key=NextHop.sort_key)))


_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254


def _names_links_alone(next_hops: tuple[NextHop, ...]) -> bool:
    return bool(next_hops) and all(hop.via is None for hop in next_hops)


def scope_of(family: Family, value: RouteValue) -> int:
    """Return the rtm_scope of a route that has no scope among its attributes.

    For IPv4 that is `host` for a local route, `link` for one without a gateway or a broadcast, as
    ip-route(8) chooses it; IPv6 has no scopes.
    """
    if family is Family.IPV6:
        return _SCOPE_UNIVERSE
    if value.type is RouteType.LOCAL:
        return _SCOPE_HOST
    return _SCOPE_LINK if _names_links_alone(value.next_hops) else _SCOPE_UNIVERSE


def _canonical_attributes(
    plain: RouteValue, attributes: KernelAttributes
) -> KernelAttributes | None:
    """Leave out the scope that a route has anyway (only IPv4 routes have one)."""
    if attributes.scope == scope_of(Family.IPV4, plain):
        attributes = attributes._replace(scope=None)
    return None if attributes == NONE else attributes


SEVERAL = RouteValue(RouteType.UNICAST, (), is_altered=True)
"""Value for kernel routes: there may be several under one key, and a replace would change the
first, which may be foreign. So ours are removed, and one is installed."""


class KernelRoute(NamedTuple):
    """One route as the kernel reported it."""

    key: RouteKey
    protocol: int
    value: RouteValue
    source: Address | None = None
    """Source address of the host's own packets (RTA_PREFSRC); None if the route has none."""
    is_encapsulated: bool = False
    """Whether packets are encapsulated (RTA_ENCAP): MPLS labels, SRv6 segments, tunnels."""


class SeenRoute(NamedTuple):
    """All that a dump shows of a route except its prefix; many routes share one."""

    table_key: TableKey
    protocol: int
    value: RouteValue
    source: Address | None = None
    is_encapsulated: bool = False
    """Both as in `KernelRoute`."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rules that decide which kernel routes are ours, and the place of our routes."""

    protocol: int
    priority: int
    tables: frozenset[int]

    def holds(self, table_key: TableKey) -> bool:
        """Whether new routes of ours are written under this table key, for any TOS."""
        return table_key.table_id in self.tables and table_key.priority == self.priority

    def is_ours(self, table_key: TableKey, protocol: int) -> bool:
        """Whether this daemon wrote the route, in this run or an earlier one."""
        return protocol == self.protocol and table_key.table_id in self.tables

    def is_conflict(self, table_key: TableKey, protocol: int) -> bool:
        """Whether a foreign route holds a key that one of ours would need."""
        return protocol != self.protocol and self.holds(table_key)

    def is_preferred_foreign(self, table_key: TableKey, protocol: int) -> bool:
        """Whether the kernel prefers a foreign route to one of ours for the same prefix."""
        return (
            protocol != self.protocol
            and table_key.table_id in self.tables
            and not table_key.tos
            and table_key.priority < self.priority
        )

    def table_key_of(self, table_id: int, family: Family, tos: int = 0) -> TableKey:
        """Return the table key of our routes of one table and family, for all packets or a TOS."""
        return TableKey(table_id, family, tos, self.priority)


def find_violation(family: Family, value: RouteValue) -> str:
    """Return why the engine may not request such a route; empty if it may."""
    if len(value.next_hops) > NEXT_HOPS_MAX:
        return f"{len(value.next_hops)} next hops, over {NEXT_HOPS_MAX}"
    if value.type.has_next_hops is not bool(value.next_hops):
        return f"a {value.type.name.lower()} route with {len(value.next_hops)} next hops"
    if value.type.is_link_alone and (len(value.next_hops) > 1 or value.next_hops[0].via):
        return f"a {value.type.name.lower()} route that does not name one link alone"
    if value.attributes is not None or value.type is not RouteType.UNICAST:
        problem = kernel_problem(family, value.type, value.attributes)
        if problem:
            return problem
    for next_hop in value.next_hops:
        if not 0 < next_hop.ifindex < 1 << 31:
            return f"next hop on interface index {next_hop.ifindex}"
        if not 1 <= next_hop.weight <= MAX_WEIGHT:
            return f"next hop with weight {next_hop.weight}"
        via = next_hop.via
        if via is not None and family is Family.IPV6 is not via.family:
            return "an IPv6 route through an IPv4 address"
    return ""
