"""Parent and engine: the authority table decides, before a body is looked at."""

from __future__ import annotations

import pytest

from ipc.codec import _compiled
from routed.imsg.authority import (
    AUTHORITY,
    MESSAGE_CLASSES,
    AuthorityError,
    ChannelEnd,
    EnginePhase,
    ImsgType,
    check_authority,
)


def test_every_type_has_an_authority_and_a_class_of_its_own() -> None:
    assert set(AUTHORITY) == set(ImsgType)
    assert len(MESSAGE_CLASSES) == len(ImsgType)
    assert len({member.value for member in ImsgType}) == len(ImsgType) >= 18


@pytest.mark.parametrize("message_type", ImsgType)
def test_every_message_can_be_encoded(message_type: ImsgType) -> None:
    assert _compiled(AUTHORITY[message_type].message)


@pytest.mark.parametrize("message_type", ImsgType)
@pytest.mark.parametrize("sender", ChannelEnd)
@pytest.mark.parametrize("phase", EnginePhase)
@pytest.mark.parametrize("has_descriptor", [False, True])
def test_only_what_the_table_allows_passes(
    message_type: ImsgType, sender: ChannelEnd, phase: EnginePhase, has_descriptor: bool
) -> None:
    authority = AUTHORITY[message_type]
    is_allowed = (
        authority.sender is sender
        and phase in authority.phases
        and authority.carries_descriptor is has_descriptor
    )
    if is_allowed:
        found = check_authority(message_type, sender, phase, has_descriptor=has_descriptor)
        assert found is authority.message
    else:
        with pytest.raises(AuthorityError, match=message_type.name):
            check_authority(message_type, sender, phase, has_descriptor=has_descriptor)


def test_an_engine_may_hand_over_one_descriptor_before_it_is_configured() -> None:
    """It has not yet read a byte from outside."""
    found = {
        message_type: authority.phases
        for message_type, authority in AUTHORITY.items()
        if authority.sender is ChannelEnd.ENGINE and authority.carries_descriptor
    }
    assert found == {ImsgType.REFUSALS_WATCHED: {EnginePhase.CONFIGURING}}


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(AuthorityError, match="999 does not exist"):
        check_authority(999, ChannelEnd.PARENT, EnginePhase.RUNNING, has_descriptor=False)
