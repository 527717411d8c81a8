"""One probe in virtual time: rows of results, timeouts, errors, inversion, reports."""

from __future__ import annotations

import itertools

import pytest

from routed.model.probe import HISTORY_MAX, NO_ANSWER, ProbeState, unpack_history
from routed.probe.session import FIRST_PAUSE_S, START_SPREAD_S
from tests.fakes.probe_scene import ProbeScene, probe_settings


def test_the_state_is_known_soon_after_the_start() -> None:
    scene = ProbeScene(probe_settings(rise=3))
    assert scene.state() is ProbeState.UNKNOWN
    scene.run(START_SPREAD_S + 3 * (FIRST_PAUSE_S + 0.001))
    assert scene.state() is ProbeState.UP
    assert scene.report().change_reason == "3 of 3 succeeded"


def test_a_silent_system_goes_down_after_so_many_attempts_and_no_earlier() -> None:
    scene = ProbeScene(probe_settings())
    scene.run(5)
    scene.answers["p"] = None
    scene.run(2.6)
    assert scene.state() is ProbeState.FALLING
    assert scene.report().last_reason == "no answer within 500 ms"
    scene.run(1)
    assert scene.state() is ProbeState.DOWN
    assert scene.report().change_reason == "3 of 3 failed: no answer within 500 ms"
    scene.answers["p"] = 0.02
    scene.run(1)
    assert scene.state() is ProbeState.RISING
    scene.run(1)
    assert scene.state() is ProbeState.UP
    assert [state for _, _, state in scene.changes] == [
        ProbeState.UP,
        ProbeState.DOWN,
        ProbeState.UP,
    ]
    report = scene.report()
    assert (report.times_up, report.times_down) == (2, 1)


def test_one_answer_ends_a_row_of_failures() -> None:
    scene = ProbeScene(probe_settings())
    scene.run(5)
    for _ in range(10):
        scene.answers["p"] = None
        scene.run(2)
        scene.answers["p"] = 0.001
        scene.run(1)
    assert scene.state().is_up is True
    assert scene.report().times_down == 0


def test_an_answer_that_comes_late_or_twice_or_for_another_attempt_changes_nothing() -> None:
    scene = ProbeScene(probe_settings())
    scene.answers["p"] = 0.6
    scene.run(10)
    assert scene.state() is ProbeState.DOWN
    before = scene.report()
    for number in range(5):
        scene.instance.answered("p", number, scene.now)
        scene.instance.failed("p", number, "no", scene.now)
        scene.instance.broken("p", number, "no", scene.now)
    assert scene.report() == before
    scene.instance.answered("absent", 1, scene.now)


def test_attempts_keep_their_interval_with_jitter() -> None:
    scene = ProbeScene(probe_settings(jitter_s=0.3))
    scene.run(200)
    moments = [moment for moment, _ in scene.began][5:]
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert 0.7 <= min(pauses) < 0.75
    assert 0.95 < max(pauses) <= 1.0


@pytest.mark.parametrize(("fails", "state"), [(True, ProbeState.DOWN), (False, ProbeState.UP)])
def test_what_an_attempt_that_cannot_be_made_counts(fails: bool, state: ProbeState) -> None:
    scene = ProbeScene(probe_settings(fails_on_error=fails))
    scene.run(5)
    scene.errors["p"] = "eth0 does not exist"
    scene.run(10)
    assert scene.state() is state
    report = scene.report()
    assert report.last_reason == "eth0 does not exist"
    assert report.errors == 10
    assert report.failures == (10 if fails else 0)


def test_an_inverted_probe_is_up_while_the_system_is_silent_and_down_where_it_cannot_look() -> None:
    scene = ProbeScene(probe_settings(is_inverted=True))
    scene.run(5)
    assert scene.state() is ProbeState.DOWN
    assert scene.report().last_reason == "it succeeded, and `invert` is set"
    scene.answers["p"] = "Connection refused"
    scene.run(5)
    assert scene.state() is ProbeState.UP
    scene.errors["p"] = "no route"
    scene.run(5)
    assert scene.state() is ProbeState.DOWN


def test_the_history_is_bounded_and_in_order() -> None:
    scene = ProbeScene(probe_settings())
    scene.answers["p"] = 0.004
    scene.run(200)
    scene.answers["p"] = None
    scene.run(1.9)
    history = unpack_history(scene.report().history)
    failed = scene.report().in_a_row
    assert failed in (1, 2)
    assert history == [4000] * (HISTORY_MAX - failed) + [NO_ANSWER] * failed


def test_a_hint_of_anybody_is_shown_and_decides_nothing() -> None:
    scene = ProbeScene(probe_settings())
    scene.run(5)
    scene.answers["p"] = None
    while scene.instance.attempt("p") is None:
        scene.run(0.01)
    scene.instance.hint("p", "No route to host")
    assert scene.state() is ProbeState.UP
    scene.run(0.5)
    assert scene.report().last_reason == "No route to host"
    assert scene.state() is ProbeState.FALLING


def test_every_attempt_that_ends_says_so() -> None:
    scene = ProbeScene(probe_settings())
    scene.run(20.5)
    assert len(scene.ended) == len(scene.began)


def test_other_times_apply_at_once_and_keep_the_state() -> None:
    scene = ProbeScene(probe_settings(interval_s=60.0))
    scene.run(5)
    assert scene.state() is ProbeState.UP
    began = len(scene.began)
    scene.configure(probe_settings(interval_s=1.0))
    scene.run(10.5)
    assert len(scene.began) >= began + 9
    assert scene.report().times_up == 1
