"""The route of a flow, from a snapshot of the forwarding table."""

from __future__ import annotations

import os

import pytest

from routed.dataplane.flows import EndReason
from routed.dataplane.ipfix import FlowRecord
from routed.model.prefix import Address, Family
from routed.observer.routes import FlowRoutes
from tests.fakes.fib_writer import PARTS, Writer, add, hop
from tests.unit.dataplane.test_ipfix import record

FLOW = record(Family.IPV4, 1).flow


def test_without_a_snapshot_a_flow_has_no_route() -> None:
    assert FlowRoutes().record(FLOW, EndReason.IDLE) == FlowRecord(FLOW, EndReason.IDLE, 0, None)


def test_what_is_no_snapshot_is_not_read() -> None:
    routes = FlowRoutes()
    descriptor = os.memfd_create("none", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, 8192)
    routes.open(descriptor, 8192)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert routes.record(FLOW, EndReason.IDLE).prefix_len == 0
    with pytest.raises(ValueError, match="length"):
        routes.open(os.memfd_create("empty", os.MFD_CLOEXEC), 8192)


def test_the_next_hop_is_that_of_the_interface() -> None:
    writer = Writer(next(iter(PARTS.values())))
    writer.apply(add("203.0.113.0/24", hop("10.0.0.2", 2), hop("10.0.0.3", 3)))
    routes = FlowRoutes()
    routes.open(os.dup(writer.snapshot.fileno()), writer.snapshot.size_bytes)
    for ifindex, via in ((2, "10.0.0.2"), (3, "10.0.0.3")):
        found = routes.record(FLOW._replace(sent_ifindex=ifindex), EndReason.IDLE)
        assert (found.prefix_len, found.next_hop) == (24, Address.parse(via))
    assert routes.record(FLOW._replace(sent_ifindex=9), EndReason.IDLE).next_hop is None
    elsewhere = FLOW._replace(destination=Address.parse("8.8.8.8").addr_bits)
    assert routes.record(elsewhere, EndReason.IDLE) == FlowRecord(
        elsewhere, EndReason.IDLE, 0, None
    )
    writer.snapshot.close()
