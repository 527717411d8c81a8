"""The management plane of a real daemon with 100k routes: start-up, round trips, dumps,
reloads.

Three routers run routed; the clients run inside the middle one, as a user's would. `bare Python` is
the same interpreter that only imports socket and argparse: no client can be faster. Programs are
started with their bytecode cached, as installed ones are.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import yaml

import privilege
import router_config
from protocol import RUN_DIRECTORY
from testbed import Lab
from tests.bench.harness import Bench, seconds
from waiting import wait_until

ROUTES = 100_000
STATICS = 10_000
DUMPERS = 200
ROUTER = "R"


def run(bench: Bench) -> None:
    """Measure everything that has a target in the management plane."""
    reason = privilege.probe().reason
    if reason:
        bench.leave_out("a lab", reason)
        return
    with tempfile.TemporaryDirectory() as cache, Lab("line3") as lab:
        lab.start_daemons()
        lab.wait_converged(60)
        start_up(bench, lab, cache)
        round_trips(bench, lab)
        injection(bench, lab)
        dumps(bench, lab)
        reloads(bench, lab)


def command(*words: str) -> list[str]:
    """Return a client's command line, for use inside."""
    return [sys.executable, "-m", "routectl", "-s", router_config.socket_path(ROUTER), *words]


def wall_ms(lab: Lab, words: Sequence[str], cache: str) -> float:
    """Return the wall time of a whole process, without its start inside the router's namespaces."""
    script = (
        "import json, subprocess, sys, time, os\n"
        "words = json.loads(sys.argv[1])\n"
        "env = {**os.environ, 'PYTHONPYCACHEPREFIX': sys.argv[2]}\n"
        "env.pop('PYTHONDONTWRITEBYTECODE', None)\n"
        "times = []\n"
        "for _ in range(7):\n"
        "    begin = time.perf_counter()\n"
        "    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=env)\n"
        "    times.append(1e3 * (time.perf_counter() - begin))\n"
        "print(sorted(times[1:])[2])\n"
    )
    done = lab.run(ROUTER, [sys.executable, "-c", script, json.dumps(list(words)), cache])
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def start_up(bench: Bench, lab: Lab, cache: str) -> None:
    """A one-shot command against a bare interpreter, in turns."""
    bare = [sys.executable, "-c", "import socket, argparse"]
    figures: dict[str, list[float]] = {"ours": [], "bare Python": [], "abbreviated": []}
    for _ in range(bench.runs):
        figures["bare Python"].append(wall_ms(lab, bare, cache))
        figures["ours"].append(wall_ms(lab, command("show", "neighbors"), cache))
        figures["abbreviated"].append(wall_ms(lab, command("sh", "nei"), cache))
    median = {name: statistics.median(values) for name, values in figures.items()}
    ours = median.pop("ours")
    bench.add("routectl show neighbors", "ms", ours, median, target=median["bare Python"] + 12)


CLIENT = """
import json, statistics, sys, time
from ipc.blocking import ControlClient
from ipc.control import ShowNeighbors, ShowStatus

count = int(sys.argv[2])
with ControlClient(sys.argv[1]) as client:
    client.connect()
    times, first = [], []
    for _ in range(count):
        begin = time.perf_counter()
        list(client.ask(ShowNeighbors()).rows())
        times.append(time.perf_counter() - begin)
    times.sort()
    print(json.dumps({
        "rate": count / sum(times), "p50": 1e3 * times[count // 2],
        "p99": 1e3 * times[count * 99 // 100],
    }))
"""


PING_PONG = """
import os, socket, sys, time

count = int(sys.argv[2])
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if not os.fork():
    ours.close()
    while theirs.recv(1):
        theirs.send(b"x")
    os._exit(0)
theirs.close()
begin = time.perf_counter()
for _ in range(count):
    ours.send(b"x")
    ours.recv(1)
print(count / (time.perf_counter() - begin))
ours.close()
os.wait()
"""
"""Two processes that send a byte back and forth: the upper bound of round trips on this machine."""


