"""A seed decides everything; otherwise a failure could not be reproduced."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from routed.parent.engine_process.supervisor import RESTARTS_MAX
from soak_plan import ENGINE_KILLS_MAX, ENGINE_KILLS_ROUNDS, Action, Plan, Round

ROUTERS = [f"r{n}" for n in range(1, 9)]
LINKS = [f"r{n}-r{n % 8 + 1}" for n in range(1, 9)]
seeds = st.integers(0, 999_999)


def draw(seed: int, count: int, first: int = 1) -> list[Round]:
    rounds = Plan(seed, ROUTERS, LINKS).rounds(first, rest_every=5)
    return list(itertools.islice(rounds, count))


@given(seeds)
def test_the_same_seed_draws_the_same(seed: int) -> None:
    assert draw(seed, 30) == draw(seed, 30)


@given(seeds, st.integers(1, 30))
def test_a_round_can_be_drawn_without_the_rounds_before(seed: int, first: int) -> None:
    assert draw(seed, 3, first) == draw(seed, first + 2)[first - 1 :]


@given(seeds)
def test_at_most_one_link_is_down_and_only_that_one_is_restored(seed: int) -> None:
    cut = None
    for drawn in draw(seed, 40):
        assert drawn.cut == cut
        for step in drawn.steps:
            if step.action is Action.CUT:
                assert cut is None
                cut = step.target
            elif step.action is Action.MEND:
                assert step.target == cut
                cut = None
        if drawn.number % 5 == 0:
            cut = None


def test_every_fault_occurs() -> None:
    seen = Counter(step.action for drawn in draw(1, 300) for step in drawn.steps)
    assert set(seen) == set(Action)
    assert len({str(drawn) for drawn in draw(2, 20)} - {str(drawn) for drawn in draw(3, 20)}) == 20


def test_a_stopped_engine_gets_no_request() -> None:
    for drawn in draw(4, 300):
        actions = [step.action is Action.HANG for step in drawn.steps]
        assert actions == sorted(actions)


@given(seeds)
def test_neither_silent_daemons_nor_restored_links_excuse_a_lost_packet(
    seed: int,
) -> None:
    for drawn in draw(seed, 40):
        actions = {step.action for step in drawn.steps}
        if not {Action.CUT, Action.DRIFT} & actions:
            assert drawn.may_lose_packets is bool(Action.MEND in actions and drawn.silenced)
        else:
            assert drawn.may_lose_packets


@given(seeds)
def test_only_a_restart_during_a_change_of_topology_excuses_a_loop(seed: int) -> None:
    for drawn in draw(seed, 40):
        actions = {step.action for step in drawn.steps}
        is_overtaken = bool({Action.CUT, Action.MEND} & actions and drawn.silenced)
        assert drawn.may_loop is is_overtaken


@given(seeds)
def test_no_engine_is_killed_so_often_that_its_daemon_stops_restarting_it(seed: int) -> None:
    kills = [
        (drawn.number, step.target)
        for drawn in draw(seed, 300)
        for step in drawn.steps
        if step.action is Action.KILL_ENGINE
    ]
    assert len(kills) > 50
    for number, router in kills:
        lately = range(number - ENGINE_KILLS_ROUNDS + 1, number + 1)
        count = sum(when in lately and who == router for when, who in kills)
        assert count <= ENGINE_KILLS_MAX < RESTARTS_MAX
