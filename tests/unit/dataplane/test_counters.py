"""Counters are added up over processors, and belong to one interface and direction each."""

from __future__ import annotations

import struct

import pytest

from routed.dataplane.counters import Count, LinkCounters
from routed.dataplane.layout import (
    DIRECTIONS,
    FAMILIES,
    KIND_SLOTS,
    KINDS,
    LINK_BYTES,
    LINKS_MAX,
    SIZE_CLASSES,
    header_bytes_of,
)

PROCESSORS = 2


def memory_with(*counts: tuple[int, int, int, str, str, int, int]) -> bytearray:
    """Memory with counts, each (processor, slot, direction, family, kind, packets, bytes)."""
    memory = bytearray(PROCESSORS * LINKS_MAX * len(DIRECTIONS) * LINK_BYTES)
    for processor, slot, direction, family, kind, packets, size in counts:
        at = ((processor * LINKS_MAX + slot) * 2 + direction) * LINK_BYTES
        cell = FAMILIES.index(family) * KIND_SLOTS + KINDS.index(kind)
        struct.pack_into("=QQ", memory, at + 16 * cell, packets, size)
        struct.pack_into("=Q", memory, at + 16 * 3 * KIND_SLOTS + 8 * (slot % 8), packets)
    return memory


MEMORY = memory_with(
    (0, 3, 0, "ipv4", "tcp", 10, 1000),
    (1, 3, 0, "ipv4", "tcp", 5, 500),
    (1, 3, 0, "none", "arp", 1, 60),
    (0, 3, 1, "ipv6", "udp", 7, 700),
    (0, 4, 0, "ipv4", "udp", 99, 9900),
)
COUNTERS = LinkCounters(memoryview(MEMORY), PROCESSORS)


def test_totals_are_of_one_interface_and_direction() -> None:
    assert COUNTERS.total(3, 0) == Count(16, 1560)
    assert COUNTERS.total(3, 1) == Count(7, 700)
    assert COUNTERS.total(4, 0) == Count(99, 9900)
    assert COUNTERS.total(5, 0) == Count(0, 0)


def test_protocols_that_were_not_seen_are_left_out() -> None:
    assert list(COUNTERS.protocols(3, 0)) == [
        ("none", "arp", Count(1, 60)),
        ("ipv4", "tcp", Count(15, 1500)),
    ]


def test_all_classes_of_sizes_are_there() -> None:
    sizes = dict(COUNTERS.sizes(4, 0))
    assert list(sizes) == list(SIZE_CLASSES)
    assert sizes[SIZE_CLASSES[4]] == 99
    assert sum(sizes.values()) == 99


def test_clearing_a_slot_leaves_the_others() -> None:
    memory = bytearray(MEMORY)
    counters = LinkCounters(memoryview(memory), PROCESSORS)
    counters.clear(3)
    assert counters.total(3, 0) == counters.total(3, 1) == Count(0, 0)
    assert sum(packets for _, packets in counters.sizes(3, 0)) == 0
    assert counters.total(4, 0) == Count(99, 9900)


@pytest.mark.parametrize(
    ("link_type", "header_bytes"),
    [(1, 14), (772, 14), (65534, 0), (519, 0), (776, 0), (778, None), (512, None), (0, None)],
)
def test_the_header_of_a_frame_depends_on_the_type_of_its_link(
    link_type: int, header_bytes: int | None
) -> None:
    assert header_bytes_of(link_type) == header_bytes
