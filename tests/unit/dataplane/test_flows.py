"""How flows end, with memory that no program writes meanwhile; the kernel's part is in
tests/integration/test_dataplane_kernel.py."""

from __future__ import annotations

import struct

import pytest

from routed.dataplane.activity import Activity
from routed.dataplane.flows import PARTS, EndReason, Flow, FlowTable, Timeouts
from routed.dataplane.layout import FLOW_BYTES, RING, RING_BYTES, WAYS, sizes_for
from routed.model.prefix import Address, Family

SIZES = sizes_for(2, 0, 2 * 4 * WAYS)
PLACES = SIZES.processors * SIZES.flow_sets * WAYS
SECOND = 1_000_000_000
NOW_NS = 1000 * SECOND
TIMEOUTS = Timeouts(15 * SECOND, 60 * SECOND)
SOURCE, DESTINATION = Address.parse("2001:db8::1"), Address.parse("192.0.2.2")


class Memory:
    """The arrays, and what a program would write there."""

    def __init__(self) -> None:
        self.arrays = {
            name: memoryview(bytearray(SIZES.array_bytes[name]))
            for name in ("flows", "tags", "ended", "rings", "activity")
        }
        self.tags = self.arrays["tags"].cast("Q")
        self.rings = self.arrays["rings"].cast("Q")
        self.activity = self.arrays["activity"].cast("Q")

    def table(self) -> FlowTable:
        arrays = {name: view for name, view in self.arrays.items() if name != "activity"}
        return FlowTable(arrays, SIZES, Activity(self.arrays["activity"]), lambda: None)

    def put(self, place: int, port: int, first_s: int, last_s: int, flags: int = 0) -> None:
        """Write a flow: seconds are those before now."""
        self.tags[place] = 1000 + place
        self._write("flows", place, port, first_s, last_s, flags)

    def _write(self, name: str, at: int, port: int, first_s: int, last_s: int, flags: int) -> None:
        first_ns, last_ns = (NOW_NS - seconds * SECOND for seconds in (first_s, last_s))
        struct.pack_into(
            "=4QHHIBB6xQQQQIB11x", self.arrays[name], FLOW_BYTES * at,
            0, SOURCE.addr_bits & (1 << 64) - 1, 0, DESTINATION.addr_bits, port, 53, 2, 1, 17,
            7, 700, first_ns, last_ns, 3, flags,
        )  # fmt: skip

    def displace(self, processor: int, port: int) -> None:
        at = processor * RING_BYTES // 8
        self._write("ended", processor * RING + self.rings[at] % RING, port, 5, 1, 0)
        self.rings[at] += 1


def sweep(table: FlowTable, times: int = 2 * PARTS) -> list[tuple[Flow, EndReason]]:
    return [each for _ in range(times) for each in table.sweep(NOW_NS, TIMEOUTS)]


@pytest.mark.parametrize(
    ("first_s", "last_s", "flags", "reason"),
    [
        (20, 15, 0, EndReason.IDLE),
        (60, 0, 0, EndReason.ACTIVE),
        (59, 14, 0x12, None),
        (5, 2, 0x01, EndReason.END_OF_FLOW),
        (5, 2, 0x04, EndReason.END_OF_FLOW),
        (5, 1, 0x05, None),
    ],
)
@pytest.mark.parametrize("place", [0, PLACES - 1])
def test_a_flow_ends_by_its_timeouts(
    first_s: int, last_s: int, flags: int, reason: EndReason | None, place: int
) -> None:
    memory = Memory()
    memory.put(place, 4000, first_s, last_s, flags)
    ended = sweep(memory.table())
    assert [found for _, found in ended] == ([] if reason is None else [reason])
    assert (memory.tags[place] == 0) == (reason is not None)
    for flow, _ in ended:
        assert (flow.source_port, flow.packets, flow.bytes, flow.tcp_flags) == (4000, 7, 700, flags)
        assert flow.family is Family.IPV4
        assert flow.destination_address == DESTINATION


def test_a_place_is_read_and_freed_after_the_runs_that_may_still_count_there() -> None:
    memory = Memory()
    memory.put(0, 1, 20, 20)
    table = memory.table()
    memory.activity[0] = 1  # a run begins
    assert table.sweep(NOW_NS, TIMEOUTS) == []
    assert memory.tags[0] == 1
    assert sweep(table) == []
    memory.activity[1] = 1  # it ends
    assert [flow.source_port for flow, _ in sweep(table, 1)] == [1]
    assert memory.tags[0] == 0


def test_a_place_that_a_program_took_after_it_was_marked_is_left_alone() -> None:
    memory = Memory()
    memory.put(0, 1, 20, 20)
    table = memory.table()
    table.sweep(NOW_NS, TIMEOUTS)
    memory.put(0, 2, 1, 1)  # a run that had begun before displaces the flow, and reports it
    assert sweep(table) == []
    assert memory.tags[0] == 1000


def test_displaced_flows_are_read_once_and_a_next_observer_goes_on() -> None:
    memory = Memory()
    first = memory.table()
    for port in range(5):
        memory.displace(1, port)
    assert [flow.source_port for flow, _ in sweep(first, 1)] == list(range(5))
    memory.displace(0, 7)
    memory.put(PLACES // PARTS, 8, 20, 20)  # in the part that is looked at next
    first.sweep(NOW_NS, TIMEOUTS)  # marks the place, and dies
    second = memory.table()
    found = sweep(second)
    assert [(flow.source_port, reason) for flow, reason in found] == [(8, EndReason.FORCED)]


def test_a_ring_that_lies_about_itself_is_read_once_at_most() -> None:
    memory = Memory()
    memory.rings[0] = 1 << 63
    assert len(sweep(memory.table(), 1)) == RING
    assert sweep(memory.table()) == []


def test_counters_are_added_up_over_the_processors() -> None:
    memory = Memory()
    for processor in range(SIZES.processors):
        at = processor * RING_BYTES // 8
        memory.rings[at + 2], memory.rings[at + 3], memory.rings[at + 4] = 10, 2, 5
    table = memory.table()
    assert table.counts == (20, 4, 10)
    for place in range(6):
        memory.put(place, place, 1, 1)
    sweep(table)
    assert table.active == 6
    assert [flow.source_port for flows in table.current() for flow in flows] == list(range(6))
