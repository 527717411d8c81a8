"""Which subnets the kernel routes to which link: what makes a prefix "connected". Pure.

An address alone does not make its subnet reachable: `noprefixroute` omits the route, any program
may delete or move it, and a link in a VRF has it in the table of the VRF. So a subnet of a link is
connected exactly when the kernel has one of these:

    in a table that is looked up for us, a unicast route for the very subnet, TOS 0, to the link
    itself (no gateway, no encapsulation), written by the kernel or by what configures the host
    (CONNECTED_PROTOCOLS): network managers set `noprefixroute` and write the route themselves.
    An IPv4 route has the scope `link` or a narrower one, because otherwise the kernel accepts no
    gateway over it; and the table has no preferred route of those protocols for the subnet that
    refuses its packets

    for a host address (/32, /128): the route in the local table, which has one for every address
    as long as the link is administratively up

    for an IPv4 address of the loopback link: also the local table, where the kernel installs the
    whole subnet, unless `noprefixroute`

The last two are not read from the kernel: the local table follows the addresses.

A refusing route (blackhole, unreachable, prohibit) is preferred when its priority is lower; for
IPv4 also when it is the same: the kernel adds a second route of one key only in front of the first
(`ip route prepend`), or behind it, where it would never be used.

The kernel may have such routes for one subnet to several links. Packets take the one with the
lowest priority: on the other links the subnet is on link for gateways that name the link (the
kernel resolves those by link), and not connected (`is_preferred`). Where priorities are the same
all links count. A route through a gateway for the very subnet is not compared, whatever its
priority: that would require keeping every route of the host's administrator.

A route through a nexthop object does not count: it names no link. The object may be changed without
a notification for the route, and one that `ip route` writes has a scope that accepts no gateway.

Routes of routing daemons do not count: they are selected, and may depend on ours. The tables are
the daemon's own and, unless that one is a VRF's, main, where the kernel resolves a gateway to which
the table itself has no route (fib_check_nh_nongw).

Notifications and a dump both pass `find_devices`, so they agree. The kernel removes routes without
a notification when their link is set down (`forget_link`), and IPv4 routes whose source address is
removed; and of several IPv4 routes of one key it does not report which one was replaced. In the
last two cases the routes are read again (`is_doubtful`).

Memory: one entry for each device route of these protocols, and for each that refuses; only the
host's administrator adds any.

Sources: fib_check_nh_nongw, fib_add_ifaddr, fib_table_insert, fib_sync_down_addr of Linux;
linux/rtnetlink.h.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from routed.fib.routes.ownership import KernelRoute
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteType

__all__ = ["CONNECTED_PROTOCOLS", "DeviceRoutes", "find_devices", "is_refusing"]

CONNECTED_PROTOCOLS = (2, 3, 4, 9, 16)
"""RTPROT_KERNEL, BOOT, STATIC, RA and DHCP."""


class _Kept(NamedTuple):
    """The identity of a route among those of one prefix to one link."""

    table_id: int
    priority: int
    protocol: int
    source: Address | None


def find_devices(route: KernelRoute) -> list[int]:
    """Return the links to which a route makes its prefix connected.

    Cost: 0.2 us for a route through a gateway.
    """
    next_hops = route.value.next_hops
    if not next_hops or next_hops[0].via is not None or route.value.is_wide:
        return []
    if route.value.type is not RouteType.UNICAST:
        return []
    if route.protocol not in CONNECTED_PROTOCOLS or route.key.tos or route.is_encapsulated:
        return []
    prefix = route.key.prefix
    if prefix.family is Family.IPV6 and prefix.address.is_link_local:  # each link has that
        return []
    return [hop.ifindex for hop in next_hops if hop.via is None]


def is_refusing(route: KernelRoute) -> bool:
    """Whether a route may keep its prefix from being connected."""
    if route.value.type.has_next_hops or route.key.tos:
        return False
    return route.protocol in CONNECTED_PROTOCOLS


class DeviceRoutes:
    """The known device routes, and refusing routes that are preferred to them."""

    def __init__(self, own_protocol: int = 0) -> None:
        """Start empty.

        Args:
            own_protocol: rtm_protocol of our routes, which never count, whatever its number.
        """
        self._has_doubts = False
        self._gone_sources: set[Address] = set()
        self._sources: Counter[Address] = Counter()
        """Number of routes with each source address."""
        self._own_protocol = own_protocol
        self._routes: dict[int, dict[Prefix, set[_Kept]]] = {}
        """By link; no empty set."""
        self._links: dict[Prefix, set[int]] = {}
        """The links to which each prefix is routed: the inverse of `_routes`."""
        self._refusing: dict[Prefix, frozenset[_Kept]] = {}
        """Routes that refuse packets to a prefix; no empty set."""

    def connects(self, ifindex: int, prefix: Prefix) -> bool:
        """Whether the kernel routes a prefix to a link."""
        routes = self._routes.get(ifindex, {}).get(prefix, ())
        refusing = self._refusing.get(prefix)
        if not refusing:
            return bool(routes)
        return any(not _is_beaten(route, prefix.family, refusing) for route in routes)

    def is_preferred(self, ifindex: int, prefix: Prefix) -> bool:
        """Whether the kernel sends packets for a prefix to this link instead of another link to
        which the prefix is also routed.

        Cost: linear in the links to which the prefix is routed.
        """
        links = self._links.get(prefix, ())
        if len(links) < 2:
            return True
        others = [kept for link in links if link != ifindex for kept in self._routes[link][prefix]]
        return any(
            not any(
                other.table_id == ours.table_id and other.priority < ours.priority
                for other in others
            )
            for ours in self._routes.get(ifindex, {}).get(prefix, ())
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether routes must be read again: some may be removed without a notification."""
        return self._has_doubts or any(self._sources[source] for source in self._gone_sources)

    def doubt(self) -> None:
        """Request that the routes are read again, for another reason."""
        self._has_doubts = True

    def doubt_source(self, address: Address) -> None:
        """Handle the removal of an IPv4 address: routes with this source may be removed, too."""
        self._gone_sources.add(address)

    def resolve_doubts(self) -> None:
        """Drop the doubts about addresses that are no longer the source of any route."""
        self._gone_sources = {source for source in self._gone_sources if self._sources[source]}

    def replace(self, routes: Iterable[KernelRoute]) -> None:
        """Apply a complete dump."""
        self._routes, self._links, self._refusing = {}, {}, {}
        self._has_doubts = False
        self._gone_sources.clear()
        self._sources.clear()
        for route in routes:
            self._add(route)

    def notify(self, route: KernelRoute, *, is_removed: bool, is_replacing: bool) -> set[int]:
        """Apply one notification.

        Args:
            route: a route of a table that is looked up for us.
            is_removed: whether it was removed.
            is_replacing: whether it replaced another route of its key (NLM_F_REPLACE).

        Returns:
            The links that may be affected.
        """
        if is_removed:
            return self._remove(route)
        touched = self._replace_key(route) if is_replacing else set()
        return touched | self._add(route)

    def _is_refusing(self, route: KernelRoute) -> bool:
        return route.protocol != self._own_protocol and is_refusing(route)

    def _refuse(self, prefix: Prefix, refusing: frozenset[_Kept]) -> set[int]:
        """Set the refusing routes of a prefix. Returns the links that may be affected."""
        if refusing == self._refusing.get(prefix, frozenset()):
            return set()
        if refusing:
            self._refusing[prefix] = refusing
        else:
            del self._refusing[prefix]
        return set(self._links.get(prefix, ()))

    def forget_link(self, ifindex: int) -> set[int]:
        """Remove the routes to a link that is down or removed, as the kernel does.

        Returns:
            The other links that may be affected.
        """
        prefixes = list(self._routes.get(ifindex, ()))
        for prefix in prefixes:
            self._keep(ifindex, prefix, set())
        return set().union(*(self._links.get(prefix, ()) for prefix in prefixes))

    def _devices(self, route: KernelRoute) -> list[int]:
        return [] if route.protocol == self._own_protocol else find_devices(route)

    def _add(self, route: KernelRoute) -> set[int]:
        prefix, kept, added = route.key.prefix, _kept(route), set(self._devices(route))
        if self._is_refusing(route):
            return self._refuse(prefix, self._refusing.get(prefix, frozenset()) | {kept})
        for ifindex in added:
            before = self._routes.setdefault(ifindex, {}).setdefault(prefix, set())
            if kept not in before:
                before.add(kept)
                self._count(kept, 1)
            self._links.setdefault(prefix, set()).add(ifindex)
        return added and set(self._links[prefix])

    def _remove(self, route: KernelRoute) -> set[int]:
        prefix, kept = route.key.prefix, _kept(route)
        if self._is_refusing(route):
            return self._refuse(prefix, self._refusing.get(prefix, frozenset()) - {kept})
        found = {
            ifindex
            for ifindex in self._devices(route)
            if kept in self._routes.get(ifindex, {}).get(prefix, ())
        }
        for ifindex in found:
            self._keep(ifindex, prefix, self._routes[ifindex][prefix] - {kept})
        return found | self._links.get(prefix, set()) if found else found

    def _replace_key(self, route: KernelRoute) -> set[int]:
        """Apply a replacement of the first of possibly several IPv4 routes of a key."""
        prefix = route.key.prefix
        if route.key.tos:
            return set()
        key = _kept(route)[:2]
        refusing = self._refusing.get(prefix, frozenset())
        left = frozenset(kept for kept in refusing if kept[:2] != key)
        touched, count = self._refuse(prefix, left), len(refusing) - len(left)
        for ifindex in list(self._links.get(prefix, ())):
            before = self._routes[ifindex][prefix]
            after = {kept for kept in before if kept[:2] != key}
            if after != before:
                touched.add(ifindex)
                count += len(before) - len(after)
                self._keep(ifindex, prefix, after)
        if touched:
            touched |= self._links.get(prefix, set())
        self._has_doubts |= count > 1
        return touched

    def _keep(self, ifindex: int, prefix: Prefix, routes: set[_Kept]) -> None:
        """Keep only these of the routes of a prefix to a link."""
        of_link, links = self._routes[ifindex], self._links[prefix]
        for kept in of_link[prefix] - routes:
            self._count(kept, -1)
        if routes:
            of_link[prefix] = routes
            return
        del of_link[prefix]
        links.discard(ifindex)
        if not of_link:
            del self._routes[ifindex]
        if not links:
            del self._links[prefix]

    def _count(self, kept: _Kept, change: int) -> None:
        if kept.source is not None:
            self._sources[kept.source] += change
            if not self._sources[kept.source]:
                del self._sources[kept.source]


def _is_beaten(route: _Kept, family: Family, refusing: Iterable[_Kept]) -> bool:
    """Whether the kernel prefers a refusing route of the same table."""
    least = route.priority + (family is Family.IPV4)
    return any(each.table_id == route.table_id and each.priority < least for each in refusing)


def _kept(route: KernelRoute) -> _Kept:
    return _Kept(route.key.table_id, route.key.priority, route.protocol, route.source)
