"""Several routes of one kernel key, and foreign ones in the place of ours: what is shown, and what
is there in the end."""

from __future__ import annotations

import pytest

from routed.fib.routes.ownership import KernelRoute
from tests.unit.fib.test_fib_tables import A, B, Bench, C, via

OPENR = 99
OURS, THEIRS, STRAY = via("192.0.2.1"), via("192.0.2.88"), via("192.0.2.66")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.dump()
    bench.fib_tables.open_gate()
    for route in (A, B, C):
        bench.set_desired(route, OURS)
    bench.reconcile()
    return bench


def notify(
    bench: Bench, route: KernelRoute, *, is_removed: bool = False, is_replacing: bool = False
) -> str:
    """What is logged as drift."""
    drift = bench.fib_tables.route_changed(
        route, bench.now, is_removed=is_removed, is_replacing=is_replacing
    )
    return "" if drift is None else drift.what


def shadowed(bench: Bench) -> dict[str, int]:
    """Routes that lose, and the protocol of the winner."""
    tables = [bench.fib_tables.fib_table(route.table_key) for route in (A, C)]
    return {
        str(fib_table.table_key.key(key).prefix): fib_table.preferred_foreign._current[key].protocol
        for fib_table in tables
        for key in fib_table.preferred_foreign._current
    }


@pytest.mark.parametrize("route", [A, C])
def test_a_foreign_route_in_the_place_of_ours_is_its_failure_until_it_goes(
    bench: Bench, route: object
) -> None:
    assert isinstance(route, type(A))
    foreign = bench.kernel.put(route, THEIRS, OPENR)
    assert notify(bench, foreign, is_replacing=True) == "deleted"
    bench.reconcile()
    assert "protocol openr holds this prefix" in bench.failure_of(route)
    assert bench.kernel.routes[route] == foreign
    bench.dump()
    bench.reconcile()
    assert bench.fib_tables.totals == (3, 2, 1, 0)
    bench.kernel.take_out(foreign)
    notify(bench, foreign, is_removed=True)
    bench.reconcile()
    assert bench.kernel.stack(route) == [KernelRoute(route, 205, OURS)]
    assert bench.fib_tables.totals == (3, 3, 0, 0)


def test_one_that_came_and_went_at_once_leaves_ours_installed(bench: Bench) -> None:
    foreign = bench.kernel.put(A, THEIRS, OPENR)
    bench.kernel.take_out(foreign)
    notify(bench, foreign, is_replacing=True)
    notify(bench, foreign, is_removed=True)
    bench.reconcile()
    assert bench.kernel.ours()[A] == OURS


def test_a_route_of_our_protocol_in_the_place_of_a_foreign_one_ends_its_failure(
    bench: Bench,
) -> None:
    notify(bench, bench.kernel.put(A, THEIRS, OPENR), is_replacing=True)
    bench.reconcile()
    notify(bench, bench.kernel.put(A, STRAY, 205), is_replacing=True)
    bench.reconcile()
    assert bench.failure_of(A) == ""
    assert bench.kernel.stack(A) == [KernelRoute(A, 205, OURS)]


@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "found by a dump"])
def test_a_foreign_route_before_ours_wins_and_one_behind_does_not(
    bench: Bench, is_noticed: bool
) -> None:
    first = bench.kernel.prepend(A, THEIRS, OPENR)
    second = bench.kernel.append(B, THEIRS, OPENR)
    for foreign in (first, second) if is_noticed else ():
        notify(bench, foreign)
    for _ in range(2):
        if not is_noticed:
            bench.dump()
        bench.reconcile()
        assert shadowed(bench) == {"10.1.0.0/16": OPENR}
        assert bench.fib_tables.totals == (3, 3, 0, 0)
        assert [route.protocol for route in bench.kernel.stack(A)] == [OPENR, 205]
        assert [route.protocol for route in bench.kernel.stack(B)] == [205, OPENR]
    for foreign in (first, second):
        bench.kernel.take_out(foreign)
        if is_noticed:
            notify(bench, foreign, is_removed=True)
    if not is_noticed:
        bench.dump()
    bench.reconcile()
    assert shadowed(bench) == {}
    assert bench.fib_tables.totals == (3, 3, 0, 0)
    assert bench.kernel.ours() == {A: OURS, B: OURS, C: OURS}


