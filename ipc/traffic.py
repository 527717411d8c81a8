"""Requests about the dataplane and the traffic that it counts; see `ipc.control`."""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass

__all__ = ["DataplaneTable", "ShowDataplane", "ShowTraffic", "TrafficTable"]


class DataplaneTable(enum.Enum):
    """What of the dataplane is shown."""

    INTERFACES = "interfaces"
    PROGRAMS = "programs"


class TrafficTable(enum.Enum):
    """By what traffic is shown."""

    INTERFACES = "interfaces"
    PROTOCOLS = "protocols"
    PACKET_SIZES = "packet-sizes"
    ROUTES = "routes"


@dataclass(frozen=True, slots=True)
class ShowDataplane:
    """How traffic is counted: one row for each interface, or for each program."""

    table: DataplaneTable = DataplaneTable.INTERFACES


@dataclass(frozen=True, slots=True)
class ShowTraffic:
    """The traffic of the interfaces that are counted."""

    table: TrafficTable = TrafficTable.INTERFACES
    interface: str | None = None
    """Only this interface; the sum of all without. Routes are counted over all interfaces."""
    top: int = 20
    """Most routes, 1 to 1000; those with the most bytes come first."""
