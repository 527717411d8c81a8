"""Desired routes of several tables: updates take turns, and each table has its own failures."""

from __future__ import annotations

import pytest

from routed.engine.fib.desired import UPDATE_ROUTES_MAX, DesiredFib, DesiredRoute
from routed.engine.fib.desired_tables import DesiredTables
from routed.engine.fib.window import WINDOW_UPDATES
from routed.imsg.messages import FibProgress, FibUpdate
from routed.model.fib import FibCounters, FibFailure, PreferredRoute
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteType

BLACKHOLE = DesiredRoute(RouteType.BLACKHOLE, ())
A = Prefix.parse("10.1.0.0/16")


def fill(desired: DesiredFib, count: int = 1) -> None:
    keys = [A.as_int + (number << 32) for number in range(count)]
    desired.set_routes(Family.IPV4, keys, [BLACKHOLE] * count)


def table_of(update: FibUpdate | None) -> int:
    assert update is not None
    (table_id,) = {columns.table_id for columns in (*update.install, *update.remove)}
    return table_id


@pytest.fixture
def main() -> DesiredFib:
    return DesiredFib(254)


@pytest.fixture
def tables(main: DesiredFib) -> DesiredTables:
    return DesiredTables(main)


def test_tables_take_turns_and_share_serials_and_the_window(
    main: DesiredFib, tables: DesiredTables
) -> None:
    other = tables.add(100)
    fill(main, 3 * UPDATE_ROUTES_MAX)
    fill(other, WINDOW_UPDATES * UPDATE_ROUTES_MAX)
    updates = [tables.pop_update() for _ in range(WINDOW_UPDATES)]
    assert [table_of(update) for update in updates] == [254, 100, 254, 100, 254, 100, 100, 100]
    assert [update.serial for update in updates if update] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert tables.pop_update() is None, "the window of all tables is full"
    assert tables.has_unsent
    tried = tables.record_progress(FibProgress(2, (), (), FibCounters()))
    assert [update.table_id for update in tried] == [254, 100]
    assert table_of(tables.pop_update()) == 100


def test_a_route_is_pending_failed_and_shadowed_in_its_table_alone(
    main: DesiredFib, tables: DesiredTables
) -> None:
    other = tables.add(100)
    fill(other)
    assert (main.is_pending(A), other.is_pending(A)) == (False, True)
    update = tables.pop_update()
    assert update is not None
    assert (main.is_pending(A), other.is_pending(A)) == (False, True)
    assert main.pending_among(Family.IPV4, {A.as_int}) == set()
    assert other.pending_among(Family.IPV4, {A.as_int}) == {A.as_int}
    failures = (FibFailure(100, A, "no"), FibFailure(254, A, "not here"))
    counters = FibCounters(desired=2)
    tables.record_progress(FibProgress(update.serial, failures, (), counters))
    assert (main.failure_of(A), other.failure_of(A)) == ("not here", "no")
    assert other.counters is main.counters is counters
    tables.record_progress(FibProgress(update.serial, (), ((100, A),), FibCounters()))
    assert (main.failure_of(A), other.failure_of(A)) == ("not here", "")
    preferred = (PreferredRoute(100, A, "static", 0),)
    tables.record_progress(FibProgress(update.serial, (), (), FibCounters(), preferred))
    assert (bool(main.preferred_to(A)), bool(other.preferred_to(A))) == (False, True)


def test_the_start_is_complete_once_all_tables_are(main: DesiredFib, tables: DesiredTables) -> None:
    other = tables.add(100)
    tables.add(101)  # without routes: nothing of it is awaited
    fill(other, UPDATE_ROUTES_MAX + 1)
    first = tables.pop_first_update()
    assert (first.install, first.completes_start) == ((), False)
    fill(main)
    completes = []
    while (update := tables.pop_update()) is not None:
        completes.append((table_of(update), update.completes_start))
    assert completes == [(254, False), (100, False), (100, True)]


def test_a_table_that_goes_before_its_start_is_complete_does_not_hold_it_up(
    tables: DesiredTables,
) -> None:
    other = tables.add(100)
    fill(other)
    assert not tables.pop_first_update().completes_start
    tables.remove(other)
    assert not tables.has_unsent
    update = tables.pop_update()
    assert update is not None
    assert (update.install, update.completes_start) == ((), True)
    assert tables.pop_update() is None
