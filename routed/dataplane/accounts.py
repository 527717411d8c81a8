"""What each route has carried: counters of records, and accounts of prefixes. Pure.

A route that changes gets another record, and its old record is used for another route later.
Before that, the counters of the old record are added to the account of its prefix and set to zero
(`fold`), so a count never moves to another prefix. What a prefix has carried is its account and
the counters of its present record.

Record 0 stands for everything without a record of its own: packets that no route covers, and
routes beyond the number that has counters.

Bounds: ACCOUNTS_MAX accounts. The one that was not added to for the longest time is given up
then, and its figures go to `given_up`.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Generator
from typing import NamedTuple

from routed.dataplane.layout import ROUTE_BYTES
from routed.model.prefix import Prefix

__all__ = ["ACCOUNTS_MAX", "Figures", "RouteAccounts"]

ACCOUNTS_MAX = 65_536
"""About 20 MB."""

_LONGS = ROUTE_BYTES // 8
_SLICE = 32_768
"""Records that are looked at between two turns of the event loop: 10 ms."""


class Figures(NamedTuple):
    """What a route has carried."""

    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int

    def plus(self, other: Figures) -> Figures:
        """Return the sum."""
        return Figures(*map(operator.add, self, other))

    @property
    def bytes(self) -> int:
        """Bytes of both directions."""
        return self.received_bytes + self.sent_bytes


_NOTHING = Figures(0, 0, 0, 0)


class RouteAccounts:
    """Owner of the accounts; the counters are written by the programs, too."""

    def __init__(self, memory: memoryview, records: int, accounts_max: int = ACCOUNTS_MAX) -> None:
        """Args:
        memory: the array `routes`, format "B", writable.
        records: as in `Sizes`.
        accounts_max: most accounts.
        """
        self._longs = memory.cast("Q")
        self._records = records
        self._accounts_max = accounts_max
        self._accounts: dict[Prefix, Figures] = {}
        self.given_up = _NOTHING
        """Of prefixes whose accounts were given up."""

    @property
    def accounts(self) -> dict[Prefix, Figures]:
        """What former records of each prefix have carried."""
        return self._accounts

    def clear(self) -> None:
        """Set all counters to zero. No run of a program may be under way that counts."""
        self._longs[:] = memoryview(bytes(self._longs.nbytes)).cast("Q")

    def counted(self, record: int) -> Figures:
        """Return the counters of a record."""
        if record >= self._records:
            return _NOTHING
        return Figures(*self._longs[_LONGS * record : _LONGS * (record + 1)].tolist())

    def fold(self, record: int, prefix_of: Callable[[int], Prefix]) -> None:
        """Add the counters of a record to the account of its prefix, and set them to zero.

        Args:
            record: no program finds it any more, and none is under way that did.
            prefix_of: returns the prefix of a record; called if it has counted anything.
        """
        figures = self.counted(record)
        if figures == _NOTHING:
            return
        for at in range(_LONGS * record, _LONGS * (record + 1)):
            self._longs[at] = 0
        prefix = prefix_of(record)
        # Last in order again, as the account that was added to last.
        self._accounts[prefix] = self._accounts.pop(prefix, _NOTHING).plus(figures)
        if len(self._accounts) > self._accounts_max:
            oldest = next(iter(self._accounts))
            self.given_up = self.given_up.plus(self._accounts.pop(oldest))

    def largest(self, count: int) -> Generator[None, None, list[int]]:
        """Find the records with the most bytes, in steps; returns them, the largest first.

        Args:
            count: how many.

        Cost: 0.3 us for each record; a step looks at 32,768.
        """
        found: list[tuple[int, int]] = []
        for first in range(1, self._records, _SLICE):
            end = min(first + _SLICE, self._records)
            part = self._longs[_LONGS * first : _LONGS * end]
            sums = map(operator.add, part[1::_LONGS].tolist(), part[3::_LONGS].tolist())
            found = heapq.nlargest(count, [*found, *zip(sums, range(first, end), strict=True)])
            yield
        return [record for size, record in found if size]
