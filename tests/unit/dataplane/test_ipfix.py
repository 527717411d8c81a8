"""IPFIX messages, as a collector reads them."""

from __future__ import annotations

import random

import pytest

from routed.dataplane.flows import EndReason, Flow
from routed.dataplane.ipfix import MESSAGE_MAX, TEMPLATE_S, FlowRecord, IpfixEncoder
from routed.model.prefix import Address, Family
from tests.fakes.ipfix_collector import IpfixCollector

NOW_NS = 500_000_000_000
WALL_MS = 1_700_000_000_123


def record(family: Family, number: int) -> FlowRecord:
    source, destination, via = (
        ("192.0.2.1", "203.0.113.7", "10.0.0.1")
        if family is Family.IPV4
        else ("2001:db8::1", "2001:db8:5::7", "fe80::1")
    )
    flow = Flow(
        family, Address.parse(source).addr_bits, Address.parse(destination).addr_bits,
        number & 0xFFFF, 443, 6, 2, 3, 10 + number, 1_000 + number,
        NOW_NS - 5_000_000_000, NOW_NS - 10_000_000, 0x1B,
    )  # fmt: skip
    return FlowRecord(flow, EndReason.IDLE, 24, Address.parse(via))


def collected(encoder: IpfixEncoder, records: list[FlowRecord], now: float) -> IpfixCollector:
    collector = IpfixCollector()
    for message, _ in encoder.messages(records, now, WALL_MS, NOW_NS):
        assert len(message) <= MESSAGE_MAX
        collector.receive(message)
    return collector


@pytest.mark.parametrize(
    ("family", "elements"), [(Family.IPV4, (8, 12, 15, 13)), (Family.IPV6, (27, 28, 62, 30))]
)
def test_a_record_has_every_element(family: Family, elements: tuple[int, ...]) -> None:
    (found,) = collected(IpfixEncoder(7), [record(family, 5)], 0.0).records
    values = {element: int.from_bytes(value, "big") for element, value in found.items()}
    source, destination, via, length = elements
    wanted = record(family, 5)
    assert wanted.next_hop is not None
    assert values == {
        source: wanted.flow.source, destination: wanted.flow.destination,
        via: wanted.next_hop.addr_bits, length: 24,
        4: 6, 7: 5, 11: 443, 6: 0x1B, 10: 2, 14: 3, 61: 0, 2: 15, 1: 1_005,
        152: WALL_MS - 5_000, 153: WALL_MS - 10, 136: 1,
    }  # fmt: skip


def test_what_is_not_known_is_zero() -> None:
    plain = record(Family.IPV4, 1)
    unknown = [
        FlowRecord(plain.flow._replace(received_ifindex=0), EndReason.ACTIVE, 0, None),
        FlowRecord(plain.flow, EndReason.ACTIVE, 24, Address.parse("fe80::1")),
    ]
    first, second = collected(IpfixEncoder(0), unknown, 0.0).records
    assert (first[15], first[13], first[10], first[61]) == (bytes(4), b"\0", bytes(4), b"\1")
    assert second[15] == bytes(4)  # of the other family


def test_thousands_of_flows_arrive_in_order_without_a_gap() -> None:
    rng = random.Random(15)
    records = [record(rng.choice(list(Family)), number) for number in range(3_000)]
    collector = collected(IpfixEncoder(1), records, 0.0)
    assert len(collector.records) == 3_000
    assert collector.missing == 0
    packets = sorted(int.from_bytes(found[2], "big") for found in collector.records)
    assert packets == [10 + number for number in range(3_000)]


def test_templates_come_first_and_again_when_they_are_due() -> None:
    encoder = IpfixEncoder(1)
    collector = IpfixCollector()
    received = []
    for now in (0.0, 1.0, TEMPLATE_S - 1, TEMPLATE_S, TEMPLATE_S + 1):
        for message, count in encoder.messages([record(Family.IPV6, 1)], now, WALL_MS, NOW_NS):
            assert count == 1
            collector.receive(message)
        received.append(collector.templates_received)
    assert received == [2, 2, 2, 4, 4]


def test_a_message_that_is_lost_is_a_gap() -> None:
    encoder = IpfixEncoder(1)
    collector = IpfixCollector()
    for lost in (False, True, False):
        for message, _ in encoder.messages([record(Family.IPV4, 1)] * 3, 0.0, WALL_MS, NOW_NS):
            if not lost:
                collector.receive(message)
    assert (len(collector.records), collector.missing) == (6, 3)


def test_nothing_is_sent_without_flows() -> None:
    assert list(IpfixEncoder(1).messages([], 0.0, WALL_MS, NOW_NS)) == []
