"""Views of the dataplane: what is attached, and the traffic that was counted."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence

from ipc.traffic import TrafficTable
from routed.config.schema import Config
from routed.control.traffic import (
    DataplaneInterfaceView,
    DataplaneProgramView,
    InterfaceTrafficView,
    PacketSizeView,
    ProtocolTrafficView,
    RouteTrafficView,
)
from routed.dataplane.counters import LinkCounters
from routed.dataplane.layout import DIRECTIONS, SIZE_CLASSES
from routed.engine.dataplane import Dataplane
from routed.engine.parent_client import ParentClient
from routed.imsg.dataplane import Attachment, ProgramReport
from routed.snapshot.writer import FibSnapshot

__all__ = ["DataplaneReporter"]

_Views = Sequence[InterfaceTrafficView | ProtocolTrafficView | PacketSizeView]


class DataplaneReporter:
    """The engine's implementation of `control.traffic.DataplaneViews`. Owns no state."""

    def __init__(
        self,
        dataplane: Dataplane,
        parent: ParentClient,
        snapshot: FibSnapshot,
        config: Callable[[], Config],
    ) -> None:
        """Show a dataplane.

        Args:
            dataplane: which is shown.
            parent: knows the programs.
            snapshot: knows the prefixes of records.
            config: returns the configuration in force.
        """
        self._dataplane = dataplane
        self._parent = parent
        self._snapshot = snapshot
        self._config = config

    @property
    def is_configured(self) -> bool:
        """Whether the configuration names any interface."""
        return bool(self._config().dataplane.interfaces)

    def attachments(self) -> Sequence[DataplaneInterfaceView]:
        """List the configured interfaces, and how each is counted."""
        return [
            DataplaneInterfaceView(
                entry.interface, entry.hook.value, entry.reason.value, entry.detail, entry.others
            )
            for entry in self._dataplane.attachments
        ]

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

    def traffic(self, table: TrafficTable, interface: str | None) -> _Views:
        """List the traffic of one interface, or of all together."""
        counters = self._dataplane.counters
        entries = self._counted(interface)
        if counters is None:
            return []
        match table:
            case TrafficTable.INTERFACES:
                return [_interface_view(counters, entry) for entry in entries]
            case TrafficTable.PROTOCOLS:
                return _protocol_views(counters, entries)
            case TrafficTable.PACKET_SIZES:
                return _size_views(counters, entries)
            case TrafficTable.ROUTES:
                return []  # see `route_traffic`

    @property
    def routes_problem(self) -> str:
        """Why the traffic of routes is not counted; empty if it is."""
        mirror = self._dataplane.mirror
        if mirror is None:
            return "`dataplane.routes` is 0, or the programs are not loaded"
        return mirror.problem

    def route_traffic(self, top: int) -> Generator[Sequence[RouteTrafficView], None, None]:
        """Iterate over the routes with the most bytes, after chunks without a row.

        A route among the largest either has an account, or is among the largest by the counters of
        its record alone: so no other record is looked at in detail.
        """
        accounts, records = self._dataplane.accounts, self._snapshot.records
        if accounts is None:
            return
        largest = yield from _without_rows(accounts.largest(top))
        figures = {
            records.prefix(record): accounts.counted(record)
            for record in largest
            if records.is_current(record)
        }
        for prefix, former in accounts.accounts.items():
            record = self._snapshot.record_of(prefix)
            figures[prefix] = former.plus(accounts.counted(record)) if record else former
        ordered = heapq.nsmallest(top, figures.items(), key=lambda item: (-item[1].bytes, item[0]))
        yield [
            RouteTrafficView(prefix, prefix in self._snapshot, *carried)
            for prefix, carried in ordered
        ]
        if any(accounts.counted(0)):
            yield [RouteTrafficView(None, False, *accounts.counted(0))]


def _without_rows(
    steps: Generator[None, None, list[int]],
) -> Generator[Sequence[RouteTrafficView], None, list[int]]:
    """Yield a chunk without rows for each step; returns the result of the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return list(end.value)
        yield []


def _interface_view(counters: LinkCounters, entry: Attachment) -> InterfaceTrafficView:
    received, sent = (counters.total(entry.slot, at) for at in range(len(DIRECTIONS)))
    return InterfaceTrafficView(entry.interface, *received, *sent)


def _protocol_views(
    counters: LinkCounters, entries: Sequence[Attachment]
) -> list[ProtocolTrafficView]:
    """Add up the interfaces; the protocol with the most bytes comes first."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for entry in entries:
        for direction in range(len(DIRECTIONS)):
            for family, kind, count in counters.protocols(entry.slot, direction):
                figures = sums[family, kind]
                figures[2 * direction] += count.packets
                figures[2 * direction + 1] += count.bytes
    ordered = sorted(sums.items(), key=lambda item: (-item[1][1] - item[1][3], item[0]))
    return [ProtocolTrafficView(family, kind, *figures) for (family, kind), figures in ordered]


def _size_views(counters: LinkCounters, entries: Sequence[Attachment]) -> list[PacketSizeView]:
    sums = {name: [0] * len(DIRECTIONS) for name in SIZE_CLASSES}
    for entry in entries:
        for direction in range(len(DIRECTIONS)):
            for name, packets in counters.sizes(entry.slot, direction):
                sums[name][direction] += packets
    return [PacketSizeView(name, *figures) for name, figures in sums.items()]


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
