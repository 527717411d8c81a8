"""The table of this host's links, the owner of what rtnetlink reports of them. Pure.

Each event returns the change of the link: its new `Interface`, or its removal.
Addresses may arrive before their link does (two dumps) and are kept until then.

Identity is the ifindex. A rename is a change of one link; a link that was deleted and created again
under the same name is a removal and a new link with another index. An address of a link is known by
the kernel's own identity: address, peer and prefix length; a hub has one address and many peers.

The device routes (`device_routes.py`) determine whether an address' subnet is connected. This table
owns them, because the `Interface` of a link contains the result.

A link with thousands of addresses is composed once for all addresses and routes that arrive
together (`record`, `pop_changes`); a change of the link itself is reported at once (`apply`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ipc.lazy_dataclass import dataclass
from routed.fib.links.device_routes import DeviceRoutes
from routed.fib.routes.ownership import KernelRoute
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family

__all__ = ["AddressEvent", "LinkChange", "LinkEvent", "LinkTable"]


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link appeared, changed or was removed."""

    ifindex: int
    ifname: str
    is_removed: bool
    is_admin_up: bool
    has_carrier: bool
    mtu: int
    is_loopback: bool
    has_multicast: bool
    is_port: bool = False
    master: int = 0
    """The ifindex of the bridge, bond or VRF of which it is a port; 0 for none."""
    vrf_table: int = 0
    """The table of a VRF device; 0 for any other link."""


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address of a link appeared, changed or was removed."""

    ifindex: int
    address: InterfaceAddress
    is_removed: bool
    has_prefix_route: bool = True
    """Whether the kernel adds a route for the subnet (no IFA_F_NOPREFIXROUTE)."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A change of a link; None on the side where it does not exist."""

    ifindex: int
    before: Interface | None
    after: Interface | None
    has_lost_address: bool = False
    """Whether an address was removed since `before`, even if it was added again."""


_MAIN = 254

_AddressKey = tuple[Address, Address, int]
"""Address, peer (or the address again) and prefix length."""


def _key_of(entry: InterfaceAddress) -> _AddressKey:
    return entry.address, entry.peer or entry.address, entry.prefix_len


