"""The dataplane and its traffic for clients: views of their rows, and what answers them.

show dataplane interfaces | programs
show export
show traffic interfaces | protocols | packet-sizes | routes | flows | hosts | ports
show traffic route PREFIX
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from ipc.lazy_dataclass import dataclass
from ipc.traffic import DataplaneTable, ShowTraffic, TrafficTable
from routed.model.prefix import Address, Prefix

__all__ = [
    "TRAFFIC_VIEW_CLASSES",
    "DataplaneInterfaceView",
    "DataplaneProgramView",
    "DataplaneViews",
    "ExportView",
    "FlowTotals",
    "FlowTrafficView",
    "HostTrafficView",
    "InterfaceTrafficView",
    "PacketSizeView",
    "PortTrafficView",
    "ProtocolTrafficView",
    "RouteRateView",
    "RouteTrafficView",
    "dataplane_view_of",
    "traffic_view_of",
]


@dataclass(frozen=True, slots=True)
class DataplaneInterfaceView:
    """How one interface is counted."""

    interface: str
    hook: str
    """`tcx`, or `none` if it is not counted."""
    reason: str
    """Why not; else empty."""
    detail: str
    """The kernel's words, if it has refused."""
    others: tuple[int, ...]
    """Ids of other programs at the same hooks, as bpftool shows them."""


@dataclass(frozen=True, slots=True)
class DataplaneProgramView:
    """One program in the kernel."""

    program: str
    id: int
    """As bpftool shows it."""
    interfaces: int
    """Number of interfaces that it is attached to."""
    runs: int | None
    """Since the daemon started; None without `dataplane.statistics`."""
    run_ns: float | None
    """Nanoseconds of a run, on average; None without runs or statistics."""
    code_bytes: int
    memory_bytes: int
    """Of all counters; the programs share them."""


@dataclass(frozen=True, slots=True)
class ExportView:
    """One collector of flows."""

    collector: str
    """Address and port."""
    protocol: str
    """`ipfix`."""
    domain: int
    state: str
    """`ok`, or `failed`: there is no socket, or the last message could not be sent."""
    messages: int
    """Since the observer started."""
    records: int
    bytes: int
    lost: int
    """Records of messages that could not be sent."""
    problem: str


@dataclass(frozen=True, slots=True)
class InterfaceTrafficView:
    """Frames of one interface."""

    interface: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    seconds: float | None = None
    """Length of the window that was counted; None: since the counters began."""


@dataclass(frozen=True, slots=True)
class ProtocolTrafficView:
    """Frames of one protocol."""

    family: str
    """`ipv4`, `ipv6`, or `none` for other frames."""
    protocol: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    seconds: float | None = None
    """Length of the window that was counted; None: since the counters began."""


@dataclass(frozen=True, slots=True)
class PacketSizeView:
    """Frames of one class of sizes."""

    size_bytes: str
    """From and to, such as `128-255`."""
    received_packets: int
    sent_packets: int
    seconds: float | None = None
    """Length of the window that was counted; None: since the counters began."""


@dataclass(frozen=True, slots=True)
class RouteTrafficView:
    """Packets to the destinations of one route."""

    prefix: Prefix | None
    """None: destinations without a route, and routes beyond `dataplane.routes`."""
    is_published: bool
    """Whether it is a route now."""
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    seconds: float | None = None
    """Length of the window that was counted; None: since the counters began."""


@dataclass(frozen=True, slots=True)
class RouteRateView:
    """Packets to the destinations of one route, in all and in each second of the last minute."""

    age_s: float | None
    """When the interval began; None: when the counters began."""
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    seconds: float | None
    """Length of the interval."""


@dataclass(frozen=True, slots=True)
class FlowTrafficView:
    """One flow of the present: packets from one address and port to another."""

    source: Address
    source_port: int | None
    destination: Address
    destination_port: int | None
    protocol: str
    """Its name, or else its number."""
    interface: str | None
    """Interface; None: sent by this router."""
    dev: str | None
    """Interface; None: for this router, or by an interface that is not counted."""
    prefix: Prefix | None
    """Of the route to the destination, as of now."""
    via: Address | None
    """Its next hop by the interface, where that has one."""
    packets: int
    bytes: int
    age_s: float
    """Since the first packet."""
    idle_s: float
    """Since the last packet."""
    tcp_flags: str
    """Of all packets together: F, S, R, P, A, U, E, C."""


