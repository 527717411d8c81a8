"""Sessions in virtual time: timers, poll sequences, demand mode, the end."""

from __future__ import annotations

import itertools

import pytest

from routed.bfd.session import SLOW_TX_US, UP_PERIOD_S, UPS_BURST
from routed.bfd.wire import ControlPacket, decode, encode
from routed.model.bfd import (
    BfdAuthType,
    BfdDiagnostic,
    BfdDrop,
    BfdKey,
    BfdSettings,
    BfdState,
)
from tests.fakes.bfd_pair import A, BfdPair, settings

UP, DOWN, INIT, ADMIN_DOWN = BfdState.UP, BfdState.DOWN, BfdState.INIT, BfdState.ADMIN_DOWN
KEY = BfdKey(BfdAuthType.METICULOUS_KEYED_SHA1, 1, b"0123456789abcdef")


def pair(a: BfdSettings | None = None, b: BfdSettings | None = None) -> BfdPair:
    return BfdPair(a or settings(), b or settings(A))


def up(a: BfdSettings | None = None, b: BfdSettings | None = None) -> BfdPair:
    made = pair(a, b)
    made.run_until(UP, UP)
    made.run(3.0)  # the poll sequences end, and the timers are the configured ones
    return made


def packets(made: BfdPair, side: int, since: float = 0.0) -> list[ControlPacket]:
    return [decode(data)[0] for at, sender, data in made.sent if sender == side and at >= since]


def gaps(made: BfdPair, side: int, since: float) -> list[float]:
    times = [at for at, sender, _ in made.sent if sender == side and at >= since]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_both_come_up_through_init() -> None:
    made = pair()
    made.run_until(UP, UP)
    assert [state for _, side, state in made.changes if side == 0] in ([INIT, UP], [UP])
    assert [state for _, side, state in made.changes if side == 1] in ([INIT, UP], [UP])
    assert made.report(0).remote_discriminator == made.report(1).local_discriminator != 0
    assert made.report(0).has_been_up
    assert made.report(0).times_up == 1


def test_a_session_that_is_not_up_sends_once_a_second() -> None:
    made = pair()
    made.loses = lambda _side: True
    made.run(60.0)
    found = gaps(made, 0, 0.0)
    assert min(found) >= 0.75
    assert max(found) <= 1.0
    assert {each.desired_min_tx_us for each in packets(made, 0)} == {SLOW_TX_US}


@pytest.mark.parametrize(("multiplier", "most"), [(3, 1.0), (1, 0.9)])
def test_the_jitter_is_the_specified_one(multiplier: int, most: float) -> None:
    """RFC 5880, section 6.8.7: 75 to 100 %, with Detect Mult 1 at most 90 %."""
    made = up(settings(multiplier=multiplier))
    began = made.now
    made.run(20.0)
    found = gaps(made, 0, began)
    assert min(found) >= 0.05 * 0.75 - 1e-9
    assert max(found) <= 0.05 * most + 1e-9
    assert max(found) - min(found) > 0.05 * (most - 0.75) * 0.9


def test_the_slower_of_both_decides_about_the_interval() -> None:
    made = up(settings(transmit_us=10_000), settings(A, receive_us=200_000))
    began = made.now
    made.run(20.0)
    assert min(gaps(made, 0, began)) >= 0.15
    assert made.report(0).transmit_interval_us == 200_000
    assert made.report(1).detection_time_us == 3 * 200_000


def test_silence_takes_the_session_down_after_the_detection_time() -> None:
    made = up()
    last = max(at for at, side, _ in made.sent if side == 1)
    made.loses = lambda side: side == 1
    made.run_until(DOWN, DOWN, within_s=1.0)
    at = next(at for at, side, state in made.changes if (side, state) == (0, DOWN))
    assert 0.15 - 0.05 <= at - last <= 0.15 + 0.002
    report = made.report(0)
    assert report.diagnostic is BfdDiagnostic.DETECTION_TIME_EXPIRED
    assert report.remote_discriminator == 0
    assert report.times_down == 1


