"""What the engine wants in the kernel, what it has said of it, and what became of it. Pure.

    decision --want / want_no_more--> FibWishes --take_update--> parent
                                         ^--------- progress ----- parent

A wish that changes back before it was said is never said. Each update carries a serial; the parent
reports up to which serial it has tried everything, and which routes failed, so a route's state
needs no message of its own: it is installed when its serial was reached and it is not among the
failures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from routed.model.fib import FibCounters, FibFailure
from routed.model.prefix import Prefix
from routed.model.route import FibRoute

__all__ = ["UPDATE_ROUTES_MAX", "FibUpdateBatch", "FibWishes", "Wish"]

UPDATE_ROUTES_MAX = 500
"""Routes in one update: well under the frame limit with eight next hops each."""


@dataclass(slots=True)
class Wish:
    """One wanted route and when it was said."""

    route: FibRoute
    serial: int
    """Of the update that carried it; 0 while it has not been said."""


@dataclass(frozen=True, slots=True)
class FibUpdateBatch:
    """The next thing to say."""

    serial: int
    install: tuple[FibRoute, ...]
    remove: tuple[tuple[int, Prefix], ...]


class FibWishes:
    """The wanted kernel routes of one table, by prefix."""

    def __init__(self) -> None:
        self.counters = FibCounters()
        """The parent's, as last told."""
        self._wishes: dict[Prefix, Wish] = {}
        self._unsaid: dict[Prefix, None] = {}
        self._unsaid_removals: dict[tuple[int, Prefix], None] = {}
        self._failures: dict[Prefix, str] = {}
        self._serial = 0
        self._applied_serial = 0

    def __len__(self) -> int:
        return len(self._wishes)

    def want(self, route: FibRoute) -> None:
        """Want a route, instead of what was wanted for its prefix before."""
        prefix = route.prefix
        wish = self._wishes.get(prefix)
        if wish is not None and wish.route == route:
            return
        if wish is not None and wish.route.table_id != route.table_id:
            self.want_no_more(prefix)
        # A removal that was not said yet is overtaken: the new value replaces what is there.
        self._unsaid_removals.pop((route.table_id, prefix), None)
        self._wishes[prefix] = Wish(route, 0)
        self._unsaid[prefix] = None

    def want_no_more(self, prefix: Prefix) -> None:
        """Want no route for a prefix; no matter if none was wanted."""
        wish = self._wishes.pop(prefix, None)
        self._failures.pop(prefix, None)
        if wish is not None:
            # Also when it was never said: an earlier value of the prefix may have been.
            self._unsaid.pop(prefix, None)
            self._unsaid_removals[wish.route.table_id, prefix] = None

    @property
    def has_unsaid(self) -> bool:
        """Whether `take_update` has something."""
        return bool(self._unsaid or self._unsaid_removals)

    def take_update(self) -> FibUpdateBatch | None:
        """The next update to send; None when everything was said."""
        if not self.has_unsaid:
            return None
        self._serial += 1
        removals = tuple(itertools.islice(self._unsaid_removals, UPDATE_ROUTES_MAX))
        for key in removals:
            del self._unsaid_removals[key]
        install = []
        for prefix in list(itertools.islice(self._unsaid, UPDATE_ROUTES_MAX - len(removals))):
            del self._unsaid[prefix]
            wish = self._wishes[prefix]
            wish.serial = self._serial
            install.append(wish.route)
        return FibUpdateBatch(self._serial, tuple(install), removals)

    def take_first_update(self) -> FibUpdateBatch:
        """The first update of an engine's life, sent even when nothing is wanted: it says "I have
        decided", on which the daemon's readiness waits."""
        batch = self.take_update()
        if batch is None:
            self._serial += 1
            batch = FibUpdateBatch(self._serial, (), ())
        return batch

    def progress(
        self,
        applied_serial: int,
        failures: Iterable[FibFailure],
        recovered: Iterable[tuple[int, Prefix]],
        counters: FibCounters,
    ) -> None:
        """Take in what the parent reports."""
        self._applied_serial = applied_serial
        for _, prefix in recovered:
            self._failures.pop(prefix, None)
        for failure in failures:
            if failure.prefix in self._wishes:
                self._failures[failure.prefix] = failure.reason
        self.counters = counters

    def is_pending(self, prefix: Prefix) -> bool:
        """Whether the kernel has not answered for the wanted route yet."""
        wish = self._wishes[prefix]
        return wish.serial == 0 or wish.serial > self._applied_serial

    def failure_of(self, prefix: Prefix) -> str:
        """Why the kernel does not have the route; empty when it did not fail."""
        return self._failures.get(prefix, "")

    def __contains__(self, prefix: Prefix) -> bool:
        return prefix in self._wishes

    def prefixes(self) -> Sequence[Prefix]:
        """Every prefix with a wish, sorted.

        Cost: a sort of the whole table; for dumps, not for hot paths.
        """
        return sorted(self._wishes)

    def route(self, prefix: Prefix) -> FibRoute | None:
        """What is wanted for a prefix now."""
        wish = self._wishes.get(prefix)
        return wish.route if wish else None
