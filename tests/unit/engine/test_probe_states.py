"""What reports of probes mean for what names them: restarts, another probe, the first time."""

from __future__ import annotations

import dataclasses

from routed.config.probes import ProbeConfig, ProbeInitial
from routed.engine.probe_states import ProbeStates
from routed.engine.show.probes import probe_metrics, probe_view
from routed.metrics.exposition import render
from routed.model.prefix import Address
from routed.model.probe import NO_ANSWER, ProbeKind, ProbeReport, ProbeState, pack_history

UPLINK = ProbeConfig("uplink", ProbeKind.ICMP, target=Address.parse("192.0.2.1"), interface="eth0")
UP = ProbeReport(
    name="uplink",
    state=ProbeState.UP,
    age_s=5.0,
    change_reason="2 of 2 succeeded",
    last_reason="",
    in_a_row=9,
    attempts=20,
    failures=3,
    errors=1,
    times_up=1,
    times_down=0,
    history=pack_history([1000, NO_ANSWER, 3000, 4000]),
)
DOWN = dataclasses.replace(
    UP, state=ProbeState.DOWN, change_reason="3 of 3 failed: no answer within 1 s", age_s=0.0
)
FRESH = dataclasses.replace(UP, state=ProbeState.UNKNOWN, attempts=0, change_reason="")


def states(probe: ProbeConfig = UPLINK) -> ProbeStates:
    made = ProbeStates()
    made.configure([probe])
    return made


def problem(made: ProbeStates) -> str:
    (text,) = made.problems().values()
    return text


def test_up_falling_down_and_rising() -> None:
    made = states()
    assert made.problems() == {"probe uplink": "nothing is known of it yet"}
    (change,) = made.receive([UP], 10.0)
    assert (change.is_up, change.reason) == (True, "2 of 2 succeeded")
    assert problem(made) == ""
    assert made.receive([dataclasses.replace(UP, state=ProbeState.FALLING)], 11.0) == []
    assert problem(made) == ""
    (change,) = made.receive([DOWN], 12.0)
    assert not change.is_up
    assert problem(made) == "down (3 of 3 failed: no answer within 1 s)"
    assert made.receive([dataclasses.replace(DOWN, state=ProbeState.RISING)], 13.0) == []
    assert problem(made)
    assert made.probes["uplink"].changed_at == 12.0


def test_all_are_known_after_the_first_states() -> None:
    made = states()
    made.receive([FRESH], 0.0)
    before = made.are_known
    made.receive([DOWN], 1.0)
    assert (before, made.are_known) == (False, True)


def test_a_probe_that_is_initially_up_is_used_until_it_goes_down() -> None:
    made = states(dataclasses.replace(UPLINK, initial=ProbeInitial.UP))
    made.receive([FRESH], 0.0)
    assert problem(made) == ""
    made.receive([DOWN], 1.0)
    assert problem(made)


def test_the_death_of_the_liveness_process_changes_nothing() -> None:
    for last in (UP, DOWN):
        made = states()
        made.receive([last], 0.0)
        before = problem(made)
        made.channel_lost()
        assert problem(made) == before
        assert made.receive([FRESH], 1.0) == []
        assert problem(made) == before
        assert made.receive([dataclasses.replace(last, attempts=2)], 2.0) == []
        assert problem(made) == before


def test_another_probe_of_the_same_name_begins_without_a_state() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.configure([dataclasses.replace(UPLINK, fall=9)])
    assert problem(made) == ""
    made.configure([dataclasses.replace(UPLINK, mark=7)])
    assert problem(made) == "nothing is known of it yet"


def test_a_report_that_was_on_its_way_when_the_probe_became_another_does_not_last() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.configure([dataclasses.replace(UPLINK, mark=7)])
    made.receive([UP], 1.0)  # of the former probe
    made.receive([FRESH], 2.0)
    assert problem(made) == "nothing is known of it yet"


def test_reports_of_unknown_probes_are_ignored() -> None:
    made = states()
    made.configure([])
    assert made.receive([UP], 0.0) == []
    assert made.problems() == {}
    assert made.are_known


def test_the_view() -> None:
    made = states()
    made.receive([UP], 10.0)
    view = probe_view(made.probes["uplink"], 2, 12.0)
    assert (view.state, view.state_age_s, view.users, view.used) == ("up", 7.0, 2, True)
    assert view.history_ms == (1.0, None, 3.0, 4.0)
    assert (view.loss_percent, view.rtt_last_ms) == (25.0, 4.0)
    assert view.rtt_ms == 2.667
    assert (view.rtt_max_ms, view.loss_max_percent) == (None, None)
    made.configure([dataclasses.replace(UPLINK, rtt_max_s=0.08, loss_max=5)])
    view = probe_view(made.probes["uplink"], 2, 12.0)
    assert (view.rtt_max_ms, view.loss_max_percent) == (80.0, 5)
    made.channel_lost()
    view = probe_view(made.probes["uplink"], 2, 12.0)
    assert (view.state, view.used, view.attempts) == ("unknown", True, None)


def test_metrics() -> None:
    made = states()
    made.receive([UP], 0.0)
    text = render(list(probe_metrics(list(made.probes.values()))))
    assert 'routed_probe_up{probe="uplink",kind="icmp"} 1' in text
    assert 'routed_probe_attempts_total{probe="uplink",kind="icmp",result="failed"} 3' in text
    assert 'routed_probe_rtt_seconds{probe="uplink",kind="icmp"} 0.004' in text
    made.receive([FRESH], 1.0)
    assert "routed_probe_up{" not in render(list(probe_metrics(list(made.probes.values()))))
