"""The state machine: complete, and the one of RFC 5880, section 6.8.6."""

from __future__ import annotations

import itertools

import pytest

from routed.bfd.transitions import DIAGNOSTICS, RECEIVED, TRANSITIONS, BfdEvent
from routed.model.bfd import BfdState


def test_every_pair_has_a_state() -> None:
    assert set(TRANSITIONS) == set(itertools.product(BfdState, BfdEvent))


def specified(state: BfdState, received: BfdState) -> BfdState:
    """The pseudo-code of section 6.8.6, from "If bfd.SessionState is AdminDown" on."""
    if state is BfdState.ADMIN_DOWN:
        return state
    if received is BfdState.ADMIN_DOWN:
        return BfdState.DOWN
    if state is BfdState.DOWN:
        if received is BfdState.DOWN:
            return BfdState.INIT
        return BfdState.UP if received is BfdState.INIT else state
    if state is BfdState.INIT:
        return BfdState.UP if received in (BfdState.INIT, BfdState.UP) else state
    return BfdState.DOWN if received is BfdState.DOWN else state


@pytest.mark.parametrize("state", BfdState)
@pytest.mark.parametrize("received", BfdState)
def test_a_packet_changes_the_state_as_specified(state: BfdState, received: BfdState) -> None:
    assert TRANSITIONS[state, RECEIVED[received]] is specified(state, received)


@pytest.mark.parametrize("state", BfdState)
def test_the_other_events(state: BfdState) -> None:
    is_lost = state in (BfdState.INIT, BfdState.UP)
    assert TRANSITIONS[state, BfdEvent.EXPIRED] is (BfdState.DOWN if is_lost else state)
    assert TRANSITIONS[state, BfdEvent.DISABLED] is BfdState.ADMIN_DOWN
    is_disabled = state is BfdState.ADMIN_DOWN
    assert TRANSITIONS[state, BfdEvent.ENABLED] is (BfdState.DOWN if is_disabled else state)


def test_each_event_that_takes_a_session_down_has_a_diagnostic() -> None:
    down = {
        event
        for (state, event), after in TRANSITIONS.items()
        if state in (BfdState.INIT, BfdState.UP) and after < state and after < BfdState.INIT
    }
    assert down == set(DIAGNOSTICS)
