"""What the engine tells the management plane: every room's state as the views of `control.views`.

Copies only: no object of a room leaves. Long tables come as chunks that look the table up anew, so
a dump of a million routes and the decision take turns.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass

import trio

from ipc.control import RouteOperation
from routed import __version__
from routed.config.schema import Config
from routed.config.written import written
from routed.control.changes import ChangeFeed, Topic
from routed.control.daemon import CommandOutcome
from routed.control.injection import Injection, InjectionRefusal, find_martian_routes
from routed.control.tables import TablePage
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainView,
    FibState,
    FibTotals,
    InterfaceView,
    LogView,
    MemoryView,
    NeighborView,
    NextHopObjectView,
    NextHopView,
    ProtocolView,
    ReloadView,
    RouteSelector,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
)
from routed.engine.router import Router
from routed.engine.show.changes import ChangeObserver
from routed.engine.show.counters import FIB_COUNTERS, NUP_COUNTERS, SOCKET_COUNTERS, VIOLATIONS
from routed.engine.show.explain import explain
from routed.engine.show.memory import ProcessMemory
from routed.engine.show.protocols import protocol_facts
from routed.engine.show.routes import RouteTables
from routed.engine.show.topology import TopologyTable, neighbor_chunks
from routed.imsg.messages import (
    ConfBegin,
    ConfigState,
    LogLine,
    NextHopReport,
    NextHopsReported,
    ReloadRequested,
    RuleReport,
)
from routed.log.events import EVENTS
from routed.log.logger import timestamp
from routed.model.command import FibCommand
from routed.model.prefix import Address, Prefix
from routed.model.route import DEFAULT_DISTANCE, NextHop
from routed.nup.events import AdjacencyState, NeighborRow, TraceCode

__all__ = ["LastReload", "Reporter"]

CHUNK_LINES = 256
"""Lines of a configuration between two turns of the event loop."""

CHUNK_ROWS = 64
"""Neighbors, or links, between two turns: 1 ms of work."""

LOG_LINES_SHOWN = 500
"""For `show log`; the parent keeps as many for the next engine."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """How the last reload went."""

    is_ok: bool
    at: float
    """time.monotonic()."""
    text: str


class Reporter:
    """The engine's side of `control.handlers.Daemon`."""

    def __init__(
        self,
        begin: ConfBegin,
        config: Config,
        router: Router,
        *,
        sandbox: str,
        counts_refusals: bool,
        configure: Callable[[ReloadRequested], Awaitable[CommandOutcome]],
        command_fib: Callable[[FibCommand, int, int], Awaitable[CommandOutcome]],
        ask_nexthops: Callable[[int], Awaitable[NextHopsReported | None]],
        set_log_level: Callable[[str], Awaitable[CommandOutcome]],
        memory: ProcessMemory,
        parent_silent_since: Callable[[], float | None],
    ) -> None:
        """Report on a router's rooms.

        Args:
            begin: what the parent said of itself.
            config: in force; to be replaced when that changes.
            router: whose rooms are looked at.
            sandbox: what holds this process, in words.
            counts_refusals: whether the parent hears of system calls that are refused.
            memory: of this process.
            configure: asks the parent.
            command_fib: asks the parent, likewise.
            ask_nexthops: has the parent tell its next nexthop objects after an id; None when it
                does not answer.
            set_log_level: asks the parent, too.
            parent_silent_since: tells when the parent was last heard of, if it hangs.
        """
        self.config = config
        self.last_reload: LastReload | None = None
        self._parent_silent_since = parent_silent_since
        self._config_state, self._confirm_until = ConfigState("confirmed"), 0.0
        self.rule_reports: tuple[RuleReport, ...] = ()
        """The parent's, as last told."""
        self.refused_calls: Mapping[str, int] = {}
        """System calls that the sandbox refused, by name; the parent's, as last told."""
        self.messages_dropped = 0
        """Messages to the parent that this engine could not send."""
        self.parent_messages_dropped = 0
        """Messages to its engines that the parent could not send, as last told."""
        self.lines: deque[LogLine] = deque(maxlen=LOG_LINES_SHOWN)
        """The last lines of the log, as the parent told them."""
        self.reloads: Counter[str] = Counter()
        """By outcome, in this engine's life."""
        self._begin = begin
        self._router = router
        self._tables = RouteTables(router)
        self._changes = ChangeObserver(router.ifname_of)
        router.observer = self._changes
        self._sandbox = sandbox
        self._counts_refusals = counts_refusals
        self._memory = memory
        self._configure = configure
        self._command_fib = command_fib
        self._ask_nexthops = ask_nexthops
        self._nexthop_turn = trio.Lock()
        self._topology = TopologyTable(router)
        self._set_log_level = set_log_level

    def config_state_changed(self, state: ConfigState, now: float) -> None:
        """The parent has said how the configuration stands."""
        self._config_state = state
        self._confirm_until = now + state.left_ns / 1e9

    def parent_silent_s(self, now: float) -> float | None:
        """How long nothing has been heard of the parent; None while it does not hang."""
        since = self._parent_silent_since()
        return None if since is None else now - since

    # --- one row or few

    def status(self) -> StatusView:
        """The daemon as a whole."""
        now_ns = time.monotonic_ns()
        reload = self.last_reload
        state = self._config_state
        totals = self._router.fib.desired.counters
        return StatusView(
            version=__version__,
            pid=self._begin.daemon_pid,
            uptime_s=round((now_ns - self._begin.started_at_ns) / 1e9, 3),
            router_id=self.config.router_id,
            config_path=self._begin.config_path,
            last_reload=None
            if reload is None
            else ReloadView(reload.is_ok, time.monotonic() - reload.at, reload.text),
            routes=len(self._router.rib),
            neighbors=sum(
                state is AdjacencyState.UP for _, state in self._router.neighbors.adjacency_states()
            ),
            fib=FibTotals(
                totals.desired,
                totals.installed,
                totals.failed,
                totals.pending,
                totals.stale,
                coupled=totals.is_coupled,
                nexthop_objects=totals.nexthop_objects,
                nexthops=totals.nexthops,
                shadowed=totals.shadowed_now,
            ),
            engine_restarts=self._begin.engine_restarts,
            sandbox=self._sandbox,
            config_state=state.phase,
            confirm_left_s=_rounded(max(self._confirm_until - now_ns / 1e9, 0.0))
            if state.token
            else None,
            confirm_token=state.token or None,
            parent_silent_s=_rounded(self.parent_silent_s(now_ns / 1e9)),
            sandbox_refusals=sum(self.refused_calls.values()) if self._counts_refusals else None,
        )

    def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
        """Every adjacency; a walk holds nothing but its position between two chunks."""
        for rows in neighbor_chunks(self._router):
            yield [_neighbor_view(row) for row in rows]

    def interfaces(self) -> Generator[Sequence[InterfaceView], None, None]:
        """Every link; as `neighbors`."""
        after = -1
        while found := heapq.nsmallest(
            CHUNK_ROWS, (ifindex for ifindex in self._router.links if ifindex > after)
        ):
            up_on = Counter(
                ifindex
                for ifindex, state in self._router.neighbors.adjacency_states()
                if state is AdjacencyState.UP
            )
            yield [self._interface_view(ifindex, up_on[ifindex]) for ifindex in found]
            after = found[-1]

    def _interface_view(self, ifindex: int, neighbors_up: int) -> InterfaceView:
        link = self._router.links[ifindex]
        entry = self.config.interface_for(link.ifname) if not link.is_loopback else None
        return InterfaceView(
            interface=link.ifname,
            ifindex=ifindex,
            state="up" if link.is_up else "no_carrier" if link.is_admin_up else "down",
            mtu=link.mtu,
            addresses=tuple(map(str, link.addresses)),
            has_nup=ifindex in self._router.neighbor_links,
            cost=entry.cost if entry else None,
            hello_interval_s=entry.hello_s if entry else None,
            neighbors=neighbors_up,
            nup_over=self._router.neighbor_links.version_of(ifindex),
        )

    def counters(self) -> Sequence[CounterView]:
        """NUP's counters by reason, and the kernel side's."""
        views = [
            CounterView(f"nup_{name}", value, NUP_COUNTERS[TraceCode(name)])
            for name, value in sorted(self._router.neighbors.counters().items())
        ]
        for direction, count in self._router.datagrams.items():
            views.append(CounterView(f"nup_{direction}", count, f"NUP datagrams {direction}"))
        for reason, count in self._router.datagrams_refused.items():
            views.append(CounterView(f"nup_dropped_{reason}", count, SOCKET_COUNTERS[reason]))
        fib = self._router.fib.desired.counters
        for name, help_text in FIB_COUNTERS.items():
            views.append(CounterView(f"fib_{name}", getattr(fib, name), help_text))
        views.append(
            CounterView("engine_restarts", self._begin.engine_restarts, "engines that have died")
        )
        violations = self._begin.violations
        for kind, help_text in VIOLATIONS.items():
            name = f"engine_violations_{kind}"
            views.append(CounterView(name, violations.get(kind, 0), help_text))
        text = "messages to the parent that could not be sent: a defect; the log has each"
        views.append(CounterView("messages_dropped", self.messages_dropped, text))
        text = "messages to an engine that the parent could not send: a defect; the log has each"
        views.append(CounterView("parent_messages_dropped", self.parent_messages_dropped, text))
        for call, count in sorted(self.refused_calls.items()):
            views.append(CounterView(f"sandbox_refused_{call}", count, "system calls refused"))
        return views

    async def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
        """The kernel nexthop objects that routes go through, by id.

        The parent is asked for a few at a time, and by one client at a time: what it does for those
        who look is one answer, however many they are.
        """
        after_id = 0
        while True:
            async with self._nexthop_turn:
                told = await self._ask_nexthops(after_id)
            if told is None or not told.objects:
                return
            yield [self._nexthop_view(report) for report in told.objects]
            if told.is_last:
                return
            after_id = told.objects[-1].id

    def _nexthop_view(self, report: NextHopReport) -> NextHopObjectView:
        return NextHopObjectView(
            id=report.id,
            next_hops=self._hop_views(report.next_hops),
            active=self._hop_views(report.active),
            state=_object_state(report),
            reason=nexthop_reason(report),
        )

    def _hop_views(self, hops: Sequence[NextHop]) -> tuple[NextHopView, ...]:
        ifname_of = self._router.ifname_of
        return tuple(NextHopView(hop.via, ifname_of(hop.ifindex), hop.weight) for hop in hops)

    def rules(self) -> Sequence[RuleView]:
        """Every policy rule of the configuration."""
        return [
            RuleView(
                priority=report.rule.priority,
                family=report.rule.family.name.lower(),
                rule=str(report.rule),
                state=FibState.FAILED if report.problem else FibState.INSTALLED,
                reason=report.problem,
            )
            for report in self.rule_reports
        ]

    def protocols(self) -> Sequence[ProtocolView]:
        """Every source of routes, by distance."""
        counts = self._router.rib.candidates_by_source
        facts = protocol_facts(
            self.config,
            [state for _, state in self._router.neighbors.adjacency_states()],
            [link.is_up for link in self._router.links.values()],
            sum(ifindex in self._router.neighbor_links for ifindex in self._router.links),
        )
        return [
            ProtocolView(source.label, fact.state, distance, counts[source], fact.detail)
            for source, distance in sorted(DEFAULT_DISTANCE.items(), key=lambda item: item[1])
            for fact in [facts[source]]
        ]

    def configuration(
        self, section: str | None, *, is_all: bool
    ) -> Generator[Sequence[ConfigView], None, None]:
        """The configuration in force, line by line."""
        lines = written(self.config, section, is_all=is_all)
        while chunk := list(itertools.islice(lines, CHUNK_LINES)):
            yield [ConfigView(*line) for line in chunk]

    def log(self) -> Sequence[LogView]:
        """The last lines of the log, oldest first."""
        return [
            LogView(timestamp(line.at), line.level, line.process, line.event, line.text)
            for line in self.lines
        ]

    def log_events(self) -> Collection[str]:
        """The names of all events that the log can have."""
        return EVENTS

    def memory(self) -> Sequence[MemoryView]:
        """What the snapshot and both processes take."""
        views = [
            MemoryView(f"snapshot {part.name}", part.used_bytes, part.items, part.help)
            for part in self._router.snapshot.memory()
        ]
        views.append(
            MemoryView(
                "engine", self._memory.resident_bytes(), None, "resident memory of this process"
            )
        )
        parents = self._memory.parent_resident_bytes()
        if parents is not None:
            views.append(MemoryView("parent", parents, None, "resident memory of its parent"))
        return views

    def snapshot_fd(self) -> int:
        """The shared FIB's descriptor."""
        return self._router.snapshot.fileno()

    async def configure(self, request: ReloadRequested) -> CommandOutcome:
        """Have the parent look at, change or take back the configuration."""
        return await self._configure(request)

    async def command_fib(self, command: FibCommand, uid: int, pid: int) -> CommandOutcome:
        """Have the parent do something to the kernel FIB."""
        return await self._command_fib(command, uid, pid)

    async def set_log_level(self, level: str) -> CommandOutcome:
        """Have the parent log from this level on, and tell us."""
        return await self._set_log_level(level)

    def start_recording(self) -> bool:
        """Write down what goes into NUP from now on."""
        return self._router.start_recording()

    def stop_recording(self) -> str | None:
        """End that; its text."""
        return self._router.stop_recording()

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Begin the adjacencies with a router id or an address afresh."""
        return self._router.clear_neighbor(neighbor)

    # --- questions about why, and what happens

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        """Every router that NUP knows."""
        return self._topology.rows(self.config.router_id)

    def explain(self, address: Address) -> ExplainView:
        """How an address is routed."""
        return explain(self._router, address, self._tables.view)

    def watch(self, topics: frozenset[Topic], uid: int) -> ChangeFeed | None:
        """Changes from now on; None when this user has as many feeds as one may have."""
        return self._changes.watch(topics, uid)

    # --- injected routes

    def inject(self, injection: Injection) -> Sequence[InjectionRefusal]:
        """Put or delete; all or none."""
        if injection.operation is not RouteOperation.DELETE:
            refusals = find_martian_routes(injection.routes, self.config.allow_martians)
            if refusals:
                return refusals
        return [InjectionRefusal(*problem) for problem in self._inject(injection)]

    def _inject(self, injection: Injection) -> Sequence[tuple[int, str]]:
        if injection.operation is RouteOperation.DELETE:
            return self._router.injected.delete(injection.owners, injection.routes)
        return self._router.injected.put(
            injection.owners[0],
            injection.routes,
            injection.attributes,
            is_replace=injection.operation is RouteOperation.REPLACE,
            lease_s=injection.lease_s,
            session=injection.session,
        )

    def renew(self, owner: str, seconds: float) -> int:
        """Begin an owner's timed leases anew."""
        return self._router.injected.renew(owner, seconds)

    def session_ended(self, session: int) -> None:
        """Its leases end."""
        self._router.injected.end_session(session)

    # --- tables

    def tables_version(self) -> int:
        """Another number after any change of what `routes` and `fib` show."""
        return self._tables.version

    def routes(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted candidates, in prefix order."""
        return self._tables.routes(selector, after, limit)

    def fib(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted kernel routes, in prefix order."""
        return self._tables.fib(selector, after, limit)

    def route(self, address: Address) -> Sequence[RouteView]:
        """The candidates of the longest match."""
        prefix = self._router.rib.match(address)
        candidates = () if prefix is None else self._router.rib.candidates(prefix)
        return [self._tables.view(candidate) for candidate in candidates]


def _neighbor_view(row: NeighborRow) -> NeighborView:
    return NeighborView(
        router_id=row.router_id,
        interface=row.ifname,
        address=row.address,
        state=row.state.value,
        uptime_s=_rounded(row.uptime_s) if row.state is AdjacencyState.UP else None,
        dead_in_s=_rounded(row.dead_in_s),
        rtt_ms=_rounded(row.rtt_ms),
        rto_ms=_rounded(row.rto_ms),
        cost=row.cost,
        retransmissions=row.retransmissions,
        prefixes=row.prefixes,
        problem=row.problem,
        window=row.window,
        in_flight=row.in_flight,
        sent=row.sent,
        received=row.received,
        duplicates=row.duplicates,
        out_of_order=row.out_of_order,
        is_restarting=row.is_restarting,
        loss_here=round(row.loss_here, 3),
        loss_there=round(row.loss_there, 3),
        infeasible=row.infeasible,
    )


def _rounded(figure: float | None) -> float | None:
    """To three places: as exact as anybody can use, and short to read."""
    return None if figure is None else round(figure, 3)


def nexthop_reason(report: NextHopReport) -> str:
    """What there is to say of a nexthop object: why the kernel has refused it, or what is cut."""
    if report.problem or not report.left_out:
        return report.problem
    shown = max(len(report.next_hops), len(report.active))
    return f"{shown + report.left_out} next hops, and {shown} of them are shown"


def _object_state(report: NextHopReport) -> FibState:
    if report.problem:
        return FibState.FAILED
    return FibState.INSTALLED if report.active else FibState.PENDING
