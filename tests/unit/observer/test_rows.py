"""The largest flows, hosts and ports."""

from __future__ import annotations

from routed.dataplane.flows import Flow
from routed.imsg.observer import FlowRow, FlowsAsked, FlowTableKind
from routed.model.prefix import Address, Family
from routed.observer.rows import Ranking

NOW_NS = 100_000_000_000
A, B, C = (Address.parse(f"192.0.2.{number}") for number in (1, 2, 3))


def flow(
    source: Address, port: int, destination: Address, to: int, packets: int, size: int,
    protocol: int = 6,
) -> Flow:  # fmt: skip
    return Flow(
        Family.IPV4, source.addr_bits, destination.addr_bits, port, to, protocol, 2, 3,
        packets, size, NOW_NS - 9_000_000_000, NOW_NS - 1_500_000_000, 0x12,
    )  # fmt: skip


FLOWS = [
    flow(A, 40_000, B, 443, 10, 1_000),
    flow(B, 443, A, 40_000, 20, 9_000),
    flow(C, 50_000, B, 443, 30, 300),
    flow(A, 0, C, 0, 1, 98, protocol=1),
]


def ask(table: FlowTableKind, top: int = 10, *, by_packets: bool = False) -> tuple[FlowRow, ...]:
    ranking = Ranking(FlowsAsked(table, top, by_packets), NOW_NS)
    ranking.add(FLOWS[:2])
    ranking.add([])
    ranking.add(FLOWS[2:])
    return ranking.rows()


def test_the_largest_flows_come_first() -> None:
    assert [row.bytes for row in ask(FlowTableKind.FLOWS)] == [9_000, 1_000, 300, 98]
    assert [row.packets for row in ask(FlowTableKind.FLOWS, 2, by_packets=True)] == [30, 20]
    (row,) = ask(FlowTableKind.FLOWS, 1)
    assert (row.source, row.source_port, row.destination, row.destination_port) == (
        B,
        443,
        A,
        40_000,
    )
    assert (row.protocol, row.received_ifindex, row.sent_ifindex) == (6, 2, 3)
    assert (row.age_ms, row.idle_ms, row.flows, row.tcp_flags) == (9_000, 1_500, 1, 0x12)


def test_a_host_has_what_it_has_sent_and_received() -> None:
    rows = {row.source: row for row in ask(FlowTableKind.HOSTS)}
    figures = {
        host: (row.packets, row.bytes, row.received_packets, row.received_bytes, row.flows)
        for host, row in rows.items()
    }
    assert figures == {
        A: (11, 1_098, 20, 9_000, 3),
        B: (20, 9_000, 40, 1_300, 3),
        C: (30, 300, 1, 98, 2),
    }
    assert [row.source for row in ask(FlowTableKind.HOSTS, 2)] == [B, A]
    assert [row.source for row in ask(FlowTableKind.HOSTS, 1, by_packets=True)] == [B]


def test_a_port_is_the_lower_one_and_only_protocols_with_ports_have_any() -> None:
    (row,) = ask(FlowTableKind.PORTS)
    assert (row.protocol, row.destination_port, row.flows, row.source) == (6, 443, 3, None)
    assert (row.packets, row.bytes) == (40, 1_300)
    assert (row.received_packets, row.received_bytes) == (20, 9_000)


def test_an_impossible_number_of_rows_is_cut() -> None:
    assert len(ask(FlowTableKind.FLOWS, 0)) == 1
    assert len(ask(FlowTableKind.FLOWS, 1 << 40)) == 4
