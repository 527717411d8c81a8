"""Foreign routes that win against ours: told once each, never touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.fib.routes import shadows as shadows_module
from routed.fib.routes.ledger import Ledger
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.shadows import Shadow, Shadows
from tests.unit.fib.test_route_ledger import BLACKHOLE, A, B, Bench, key, via

STATIC, BIRD = 4, 12
BETTER = key("10.1.0.0/16", 32)


def told(ledger: Ledger) -> list[tuple[str, int, int]]:
    return [
        (str(route.prefix), shadow.priority, shadow.protocol)
        for route, shadow in ledger.take_shadows()
    ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def notify(bench: Bench, route: KernelRoute, *, is_removed: bool = False) -> None:
    assert bench.ledger.route_changed(route, bench.now, is_removed=is_removed) is None


def test_a_better_foreign_route_is_told_once_and_left_alone(bench: Bench) -> None:
    bench.dump()
    bench.want(A, via("192.0.2.1"))
    bench.settle()
    foreign = bench.kernel.put(BETTER, BLACKHOLE, STATIC)
    notify(bench, foreign)
    assert told(bench.ledger) == [("10.1.0.0/16", 32, STATIC)]
    notify(bench, foreign)
    bench.dump()
    assert told(bench.ledger) == []
    assert bench.ledger.counts.shadowed == 1
    assert bench.kernel.routes[BETTER] == foreign
    assert bench.kernel.ours() == {A: via("192.0.2.1")}, "ours is there for the day it goes"


def test_one_that_was_there_before_our_wish_is_told_with_it(bench: Bench) -> None:
    bench.kernel.put(BETTER, BLACKHOLE, BIRD)
    bench.dump()
    assert told(bench.ledger) == []
    bench.want(A, via("192.0.2.1"))
    bench.want(B, via("192.0.2.1"))
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]


def test_one_that_goes_and_comes_back_is_told_again(bench: Bench) -> None:
    bench.dump()
    bench.want(A, via("192.0.2.1"))
    foreign = bench.kernel.put(BETTER, BLACKHOLE, BIRD)
    bench.dump()
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]
    bench.kernel.lose([BETTER])
    notify(bench, foreign, is_removed=True)
    notify(bench, foreign)
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]
    bench.dump()  # it is not there: what was heard is older than this
    notify(bench, foreign)
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]


def test_a_worse_one_another_table_and_another_tos_are_no_shadow(bench: Bench) -> None:
    bench.want(A, via("192.0.2.1"))
    for foreign in (
        key("10.1.0.0/16", 300),
        A._replace(priority=32, table_id=100),
        A._replace(priority=32, tos=16),
    ):
        notify(bench, KernelRoute(foreign, BIRD, BLACKHOLE))
    assert told(bench.ledger) == []


def test_news_during_a_dump_is_newer_than_the_dump(bench: Bench) -> None:
    bench.dump()
    bench.want(A, via("192.0.2.1"))
    comparison = bench.ledger.begin_dump(254, A.prefix.family, is_thorough=False)
    foreign = KernelRoute(BETTER, BIRD, BLACKHOLE)
    notify(bench, foreign)
    comparison.finish(bench.now)  # it had passed the place before the route came
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]
    notify(bench, foreign)
    assert told(bench.ledger) == []


def test_what_is_decoupled_is_not_shadowed(bench: Bench) -> None:
    bench.dump()
    bench.want(A, via("192.0.2.1"))
    bench.ledger.decouple()
    notify(bench, KernelRoute(BETTER, BIRD, BLACKHOLE))
    assert told(bench.ledger) == []
    bench.ledger.couple()
    assert told(bench.ledger) == [("10.1.0.0/16", 32, BIRD)]


def test_so_many_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows_module, "SHADOWS_MAX", 3)
    shadows = Shadows(lambda _key: True)
    for number in range(5):
        shadows.found(number, 32, BIRD)
    shadows.found(2, 20, STATIC)
    assert [shadow.key for shadow in shadows.news] == [0, 1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans(), st.booleans())),
)
def test_everything_shadowed_has_been_told(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    """By news or by dumps, wished before or after."""
    wanted: set[int] = set()
    shadows = Shadows(wanted.__contains__)
    routes: dict[int, dict[int, int]] = {}
    current: dict[int, Shadow] = {}
    for prefix, priority, is_there, is_wish in steps:
        if is_wish and is_there:
            wanted.add(prefix)
            shadows.wanted([prefix])
        elif is_wish:
            wanted.discard(prefix)
            shadows.withdrawn([prefix])
        elif is_there:
            routes.setdefault(prefix, {})[priority] = BIRD
            shadows.found(prefix, priority, BIRD)
        else:
            routes.get(prefix, {}).pop(priority, None)
            shadows.gone(prefix, priority)
        routes = {number: held for number, held in routes.items() if held}
        if len(steps) % 2:
            shadows.settle(routes, ())
        current = {number: told for number, told in current.items() if number in routes}
        current = {number: told for number, told in current.items() if number in wanted}
        for told_now in shadows.news:
            assert told_now.key not in current, "once"
            current[told_now.key] = told_now
            assert told_now.priority == min(routes[told_now.key])
        shadows.news.clear()
        assert current.keys() == routes.keys() & wanted
