"""Other routing daemons in the lab, for the same measurements: BIRD, babeld, FRR.

Each runs in the foreground in its router, with the default timers of its protocol. It announces the
router's loopback address, and has converged when every kernel has a route to each of them.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import topology
from pinger import Pinger
from protocol import RUN_DIRECTORY
from testbed import Lab
from waiting import wait_until

__all__ = ["PEERS", "Peer", "cold_start_s", "outage_s"]

DEADLINE_S = 90.0
SBIN = ("/usr/sbin", "/usr/lib/frr", "/usr/bin", "/usr/local/sbin", "/sbin")
"""The folders in which Debian installs daemons; not all of them are in every PATH."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One daemon with one protocol."""

    name: str
    package: str
    """The package in Debian."""
    programs: tuple[str, ...]
    rtprot: int
    """rtm_protocol of its routes."""
    commands: Callable[[Lab, str, str], list[list[str]]]
    """The commands for a router, in order; called with the lab, the router and a prefix for
    its files.
    """

    @property
    def is_installed(self) -> bool:
        """Whether all its programs are installed."""
        return all(find_program(program) is not None for program in self.programs)


def find_program(name: str) -> str | None:
    """Return the path of a daemon; None when it is not installed."""
    return next((f"{place}/{name}" for place in SBIN if Path(place, name).is_file()), None)


def _links(lab: Lab, router: str) -> list[str]:
    return [port.ifname for port in lab.topology.ports_of(router)]


def _write(lab: Lab, path: str, *lines: str) -> str:
    lab.file(path).write_text("\n".join((*lines, "")), encoding="utf-8")
    return path


def _bird(protocol: str) -> Callable[[Lab, str, str], list[list[str]]]:
    def commands(lab: Lab, router: str, files: str) -> list[list[str]]:
        node = lab.topology.nodes[router]
        links = ", ".join(f'"{link}"' for link in _links(lab, router))
        config = _write(
            lab,
            f"{files}.conf",
            f"router id {node.router_id};",
            "protocol device { scan time 10; }",
            'protocol direct { ipv4; interface "lo"; }',
            "protocol kernel { ipv4 { export where source != RTS_DEVICE; import none; }; }",
            protocol.format(links=links, loopback=f"{node.router_id}/32"),
        )
        return [[find_program("bird") or "bird", "-f", "-c", config, "-s", f"{files}.ctl"]]

    return commands


def _babeld(lab: Lab, router: str, files: str) -> list[list[str]]:
    config = _write(
        lab,
        f"{files}.conf",
        *(f"interface {link} type wired" for link in _links(lab, router)),
        f"redistribute local ip {lab.topology.nodes[router].router_id}/32 allow",
        "redistribute local deny",
        "redistribute deny",
        "skip-kernel-setup true",
    )
    program = find_program("babeld") or "babeld"
    options = ["-I", f"{files}.pid", "-S", f"{files}.state", "-L", f"{files}.log"]
    return [[program, *options, "-c", config, *_links(lab, router)]]


def _frr(lab: Lab, router: str, files: str) -> list[list[str]]:
    """Zebra, which owns the kernel, and ospfd; the links as point-to-point, as for BIRD."""
    zebra_config = _write(lab, f"{files}-zebra.conf", f"hostname {router}")
    links = _links(lab, router)
    ospfd_config = _write(
        lab,
        f"{files}-ospfd.conf",
        f"hostname {router}",
        *(
            line
            for link in links
            for line in (
                f"interface {link}",
                " ip ospf area 0",
                " ip ospf network point-to-point",
                "!",
            )
        ),
        "interface lo",
        " ip ospf area 0",
        "!",
        "router ospf",
        f" ospf router-id {lab.topology.nodes[router].router_id}",
        "!",
    )
    directory = f"{files}-run"
    lab.file(directory).mkdir(exist_ok=True)
    lab.file(directory).chmod(0o777)  # they change to a user of their own
    shared = ["-z", f"{directory}/zserv.api", "--vty_socket", directory, "-P", "0"]
    return [
        [find_program(name) or name, "-f", config, "-i", f"{directory}/{name}.pid", *shared]
        for name, config in (("zebra", zebra_config), ("ospfd", ospfd_config))
    ]


PEERS = (
    Peer(
        "BIRD Babel", "bird2", ("bird",), 12,
        _bird(
            "protocol babel {{ ipv4 {{ import all; export where source = RTS_DEVICE || source = "
            "RTS_BABEL; }}; interface {links} {{ type wired; }}; }}"
        ),
    ),
    Peer(
        "BIRD OSPF", "bird2", ("bird",), 12,
        _bird(
            "protocol ospf v2 {{ ipv4 {{ import all; export none; }}; area 0 {{ stubnet "
            "{loopback}; interface {links} {{ type ptp; }}; }}; }}"
        ),
    ),
    Peer("babeld", "babeld", ("babeld",), 42, _babeld),
    Peer("FRR OSPF", "frr", ("zebra", "ospfd"), 188, _frr),
)  # fmt: skip


@contextlib.contextmanager
def _running(lab: Lab, peer: Peer) -> Iterator[None]:
    processes: list[subprocess.Popen[str]] = []
    try:
        for router in lab.topology.nodes:
            processes += [
                lab.popen(router, command, stderr=subprocess.DEVNULL)
                for command in peer.commands(lab, router, f"{RUN_DIRECTORY}/{router}-peer")
            ]
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(10)


def cold_start_s(name: str, peer: Peer) -> float:
    """Return the seconds from the first process to a route to every loopback in every kernel.

    Raises:
    DeadlineExceededError: it did not converge.
    """
    with Lab(name) as lab:
        started = time.perf_counter()
        with _running(lab, peer):
            _wait_reachable(lab, peer)
            return time.perf_counter() - started


def outage_s(
    network: str | topology.Topology, peer: Peer, ends: tuple[str, str], link: str
) -> float:
    """Return how long a stream of IPv4 probes is lost when a link is cut; seconds.

    Raises:
    DeadlineExceededError: it did not converge, or did not recover.
    """
    with Lab(network) as lab, _running(lab, peer):
        _wait_reachable(lab, peer)
        with contextlib.closing(lab.pinger(*ends, 4)) as pinger:
            _wait_answered(pinger)
            with lab.ping_stream(*ends, versions=(4,)) as stream:
                lab.cut(link)
                # The stream itself shows when it was lost; it only has to last until packets arrive
                # again.
                _wait_answered(pinger)
        return stream.longest_outage_s


def _wait_answered(pinger: Pinger) -> None:
    """Wait until all probes of a second are answered."""
    wait_until(lambda: not pinger.ping(50).lost, DEADLINE_S, "the probes are answered")


def _wait_reachable(lab: Lab, peer: Peer) -> None:
    routers = list(lab.topology.nodes)
    loopbacks = {str(node.router_id) for node in lab.topology.nodes.values()}

    def missing(router: str) -> int:
        hosts = {route.prefix for route in lab.kernel_routes(router, peer.rtprot)}
        return len(routers) - 1 - len({host.removesuffix("/32") for host in hosts} & loopbacks)

    for router in routers:
        wait_until(
            lambda: missing(router) <= 0,  # noqa: B023
            DEADLINE_S, f"{router} has a route to everybody",
        )  # fmt: skip
