"""The states of an engine process: a table that is complete, and that the documentation shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.imsg.authority import EnginePhase
from routed.parent.engine_process.life import (
    PHASES,
    TRANSITIONS,
    EngineAction,
    EngineEvent,
    EngineState,
)
from tests.transition_text import table_text


def test_the_table_is_complete_and_so_is_the_page() -> None:
    assert set(TRANSITIONS) == {(state, event) for state in EngineState for event in EngineEvent}
    page = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
    assert table_text(TRANSITIONS) in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("state", EngineState)
def test_any_engine_can_be_killed_once_and_ends(state: EngineState) -> None:
    killed, action = TRANSITIONS[state, EngineEvent.KILL]
    is_alive = state not in (EngineState.KILLED, EngineState.ENDED)
    assert (action is EngineAction.KILL) == is_alive
    assert TRANSITIONS[killed, EngineEvent.KILL] == (killed, EngineAction.NONE)
    ended, action = TRANSITIONS[killed, EngineEvent.EXITED]
    assert ended is EngineState.ENDED
    assert (action is EngineAction.CLOSE) == (state is not EngineState.ENDED)


def test_only_an_applied_configuration_leads_to_running() -> None:
    ways = {
        (state, event)
        for (state, event), transition in TRANSITIONS.items()
        if transition.state is EngineState.RUNNING and state is not EngineState.RUNNING
    }
    assert ways == {(EngineState.CONFIGURING, EngineEvent.APPLIED)}


def test_messages_are_read_in_the_states_that_have_a_phase() -> None:
    assert set(EngineState) - PHASES.keys() == {EngineState.KILLED, EngineState.ENDED}
    assert set(PHASES.values()) == set(EnginePhase)
