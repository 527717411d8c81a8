"""What reports of BFD sessions mean for next hops: restarts, AdminDown, the first time."""

from __future__ import annotations

import dataclasses

import pytest

from routed.config.bfd import BfdConfig, BfdInitial, BfdSessionConfig
from routed.config.nup import KeyAlgorithm, KeyConfig, KeySetConfig
from routed.engine.bfd_states import BfdStates
from routed.engine.show.bfd import bfd_counters, bfd_metrics, bfd_view
from routed.metrics.exposition import render
from routed.model.bfd import BfdDiagnostic, BfdReport, BfdState
from routed.model.prefix import Address

PEER = Address.parse("192.0.2.1")
UPLINK = BfdSessionConfig("uplink", PEER, interface="eth0", key="k")
RELEARN_S = 10.0

UP = BfdReport(
    name="uplink",
    state=BfdState.UP,
    diagnostic=BfdDiagnostic.NONE,
    local_discriminator=11,
    remote_state=BfdState.UP,
    remote_diagnostic=BfdDiagnostic.NONE,
    remote_discriminator=12,
    has_been_up=True,
    transmit_interval_us=300_000,
    detection_time_us=900_000,
    remote_transmit_us=300_000,
    remote_receive_us=200_000,
    remote_multiplier=3,
    is_remote_demand=False,
    is_polling=False,
    age_s=5.0,
    packets_sent=20,
    packets_received=21,
    times_up=1,
    times_down=0,
    send_errors=0,
    dropped={},
)
DOWN = dataclasses.replace(
    UP,
    state=BfdState.DOWN,
    diagnostic=BfdDiagnostic.DETECTION_TIME_EXPIRED,
    remote_discriminator=0,
    times_down=1,
)
FRESH = dataclasses.replace(
    DOWN, diagnostic=BfdDiagnostic.NONE, has_been_up=False, times_up=0, times_down=0
)


def states(session: BfdSessionConfig = UPLINK) -> BfdStates:
    made = BfdStates()
    made.configure(BfdConfig((session,), RELEARN_S))
    return made


def problem(made: BfdStates) -> str:
    (text,) = made.problems().values()
    return text


def test_a_session_of_which_nothing_is_known_is_not_used() -> None:
    made = states()
    assert made.problems() == {"bfd uplink": "nothing is known of the session yet"}
    made.receive([FRESH], 0.0)
    assert problem(made) == "the session has not been up yet"


def test_a_session_that_is_initially_up_is_used_until_it_goes_down() -> None:
    made = states(dataclasses.replace(UPLINK, initial=BfdInitial.UP))
    assert problem(made) == ""
    made.receive([FRESH], 0.0)
    assert problem(made) == ""
    made.receive([UP], 1.0)
    made.receive([DOWN], 2.0)
    assert problem(made)


def test_up_and_down() -> None:
    made = states()
    (transition,) = made.receive([UP], 0.0)
    assert transition.is_up
    assert problem(made) == ""
    assert made.receive([UP], 1.0) == []
    (transition,) = made.receive([DOWN], 2.0)
    assert not transition.is_up
    assert problem(made) == "the session is down (detection time expired)"
    made.receive([UP], 3.0)
    assert problem(made) == ""


def test_an_administrative_end_of_the_other_system_takes_nothing_down() -> None:
    """RFC 5882, section 3.2."""
    made = states()
    made.receive([UP], 0.0)
    end = dataclasses.replace(
        DOWN,
        diagnostic=BfdDiagnostic.NEIGHBOR_SIGNALED_DOWN,
        remote_state=BfdState.ADMIN_DOWN,
    )
    made.receive([end], 1.0)
    assert problem(made) == ""
    made.receive([DOWN], 2.0)
    assert problem(made)
    made.receive([end], 3.0)
    assert problem(made), "what was not used stays unused"


def test_the_death_of_the_liveness_process_changes_nothing() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.channel_lost()
    assert problem(made) == ""
    made.check(1000.0)
    assert problem(made) == ""


