"""Limits of round-trip time and loss, and that a value near a limit does not flap."""

from __future__ import annotations

from routed.model.probe import NO_ANSWER, ProbeState, unpack_history
from routed.probe.quality import Quality
from tests.fakes.probe_scene import ProbeScene, probe_settings


def test_without_limits_nothing_is_exceeded() -> None:
    quality, settings = Quality(), probe_settings()
    assert {quality.add(each, settings) for each in (NO_ANSWER, 10**9, 0)} == {""}


def test_the_mean_round_trip_has_a_limit_and_recovers_below_it() -> None:
    quality, settings = Quality(), probe_settings(rtt_max_s=0.08, window=4)
    assert quality.add(80_000, settings) == ""
    assert quality.add(84_000, settings) == "mean round trip 82 ms, limit 80 ms"
    assert quality.add(70_000, settings), "78 ms is not 80 % of the limit yet"
    assert quality.add(20_000, settings) == ""
    assert quality.add(140_000, settings) == "", "78.5 ms"


def test_loss_has_a_limit_once_the_window_is_full() -> None:
    quality, settings = Quality(), probe_settings(loss_max=20, window=5)
    for _ in range(2):
        assert quality.add(NO_ANSWER, settings) == ""
    for _ in range(2):
        assert quality.add(1000, settings) == ""
    assert quality.add(1000, settings) == "loss 40 %, limit 20 %"
    assert quality.add(1000, settings), "20 % is not 80 % of the limit yet"
    assert quality.add(1000, settings) == ""
    assert quality.add(NO_ANSWER, settings) == "", "20 % is the limit itself"


def test_a_slow_path_goes_down_and_its_round_trips_stay_visible() -> None:
    scene = ProbeScene(probe_settings(rtt_max_s=0.08, window=3))
    scene.run(5)
    assert scene.state() is ProbeState.UP
    scene.answers["p"] = 0.2
    scene.run(8)
    assert scene.state() is ProbeState.DOWN
    assert scene.report().change_reason.startswith("3 of 3 failed: mean round trip ")
    assert unpack_history(scene.report().history)[-1] == 200_000
    scene.answers["p"] = 0.01
    scene.run(8)
    assert scene.state() is ProbeState.UP
