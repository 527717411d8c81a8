"""The books of the kernel FIB, one for each table and family, and what concerns them all. Pure.

    engine   --want / withdraw / open_gate------------>  +--------+  --plan-->  batches
    kernel   --begin_dump, route_changed ------------->  | Ledger |
    apply    --record (refusals of each batch) ------->  +--------+  --take_report-->  engine

One owner of the whole state, no I/O, `now` passed in: `sync.py` runs it against the kernel, the
tests against a fake one.

The gate: nothing is removed before the engine of this session has said that it is in sync. What an
earlier life left is adopted when it is equal to what is wanted, and swept after the gate when
nobody asked for it. When an engine dies, its wishes stay and are defended; the next engine claims
them one by one, and those still unclaimed at its gate go.

Invariants:
    A foreign route is in no tracker, only (when it sits on a key of ours) among a book's rivals.
    No removal is planned while a write is pending anywhere: a destination that moves from one
    prefix, or table, to another keeps a path.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from routed.fib.routes.book import Drift, LedgerCounts, RouteBook
from routed.fib.routes.ownership import KernelRoute, Ownership, RouteKey, RouteSpace, RouteValue
from routed.fib.routes.plan import FibBatch, Refusals
from routed.fib.routes.shadows import SHADOWS_MAX, Shadow
from routed.model.columns import KeyColumn
from routed.model.prefix import Address, Family
from routed.model.route import NextHop

__all__ = ["BATCH_OPERATIONS", "DumpComparison", "Ledger", "Report", "SeenRoute"]

BATCH_OPERATIONS = 400
"""Operations in one send: about 1.5 ms inside the kernel, so that link events and signals are
served in between (a 256 KB send was measured to block for 227 ms)."""


class Report(NamedTuple):
    """Failures, and ends of failures."""

    failures: dict[RouteKey, str]
    recovered: tuple[RouteKey, ...]


class SeenRoute(NamedTuple):
    """Everything that a dump says of a route but its prefix; many routes share one."""

    space: RouteSpace
    protocol: int
    value: RouteValue
    source: Address | None = None
    is_encapsulated: bool = False
    """Both as in `KernelRoute`."""


class Ledger:
    """Desired and kernel FIB with failures, rivals and the gate."""

    def __init__(self, ownership: Ownership) -> None:
        self.is_over_dead_link: Callable[[RouteValue], bool] = lambda _value: False
        """Whether a route cannot be in the kernel for want of its link; whoever knows sets it."""
        self.is_link_route: Callable[[RouteValue], bool] = lambda value: value.is_link_route
        """Whether gateways of other routes may stand on a route; the same."""
        self.counts = LedgerCounts()
        self._ownership = ownership
        self._books: dict[RouteSpace, RouteBook] = {}
        self._dump: DumpComparison | None = None
        self._is_gate_open = False
        self._is_coupled = True

    # --- what the engine wants

    @property
    def ownership(self) -> Ownership:
        """What makes a route ours."""
        return self._ownership

    def change_ownership(self, ownership: Ownership) -> None:
        """Follow a reload: other tables or another priority from now on.

        Routes under the old keys stay in the book as no longer wanted and are removed by their old
        keys; the engine asks for the new ones.
        """
        if ownership.protocol != self._ownership.protocol:
            raise ValueError("the protocol number cannot change while the daemon runs")
        self._ownership = ownership
        for space, book in self._books.items():
            if not ownership.holds(space):
                book.withdraw(book.desired_keys())

    def begin_session(self) -> None:
        """A new engine starts: close the gate; earlier wishes hold until it has spoken."""
        self._is_gate_open = False
        for book in self._books.values():
            book.begin_session()

    def want(
        self, table_id: int, family: Family, keys: Sequence[int], values: Sequence[RouteValue]
    ) -> None:
        """Want routes of one table (`Prefix.as_int` each); equal to what is there costs nothing."""
        self.book(self._ownership.space_of(table_id, family)).want(keys, values)

    def withdraw(self, table_id: int, family: Family, keys: Iterable[int]) -> None:
        """Want routes no longer."""
        book = self._books.get(self._ownership.space_of(table_id, family))
        if book is not None:
            book.withdraw(keys)

    def open_gate(self) -> None:
        """The engine is in sync: what nobody claimed may go."""
        for book in self._books.values():
            book.end_claims()
        self._is_gate_open = True

    def want_nothing(self) -> None:
        """The daemon stops and takes its routes along."""
        for book in self._books.values():
            book.withdraw(book.desired_keys())
        self.open_gate()

    @property
    def is_coupled(self) -> bool:
        """Whether what is wanted belongs in the kernel."""
        return self._is_coupled

    def decouple(self) -> None:
        """Take every route of ours out of the kernel, and keep in mind what is wanted."""
        self._is_coupled = False
        for book in self._books.values():
            book.decouple()

    def couple(self) -> None:
        """Put into the kernel what is wanted now."""
        self._is_coupled = True
        for book in self._books.values():
            book.couple()

    # --- what the kernel says

    def begin_dump(self, table_id: int, family: Family, *, is_thorough: bool) -> DumpComparison:
        """Compare a dump of one table and family, as it comes in, with the books.

        Args:
            table_id: of the dump.
            family: of the dump.
            is_thorough: remember every key, so that what is missing is known by name. A dump that
                is not says only *that* something is missing, and takes no memory.
        """
        books = [
            book
            for space, book in self._books.items()
            if space.table_id == table_id and space.family is family
        ]
        self._dump = DumpComparison(self, books, is_thorough=is_thorough)
        return self._dump

    def end_dump(self) -> None:
        """No dump is being compared any more, finished or not."""
        self._dump = None

    def route_changed(
        self, route: KernelRoute, now: float, *, is_removed: bool, is_replacing: bool = False
    ) -> Drift | None:
        """Take over one notification about a route, ours or foreign, that we did not cause.

        Args:
            route: as it is, or was.
            now: the time.
            is_removed: whether it is there no longer.
            is_replacing: whether it has taken the place of another one of its key.
        """
        space, key = route.key.space, route.key.prefix.as_int
        if self._dump is not None:
            self._dump.overtaken(space, key)
        if self._ownership.is_shadow(space, route.protocol):
            self._shadow_changed(space, key, route.protocol, is_removed=is_removed)
            return None
        if self._ownership.is_rival(space, route.protocol):
            book = self.book(space)
            if is_removed:
                book.rival_gone(key)
                return None
            return book.rival_found(key, route.protocol, now, is_replacing=is_replacing)
        if not self._ownership.is_ours(space, route.protocol):
            return None
        book = self.book(space)
        if is_removed:
            return next(iter(book.gone([key], now)), None)
        if is_replacing:
            book.rival_replaced(key)
            if space.priority < self._ownership.priority and not space.tos:
                self._shadow_changed(space, key, route.protocol, is_removed=True)
        return book.found(key, route.value, now, is_alone=is_replacing)

    def _shadow_changed(
        self, space: RouteSpace, key: int, protocol: int, *, is_removed: bool
    ) -> None:
        shadowed = self._ownership.space_of(space.table_id, space.family)
        if self._dump is not None:
            self._dump.overtaken(shadowed, key)
        shadows = self.book(shadowed).shadows
        if is_removed:
            shadows.gone(key, space.priority)
        else:
            shadows.found(key, space.priority, protocol)

    def is_contested(self, key: RouteKey) -> bool:
        """Whether the kernel has a route of ours and a foreign one under this key, or a foreign one
        that wins against ours: it may have more, and only a dump shows what is left."""
        book = self._books.get(self._ownership.space_of(key.table_id, key.prefix.family))
        if book is None or key.tos or key.priority > self._ownership.priority:
            return False
        number = key.prefix.as_int
        return number in book.shadows or book.is_contested(number)

    @property
    def has_contested(self) -> bool:
        """Whether foreign routes win against ours, or hold their keys."""
        return any(len(book.shadows) or book.rival_keys() for book in self._books.values())

    def retry_everything(self) -> None:
        """A link or an address changed: what failed for want of one may work now."""
        for book in self._books.values():
            book.retry_everything()

    def rewrite(self, addresses: Container[Address]) -> None:
        """These are addresses of this host no longer: as `RouteBook.rewrite`."""
        for space, book in self._books.items():
            for key in book.rewrite(addresses) if space.family is Family.IPV4 else ():
                if self._dump is not None:
                    self._dump.overtaken(space, key)

    def retry_through(self, nexthop_ids: Container[int]) -> None:
        """These nexthop objects are there now: what failed for want of one may work."""
        for book in self._books.values():
            book.retry_if(lambda value: value.nexthop_id in nexthop_ids)

    def retry_covered(
        self,
        is_covered: Callable[[Address], bool],
        hops_of: Callable[[RouteValue], Iterable[NextHop]],
    ) -> None:
        """Something that gateways may stand on is in the kernel: what failed for want of it may
        work now.

        Args:
            is_covered: whether a gateway may stand on it.
            hops_of: where a route goes, through an object or not.
        """
        for book in self._books.values():
            book.retry_if(
                lambda value: any(
                    hop.via is not None and is_covered(hop.via) for hop in hops_of(value)
                )
            )

    def book(self, space: RouteSpace) -> RouteBook:
        """The book of a space; an empty one when there was none."""
        book = self._books.get(space)
        if book is None:
            book = self._books[space] = RouteBook(
                space,
                self.counts,
                lambda value: self.is_over_dead_link(value),
                lambda value: self.is_link_route(value),
            )
            if not self._is_coupled:
                book.decouple()
        return book

    # --- what is to be done

    @property
    def has_link_routes(self) -> bool:
        """Whether `plan_link_routes` may have something."""
        return any(book.has_link_routes for book in self._books.values())

    def plan_link_routes(self, limit: int = BATCH_OPERATIONS) -> list[FibBatch]:
        """The next writes of routes that gateways may stand on: they come before all else."""
        batches: list[FibBatch] = []
        for book in self._books.values():
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0:
                batches += book.plan_link_routes(room)
        return batches

    def plan(self, now: float, limit: int = BATCH_OPERATIONS) -> list[FibBatch]:
        """The next operations; empty when there is nothing to do now."""
        batches: list[FibBatch] = []
        for book in self._books.values():
            book.release_due(now)
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0:
                batches += book.plan_writes(room)
        if batches or (self._is_coupled and not self._is_gate_open):
            return batches
        for book in self._books.values():
            room = limit - sum(len(batch.keys) for batch in batches)
            if room > 0:
                batches += book.plan_removals(room)
        return batches

    def record(self, batches: Sequence[FibBatch], refusals: Sequence[Refusals], now: float) -> bool:
        """Enter what became of what `plan` returned; nothing may have been entered in between.

        Returns:
            False when the kernel's state is not what we believed and should be read again.
        """
        agrees = [
            self._books[batch.space].record(batch, refused, now)
            for batch, refused in zip(batches, refusals, strict=True)
        ]
        return all(agrees)

    def retry_at(self) -> float:
        """When the next held route becomes due; math.inf when nothing waits."""
        return min((book.retry_at() for book in self._books.values()), default=math.inf)

    # --- what is told

    @property
    def is_settled(self) -> bool:
        """Whether every wish was tried: installed, or failed with a reason."""
        return not any(book.tracker.wanted for book in self._books.values())

    @property
    def leftovers(self) -> int:
        """Routes of an earlier life that nobody has claimed or swept yet."""
        return sum(book.leftover_count for book in self._books.values())

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Routes desired, installed, failed, pending."""
        books = self._books.values()
        desired = sum(book.desired_count for book in books)
        installed = sum(len(book.tracker.same) for book in books)
        failed = self.failed_count
        return desired, installed, failed, desired - installed - failed

    @property
    def failed_count(self) -> int:
        """Wishes that failed and have not been granted since."""
        return sum(book.failed_count for book in self._books.values())

    @property
    def stale_count(self) -> int:
        """Routes of ours in the kernel that nobody wants: they wait for the gate, or their turn."""
        return sum(len(book.tracker.unwanted) for book in self._books.values())

    @property
    def is_gate_open(self) -> bool:
        """Whether leftovers may be removed."""
        return self._is_gate_open

    def legs(self) -> set[tuple[Address, int]]:
        """Gateways and their links that kernel routes of ours name; cost as of `RouteBook.legs`."""
        return set().union(*(book.legs() for book in self._books.values()))

    def nexthop_ids(self) -> set[int]:
        """Nexthop objects that routes go through, or are to; cost as of `RouteBook.nexthop_ids`."""
        return set().union(*(book.nexthop_ids() for book in self._books.values()))

    @property
    def kernel_count(self) -> int:
        """Routes of ours that are in the kernel."""
        return sum(book.tracker.kernel_count for book in self._books.values())

    def take_report(self, limit: int) -> Report:
        """What the engine should know of failures and does not yet, at most so many routes."""
        failures: dict[RouteKey, str] = {}
        recovered: list[RouteKey] = []
        for book in self._books.values():
            room = limit - len(failures) - len(recovered)
            failed, ended = book.take_unsaid(room)
            failures |= {book.space.key(key): reason for key, reason in failed.items()}
            recovered += [book.space.key(key) for key in ended]
        return Report(failures, tuple(recovered))

    def take_news(self) -> Report:
        """What has newly failed, or fails no longer, since the last call: for the log."""
        failures: dict[RouteKey, str] = {}
        recovered: list[RouteKey] = []
        for book in self._books.values():
            failures |= {book.space.key(key): reason for key, reason in book.news.items()}
            recovered += [book.space.key(key) for key in book.recovered]
            book.news, book.recovered = {}, []
        return Report(failures, tuple(recovered))

    @property
    def shadowed_count(self) -> int:
        """Routes of ours to which the kernel prefers a foreign one."""
        return sum(len(book.shadows) for book in self._books.values())

    def take_preferred(self, limit: int) -> list[tuple[RouteKey, Shadow | None]]:
        """What the engine should know of foreign routes that the kernel prefers to ours, at most so
        many routes; None where that has ended."""
        changes: list[tuple[RouteKey, Shadow | None]] = []
        for book in self._books.values():
            unsent = book.shadows.take_unsent(limit - len(changes))
            changes += [(book.space.key(key), shadow) for key, shadow in unsent]
        return changes

    def take_shadows(self) -> list[tuple[RouteKey, Shadow]]:
        """Routes of ours that a foreign one wins against since the last call: for the log."""
        news = []
        for book in self._books.values():
            news += [(book.space.key(shadow.key), shadow) for shadow in book.shadows.news]
            book.shadows.news.clear()
        self.counts.shadowed += len(news)
        return news