class LinkTable:
    """Links by ifindex, with their addresses."""

    def __init__(self, table_id: int = _MAIN, own_protocol: int = 0) -> None:
        """Start empty.

        Args:
            table_id: table of the daemon's routes.
            own_protocol: their rtm_protocol.
        """
        self.device_routes = DeviceRoutes(own_protocol)
        self.tables = frozenset({table_id, _MAIN})
        """The kernel tables that are looked up for the daemon's traffic. A table without a VRF
        supplements main (by policy rules, and for gateways by fib_check_nh); read only."""
        self._table_id = table_id
        self._links: dict[int, LinkEvent] = {}
        self._addresses: dict[int, dict[_AddressKey, AddressEvent]] = {}
        self._interfaces: dict[int, Interface] = {}
        self._changed: dict[int, None] = {}
        """Links whose addresses or routes have changed since they were last reported."""
        self._lost: set[int] = set()
        """Those of `_changed` that lost an address, even if it was added again."""
        self._on_change: Callable[[], None] = _ignore

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Call a function after each change of a link, in place of an earlier one; it must not
        block."""
        self._on_change = on_change

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """Every link, by ifindex; read only."""
        return self._interfaces

    def follow_table(self, table_id: int) -> None:
        """Change the table of the daemon's routes; the device routes must be read again."""
        self._table_id = table_id
        self._find_tables()
        self.device_routes.doubt()

    def _find_tables(self) -> None:
        is_vrf = any(link.vrf_table == self._table_id for link in self._links.values())
        self.tables = frozenset({self._table_id} if is_vrf else {self._table_id, _MAIN})

    def apply(self, event: LinkEvent) -> LinkChange | None:
        """Apply an event of a link. Returns None if nothing that is used here changed."""
        ifindex, before = event.ifindex, self._links.get(event.ifindex)
        if event.is_removed:
            self._links.pop(ifindex, None)
            self._addresses.pop(ifindex, None)
        else:
            self._links[ifindex] = event
        if event.is_removed or not event.is_admin_up:  # without a notification for each route
            self._changed.update(dict.fromkeys(self.device_routes.forget_link(ifindex)))
        if event.vrf_table or (before is not None and before.vrf_table):
            self._follow_vrf(ifindex)
        return self._update_interface(ifindex)

    def _follow_vrf(self, ifindex: int) -> None:
        """Follow a VRF that was added, changed or removed: its ports belong to another table."""
        tables = self.tables
        self._find_tables()
        if tables != self.tables:
            self.device_routes.doubt()
        ports = [port.ifindex for port in self._links.values() if port.master == ifindex]
        self._changed.update(dict.fromkeys(ports))

    def record(self, event: AddressEvent) -> None:
        """Record an event of an address; `pop_changes` returns the change of its link."""
        of_link = self._addresses.setdefault(event.ifindex, {})
        key = _key_of(event.address)
        if not event.is_removed:
            of_link[key] = event
        elif of_link.pop(key, None) is not None:
            self._lost.add(event.ifindex)
            if event.address.address.family is Family.IPV4:
                self.device_routes.doubt_source(event.address.address)
        self._changed[event.ifindex] = None

    def record_route(self, route: KernelRoute, *, is_removed: bool, is_replacing: bool) -> None:
        """Record a change of a kernel route; `pop_changes` returns the changes of its links.

        Cost: 0.3 us for a route through a gateway.
        """
        if route.key.table_id not in self.tables:
            return
        touched = self.device_routes.notify(route, is_removed=is_removed, is_replacing=is_replacing)
        self._changed.update(dict.fromkeys(touched))

    def pop_changes(self) -> list[LinkChange]:
        """Pop the recorded changes, link by link."""
        self.device_routes.resolve_doubts()
        changed, self._changed = self._changed, {}
        return [
            change for index in changed if (change := self._update_interface(index)) is not None
        ]

    def replace(self, links: Iterable[LinkEvent], addresses: Iterable[AddressEvent]) -> None:
        """Replace all links and addresses by complete dumps; `replace_routes` must follow."""
        self._links = {event.ifindex: event for event in links}
        self._find_tables()
        gone, self._addresses = self._addresses, {}
        for event in addresses:
            self._addresses.setdefault(event.ifindex, {})[_key_of(event.address)] = event
        self._lost.update(
            ifindex
            for ifindex, of_link in gone.items()
            if not of_link.keys() <= self._addresses.get(ifindex, {}).keys()
        )

    def replace_routes(self, routes: Iterable[KernelRoute]) -> list[LinkChange]:
        """Replace all device routes by a complete dump of those in `tables`."""
        self.device_routes.replace(routes)
        self._changed = dict.fromkeys(sorted(self._links.keys() | self._interfaces.keys()))
        return self.pop_changes()

    def _update_interface(self, ifindex: int) -> LinkChange | None:
        before, after = self._interfaces.get(ifindex), self._compose(ifindex)
        self._changed.pop(ifindex, None)
        has_lost_address = ifindex in self._lost
        self._lost.discard(ifindex)
        if after is None:
            self._interfaces.pop(ifindex, None)
        else:
            self._interfaces[ifindex] = after
        if before is None and after is None:
            return None
        if before == after and not has_lost_address:
            return None
        self._on_change()
        return LinkChange(ifindex, before, after, has_lost_address)

    def _compose(self, ifindex: int) -> Interface | None:
        link = self._links.get(ifindex)
        if link is None:
            return None
        is_in_other_vrf = self._vrf_table_of(link) not in self.tables
        addresses = self._addresses.get(ifindex, {})
        return Interface(
            ifindex=ifindex,
            ifname=link.ifname,
            is_admin_up=link.is_admin_up,
            has_carrier=link.has_carrier,
            mtu=link.mtu,
            is_loopback=link.is_loopback,
            has_multicast=link.has_multicast,
            addresses=tuple(
                self._evaluate(link, addresses[key], is_in_other_vrf=is_in_other_vrf)
                for key in sorted(addresses)
            ),
            is_in_other_vrf=is_in_other_vrf,
            is_port=link.is_port,
        )

    def _vrf_table_of(self, link: LinkEvent) -> int:
        """Return the table into which the kernel puts the routes of a link's own subnets."""
        master = self._links.get(link.master)
        return link.vrf_table or (master.vrf_table if master is not None else 0) or _MAIN

    def _evaluate(
        self, link: LinkEvent, event: AddressEvent, *, is_in_other_vrf: bool
    ) -> InterfaceAddress:
        """Determine whether the subnet of a link's address is connected and preferred."""
        entry = event.address
        family = entry.address.family
        if family is Family.IPV6 and entry.address.is_link_local:
            return entry
        in_local_table = entry.is_host or (
            link.is_loopback and family is Family.IPV4 and event.has_prefix_route
        )
        if in_local_table and not is_in_other_vrf:
            return entry
        if not self.device_routes.connects(link.ifindex, entry.subnet):
            return replace(entry, is_connected=False)
        if not self.device_routes.is_preferred(link.ifindex, entry.subnet):
            return replace(entry, is_preferred=False)
        return entry


def _ignore() -> None:
    """Stand for the subscriber where there is none."""
