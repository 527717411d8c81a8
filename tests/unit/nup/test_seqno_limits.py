"""Limits on how far and how often others may raise the seqnos of a router's own prefixes."""

from __future__ import annotations

import itertools

import pytest

from routed.model.prefix import Prefix
from routed.model.seqno import REACH, is_newer_origin, next_seqno
from routed.nup.routes.seqno_limits import (
    BURST,
    CONTESTED_RAISES,
    FOREIGN_GAP_S,
    LEAP,
    Raise,
    RaiseLimits,
)

PREFIX = Prefix.parse("192.0.2.0/24")
HALF = 1 << 31


@pytest.fixture
def limits() -> RaiseLimits:
    return RaiseLimits(0)


@pytest.mark.parametrize("own", [5, (1 << 32) - 3])
@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [
        (0, Raise.BEHIND),
        (1, Raise.GRANTED),
        (2, Raise.TOO_FAR),
        (1 << 16, Raise.TOO_FAR),
        (REACH, Raise.TOO_FAR),
        (HALF - 1, Raise.TOO_FAR),
        (HALF, Raise.TOO_FAR),
        (HALF + 1, Raise.BEHIND),
        ((1 << 32) - 1, Raise.BEHIND),
    ],
)
def test_a_raise_is_small_wherever_on_the_ring(own: int, ahead: int, verdict: Raise) -> None:
    limits = RaiseLimits((own - LEAP) % (1 << 32))  # all that may be leapt over is behind
    wanted = (own + ahead) % (1 << 32)
    assert limits.admit_request(PREFIX, own, wanted, 0.0) is verdict
    assert limits.admit_foreign(PREFIX, own, wanted, 10.0) is verdict


@pytest.mark.parametrize("first", [5, (1 << 32) - 3])
@pytest.mark.parametrize(
    ("beyond_first", "verdict"),
    [(2, Raise.GRANTED), (LEAP, Raise.GRANTED), (LEAP + 1, Raise.TOO_FAR)],
)
def test_a_clock_that_went_back_by_years_is_made_up_for(
    first: int, beyond_first: int, verdict: Raise
) -> None:
    limits = RaiseLimits(first)
    survivor = (first + beyond_first) % (1 << 32)
    assert limits.admit_request(PREFIX, first, survivor, 0.0) is verdict
    assert limits.admit_foreign(PREFIX, first, survivor, 10.0) is verdict


def test_the_next_boot_can_reach_any_seqno_that_one_was_driven_to() -> None:
    """Its first seqno is later by at least the seconds of those raises, and one start."""
    first = 1_000_000
    limits = RaiseLimits(first)
    own = first
    for step in range(60 * 20):  # for a minute, twenty times a second, as far as it goes
        for ahead in (LEAP, 1 << 16, 16, 2, 1):
            if limits.admit_request(PREFIX, own, own + ahead, step / 20) is Raise.GRANTED:
                own += ahead
    assert own - first >= LEAP, "it was driven as far as that"
    following = RaiseLimits(first + 60 + 1)
    assert following.admit_request(PREFIX, first + 60 + 1, own + 1, 0.0) is Raise.GRANTED


def test_requests_raise_a_burst_and_then_one_each_second(limits: RaiseLimits) -> None:
    own = granted = 0
    for step in range(5000):  # for 50 s, a hundred each second
        if limits.admit_request(PREFIX, own, own + 1, step / 100) is Raise.GRANTED:
            own, granted = own + 1, granted + 1
    assert granted == BURST + 49


def test_one_prefix_does_not_wait_for_another(limits: RaiseLimits) -> None:
    for number in range(10):
        prefix = Prefix.parse(f"10.0.{number}.0/24")
        for step in range(BURST):
            assert limits.admit_request(prefix, step, step + 1, 0.0) is Raise.GRANTED
        assert limits.admit_request(prefix, 99, 100, 0.0) is Raise.TOO_SOON


def test_numbers_that_we_did_not_issue_are_outrun_ever_more_seldom(limits: RaiseLimits) -> None:
    own, raised = 0, []
    for step in range(30_000):
        now = step / 100
        if limits.admit_foreign(PREFIX, own, own + 1, now) is Raise.GRANTED:
            own += 2
            raised.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(raised)]
    assert gaps[:4] == [pytest.approx(FOREIGN_GAP_S * 2**step, abs=0.02) for step in range(4)]
    assert len(raised) == 10
    assert limits.is_contested(PREFIX, 300.0)
    assert limits.admit_request(PREFIX, own, own + 1, 300.0) is Raise.TOO_SOON


def test_one_remaining_route_of_an_earlier_boot_contests_nothing(limits: RaiseLimits) -> None:
    for step in range(CONTESTED_RAISES - 1):
        assert limits.admit_foreign(PREFIX, 10, 20, step * 10.0) is Raise.GRANTED
    assert not limits.is_contested(PREFIX, 20.0)
    assert limits.admit_request(PREFIX, 21, 22, 20.0) is Raise.GRANTED


def test_entries_are_forgotten_after_a_quiet_while(limits: RaiseLimits) -> None:
    for number in range(200):
        limits.admit_foreign(Prefix.parse(f"10.0.{number}.0/24"), 0, 1, number * 10.0)
    assert len(limits._entries) <= 18 + 1


@pytest.mark.parametrize("start", [0, 77, (1 << 32) - 100])
def test_newer_reaches_so_little_of_the_ring_that_few_cannot_go_round(start: int) -> None:
    ring = [next_seqno(start, step * REACH) for step in range(16)]
    assert all(is_newer_origin(later, earlier) for earlier, later in itertools.pairwise(ring))
    assert is_newer_origin(ring[0], ring[15])
    wider = next_seqno(start, REACH + 1)
    assert not is_newer_origin(wider, start)
    assert not is_newer_origin(start, wider)
    assert not is_newer_origin(next_seqno(start, HALF - 1), start)
    assert not is_newer_origin((start + HALF) % (1 << 32), start)
    assert not is_newer_origin(start, (start + HALF) % (1 << 32))
