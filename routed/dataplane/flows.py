"""Flows that the programs count, and how they end. Pure.

    programs --count--> place --idle, active, TCP ended--> closing --grace--> read, and free again
                          '------ displaced by another --> ring ------------> read

A place is read and freed only after every run of a program has ended that had begun before it was
marked as closing (`routed.dataplane.activity`): so no packet is counted there any more, and none is
lost between two flows. `bpf/flows.h` has the side of the programs.

The memory belongs to the parent. An observer that begins finds the flows of the one before, those
that it had marked as closing, too.

Bounds: the places, and RING displaced flows of each processor. A displaced flow that finds the ring
full is lost; the program counts it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from routed.dataplane.activity import Activity
from routed.dataplane.layout import FAMILIES, FLOW_BYTES, RING, RING_BYTES, Sizes
from routed.model.prefix import Address, Family

__all__ = ["PARTS", "EndReason", "Flow", "FlowCounts", "FlowTable", "Timeouts"]

PARTS = 8
"""A sweep looks at one of so many parts of the places."""
TCP_LINGER_NS = 2_000_000_000
"""A TCP flow with FIN or RST ends so long after its last packet."""

_FREE, _CLOSING = 0, 1
_FLOW = Struct("=4QHHIBB6xQQQQIB11x")
_TIMES = Struct("=QQIB")
_TIMES_AT = 64
_FIN_OR_RST = 0x05
_RING_LONGS = RING_BYTES // 8

assert _FLOW.size == FLOW_BYTES


class EndReason(enum.IntEnum):
    """Why a flow was reported, as IPFIX numbers it (flowEndReason, element 136)."""

    IDLE = 1
    ACTIVE = 2
    END_OF_FLOW = 3
    FORCED = 4
    DISPLACED = 5


class Flow(NamedTuple):
    """What one pair of addresses and ports has exchanged, in one direction."""

    family: Family
    source: int
    destination: int
    """Address bits."""
    source_port: int
    destination_port: int
    """Of ICMP: type << 8 | code. 0 for other protocols, and for fragments but the first."""
    protocol: int
    received_ifindex: int
    """0: sent by this host."""
    sent_ifindex: int
    """0: for this host, or to an interface that is not counted."""
    packets: int
    bytes: int
    """From the network header on."""
    first_ns: int
    last_ns: int
    """CLOCK_MONOTONIC."""
    tcp_flags: int
    """Of all packets together."""

    @property
    def source_address(self) -> Address:
        """The sender."""
        return Address(self.family, self.source)

    @property
    def destination_address(self) -> Address:
        """The receiver."""
        return Address(self.family, self.destination)


class Timeouts(NamedTuple):
    """When flows are reported."""

    idle_ns: int
    """After the last packet."""
    active_ns: int
    """After the first packet, while others follow."""


class FlowCounts(NamedTuple):
    """Flows since the programs were loaded."""

    begun: int
    lost_flows: int
    lost_packets: int
    """Of flows that could not be kept, or not be reported."""


class FlowTable:
    """The observer's side of the places and of the rings."""

    def __init__(
        self,
        memory: dict[str, memoryview],
        sizes: Sizes,
        activity: Activity,
        fence: Callable[[], None],
    ) -> None:
        """Args:
        memory: the arrays `flows`, `tags`, `ended` and `rings`, format "B", writable.
        sizes: of the arrays.
        activity: of the programs.
        fence: orders reads and writes of memory.
        """
        self._flows = memory["flows"]
        self._tags = memory["tags"].cast("Q")
        self._ended = memory["ended"]
        self._rings = memory["rings"].cast("Q")
        self._processors = sizes.processors
        self._activity = activity
        self._fence = fence
        self._closing: dict[int, EndReason] = {}
        """Places that are marked, and may still be counted in."""
        self._part = 0
        self._taken = [0] * PARTS

    @property
    def active(self) -> int:
        """Places that were taken when each part was looked at last."""
        return sum(self._taken)

    @property
    def counts(self) -> FlowCounts:
        """Sums over the processors."""
        longs = self._rings
        return FlowCounts(*(sum(longs[at::_RING_LONGS].tolist()) for at in (2, 3, 4)))

    def sweep(self, now_ns: int, timeouts: Timeouts) -> list[tuple[Flow, EndReason]]:
        """Look at the next part of the places, and return the flows that have ended.

        Args:
            now_ns: CLOCK_MONOTONIC.
            timeouts: in force.

        Cost: 60 us for each 1,000 places and 1 us for each flow.
        """
        ended = [(flow, EndReason.DISPLACED) for flow in self._drain()]
        if self._closing:
            if not self._activity.has_ended():
                return ended
            ended += self._read_closed()
        self._mark(now_ns, timeouts)
        return ended

    def _mark(self, now_ns: int, timeouts: Timeouts) -> None:
        part, self._part = self._part, (self._part + 1) % PARTS
        size = -(-len(self._tags) // PARTS)
        first = part * size
        tags = self._tags[first : first + size].tolist()
        taken = [place for place, tag in enumerate(tags, first) if tag]
        self._taken[part] = len(taken)
        for place in taken:
            if tags[place - first] == _CLOSING:  # by the observer before this one
                self._closing[place] = EndReason.FORCED
                continue
            reason = self._reason(place, now_ns, timeouts)
            if reason is not None:
                self._tags[place] = _CLOSING
                self._closing[place] = reason
        self._fence()
        self._activity.note()

    def _reason(self, place: int, now_ns: int, timeouts: Timeouts) -> EndReason | None:
        first, last, _, flags = _TIMES.unpack_from(self._flows, FLOW_BYTES * place + _TIMES_AT)
        if now_ns - last >= timeouts.idle_ns:
            return EndReason.IDLE
        if flags & _FIN_OR_RST and now_ns - last >= TCP_LINGER_NS:
            return EndReason.END_OF_FLOW
        if now_ns - first >= timeouts.active_ns:
            return EndReason.ACTIVE
        return None

    def _read_closed(self) -> Iterator[tuple[Flow, EndReason]]:
        for place, reason in self._closing.items():
            # A program that had chosen the place before it was marked has reported its flow itself.
            if self._tags[place] == _CLOSING:
                flow = self._flow(place)
                self._fence()
                self._tags[place] = _FREE
                yield flow, reason
        self._closing = {}

    def _flow(self, place: int) -> Flow:
        return _flow_of(_FLOW.unpack_from(self._flows, FLOW_BYTES * place))

    def _drain(self) -> Iterator[Flow]:
        """Read the displaced flows."""
        for processor in range(self._processors):
            at = processor * _RING_LONGS
            head, tail = self._rings[at : at + 2].tolist()
            self._fence()
            # A program never has more on its way, whatever the memory says.
            for number in range(tail, min(head, tail + RING)):
                place = processor * RING + number % RING
                yield _flow_of(_FLOW.unpack_from(self._ended, FLOW_BYTES * place))
            self._fence()
            self._rings[at + 1] = head

    def current(self) -> Iterator[Sequence[Flow]]:
        """Iterate over the flows of the present, some thousand places at a time.

        Programs go on counting: the figures of one flow may be one packet apart.
        """
        step = 4096
        for first in range(0, len(self._tags), step):
            tags = self._tags[first : first + step].tolist()
            yield [self._flow(place) for place, tag in enumerate(tags, first) if tag > _CLOSING]


def _flow_of(values: tuple[int, ...]) -> Flow:
    """Make a flow of the words of a place."""
    (source_high, source_low, high, low, source_port, port, received, family, protocol,
     packets, size, first_ns, last_ns, sent, flags) = values  # fmt: skip
    return Flow(
        Family.IPV6 if family == _IPV6 else Family.IPV4,
        source_high << 64 | source_low,
        high << 64 | low,
        source_port, port, protocol, received, sent, packets, size, first_ns, last_ns, flags,
    )  # fmt: skip


_IPV6 = FAMILIES.index("ipv6")
