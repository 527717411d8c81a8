"""Reader of the counters of interfaces: frames by direction, protocol and size. Pure.

Each processor has counters of its own, and a reader adds them up. The programs go on counting
meanwhile, so packets and bytes of one answer may be one frame apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from routed.dataplane.layout import (
    DIRECTIONS,
    FAMILIES,
    KIND_SLOTS,
    KINDS,
    LINK_BYTES,
    LINKS_MAX,
    SIZE_CLASSES,
)

__all__ = ["Count", "LinkCounters"]

_LINK_LONGS = LINK_BYTES // 8
_KIND_LONGS = 2 * len(FAMILIES) * KIND_SLOTS


class Count(NamedTuple):
    """Frames, and their bytes from the first header on, without the checksum."""

    packets: int
    bytes: int


class LinkCounters:
    """Counters of all interfaces."""

    def __init__(self, memory: memoryview, processors: int) -> None:
        """Args:
        memory: the array `links`, format "B".
        processors: as in `Sizes`.
        """
        self._longs = memory.cast("Q")
        self._processors = processors

    def _sums(self, slot: int, direction: int) -> list[int]:
        """Add up the counters of all processors."""
        rows = [self._longs[at : at + _LINK_LONGS].tolist() for at in self._places(slot, direction)]
        return [sum(column) for column in zip(*rows, strict=True)]

    def _places(self, slot: int, direction: int) -> Iterator[int]:
        for processor in range(self._processors):
            yield ((processor * LINKS_MAX + slot) * len(DIRECTIONS) + direction) * _LINK_LONGS

    def total(self, slot: int, direction: int) -> Count:
        """Return what an interface has received or sent."""
        sums = self._sums(slot, direction)
        return Count(sum(sums[:_KIND_LONGS:2]), sum(sums[1:_KIND_LONGS:2]))

    def protocols(self, slot: int, direction: int) -> Iterator[tuple[str, str, Count]]:
        """Iterate over what is not zero: family, protocol, count."""
        sums = self._sums(slot, direction)
        for position, family in enumerate(FAMILIES):
            for number, kind in enumerate(KINDS):
                at = 2 * (position * KIND_SLOTS + number)
                if sums[at]:
                    yield family, kind, Count(sums[at], sums[at + 1])

    def sizes(self, slot: int, direction: int) -> Iterator[tuple[str, int]]:
        """Iterate over all classes of sizes: bytes, packets."""
        yield from zip(SIZE_CLASSES, self._sums(slot, direction)[_KIND_LONGS:], strict=True)

    def clear(self, slot: int) -> None:
        """Set the counters of a slot to zero; no program may use it. The memory is writable."""
        for direction in range(len(DIRECTIONS)):
            for at in self._places(slot, direction):
                self._longs[at : at + _LINK_LONGS] = memoryview(bytes(LINK_BYTES)).cast("Q")
