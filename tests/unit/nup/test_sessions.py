"""Sessions and their messages: unpredictable numbers, messages in any order."""

from __future__ import annotations

import itertools
import random

import pytest

from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.instance import NeighborInstance
from routed.nup.lifecycle import TABLE_ANSWER_GAP_S
from routed.nup.link.adjacency import Adjacency, timestamp_us
from routed.nup.wire.message import (
    BeginTable,
    EndOfTable,
    HeaderFlag,
    MessageType,
    NeighborHeard,
    Receiver,
    RouteUpdate,
    TableRequest,
    TableVersion,
    Tlv,
)
from tests.fakes.fake_wire import link_settings, router_id
from tests.fakes.nup_pair import PEER, heartbeat
from tests.unit.nup.test_instance_transitions import OURS, PREFIX, Puppet


def sessions(seed: int, count: int) -> list[int]:
    """Return the session numbers of an adjacency that is opened repeatedly."""
    instance = NeighborInstance(router_id(1), 101, 1000, random.Random(seed))
    instance.link_up(link_settings(1, 1), 0.0)
    found = []
    for number in range(count):
        instance.receive_datagram(heartbeat(2, sequence=number + 1), PEER, 1, 255, float(number))
        (neighbor,) = instance._links[1].neighbors.values()
        found.append(neighbor.adjacency.session)
        instance.clear_neighbor(router_id(2), number + 0.5)
    return found


def test_no_session_predicts_the_next_one() -> None:
    """They were consecutive: a station that had seen one on a link could predict all others."""
    found = sessions(1, 200)
    assert len(set(found)) == len(found)
    assert 0 not in found
    steps = [(after - before) % (1 << 32) for before, after in itertools.pairwise(found)]
    assert len(set(steps)) == len(steps)
    assert sum(step < 1 << 31 for step in steps) in range(60, 140)
    assert not set(found) & set(sessions(2, 200))


def test_the_content_of_a_message_may_stand_in_any_order() -> None:
    content: tuple[Tlv, ...] = (
        TableVersion(3),
        BeginTable(0),
        RouteUpdate(PREFIX, 0, 0, False, router_id(2), 5),
        EndOfTable(1),
    )
    for order in itertools.permutations(range(5)):
        puppet = Puppet()
        puppet.reach(AdjacencyState.LOADING)
        everything = (*content, Receiver(router_id(1), puppet.session))
        tlvs = tuple(everything[index] for index in order)
        puppet.send(MessageType.DATA, *tlvs, flags=HeaderFlag.UNICAST_STREAM, sequence=1)
        assert puppet.knows_route
        assert puppet.instance.counters()[TraceCode.TABLE_COUNT_MISMATCH.value] == 0


def test_an_adjacency_that_gets_a_wrong_session_for_ever_falls_back_in_time() -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    wrong = puppet.session ^ 1
    for _ in range(6):
        puppet.wait(0.6)
        if puppet.state is AdjacencyState.UP:
            puppet.hears_us(heard_session=wrong)
    assert not puppet.knows_route


@pytest.mark.parametrize("age_s", [10.001, 60.0, 4000.0, -0.001])
def test_an_implausible_round_trip_is_none(age_s: float) -> None:
    now = 5000.0
    adjacency = Adjacency(router_id(2), PEER, 7, now)
    echoed = timestamp_us(now - age_s)
    adjacency.measure_rtt(NeighborHeard(OURS.router_id, OURS.boot_id, 1, 1, echoed, 0), now)
    assert adjacency.rtt_s is None
    echoed = timestamp_us(now - 9.9)
    adjacency.measure_rtt(NeighborHeard(OURS.router_id, OURS.boot_id, 1, 1, echoed, 0), now)
    assert adjacency.rtt_s == pytest.approx(9.9)


def test_a_table_is_sent_again_no_more_often_than_it_may_be_requested() -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    for _ in range(20):
        puppet.tell(TableRequest())
    assert puppet.instance.counters()[TraceCode.IGNORED_TABLE_REQUEST.value] == 19
    waited_s = 0.0
    while waited_s < TABLE_ANSWER_GAP_S:
        puppet.wait(0.9)
        puppet.hears_us()
        waited_s += 0.9
    puppet.tell(TableRequest())
    assert puppet.instance.counters()[TraceCode.IGNORED_TABLE_REQUEST.value] == 19
