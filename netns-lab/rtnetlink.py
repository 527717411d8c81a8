"""A codec for the few rtnetlink messages that the lab needs: links, addresses, routes.

It is deliberately not the codec of the daemon: the lab compares the kernel's state with that of the
daemon, and a common codec would hide its own errors.

A request is one message. Every request asks for an acknowledgement and raises the kernel's error.
Attributes are TLVs aligned to four bytes; all header fields are in host order, addresses in network
order.

Sources: netlink(7), rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/veth.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_network,
)

__all__ = [
    "IFA_F_NODAD",
    "IFA_F_NOPREFIXROUTE",
    "NETLINK_ROUTE",
    "Attributes",
    "LinkEnd",
    "Rtnetlink",
    "SubnetRoute",
    "attribute",
    "nested",
    "read_attributes",
]

NETLINK_ROUTE = 0

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_DELNEXTHOP, RTM_GETNEXTHOP = 105, 106

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_CREATE, _EXCLUSIVE, _REPLACE = 0x400, 0x200, 0x100
_DUMP_INTERRUPTED = 0x10
_DUMP_ATTEMPTS = 5

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
ROUTE = struct.Struct("=BBBBBBBBI")
NEXTHOP = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")

_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 10, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
_UNICAST, _SCOPE_LINK, _ONLINK = 1, 253, 4

Attributes = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """One end of a new veth pair."""

    ifname: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class SubnetRoute:
    """A new foreign route."""

    prefix: str
    protocol: int = 2
    """RTPROT_KERNEL by default."""
    priority: int = 0
    table_id: int = 254
    via: str | None = None
    source: str | None = None
    kind: int = _UNICAST
    """RTN_*; a type that rejects packets has no link."""
    scope: int | None = None
    """None for the default of `ip route`."""
    is_onlink: bool = True
    """Whether the gateway is treated as reachable on the link."""


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, with padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode an attribute that contains attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def read_attributes(data: bytes) -> Attributes:
    """Decode attributes by type; the last one of a type is used, as in the kernel.

    Raises:
        ValueError: a length does not fit (the kernel does not send that).
    """
    found: Attributes = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise ValueError(f"attribute {kind} has length {length}")
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + (-length % 4)
    return found


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


class Rtnetlink:
    """Requests over one NETLINK_ROUTE socket, which determines the router."""

    def __init__(self, connection: socket.socket) -> None:
        """Use a socket that was opened in the router's namespace; `close` closes it."""
        self._connection = connection
        self._sequence = 0

    @classmethod
    def open_here(cls) -> Rtnetlink:
        """Open a socket in the calling thread's own namespace."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return cls(socket.socket(socket.AF_NETLINK, kind, NETLINK_ROUTE))

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """Send one request and wait for its acknowledgement.

        Raises:
            OSError: the kernel's error; the message begins with `what`.
        """
        self._send(kind, _REQUEST | _ACK | flags, body)
        while True:
            for answer, _, payload in self._receive():
                if answer == _NLMSG_ERROR:
                    _raise_error(payload, what)
                    return

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return all objects of one kind, as message bodies.

        Raises:
            OSError: the kernel refused, or the table changed during every attempt.
        """
        for _ in range(_DUMP_ATTEMPTS):
            self._send(kind, _REQUEST | _DUMP, body)
            bodies, is_consistent = self._read_dump()
            if is_consistent:
                return bodies
        raise OSError("the kernel's dump was interrupted again and again")

    def _read_dump(self) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        is_consistent = True
        while True:
            for kind, flags, payload in self._receive():
                is_consistent = is_consistent and not flags & _DUMP_INTERRUPTED
                if kind == _NLMSG_DONE:
                    return bodies, is_consistent
                if kind == _NLMSG_ERROR:
                    _raise_error(payload, "dump")
                bodies.append(payload)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
        self._connection.send(header + body)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the messages of one datagram: type, flags, body. Answers to older requests are
        dropped."""
        datagram = self._connection.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(datagram):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
            if sequence == self._sequence:
                yield kind, flags, datagram[offset + _HEADER.size : offset + length]
            offset += length + (-length % 4)

    # links

    def link_names(self) -> dict[int, str]:
        """Return the names of links by interface index."""
        names = {}
        for body in self.dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            ifindex = _LINK.unpack_from(body)[2]
            attributes = read_attributes(body[_LINK.size :])
            names[ifindex] = attributes[IFLA_IFNAME].rstrip(b"\0").decode()
        return names

    def link_is_up(self, ifname: str) -> bool:
        """Return whether a link is switched on, with or without carrier.

        Raises:
            KeyError: there is no such link.
        """
        for body in self.dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            attributes = read_attributes(body[_LINK.size :])
            if attributes[IFLA_IFNAME].rstrip(b"\0").decode() == ifname:
                return bool(_LINK.unpack_from(body)[3] & IFF_UP)
        raise KeyError(ifname)

    def add_veth(self, here: LinkEnd, there: LinkEnd, there_net_fd: int) -> None:
        """Add a veth pair: one end here, one in the namespace of a descriptor."""
        peer = (
            _LINK.pack(0, 0, 0, 0, 0)
            + attribute(IFLA_IFNAME, _name(there.ifname))
            + attribute(IFLA_ADDRESS, there.mac)
            + attribute(IFLA_NET_NS_FD, struct.pack("=I", there_net_fd))
        )
        body = (
            _LINK.pack(0, 0, 0, 0, 0)
            + attribute(IFLA_IFNAME, _name(here.ifname))
            + attribute(IFLA_ADDRESS, here.mac)
            + nested(
                IFLA_LINKINFO,
                attribute(IFLA_INFO_KIND, b"veth"),
                nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)),
            )
        )
        self.request(RTM_NEWLINK, _CREATE | _EXCLUSIVE, body, f"make veth {here.ifname}")

    def add_bridge(self, ifname: str) -> None:
        """Add a bridge without spanning tree, so that its ports forward at once."""
        kind = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"bridge"))
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, _name(ifname)) + kind
        self.request(RTM_NEWLINK, _CREATE | _EXCLUSIVE, body, f"make bridge {ifname}")

    def set_master(self, ifname: str, bridge: str) -> None:
        """Make a link a port of a bridge."""
        indexes = {name: ifindex for ifindex, name in self.link_names().items()}
        master = attribute(IFLA_MASTER, struct.pack("=I", indexes[bridge]))
        body = _LINK.pack(0, 0, indexes[ifname], 0, 0) + master
        self.request(RTM_NEWLINK, 0, body, f"put {ifname} into {bridge}")

    def set_up(self, ifname: str, *, is_up: bool) -> None:
        """Switch a link on or off."""
        flags = IFF_UP if is_up else 0
        body = _LINK.pack(0, 0, 0, flags, IFF_UP) + attribute(IFLA_IFNAME, _name(ifname))
        self.request(RTM_NEWLINK, 0, body, f"set {ifname} {'up' if is_up else 'down'}")

    # addresses

    def add_address(
        self,
        ifname: str,
        address: IPv4Interface | IPv6Interface,
        *,
        peer: IPv4Address | IPv6Address | None = None,
        flags: int = 0,
    ) -> None:
        """Add an address with its prefix length to a link.

        Args:
            ifname: name of the link.
            address: local address.
            peer: remote address of a point-to-point link.
            flags: IFA_F_NOPREFIXROUTE, IFA_F_NODAD.
        """
        body = self._address(ifname, address, peer) + attribute(IFA_FLAGS, struct.pack("=I", flags))
        self.request(RTM_NEWADDR, _CREATE | _EXCLUSIVE, body, f"add {address} to {ifname}")

    def delete_address(
        self,
        ifname: str,
        address: IPv4Interface | IPv6Interface,
        *,
        peer: IPv4Address | IPv6Address | None = None,
    ) -> None:
        """Remove an address from a link."""
        body = self._address(ifname, address, peer)
        self.request(RTM_DELADDR, 0, body, f"delete {address} from {ifname}")

    def _address(
        self,
        ifname: str,
        address: IPv4Interface | IPv6Interface,
        peer: IPv4Address | IPv6Address | None,
    ) -> bytes:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        prefix_len = address.network.prefixlen
        return (
            _ADDRESS.pack(family, prefix_len, 0, 0, self._ifindex(ifname))
            + attribute(IFA_LOCAL, address.packed)
            + attribute(IFA_ADDRESS, (peer or address).packed)
        )

    def _ifindex(self, ifname: str) -> int:
        return {name: index for index, name in self.link_names().items()}[ifname]

    # routes of subnets

    def add_subnet_route(
        self,
        ifname: str,
        route: SubnetRoute,
        *,
        is_replacing: bool = False,
        is_first: bool = False,
    ) -> None:
        """Route a subnet to a link, or through a gateway on it; `is_first` as `ip route
        prepend`."""
        flags = _CREATE | (_REPLACE if is_replacing else 0 if is_first else _EXCLUSIVE)
        body = self._subnet_route(ifname, route)
        self.request(RTM_NEWROUTE, flags, body, f"route {route.prefix} to {ifname}")

    def delete_subnet_route(self, ifname: str, route: SubnetRoute) -> None:
        """Remove such a route."""
        body = self._subnet_route(ifname, route)
        self.request(RTM_DELROUTE, 0, body, f"delete route {route.prefix} to {ifname}")

    def _subnet_route(self, ifname: str, route: SubnetRoute) -> bytes:
        network = ip_network(route.prefix)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        is_on_link = network.version == 4 and route.via is None
        scope = _SCOPE_LINK if is_on_link and route.kind == _UNICAST else 0
        scope = scope if route.scope is None else route.scope
        flags = _ONLINK if route.via is not None and route.is_onlink else 0
        header = ROUTE.pack(
            family, network.prefixlen, 0, 0, 0, route.protocol, scope, route.kind, flags
        )
        body = header + attribute(RTA_DST, network.network_address.packed)
        if route.kind == _UNICAST:
            body += attribute(RTA_OIF, struct.pack("=I", self._ifindex(ifname)))
        body += attribute(RTA_TABLE, struct.pack("=I", route.table_id))
        if route.priority:
            body += attribute(RTA_PRIORITY, struct.pack("=I", route.priority))
        if route.via is not None:
            body += attribute(RTA_GATEWAY, ip_address(route.via).packed)
        if route.source is not None:
            body += attribute(RTA_PREFSRC, ip_address(route.source).packed)
        return body


def _raise_error(payload: bytes, what: str) -> None:
    (negative,) = struct.unpack_from("=i", payload)
    if negative:
        raise OSError(-negative, f"{what}: {os.strerror(-negative)}")