@dataclass(frozen=True, slots=True)
class FlowTotals:
    """Counters of flows, for metrics."""

    active: int
    """At present."""
    begun: int
    ended: int
    """Since the observer started."""
    lost_flows: int
    lost_packets: int


@dataclass(frozen=True, slots=True)
class HostTrafficView:
    """All flows of one address at present."""

    host: Address
    flows: int
    sent_packets: int
    """By the host."""
    sent_bytes: int
    received_packets: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class PortTrafficView:
    """All flows of one port at present, of the two ports of a flow the lower one."""

    protocol: str
    port: int
    flows: int
    sent_packets: int
    """From the port."""
    sent_bytes: int
    received_packets: int
    """To the port."""
    received_bytes: int


TRAFFIC_VIEW_CLASSES = (
    DataplaneInterfaceView,
    DataplaneProgramView,
    ExportView,
    InterfaceTrafficView,
    ProtocolTrafficView,
    PacketSizeView,
    RouteTrafficView,
    RouteRateView,
    FlowTrafficView,
    HostTrafficView,
    PortTrafficView,
)

_DATAPLANE_VIEWS = {
    DataplaneTable.INTERFACES: DataplaneInterfaceView,
    DataplaneTable.PROGRAMS: DataplaneProgramView,
    DataplaneTable.EXPORT: ExportView,
}
_TRAFFIC_VIEWS = {
    TrafficTable.INTERFACES: InterfaceTrafficView,
    TrafficTable.PROTOCOLS: ProtocolTrafficView,
    TrafficTable.PACKET_SIZES: PacketSizeView,
    TrafficTable.ROUTES: RouteTrafficView,
    TrafficTable.FLOWS: FlowTrafficView,
    TrafficTable.HOSTS: HostTrafficView,
    TrafficTable.PORTS: PortTrafficView,
}


def dataplane_view_of(table: DataplaneTable) -> type:
    """Return the class of the rows of a table."""
    return _DATAPLANE_VIEWS[table]


def traffic_view_of(table: TrafficTable) -> type:
    """Return the class of the rows of a table."""
    return _TRAFFIC_VIEWS[table]


class DataplaneViews(Protocol):
    """The engine's knowledge of the dataplane."""

    @property
    def is_configured(self) -> bool:
        """Whether the configuration names any interface."""

    def attachments(self) -> Sequence[DataplaneInterfaceView]:
        """List the configured interfaces, and how each is counted."""

    def export(self) -> Sequence[ExportView]:
        """List the collectors of flows, as the observer reports them."""

    async def programs(self) -> Sequence[DataplaneProgramView]:
        """List the programs in the kernel, as the parent reports them."""

    def counts(self, interface: str | None, /) -> bool:
        """Return whether an interface, or any if it is None, is counted."""

    def traffic(
        self, request: ShowTraffic, /
    ) -> Sequence[InterfaceTrafficView | ProtocolTrafficView | PacketSizeView]:
        """List the traffic of one interface, or of all together; the table is not ROUTES."""

    def protocol_totals(self, interface: str, /) -> Sequence[ProtocolTrafficView]:
        """List the protocols of an interface since its counters began, whatever was cleared."""

    @property
    def routes_problem(self) -> str:
        """Why the traffic of routes is not counted; empty if it is."""

    def route_traffic(
        self, request: ShowTraffic, /
    ) -> AsyncGenerator[Sequence[RouteTrafficView], None]:
        """Iterate over the routes with the most traffic, after chunks without a row."""

    def route_rates(self, prefix: Prefix, /) -> Sequence[RouteRateView]:
        """List what a route has carried in all, and in each second; nothing for no route."""

    @property
    def flow_totals(self) -> FlowTotals | None:
        """Counters of flows; None without an observer."""

    async def flow_traffic(
        self, request: ShowTraffic, /
    ) -> Sequence[FlowTrafficView | HostTrafficView | PortTrafficView] | str:
        """List flows, hosts or ports; or say why there are none."""

    def clear_traffic(self) -> None:
        """Let the counters that are shown begin at zero."""
