"""Requests about the dataplane and the traffic that it counts; see `ipc.control`."""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass

__all__ = [
    "ClearTraffic",
    "DataplaneTable",
    "ShowDataplane",
    "ShowRouteTraffic",
    "ShowTraffic",
    "TrafficOrder",
    "TrafficTable",
]


class DataplaneTable(enum.Enum):
    """What of the dataplane is shown."""

    INTERFACES = "interfaces"
    PROGRAMS = "programs"
    EXPORT = "export"


class TrafficTable(enum.Enum):
    """By what traffic is shown."""

    INTERFACES = "interfaces"
    PROTOCOLS = "protocols"
    PACKET_SIZES = "packet-sizes"
    ROUTES = "routes"
    FLOWS = "flows"
    HOSTS = "hosts"
    PORTS = "ports"


@dataclass(frozen=True, slots=True)
class ShowDataplane:
    """How traffic is counted: one row for each interface, or for each program."""

    table: DataplaneTable = DataplaneTable.INTERFACES


class TrafficOrder(enum.Enum):
    """What decides which rows come first."""

    BYTES = "bytes"
    PACKETS = "packets"


@dataclass(frozen=True, slots=True)
class ShowTraffic:
    """The traffic of the interfaces that are counted."""

    table: TrafficTable = TrafficTable.INTERFACES
    interface: str | None = None
    """Only this interface; the sum of all without. Routes are counted over all interfaces."""
    top: int | None = None
    """Most rows, 1 to 1000: those with the most bytes or packets. None: all of them, and of routes,
    flows, hosts and ports 20."""
    by: TrafficOrder | None = None
    """None: bytes. Interfaces are ordered only if it is given, or `top`."""
    last_s: float | None = None
    """Only the traffic of the last seconds, 60 at most; None: since the counters began."""


@dataclass(frozen=True, slots=True)
class ShowRouteTraffic:
    """The traffic of one route: one row for each second of the last minute, and one for all."""

    prefix: str
    """Of exactly this route."""


@dataclass(frozen=True, slots=True)
class ClearTraffic:
    """Let the counters that `show traffic` shows begin at zero. Metrics go on."""
