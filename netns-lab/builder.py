"""Builds a topology: namespaces with links, addresses and sysctls. Runs inside the holder.

The order matters: sysctls are set before links are switched on (accept_dad, so that link-local
addresses can be used at once), and addresses are added before that, too.

The sysctls and their reasons:
    forwarding              these are routers
    accept_dad=0            avoids a second of duplicate address detection; addresses here are
                            unique by construction
    accept_ra=0             only routed creates routes
    keep_addr_on_down=1     a link that was cut gets its IPv6 addresses back; IPv4 keeps its own
    rp_filter=0             paths may be asymmetric while the network converges
ignore_routes_with_linkdown stays off: with it the kernel itself would avoid a dead link, and hide
how quickly the daemon does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netns import RouterNamespaces
from rtnetlink import LinkEnd, Rtnetlink
from topology import Node, Port, Segment, Topology

__all__ = ["build"]

BRIDGE = "br0"

_ROUTER_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/keep_addr_on_down": "1",
    "ipv6/conf/default/keep_addr_on_down": "1",
}
_BRIDGE_SYSCTLS = {"ipv6/conf/default/disable_ipv6": "1"}
"""A switch has no addresses."""


def build(topology: Topology) -> dict[str, RouterNamespaces]:
    """Build every router and LAN of a topology.

    Returns:
        Namespaces by the name of the node or LAN.

    Raises:
        OSError: the kernel refused a namespace, a sysctl, a link or an address.
    """
    namespaces: dict[str, RouterNamespaces] = {}
    for node in topology.nodes.values():
        namespaces[node.name] = _build_node(node)
    for segment in topology.segments:
        if segment.is_lan:
            namespaces[segment.name] = _build_switch(segment)
            for port in segment.ports:
                _plug_in(port, segment, namespaces)
        else:
            _join(segment, namespaces)
        for port in segment.ports:
            _configure(port, namespaces[port.node])
    return namespaces


def _build_node(node: Node) -> RouterNamespaces:
    namespaces = RouterNamespaces.create(node.name)
    with namespaces.inside():
        _write_sysctls(_ROUTER_SYSCTLS)
        netlink = Rtnetlink.open_here()
        netlink.set_up("lo", is_up=True)
        for address in node.loopbacks:
            netlink.add_address("lo", address)
        netlink.close()
    return namespaces


def _build_switch(segment: Segment) -> RouterNamespaces:
    namespaces = RouterNamespaces.create(segment.name)
    with namespaces.inside():
        _write_sysctls(_BRIDGE_SYSCTLS)
        netlink = Rtnetlink.open_here()
        netlink.add_bridge(BRIDGE)
        netlink.set_up(BRIDGE, is_up=True)
        netlink.close()
    return namespaces


def _join(segment: Segment, namespaces: Mapping[str, RouterNamespaces]) -> None:
    left, right = segment.ports
    with namespaces[left.node].inside():
        netlink = Rtnetlink.open_here()
        netlink.add_veth(
            LinkEnd(left.ifname, left.mac),
            LinkEnd(right.ifname, right.mac),
            namespaces[right.node].net_fd,
        )
        netlink.close()


def _plug_in(port: Port, segment: Segment, namespaces: Mapping[str, RouterNamespaces]) -> None:
    """Join a router to the switch of a LAN by a veth pair; the switch's end has the router's
    name."""
    switch_mac = bytes((6,)) + port.mac[1:]
    with namespaces[segment.name].inside():
        netlink = Rtnetlink.open_here()
        netlink.add_veth(
            LinkEnd(port.node, switch_mac),
            LinkEnd(port.ifname, port.mac),
            namespaces[port.node].net_fd,
        )
        netlink.set_master(port.node, BRIDGE)
        netlink.set_up(port.node, is_up=True)
        netlink.close()


def _configure(port: Port, namespaces: RouterNamespaces) -> None:
    with namespaces.inside():
        netlink = Rtnetlink.open_here()
        for address in port.addresses:
            netlink.add_address(port.ifname, address)
        netlink.set_up(port.ifname, is_up=True)
        netlink.close()


def _write_sysctls(values: Mapping[str, str]) -> None:
    """Write /proc/sys/net of the calling thread's namespace."""
    for name, value in values.items():
        (Path("/proc/sys/net") / name).write_text(value, encoding="ascii")
