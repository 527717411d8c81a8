"""Routes into the kernel: a million of them, compared with the kernel's own limit and other
programs.

Ours is all that the privileged process does: frames from the engine's side are decoded and
validated, entered in the FIB tables, planned, encoded, sent, and their outcomes recorded. The
engine's side runs in parallel on another core in the daemon; `import` measures both and the client,
end to end.

The limit is `fib_limit.c`: the very messages that ours sends, prepared in memory, passed to the
kernel by a program that does nothing else. Everything runs in network namespaces of this benchmark.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from routed.fib.request_socket import RequestSocket
from tests.bench import tables
from tests.bench.fib_death import next_hop_dies
from tests.bench.fib_living import living_daemon, pss_of
from tests.bench.fib_parts import PRIORITY, PROTOCOL, Arena, Daemon, Table, timed_install
from tests.bench.harness import Bench

V4_ROUTES, V6_ROUTES, BURST_ROUTES = 1_000_000, 200_000, 10_000
PEER_TIMEOUT_S = 120.0
LIMIT_SOURCE = Path(__file__).with_name("fib_limit.c")


def run(bench: Bench) -> None:
    """Install, adopt, change; IPv4 and IPv6."""
    if os.geteuid() != 0:
        bench.leave_out("everything", "needs root, for network namespaces")
        return
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limit = build_limit(bench, directory)
        arena = stack.enter_context(Arena.built())
        for count in (bench.scaled(10_000), bench.scaled(100_000), bench.scaled(V4_ROUTES)):
            install(bench, Table(arena, tables.IPV4, count, directory), limit)
            next_hop_dies(bench, Table(arena, tables.IPV4, count, directory, paths=2))
        plain = Table(arena, tables.IPV4, bench.scaled(V4_ROUTES), directory, by_object=False)
        install(bench, plain, limit)
        install(bench, Table(arena, tables.IPV6, bench.scaled(V6_ROUTES), directory), limit)
        full = Table(arena, tables.IPV4, bench.scaled(V4_ROUTES), directory)
        adopt(bench, full, limit)
        burst(bench, Table(arena, tables.IPV4, bench.scaled(BURST_ROUTES), directory))
        limit_s = at_the_limit(full, limit) if limit else None
        pss_bytes = living_daemon(bench, bench.scaled(V4_ROUTES), limit_s)
        other_programs(bench, full, pss_bytes)


def install(bench: Bench, table: Table, limit: Limit | None) -> None:
    """Fill an empty kernel table."""
    frames = table.frames()

    def ours() -> float:
        took = timed_install(table, frames)
        table.clear()
        return took

    way = "by nexthop id" if table.by_object else "with their own next hops"
    work = f"install {len(table)} {table.family.name} routes {way}"
    if len(table.table_ids) > 1:
        work += f" in {len(table.table_ids)} tables"
    peers = {"kernel limit": lambda: at_the_limit(table, limit)} if limit else {}
    bench.compare(work, "s", ours, peers, target=1.25, limit="kernel limit")


def at_the_limit(table: Table, limit: Limit) -> float:
    """Return the time in which the kernel takes the table, with nothing else to do."""
    took = limit.send(table)
    table.clear()
    return took


def adopt(bench: Bench, table: Table, limit: Limit | None) -> None:
    """A new daemon reads the routes of the earlier one, and writes nothing."""
    frames = table.frames()
    timed_install(table, frames)

    def ours() -> float:
        return timed_install(table, frames, adopts=True)

    work = f"adopt {len(table)} {table.family.name} routes after a restart"
    peers = {"raw dump": lambda: limit.dump(table)} if limit else {}
    bench.compare(work, "s", ours, peers, target=1.6, limit="raw dump")
    table.clear()


def burst(bench: Bench, table: Table) -> None:
    """Every route gets another next hop, at once."""

    async def main() -> float:
        with RequestSocket(PROTOCOL) as requests, RequestSocket(PROTOCOL) as object_requests:
            daemon = Daemon(requests, object_requests, by_object=table.by_object)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(daemon.sync.run)
                await daemon.take(table.frames())
                frames = table.frames(turn=1)
                began = time.perf_counter()
                await daemon.take(frames)
                took = time.perf_counter() - began
                nursery.cancel_scope.cancel()
            return len(table) / took

    def ours() -> float:
        with table.arena.here.inside():
            rate = trio.run(main)
        table.clear()
        return rate

    work = f"{len(table)} routes change their next hop in a burst"
    bench.compare(work, "routes/s", ours, target=150_000, is_more_better=True)


# --- the limit


class Limit:
    """The compiled `fib_limit`."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def send(self, table: Table) -> float:
        """Return the seconds for all buffers of a table."""
        took, refused = self._run(table, "send", str(table.limit_file()))
        assert not refused, f"{refused} routes were refused"
        return took

    def dump(self, table: Table) -> float:
        """Return the seconds for a dump of the main table."""
        return self._run(table, "dump", str(int(table.family)))[0]

    def _run(self, table: Table, *arguments: str) -> tuple[float, int]:
        with table.arena.here.inside():
            done = subprocess.run(
                [str(self._program), *arguments], check=True, capture_output=True, text=True
            )
        took, number = done.stdout.split()
        return float(took), int(number)