def test_the_other_side_is_notified_at_once() -> None:
    made = up()
    made.loses = lambda side: side == 1
    made.run_until(DOWN, DOWN, within_s=1.0)
    assert made.report(1).diagnostic is BfdDiagnostic.NEIGHBOR_SIGNALED_DOWN
    (at_a,) = [at for at, side, state in made.changes if (side, state) == (0, DOWN)]
    (at_b,) = [at for at, side, state in made.changes if (side, state) == (1, DOWN)]
    assert at_b - at_a < 0.001


def test_a_session_that_was_lost_comes_up_again() -> None:
    made = up()
    made.loses = lambda _side: True
    made.run(2.0)
    assert made.states == (DOWN, DOWN)
    made.loses = lambda _side: False
    made.run_until(UP, UP)
    assert made.report(0).times_up == 2


def test_an_end_by_configuration_is_no_failure() -> None:
    made = up()
    made.configure(0)
    made.run(0.01)
    report = made.report(1)
    assert (report.state, report.remote_state) == (DOWN, ADMIN_DOWN)
    assert report.remote_diagnostic is BfdDiagnostic.ADMINISTRATIVELY_DOWN


def test_a_passive_session_waits_for_the_other() -> None:
    made = pair(settings(is_passive=True))
    made.loses = lambda side: side == 1
    made.run(10.0)
    assert packets(made, 0) == []
    assert made.report(0).transmit_interval_us == 0
    made.loses = lambda _side: False
    made.run_until(UP, UP)


def test_two_passive_sessions_stay_silent() -> None:
    made = pair(settings(is_passive=True), settings(A, is_passive=True))
    made.run(10.0)
    assert made.sent == []


def test_coming_up_is_announced_by_a_poll_sequence() -> None:
    made = pair()
    made.run_until(UP, UP)
    assert made.report(0).is_polling or any(each.is_poll for each in packets(made, 0))
    made.run(3.0)
    polls = [each for each in packets(made, 0) if each.is_poll]
    assert polls
    assert all(each.desired_min_tx_us == 50_000 for each in polls)
    assert any(each.is_final for each in packets(made, 1))
    assert not any(each.is_final and each.is_poll for each in packets(made, 1))
    assert not made.report(0).is_polling


def test_a_longer_transmit_interval_waits_for_the_end_of_the_poll_sequence() -> None:
    made = up(b=settings(A, multiplier=9))
    began = made.now
    made.loses = lambda side: side == 1
    made.configure(0, settings(transmit_us=400_000))
    made.run(0.1)  # below the detection time
    assert made.report(0).is_polling
    assert max(gaps(made, 0, began)) <= 0.05 + 1e-9
    assert packets(made, 0, began)[-1].desired_min_tx_us == 400_000
    made.loses = lambda _side: False
    made.run(1.0)
    assert made.states == (UP, UP)
    assert not made.report(0).is_polling
    assert made.report(0).transmit_interval_us == 400_000
    made.run(5.0)
    assert [state for _, _, state in made.changes].count(DOWN) == 0


def test_a_shorter_receive_interval_waits_for_the_end_of_the_poll_sequence() -> None:
    """Until then the other system still sends at the old one."""
    made = up(settings(receive_us=500_000))
    assert made.report(0).detection_time_us == 1_500_000
    made.loses = lambda side: side == 0
    made.configure(0, settings(receive_us=50_000))
    assert made.report(0).detection_time_us == 1_500_000
    made.loses = lambda _side: False
    made.run(3.0)
    assert made.report(0).detection_time_us == 150_000
    assert made.states == (UP, UP)


def test_a_system_in_demand_mode_gets_no_periodic_packets() -> None:
    made = up()
    report = made.report(0)
    began = made.now
    made.loses = lambda _side: True
    demand = ControlPacket(
        state=UP,
        diagnostic=BfdDiagnostic.NONE,
        multiplier=255,
        my_discriminator=report.remote_discriminator,
        your_discriminator=report.local_discriminator,
        desired_min_tx_us=50_000,
        required_min_rx_us=50_000,
        is_demand=True,
    )
    made.give(0, encode(demand))
    made.run(5.0)
    assert packets(made, 0, began + 0.06) == []
    assert made.report(0).is_remote_demand
    made.give(0, encode(demand._replace(is_poll=True)))
    assert [each.is_final for each in packets(made, 0, made.now)] == [True]
    made.give(0, encode(demand._replace(is_demand=False)))
    began = made.now
    made.run(1.0)
    assert len(packets(made, 0, began)) >= 15


