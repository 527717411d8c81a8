"""The addresses that a neighbor may send from, and its next hops.

An address that a neighbor names becomes a next hop. One of our own addresses, a network address or
a broadcast address would swallow the packets sent there, so it is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Container

from routed.model.prefix import Address, Family
from routed.model.route import NextHop
from routed.nup.link.adjacency import Adjacency
from routed.nup.link.settings import LinkSettings

__all__ = ["is_heard", "next_hop", "off_link_reason", "unusable_reason"]

_INTERFACE_ID_BITS = (1 << 64) - 1


def is_heard(settings: LinkSettings, source: Address) -> bool:
    """Return whether a datagram from this source can have been sent by a neighbor on the link.

    Source: RFC 8966 section 4 (only link-local sources); RFC 5082 section 5.
    """
    if settings.unicast_neighbors:
        return source in settings.unicast_neighbors
    if source.family is Family.IPV6:
        return source.is_link_local
    return _is_on_subnet(settings, source)


def off_link_reason(settings: LinkSettings, source: Address) -> str:
    """Return why `is_heard` is false, for an operator."""
    if settings.unicast_neighbors:
        return "not among the neighbors that are configured for the link"
    if source.family is Family.IPV6:
        return "its source is not link-local"
    return f"its address is on no subnet of {settings.ifname}"


def unusable_reason(settings: LinkSettings, address: Address, own: Container[Address] = ()) -> str:
    """Return why an address cannot be a neighbor's on a link; empty when it can.

    Args:
        settings: of the link.
        address: that a neighbor sends from, or names.
        own: more addresses of this router; those of the link are known.
    """
    if address in own or any(entry.address == address for entry in settings.addresses):
        return "is our own address"
    if address.family is Family.IPV6:
        is_anycast = address.is_link_local and not address.addr_bits & _INTERFACE_ID_BITS
        return "is the anycast address of all routers" if is_anycast else ""
    if not 0 < address.addr_bits >> 24 < 224:
        return "is no unicast address"
    for entry in settings.addresses:
        subnet = entry.subnet
        if subnet.family is Family.IPV4 and subnet.prefix_len <= 30:
            host_mask = (1 << (32 - subnet.prefix_len)) - 1
            if subnet.contains_address(address) and address.addr_bits & host_mask in (0, host_mask):
                return f"is the network or broadcast address of {subnet}"
    return ""


def _is_on_subnet(settings: LinkSettings, source: Address, *, is_routed: bool = False) -> bool:
    """Return whether an IPv4 address lies on a subnet of the link (that the kernel routes to
    it)."""
    return any(
        entry.is_usable
        and (entry.is_connected or not is_routed)
        and entry.subnet.contains_address(source)
        for entry in settings.addresses
        if entry.address.family is Family.IPV4
    )


def next_hop(settings: LinkSettings, adjacency: Adjacency, family: Family) -> NextHop | None:
    """Return the next hop to a neighbor for packets of one family; None when there is none.

    IPv4 goes to an IPv4 address of the neighbor on one of our subnets of the link; without one, to
    its IPv6 link-local address (the kernel resolves the link layer by it, RTA_VIA). IPv6 always
    goes to the link-local address.
    """
    known = [
        address
        for address in sorted({adjacency.address, *adjacency.addresses})
        if not unusable_reason(settings, address)
    ]
    if family is Family.IPV4:
        for address in known:
            if address.family is Family.IPV4 and _is_on_subnet(settings, address, is_routed=True):
                return NextHop(via=address, ifindex=settings.ifindex)
    if adjacency.address.family is Family.IPV6 and adjacency.address in known:
        return NextHop(via=adjacency.address, ifindex=settings.ifindex)
    for address in known:
        if address.family is Family.IPV6 and address.is_link_local:
            return NextHop(via=address, ifindex=settings.ifindex)
    return None
