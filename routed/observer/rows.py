"""Rows about flows: the largest flows, hosts and ports. Pure.

A host's row has what it has sent and received, a port's what was sent to it and from it. Of the two
ports of a flow the lower one is taken: with a client and a server it is the server's.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence

from routed.dataplane.flows import Flow
from routed.imsg.observer import FLOW_ROWS_MAX, FlowRow, FlowsAsked, FlowTableKind
from routed.model.prefix import Address

__all__ = ["Ranking"]

_TCP, _UDP, _SCTP = 6, 17, 132
_WITH_PORTS = {_TCP, _UDP, _SCTP}


class _Sum:
    """What one host or port has exchanged."""

    __slots__ = ("figures", "first_ns", "flows", "last_ns", "tcp_flags")

    def __init__(self) -> None:
        self.figures = [0, 0, 0, 0]
        """Packets and bytes from a host or to a port, then to a host or from a port."""
        self.flows = 0
        self.first_ns, self.last_ns = 1 << 64, 0
        self.tcp_flags = 0

    def add(self, flow: Flow, side: int) -> None:
        """Add a flow, to one of two sides."""
        self.figures[2 * side] += flow.packets
        self.figures[2 * side + 1] += flow.bytes
        self.flows += 1
        self.first_ns = min(self.first_ns, flow.first_ns)
        self.last_ns = max(self.last_ns, flow.last_ns)
        self.tcp_flags |= flow.tcp_flags


class Ranking:
    """Collects flows, and keeps the largest rows."""

    def __init__(self, request: FlowsAsked, now_ns: int) -> None:
        """Begin without flows.

        Args:
            request: what is to be collected; of its bounds `top` is cut to FLOW_ROWS_MAX.
            now_ns: CLOCK_MONOTONIC.
        """
        self._table = request.table
        self._top = min(max(request.top, 1), FLOW_ROWS_MAX)
        self._at = 0 if request.by_packets else 1
        self._now_ns = now_ns
        self._flows: list[Flow] = []
        self._sums: dict[Hashable, _Sum] = {}

    def add(self, flows: Sequence[Flow]) -> None:
        """Add some flows of the table."""
        match self._table:
            case FlowTableKind.FLOWS:
                self._flows = heapq.nlargest(self._top, [*self._flows, *flows], key=self._size_of)
            case FlowTableKind.HOSTS:
                for flow in flows:
                    self._sum(flow.source_address).add(flow, 0)
                    self._sum(flow.destination_address).add(flow, 1)
            case FlowTableKind.PORTS:
                for flow in flows:
                    if flow.protocol in _WITH_PORTS:
                        side = int(flow.source_port < flow.destination_port)
                        port = flow.source_port if side else flow.destination_port
                        self._sum((flow.protocol, port)).add(flow, side)

    def _sum(self, key: Hashable) -> _Sum:
        return self._sums.setdefault(key, _Sum())

    def _size_of(self, flow: Flow) -> int:
        return (flow.packets, flow.bytes)[self._at]

    def rows(self) -> tuple[FlowRow, ...]:
        """Return the rows, the largest first."""
        if self._table is FlowTableKind.FLOWS:
            return tuple(map(self._flow_row, self._flows))
        largest = heapq.nlargest(
            self._top,
            self._sums.items(),
            key=lambda item: item[1].figures[self._at] + item[1].figures[self._at + 2],
        )
        return tuple(self._sum_row(key, found) for key, found in largest)

    def _flow_row(self, flow: Flow) -> FlowRow:
        return FlowRow(
            flow.source_address, flow.destination_address, flow.source_port, flow.destination_port,
            flow.protocol, flow.received_ifindex, flow.sent_ifindex, flow.packets, flow.bytes, 0, 0,
            1, *self._times(flow.first_ns, flow.last_ns), flow.tcp_flags,
        )  # fmt: skip

    def _sum_row(self, key: Hashable, found: _Sum) -> FlowRow:
        source = key if isinstance(key, Address) else None
        protocol, port = key if isinstance(key, tuple) and source is None else (0, 0)
        return FlowRow(
            source, None, 0, port, protocol, 0, 0,
            found.figures[0], found.figures[1], found.figures[2], found.figures[3], found.flows,
            *self._times(found.first_ns, found.last_ns), found.tcp_flags,
        )  # fmt: skip

    def _times(self, first_ns: int, last_ns: int) -> tuple[int, int]:
        """Return how many milliseconds ago the first and the last packet were."""
        age, idle = (max(self._now_ns - at, 0) // 1_000_000 for at in (first_ns, last_ns))
        return age, idle