def test_a_system_that_wants_no_packets_gets_none() -> None:
    made = up()
    report = made.report(0)
    silent = ControlPacket(
        state=UP,
        diagnostic=BfdDiagnostic.NONE,
        multiplier=3,
        my_discriminator=report.remote_discriminator,
        your_discriminator=report.local_discriminator,
        desired_min_tx_us=50_000,
        required_min_rx_us=0,
    )
    made.loses = lambda _side: True
    made.give(0, encode(silent))
    began = made.now
    made.run(0.1)
    assert packets(made, 0, began) == []


def test_the_echo_function_is_never_offered() -> None:
    made = up()
    assert {each.required_min_echo_rx_us for each in packets(made, 0)} == {0}


def test_sessions_with_a_key_come_up_and_stay_up() -> None:
    made = up(settings(key=KEY), settings(A, key=KEY))
    made.run(30.0)
    assert made.states == (UP, UP)
    assert made.report(0).dropped == {}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (None, KEY),
        (KEY, None),
        (KEY, BfdKey(KEY.type, 2, KEY.secret)),
        (KEY, BfdKey(KEY.type, 1, b"another secret")),
        (KEY, BfdKey(BfdAuthType.KEYED_SHA1, 1, KEY.secret)),
        (KEY, BfdKey(BfdAuthType.SIMPLE_PASSWORD, 1, KEY.secret)),
    ],
)
def test_sessions_with_different_keys_stay_down(a: BfdKey | None, b: BfdKey | None) -> None:
    made = pair(settings(key=a), settings(A, key=b))
    made.run(10.0)
    assert UP not in made.states
    assert made.report(0).dropped.keys() == {BfdDrop.AUTHENTICATION.value}


def test_a_replayed_packet_does_not_keep_a_session_up() -> None:
    made = up(settings(key=KEY), settings(A, key=KEY))
    replayed = [data for _, side, data in made.sent if side == 1][-1]
    made.loses = lambda side: side == 1
    for _ in range(10):
        made.run(0.03)
        made.give(0, replayed)
    assert made.report(0).state is DOWN
    assert made.report(0).dropped[BfdDrop.SEQUENCE.value] >= 4


def test_a_system_that_restarts_with_other_sequence_numbers_is_accepted() -> None:
    made = up(settings(key=KEY), settings(A, key=KEY))
    made.configure(1)
    made.configure(1, settings(A, key=KEY))
    made.run_until(UP, UP)


def test_a_new_key_takes_effect_on_both_sides_without_a_new_session() -> None:
    made = up(settings(key=KEY), settings(A, key=KEY))
    before = made.report(0).local_discriminator
    other = BfdKey(KEY.type, 2, b"another secret 1")
    made.configure(0, settings(key=other))
    made.configure(1, settings(A, key=other))
    made.run_until(UP, UP)
    assert made.report(0).local_discriminator == before


def test_a_peer_that_flaps_does_not_decide_how_often_routes_are_selected() -> None:
    """It goes down and comes up a hundred times a second, for a minute."""
    made = BfdPair(settings(), settings(A))
    made.run_until(BfdState.UP, BfdState.UP)
    discriminator = made.report(0).local_discriminator
    peer = made.report(0).remote_discriminator
    made.loses = lambda _side: True
    before, began = made.report(0).times_up, made.now
    for step in range(3000):
        state = (BfdState.DOWN, BfdState.INIT)[step % 2]
        made.give(0, encode(ControlPacket(
            state, BfdDiagnostic.NONE, 3, peer, discriminator, 50_000, 50_000
        )))  # fmt: skip
        made.run(0.02)
    seconds = made.now - began
    changes = made.report(0).times_up - before
    assert UPS_BURST <= changes + 1 <= UPS_BURST + seconds / UP_PERIOD_S + 1
    assert made.report(0).dropped["flapping"] > 1000
    made.loses = lambda _side: False
    made.run_until(BfdState.UP, BfdState.UP, within_s=10.0)
