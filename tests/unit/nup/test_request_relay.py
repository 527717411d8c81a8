"""A relay passes on requests that the origin may grant, whatever else is requested."""

from __future__ import annotations

from routed.model.prefix import Address, Prefix
from routed.nup.events import TraceCode
from routed.nup.seqno_relay import MAX_FORWARDED, REQUEST_REACH, RequestRelay
from routed.nup.wire.message import SeqnoRequest
from tests.fakes.fake_wire import FakeWire

ORIGINATED = Prefix.parse("203.0.113.0/24")


def line() -> tuple[FakeWire, RequestRelay, int]:
    """Build origin - relay - asker with another asker on the relay. Returns also the origin's
    seqno."""
    wire = FakeWire(3)
    for name in ("origin", "relay", "asker", "other"):
        wire.add_node(name)
    for name in ("origin", "asker", "other"):
        wire.connect("relay", name)
    wire.originate("origin", str(ORIGINATED))
    wire.run(5)
    selection = wire.nodes["relay"].instance._table.selection(ORIGINATED)
    assert selection is not None
    return wire, wire.nodes["relay"].instance._relay, selection.seqno


def ask(wire: FakeWire, relay: RequestRelay, asker: str, seqno: int, hop_count: int = 64) -> int:
    """Return how many requests are passed on for this one."""
    instance = wire.nodes["relay"].instance
    code = TraceCode.SEQNO_REQUEST_FORWARDED.value
    before = instance.counters()[code]
    asker_id = wire.nodes[asker].router_id
    found = [
        (link, neighbor)
        for link in instance._links.values()
        for neighbor in link.neighbors.values()
        if neighbor.key.router_id == asker_id
    ]
    request = SeqnoRequest(ORIGINATED, origin_of(wire), seqno % (1 << 32), hop_count)
    for link, neighbor in found:
        relay.receive(link, neighbor, request, wire.now)
    return instance.counters()[code] - before


def origin_of(wire: FakeWire) -> Address:
    return wire.nodes["origin"].router_id


def test_requests_for_ever_newer_seqnos_do_not_shadow_one_that_can_be_granted() -> None:
    wire, relay, seqno = line()
    for ahead in range(20):
        assert ask(wire, relay, "other", seqno + (1 << 20) + ahead) == 1
    assert ask(wire, relay, "asker", seqno + 1) == 1
    assert ask(wire, relay, "other", seqno + 1) == 0, "the same one was just passed on"


def test_a_request_that_goes_less_far_does_not_shadow_one_that_goes_on() -> None:
    wire, relay, seqno = line()
    assert ask(wire, relay, "other", seqno + 1, hop_count=2) == 1
    assert ask(wire, relay, "asker", seqno + 1) == 1
    assert ask(wire, relay, "other", seqno + 1, hop_count=63) == 0


def test_a_request_beyond_all_that_is_known_of_the_origin_is_ignored() -> None:
    wire, relay, seqno = line()
    assert ask(wire, relay, "other", seqno + REQUEST_REACH) == 1
    assert ask(wire, relay, "other", seqno + REQUEST_REACH + 1) == 0
    counters = wire.nodes["relay"].instance.counters()
    assert counters[TraceCode.IGNORED_SEQNO_REQUEST.value] == 1


def test_what_is_remembered_and_what_waits_is_bounded() -> None:
    wire, relay, seqno = line()
    for ahead in range(1, MAX_FORWARDED + 100):
        ask(wire, relay, "other", seqno + ahead)
    assert len(relay._forwarded) == MAX_FORWARDED
    waiting = [
        len(neighbor.exchange.requests)
        for link in wire.nodes["relay"].instance._links.values()
        for neighbor in link.neighbors.values()
    ]
    assert max(waiting) == MAX_FORWARDED
