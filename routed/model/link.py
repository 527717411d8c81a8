"""Links of this host as the kernel reports them, with their addresses.

A link's identity is its index: names can change and be reused. The parent owns the table of links
(`routed/fib/links/table.py`); the engine holds a copy that the parent keeps current by message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from ipc.lazy_dataclass import dataclass
from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Address, Family, Prefix

__all__ = ["MESSAGE_ADDRESSES_MAX", "Interface", "InterfaceAddress", "InterfaceName"]

InterfaceName = Annotated[str, TextBytes(64)]
"""The kernel's limit is 15 bytes; a byte that is no UTF-8 is four as an escape."""

MESSAGE_ADDRESSES_MAX = 1500
"""Addresses of one link in one message; a link with more takes several messages."""


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of a link."""

    address: Address
    prefix_len: int
    peer: Address | None = None
    """The other end of a point-to-point address, when it differs from ours."""
    is_usable: bool = True
    """False while IPv6 duplicate address detection runs or has failed: the kernel refuses to send
    from such an address."""
    is_connected: bool = True
    """Whether the kernel routes the subnet to the link (`routed/fib/links/device_routes.py`)."""
    is_preferred: bool = True
    """Whether packets take that route, and not another one for the subnet to another link."""

    @property
    def subnet(self) -> Prefix:
        """The prefix that is on link through this address."""
        base = self.peer or self.address
        return Prefix.masked(base.family, base.addr_bits, self.prefix_len)

    @property
    def is_host(self) -> bool:
        """Whether the subnet consists of the address itself."""
        return self.peer is None and self.prefix_len == self.address.family.width

    def __str__(self) -> str:
        peer = "" if self.peer is None else f" peer {self.peer}"
        return f"{self.address}{peer}/{self.prefix_len}"


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface: a snapshot of one link and its addresses."""

    ifindex: int
    ifname: InterfaceName
    is_admin_up: bool
    has_carrier: bool
    mtu: int
    """Bytes."""
    is_loopback: bool
    has_multicast: bool
    addresses: Annotated[tuple[InterfaceAddress, ...], Items(MESSAGE_ADDRESSES_MAX)] = ()
    """Sorted, so that equal states compare equal."""
    is_port: bool = False
    """Whether the link is a port of a bridge, bond or team, which receives what arrives on it."""
    is_in_other_vrf: bool = False
    """Whether the link belongs to a VRF whose table is not the daemon's: its addresses are not
    addresses of this router there."""

    @property
    def is_up(self) -> bool:
        """Able to carry traffic: switched on, and the medium is there."""
        return self.is_admin_up and self.has_carrier

    def usable_addresses(self, family: Family) -> Iterator[InterfaceAddress]:
        """The addresses of one family that the kernel lets us send from."""
        return (
            entry for entry in self.addresses if entry.is_usable and entry.address.family is family
        )

    def link_local(self) -> Address | None:
        """The lowest usable IPv6 link-local address, or None."""
        candidates = [
            entry.address
            for entry in self.usable_addresses(Family.IPV6)
            if entry.address.is_link_local
        ]
        return min(candidates, default=None)

    def connected_prefixes(self) -> tuple[Prefix, ...]:
        """The prefixes that this link makes reachable, when it is up.

        Link-local and loopback ranges are left out: they mean nothing to another router. So are
        subnets that the kernel does not route to the link, or rather to another one.
        """
        return self._subnets(is_preferred=True)

    def on_link_prefixes(self) -> tuple[Prefix, ...]:
        """The same with those that the kernel rather routes to another link: a gateway with `dev`
        may be there."""
        return self._subnets(is_preferred=False)

    def _subnets(self, *, is_preferred: bool) -> tuple[Prefix, ...]:
        if not self.is_up:
            return ()
        found = {
            entry.subnet
            for entry in self.addresses
            if entry.is_usable
            and entry.is_connected
            and (entry.is_preferred or not is_preferred)
            and not entry.address.is_link_local
            and not entry.address.is_loopback
        }
        return tuple(sorted(found))

    def owner_of_subnet(self, address: Address) -> InterfaceAddress | None:
        """Which of our usable addresses has `address` on its connected subnet; None when none."""
        return next(
            (
                entry
                for entry in self.usable_addresses(address.family)
                if entry.is_connected and entry.subnet.contains_address(address)
            ),
            None,
        )

    def own_addresses(self) -> frozenset[Address]:
        """The addresses for which the kernel takes packets itself, so that none is a gateway.

        That the link is switched off makes no difference: the local table keeps its IPv4 addresses,
        and has those that are added meanwhile. Nor does duplicate address detection. An IPv6
        link-local address is one of this link only.

        Source: fib_check_nh (by the local table), fib_sync_down_dev (which spares it) and
        ip6_validate_gw (by the addresses) of Linux.
        """
        if self.is_in_other_vrf:
            return frozenset()
        return frozenset(entry.address for entry in self.addresses)