class DumpComparison:
    """One dump of one table and family, held against the books page by page.

    A route that is as it should be is counted and forgotten. Changes that notifications tell while
    the dump is under way are newer than the dump: their keys are left out of the judgement.
    """

    def __init__(self, ledger: Ledger, books: list[RouteBook], *, is_thorough: bool) -> None:
        self._ledger = ledger
        self._books = {book.space: book for book in books}
        self._is_thorough = is_thorough
        self._matched: dict[RouteSpace, int] = dict.fromkeys(self._books, 0)
        self._odd: dict[RouteSpace, dict[RouteValue, list[Sequence[int]]]] = {}
        self._rivals: dict[RouteSpace, dict[int, int]] = {}
        self._seen: Counter[RouteSpace] = Counter()
        """Routes of ours."""
        self._shadows: dict[RouteSpace, dict[int, dict[int, int]]] = {}
        """By the space of ours: prefixes, and the foreign priorities and protocols."""
        self._overtaken: dict[RouteSpace, set[int]] = {}
        if is_thorough:
            for book in books:
                book.tracker.clear_marks()

    def overtaken(self, space: RouteSpace, key: int) -> None:
        """A notification told of this key meanwhile."""
        self._overtaken.setdefault(space, set()).add(key)

    def take(self, seen: SeenRoute, keys: Sequence[int]) -> None:
        """A run of routes that differ in their prefix only.

        Cost: 0.05 us for each that is as it should be, in Python alone 0.1 us.
        """
        space, protocol, value, *_ = seen
        ownership = self._ledger.ownership
        if ownership.is_rival(space, protocol):
            self._rivals.setdefault(space, {}).update(dict.fromkeys(keys, protocol))
        elif ownership.is_shadow(space, protocol):
            self._take_shadows(space, protocol, keys)
        if not ownership.is_ours(space, protocol):
            return
        self._seen[space] += len(keys)
        strange, book = keys, self._books.get(space)
        if book is not None:
            if book.tracker.same:
                strange = book.tracker.differing(keys, value)
            self._matched[space] += len(keys) - len(strange)
            if self._is_thorough:
                book.tracker.mark(keys)
        if strange:
            self._odd.setdefault(space, {}).setdefault(value, []).append(strange)

    def _take_shadows(self, space: RouteSpace, protocol: int, keys: Sequence[int]) -> None:
        shadowed = self._ledger.ownership.space_of(space.table_id, space.family)
        shadows = self._shadows.setdefault(shadowed, {})
        for key in itertools.islice(keys, max(0, SHADOWS_MAX - len(shadows))):
            shadows.setdefault(key, {})[space.priority] = protocol

    def finish(self, now: float) -> list[Drift] | None:
        """The dump is complete: correct the books.

        Returns:
            Routes of ours that were not as we had left them; None when something is missing and
            only a thorough dump can tell what.
        """
        if not self._is_thorough and any(map(self._lacks_something, self._books.values())):
            return None
        drift: list[Drift | None] = []
        if self._is_thorough:
            for book in self._books.values():
                missing = self._judged(book.space, book.tracker.unmarked())
                drift += book.gone(missing, now)
        for space, odd in self._odd.items():
            book = self._ledger.book(space)
            for value, pages in odd.items():
                keys = self._judged(space, KeyColumn.joined(pages))
                drift += book.found_all(keys, value, now)
            if self._seen[space] > book.tracker.kernel_count:
                drift += book.found_several(self._judged(space, _repeated(odd.values())), now)
        self._settle_rivals(now)
        for space in self._books.keys() | self._shadows.keys():
            shadows = self._shadows.get(space, {})
            self._ledger.book(space).shadows.settle(shadows, self._overtaken_in(space))
        return [entry for entry in drift if entry is not None]

    def _lacks_something(self, book: RouteBook) -> bool:
        tracker = book.tracker
        if not tracker.kernel_count:
            return False
        pages = itertools.chain.from_iterable(self._odd.get(book.space, {}).values())
        known = sum(map(tracker.kernel_count_of, pages))
        return self._matched[book.space] + known != tracker.kernel_count

    def _settle_rivals(self, now: float) -> None:
        for space in self._books.keys() | self._rivals.keys():
            book = self._ledger.book(space)
            rivals = self._rivals.get(space, {})
            vanished = [key for key in book.rival_keys() if key not in rivals]
            for key in self._judged(space, vanished):
                book.rival_gone(key)
            for key in self._judged(space, list(rivals)):
                book.rival_found(key, rivals[key], now)

    def _judged(self, space: RouteSpace, keys: Sequence[int]) -> Sequence[int]:
        """Those that no notification has overtaken."""
        overtaken = self._overtaken_in(space)
        return [key for key in keys if key not in overtaken] if overtaken else keys

    def _overtaken_in(self, space: RouteSpace) -> set[int]:
        return self._overtaken.get(space, set())


def _repeated(odd: Iterable[Iterable[Sequence[int]]]) -> list[int]:
    """Keys that are there more than once."""
    counts = Counter(key for pages in odd for keys in pages for key in keys)
    return [key for key, count in counts.items() if count > 1]
