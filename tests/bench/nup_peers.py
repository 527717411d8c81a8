"""Other routing daemons in the lab, for the same measurements: BIRD, with Babel or with OSPF.

Each runs in the foreground in its router, with the timers that its protocol has by default. It
announces the router's loopback address, and is done when every kernel has a route to each of them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

from protocol import RUN_DIRECTORY
from testbed import Lab
from waiting import wait_until

__all__ = ["PROTOCOLS", "cold_start_s"]

RTPROT_BIRD = 12
DEADLINE_S = 90.0

PROTOCOLS = {
    "BIRD Babel": (
        "protocol babel {{ ipv4 {{ import all; export where source = RTS_DEVICE || source = "
        "RTS_BABEL; }}; interface {links} {{ type wired; }}; }}"
    ),
    "BIRD OSPF": (
        "protocol ospf v2 {{ ipv4 {{ import all; export none; }}; area 0 {{ stubnet {loopback}; "
        "interface {links} {{ type ptp; }}; }}; }}"
    ),
}


def _config(lab: Lab, router: str, protocol: str) -> str:
    node = lab.topology.nodes[router]
    loopback = f"{node.router_id}/32"
    links = ", ".join(f'"{port.ifname}"' for port in lab.topology.ports_of(router))
    return "\n".join(
        (
            f"router id {node.router_id};",
            "protocol device { scan time 10; }",
            'protocol direct { ipv4; interface "lo"; }',
            "protocol kernel { ipv4 { export where source != RTS_DEVICE; import none; }; }",
            PROTOCOLS[protocol].format(links=links, loopback=loopback),
            "",
        )
    )


@contextlib.contextmanager
def _running(lab: Lab, protocol: str) -> Iterator[None]:
    processes: list[subprocess.Popen[str]] = []
    program = shutil.which("bird") or "bird"
    try:
        for router in lab.topology.nodes:
            path = f"{RUN_DIRECTORY}/{router}-bird.conf"
            lab.file(path).write_text(_config(lab, router, protocol), encoding="utf-8")
            control = f"{RUN_DIRECTORY}/{router}-bird.ctl"
            processes.append(
                lab.popen(
                    router, [program, "-f", "-c", path, "-s", control], stderr=subprocess.DEVNULL
                )
            )
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def cold_start_s(topology: str, protocol: str) -> float:
    """From the first process to a route to every loopback in every kernel; seconds.

    Raises:
        DeadlineExceededError: it did not get there.
    """
    with Lab(topology) as lab:
        routers = list(lab.topology.nodes)
        started = time.perf_counter()

        def missing(router: str) -> int:
            routes = lab.kernel_routes(router, RTPROT_BIRD)
            hosts = {route.prefix for route in routes if route.prefix.endswith("/32")}
            return len(routers) - 1 - len(hosts)

        with _running(lab, protocol):
            for router in routers:
                wait_until(
                    lambda: missing(router) <= 0,  # noqa: B023
                    DEADLINE_S, f"{router} has a route to everybody",
                )  # fmt: skip
            return time.perf_counter() - started
