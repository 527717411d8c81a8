"""Updates of desired routes that are in flight, of all tables. Pure.

    DesiredFib (one for each table) --add--> UpdateWindow <--pop_tried-- parent

The parent tries updates in the order of their serials, whatever their table, and reports the last
one that it has tried. So all tables share the serials, and the limit of what is in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from routed.model.prefix import Family

__all__ = ["WINDOW_UPDATES", "SentUpdate", "UpdateWindow"]

WINDOW_UPDATES = 8
"""Updates in flight: enough that the parent never waits for the engine."""


class UpdateWindow:
    """Owns the serials, and what the updates in flight have."""

    def __init__(self) -> None:
        self.starting: set[object] = set()
        """Tables with unsent routes of those that were decided when the first update was sent."""
        self._serial = 0
        self._in_flight: deque[tuple[int, SentUpdate]] = deque()

    def __bool__(self) -> bool:
        """Whether anything is in flight."""
        return bool(self._in_flight)

    @property
    def is_full(self) -> bool:
        """Whether no further update may be sent now."""
        return len(self._in_flight) >= WINDOW_UPDATES

    def add(self, update: SentUpdate) -> int:
        """Record that an update is sent. Returns its serial."""
        self._serial += 1
        self._in_flight.append((self._serial, update))
        return self._serial

    def pop_tried(self, applied_serial: int) -> list[SentUpdate]:
        """Remove and return the updates up to a serial: they were tried."""
        tried: list[SentUpdate] = []
        while self._in_flight and self._in_flight[0][0] <= applied_serial:
            tried.append(self._in_flight.popleft()[1])
        return tried

    def of_table(self, table_id: int) -> Iterator[SentUpdate]:
        """Iterate over the updates of a table that are in flight."""
        return (update for _, update in self._in_flight if update.table_id == table_id)


class SentUpdate:
    """The prefixes of one update. Few updates are ever searched, so sets are made on demand."""

    def __init__(self, table_id: int, columns: Mapping[Family, tuple[list[int], ...]]) -> None:
        """Keep the prefixes of an update.

        Args:
            table_id: of the kernel table.
            columns: `Prefix.as_int` of each, by family.
        """
        self.table_id = table_id
        self._columns = columns
        self._sets: dict[Family, frozenset[int]] = {}

    def has(self, family: Family, key: int) -> bool:
        """Return whether the update has a prefix (`Prefix.as_int`)."""
        return key in self._set(family)

    def among(self, family: Family, keys: AbstractSet[int]) -> AbstractSet[int]:
        """Select those of some prefixes that the update has."""
        return keys & self._set(family) if keys else frozenset()

    def _set(self, family: Family) -> frozenset[int]:
        keys = self._sets.get(family)
        if keys is None:
            keys = self._sets[family] = frozenset().union(*self._columns[family])
        return keys
