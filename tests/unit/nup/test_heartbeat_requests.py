"""Triggered heartbeats: an honest request is answered at once, a flood at a limited rate."""

from __future__ import annotations

from collections import Counter

import pytest

from routed.model.prefix import Address
from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.transmit import (
    ANSWER_INTERVALS,
    TRIGGERED_AT_ONCE,
    TRIGGERED_REFILL_MAX_S,
)
from routed.nup.wire.message import (
    HeaderFlag,
    HeartbeatRequest,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, router_id

FLOOD_S, FLOOD_GAP_S = 5, 0.01
HELLO_S = 1.0
STRANGER = Sender(router_id(77), 7)
SOURCE = Address.parse("fe80::77")


class CountingWire(FakeWire):
    """A wire that counts the heartbeats of each router; the pages of a long list are one."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.heartbeats: Counter[str] = Counter()
        self._moments: set[tuple[str, float]] = set()

    def _send(self, sender: Node, ifindex: int, destination: Address | None, data: bytes) -> None:
        moment = sender.name, self.now
        if decode(data).type is MessageType.HEARTBEAT and moment not in self._moments:
            self._moments.add(moment)
            self.heartbeats[sender.name] += 1
        super()._send(sender, ifindex, destination, data)


def lan(seed: int = 1) -> CountingWire:
    wire = CountingWire(seed)
    names = [f"r{number}" for number in range(1, 5)]
    for name in names:
        wire.add_node(name)
    wire.connect(*names)
    wire.run(10)
    return wire


def say(wire: FakeWire, message: Message, source: Address = SOURCE) -> None:
    """Deliver a message to every node on the wire."""
    data = encode(message)
    for name, node in wire.nodes.items():
        node.instance.receive_datagram(data, source, 1, 255, wire.now)
        wire.kick(name)


def request(sender: Sender) -> Message:
    return Message(MessageType.CONTROL, HeaderFlag(0), 0, 0, sender, (HeartbeatRequest(),))


def heartbeat(sequence: int, *heard: Tlv, sender: Sender = STRANGER) -> Message:
    hello = Hello(1000, 3, 1500, 0)
    return Message(MessageType.HEARTBEAT, HeaderFlag(0), sequence, 0, sender, (hello, *heard))


def test_a_station_that_does_not_hear_us_gets_no_heartbeat_for_its_requests() -> None:
    wire = lan()
    say(wire, heartbeat(1))
    wire.run(1)
    before = Counter(wire.heartbeats)
    for _ in range(round(FLOOD_S / FLOOD_GAP_S)):
        say(wire, request(STRANGER))
        wire.run(FLOOD_GAP_S)
    ignored = TraceCode.IGNORED_HEARTBEAT_REQUEST.value
    for name, node in wire.nodes.items():
        assert wire.heartbeats[name] - before[name] <= 2 * FLOOD_S / HELLO_S
        assert node.instance.counters()[ignored] > 1 / FLOOD_GAP_S


def test_requests_of_a_neighbor_are_answered_eight_times_in_a_hello_interval() -> None:
    wire = lan()
    asker = wire.nodes["r2"]
    sender = Sender(asker.router_id, asker.instance.boot_id)
    source = asker.links[1][1].local_address
    before = Counter(wire.heartbeats)
    for _ in range(round(FLOOD_S / FLOOD_GAP_S)):
        say(wire, request(sender), source)
        wire.run(FLOOD_GAP_S)
    answers = wire.heartbeats["r1"] - before["r1"]
    limit = FLOOD_S / (HELLO_S * ANSWER_INTERVALS)
    assert limit / 2 < answers <= limit + 2


def test_the_first_request_to_a_resting_router_is_answered_at_once() -> None:
    wire = lan()
    asker = wire.nodes["r2"]
    sender = Sender(asker.router_id, asker.instance.boot_id)
    link = wire.nodes["r1"].instance._links[1]
    assert link.is_at_rest
    wire.run_until(lambda: link.heartbeat_due > wire.now + 0.5 * HELLO_S, 10)
    before = wire.heartbeats["r1"]
    say(wire, request(sender), asker.links[1][1].local_address)
    wire.run(2 * FLOOD_GAP_S)
    assert wire.heartbeats["r1"] == before + 1


@pytest.mark.parametrize("is_new_each_time", [True, False])
def test_heartbeats_of_unknown_senders_trigger_few_of_ours(is_new_each_time: bool) -> None:
    wire = lan()
    node = wire.nodes["r1"].instance
    before = wire.heartbeats["r1"]
    for count in range(round(FLOOD_S / FLOOD_GAP_S)):
        number = count if is_new_each_time else 0
        wrong_session = NeighborHeard(node.router_id, node.boot_id, count + 1, 5, 0, 0)
        message = heartbeat(count + 1, wrong_session, sender=Sender(router_id(1000 + number), 7))
        say(wire, message, Address.parse(f"fe80::1:{number:x}"))
        wire.run(FLOOD_GAP_S)
    triggered = TRIGGERED_AT_ONCE + FLOOD_S / TRIGGERED_REFILL_MAX_S
    assert wire.heartbeats["r1"] - before <= triggered + 2 * FLOOD_S / HELLO_S
    others = [row for row in node.neighbors(wire.now) if row.router_id in known_ids(wire)]
    assert [row.state for row in others] == [AdjacencyState.UP] * 3


def known_ids(wire: FakeWire) -> set[Address | None]:
    return {node.router_id for node in wire.nodes.values()}
