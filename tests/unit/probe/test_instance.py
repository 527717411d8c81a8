"""Many probes: combinations, observations, configurations, and who is due."""

from __future__ import annotations

import pytest

from routed.model.probe import ProbeKind, ProbeSettings, ProbeState
from tests.fakes.probe_scene import ProbeScene, probe_settings

A, B, C = (probe_settings(name) for name in "abc")


def combined(kind: ProbeKind, least: int, *members: str, name: str = "all") -> ProbeSettings:
    return probe_settings(name, kind=kind, target=None, members=members, least=least)


@pytest.mark.parametrize(
    ("least", "silent", "state"),
    [
        (3, "", ProbeState.UP),
        (3, "b", ProbeState.DOWN),
        (2, "b", ProbeState.UP),
        (2, "bc", ProbeState.DOWN),
        (1, "bc", ProbeState.UP),
        (1, "abc", ProbeState.DOWN),
    ],
)
def test_a_combination_counts_its_members(least: int, silent: str, state: ProbeState) -> None:
    scene = ProbeScene(A, B, C, combined(ProbeKind.AT_LEAST, least, "a", "b", "c"))
    scene.answers = dict.fromkeys(silent)
    scene.run(10)
    assert scene.state("all") is state
    up = 3 - len(silent)
    assert scene.report("all").change_reason == f"{up} of 3 up, {least} needed"


def test_a_combination_is_unknown_while_it_could_be_either() -> None:
    scene = ProbeScene(A, probe_settings("b", interval_s=100.0), combined(ProbeKind.ALL, 2, *"ab"))
    scene.errors["b"] = "no socket"
    scene.configure(A, probe_settings("b", fails_on_error=False), combined(ProbeKind.ALL, 2, *"ab"))
    scene.run(10)
    assert (scene.state("a"), scene.state("b")) == (ProbeState.UP, ProbeState.UNKNOWN)
    assert scene.state("all") is ProbeState.UNKNOWN
    scene.answers["a"] = None
    scene.run(10)
    assert scene.state("all") is ProbeState.DOWN, "one is enough to say so"


def test_combinations_of_combinations_follow_in_order() -> None:
    scene = ProbeScene(
        combined(ProbeKind.ANY, 1, "both", "c", name="top"),
        combined(ProbeKind.ALL, 2, "a", "b", name="both"),
        A,
        B,
        C,
    )
    scene.run(5)
    assert scene.state("top") is ProbeState.UP
    scene.answers = {"b": None, "c": None}
    scene.run(10)
    assert (scene.state("both"), scene.state("top")) == (ProbeState.DOWN, ProbeState.DOWN)
    names = [name for _, name, state in scene.changes if state is ProbeState.DOWN]
    assert names.index("b") < names.index("both") < names.index("top")


def test_a_combination_may_be_inverted() -> None:
    scene = ProbeScene(A, probe_settings(
        "not", kind=ProbeKind.ALL, members=("a",), least=1, is_inverted=True
    ))  # fmt: skip
    scene.run(5)
    assert scene.state("not") is ProbeState.DOWN


CARRIER = probe_settings("link", kind=ProbeKind.CARRIER, target=None, rise=1, fall=1)


def test_what_is_observed_counts_at_once_and_sends_nothing() -> None:
    scene = ProbeScene(CARRIER)
    scene.run(3)
    assert scene.state("link") is ProbeState.DOWN
    assert scene.report("link").last_reason == "nothing is known of it yet"
    scene.observe("link", True)
    assert scene.state("link") is ProbeState.UP
    scene.observe("link", False, "eth0 has no carrier")
    assert scene.state("link") is ProbeState.DOWN
    assert scene.report("link").change_reason == "1 of 1 failed: eth0 has no carrier"
    scene.observe("link", None, "eth0 does not exist")
    assert scene.report("link").last_reason == "eth0 does not exist"
    assert scene.began == []


def test_an_observation_is_looked_at_again_and_again() -> None:
    scene = ProbeScene(probe_settings("link", kind=ProbeKind.CARRIER, rise=3, fall=3))
    scene.observe("link", True)
    scene.run(1)
    assert scene.state("link") is ProbeState.UP
    scene.observe("link", False, "no carrier")
    assert scene.state("link") is ProbeState.FALLING
    scene.run(2)
    assert scene.state("link") is ProbeState.DOWN


def test_another_target_makes_another_probe() -> None:
    scene = ProbeScene(A, B)
    scene.run(5)
    scene.configure(probe_settings("a", mark=7), B)
    assert scene.state("a") is ProbeState.UNKNOWN
    assert scene.state("b") is ProbeState.UP
    scene.configure(B)
    assert scene.instance.names == ["b"]
    assert scene.instance.report("a", scene.now) is None
    scene.run(5)
    assert len(scene.instance) == 1


def test_those_that_are_due_are_found_without_a_look_at_all() -> None:
    scene = ProbeScene(*(probe_settings(f"p{number}") for number in range(50)))
    scene.run(5)
    for _ in range(200):
        moment = scene.instance.next_timer()
        assert moment is not None
        due = scene.instance.due(moment)
        assert due
        began = len(scene.began)
        scene.now = moment
        scene.instance.handle_timer(moment)
        scene._drain()
        assert {name for _, name in scene.began[began:]} <= set(due)
