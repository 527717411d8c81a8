"""Routes of flows, from the engine's snapshot of the forwarding table.

The snapshot is the engine's: it is read as any other reader reads it, and trusted as little.
Without one, or with a damaged one, flows are exported without a route.
"""

from __future__ import annotations

import mmap
import os

from ipc.snapshot import FibReader, FoundRoute, SnapshotError
from routed.dataplane.flows import EndReason, Flow
from routed.dataplane.ipfix import FlowRecord
from routed.model.prefix import Address

__all__ = ["FlowRoutes"]


class FlowRoutes:
    """Owner of the mapped snapshot."""

    def __init__(self) -> None:
        """Begin without a snapshot."""
        self._reader: FibReader | None = None

    def open(self, descriptor: int, size_bytes: int) -> None:
        """Read an engine's snapshot from now on, in place of an earlier one.

        Raises:
            OSError: it cannot be mapped.
            ValueError: its size is impossible.
        """
        former, self._reader = self._reader, None
        if former is not None:
            former.close()
        try:
            memory = mmap.mmap(descriptor, size_bytes, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        finally:
            os.close(descriptor)
        try:
            self._reader = FibReader(memory)
        except SnapshotError:
            self._reader = None

    def record(self, flow: Flow, reason: EndReason) -> FlowRecord:
        """Add the route to the destination of a flow, as it is now."""
        route = self._find(flow)
        if route is None:
            return FlowRecord(flow, reason, 0, None)
        hops = [hop.via for hop in route.next_hops if hop.ifindex == flow.sent_ifindex]
        via = hops[0] if len(hops) == 1 else None
        next_hop = None if via is None else Address.parse(via)
        return FlowRecord(flow, reason, int(route.prefix.partition("/")[2]), next_hop)

    def _find(self, flow: Flow) -> FoundRoute | None:
        if self._reader is None:
            return None
        try:
            return self._reader.lookup(flow.destination.to_bytes(flow.family.width // 8, "big"))
        except SnapshotError:
            return None
