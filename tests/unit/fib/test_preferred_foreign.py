"""Foreign routes that win against ours: told once each, never touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.fib.routes import preferred_foreign as preferred_foreign_module
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.preferred_foreign import PreferredForeignRoute, PreferredForeignRoutes
from routed.fib.routes.tables import FibTables
from tests.unit.fib.test_fib_tables import BLACKHOLE, A, B, Bench, key, via

STATIC, BIRD = 4, 12
BETTER = key("10.1.0.0/16", 32)


def reported(fib_tables: FibTables) -> list[tuple[str, int, int]]:
    return [
        (str(route.prefix), foreign.priority, foreign.protocol)
        for route, foreign in fib_tables.pop_preferred_foreign()
    ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def notify(bench: Bench, route: KernelRoute, *, is_removed: bool = False) -> None:
    assert bench.fib_tables.route_changed(route, bench.now, is_removed=is_removed) is None


def test_a_better_foreign_route_is_told_once_and_left_alone(bench: Bench) -> None:
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    foreign = bench.kernel.put(BETTER, BLACKHOLE, STATIC)
    notify(bench, foreign)
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, STATIC)]
    notify(bench, foreign)
    bench.dump()
    assert reported(bench.fib_tables) == []
    assert bench.fib_tables.counts.shadowed == 1
    assert bench.kernel.routes[BETTER] == foreign
    assert bench.kernel.ours() == {A: via("192.0.2.1")}, "ours is there for the day it goes"


def test_one_that_was_there_before_our_wish_is_told_with_it(bench: Bench) -> None:
    bench.kernel.put(BETTER, BLACKHOLE, BIRD)
    bench.dump()
    assert reported(bench.fib_tables) == []
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]


def test_one_that_goes_and_comes_back_is_told_again(bench: Bench) -> None:
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    foreign = bench.kernel.put(BETTER, BLACKHOLE, BIRD)
    bench.dump()
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]
    bench.kernel.lose([BETTER])
    notify(bench, foreign, is_removed=True)
    notify(bench, foreign)
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]
    bench.dump()  # it is not there: what was heard is older than this
    notify(bench, foreign)
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]


def test_a_worse_one_another_table_and_another_tos_are_no_shadow(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    for foreign in (
        key("10.1.0.0/16", 300),
        A._replace(priority=32, table_id=100),
        A._replace(priority=32, tos=16),
    ):
        notify(bench, KernelRoute(foreign, BIRD, BLACKHOLE))
    assert reported(bench.fib_tables) == []


def test_news_during_a_dump_is_newer_than_the_dump(bench: Bench) -> None:
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    comparison = bench.fib_tables.begin_dump(254, A.prefix.family, is_thorough=False)
    foreign = KernelRoute(BETTER, BIRD, BLACKHOLE)
    notify(bench, foreign)
    comparison.finish(bench.now)  # it had passed the place before the route came
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]
    notify(bench, foreign)
    assert reported(bench.fib_tables) == []


def test_what_is_decoupled_is_not_shadowed(bench: Bench) -> None:
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    bench.fib_tables.decouple()
    notify(bench, KernelRoute(BETTER, BIRD, BLACKHOLE))
    assert reported(bench.fib_tables) == []
    bench.fib_tables.couple()
    assert reported(bench.fib_tables) == [("10.1.0.0/16", 32, BIRD)]


def test_so_many_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferred_foreign_module, "PREFERRED_FOREIGN_MAX", 3)
    preferred_foreign = PreferredForeignRoutes(lambda _key: True)
    for number in range(5):
        preferred_foreign.found(number, 32, BIRD)
    preferred_foreign.found(2, 20, STATIC)
    assert [foreign.key for foreign in preferred_foreign.news] == [0, 1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans(), st.booleans())),
)
def test_everything_shadowed_has_been_told(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    """By news or by dumps, wished before or after."""
    desired: set[int] = set()
    preferred_foreign = PreferredForeignRoutes(desired.__contains__)
    routes: dict[int, dict[int, int]] = {}
    current: dict[int, PreferredForeignRoute] = {}
    for prefix, priority, is_there, is_desired in steps:
        if is_desired and is_there:
            desired.add(prefix)
            preferred_foreign.desired([prefix])
        elif is_desired:
            desired.discard(prefix)
            preferred_foreign.withdrawn([prefix])
        elif is_there:
            routes.setdefault(prefix, {})[priority] = BIRD
            preferred_foreign.found(prefix, priority, BIRD)
        else:
            routes.get(prefix, {}).pop(priority, None)
            preferred_foreign.gone(prefix, priority)
        routes = {number: held for number, held in routes.items() if held}
        if len(steps) % 2:
            preferred_foreign.reconcile(routes, ())
        current = {number: reported for number, reported in current.items() if number in routes}
        current = {number: reported for number, reported in current.items() if number in desired}
        for told_now in preferred_foreign.news:
            assert told_now.key not in current, "once"
            current[told_now.key] = told_now
            assert told_now.priority == min(routes[told_now.key])
        preferred_foreign.news.clear()
        assert current.keys() == routes.keys() & desired
