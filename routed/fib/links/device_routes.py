"""Which subnets the kernel routes to which link: what makes a prefix "connected". Pure.

An address alone does not make its subnet reachable: `noprefixroute` leaves the route out, anybody
may delete or move it, and a link in a VRF has it in the table of the VRF. So a subnet of a link is
connected exactly when the kernel has one of these:

    in a table that is looked up for us, a unicast route for the very subnet, TOS 0, to the link
    itself (no gateway, no encapsulation), written by the kernel or by what configures the host
    (CONNECTED_PROTOCOLS): network managers set `noprefixroute` and write the route themselves.
    Of IPv4 it has the scope `link` or a narrower one, as without it the kernel takes no gateway
    over the route; and the table has no route of those protocols for the subnet that refuses its
    packets and is preferred

    for an address that is a subnet of its own (/32, /128): the local table, which has a route for
    every address as long as the link is switched on

    for an IPv4 address of the loopback link: the local table, too, where the kernel puts the whole
    subnet, unless `noprefixroute`

The last two are not read from the kernel: the local table follows the addresses.

A refusing route (blackhole, unreachable, prohibit) is preferred when its priority is lower; for
IPv4 also when it is the same: the kernel adds a second route of one key only in front of the first
(`ip route prepend`), or behind it, where it would never be used.

The kernel may have such routes for one subnet to several links. Packets take the one with the
lowest priority: to the other links the subnet is on link for gateways that name the link (the
kernel looks for those by link), and not connected (`is_preferred`). Where priorities are the same
all links count. A route through a gateway for the very subnet is not compared, whatever its
priority: every route of the host's administrator would have to be kept for that.

A route through a nexthop object does not count: it names no link. The object may be changed without
a notification for the route, and one that `ip route` writes has a scope that takes no gateway.

Routes of routing daemons do not count: they are decided by somebody, and may follow from ours. The
tables are the daemon's own and, unless that one is a VRF's, main, where the kernel looks next
for a gateway that the table itself has no route to (fib_check_nh_nongw).

Notifications and a dump both pass `find_devices`, so they agree. The kernel removes routes without
a notification when their link is switched off (`forget_link`), and IPv4 routes whose source address
goes; and of several IPv4 routes of one key it does not say which one was replaced. In the last two
cases the routes are read again (`is_doubtful`).

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

__all__ = ["CONNECTED_PROTOCOLS", "DeviceRoutes", "find_devices", "is_refusing"]

CONNECTED_PROTOCOLS = (2, 3, 4, 9, 16)
"""RTPROT_KERNEL, BOOT, STATIC, RA and DHCP."""


class _Kept(NamedTuple):
    """What tells the routes of one prefix to one link apart."""

    table_id: int
    priority: int
    protocol: int
    source: Address | None


def find_devices(route: KernelRoute) -> list[int]:
    """The links to which a route makes its prefix connected.

    Cost: 0.2 us for a route through a gateway.
    """
    next_hops = route.value.next_hops
    if not next_hops or next_hops[0].via is not None or route.value.is_wide:
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
    """Owns what is known of such routes."""

    def __init__(self, own_protocol: int = 0) -> None:
        """Start empty.

        Args:
            own_protocol: whose routes never count, whatever its number.
        """
        self._has_doubts = False
        self._gone_sources: set[Address] = set()
        self._sources: Counter[Address] = Counter()
        """How many of the routes have each source address."""
        self._own_protocol = own_protocol
        self._routes: dict[int, dict[Prefix, set[_Kept]]] = {}
        """By link; no empty set."""
        self._links: dict[Prefix, set[int]] = {}
        """The links that each prefix is routed to; the same the other way round."""
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
        """Whether the kernel sends packets for a prefix to this link, rather than to another one
        that it is routed to as well.

        Cost: linear in the links that the prefix is routed to.
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
        """The kernel may have removed routes without a notification: read them again."""
        return self._has_doubts or any(self._sources[source] for source in self._gone_sources)

    def doubt(self) -> None:
        """There is another reason to read them again."""
        self._has_doubts = True

    def doubt_source(self, address: Address) -> None:
        """An IPv4 address is gone: routes with it as their source may be gone, too."""
        self._gone_sources.add(address)

    def resolve_doubts(self) -> None:
        """Forget addresses that no route has as its source any more."""
        self._gone_sources = {source for source in self._gone_sources if self._sources[source]}

    def replace(self, routes: Iterable[KernelRoute]) -> None:
        """Take over a complete dump."""
        self._routes, self._links, self._refusing = {}, {}, {}
        self._has_doubts = False
        self._gone_sources.clear()
        self._sources.clear()
        for route in routes:
            self._add(route)

    def notify(self, route: KernelRoute, *, is_removed: bool, is_replacing: bool) -> set[int]:
        """Take over one notification.

        Args:
            route: of a table that is looked up for us.
            is_removed: it is gone.
            is_replacing: it took the place of another route of its key (NLM_F_REPLACE).

        Returns:
            The links that it may make a difference to.
        """
        if is_removed:
            return self._remove(route)
        touched = self._replace_key(route) if is_replacing else set()
        return touched | self._add(route)

    def _is_refusing(self, route: KernelRoute) -> bool:
        return route.protocol != self._own_protocol and is_refusing(route)

    def _refuse(self, prefix: Prefix, refusing: frozenset[_Kept]) -> set[int]:
        """Have these refusing routes of a prefix; the links that it may make a difference to."""
        if refusing == self._refusing.get(prefix, frozenset()):
            return set()
        if refusing:
            self._refusing[prefix] = refusing
        else:
            del self._refusing[prefix]
        return set(self._links.get(prefix, ()))

    def forget_link(self, ifindex: int) -> set[int]:
        """A link is switched off or gone, and the kernel has removed the routes to it.

        Returns:
            The other links that it may make a difference to.
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
        """A replacement takes the place of the first of possibly several IPv4 routes of its key."""
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
        """Have these routes of a prefix to a link, of more that there were."""
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
    """Whether the kernel prefers one that refuses in the same table."""
    least = route.priority + (family is Family.IPV4)
    return any(each.table_id == route.table_id and each.priority < least for each in refusing)


def _kept(route: KernelRoute) -> _Kept:
    return _Kept(route.key.table_id, route.key.priority, route.protocol, route.source)
