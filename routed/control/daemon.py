"""What the management plane may ask of the daemon around it: the engine, or a test's stand-in.

Questions are answered from what the engine knows, at once or in pieces; what the parent has to do
or to say is awaited. Every answer is of view classes (`routed/control/views.py`): copies, which may
be kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from routed.control.changes import ChangeFeed, Topic
from routed.control.injection import Injection, InjectionRefusal
from routed.control.tables import TablePage
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
    RouteSelector,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
)
from routed.imsg.messages import ReloadRequested
from routed.model.command import FibCommand
from routed.model.prefix import Address, Prefix

__all__ = ["CommandOutcome", "Daemon"]


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """How something went that the daemon was told to do."""

    is_ok: bool
    lines: tuple[str, ...]
    """What changed, or every error as `file:line:column: path: expectation`."""


class Daemon(Protocol):
    """What the engine offers to be asked."""

    def status(self) -> StatusView:
        """The daemon as a whole."""

    def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
        """Every neighbor, in a stable order, in chunks of bounded size."""

    def interfaces(self) -> Generator[Sequence[InterfaceView], None, None]:
        """Every link, by index, in chunks of bounded size."""

    def tables_version(self) -> int:
        """Another number after any change of what `routes` and `fib` show, but for the time."""

    def routes(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted candidates after a prefix, the selected one first within a prefix, as rows of
        RouteView.

        At most `limit` prefixes are looked at, so a page may be empty: a walk which finds little
        still lets others run.
        """

    def route(self, address: Address) -> Sequence[RouteView]:
        """The candidates of the longest prefix covering the address; empty when none covers it."""

    def fib(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted routes that the kernel should hold, as rows of FibView; as `routes`."""

    def counters(self) -> Sequence[CounterView]:
        """Every counter, by name."""

    def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
        """The kernel nexthop objects that routes go through, by id, as the parent tells them."""

    def rules(self) -> Sequence[RuleView]:
        """Every policy rule of the configuration, in order."""

    def configuration(
        self, section: str | None, *, is_all: bool
    ) -> Generator[Sequence[ConfigView], None, None]:
        """The configuration in force, in chunks of bounded size; `is_all` with what is default."""

    def protocols(self) -> Sequence[ProtocolView]:
        """Every source of routes, by distance."""

    def start_recording(self) -> bool:
        """Write down what goes into NUP from now on; False when that is so already."""

    def stop_recording(self) -> str | None:
        """End that; its text, or None when nothing was being recorded."""

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Begin the adjacencies with a router id or an address afresh; whether there were any."""

    async def set_log_level(self, level: str) -> CommandOutcome:
        """Log from this level on, in both processes."""

    def log(self) -> Sequence[LogView]:
        """The last lines of the log, oldest first."""

    def log_events(self) -> Collection[str]:
        """The names of all events that the log can have."""

    def memory(self) -> Sequence[MemoryView]:
        """Every part that takes a notable share."""

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        """Every router that NUP knows, in chunks of bounded size; some are empty."""

    def explain(self, address: Address) -> ExplainView:
        """How an address is routed."""

    def watch(self, topics: frozenset[Topic], uid: int) -> ChangeFeed | None:
        """Changes from now on; None when this user has as many feeds as one may have."""

    def snapshot_fd(self) -> int:
        """The snapshot's read-only descriptor, which the daemon keeps."""

    async def command_fib(self, command: FibCommand, uid: int, pid: int) -> CommandOutcome:
        """Couple, decouple or resync the kernel FIB; answered when it is carried out."""

    async def configure(self, request: ReloadRequested) -> CommandOutcome:
        """Look at, change or take back the configuration."""

    def inject(self, injection: Injection) -> Sequence[InjectionRefusal]:
        """Put or delete injected routes, all or none; why not, route by route."""

    def renew(self, owner: str, seconds: float) -> int:
        """Begin the timed leases of an owner anew; returns how many routes have one."""

    def session_ended(self, session: int) -> None:
        """A client has gone: what it leased for its session goes, too."""
