"""Views of flows: the observer's rows, with the route of each. Owns no state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ipc.traffic import TrafficTable
from routed.control.traffic import FlowTrafficView, HostTrafficView, PortTrafficView
from routed.imsg.observer import FlowRow
from routed.model.prefix import Address, Prefix
from routed.rib.table import Rib

__all__ = ["flow_views"]

_PROTOCOLS = {
    1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp",
    51: "ah", 58: "icmp6", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp",
}  # fmt: skip
_WITHOUT_PORTS = {"icmp", "icmp6"}
_FLAGS = "FSRPAUEC"


def flow_views(
    table: TrafficTable, rows: Sequence[FlowRow], rib: Rib, ifname_of: Callable[[int], str]
) -> Iterator[FlowTrafficView | HostTrafficView | PortTrafficView]:
    """Make the views of one table.

    Args:
        table: flows, hosts or ports.
        rows: the observer's; one that does not fit the table is left out.
        rib: knows the routes.
        ifname_of: returns the name of a link, by ifindex.

    Cost: a longest match in the RIB for each flow.
    """
    for row in rows:
        sent, received = (row.packets, row.bytes), (row.received_packets, row.received_bytes)
        if table is TrafficTable.PORTS:
            # What was sent to a port was received there.
            protocol, port = _protocol(row.protocol), row.destination_port
            yield PortTrafficView(protocol, port, row.flows, *received, *sent)
        elif row.source is not None and table is TrafficTable.HOSTS:
            yield HostTrafficView(row.source, row.flows, *sent, *received)
        elif row.source is not None and row.destination is not None:
            yield _flow_view(row, row.source, row.destination, rib, ifname_of)


def _flow_view(
    row: FlowRow,
    source: Address,
    destination: Address,
    rib: Rib,
    ifname_of: Callable[[int], str],
) -> FlowTrafficView:
    protocol = _protocol(row.protocol)
    has_ports = protocol not in _WITHOUT_PORTS and bool(row.source_port or row.destination_port)
    prefix = rib.match(destination)
    return FlowTrafficView(
        source=source,
        source_port=row.source_port if has_ports else None,
        destination=destination,
        destination_port=row.destination_port if has_ports else None,
        protocol=protocol,
        interface=ifname_of(row.received_ifindex) if row.received_ifindex else None,
        dev=ifname_of(row.sent_ifindex) if row.sent_ifindex else None,
        prefix=prefix,
        via=None if prefix is None else _via(rib, prefix, row.sent_ifindex),
        packets=row.packets,
        bytes=row.bytes,
        age_s=row.age_ms / 1000,
        idle_s=row.idle_ms / 1000,
        tcp_flags="".join(flag for bit, flag in enumerate(_FLAGS) if row.tcp_flags >> bit & 1),
    )


def _via(rib: Rib, prefix: Prefix, ifindex: int) -> Address | None:
    """Return the gateway by an interface, if the route has exactly one there."""
    best = rib.best(prefix)
    found = [] if best is None else [hop.via for hop in best.next_hops if hop.ifindex == ifindex]
    return found[0] if len(found) == 1 else None


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))
