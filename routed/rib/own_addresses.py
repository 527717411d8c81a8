"""The addresses of this router, by the links that have them: none of them can be a gateway. Pure.

The kernel accepts an own IPv4 address as a gateway and then sends to nothing (the next hop has
scope host); an own IPv6 address makes it refuse the route. So a gateway that is our own is
unresolved, and its dependents are resolved again when an address is added or removed (VRRP moves
one between routers).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from routed.model.link import Interface
from routed.model.prefix import Address

__all__ = ["OwnAddresses"]


class OwnAddresses:
    """Index of the addresses of all links."""

    def __init__(self) -> None:
        """Start empty."""
        self.loopbacks: set[int] = set()
        """The loopback links by ifindex: packets to them come back, whatever their subnets."""
        self._ifnames: dict[Address, set[str]] = {}

    def ifnames_with(self, address: Address) -> AbstractSet[str]:
        """Return the links that have an address."""
        return self._ifnames.get(address, frozenset())

    def follow(self, before: Interface | None, after: Interface | None) -> set[Address]:
        """Apply a change of a link: it was added, has changed, or was removed.

        Returns:
            The addresses whose links have changed.

        Cost: linear in the addresses of the link.
        """
        old = (
            set() if before is None else {(each, before.ifname) for each in before.own_addresses()}
        )
        new = set() if after is None else {(each, after.ifname) for each in after.own_addresses()}
        for address, ifname in old - new:
            ifnames = self._ifnames[address]
            ifnames.discard(ifname)
            if not ifnames:
                del self._ifnames[address]
        for address, ifname in new - old:
            self._ifnames.setdefault(address, set()).add(ifname)
        if before is not None:
            self.loopbacks.discard(before.ifindex)
        if after is not None and after.is_loopback:
            self.loopbacks.add(after.ifindex)
        return {address for address, _ in old ^ new}