def test_a_session_that_comes_up_after_a_restart_was_never_down() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.channel_lost()
    assert made.receive([FRESH], 5.0) == []
    assert problem(made) == ""
    assert made.next_check() == 5.0 + RELEARN_S
    made.receive([UP], 8.0)
    made.check(100.0)
    assert problem(made) == ""
    assert made.next_check() == float("inf")


def test_a_session_that_stays_down_after_a_restart_is_given_up() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.channel_lost()
    made.receive([FRESH], 5.0)
    made.receive([FRESH], 5.0 + RELEARN_S - 0.1)
    assert problem(made) == ""
    assert made.check(5.0 + RELEARN_S - 0.1) == []
    (transition,) = made.check(5.0 + RELEARN_S)
    assert not transition.is_up
    assert problem(made) == "the session has not been up yet"
    made.receive([FRESH], 20.0)
    assert problem(made)


def test_a_session_that_was_down_stays_so_after_a_restart() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.receive([DOWN], 1.0)
    made.channel_lost()
    made.receive([FRESH], 5.0)
    assert problem(made)


def test_a_session_whose_interface_was_removed_is_not_used() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.end(["uplink", "unknown"])
    assert problem(made) == "nothing is known of the session yet"
    view = bfd_view(made.sessions["uplink"], 0, (), 1.0)
    assert view.session_state == "unknown"
    made.receive([FRESH], 2.0)
    assert problem(made) == "the session has not been up yet"


def test_another_configuration_keeps_what_is_known_unless_the_session_is_another() -> None:
    made = states()
    made.receive([UP], 0.0)
    made.configure(BfdConfig((dataclasses.replace(UPLINK, multiplier=5),)))
    assert problem(made) == ""
    made.configure(BfdConfig((dataclasses.replace(UPLINK, interface="eth1"),)))
    assert problem(made)
    made.configure(BfdConfig())
    assert made.problems() == {}
    assert made.receive([UP], 1.0) == []


KEYS = (KeySetConfig("k", (KeyConfig(1, "file", KeyAlgorithm.KEYED_SHA1),)),)


def test_the_view_has_the_names_of_the_specification() -> None:
    made = states()
    made.receive([dataclasses.replace(UP, dropped={"hop_limit": 4})], 10.0)
    view = bfd_view(made.sessions["uplink"], 3, KEYS, 12.0)
    assert (view.session_state, view.state_age_s) == ("up", 7.0)
    assert (view.local_diag, view.remote_session_state, view.remote_diag) == ("none", "up", "none")
    assert (view.local_discr, view.remote_discr) == (11, 12)
    assert (view.desired_min_tx_us, view.required_min_rx_us) == (300_000, 300_000)
    assert (view.detect_mult, view.remote_detect_mult) == (3, 3)
    assert (view.remote_min_tx_us, view.remote_min_rx_us) == (300_000, 200_000)
    assert (view.remote_demand_mode, view.polling) == (False, False)
    assert (view.auth_type, view.users, view.used, view.reason) == ("keyed-sha1", 3, True, "")
    assert [(drop.reason, drop.packets) for drop in view.drops] == [("hop_limit", 4)]


@pytest.mark.parametrize("has_been_known", [False, True])
def test_what_no_process_reports_is_unknown(has_been_known: bool) -> None:
    made = states()
    if has_been_known:
        made.receive([UP], 10.0)
        made.channel_lost()
    view = bfd_view(made.sessions["uplink"], 0, (), 12.0)
    assert view.session_state == "unknown"
    assert view.local_discr is None
    assert view.used is has_been_known


def test_metrics_and_counters() -> None:
    made = states()
    made.receive([dataclasses.replace(UP, dropped={"authentication": 2})], 0.0)
    text = render(list(bfd_metrics(list(made.sessions.values()), {"no_session": 5})))
    assert 'routed_bfd_session_up{session="uplink",peer="192.0.2.1"} 1' in text
    assert 'routed_bfd_drops_total{session="uplink",reason="authentication"} 2' in text
    assert 'routed_bfd_drops_total{session="",reason="no_session"} 5' in text
    assert 'direction="received"} 21' in text
    counters = {view.name: view.value for view in bfd_counters({"version": 7})}
    assert counters["bfd_dropped_version"] == 7
    assert counters["bfd_dropped_by_kernel"] == 0
