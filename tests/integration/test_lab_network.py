"""The lab's network without a daemon: links carry packets, and can be cut and restored."""

from __future__ import annotations

import socket

import pytest

import kernel
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

_DEADLINE_S = 60.0


def _route_by_hand(lab: Lab, source: str, destination: str, via: str, ifname: str) -> None:
    """Add routes to both loopback addresses of a router; `via` is the adjacent router."""
    port = next(port for port in lab.topology.ports_of(via) if port.ifname == ifname)
    (own,) = (
        candidate
        for segment in lab.topology.segments
        for candidate in segment.ports
        if candidate.node == source and port in segment.ports
    )
    prefixes = [str(loopback) for loopback in lab.topology.nodes[destination].loopbacks]
    for prefix, gateway in zip(prefixes, port.addresses, strict=True):
        kernel.add_route(lab.netlink(source), prefix, via=str(gateway.ip), dev=own.ifname)


def _route_line(lab: Lab) -> None:
    """Add static routes between the ends of A - R - B."""
    _route_by_hand(lab, "A", "B", via="R", ifname="eth-A")
    _route_by_hand(lab, "B", "A", via="R", ifname="eth-B")
    _route_by_hand(lab, "R", "A", via="A", ifname="eth-R")
    _route_by_hand(lab, "R", "B", via="B", ifname="eth-R")


def test_ping_crosses_a_router_over_routes_made_by_hand(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    _route_line(lab)

    for version in (4, 6):
        report = lab.ping("A", "B", count=5, version=version)
        assert (report.sent, report.received) == (5, 5)


def test_ping_crosses_the_bridge_of_a_lan(build_lab: LabBuilder) -> None:
    lab = build_lab("lan4")
    _route_by_hand(lab, "A", "D", via="D", ifname="eth-lan")
    _route_by_hand(lab, "D", "A", via="A", ifname="eth-lan")

    assert lab.ping("A", "D", version=4).lost == 0
    assert lab.ping("A", "D", version=6).lost == 0


def test_ping_without_a_route_is_loss_and_not_an_error(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    pinger = lab.pinger("A", "B", 4)
    report = pinger.ping(count=3, interval_s=0.01, grace_s=0)
    pinger.close()
    assert (report.sent, report.received) == (3, 0)


def test_link_local_addresses_are_usable_at_once(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    indexes = {name: ifindex for ifindex, name in lab.netlink("A").link_names().items()}
    sender = lab.open_socket("A", socket.AF_INET6, socket.SOCK_DGRAM)
    receiver = lab.open_socket("R", socket.AF_INET6, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.bind(("::", 61698))
        receiver.settimeout(_DEADLINE_S)
        # A tentative address would be refused here (EADDRNOTAVAIL).
        sender.bind(("fe80::ff:fe00:101", 0, 0, indexes["eth-R"]))
        sender.sendto(b"hello", ("fe80::ff:fe00:102", 61698, 0, indexes["eth-R"]))
        payload, (peer, *_) = receiver.recvfrom(64)
    assert payload == b"hello"
    assert peer.startswith("fe80::ff:fe00:101")


def test_cut_stops_traffic_and_mend_restores_it(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    _route_line(lab)
    assert lab.ping("A", "B", count=1).lost == 0

    lab.cut("A-R")
    assert lab.cut_ports() == {("A", "eth-R")}
    assert lab.ping("B", "A", count=1).lost == 1

    lab.mend("A-R")
    assert lab.cut_ports() == frozenset()
    # The kernel removed A's routes with the link, and restored its addresses.
    _route_by_hand(lab, "A", "B", via="R", ifname="eth-A")
    for version in (4, 6):
        assert lab.ping("A", "B", count=3, version=version).lost == 0


def test_mend_of_the_other_end_s_name_mends_the_same_link(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.cut("A-R")
    lab.mend("R-A")
    assert lab.cut_ports() == frozenset()


def test_ping_stream_counts_the_packets_that_a_cut_loses(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    _route_line(lab)
    with lab.ping_stream("B", "A", versions=(4,)) as stream:
        wait_until(lambda: lab.ping("B", "A", count=3).lost == 0, _DEADLINE_S, "traffic flows")
        lab.cut("A-R")
        assert lab.ping("B", "A", count=1).lost == 1
        lab.mend("A-R")
        _route_by_hand(lab, "A", "B", via="R", ifname="eth-A")
        wait_until(lambda: lab.ping("B", "A", count=1).lost == 0, _DEADLINE_S, "traffic is back")
    assert 0 < stream.lost < stream.sent
    assert 0 < stream.longest_outage_s < _DEADLINE_S


def test_kernel_routes_are_filtered_by_protocol_and_normalised(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    _route_by_hand(lab, "A", "B", via="R", ifname="eth-A")

    assert lab.kernel_routes("A") == []
    routes = lab.kernel_routes("A", protocol=kernel.PROTOCOL_STATIC)
    assert [kernel.as_ip_route(route) for route in routes] == [
        "10.255.0.3 via 10.0.1.2 dev eth-R proto 4 metric 0",
        "2001:db8:ff::3 via 2001:db8:1::2 dev eth-R proto 4 metric 1024",
    ]

    kernel.delete_route(lab.netlink("A"), routes[0])
    assert lab.kernel_routes("A", protocol=kernel.PROTOCOL_STATIC) == routes[1:]


def test_gaps_name_every_missing_route(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    gaps = lab.gaps()
    assert len(gaps) == 3 * 2 * 2  # routers, others, families
    assert "A: 10.255.0.3 (B): no route" in gaps


def test_routers_are_routers(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    done = lab.run("R", ["cat", "/proc/sys/net/ipv4/ip_forward"])
    assert done.stdout == "1\n"
    done = lab.run("R", ["cat", "/proc/sys/net/ipv6/conf/eth-A/forwarding"])
    assert done.stdout == "1\n"
