"""Views of the dataplane: what is attached, and the traffic that was counted."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar, cast

import trio

from ipc.traffic import ShowTraffic, TrafficOrder, TrafficTable
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
from routed.dataplane.counters import LinkCounters
from routed.dataplane.figures import NOTHING, Figures
from routed.dataplane.layout import DIRECTIONS, SIZE_CLASSES
from routed.engine.dataplane import Dataplane
from routed.engine.parent_client import ParentClient
from routed.engine.router import Router
from routed.engine.show.flows import flow_views
from routed.imsg.dataplane import Attachment, ProgramReport
from routed.imsg.observer import FlowsAsked, FlowTableKind
from routed.model.prefix import Prefix

__all__ = ["DataplaneReporter"]

_Views = Sequence[InterfaceTrafficView | ProtocolTrafficView | PacketSizeView]
_Counted = TypeVar("_Counted", InterfaceTrafficView, ProtocolTrafficView)
_Result = TypeVar("_Result")

_TOP = 20
"""Routes that are shown unless the client says how many."""


class DataplaneReporter:
    """The engine's implementation of `control.traffic.DataplaneViews`. Owns no state."""

    def __init__(
        self,
        dataplane: Dataplane,
        parent: ParentClient,
        router: Router,
        clock: Callable[[], float],
    ) -> None:
        """Show a dataplane.

        Args:
            dataplane: which is shown.
            parent: knows the programs.
            router: knows the prefixes of records, and the routes of flows.
            clock: seconds, monotonic; that of the dataplane.
        """
        self._clock = clock
        self._turn = trio.Lock()
        self._dataplane = dataplane
        self._parent = parent
        self._snapshot = router.snapshot
        self._router = router

    @property
    def is_configured(self) -> bool:
        """Whether the configuration names any interface."""
        return bool(self._router.config.dataplane.interfaces)

    def attachments(self) -> Sequence[DataplaneInterfaceView]:
        """List the configured interfaces, and how each is counted."""
        return [
            DataplaneInterfaceView(
                entry.interface, entry.hook.value, entry.reason.value, entry.detail, entry.others
            )
            for entry in self._dataplane.attachments
        ]

    def export(self) -> Sequence[ExportView]:
        """List the collectors of flows, as the observer reports them."""
        return [
            ExportView(
                report.to, "ipfix", report.domain,
                "ok" if report.has_socket and not report.problem else "failed",
                report.messages, report.records, report.bytes, report.lost_records, report.problem,
            )
            for report in self._dataplane.observer.collectors
        ]  # fmt: skip

    async def programs(self) -> Sequence[DataplaneProgramView]:
        """List the programs in the kernel, as the parent reports them; none if it does not."""
        answer = await self._parent.ask_programs()
        if answer is None:
            return []
        return [_program_view(report, answer.memory_bytes) for report in answer.programs]

    def counts(self, interface: str | None, /) -> bool:
        """Return whether an interface, or any if it is None, is counted."""
        return self._dataplane.counters is not None and bool(self._counted(interface))

    def _counted(self, interface: str | None) -> list[Attachment]:
        return [
            entry
            for entry in self._dataplane.attachments
            if entry.slot >= 0 and interface in (None, entry.interface)
        ]

    def traffic(self, request: ShowTraffic, /) -> _Views:
        """List the traffic of one interface, or of all together."""
        entries = self._counted(request.interface)
        counters, seconds = self._dataplane.counters_since_clear(), None
        if request.last_s is not None:
            window = self._dataplane.counters_of_last(request.last_s)
            counters, seconds = window if window is not None else (None, None)
        if counters is None:
            return []
        match request.table:
            case TrafficTable.INTERFACES:
                rows = [_interface_view(counters, entry, seconds) for entry in entries]
                is_ordered = request.top is None and request.by is None
                return rows if is_ordered else _first(rows, request)
            case TrafficTable.PROTOCOLS:
                return _first(_protocol_views(counters, entries, seconds), request)
            case TrafficTable.PACKET_SIZES:
                return _size_views(counters, entries, seconds)
            case _:
                return []  # see `route_traffic` and `flow_traffic`

    def protocol_totals(self, interface: str, /) -> Sequence[ProtocolTrafficView]:
        """List the protocols of an interface since its counters began, whatever was cleared."""
        counters = self._dataplane.counters
        return [] if counters is None else _protocol_views(counters, self._counted(interface), None)

    @property
    def routes_problem(self) -> str:
        """Why the traffic of routes is not counted; empty if it is."""
        mirror = self._dataplane.mirror
        if mirror is None:
            return "`dataplane.routes` is 0, or the programs are not loaded"
        return mirror.problem

    async def route_traffic(
        self, request: ShowTraffic, /
    ) -> AsyncGenerator[Sequence[RouteTrafficView], None]:
        """Iterate over the routes with the most traffic, after chunks without a row."""
        steps = self._totals(request) if request.last_s is None else self._window(request)
        # A window has copies of all counters: of one request at a time.
        async with AsyncExitStack() as turn:
            if request.last_s is not None:
                await turn.enter_async_context(self._turn)
            for rows in steps:
                yield rows

    def _totals(self, request: ShowTraffic) -> Generator[Sequence[RouteTrafficView], None, None]:
        """Make the rows of what was carried in all.

        A route among the largest either has an account, or is among the largest by the counters of
        its record alone: so no other record is looked at in detail.
        """
        accounts, records = self._dataplane.accounts, self._snapshot.records
        if accounts is None:
            return
        by_packets = request.by is TrafficOrder.PACKETS
        largest = yield from _without_rows(
            accounts.largest(request.top or _TOP, by_packets=by_packets)
        )
        figures: dict[Prefix | None, Figures] = {
            records.prefix(record): accounts.counted(record)
            for record in largest
            if records.is_current(record)
        }
        for prefix, former in accounts.accounts.items():
            record = self._snapshot.record_of(prefix)
            figures[prefix] = former.plus(accounts.counted(record)) if record else former
        if any(accounts.counted(0)):
            figures[None] = accounts.counted(0)
        yield self._route_views(figures, request, None)

    def _window(self, request: ShowTraffic) -> Generator[Sequence[RouteTrafficView], None, None]:
        """Make the rows of what was carried in the last seconds."""
        accounts, records = self._dataplane.accounts, self._snapshot.records
        assert request.last_s is not None  # the caller has looked
        if accounts is None:
            return
        now = self._clock()
        found = yield from _without_rows(
            accounts.carried_since(now - request.last_s, records.prefix)
        )
        if found is not None:
            yield self._route_views(found.carried, request, now - found.began)

    def _route_views(
        self, figures: dict[Prefix | None, Figures], request: ShowTraffic, seconds: float | None
    ) -> Sequence[RouteTrafficView]:
        """Order routes by what they have carried; what has none comes last, beyond the `top`."""
        others = figures.pop(None, NOTHING)
        ordered = heapq.nsmallest(
            request.top or _TOP,
            figures.items(),
            key=lambda item: (-_size_of(item[1], request.by), item[0]),
        )
        rows = [
            RouteTrafficView(prefix, prefix in self._snapshot, *carried, seconds)
            for prefix, carried in ordered
            if prefix is not None
        ]
        if any(others):
            rows.append(RouteTrafficView(None, False, *others, seconds))
        return rows

    def route_rates(self, prefix: Prefix, /) -> Sequence[RouteRateView]:
        """List what a route has carried in all, and in each second; nothing for no route."""
        accounts, record = self._dataplane.accounts, self._snapshot.record_of(prefix)
        if accounts is None or not (record or prefix in accounts.accounts):
            return []
        total = accounts.accounts.get(prefix, NOTHING)
        if record:
            total = total.plus(accounts.counted(record))
        rows = [RouteRateView(None, *total, None)]
        ago = 0.0
        for seconds, figures in reversed(accounts.rates_of(prefix, record)):
            ago += seconds
            rows.append(RouteRateView(round(ago, 1), *figures, round(seconds, 3)))
        return rows

    @property
    def flow_totals(self) -> FlowTotals | None:
        """Counters of flows; None without an observer."""
        counted = self._dataplane.observer.counted
        if counted is None:
            return None
        return FlowTotals(
            counted.active,
            counted.begun,
            counted.ended,
            counted.lost_flows,
            counted.lost_packets,
        )

    async def flow_traffic(
        self, request: ShowTraffic, /
    ) -> Sequence[FlowTrafficView | HostTrafficView | PortTrafficView] | str:
        """List flows, hosts or ports; or say why there are none."""
        observer = self._dataplane.observer
        if not self._router.config.dataplane.flows.max:
            return "flows are not counted: `dataplane.flows.max` is 0"
        rows = await observer.ask(
            FlowsAsked(
                FlowTableKind(request.table.value),
                request.top or _TOP,
                request.by is TrafficOrder.PACKETS,
            )
        )
        if rows is None:
            return "the observer does not answer; the log has the reason"
        return list(flow_views(request.table, rows, self._router.rib, self._router.ifname_of))

    def clear_traffic(self) -> None:
        """Let the counters that are shown begin at zero."""
        self._dataplane.clear()


