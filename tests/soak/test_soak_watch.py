"""The watch detects the failures that it is for; otherwise a soak would prove nothing."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

import kernel
import privilege
from convergence import forwarding_loops
from kernel import KernelNextHop, KernelRoute
from pinger import Pinger
from soak_watch import SoakWatch
from testbed import Lab
from topology import Topology, load
from waiting import wait_until

DEADLINE_S = 20.0
needs_lab = pytest.mark.skipif(not privilege.probe().is_possible, reason=privilege.probe().reason)


def route(prefix: str, *devices: str) -> KernelRoute:
    hops = tuple(KernelNextHop(None, device) for device in devices)
    return KernelRoute(prefix, hops, "unicast", 205, 205, 254)


def line() -> Topology:
    """A - R - B; A and R have routes to B's loopback."""
    return load("line3")


def test_a_path_is_not_a_loop() -> None:
    network = line()
    b = str(network.nodes["B"].loopbacks[0].network)
    tables = {"A": [route(b, "eth-R")], "R": [route(b, "eth-B")], "B": []}
    assert forwarding_loops(network, tables) == []


def test_two_routers_that_point_at_each_other_are_a_loop() -> None:
    network = line()
    b = str(network.nodes["B"].loopbacks[0].network)
    tables = {"A": [route(b, "eth-R")], "R": [route(b, "eth-B", "eth-A")], "B": []}
    assert forwarding_loops(network, tables) == [f"{b}: A > R > A"]


def point(lab: Lab, here: str, there: str, prefix: str) -> None:
    """Add a route of routed's protocol by hand."""
    via = str(lab.topology.port_between(f"{there}-{here}").addresses[0].ip)
    protocol = kernel.PROTOCOL_ROUTED
    kernel.add_route(lab.netlink(here), prefix, via=via, dev=f"eth-{there}", protocol=protocol)


@pytest.mark.root
@needs_lab
def test_a_loop_in_the_kernels_is_detected_and_so_is_a_packet_that_circled() -> None:
    with Lab("line3") as lab, SoakWatch(lab) as watch:
        watch.check()
        elsewhere = "198.51.100.1/32"  # not A's or R's own, and no answer to a martian
        b = str(lab.node("B").loopbacks[0].network)
        for prefix in (b, elsewhere):
            point(lab, "A", "R", prefix)
            point(lab, "R", "A", prefix)
        point(lab, "B", "R", elsewhere)
        source = str(lab.node("B").loopbacks[0].ip)
        connection = lab.open_socket("B", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        pinger = Pinger(connection, source, elsewhere.partition("/")[0])
        pinger.ping(1, grace_s=0.1)
        pinger.close()

        exceeded: Counter[str] = Counter()

        def problems() -> str:
            try:
                watch.check()
            except AssertionError as error:
                return str(error)
            return ""

        def count() -> int:
            exceeded.update(watch.take_exceeded())
            return exceeded.total()

        wait_until(lambda: count() > 0, DEADLINE_S, "the packet is missed")
        assert exceeded.total() == 1, "it is counted once"
        wait_until(
            lambda: f"a forwarding loop: {b}: A > R > A" in problems(),
            DEADLINE_S,
            "the loop is seen",
        )
