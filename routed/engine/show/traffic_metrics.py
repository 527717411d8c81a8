"""Metrics of the dataplane, from the views that `show` has.

Their number is bounded: 128 interfaces, and 45 protocols in two directions for each of the 64 that
are counted; a protocol that was not seen has no series.
"""

from __future__ import annotations

from collections.abc import Iterator

from routed.control.traffic import DataplaneViews
from routed.metrics.exposition import Kind, MetricFamily

__all__ = ["traffic_metrics"]


def traffic_metrics(dataplane: DataplaneViews) -> Iterator[MetricFamily]:
    """Make the metrics of all configured interfaces; none without such an interface."""
    if not dataplane.is_configured:
        return
    hooks = MetricFamily(
        "routed_dataplane_interface", Kind.GAUGE, "How an interface is counted: always 1."
    )
    packets = MetricFamily("routed_traffic_packets", Kind.COUNTER, "Packets, by protocol.")
    size = MetricFamily("routed_traffic_bytes", Kind.COUNTER, "Bytes of these packets.")
    for entry in dataplane.attachments():
        name = entry.interface
        hooks.add(1, interface=name, hook=entry.hook, reason=entry.reason)
        for row in dataplane.protocol_totals(name):
            labels = {"interface": name, "family": row.family, "protocol": row.protocol}
            packets.add(row.received_packets, direction="received", **labels)
            packets.add(row.sent_packets, direction="sent", **labels)
            size.add(row.received_bytes, direction="received", **labels)
            size.add(row.sent_bytes, direction="sent", **labels)
    yield from (hooks, packets, size)
    yield from _flow_metrics(dataplane)
    yield from _export_metrics(dataplane)


def _export_metrics(dataplane: DataplaneViews) -> Iterator[MetricFamily]:
    """Make the metrics of collectors, of which there are 16 at most."""
    collectors = dataplane.export()
    if not collectors:
        return
    sent = MetricFamily("routed_export_records", Kind.COUNTER, "Flows sent to a collector.")
    lost = MetricFamily("routed_export_records_lost", Kind.COUNTER, "Flows that were not sent.")
    for entry in collectors:
        sent.add(entry.records, to=entry.collector)
        lost.add(entry.lost, to=entry.collector)
    yield from (sent, lost)


def _flow_metrics(dataplane: DataplaneViews) -> Iterator[MetricFamily]:
    """Make the metrics of flows; none without an observer."""
    totals = dataplane.flow_totals
    if totals is None:
        return
    for name, kind, help_text, value in (
        ("routed_flows", Kind.GAUGE, "Flows that are counted at present.", totals.active),
        ("routed_flows_begun", Kind.COUNTER, "Flows that have begun.", totals.begun),
        ("routed_flows_ended", Kind.COUNTER, "Flows that have ended.", totals.ended),
        ("routed_flows_lost", Kind.COUNTER, "Flows that were not reported.", totals.lost_flows),
        ("routed_flow_packets_lost", Kind.COUNTER, "Their packets.", totals.lost_packets),
    ):
        family = MetricFamily(name, kind, help_text)
        family.add(value)
        yield family
