"""Metrics of the dataplane: the hook of each interface, and counters for each protocol."""

from __future__ import annotations

from routed.engine.show.traffic_metrics import traffic_metrics
from routed.metrics.exposition import render
from tests.fakes.fake_dataplane import FakeDataplane


def test_counters_and_rungs_are_exported() -> None:
    lines = render(list(traffic_metrics(FakeDataplane()))).splitlines()
    tcp = 'direction="received",interface="eth0",family="ipv4",protocol="tcp"'
    assert f"routed_traffic_packets_total{{{tcp}}} 1000000" in lines
    assert f"routed_traffic_bytes_total{{{tcp}}} 900000000" in lines
    arp = 'direction="sent",interface="eth0",family="none",protocol="arp"'
    assert f"routed_traffic_packets_total{{{arp}}} 4" in lines
    assert 'routed_dataplane_interface{interface="eth0",hook="tcx",reason=""} 1' in lines
    wan1 = 'interface="wan1",hook="none",reason="no-such-interface"'
    assert f"routed_dataplane_interface{{{wan1}}} 1" in lines
    assert not [line for line in lines if "traffic" in line and "wan1" in line]


def test_flows_are_counted_as_the_observer_reports_them() -> None:
    lines = render(list(traffic_metrics(FakeDataplane()))).splitlines()
    assert {
        "routed_flows 3", "routed_flows_begun_total 1000", "routed_flows_ended_total 996",
        "routed_flows_lost_total 1", "routed_flow_packets_lost_total 40",
    } <= set(lines)  # fmt: skip


def test_records_for_collectors_are_exported() -> None:
    lines = render(list(traffic_metrics(FakeDataplane()))).splitlines()
    assert 'routed_export_records_total{to="192.0.2.9:4739"} 1000' in lines
    assert 'routed_export_records_lost_total{to="[2001:db8::9]:4739"} 7' in lines


def test_nothing_is_exported_without_a_dataplane() -> None:
    assert list(traffic_metrics(FakeDataplane(is_configured=False))) == []