def build_limit(bench: Bench, directory: Path) -> Limit | None:
    """Compile it. Returns None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        bench.leave_out("kernel limit", "a C compiler; Debian: gcc, libc6-dev")
        return None
    program = directory / "fib_limit"
    subprocess.run([compiler, "-O2", "-o", str(program), str(LIMIT_SOURCE)], check=True)
    return Limit(program)


# --- other programs


def other_programs(bench: Bench, table: Table, pss_bytes: int | None) -> None:
    """Measure other programs with the same table, from a file; once, because they take long.

    Args:
    bench: for the rows.
    table: to install.
    pss_bytes: memory of the daemon's processes with such a table.
    """
    found: dict[str, float] = {}
    memory: dict[str, float] = {}
    for name, package, measure in (
        ("ip", "Debian: iproute2", _ip_batch),
        ("bird", "Debian: bird2", _bird),
    ):
        if shutil.which(name) is None:
            bench.leave_out(name, package)
            continue
        bench.say(f"{name}: {len(table)} routes from a file, once")
        found[name], peak_bytes = measure(table)
        if name == "bird":
            memory[name] = peak_bytes / 1e6
        table.clear()
    ours = timed_install(table, table.frames())
    table.clear()
    bench.add(f"install {len(table)} routes beside others", "s", ours, found)
    if pss_bytes is not None:
        bench.add(
            f"memory of parent and engine, {len(table)} routes, one candidate each (PSS)",
            "MB",
            pss_bytes / 1e6,
            memory,
            target=memory.get("bird", 150.0),
        )


def _texts(table: Table) -> Iterator[tuple[str, int]]:
    for key, hop in zip(table.keys, table.hops, strict=True):
        yield f"{ipaddress.ip_address(key >> 8)}/{key & 0xFF}", hop


def _ip_batch(table: Table) -> tuple[float, int]:
    path = table.directory / "ip.batch"
    with path.open("w", encoding="ascii") as file:
        for prefix, hop in _texts(table):
            file.write(
                f"route add {prefix} via 10.255.{hop}.2 dev v{hop} "
                f"proto {PROTOCOL} metric {PRIORITY}\n"
            )
    began = time.perf_counter()
    with table.arena.here.inside():
        subprocess.run(["ip", "-batch", str(path)], check=True, timeout=PEER_TIMEOUT_S)
    return time.perf_counter() - began, 0  # it ends with its work


def _bird(table: Table) -> tuple[float, int]:
    path, control = table.directory / "bird.conf", table.directory / "bird.ctl"
    with path.open("w", encoding="ascii") as file:
        file.write(
            "router id 10.255.0.1;\nprotocol device { }\n"
            f"protocol kernel {{ ipv4 {{ export all; }}; metric {PRIORITY}; }}\n"
            "protocol static { ipv4;\n"
        )
        for prefix, hop in _texts(table):
            file.write(f"route {prefix} via 10.255.{hop}.2;\n")
        file.write("}\n")
    before = table.arena.prefixes()
    began = time.perf_counter()
    with table.arena.here.inside():
        bird = subprocess.Popen(["bird", "-f", "-c", str(path), "-s", str(control)])
    try:
        while table.arena.prefixes() < before + len(table):
            if bird.poll() is not None or time.perf_counter() - began > PEER_TIMEOUT_S:
                raise RuntimeError("bird did not install the table")
            time.sleep(0.05)
        return time.perf_counter() - began, pss_of(bird.pid)
    finally:
        bird.terminate()  # it removes its routes
        bird.wait(PEER_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit("run by `make bench ONLY=fib`")
