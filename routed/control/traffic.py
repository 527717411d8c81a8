"""The dataplane and its traffic for clients: views of their rows, and what answers them.

show dataplane interfaces | programs
show traffic interfaces | protocols | packet-sizes | routes
show traffic route PREFIX
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from ipc.lazy_dataclass import dataclass
from ipc.traffic import DataplaneTable, ShowTraffic, TrafficTable
from routed.model.prefix import Prefix

__all__ = [
    "TRAFFIC_VIEW_CLASSES",
    "DataplaneInterfaceView",
    "DataplaneProgramView",
    "DataplaneViews",
    "InterfaceTrafficView",
    "PacketSizeView",
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


TRAFFIC_VIEW_CLASSES = (
    DataplaneInterfaceView,
    DataplaneProgramView,
    InterfaceTrafficView,
    ProtocolTrafficView,
    PacketSizeView,
    RouteTrafficView,
    RouteRateView,
)

_DATAPLANE_VIEWS = {
    DataplaneTable.INTERFACES: DataplaneInterfaceView,
    DataplaneTable.PROGRAMS: DataplaneProgramView,
}
_TRAFFIC_VIEWS = {
    TrafficTable.INTERFACES: InterfaceTrafficView,
    TrafficTable.PROTOCOLS: ProtocolTrafficView,
    TrafficTable.PACKET_SIZES: PacketSizeView,
    TrafficTable.ROUTES: RouteTrafficView,
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

    def clear_traffic(self) -> None:
        """Let the counters that are shown begin at zero."""
