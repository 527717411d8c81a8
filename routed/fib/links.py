"""The table of this host's links: one owner for what rtnetlink tells of links and addresses. Pure.

Events go in, and each returns what became of the link: the new `Interface`, or that it is gone.
Addresses may arrive before their link does (two dumps) and are kept until then.

Identity is the ifindex. A rename is a change of one link; a link that was deleted and created again
under the same name is a removal and a new link with another index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address

__all__ = ["AddressEvent", "LinkChange", "LinkEvent", "LinkTable"]


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link appeared, changed or went."""

    ifindex: int
    ifname: str
    is_removed: bool
    is_admin_up: bool
    has_carrier: bool
    mtu: int
    is_loopback: bool
    has_multicast: bool
    is_port: bool = False


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address of a link appeared, changed or went."""

    ifindex: int
    address: InterfaceAddress
    is_removed: bool


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A link is different now; None on a side where it does not exist."""

    ifindex: int
    before: Interface | None
    after: Interface | None


_AddressKey = tuple[Address, int]


class LinkTable:
    """Links by ifindex, with their addresses."""

    def __init__(self) -> None:
        self._links: dict[int, LinkEvent] = {}
        self._addresses: dict[int, dict[_AddressKey, InterfaceAddress]] = {}
        self._interfaces: dict[int, Interface] = {}

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """Every link, by ifindex; read only."""
        return self._interfaces

    def apply(self, event: LinkEvent | AddressEvent) -> LinkChange | None:
        """Take one event in; None when nothing that we look at changed."""
        match event:
            case LinkEvent(is_removed=True):
                self._links.pop(event.ifindex, None)
                self._addresses.pop(event.ifindex, None)
            case LinkEvent():
                self._links[event.ifindex] = event
            case AddressEvent(address=entry):
                of_link = self._addresses.setdefault(event.ifindex, {})
                key = (entry.address, entry.prefix_len)
                if event.is_removed:
                    of_link.pop(key, None)
                else:
                    of_link[key] = entry
        return self._settle(event.ifindex)

    def replace(
        self, links: Iterable[LinkEvent], addresses: Iterable[AddressEvent]
    ) -> list[LinkChange]:
        """Take over complete dumps of links and addresses."""
        self._links = {event.ifindex: event for event in links}
        self._addresses = {}
        for event in addresses:
            of_link = self._addresses.setdefault(event.ifindex, {})
            of_link[event.address.address, event.address.prefix_len] = event.address
        indexes = sorted(self._links.keys() | self._interfaces.keys())
        return [change for index in indexes if (change := self._settle(index)) is not None]

    def _settle(self, ifindex: int) -> LinkChange | None:
        before, after = self._interfaces.get(ifindex), self._compose(ifindex)
        if after is None:
            self._interfaces.pop(ifindex, None)
        else:
            self._interfaces[ifindex] = after
        return None if before == after else LinkChange(ifindex, before, after)

    def _compose(self, ifindex: int) -> Interface | None:
        link = self._links.get(ifindex)
        if link is None:
            return None
        addresses = self._addresses.get(ifindex, {})
        return Interface(
            ifindex=ifindex,
            ifname=link.ifname,
            is_admin_up=link.is_admin_up,
            has_carrier=link.has_carrier,
            mtu=link.mtu,
            is_loopback=link.is_loopback,
            has_multicast=link.has_multicast,
            addresses=tuple(addresses[key] for key in sorted(addresses)),
            is_port=link.is_port,
        )
