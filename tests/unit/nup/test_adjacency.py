"""The adjacency's table, and the facts that an adjacency keeps."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from routed.model.prefix import Address
from routed.nup.events import AdjacencyState
from routed.nup.link.adjacency import (
    TRANSITIONS,
    Adjacency,
    AdjacencyAction,
    AdjacencyEvent,
    timestamp_us,
)
from routed.nup.wire.message import Hello, NeighborHeard

DOCUMENT = Path(__file__).parents[3] / "docs" / "nup.md"
ADDRESS = Address.parse("fe80::2")
ROUTER_ID = Address.parse("10.255.0.2")


def make_adjacency(now: float = 100.0) -> Adjacency:
    return Adjacency(ROUTER_ID, ADDRESS, boot_id=5, now=now)


def test_every_pair_of_state_and_event_is_in_the_table() -> None:
    assert TRANSITIONS.keys() == set(itertools.product(AdjacencyState, AdjacencyEvent))


def test_what_is_ignored_changes_no_state_but_for_the_passage_to_loading() -> None:
    for (state, event), transition in TRANSITIONS.items():
        if transition.action is AdjacencyAction.IGNORE and event is not (
            AdjacencyEvent.EXCHANGE_BEGUN
        ):
            assert transition.state is state, (state, event)


def test_up_is_reached_only_through_every_state_before_it() -> None:
    order = list(AdjacencyState)
    for (state, _), transition in TRANSITIONS.items():
        step = order.index(transition.state) - order.index(state)
        assert step <= 1, (state, transition)


@pytest.mark.parametrize(
    "event", [AdjacencyEvent.LINK_LOST, AdjacencyEvent.GOODBYE_HEARD, AdjacencyEvent.CLEARED]
)
@pytest.mark.parametrize("state", list(AdjacencyState))
def test_what_ends_an_adjacency_for_good_ends_it_in_every_state(
    state: AdjacencyState, event: AdjacencyEvent
) -> None:
    assert TRANSITIONS[state, event] == (AdjacencyState.DOWN, AdjacencyAction.FORGET)


@pytest.mark.parametrize("state", list(AdjacencyState)[2:])
def test_a_heartbeat_that_lacks_us_falls_back_to_init(state: AdjacencyState) -> None:
    transition = TRANSITIONS[state, AdjacencyEvent.HELLO_ONE_WAY]
    assert transition == (AdjacencyState.INIT, AdjacencyAction.FALL_BACK)


def test_the_specification_prints_the_same_table() -> None:
    text = DOCUMENT.read_text()
    for event in AdjacencyEvent:
        cells = [
            f"{TRANSITIONS[state, event].state.name} {TRANSITIONS[state, event].action.name}"
            for state in AdjacencyState
        ]
        row = " | ".join(
            "-" if cell == f"{state.name} IGNORE" else cell
            for state, cell in zip(AdjacencyState, cells, strict=True)
        )
        assert f"| {event.name} | {row} |" in text


def test_the_dead_interval_is_what_the_neighbor_advertised() -> None:
    adjacency = make_adjacency()
    adjacency.record_hello(Hello(200, 4, 1500, 0), sequence=1, timestamp=1, now=101.0)
    assert adjacency.dead_at == pytest.approx(101.8)


def test_rtt_is_measured_by_the_echo_less_the_hold() -> None:
    adjacency = make_adjacency()
    entry = NeighborHeard(ROUTER_ID, 1, 1, 1, echo_timestamp=timestamp_us(10.0), hold_us=500_000)
    adjacency.measure_rtt(entry, now=10.502)
    assert adjacency.rtt_s == pytest.approx(0.002, abs=1e-5)


def test_rtt_survives_the_wrap_of_the_clock() -> None:
    wrap_s = 2**32 / 1_000_000
    adjacency = make_adjacency()
    echo = timestamp_us(wrap_s - 0.001)
    adjacency.measure_rtt(NeighborHeard(ROUTER_ID, 1, 1, 1, echo, 0), now=wrap_s + 0.001)
    assert adjacency.rtt_s == pytest.approx(0.002, abs=1e-5)


@pytest.mark.parametrize("echo_timestamp", [0, timestamp_us(1.0), timestamp_us(101.0)])
def test_an_absent_or_absurd_echo_is_no_sample(echo_timestamp: int) -> None:
    adjacency = make_adjacency()
    adjacency.measure_rtt(NeighborHeard(ROUTER_ID, 1, 1, 1, echo_timestamp, 0), now=100.0)
    assert adjacency.rtt_s is None


def test_a_new_session_voids_what_the_neighbor_had_agreed() -> None:
    adjacency = make_adjacency()
    adjacency.neighbor_session = 9
    adjacency.open_session(4, now=102.0)
    assert (adjacency.session, adjacency.neighbor_session) == (4, 0)
