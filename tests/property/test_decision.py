"""The decision is a strict total order, and reports which of its rules decided."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.prefix import Prefix
from routed.model.route import NextHop, Route, RouteSource
from routed.rib.decision import Contender, DecisionRule, deciding_rule, is_preferred
from routed.rib.table import Rib

PREFIX = Prefix.parse("10.0.0.0/8")


@st.composite
def routes(draw: st.DrawFn) -> Route:
    return Route(
        prefix=PREFIX,
        source=draw(st.sampled_from(RouteSource)),
        distance=draw(st.sampled_from([0, 1, 90, 254, 255])),
        metric=draw(st.integers(0, 2)),
        tag=draw(st.integers(0, 1)),
        next_hops=(NextHop(None, 1),),
        owner=draw(st.sampled_from(["a", "b", "c"])),
    )


def distinct(candidates: list[Route]) -> list[Route]:
    """Candidates as the RIB holds them: one per source and owner."""
    return list({(route.source, route.owner): route for route in candidates}.values())


@given(st.lists(routes(), min_size=2, max_size=6).map(distinct), st.booleans())
def test_any_two_candidates_have_one_order(candidates: list[Route], is_resolved: bool) -> None:
    contenders = [Contender(route.attributes, is_resolved) for route in candidates]
    keys = [contender.sort_key for contender in contenders]
    assert len(set(keys)) == len(keys), "no ties"
    for winner in contenders:
        for loser in contenders:
            if winner.sort_key < loser.sort_key:
                assert deciding_rule(winner, loser) in DecisionRule
                if winner.is_eligible is loser.is_eligible:
                    assert is_preferred(winner.attributes, loser.attributes)
                with pytest.raises(ValueError, match="winner"):
                    deciding_rule(loser, winner)


@given(st.lists(routes(), min_size=1, max_size=4).map(distinct))
def test_the_best_is_the_minimum_for_any_order_of_arrival(candidates: list[Route]) -> None:
    eligible = [route for route in candidates if route.distance < 255]
    expected = min((Contender(route.attributes, True).sort_key for route in eligible), default=None)
    for order in permutations(candidates):
        rib = Rib(lambda: 0.0)
        for route in order:
            rib.install(route)
        rib.process()
        best = rib.best(PREFIX)
        if expected is None:
            assert best is None
        else:
            assert best is not None
            assert Contender(best.attributes, True).sort_key == expected


@pytest.mark.parametrize(
    ("winner", "loser", "rule"),
    [
        ({}, {"is_resolved": False}, DecisionRule.ELIGIBILITY),
        ({"distance": 90}, {"distance": 255}, DecisionRule.ELIGIBILITY),
        ({"distance": 1, "metric": 9}, {"distance": 2, "metric": 1}, DecisionRule.DISTANCE),
        ({"metric": 1}, {"metric": 2}, DecisionRule.METRIC),
        ({"source": RouteSource.STATIC}, {"source": RouteSource.NEIGHBOR}, DecisionRule.SOURCE),
        ({"owner": "a"}, {"owner": "b"}, DecisionRule.OWNER),
    ],
)
def test_each_rule_decides_when_all_before_it_are_equal(
    winner: dict[str, object], loser: dict[str, object], rule: DecisionRule
) -> None:
    assert deciding_rule(contender(**winner), contender(**loser)) is rule


def contender(
    *,
    distance: object = 1,
    metric: object = 0,
    source: object = RouteSource.STATIC,
    owner: object = "a",
    is_resolved: object = True,
) -> Contender:
    assert isinstance(distance, int)
    assert isinstance(metric, int)
    assert isinstance(source, RouteSource)
    route = Route(PREFIX, source, distance, metric, owner=str(owner))
    return Contender(route.attributes, bool(is_resolved))
