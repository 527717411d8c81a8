"""Views of the daemon for clients: the state of its components as classes of `control.views`.

Only copies leave this module, no object of a component. Long tables come in chunks that look the
table up again, so that a dump of a million routes and the decision take turns.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Generator, Sequence

import trio

from ipc.lazy_dataclass import dataclass
from routed import __version__
from routed.config.interface_match import interface_for
from routed.config.written import written
from routed.control.bfd_views import BfdSessionView
from routed.control.probe_views import ProbeView
from routed.control.selection import NupRouteSelector
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
    RuleView,
    StatusView,
    TopologyView,
)
from routed.engine.dataplane import Dataplane
from routed.engine.parent_channel import ParentChannel
from routed.engine.router import Router
from routed.engine.show.bfd import bfd_counters, bfd_views
from routed.engine.show.counters import FIB_COUNTERS, NUP_COUNTERS, VIOLATIONS, datagram_counters
from routed.engine.show.explain import explain
from routed.engine.show.health import assess
from routed.engine.show.memory import ProcessMemory
from routed.engine.show.metrics import Exporter
from routed.engine.show.nup_routes import NupChunks, NupRouteTable
from routed.engine.show.parent_reports import ParentReports
from routed.engine.show.probes import probe_views
from routed.engine.show.protocols import protocol_facts
from routed.engine.show.route_tables import RouteTablePages
from routed.engine.show.topology import TopologyTable, neighbor_chunks
from routed.engine.show.traffic import DataplaneReporter
from routed.imsg.messages import ConfBegin, NextHopReport
from routed.log.events import EVENTS
from routed.log.logger import timestamp
from routed.metrics.exposition import Form
from routed.model.prefix import Address
from routed.model.route import DEFAULT_DISTANCE, NextHop
from routed.nup.events import AdjacencyState, NeighborRow, TraceCode

__all__ = ["DaemonFacts", "Reporter"]

CHUNK_LINES = 256
"""Lines of a configuration between two turns of the event loop."""

CHUNK_ROWS = 64
"""Interfaces between two turns: 1 ms of work."""


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """Facts that do not change while this engine runs."""

    begin: ConfBegin
    """The parent's description of itself."""
    sandbox: str
    """The confinement of this process, as text."""
    counts_refusals: bool
    """Whether the parent is notified of refused system calls."""
    memory: ProcessMemory
    network_namespace: int | None
    """Inode of the network namespace; None if it is not known."""


