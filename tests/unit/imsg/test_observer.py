"""The observer's two channels: who may send what."""

from __future__ import annotations

import pytest

from ipc.framing import IpcError
from routed.imsg.authority import ImsgType
from routed.imsg.liveness import LivenessMessage
from routed.imsg.observer import (
    OBSERVER_MESSAGES,
    FlowRow,
    FlowsAnswered,
    ObserverEnd,
    ObserverMessage,
    check_observer_message,
)


@pytest.mark.parametrize("number", ObserverMessage)
@pytest.mark.parametrize("sender", ObserverEnd)
@pytest.mark.parametrize("has_descriptor", [False, True])
def test_a_message_is_accepted_from_its_sender_in_its_form_only(
    number: ObserverMessage, sender: ObserverEnd, has_descriptor: bool
) -> None:
    rule = OBSERVER_MESSAGES[number]
    if (rule.sender, rule.carries_descriptor) == (sender, has_descriptor):
        found = check_observer_message(number, sender, has_descriptor=has_descriptor)
        assert found is rule.message
        return
    with pytest.raises(IpcError, match=number.name):
        check_observer_message(number, sender, has_descriptor=has_descriptor)


def test_numbers_are_those_of_no_other_channel() -> None:
    assert set(OBSERVER_MESSAGES) == set(ObserverMessage)
    assert not set(map(int, ObserverMessage)) & {*map(int, LivenessMessage), *map(int, ImsgType)}
    with pytest.raises(IpcError, match="message type 99 does not exist"):
        check_observer_message(99, ObserverEnd.PARENT, has_descriptor=False)


def test_an_answer_is_divided_and_only_its_last_part_ends_it() -> None:
    rows = tuple(FlowRow(None, None, 0, port, 6, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0) for port in range(5))
    first, second = FlowsAnswered(rows).halves()
    assert (first.rows + second.rows, first.continues, second.continues) == (rows, True, False)
    assert FlowsAnswered(rows[:1]).halves() == ()
