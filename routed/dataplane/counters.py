"""Reader of the counters of interfaces: frames by direction, protocol and size. Pure.

Each processor has counters of its own, and a reader adds them up. The programs go on counting
meanwhile, so packets and bytes of one answer may be one frame apart.

Counters are never set to zero while a program uses them. What was counted before some moment is
subtracted instead: `base` has the counters of then.
"""

from __future__ import annotations

import operator
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

    def __init__(
        self, memory: memoryview, processors: int, base: LinkCounters | None = None
    ) -> None:
        """Args:
        memory: the array `links`, or a copy, format "B".
        processors: as in `Sizes`.
        base: counters that are subtracted.
        """
        self._longs = memory.cast("Q")
        self._processors = processors
        self._base = base

    def values(self, slot: int, direction: int) -> list[int]:
        """Add up the counters of all processors: those of protocols, then those of sizes."""
        rows = [self._longs[at : at + _LINK_LONGS].tolist() for at in self._places(slot, direction)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        if self._base is None:
            return sums
        return list(map(operator.sub, sums, self._base.values(slot, direction)))

    def copy_of(self, content: bytearray) -> LinkCounters:
        """Return a reader of a copy of the array, which may also be written."""
        return LinkCounters(memoryview(content), self._processors)

    def since(self, base: LinkCounters | None) -> LinkCounters:
        """Return these counters without what another reader of the same array has seen."""
        return LinkCounters(self._longs.cast("B"), self._processors, base)

    def _places(self, slot: int, direction: int) -> Iterator[int]:
        for processor in range(self._processors):
            yield ((processor * LINKS_MAX + slot) * len(DIRECTIONS) + direction) * _LINK_LONGS

    def total(self, slot: int, direction: int) -> Count:
        """Return what an interface has received or sent."""
        sums = self.values(slot, direction)
        return Count(sum(sums[:_KIND_LONGS:2]), sum(sums[1:_KIND_LONGS:2]))

    def protocols(self, slot: int, direction: int) -> Iterator[tuple[str, str, Count]]:
        """Iterate over what is not zero: family, protocol, count."""
        sums = self.values(slot, direction)
        for position, family in enumerate(FAMILIES):
            for number, kind in enumerate(KINDS):
                at = 2 * (position * KIND_SLOTS + number)
                if sums[at]:
                    yield family, kind, Count(sums[at], sums[at + 1])

    def sizes(self, slot: int, direction: int) -> Iterator[tuple[str, int]]:
        """Iterate over all classes of sizes: bytes, packets."""
        yield from zip(SIZE_CLASSES, self.values(slot, direction)[_KIND_LONGS:], strict=True)

    def clear(self, slot: int) -> None:
        """Set the counters of a slot to zero; no program may use it. The memory is writable."""
        for direction in range(len(DIRECTIONS)):
            for at in self._places(slot, direction):
                self._longs[at : at + _LINK_LONGS] = memoryview(bytes(LINK_BYTES)).cast("Q")