class Reporter:
    """The engine's implementation of `control.daemon.Daemon`. Owns no state of the router."""

    def __init__(
        self,
        facts: DaemonFacts,
        router: Router,
        reports: ParentReports,
        parent: ParentChannel,
        dataplane: Dataplane,
    ) -> None:
        """Show a router.

        Args:
            facts: about this process and its parent.
            router: whose components are shown.
            reports: what the parent has reported.
            parent: carries out commands, and knows the kernel's nexthop objects.
            dataplane: has the counters of traffic.
        """
        self.parent = parent.client
        self.reports = reports
        self.tables = RouteTablePages(router)
        self.injection = router.injection
        self.recording = router.recording
        self.changes = router.changes
        self.dataplane = DataplaneReporter(dataplane, parent.client, router, time.monotonic)
        self._facts = facts
        self._router = router
        self._desired = router.desired
        self._queue, self._watch = parent.queue, parent.watch
        self._nexthop_turn = trio.Lock()
        self._topology = TopologyTable(router)
        self._nup_routes = NupRouteTable(router)
        self.client_refusals: Counter[str] = Counter()
        self._exporter = Exporter(self, reports, router)

    def parent_silent_s(self, now: float) -> float | None:
        """Return how long the parent has been silent; None while it does not hang."""
        since = self._watch.silent_since
        return None if since is None else now - since

    # --- one row or few

    def status(self) -> StatusView:
        """Describe the daemon as a whole."""
        now_ns = time.monotonic_ns()
        state = self.reports.config_state
        parent_silent_s = _rounded(self.parent_silent_s(now_ns / 1e9))
        fib = self._fib_totals()
        health = assess(
            fib,
            is_in_sync=self._router.initial_sync.is_in_sync,
            is_file_in_force=state.is_file_in_force,
            parent_silent_s=parent_silent_s,
        )
        return StatusView(
            version=__version__,
            pid=self._facts.begin.daemon_pid,
            uptime_s=round((now_ns - self._facts.begin.started_at_ns) / 1e9, 3),
            router_id=self._router.config.router_id,
            config_path=self._facts.begin.config_path,
            last_reload=self._last_reload(),
            routes=len(self._router.rib),
            neighbors=sum(
                state is AdjacencyState.UP for _, state in self._router.neighbors.adjacency_states()
            ),
            fib=fib,
            engine_restarts=self._facts.begin.engine_restarts,
            sandbox=self._facts.sandbox,
            config_state=state.phase,
            confirm_left_s=_rounded(max(self.reports.confirm_until - now_ns / 1e9, 0.0))
            if state.token
            else None,
            confirm_token=state.token or None,
            parent_silent_s=parent_silent_s,
            sandbox_refusals=sum(self.reports.refused_calls.values())
            if self._facts.counts_refusals
            else None,
            config_in_sync=state.is_file_in_force,
            health=health.state,
            problems=health.problems,
            network_namespace=self._facts.network_namespace,
        )

    def _last_reload(self) -> ReloadView | None:
        reload = self.reports.last_reload
        if reload is None:
            return None
        return ReloadView(reload.is_ok, time.monotonic() - reload.at, reload.text)

    def _fib_totals(self) -> FibTotals:
        totals = self._desired.counters
        return FibTotals(
            totals.desired,
            totals.installed,
            totals.failed,
            totals.pending,
            totals.stale,
            coupled=totals.is_coupled,
            nexthop_objects=totals.nexthop_objects,
            nexthops=totals.nexthops,
            shadowed=totals.shadowed_now,
        )

    def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
        """Iterate over every adjacency; between two chunks a walk holds only its position."""
        for rows in neighbor_chunks(self._router):
            yield [_neighbor_view(row) for row in rows]

    def interfaces(self) -> Generator[Sequence[InterfaceView], None, None]:
        """Iterate over every interface; as `neighbors`."""
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
        entry = (
            interface_for(self._router.config.interfaces, link.ifname)
            if not link.is_loopback
            else None
        )
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
        """List the counters of NUP, of the kernel side, and of the processes."""
        views = [
            CounterView(f"nup_{name}", value, NUP_COUNTERS[TraceCode(name)])
            for name, value in sorted(self._router.neighbors.counters().items())
        ]
        views += datagram_counters(self._router.datagrams, self._router.datagrams_refused)
        if self._router.tracking.bfd.sessions:
            views += bfd_counters(self._router.tracking.bfd.dropped)
        fib = self._desired.counters
        for name, help_text in FIB_COUNTERS.items():
            views.append(CounterView(f"fib_{name}", getattr(fib, name), help_text))
        views.append(
            CounterView(
                "engine_restarts", self._facts.begin.engine_restarts, "engines that have died"
            )
        )
        violations = self._facts.begin.violations
        for kind, help_text in VIOLATIONS.items():
            name = f"engine_violations_{kind}"
            views.append(CounterView(name, violations.get(kind, 0), help_text))
        text = "messages to the parent that could not be sent: a defect; the log has each"
        views.append(CounterView("messages_dropped", self._queue.messages_dropped, text))
        text = "messages to an engine that the parent could not send: a defect; the log has each"
        views.append(CounterView("parent_messages_dropped", self.reports.messages_dropped, text))
        for call, count in sorted(self.reports.refused_calls.items()):
            views.append(CounterView(f"sandbox_refused_{call}", count, "system calls refused"))
        return views

    async def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
        """Iterate over the kernel nexthop objects that routes use, by id.

        The parent is asked for a few at a time, and for one client at a time: it makes one answer
        at a time, however many clients ask.
        """
        after_id = 0
        while True:
            async with self._nexthop_turn:
                answer = await self.parent.ask_nexthops(after_id)
            if answer is None or not answer.objects:
                return
            yield [self._nexthop_view(report) for report in answer.objects]
            if answer.is_last:
                return
            after_id = answer.objects[-1].id

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
        """List every policy rule of the configuration."""
        return [RuleView.of(report.rule, report.problem) for report in self.reports.rules]

    def bfd_sessions(self) -> Sequence[BfdSessionView]:
        """List every BFD session of the configuration."""
        return bfd_views(self._router.tracking, self._router.config.keys, time.monotonic())

    def probes(self) -> Sequence[ProbeView]:
        """List every probe of the configuration."""
        return probe_views(self._router.tracking, time.monotonic())

    def protocols(self) -> Sequence[ProtocolView]:
        """List every source of routes, by distance."""
        counts = self._router.rib.candidates_by_source
        facts = protocol_facts(
            self._router.config,
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
        """Iterate over the configuration in force, line by line."""
        lines = written(self._router.config, section, is_all=is_all)
        while chunk := list(itertools.islice(lines, CHUNK_LINES)):
            yield [ConfigView(*line) for line in chunk]

    def log(self) -> Sequence[LogView]:
        """List the last lines of the log, oldest first."""
        return [
            LogView(timestamp(line.at), line.level, line.process, line.event, line.text)
            for line in self.reports.log_lines
        ]

    def log_events(self) -> Collection[str]:
        """Return the names of all events that the log can have."""
        return EVENTS

    def memory(self) -> Sequence[MemoryView]:
        """List the memory of the snapshot, of a recording, and of both processes."""
        views = [
            MemoryView(f"snapshot {part.name}", part.used_bytes, part.items, part.help)
            for part in self._router.snapshot.memory()
        ]
        views.append(
            MemoryView(
                "recording",
                self.recording.size_bytes,
                None,
                "recording of NUP, in the memory of the engine, until the next `record on`",
            )
        )
        views.append(
            MemoryView(
                "engine",
                self._facts.memory.resident_bytes(),
                None,
                "resident memory of this process",
            )
        )
        parents = self._facts.memory.parent_resident_bytes()
        if parents is not None:
            views.append(
                MemoryView("parent", parents, None, "resident memory of the parent process")
            )
        return views

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return self._exporter.collect(Form.TEXT)

    def exposition(self, form: Form) -> str:
        """Return the metrics in a format that the client of the endpoint has chosen."""
        return self._exporter.collect(form)

    def snapshot_fd(self) -> int:
        """Return the descriptor of the snapshot."""
        return self._router.snapshot.fileno()

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Restart the adjacencies with a router id or an address, if there are any."""
        return self._router.clear_neighbor(neighbor)

    # --- explanations and changes

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        """Iterate over every router that NUP knows."""
        return self._topology.rows(self._router.config.router_id)

    def nup_routes(self, selector: NupRouteSelector) -> NupChunks | None:
        """Iterate over NUP's own table; None if too many clients do so."""
        return self._nup_routes.rows(selector)

    def explain(self, address: Address, table: str) -> ExplainView:
        """Explain how an address is routed by a table."""
        pages, found = self.tables.pages(table), self._router.tables.by_name.get(table)
        assert pages is not None  # the handler has just looked the name up
        explained = explain(self._router, address, pages.view, found)
        return dataclasses.replace(explained, network_namespace=self._facts.network_namespace)


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
        mtu=row.mtu,
    )


def _rounded(figure: float | None) -> float | None:
    """Round to three decimal places, which is exact enough and short."""
    return None if figure is None else round(figure, 3)


def nexthop_reason(report: NextHopReport) -> str:
    """Explain the state of a nexthop object: why the kernel has refused it, or what is cut."""
    if report.problem or not report.left_out:
        return report.problem
    shown = max(len(report.next_hops), len(report.active))
    return f"{shown + report.left_out} next hops, and {shown} of them are shown"


def _object_state(report: NextHopReport) -> FibState:
    if report.problem:
        return FibState.FAILED
    return FibState.INSTALLED if report.active else FibState.PENDING
