"""The whole daemon with a large table: from file to kernel, one more route, memory, response
times meanwhile.

One router of the lab runs routed; clients run inside it. A route that is added is timed over an
open connection, from the request to the kernel's notification of it: the start of the client is not
counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import privilege
import router_config
from protocol import RUN_DIRECTORY
from testbed import Lab
from tests.bench.harness import Bench
from waiting import wait_until

__all__ = ["living_daemon", "pss_of"]

ROUTER = "R"
INSTALL_LIMIT_S = 300.0

STATUS_WHILE = """
import json, sys, time
from ipc.blocking import ControlClient
from ipc.control import ShowStatus

count, times = int(sys.argv[2]), []
with ControlClient(sys.argv[1]) as client:
    client.connect()
    while True:
        begin = time.perf_counter()
        (row,) = client.ask(ShowStatus()).rows()
        times.append(1e3 * (time.perf_counter() - begin))
        fib = row["fib"]
        if fib["installed"] >= count and not fib["pending"]:
            break
        time.sleep(0.005)
times.sort()
print(json.dumps({"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100],
                  "longest": times[-1]}))
"""

ONE_MORE = """
import json, socket, struct, sys, time
from ipc.client import Client

count = int(sys.argv[2])
listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
listener.bind((0, 1 << 6))  # RTNLGRP_IPV4_ROUTE
listener.settimeout(10)
bare = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
bare.bind((0, 0))
bare.settimeout(10)
times, limits = [], []

def change(kind, flags):
    # 198.51.100.0/24, unreachable, of protocol static; 24 adds it, 25 deletes it
    body = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 4, 0, 7, 0)
    body += struct.pack("=HH4s", 8, 1, bytes((198, 51, 100, 0)))
    bare.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
    assert struct.unpack_from("=i", bare.recv(4096), 16) == (0,)

with Client(sys.argv[1]) as client:
    client.status()
    for number in range(count):
        begin = time.perf_counter()
        change(24, 0x600)
        limits.append(1e3 * (time.perf_counter() - begin))
        change(25, 0)
        prefix = f"203.0.{number & 255}.0/24"
        wanted = socket.inet_aton(prefix.split("/")[0])
        begin = time.perf_counter()
        client.add(prefix, via="10.0.1.1", dev="eth-A")
        while True:
            message = listener.recv(65536)
            if struct.unpack_from("=H", message, 4)[0] == 24 and message[40:44] == wanted:
                break
        times.append(1e3 * (time.perf_counter() - begin))
        client.delete(prefix)
times.sort()
limits.sort()
print(json.dumps({"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100],
                  "limit": limits[len(limits) // 2]}))
"""


def pss_of(pid: int) -> int:
    """Return the proportional set size of a process of this machine, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("smaps_rollup without Pss")


def living_daemon(bench: Bench, count: int, limit_s: float | None) -> int | None:
    """Measure a daemon that gets a table from a file.

    Args:
    bench: for the rows.
    count: routes of the table.
    limit_s: the time in which the kernel takes as many routes; None if that was not measured.

    Returns:
    PSS of its two processes with the table, in bytes; None where there can be no lab.
    """
    reason = privilege.probe().reason
    if reason:
        bench.leave_out("a lab", reason)
        return None
    with Lab("line3") as lab:
        lab.start_daemons([ROUTER])
        _one_more_route(bench, lab, 0)
        _write_routes(lab, count)
        began = time.perf_counter()
        patience = _import_and_watch(lab, count)
        took = time.perf_counter() - began
        bench.add(
            f"route import of {count} routes, file to kernel",
            "s",
            took,
            {} if limit_s is None else {"kernel limit": limit_s},
            target=1.6,
            limit="kernel limit",
        )
        bench.add(
            f"show status while {count} routes are imported and written, p99",
            "ms",
            patience["p99"],
            {"p50": patience["p50"], "longest": patience["longest"]},
            target=50.0,
        )
        pss_bytes = _pss_inside(lab)
        _one_more_route(bench, lab, count)
        return pss_bytes


def _write_routes(lab: Lab, count: int) -> None:
    text = "".join(
        f"{11 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 via 10.0.1.1 dev eth-A\n"
        for n in range(count)
    )
    lab.file(f"{RUN_DIRECTORY}/{ROUTER}/routes.txt").write_text(text)


def _import_and_watch(lab: Lab, count: int) -> dict[str, float]:
    """Import in one process, request the status in another, until the kernel has all."""
    socket_path = router_config.socket_path(ROUTER)
    program = lab.file(f"{RUN_DIRECTORY}/{ROUTER}/watch.py")
    program.write_text(
        "import subprocess, sys\n"
        "importing = subprocess.Popen([sys.executable, '-m', 'routectl', '-s', sys.argv[1],\n"
        f"    'route', 'import', '{RUN_DIRECTORY}/{ROUTER}/routes.txt'],\n"
        "    stdout=subprocess.DEVNULL)\n" + STATUS_WHILE + "assert importing.wait() == 0\n"
    )
    words = [sys.executable, f"{RUN_DIRECTORY}/{ROUTER}/watch.py", socket_path, str(count)]
    done = lab.run(ROUTER, words, timeout_s=INSTALL_LIMIT_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _one_more_route(bench: Bench, lab: Lab, count: int) -> None:
    program = lab.file(f"{RUN_DIRECTORY}/{ROUTER}/one_more.py")
    program.write_text(ONE_MORE)
    socket_path = router_config.socket_path(ROUTER)
    words = [sys.executable, f"{RUN_DIRECTORY}/{ROUTER}/one_more.py", socket_path, "200"]
    done = lab.run(ROUTER, words, timeout_s=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    where = f"one route added, to the kernel's notification, {count} routes in the table"
    bench.add(
        f"{where}, p50", "ms", found["p50"], {"netlink with an acknowledgement": found["limit"]},
        target=4.0, limit="netlink with an acknowledgement",
    )  # fmt: skip
    bench.add(f"{where}, p99", "ms", found["p99"], target=10.0)

    def is_complete() -> bool:
        fib = lab.routectl(ROUTER, "show", "status")[0]["fib"]
        return not fib["pending"] and not fib["stale"]

    wait_until(is_complete, 60, "the added routes are gone again")


def _pss_inside(lab: Lab) -> int:
    """Return the PSS of parent and engine, by their pids inside the lab."""
    pids = [lab.daemon_pid(ROUTER), lab.engine_pid(ROUTER)]
    script = (
        f"for pid in {pids}:\n"
        "    for line in open(f'/proc/{pid}/smaps_rollup'):\n"
        "        if line.startswith('Pss:'): print(line.split()[1])\n"
    )
    done = lab.run(ROUTER, [sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    return sum(1024 * int(number) for number in done.stdout.split())
