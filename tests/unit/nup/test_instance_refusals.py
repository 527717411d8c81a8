"""Messages that an instance refuses, and how it reports them."""

from __future__ import annotations

import dataclasses
import random

import pytest

from routed.model.prefix import Address
from routed.model.route import METRIC_INFINITY
from routed.nup.events import AdjacencyState, NeighborRow, SendDatagram, TraceCode
from routed.nup.instance import MAX_NEIGHBORS_PER_LINK, NeighborInstance
from routed.nup.link.settings import UsageError
from routed.nup.views import position_of
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, link_settings, router_id
from tests.fakes.nup_pair import (
    LOOPBACK,
    PEER,
    heartbeat,
    listening_instance,
    make_instance,
)


@pytest.mark.parametrize(
    ("source", "ifindex", "hop_limit", "code"),
    [
        (PEER, 9, 255, TraceCode.DROPPED_UNKNOWN_LINK),
        (PEER, 1, 254, TraceCode.DROPPED_HOP_LIMIT),
        (PEER, 1, None, TraceCode.DROPPED_HOP_LIMIT),
        (Address.parse("2001:db8::2"), 1, 255, TraceCode.DROPPED_SOURCE_OFF_LINK),
        (Address.parse("192.0.2.1"), 1, 255, TraceCode.DROPPED_SOURCE_OFF_LINK),
    ],
)
def test_a_datagram_from_elsewhere_is_dropped_and_counted(
    source: Address, ifindex: int, hop_limit: int | None, code: TraceCode
) -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), source, ifindex, hop_limit, 1.0)
    assert instance.counters()[code.value] == 1
    rows = instance.neighbors(1.0)
    assert all(row.router_id is None for row in rows)
    assert [row.address for row in rows] == ([] if ifindex == 9 else [source])


def test_an_ipv4_neighbor_on_the_subnet_is_heard() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), Address.parse("10.0.0.2"), 1, 255, 1.0)
    assert [row.state for row in instance.neighbors(1.0)] == [AdjacencyState.INIT]


def test_our_own_message_looped_back_is_dropped() -> None:
    instance = make_instance()
    instance.link_up(link_settings(1, 1), 0.0)
    (first,) = [output for output in instance.outputs() if isinstance(output, SendDatagram)]
    instance.receive_datagram(first.data, PEER, 1, 255, 0.1)
    assert instance.counters()[TraceCode.DROPPED_OWN_MESSAGE.value] == 1


def test_our_router_id_from_another_router_is_named() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(1), PEER, 1, 255, 0.1)
    assert instance.counters()[TraceCode.DUPLICATE_ROUTER_ID.value] == 1
    (row,) = instance.neighbors(0.1)
    assert (row.router_id, row.address, row.state) == (None, PEER, AdjacencyState.DOWN)
    assert row.problem == "has our router id 10.255.0.1"
    assert instance.neighbors(31.0) == []


def test_two_neighbors_with_one_router_id_do_not_displace_each_other() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), PEER, 1, 255, 0.1)
    other = encode(
        Message(
            MessageType.HEARTBEAT,
            HeaderFlag(0),
            1,
            1,
            Sender(router_id(2), 8),
            (Hello(1000, 3, 1500, 0),),
        )
    )
    instance.receive_datagram(other, Address.parse("fe80::99"), 1, 255, 0.2)
    assert instance.counters()[TraceCode.DUPLICATE_NEIGHBOR_ID.value] == 1
    rows = {row.address: row for row in instance.neighbors(0.2)}
    assert rows[PEER].router_id == router_id(2)
    refused = rows[Address.parse("fe80::99")]
    assert refused.router_id is None
    assert refused.problem == f"has the router id 10.255.0.2, heard from {PEER} as well"


def test_an_old_heartbeat_is_dropped() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2, sequence=5), PEER, 1, 255, 0.1)
    instance.receive_datagram(heartbeat(2, sequence=4), PEER, 1, 255, 0.2)
    assert instance.counters()[TraceCode.DROPPED_OLD_SEQUENCE.value] == 1


def test_a_flood_of_forged_neighbors_is_bounded() -> None:
    instance = listening_instance()
    for number in range(2, MAX_NEIGHBORS_PER_LINK + 40):
        source = Address.parse(f"fe80::{number:x}:1")
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    assert len(instance.neighbors(0.1)) == MAX_NEIGHBORS_PER_LINK
    assert instance.counters()[TraceCode.NEWCOMER_DISPLACED.value] == 38
    instance.handle_timer(3.2)
    assert instance.neighbors(3.2) == []


def test_neighbors_are_shown_a_few_at_a_time() -> None:
    instance = listening_instance()
    for number in range(2, 40):
        source = Address.parse(f"fe80::{number ^ 5:x}:1")
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    everyone = instance.neighbors(0.1)
    assert len(everyone) == 38
    shown: list[NeighborRow] = []
    while rows := instance.neighbors_after(position_of(shown[-1]) if shown else None, 5, 0.1):
        assert len(rows) <= 5
        shown += rows
    assert shown == everyone
    (refused,) = [row for row in everyone if row.router_id is None]  # our own address
    assert instance.adjacency_states() == [(1, AdjacencyState.INIT)] * 37
    assert instance.neighbor_ids() == {row.router_id for row in everyone if row is not refused}


def test_more_neighbors_than_fit_one_heartbeat_are_listed_in_several() -> None:
    instance = listening_instance()
    for number in range(2, 102):
        source = Address.parse(f"fe80::{number:x}:1")
        instance.receive_datagram(heartbeat(number), source, 1, 255, 0.1)
    instance.handle_timer(0.2)
    beats = [
        decode(output.data) for output in instance.outputs() if isinstance(output, SendDatagram)
    ]
    full = [beat for beat in beats if HeaderFlag.PARTIAL_LIST in beat.flags]
    heard = {tlv.router_id for beat in full for tlv in beat.tlvs if isinstance(tlv, NeighborHeard)}
    assert heard == {router_id(number) for number in range(2, 102)}


def test_a_differing_mtu_is_traced_once() -> None:
    wire = FakeWire(1)
    a, _ = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.reconfigure(a, 1, dataclasses.replace(a.links[1][1], mtu=9000))
    wire.run(5)
    assert [trace.code for trace in a.traces].count(TraceCode.MTU_MISMATCH) == 1


@pytest.mark.parametrize(("cost", "hello_interval_s"), [(0, 1.0), (1, 0.001), (1, 61.0)])
def test_settings_out_of_range_are_the_callers_error(cost: int, hello_interval_s: float) -> None:
    with pytest.raises(UsageError):
        link_settings(1, 1, cost=cost, hello_interval_s=hello_interval_s)


def test_misuse_is_the_callers_error() -> None:
    instance = make_instance()
    with pytest.raises(UsageError):
        instance.link_changed(link_settings(1, 1), 0.0)
    with pytest.raises(UsageError):
        instance.originate(LOOPBACK, METRIC_INFINITY, 0, False, 0.0)
    with pytest.raises(UsageError):
        NeighborInstance(Address.parse("::1"), 1, 1, random.Random(1))
