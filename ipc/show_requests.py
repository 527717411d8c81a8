"""The requests that ask for rows and change nothing; `ipc.control` has all requests."""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass

__all__ = [
    "AddressFamily",
    "Explain",
    "Monitor",
    "ShowConfig",
    "ShowCounters",
    "ShowFib",
    "ShowInterfaces",
    "ShowLog",
    "ShowNeighbors",
    "ShowProtocol",
    "ShowRoute",
    "ShowRoutes",
    "ShowStatus",
    "Topology",
]


class AddressFamily(enum.IntEnum):
    """A family as users name it."""

    IPV4 = 4
    IPV6 = 6


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """The daemon as a whole, one row."""


@dataclass(frozen=True, slots=True)
class ShowNeighbors:
    """The neighbors, one row each."""

    neighbor: str | None = None
    """Select the neighbor with this router id or address."""
    interface: str | None = None
    """Select the neighbors on this link."""


@dataclass(frozen=True, slots=True)
class ShowInterfaces:
    """The links, one row each."""

    interface: str | None = None
    """Select this link."""


@dataclass(frozen=True, slots=True)
class ShowRoutes:
    """The RIB: one row for each candidate, the selected one first within a prefix."""

    family: AddressFamily | None = None
    prefix: str | None = None
    is_longer: bool = False
    """Whether everything inside `prefix` is selected, rather than exactly the prefix."""
    source: str | None = None
    """A RouteSource label: connected, static, ..."""
    is_selected_only: bool = False
    neighbor: str | None = None
    """Select routes through the neighbor with this router id or address."""
    interface: str | None = None
    """Select routes with a next hop on this link."""
    via: str | None = None
    """Select routes with this gateway."""
    state: str | None = None
    """Select routes in this FIB state: pending, installed, failed, shadowed or decoupled."""
    table: str | None = None
    """The name or number of a table, or `all`; the main one if absent."""


@dataclass(frozen=True, slots=True)
class ShowRoute:
    """The candidates of the longest prefix that covers an address."""

    address: str
    table: str | None = None
    """The name or number of a table; the main one if absent."""


@dataclass(frozen=True, slots=True)
class ShowFib:
    """The desired routes and whether the kernel has them, one row for each route."""

    family: AddressFamily | None = None
    prefix: str | None = None
    is_longer: bool = False
    state: str | None = None
    """As in ShowRoutes."""
    table: str | None = None
    """As in ShowRoutes."""


@dataclass(frozen=True, slots=True)
class ShowCounters:
    """Every counter, one row each."""


@dataclass(frozen=True, slots=True)
class ShowLog:
    """The last lines of the daemon's log, oldest first."""

    level: str | None = None
    """Minimum severity: debug, info, warning or error."""
    event: str | None = None
    """Lines of this event only."""


@dataclass(frozen=True, slots=True)
class ShowConfig:
    """The configuration in force, one row for each line."""

    section: str | None = None
    """Select this top-level key."""
    is_all: bool = False
    """Whether settings with their default value are included."""


@dataclass(frozen=True, slots=True)
class ShowProtocol:
    """The route sources, one row each."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The routers that NUP knows: this one, its neighbors, those behind them; one row each."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Explanation of how an address is routed, one row."""

    address: str
    table: str | None = None
    """As in ShowRoute."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Changes from now on, one row each, until the client closes the connection, which carries no
    other request. A row of kind `lost` has the number of changes left out before it."""

    topics: tuple[str, ...] = ()
    """Any of routes, neighbors, links; all of them if empty."""
