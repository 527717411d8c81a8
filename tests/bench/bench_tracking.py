"""Probes: the processor time that the liveness process spends on echo requests.

As many ICMP probes of one second as a process may have, each of another address of the loopback of
a namespace. The time is that of this process, the kernel's work for requests, replies and the
filters of the sockets included, so it does not depend on what else the machine does as wall time
would. The interval is shortened by nothing (no jitter), so attempts and seconds are in proportion.
"""

from __future__ import annotations

import os
import random
import time

import trio

from netns import RouterNamespaces
from routed.imsg.liveness_probes import ProbeSocketReady
from routed.liveness.probe_network import ProbeNetwork
from routed.model.prefix import Address
from routed.model.probe import PROBES_MAX
from routed.parent.probe_socket_options import open_echo_socket
from routed.probe.instance import ProbeInstance
from rtnetlink import Rtnetlink
from tests.bench.harness import Bench
from tests.fakes.probe_scene import probe_settings

SETTLE_S = 3.0
"""Until the state of all is known, and each attempt follows an interval."""
MEASURE_S = 10.0
TARGET_US = 150.0
"""15 % of a processor at a thousand attempts a second."""


def run(bench: Bench) -> None:
    """Measure at the full number of probes, and at a tenth."""
    if os.geteuid() != 0:
        bench.leave_out("everything", "needs root, for network namespaces")
        return
    for count in (PROBES_MAX // 10, PROBES_MAX):
        scaled = bench.scaled(count)
        bench.add(
            f"one of {scaled} ICMP probes a second",
            "us of processor",
            _microseconds_each(scaled),
            target=TARGET_US,
        )


def _microseconds_each(count: int) -> float:
    namespaces = RouterNamespaces.create("bench")
    try:
        with namespaces.inside():
            netlink = Rtnetlink.open_here()
            netlink.set_up("lo", is_up=True)
            netlink.close()
            return trio.run(_measure, count)
    finally:
        namespaces.close()


async def _measure(count: int) -> float:
    instance = ProbeInstance(random.SystemRandom())
    async with trio.open_nursery() as nursery:
        network = ProbeNetwork(
            instance, time.monotonic, lambda _name: None, lambda _name, _number: None, nursery
        )
        probes = [
            probe_settings(f"p{number}", target=_target(number), timeout_s=0.9)
            for number in range(count)
        ]
        network.configure(probes)
        for probe in probes:
            opened = open_echo_socket(probe, 0)
            ready = ProbeSocketReady(probe.name, 0, opened.identifier, opened.has_ip_header)
            network.add_socket(ready, opened.sock)
        nursery.start_soon(network.keep_time)
        await trio.sleep(SETTLE_S)
        began, earlier = time.process_time(), _attempts(instance)
        await trio.sleep(MEASURE_S)
        spent, later = time.process_time() - began, _attempts(instance)
        nursery.cancel_scope.cancel()
    network.configure([])
    return 1e6 * spent / (later - earlier)


def _target(number: int) -> Address:
    return Address.parse(f"127.0.{number // 250}.{number % 250 + 1}")


def _attempts(instance: ProbeInstance) -> int:
    reports = (instance.report(name, 0.0) for name in instance.names)
    return sum(report.attempts for report in reports if report is not None)
