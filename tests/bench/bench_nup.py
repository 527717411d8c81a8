"""NUP in the lab: how soon a network works, what a failure costs, and the load without
changes.

Real daemons in network namespaces, a stream of probes every 10 ms. Other routing daemons were
measured in the same way with their own configurations; they are peers of this benchmark where they
are installed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import topology
from testbed import Lab, LabError
from tests.bench.harness import Bench
from tests.bench.nup_peers import PEERS, Peer, cold_start_s, outage_s
from tests.bench.nup_tables import lan_table, lost_routes, sent_bytes
from waiting import wait_until

__all__ = ["run"]

DEADLINE_S = 60.0
IDLE_S = 20.0
ALARM_S, LONG_ALARM_S = 30.0, 600.0

_SQUARE: dict[str, Any] = {
    "description": "A and B on a LAN, and a detour through R: no carrier loss on the LAN",
    "nodes": {"A": {}, "R": {}, "B": {}},
    "links": ["A-R", "R-B"],
    "lans": {"lan": ["A", "B"]},
}


def run(bench: Bench) -> None:
    """Measure. Where namespaces are not permitted, this is reported and nothing is measured."""
    for peer in PEERS:
        if not peer.is_installed:
            bench.leave_out(peer.name, f"Debian: {peer.package}")
    try:
        _starting(bench)
        _carrier(bench)
        if bench.scale >= 1:  # a quick run has the fast timers only
            _silence(bench, "silent failure, default timers", {"hello": "1s"}, 3.5)
            _idling(bench, "default timers", {"hello": "1s"}, 5.0, 150.0)
        _silence(bench, "silent failure, fast timers (100 ms x 3)", {"hello": "100ms"}, 0.32)
        _idling(bench, "fast timers", {"hello": "100ms"}, 25.0, 1700.0)
        lan_table(bench)
        lost_routes(bench)
        _timers(bench)
    except LabError as error:
        bench.say(f"left out: {error}")


def _with_timers(document: Any, timers: dict[str, str]) -> topology.Topology:
    config = {"interfaces": {"eth*": timers}}
    return topology.compute({**document, "config": config})


def _starting(bench: Bench) -> None:
    """grid16, cold: from the first process, and from the last one that reports ready."""
    from_start, from_ready = [], []
    for _ in range(bench.runs):
        with Lab(_network(bench)) as lab:
            started = time.perf_counter()
            lab.start_daemons()
            ready = time.perf_counter()
            # By the kernels, as for the peers: requests to sixteen daemons would take longer than
            # they do.
            wait_until(lambda: not lab.path_gaps(), DEADLINE_S, "every loopback is reachable")
            done = time.perf_counter()
            lab.wait_converged(DEADLINE_S)
            from_start.append(done - started)
            from_ready.append(done - ready)
    peers = {peer.name: cold_start_s(_network(bench), peer) for peer in _peers(bench)}
    bench.add(
        f"{_network(bench)}: cold processes to all loopbacks reachable",
        "s", statistics.median(from_start), peers, target=5.0,
    )  # fmt: skip
    bench.add(
        f"{_network(bench)}: last daemon ready to all loopbacks reachable",
        "s", statistics.median(from_ready), target=0.4,
    )  # fmt: skip


def _carrier(bench: Bench) -> None:
    """Switch a link in the middle of a path off under a stream of probes.

    Between opposite corners, as the peers were measured; and next to a router whose other path goes
    round the ring, where no neighbor has a path that is known to be free of loops.
    """
    links: tuple[str, ...] = ("r2-r3", "r7-r8")
    _carrier_loss(
        bench, "ring8, opposite corners", "ring8", ("r1", "r5"), links, 20.0, has_peers=True
    )
    if bench.scale >= 1:
        links = ("r12-r13", "r21-r31", "r22-r23", "r22-r32")
        _carrier_loss(bench, "grid16, opposite corners", "grid16", ("r11", "r44"), links, 20.0)
    _carrier_loss(bench, "ring8, all the way round", "ring8", ("r1", "r3"), ("r1-r2",), None)


def _carrier_loss(
    bench: Bench,
    words: str,
    name: str,
    ends: tuple[str, str],
    links: tuple[str, ...],
    target_ms: float | None,
    *,
    has_peers: bool = False,
) -> None:
    outages = []
    with Lab(name) as lab:
        lab.start_daemons()
        lab.wait_converged(DEADLINE_S)
        # Each link at least once: the kernel's hash chooses which of equal paths a stream uses.
        for number in range(max(bench.runs, len(links))):
            link = links[number % len(links)]
            with lab.ping_stream(*ends) as stream:
                lab.cut(link)
                lab.wait_converged(DEADLINE_S)
            outages.append(stream.longest_outage_s)
            lab.mend(link)
            lab.wait_converged(DEADLINE_S)
    peers = {}
    for peer in _peers(bench) if has_peers else ():
        theirs = [outage_s(name, peer, ends, link) for link in links]
        peers[peer.name] = statistics.median(theirs) * 1000
    bench.add(
        f"link cut with carrier loss, {words}: outage of the probe stream",
        "ms", statistics.median(outages) * 1000, {"longest": max(outages) * 1000, **peers},
        target=target_ms,
    )  # fmt: skip


def _silence(bench: Bench, work: str, timers: dict[str, str], target_s: float) -> None:
    """B's port goes down behind the LAN's bridge; A only stops receiving."""
    outages = []
    with Lab(_with_timers(_SQUARE, timers)) as lab:
        lab.start_daemons()
        lab.wait_converged(DEADLINE_S)
        for _ in range(bench.runs):
            with lab.ping_stream("A", "B") as stream:
                lab.cut("B-lan")
                lab.wait_converged(DEADLINE_S)
            outages.append(stream.longest_outage_s)
            lab.mend("B-lan")
            lab.wait_converged(DEADLINE_S)
    peers = {}
    if timers["hello"] == "1s":  # the others have the default timers of their protocols
        square = topology.compute(_SQUARE)
        peers = {p.name: outage_s(square, p, ("A", "B"), "B-lan") for p in _peers(bench)}
    bench.add(work, "s", statistics.median(outages), peers, target=target_s)


def _idling(
    bench: Bench, words: str, timers: dict[str, str], target_ms: float, target_bytes: float
) -> None:
    """grid16 without changes: processor time and memory of all processes of a daemon, and
    traffic.
    """
    document = topology.load(_network(bench)).document
    with Lab(_with_timers(document, timers)) as lab:
        lab.start_daemons()
        lab.wait_converged(DEADLINE_S)
        before, sent, started = _cpu_s(lab), _all_sent(lab), time.perf_counter()
        time.sleep(_scaled(bench, IDLE_S))
        sent_bytes, passed_s = _all_sent(lab) - sent, time.perf_counter() - started
        used_s = _cpu_s(lab) - before
    bench.add(
        f"steady state, {_network(bench)}, {words}: CPU per daemon",
        "ms/s", used_s / len(lab.topology.nodes) / passed_s * 1000, target=target_ms,
    )  # fmt: skip

    bench.add(
        f"steady state, {_network(bench)}, {words}: per link, both ways, with all headers",
        "B/s", sent_bytes / len(lab.topology.segments) / passed_s, target=target_bytes,
    )  # fmt: skip


def _peers(bench: Bench) -> list[Peer]:
    """The peers that take part; a quick run measures only ours."""
    return [peer for peer in PEERS if peer.is_installed and bench.scale >= 1]


def _network(bench: Bench) -> str:
    """The topology of the targets; a small one for a quick run."""
    return "grid16" if bench.scale >= 1 else "triangle"


def _scaled(bench: Bench, duration_s: float) -> float:
    """A time to watch for, shorter for a quick run."""
    return max(0.5, duration_s * min(bench.scale, 1.0))


def _all_sent(lab: Lab) -> int:
    return sum(sent_bytes(lab, router) for router in lab.topology.nodes)


def _timers(bench: Bench) -> None:
    """Fast timers while other programs keep every core busy: adjacencies that are lost without
    a fault.

    Half a minute by default; ten minutes, as the target says, with `--long`.
    """
    busy_s = LONG_ALARM_S if bench.is_long else _scaled(bench, ALARM_S)
    with Lab(_with_timers(topology.load(_network(bench)).document, {"hello": "100ms"})) as lab:
        lab.start_daemons()
        lab.wait_converged(DEADLINE_S)
        spin = [sys.executable, "-c", "while True: pass"]
        hogs = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
        try:
            time.sleep(busy_s)
            lost = sum(lab.log(router).count("adjacency-down") for router in lab.topology.nodes)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
    bench.add(f"100 ms x 3, {busy_s:g} s at full CPU load: adjacencies lost", "", lost, target=0.0)


def _cpu_s(lab: Lab) -> float:
    """CPU time of all daemons so far, as `ps` inside the lab shows it."""
    total = 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    for router in lab.topology.nodes:
        for pid in (lab.daemon_pid(router), lab.engine_pid(router)):
            stat = lab.run(router, ["cat", f"/proc/{pid}/stat"]).stdout
            fields = stat.rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total