def inside(lab: Lab, text: str, *arguments: str, timeout_s: float = 120.0) -> str:
    """Run a client program inside the router."""
    path = f"{RUN_DIRECTORY}/{ROUTER}/client.py"
    lab.file(path).write_text(text)
    done = lab.run(
        ROUTER,
        [sys.executable, path, router_config.socket_path(ROUTER), *arguments],
        timeout_s=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def round_trips(bench: Bench, lab: Lab) -> None:
    """Requests over one open connection."""
    count = str(bench.scaled(3000))
    runs, bare = [], []
    for _ in range(bench.runs):
        runs.append(json.loads(inside(lab, CLIENT, count)))
        bare.append(float(inside(lab, PING_PONG, count)))
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    bench.add("show neighbors on an open connection", "ms", median["p50"], target=1.0)
    bench.add(
        "requests over one connection",
        "1/s",
        median["rate"],
        {"a byte to and fro": statistics.median(bare)},
        target=0.22,
        is_more_better=True,
        limit="a byte to and fro",
    )
    bench.add("the same, p99", "ms", median["p99"], target=1.0)


def injection(bench: Bench, lab: Lab) -> None:
    """Inject a table from a file, until the daemon has it."""
    count = bench.scaled(ROUTES)
    path = lab.file(f"{RUN_DIRECTORY}/{ROUTER}/routes.txt")
    path.write_text(
        "".join(
            f"{11 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 via 10.0.1.1 dev eth-A onlink\n"
            for n in range(count)
        )
    )
    begin = time.perf_counter()
    done = lab.run(
        ROUTER, command("route", "import", f"{RUN_DIRECTORY}/{ROUTER}/routes.txt"), timeout_s=300
    )
    assert done.returncode == 0, done.stderr
    bench.add(
        "route import, a route, file to the RIB", "us", 1e6 * (time.perf_counter() - begin) / count
    )

    def is_complete() -> bool:
        fib = lab.routectl(ROUTER, "show", "status")[0]["fib"]
        return bool(fib["installed"] >= count and not fib["pending"])

    wait_until(is_complete, 300, "all routes are in the kernel")


DUMP = """
import subprocess, sys, time
words = sys.argv[2:] or [
    sys.executable, "-m", "routectl", "-s", sys.argv[1], "show", "routes", "--json"
]
begin = time.perf_counter()
subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - begin)
"""

CROWD = """
import os, signal, sys, time
from ipc.blocking import ControlClient
from ipc.control import ShowRoutes, ShowStatus

path, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
clients = [ControlClient(path) for _ in range(count)]
pages = [client.ask(ShowRoutes()).pages() for client in clients]
readers = os.fork()  # a process of its own: its work is not the daemon's delay
if not readers:
    while True:
        pages = [each for each in pages if next(each, None) is not None]
times = []
with ControlClient(path) as client:
    client.connect()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        list(client.ask(ShowStatus()).rows())
        times.append(1e3 * (time.perf_counter() - begin))
        time.sleep(0.02)
os.kill(readers, signal.SIGKILL)
os.waitpid(readers, 0)
times.sort()
print(times[len(times) // 2], times[len(times) * 99 // 100])
"""


def dumps(bench: Bench, lab: Lab) -> None:
    """Dump a whole table, and let many clients dump it at once."""
    count = bench.scaled(ROUTES)
    before = resident_bytes(lab)
    ours, theirs = [], []
    for _ in range(bench.runs):
        ours.append(count / float(inside(lab, DUMP)))
        if shutil.which("ip"):
            theirs.append(count / float(inside(lab, DUMP, "ip", "-j", "route")))
    if not theirs:
        bench.leave_out("ip", "Debian: iproute2")
    bench.add(
        "show routes --json", "routes/s", statistics.median(ours),
        {"ip -j route": statistics.median(theirs)} if theirs else {},
        target=2.0, is_more_better=True, limit="ip -j route",
    )  # fmt: skip
    grown = (resident_bytes(lab) - before) / 1e6
    bench.add("the daemon's growth by these dumps", "MB", grown, target=10.0)
    lost = lab.log(ROUTER).count("adjacency-down")
    p50, p99 = map(float, inside(lab, CROWD, str(DUMPERS), "10").split())
    bench.add(
        f"show status while {DUMPERS} clients dump, p99", "ms", p99, {"p50": p50}, target=50.0
    )
    lost = lab.log(ROUTER).count("adjacency-down") - lost
    bench.add("adjacencies lost meanwhile (dead after 0.9 s)", "", lost, target=0.0)


def resident_bytes(lab: Lab) -> int:
    """Return the resident memory of the engine."""
    script = f"print(open('/proc/{lab.engine_pid(ROUTER)}/statm').read().split()[1])"
    done = lab.run(ROUTER, [sys.executable, "-c", script])
    return int(done.stdout) * os.sysconf("SC_PAGE_SIZE")


def compose_ms(text: str) -> float:
    """Return the time in which PyYAML reads a text, in milliseconds."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return 1e3 * seconds(lambda: yaml.compose(text, loader))


RELOAD = """
import sys, time
from ipc.blocking import ControlClient
from ipc.control import Reload, ShowRoutes

with ControlClient(sys.argv[1]) as client:
    client.connect()
    begin = time.perf_counter()
    client.ask(Reload()).result()
    while True:
        rows = list(client.ask(ShowRoutes(prefix=sys.argv[2])).rows())
        if rows and rows[0]["fib_state"] == "installed":
            break
    print(1e3 * (time.perf_counter() - begin))
"""


def reloads(bench: Bench, lab: Lab) -> None:
    """Change ten of many static routes, until the kernel has them."""
    base = lab.read_config(ROUTER)
    count = bench.scaled(STATICS)

    def write(generation: int) -> None:
        lines = [
            f"  - {{prefix: 100.{64 + (n >> 8)}.{n & 255}.0/24, type: blackhole}}\n"
            for n in range(count)
        ]
        lines[:10] = [
            f"  - {{prefix: 100.{generation + 1}.{n}.0/24, type: blackhole}}\n" for n in range(10)
        ]
        lab.write_config(ROUTER, base + "static:\n" + "".join(lines))

    write(0)
    assert lab.run(ROUTER, command("reload"), timeout_s=120).returncode == 0
    times, limits = [], []
    for generation in range(1, bench.runs + 1):
        write(generation)
        times.append(float(inside(lab, RELOAD, f"100.{generation + 1}.9.0/24")))
        limits.append(compose_ms(lab.read_config(ROUTER)))
    bench.add(
        f"reload that changes 10 of {count} static routes, to the kernel", "ms",
        statistics.median(times), {"yaml.compose": statistics.median(limits)},
        target=2.0, limit="yaml.compose",
    )  # fmt: skip
