"""The daemon as the management plane sees it: the engine, or a test's stand-in.

Questions are answered from the engine's state, at once or in chunks; answers of the parent are
awaited. Every answer is made of view classes (`routed/control/views.py`): copies, which the caller
may keep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from typing import NamedTuple, Protocol

from ipc.lazy_dataclass import dataclass
from routed.control.bfd_views import BfdSessionView
from routed.control.changes import ChangeHub
from routed.control.injection import Injection, InjectionRefusal
from routed.control.nup_views import NupRouteView
from routed.control.probe_views import ProbeView
from routed.control.selection import NupRouteSelector, RouteSelector
from routed.control.tables import Position, TablePage
from routed.control.traffic import DataplaneViews
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainView,
    InterfaceView,
    LogView,
    MemoryView,
    NeighborView,
    NextHopObjectView,
    ProtocolView,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
)
from routed.imsg.messages import FibCommanded, LogLevelRequested, ReloadRequested
from routed.model.prefix import Address

__all__ = [
    "CommandOutcome",
    "Daemon",
    "EndedRecording",
    "ParentCommands",
    "ParentRequest",
    "Recording",
    "RouteInjection",
    "RouteTables",
]

ParentRequest = ReloadRequested | FibCommanded | LogLevelRequested
"""A command of a client that the parent carries out."""


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The outcome of a command that the parent has carried out."""

    is_ok: bool
    lines: tuple[str, ...]
    """The changes, or every error as `file:line:column: path: expectation`."""


class ParentCommands(Protocol):
    """Commands that the parent carries out."""

    async def command(self, request: ParentRequest) -> CommandOutcome:
        """Have a command carried out, and wait for its outcome."""


class RouteTables(Protocol):
    """The tables of `show routes` and `show fib`, page by page."""

    @property
    def version(self) -> int:
        """A number that changes with any change of the tables, except for ages and times left."""

    @property
    def table_ids(self) -> Mapping[str, int]:
        """The number of each table, by its name; the main one first."""

    def routes(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        """Return the selected candidates after a prefix, the best first within a prefix, as rows of
        RouteView.

        At most `limit` prefixes are looked at, so a page may be empty: a walk that finds little
        still lets other tasks run.
        """

    def route(self, address: Address, table: str) -> Sequence[RouteView]:
        """Return the candidates of the longest prefix of a table that covers an address, if there
        is one."""

    def fib(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        """Return the selected desired routes after a prefix, as rows of FibView; as `routes`."""


class RouteInjection(Protocol):
    """Routes that clients inject."""

    def inject(self, injection: Injection) -> Sequence[InjectionRefusal]:
        """Put or delete routes, all or none. Returns why not, route by route."""

    def renew(self, owner: str, seconds: float) -> int:
        """Renew the timed leases of an owner. Returns how many routes have one."""

    def session_ended(self, session: int) -> None:
        """Withdraw the routes that were leased for a client's session."""


class EndedRecording(NamedTuple):
    """A recording that has ended."""

    text: str
    ended_s: float
    """Time since its end, in seconds; 0.0 if this request ended it."""


class Recording(Protocol):
    """The recording of NUP's inputs."""

    def start(self) -> bool:
        """Begin to record, and discard an ended recording. Returns False if a recording is under
        way already."""

    def stop(self) -> EndedRecording | None:
        """End the recording and return it. Without one that is under way, return the last one
        again; None if there is none."""


class Daemon(Protocol):
    """Answers of the engine, and its parts that carry out requests."""

    @property
    def parent(self) -> ParentCommands:
        """Commands for the parent."""

    @property
    def tables(self) -> RouteTables:
        """Routes and desired routes."""

    @property
    def injection(self) -> RouteInjection:
        """Injected routes."""

    @property
    def changes(self) -> ChangeHub:
        """Changes for `monitor`."""

    @property
    def client_refusals(self) -> Counter[str]:
        """Refused clients by reason, which the server of the management socket counts here."""

    @property
    def dataplane(self) -> DataplaneViews:
        """The dataplane and the traffic that it counts."""

    @property
    def recording(self) -> Recording:
        """The recording of NUP."""

    def status(self) -> StatusView:
        """Describe the daemon as a whole."""

    def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
        """Iterate over every neighbor, in a stable order, in chunks of bounded size."""

    def interfaces(self) -> Generator[Sequence[InterfaceView], None, None]:
        """Iterate over every interface, by index, in chunks of bounded size."""

    def counters(self) -> Sequence[CounterView]:
        """List every counter."""

    def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
        """Iterate over the kernel nexthop objects that routes use, by id, as the parent reports
        them."""

    def rules(self) -> Sequence[RuleView]:
        """List every policy rule of the configuration, in order."""

    def probes(self) -> Sequence[ProbeView]:
        """List every probe of the configuration, in order."""

    def bfd_sessions(self) -> Sequence[BfdSessionView]:
        """List every BFD session of the configuration, in order."""

    def nup_routes(
        self, selector: NupRouteSelector
    ) -> Generator[Sequence[NupRouteView], None, None] | None:
        """Iterate over NUP's own table, by prefix, in chunks of bounded size, some empty; None if
        too many clients do so."""

    def configuration(
        self, section: str | None, *, is_all: bool
    ) -> Generator[Sequence[ConfigView], None, None]:
        """Iterate over the configuration in force, in chunks of bounded size; `is_all` includes
        defaults."""

    def protocols(self) -> Sequence[ProtocolView]:
        """List every source of routes, by distance."""

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Restart the adjacencies with a router id or an address, if there are any."""

    def log(self) -> Sequence[LogView]:
        """List the last lines of the log, oldest first."""

    def log_events(self) -> Collection[str]:
        """Return the names of all events that the log can have."""

    def memory(self) -> Sequence[MemoryView]:
        """List the parts of the daemon with a notable share of its memory."""

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        """Iterate over every router that NUP knows, in chunks of bounded size; some are empty."""

    def explain(self, address: Address, table: str) -> ExplainView:
        """Explain how an address is routed by a table."""

    def snapshot_fd(self) -> int:
        """Return the snapshot's read-only descriptor, which the daemon keeps."""
