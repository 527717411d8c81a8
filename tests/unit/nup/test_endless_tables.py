"""A neighbor whose table never ends, or that flaps without end, does not block a router."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from routed.model.prefix import Address, Prefix
from routed.nup.events import AdjacencyState
from routed.nup.link.adjacency import LOADING_MAX_S, LOADING_MIN_S, Adjacency
from routed.nup.loading import BOOT_MAX_S
from routed.nup.wire.message import (
    EndOfTable,
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings
from tests.fakes.nup_pair import heartbeat, make_instance

OLD, NEW = "203.0.113.0/24", "192.0.2.0/24"


class EndlessWire(FakeWire):
    """A wire with one station that never ends its table and is always CONVERGING."""

    endless = "endless"
    hello: Hello | None = None

    def _send(self, sender: Node, ifindex: int, destination: Address | None, data: bytes) -> None:
        if sender.name == self.endless:
            data = encode(self._changed(decode(data)))
        super()._send(sender, ifindex, destination, data)

    def _changed(self, message: Message) -> Message:
        tlvs = [tlv for tlv in message.tlvs if not isinstance(tlv, EndOfTable)]
        if self.hello is not None:
            tlvs = [self.hello if isinstance(tlv, Hello) else tlv for tlv in tlvs]
        is_heartbeat = message.type is MessageType.HEARTBEAT
        flags = message.flags | HeaderFlag.CONVERGING if is_heartbeat else message.flags
        return dataclasses.replace(message, flags=flags, tlvs=tuple(tlvs))


def line() -> EndlessWire:
    """Build west - middle - east, and a station with an endless table on a third link of the
    middle."""
    wire = EndlessWire(3)
    for name in ("west", "middle", "east", wire.endless):
        wire.add_node(name)
    for name in ("west", "east", wire.endless):
        wire.connect("middle", name)
    wire.originate("west", OLD)
    return wire


def problem_of(wire: FakeWire, node: Node, name: str) -> str:
    rows = node.instance.neighbors(wire.now)
    return next(row.problem for row in rows if row.router_id == wire.nodes[name].router_id)


@pytest.mark.parametrize("dead_interval", [(1000, 3), (60_000, 255)])
def test_a_table_that_never_ends_is_waited_for_only_so_long(dead_interval: tuple[int, int]) -> None:
    wire = line()
    wire.hello = Hello(*dead_interval, 1500, 0)
    middle = wire.nodes["middle"]
    wire.run(LOADING_MIN_S / 2)
    assert not middle.instance.is_loaded(wire.now)
    assert problem_of(wire, middle, wire.endless) != "its table does not end"
    wire.run(min(dead_interval[0] * dead_interval[1] / 1000, LOADING_MAX_S) + LOADING_MIN_S)
    assert middle.instance.is_loaded(wire.now)
    assert not any(link.is_converging for link in middle.instance._links.values())
    assert problem_of(wire, middle, wire.endless) == "its table does not end"


def test_a_restarted_router_follows_the_network_beside_a_table_that_never_ends() -> None:
    wire = line()
    wire.run(2 * LOADING_MIN_S)
    wire.stop("middle", is_restart=True)
    wire.run(1)
    wire.revive("middle")
    wire.run(3)
    wire.withdraw("west", OLD)
    wire.originate("west", NEW)
    wire.run(2 * LOADING_MIN_S)
    middle, east = wire.nodes["middle"], wire.nodes["east"]
    assert not middle.is_gated
    for node in (middle, east):
        assert Prefix.parse(NEW) in node.routes
        assert Prefix.parse(OLD) not in node.routes


def test_a_long_table_is_waited_for_while_more_of_it_comes() -> None:
    adjacency = Adjacency(Address.parse("10.255.0.2"), Address.parse("fe80::2"), 7, 0.0)
    adjacency.begin_loading(0.0)
    waited = [0.0]
    while adjacency.loading_until is not None and waited[-1] < adjacency.loading_until:
        adjacency.record_progress(waited[-1])
        waited.append(waited[-1] + LOADING_MIN_S / 2)
    assert waited[-1] == LOADING_MAX_S


def test_the_end_of_a_table_that_was_not_waited_for_any_more_is_taken() -> None:
    wire = line()
    wire.run(2 * LOADING_MIN_S)
    wire.endless = ""
    wire.stop("endless", is_restart=False)
    wire.revive("endless")
    wire.run_until(wire.all_up, 30)


def test_stations_that_come_and_go_do_not_keep_a_router_loading() -> None:
    instance = make_instance()
    instance.link_up(link_settings(1, 1), 0.0)
    numbers = itertools.count(100)
    loaded = []
    for second in range(round(BOOT_MAX_S) + 2):
        source = Address.parse(f"fe80::{second + 2:x}:1")
        instance.receive_datagram(heartbeat(next(numbers)), source, 1, 255, float(second))
        loaded.append(instance.is_loaded(float(second)))
    assert instance.pending_adjacencies(float(second)) > 0
    assert loaded == [second >= BOOT_MAX_S for second in range(len(loaded))]
    assert not instance._links[1].is_converging


def test_a_neighbor_that_is_up_is_not_reported_as_endless() -> None:
    wire = line()
    wire.endless = ""
    wire.run(LOADING_MAX_S)
    rows = wire.nodes["middle"].instance.neighbors(wire.now)
    assert [(row.state, row.problem) for row in rows] == [(AdjacencyState.UP, "")] * 3


def test_a_neighbor_that_is_given_up_again_and_again_is_named() -> None:
    """A round trip that is longer than the time to acknowledge: nothing else shows why."""
    wire = FakeWire(4, WireFaults(delay_s=2.0))
    a = wire.add_node("a")
    wire.add_node("b")
    wire.connect("a", "b")
    wire.originate("a", OLD)
    wire.run(60)
    assert problem_of(wire, a, "b") == "recently given up: data went unacknowledged for too long"