def _without_rows(
    steps: Generator[None, None, _Result],
) -> Generator[Sequence[RouteTrafficView], None, _Result]:
    """Yield a chunk without rows for each step; returns the result of the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("_Result", end.value)
        yield []


def _size_of(carried: Figures, by: TrafficOrder | None) -> int:
    return carried.packets if by is TrafficOrder.PACKETS else carried.bytes


def _first(rows: list[_Counted], request: ShowTraffic) -> list[_Counted]:
    """Order rows by their traffic, and keep the first ones. Rows that are equal stay in order."""

    def size(row: _Counted) -> int:
        carried = Figures(
            row.received_packets, row.received_bytes, row.sent_packets, row.sent_bytes
        )
        return _size_of(carried, request.by)

    return sorted(rows, key=size, reverse=True)[: request.top]


def _interface_view(
    counters: LinkCounters, entry: Attachment, seconds: float | None
) -> InterfaceTrafficView:
    received, sent = (counters.total(entry.slot, at) for at in range(len(DIRECTIONS)))
    return InterfaceTrafficView(entry.interface, *received, *sent, seconds)


def _protocol_views(
    counters: LinkCounters, entries: Sequence[Attachment], seconds: float | None
) -> list[ProtocolTrafficView]:
    """Add up the interfaces; in the order of the names."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for entry in entries:
        for direction in range(len(DIRECTIONS)):
            for family, kind, count in counters.protocols(entry.slot, direction):
                figures = sums[family, kind]
                figures[2 * direction] += count.packets
                figures[2 * direction + 1] += count.bytes
    return [
        ProtocolTrafficView(family, kind, *Figures(*figures), seconds)
        for (family, kind), figures in sorted(sums.items())
    ]


def _size_views(
    counters: LinkCounters, entries: Sequence[Attachment], seconds: float | None
) -> list[PacketSizeView]:
    sums = {name: [0] * len(DIRECTIONS) for name in SIZE_CLASSES}
    for entry in entries:
        for direction in range(len(DIRECTIONS)):
            for name, packets in counters.sizes(entry.slot, direction):
                sums[name][direction] += packets
    return [PacketSizeView(name, figures[0], figures[1], seconds) for name, figures in sums.items()]


def _program_view(report: ProgramReport, memory_bytes: int) -> DataplaneProgramView:
    has_runs = report.has_statistics and report.runs > 0
    return DataplaneProgramView(
        program=report.name,
        id=report.id,
        interfaces=report.interfaces,
        runs=report.runs if report.has_statistics else None,
        run_ns=round(report.run_ns / report.runs, 1) if has_runs else None,
        code_bytes=report.code_bytes,
        memory_bytes=memory_bytes,
    )
