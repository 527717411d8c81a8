"""The exporter on real sockets: each collector has its own messages, and losses are counted."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from routed.imsg.observer import Collector
from routed.model.prefix import Family
from routed.observer.export import FlowExporter
from tests.fakes.ipfix_collector import IpfixCollector
from tests.unit.dataplane.test_ipfix import record

FLOWS = [record(Family.IPV4, number) for number in range(40)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(10)
        yield opened


def connected(listener: socket.socket) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.connect(listener.getsockname())
    return opened


def test_every_collector_is_sent_every_flow(listener: socket.socket) -> None:
    exporter = FlowExporter()
    exporter.configure([Collector("a", 1), Collector("b", 2)])
    for name in ("a", "b"):
        exporter.add_socket(name, connected(listener))
    exporter.export(FLOWS)
    reports = exporter.reports()
    assert [(each.to, each.records, each.lost_records, each.problem) for each in reports] == [
        ("a", 40, 0, ""), ("b", 40, 0, ""),
    ]  # fmt: skip
    collector = IpfixCollector()
    for _ in range(sum(each.messages for each in reports)):
        collector.receive(listener.recv(2048))
    assert (len(collector.records), collector.missing) == (80, 0)
    exporter.configure([])


def test_a_collector_without_a_socket_loses_and_counts() -> None:
    exporter = FlowExporter()
    exporter.configure([Collector("a", 1)])
    exporter.export(FLOWS)
    (report,) = exporter.reports()
    assert (report.records, report.lost_records, report.problem) == (0, 40, "no socket")
    assert not report.has_socket


def test_a_collector_that_is_gone_loses_no_more_than_the_kernel_says(
    listener: socket.socket,
) -> None:
    exporter = FlowExporter()
    exporter.configure([Collector("a", 1)])
    exporter.add_socket("a", connected(listener))
    listener.close()
    for _ in range(3):
        exporter.export(FLOWS[:1])
    (report,) = exporter.reports()
    assert report.records + report.lost_records == 3
    exporter.configure([])


def test_a_reconfiguration_keeps_what_is_the_same(listener: socket.socket) -> None:
    exporter = FlowExporter()
    exporter.configure([Collector("a", 1), Collector("b", 2)])
    exporter.add_socket("a", connected(listener))
    exporter.add_socket("b", connected(listener))
    exporter.export(FLOWS[:1])
    exporter.configure([Collector("b", 3), Collector("a", 1)])
    reports = {each.to: each for each in exporter.reports()}
    assert (reports["a"].records, reports["a"].has_socket) == (1, True)
    assert (reports["b"].records, reports["b"].has_socket) == (0, False)
    unknown = connected(listener)
    exporter.add_socket("c", unknown)
    assert unknown.fileno() == -1
    exporter.configure([])
