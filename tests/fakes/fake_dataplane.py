"""A dataplane with fixed views, for tests of what clients see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from ipc.traffic import ShowTraffic, TrafficTable
from routed.control.traffic import (
    DataplaneInterfaceView,
    DataplaneProgramView,
    ExportView,
    FlowTotals,
    FlowTrafficView,
    HostTrafficView,
    InterfaceTrafficView,
    PacketSizeView,
    PortTrafficView,
    ProtocolTrafficView,
    RouteRateView,
    RouteTrafficView,
)
from routed.model.prefix import Address, Prefix

__all__ = ["FakeDataplane"]

ATTACHMENTS = (
    DataplaneInterfaceView("eth0", "tcx", "", "", (7, 12)),
    DataplaneInterfaceView("eth1", "tcx", "", "", ()),
    DataplaneInterfaceView("wan0", "none", "refused", "Device or resource busy", ()),
    DataplaneInterfaceView("wan1", "none", "no-such-interface", "", ()),
)
PROGRAMS = (
    DataplaneProgramView("received", 97, 2, 1_234_567, 83.4, 4276, 12_794_896),
    DataplaneProgramView("sent", 98, 2, None, None, 4277, 12_794_896),
)
EXPORT = (
    ExportView("192.0.2.9:4739", "ipfix", 1, "ok", 40, 1_000, 48_000, 0, ""),
    ExportView("[2001:db8::9]:4739", "ipfix", 0, "failed", 1, 2, 300, 7, "Connection refused"),
)
INTERFACE_TRAFFIC = (
    InterfaceTrafficView("eth0", 1_200_000, 960_000_000, 800_000, 64_000_000),
    InterfaceTrafficView("eth1", 0, 0, 3, 270),
)
PROTOCOL_TRAFFIC = (
    ProtocolTrafficView("ipv4", "tcp", 1_000_000, 900_000_000, 700_000, 60_000_000),
    ProtocolTrafficView("ipv6", "icmp", 12, 1_104, 12, 1_104),
    ProtocolTrafficView("none", "arp", 5, 300, 4, 168),
)
PACKET_SIZES = (
    PacketSizeView("0-64", 1_200, 800_000),
    PacketSizeView("65-127", 0, 3),
    PacketSizeView("9217-", 0, 0),
)
ROUTE_TRAFFIC = (
    RouteTrafficView(Prefix.parse("10.1.0.0/16"), True, 900_000, 810_000_000, 2, 180),
    RouteTrafficView(Prefix.parse("2001:db8:1::/48"), False, 12, 1_104, 12, 1_104),
    RouteTrafficView(None, False, 3, 270, 0, 0),
)
ROUTE_RATES = (
    RouteRateView(None, 900_000, 810_000_000, 2, 180, None),
    RouteRateView(1.0, 100, 90_000, 0, 0, 1.0),
    RouteRateView(2.1, 0, 0, 0, 0, 1.1),
)

FLOWS = (
    FlowTrafficView(
        Address.parse("192.0.2.9"), 40_000, Address.parse("10.1.2.3"), 443, "tcp", "eth0", "eth1",
        Prefix.parse("10.1.0.0/16"), Address.parse("10.0.0.2"), 1_000, 1_200_000, 12.5, 0.1, "SPA",
    ),
    FlowTrafficView(
        Address.parse("2001:db8::1"), 123, Address.parse("2001:db8:1::5"), 53, "udp", "eth0", None,
        None, None, 2, 180, 3.0, 3.0, "",
    ),
    FlowTrafficView(
        Address.parse("192.0.2.9"), None, Address.parse("10.1.2.3"), None, "icmp", None, "eth1",
        Prefix.parse("10.1.0.0/16"), None, 1, 98, 1.0, 1.0, "",
    ),
)  # fmt: skip
HOSTS = (HostTrafficView(Address.parse("192.0.2.9"), 2, 1_001, 1_200_098, 0, 0),)
PORTS = (PortTrafficView("tcp", 443, 1, 0, 0, 1_000, 1_200_000),)


@dataclass
class FakeDataplane:
    """Answers from the constants above."""

    is_configured: bool = True
    clears: int = 0

    def attachments(self) -> Sequence[DataplaneInterfaceView]:
        return ATTACHMENTS

    def export(self) -> Sequence[ExportView]:
        return EXPORT

    async def programs(self) -> Sequence[DataplaneProgramView]:
        return PROGRAMS

    def counts(self, interface: str | None, /) -> bool:
        return interface in (None, "eth0", "eth1")

    def traffic(
        self, request: ShowTraffic, /
    ) -> Sequence[InterfaceTrafficView | ProtocolTrafficView | PacketSizeView]:
        rows: list[InterfaceTrafficView | ProtocolTrafficView | PacketSizeView] = []
        match request.table:
            case TrafficTable.INTERFACES:
                only = request.interface
                rows += [view for view in INTERFACE_TRAFFIC if only in (None, view.interface)]
            case TrafficTable.PROTOCOLS:
                rows += self.protocol_totals(request.interface)
            case TrafficTable.PACKET_SIZES:
                rows += PACKET_SIZES
            case _:
                pass
        return [replace(row, seconds=request.last_s) for row in rows[: request.top]]

    def protocol_totals(self, interface: str | None, /) -> Sequence[ProtocolTrafficView]:
        return PROTOCOL_TRAFFIC if self.counts(interface) else []

    @property
    def routes_problem(self) -> str:
        return "" if self.is_configured else "no-memory"

    async def route_traffic(
        self, request: ShowTraffic, /
    ) -> AsyncGenerator[Sequence[RouteTrafficView], None]:
        yield []
        yield [replace(row, seconds=request.last_s) for row in ROUTE_TRAFFIC[: request.top]]

    def route_rates(self, prefix: Prefix, /) -> Sequence[RouteRateView]:
        return ROUTE_RATES if prefix == ROUTE_TRAFFIC[0].prefix else []

    @property
    def flow_totals(self) -> FlowTotals | None:
        return FlowTotals(3, 1_000, 996, 1, 40) if self.is_configured else None

    async def flow_traffic(
        self, request: ShowTraffic, /
    ) -> Sequence[FlowTrafficView | HostTrafficView | PortTrafficView] | str:
        if request.table is TrafficTable.FLOWS:
            return FLOWS[: request.top]
        return HOSTS if request.table is TrafficTable.HOSTS else PORTS

    def clear_traffic(self) -> None:
        self.clears += 1