@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "found by a dump"])
def test_an_ipv6_route_with_a_foreign_one_of_its_priority_is_not_used_alone(
    bench: Bench, is_noticed: bool
) -> None:
    """Linux uses whichever has a gateway that answers: no order decides."""
    foreign = bench.kernel.append(C, via("2001:db8::88"), OPENR)
    if is_noticed:
        notify(bench, foreign)
    for _ in range(2):
        if not is_noticed:
            bench.dump()
        bench.reconcile()
        assert shadowed(bench) == {str(C.prefix): OPENR}
        assert bench.fib_tables.totals == (3, 3, 0, 0)
    told = [preferred for _, preferred in bench.fib_tables.pop_preferred(10)]
    assert [preferred.is_beside for preferred in told if preferred is not None] == [True]
    bench.kernel.take_out(foreign)
    if is_noticed:
        notify(bench, foreign, is_removed=True)
    else:
        bench.dump()
    bench.reconcile()
    assert shadowed(bench) == {}
    assert [preferred for _, preferred in bench.fib_tables.pop_preferred(10)] == [None]
    assert bench.kernel.ours() == {A: OURS, B: OURS, C: OURS}


def test_an_ipv6_route_that_was_there_beside_a_foreign_one_at_the_start_is_told_apart() -> None:
    bench = Bench()
    bench.kernel.put(C, OURS, 205)
    bench.kernel.append(C, THEIRS, OPENR)
    bench.set_desired(C, OURS)
    bench.dump()
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert shadowed(bench) == {str(C.prefix): OPENR}


def test_another_wish_never_overwrites_the_foreign_route_before_ours(bench: Bench) -> None:
    first = bench.kernel.prepend(A, THEIRS, OPENR)
    second = bench.kernel.append(B, THEIRS, OPENR)
    for foreign in (first, second):
        notify(bench, foreign)
    bench.reconcile()
    for route in (A, B):
        bench.set_desired(route, via("192.0.2.2"))
    bench.reconcile()
    assert first in bench.kernel.stack(A)
    assert "protocol openr holds this prefix" in bench.failure_of(A)
    assert shadowed(bench) == {}, "ours is not there"
    assert bench.kernel.stack(B) == [KernelRoute(B, 205, via("192.0.2.2")), second]
    assert bench.failure_of(B) == ""


def test_a_wish_that_changes_before_the_look_overwrites_nobody(bench: Bench) -> None:
    foreign = bench.kernel.prepend(A, THEIRS, OPENR)
    notify(bench, foreign)
    bench.set_desired(A, via("192.0.2.2"))
    bench.reconcile()
    assert foreign in bench.kernel.stack(A)


def test_a_foreign_route_that_takes_the_first_place_again_leaves_ours_behind(bench: Bench) -> None:
    notify(bench, bench.kernel.prepend(A, THEIRS, OPENR))
    bench.reconcile()
    notify(bench, bench.kernel.put(A, STRAY, 12), is_replacing=True)
    bench.reconcile()
    assert shadowed(bench) == {"10.1.0.0/16": 12}
    assert bench.kernel.behind[A] == [KernelRoute(A, 205, OURS)]


@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "found by a dump"])
@pytest.mark.parametrize("strays", [1, 3])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_strays_of_our_own_protocol_are_removed(
    bench: Bench, is_noticed: bool, strays: int, place: str
) -> None:
    add = bench.kernel.prepend if place == "before" else bench.kernel.append
    for number in range(strays):
        stray = add(A, via(f"192.0.2.{66 + number}"), 205)
        if is_noticed:
            notify(bench, stray)
    if not is_noticed:
        bench.dump()
    bench.reconcile()
    assert bench.kernel.stack(A) == [KernelRoute(A, 205, OURS)]
    writes = len(bench.kernel.writes)
    assert bench.dump() == []
    bench.reconcile()
    assert len(bench.kernel.writes) == writes
    assert bench.fib_tables.totals == (3, 3, 0, 0)


def test_strays_of_a_route_that_is_wanted_no_longer_go_with_it(bench: Bench) -> None:
    for last in (66, 67):
        notify(bench, bench.kernel.prepend(A, via(f"192.0.2.{last}"), 205))
    bench.fib_tables.withdraw(254, A.prefix.family, [A.prefix.as_int])
    bench.reconcile()
    assert bench.kernel.stack(A) == []
    assert bench.fib_tables.kernel_count == 2


@pytest.mark.parametrize("place", ["before", "behind"])
def test_what_an_earlier_life_left_twice_is_there_once(place: str) -> None:
    bench = Bench()
    bench.kernel.put(A, OURS, 205)
    (bench.kernel.prepend if place == "before" else bench.kernel.append)(A, STRAY, 205)
    bench.dump()
    bench.set_desired(A, OURS)
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert bench.kernel.stack(A) == [KernelRoute(A, 205, OURS)]
