"""What each route has carried: counters of records, and accounts of prefixes. Pure.

A route that changes gets another record, and its old record is used for another route later.
Before that, the counters of the old record are added to the account of its prefix and set to zero
(`fold`), so a count never moves to another prefix. What a prefix has carried is its account and
the counters of its present record.

For windows of time the counters have a history (`routed.dataplane.history`), and each fold is kept
as long as the samples from before it: so what a record has counted in a window is divided among
the prefixes that it belonged to.

Record 0 stands for everything without a record of its own: packets that no route covers, and
routes beyond the number that has counters.

Bounds: ACCOUNTS_MAX accounts. The one that was not added to for the longest time is given up
then, and its figures go to `given_up`. FOLDS_MAX folds; windows from before the first one that is
given up are not possible any more.
"""

from __future__ import annotations

import heapq
import operator
from collections import deque
from collections.abc import Callable, Generator
from itertools import islice

from routed.dataplane.figures import NOTHING, Figures
from routed.dataplane.history import CounterHistory
from routed.dataplane.layout import ROUTE_BYTES
from routed.dataplane.windows import Fold, RouteWindow, divide, rates
from routed.model.prefix import Prefix

__all__ = ["ACCOUNTS_MAX", "FOLDS_MAX", "RouteAccounts"]

ACCOUNTS_MAX = 65_536
"""About 20 MB."""
FOLDS_MAX = 65_536
"""In the last minute; about 20 MB."""

_LONGS = ROUTE_BYTES // 8
_SLICE = 32_768
"""Records that are looked at between two turns of the event loop: 10 ms."""


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
        self.given_up = NOTHING
        """Of prefixes whose accounts were given up."""
        self._history = CounterHistory(memory)
        self._folds: deque[Fold] = deque()
        self._folded = 0
        """Number of folds, with those that were given up."""
        self._complete_from = 0
        """Number of the first sample whose later folds are all there."""

    @property
    def accounts(self) -> dict[Prefix, Figures]:
        """What former records of each prefix have carried."""
        return self._accounts

    def clear(self) -> None:
        """Set all counters to zero.

        What a program counts at the same time is counted before, or afterwards; of a packet's two
        figures one may be before and the other afterwards.
        """
        self._longs[:] = memoryview(bytes(self._longs.nbytes)).cast("Q")
        self._history.forget()
        self._folds.clear()

    def begin_again(self) -> None:
        """Forget what was counted, of former records, too."""
        self.clear()
        self._accounts.clear()
        self.given_up = NOTHING

    def counted(self, record: int) -> Figures:
        """Return the counters of a record."""
        if record >= self._records:
            return NOTHING
        return Figures(*self._longs[_LONGS * record : _LONGS * (record + 1)].tolist())

    def fold(self, record: int, prefix_of: Callable[[int], Prefix]) -> None:
        """Add the counters of a record to the account of its prefix, and set them to zero.

        Args:
            record: no program finds it any more, and none is under way that did.
            prefix_of: returns the prefix of a record; called if it has counted anything.
        """
        figures = self.counted(record)
        if figures == NOTHING:
            return
        for at in range(_LONGS * record, _LONGS * (record + 1)):
            self._longs[at] = 0
        prefix = prefix_of(record)
        self._remember(Fold(self._history.number, record, prefix, figures))
        # Last in order again, as the account that was added to last.
        self._accounts[prefix] = self._accounts.pop(prefix, NOTHING).plus(figures)
        if len(self._accounts) > self._accounts_max:
            oldest = next(iter(self._accounts))
            self.given_up = self.given_up.plus(self._accounts.pop(oldest))

    def _remember(self, fold: Fold) -> None:
        self._folded += 1
        self._folds.append(fold)
        if len(self._folds) > FOLDS_MAX:
            self._complete_from = self._folds.popleft().sample + 1

    # --- windows of time

    def sample(self, now: float) -> None:
        """Keep the present counters, for windows that begin now.

        Args:
            now: seconds, monotonic.

        Cost: as `CounterHistory.sample`.
        """
        self._history.sample(now)
        while self._folds and self._folds[0].sample < self._history.oldest:
            self._folds.popleft()

    def carried_since(
        self, since: float, prefix_of: Callable[[int], Prefix]
    ) -> Generator[None, None, RouteWindow | None]:
        """Find what each prefix has carried in a window, in steps.

        Args:
            since: seconds, monotonic; the window begins with a sample at this moment or before.
            prefix_of: returns the prefix of a record.

        Returns:
            None if there is no sample yet.
        """
        window = self._history.window(since, not_before=self._complete_from)
        if window is None:
            return None
        known = self._folded
        folds = [fold for fold in self._folds if fold.sample >= window.number]

        def owner(record: int) -> Prefix:
            # Between two steps a record may be folded, and used for another prefix.
            later = islice(reversed(self._folds), self._folded - known)
            former = [fold.prefix for fold in later if fold.record == record]
            return former[-1] if former else prefix_of(record)

        return (yield from divide(window, folds, owner))

    def rates_of(self, prefix: Prefix, record: int) -> list[tuple[float, Figures]]:
        """Return what a prefix has carried between two samples each, oldest first.

        Args:
            prefix: with or without a route.
            record: its present one; 0 for none.

        Returns:
            Seconds between the samples, and the figures; one pair less than there are samples.
        """
        folds = [fold for fold in self._folds if fold.sample >= self._complete_from]
        records = {fold.record for fold in folds if fold.prefix == prefix}
        if 0 < record < self._records:
            records.add(record)
        parts = [
            rates(
                self._history.values_of(ROUTE_BYTES * number, ROUTE_BYTES),
                self._history.oldest,
                [fold for fold in folds if fold.record == number],
                prefix,
                is_last_owner=number == record,
            )
            for number in records
        ]
        return [
            (
                parts_of_interval[0][0],
                Figures(*map(sum, zip(*(part[1] for part in parts_of_interval), strict=True))),
            )
            for parts_of_interval in zip(*parts, strict=True)
        ]

    def largest(self, count: int, *, by_packets: bool = False) -> Generator[None, None, list[int]]:
        """Find the records with the most bytes, in steps; returns them, the largest first.

        Args:
            count: how many.
            by_packets: whether packets decide instead of bytes.

        Cost: 0.3 us for each record; a step looks at 32,768.
        """
        found: list[tuple[int, int]] = []
        kind = 0 if by_packets else 1
        for first in range(1, self._records, _SLICE):
            end = min(first + _SLICE, self._records)
            part = self._longs[_LONGS * first : _LONGS * end]
            sums = map(operator.add, part[kind::_LONGS].tolist(), part[kind + 2 :: _LONGS].tolist())
            found = heapq.nlargest(count, [*found, *zip(sums, range(first, end), strict=True)])
            yield
        return [record for size, record in found if size]
