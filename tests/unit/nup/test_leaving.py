"""Messages of a neighbor after it has announced that it leaves or restarts."""

from __future__ import annotations

import pytest

from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.link.state import LEAVING_S
from routed.nup.wire.message import Goodbye, MessageType, RestartNotice, Tlv
from tests.unit.nup.test_instance_transitions import Puppet

RESTART = RestartNotice(30_000)


def up() -> Puppet:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    assert puppet.knows_route
    return puppet


def test_messages_just_after_restart_end_neither_grace_nor_routes() -> None:
    puppet = up()
    puppet.control(RESTART)
    for _ in range(5):
        puppet.wait(0.2)
        puppet.hears_us()
        puppet.tell()
    assert (puppet.state, puppet.knows_route) == (AdjacencyState.DOWN, True)
    assert puppet.instance.counters()[TraceCode.DROPPED_AFTER_LEAVING.value] == 10
    puppet.wait(20)
    assert puppet.knows_route
    puppet.wait(10)
    assert not puppet.knows_route, "the grace that it asked for is over"


def test_the_next_boot_is_accepted_at_once() -> None:
    puppet = up()
    puppet.control(RESTART)
    puppet.boot_id += 1
    puppet.sequence = 0
    puppet.heartbeat()
    assert (puppet.state, puppet.knows_route) == (AdjacencyState.INIT, True)


def test_messages_in_flight_after_goodbye_bring_no_neighbor_back() -> None:
    puppet = up()
    puppet.control(Goodbye())
    states = []
    for _ in range(3):
        puppet.hears_us()
        states.append(puppet.state)
        puppet.wait(0.5)
    puppet.wait(LEAVING_S)
    puppet.heartbeat()
    states.append(puppet.state)
    down = AdjacencyState.DOWN
    assert states == [down, down, down, AdjacencyState.INIT], "at last it goes on in earnest"


def test_goodbye_counts_after_restart() -> None:
    puppet = up()
    puppet.control(RESTART)
    puppet.control(Goodbye())
    assert not puppet.knows_route


@pytest.mark.parametrize("notices", [(RESTART, Goodbye()), (Goodbye(), RESTART)])
def test_of_restart_and_goodbye_in_one_message_goodbye_counts(notices: tuple[Tlv, ...]) -> None:
    puppet = up()
    puppet.sequence += 1
    puppet.send(MessageType.CONTROL, *notices, sequence=puppet.sequence)
    assert (puppet.state, puppet.knows_route) == (AdjacencyState.DOWN, False)
