"""Flap damping: the penalties, and their effect on an adjacency."""

from __future__ import annotations

import dataclasses

import pytest

from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.link.damping import Damping, FlapDamper
from tests.fakes.fake_wire import FakeWire, Node, router_id
from tests.fakes.nup_pair import IPV6, LOOPBACK, pair

DAMPING = Damping(half_life_s=10.0, suppress=2500, reuse=1000, longest_s=30.0)
PEER = router_id(2)


def test_the_third_flap_within_a_half_life_is_too_many() -> None:
    damper = FlapDamper()
    assert [damper.record_flap(PEER, DAMPING, now) for now in (0.0, 1.0, 2.0)] == [
        False,
        False,
        True,
    ]


def test_flaps_far_apart_cause_no_damping() -> None:
    damper = FlapDamper()
    assert not any(damper.record_flap(PEER, DAMPING, 20.0 * number) for number in range(20))


def test_a_penalty_halves_in_a_half_life_and_is_served_until_reuse() -> None:
    damper = FlapDamper()
    for _ in range(4):
        damper.record_flap(PEER, DAMPING, 100.0)
    assert damper.penalty(PEER, DAMPING, 100.0) == pytest.approx(4000)
    assert damper.penalty(PEER, DAMPING, 110.0) == pytest.approx(2000)
    assert damper.suppressed_for(PEER, DAMPING, 100.0) == pytest.approx(
        20
    )  # 4000 to 1000: two halvings
    assert damper.suppressed_for(PEER, DAMPING, 119.9) > 0
    assert damper.suppressed_for(PEER, DAMPING, 120.1) == 0


def test_between_reuse_and_suppress_the_past_decides() -> None:
    damper = FlapDamper()
    damper.record_flap(PEER, DAMPING, 0.0)
    damper.record_flap(PEER, DAMPING, 0.0)
    assert damper.suppressed_for(PEER, DAMPING, 0.0) == 0  # 2000, on its way up
    damper.record_flap(PEER, DAMPING, 0.0)
    assert damper.suppressed_for(PEER, DAMPING, 5.0) > 0  # about 2100, on its way down


def test_no_neighbor_is_suppressed_for_longer_than_configured() -> None:
    damper = FlapDamper()
    for _ in range(1000):
        damper.record_flap(PEER, DAMPING, 50.0)
    assert damper.suppressed_for(PEER, DAMPING, 50.0) == pytest.approx(30.0)


def test_memory_is_bounded_and_ends_with_the_penalty() -> None:
    damper = FlapDamper()
    for number in range(1000):
        damper.record_flap(router_id(number), DAMPING, 0.0)
    remembered = [n for n in range(1000) if damper.penalty(router_id(n), DAMPING, 0.0)]
    assert remembered == list(range(1000 - 256, 1000))
    assert damper.clean(DAMPING, 1.0)
    assert not damper.clean(DAMPING, 60.0)
    damper.record_flap(PEER, DAMPING, 61.0)
    assert not damper.clean(None, 61.0)


def damped_pair() -> tuple[FakeWire, Node, Node]:
    """Return two routers of which b damps a."""
    wire, a, b = pair()
    wire.reconfigure(b, 1, dataclasses.replace(b.links[1][1], damping=DAMPING))
    wire.run_until(wire.all_up, limit_s=5)
    return wire, a, b


def flap(wire: FakeWire, times: int) -> None:
    """Interrupt the carrier several times; the adjacency forms before each time."""
    for _ in range(times):
        wire.run_until(wire.all_up, limit_s=5)
        wire.cut(wire.segments[0])
        wire.run(0.2)
        wire.mend(wire.segments[0])


def test_a_flapping_neighbor_is_suppressed_on_both_sides_and_reused_in_time() -> None:
    wire, a, b = damped_pair()
    flap(wire, 3)
    wire.run(5)
    (row,) = b.instance.neighbors(wire.now)
    assert row.state is AdjacencyState.INIT
    assert row.problem.startswith("damped for ")
    assert "penalty" in row.problem
    assert [row.state for row in a.instance.neighbors(wire.now)] == [AdjacencyState.INIT]
    assert not b.learned
    assert b.instance.counters()[TraceCode.NEIGHBOR_DAMPED.value] == 1
    assert b.instance.is_loaded(wire.now)  # nobody waits for it
    took_s = wire.run_until(wire.all_up, limit_s=30)
    assert took_s > 5
    assert b.learned.keys() == {LOOPBACK, IPV6}
    (row,) = b.instance.neighbors(wire.now)
    assert row.problem == ""


def test_without_damping_a_flapping_neighbor_is_reused_at_once() -> None:
    wire, _, b = pair()
    flap(wire, 5)
    assert wire.run_until(wire.all_up, limit_s=5) < 1
    assert b.instance.counters()[TraceCode.NEIGHBOR_DAMPED.value] == 0


def test_the_operator_gets_a_damped_neighbor_back_at_once() -> None:
    wire, _, b = damped_pair()
    flap(wire, 3)
    wire.run(2)
    assert b.instance.clear_neighbor(router_id(1), wire.now)
    assert wire.run_until(wire.all_up, limit_s=5) < 2


def test_restarts_and_clearing_do_not_count_as_flaps() -> None:
    wire, _, b = damped_pair()
    for _ in range(4):
        wire.stop("a", is_restart=True)
        wire.run(0.1)
        wire.revive("a")
        wire.run_until(wire.all_up, limit_s=5)
    for _ in range(4):
        b.instance.clear_neighbor(router_id(1), wire.now)
        wire.run_until(wire.all_up, limit_s=5)
    assert b.instance.counters()[TraceCode.NEIGHBOR_DAMPED.value] == 0


def test_penalties_outlive_the_link_and_the_counters_of_its_messages_go_on() -> None:
    wire, a, b = damped_pair()
    flap(wire, 2)
    wire.run_until(wire.all_up, limit_s=5)
    assert a.instance.counters()[TraceCode.DROPPED_OLD_SEQUENCE.value] == 0
    flap(wire, 1)
    wire.run(1)
    assert b.instance.counters()[TraceCode.NEIGHBOR_DAMPED.value] == 1
