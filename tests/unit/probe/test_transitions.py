"""The state machine of a probe: complete, and with the two rows of results that it is about."""

from __future__ import annotations

import itertools

import pytest

from routed.model.probe import ProbeState
from routed.probe.transitions import TRANSITIONS, ProbeEvent


def test_every_pair_has_a_state() -> None:
    assert set(TRANSITIONS) == set(itertools.product(ProbeState, ProbeEvent))


@pytest.mark.parametrize("state", ProbeState)
def test_a_full_row_decides_whatever_was_before(state: ProbeState) -> None:
    assert TRANSITIONS[state, ProbeEvent.RISEN] is ProbeState.UP
    assert TRANSITIONS[state, ProbeEvent.FALLEN] is ProbeState.DOWN
    assert TRANSITIONS[state, ProbeEvent.FORGOTTEN] is ProbeState.UNKNOWN


@pytest.mark.parametrize("state", ProbeState)
@pytest.mark.parametrize("event", [ProbeEvent.PASSED, ProbeEvent.FAILED])
def test_part_of_a_row_changes_nothing_that_counts(state: ProbeState, event: ProbeEvent) -> None:
    assert TRANSITIONS[state, event].is_up is state.is_up
