"""Routes into the kernel: a million of them, beside the kernel's own limit and other programs.

Ours is all that the privileged process does: frames from the engine's side are decoded and judged,
entered in the books, planned, encoded, sent, and their outcomes recorded. The engine's side runs
beside it on another core in the daemon; `import` measures both and the client, end to end.

The limit is `fib_limit.c`: the very messages that ours sends, ready in memory, handed to the kernel
by a program that does nothing else. Everything runs in network namespaces of this benchmark.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from ipc import codec
from ipc.columns import pack_indices, pack_keys
from ipc.internal import FibColumns, FibUpdate, FibValue
from netns import RouterNamespaces
from routed.fib.bulk import encode_batch
from routed.fib.codec import encode_barrier
from routed.fib.ledger import BATCH_OPERATIONS, Ledger
from routed.fib.netlink import RequestSocket
from routed.fib.ownership import Ownership, RouteSpace, RouteValue
from routed.fib.plan import FibBatch, OpKind
from routed.fib.sync import FibSync
from routed.fib_updates import judge_update
from routed.log import Level, Logger, Record
from routed.model.prefix import Address, Family
from routed.model.route import NextHop, RouteType
from routed.wishes import UPDATE_ROUTES_MAX
from rtnetlink import LinkEnd, Rtnetlink
from tests.bench import tables
from tests.bench.harness import Bench

V4_ROUTES, V6_ROUTES, BURST_ROUTES = 1_000_000, 200_000, 10_000
LINKS = 8
PROTOCOL = PRIORITY = 205
OURS = Ownership(PROTOCOL, PRIORITY, frozenset({254}))
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
        install(bench, Table(arena, tables.IPV6, bench.scaled(V6_ROUTES), directory), limit)
        full = Table(arena, tables.IPV4, bench.scaled(V4_ROUTES), directory)
        adopt(bench, full, limit)
        burst(bench, Table(arena, tables.IPV4, bench.scaled(BURST_ROUTES), directory))
        other_programs(bench, full)


# --- where it happens


class Arena:
    """A network namespace with eight links, up, each with a neighbor's address in its subnet."""

    def __init__(self, here: RouterNamespaces, ifindexes: Sequence[int]) -> None:
        self.here = here
        self.ifindexes = ifindexes

    @classmethod
    @contextlib.contextmanager
    def built(cls) -> Iterator[Arena]:
        """Build one; it ends with the block."""
        here, there = RouterNamespaces.create("bench"), RouterNamespaces.create("far")
        try:
            with here.inside():
                netlink = Rtnetlink.open_here()
                netlink.set_up("lo", is_up=True)
                for number in range(LINKS):
                    near = LinkEnd(f"v{number}", bytes((2, 0, 0, 0, 0, number)))
                    far = LinkEnd(f"w{number}", bytes((2, 0, 0, 0, 1, number)))
                    netlink.add_veth(near, far, there.net_fd)
                    for text in (f"10.255.{number}.1/24", f"fd00:{number}::1/64"):
                        netlink.add_address(near.ifname, ipaddress.ip_interface(text))
                    netlink.set_up(near.ifname, is_up=True)
                names = {name: ifindex for ifindex, name in netlink.link_names().items()}
                netlink.close()
            with there.inside():
                netlink = Rtnetlink.open_here()
                for number in range(LINKS):
                    netlink.set_up(f"w{number}", is_up=True)
                netlink.close()
            yield cls(here, [names[f"v{number}"] for number in range(LINKS)])
        finally:
            here.close()
            there.close()

    def prefixes(self) -> int:
        """IPv4 prefixes in the kernel, of everybody."""
        with self.here.inside():
            text = Path("/proc/thread-self/net/fib_triestat").read_text(encoding="ascii")
        return sum(
            int(line.split()[-1])
            for line in text.splitlines()
            if line.strip().startswith("Prefixes")
        )


class Table:
    """One table of routes in all the forms in which somebody wants it."""

    def __init__(self, arena: Arena, shape: tables.Shape, count: int, directory: Path) -> None:
        self.arena = arena
        self.directory = directory
        self.family = Family.IPV4 if shape.width == 32 else Family.IPV6
        routes = tables.full_table(shape, count)
        random.Random(1).shuffle(routes)
        self.keys = [network << 8 | length for network, length, _ in routes]
        self.hops = [hop % LINKS for _, _, hop in routes]
        via = "10.255.{}.2" if self.family is Family.IPV4 else "fd00:{}::2"
        self.values = [
            RouteValue(
                RouteType.UNICAST,
                (NextHop(Address.parse(via.format(number)), arena.ifindexes[number]),),
            )
            for number in range(LINKS)
        ]
        self.space = RouteSpace(254, self.family, 0, PRIORITY)

    def __len__(self) -> int:
        return len(self.keys)

    def frames(self, turn: int = 0) -> list[bytes]:
        """What the engine sends; with another `turn`, every route by another next hop."""
        values = tuple(FibValue(value.type, value.next_hops) for value in self.values)
        frames = []
        for start in range(0, len(self), UPDATE_ROUTES_MAX):
            keys = self.keys[start : start + UPDATE_ROUTES_MAX]
            hops = [(hop + turn) % LINKS for hop in self.hops[start : start + UPDATE_ROUTES_MAX]]
            columns = FibColumns(254, self.family, pack_keys(self.family, keys), pack_indices(hops))
            serial = start // UPDATE_ROUTES_MAX + 1
            frames.append(codec.encode(FibUpdate(serial, values, (columns,), ())))
        return frames

    def buffers(self) -> Iterator[bytes]:
        """What is sent to the kernel for all of it, in the batches that ours makes."""
        for start in range(0, len(self), BATCH_OPERATIONS):
            keys = self.keys[start : start + BATCH_OPERATIONS]
            values = [self.values[hop] for hop in self.hops[start : start + BATCH_OPERATIONS]]
            batch = FibBatch(OpKind.INSTALL, self.space, keys, values)
            yield encode_batch(batch, PROTOCOL, 1) + encode_barrier(len(keys) + 1)

    def limit_file(self) -> Path:
        """The same for `fib_limit send`."""
        path = self.directory / f"{self.family.name}-{len(self)}"
        if not path.exists():
            with path.open("wb") as file:
                for buffer in self.buffers():
                    file.write(struct.pack("=I", len(buffer)) + buffer)
        return path

    def clear(self) -> None:
        """Take everything out of the kernel again."""

        async def main() -> None:
            with RequestSocket(PROTOCOL) as requests:
                for start in range(0, len(self), BATCH_OPERATIONS):
                    keys = self.keys[start : start + BATCH_OPERATIONS]
                    values = [self.values[0]] * len(keys)
                    requests.apply([FibBatch(OpKind.REMOVE, self.space, keys, values)])

        with self.arena.here.inside():
            trio.run(main)


# --- ours


class _Errors:
    """A log sink that lets nothing pass unseen."""

    def write(self, record: Record) -> None:
        if record.event not in ("fib-resync", "fib-in-sync"):
            raise AssertionError(f"{record.event} {record.fields}")

    def close(self) -> None:
        """Nothing is open."""


class Daemon:
    """The privileged process's share, on the kernel of an arena."""

    def __init__(self, requests: RequestSocket) -> None:
        self.progress = trio.Event()
        self.sync = FibSync(
            Ledger(OURS),
            requests,
            resync_s=1e6,
            log=Logger(_Errors(), "parent", Level.DEBUG),
            rng=random.Random(1),
            on_progress=self._on_progress,
            is_link_up=lambda _ifindex: True,
        )

    def _on_progress(self) -> None:
        self.sync.take_progress()
        self.progress.set()
        self.progress = trio.Event()

    async def take(self, frames: Sequence[bytes]) -> None:
        """Take frames as they come over the channel, until all are in the kernel."""
        for frame in frames:
            update, refused = judge_update(codec.decode(FibUpdate, frame), OURS)
            assert not refused
            self.sync.update(update)
            while self.sync.updates_waiting > 4:
                await self.progress.wait()
        while self.sync.updates_waiting or not self.sync.ledger.is_settled:
            await self.progress.wait()


def timed_install(table: Table, frames: Sequence[bytes], *, adopts: bool = False) -> float:
    """Seconds from the first frame (or the first dump) until every route is in its place."""

    async def main() -> float:
        with RequestSocket(PROTOCOL) as requests:
            daemon = Daemon(requests)
            async with trio.open_nursery() as nursery:
                began = time.perf_counter()
                nursery.start_soon(daemon.sync.run)
                await daemon.take(frames)
                took = time.perf_counter() - began
                nursery.cancel_scope.cancel()
            counters = daemon.sync.counters()
            assert counters.installed == len(table), counters
            assert counters.kernel_writes == (0 if adopts else len(table)), counters
            return took

    with table.arena.here.inside():
        return trio.run(main)


def install(bench: Bench, table: Table, limit: Limit | None) -> None:
    """An empty kernel table becomes full."""
    frames = table.frames()

    def ours() -> float:
        took = timed_install(table, frames)
        table.clear()
        return took

    def at_the_limit() -> float:
        assert limit is not None
        took = limit.send(table)
        table.clear()
        return took

    work = f"install {len(table)} {table.family.name} routes"
    peers = {"kernel limit": at_the_limit} if limit else {}
    row = bench.compare(work, "s", ours, peers)
    if limit:
        bench.add(
            f"{work}: ratio to the limit", "x", row.ours / row.peers["kernel limit"], target=1.5
        )


def adopt(bench: Bench, table: Table, limit: Limit | None) -> None:
    """A new daemon finds what the one before it wrote, and writes nothing."""
    frames = table.frames()
    timed_install(table, frames)

    def ours() -> float:
        return timed_install(table, frames, adopts=True)

    work = f"adopt {len(table)} {table.family.name} routes after a restart"
    if limit is None:
        bench.compare(work, "s", ours)
    else:
        reader = limit
        row = bench.compare(work, "s", ours, {"raw dump": lambda: reader.dump(table)})
        ratio = row.ours / row.peers["raw dump"]
        bench.add(f"{work}: ratio to a raw dump", "x", ratio, target=2.0)
    table.clear()


def burst(bench: Bench, table: Table) -> None:
    """Every route gets another next hop, at once."""

    async def main() -> float:
        with RequestSocket(PROTOCOL) as requests:
            daemon = Daemon(requests)
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
        """Seconds for all buffers of a table."""
        took, refused = self._run(table, "send", str(table.limit_file()))
        assert not refused, f"{refused} routes were refused"
        return took

    def dump(self, table: Table) -> float:
        """Seconds for a dump of the main table."""
        return self._run(table, "dump", str(int(table.family)))[0]

    def _run(self, table: Table, *arguments: str) -> tuple[float, int]:
        with table.arena.here.inside():
            done = subprocess.run(
                [str(self._program), *arguments], check=True, capture_output=True, text=True
            )
        took, number = done.stdout.split()
        return float(took), int(number)


def build_limit(bench: Bench, directory: Path) -> Limit | None:
    """Compile it; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        bench.leave_out("kernel limit", "a C compiler; Debian: gcc, libc6-dev")
        return None
    program = directory / "fib_limit"
    subprocess.run([compiler, "-O2", "-o", str(program), str(LIMIT_SOURCE)], check=True)
    return Limit(program)


# --- other programs


def other_programs(bench: Bench, table: Table) -> None:
    """What others take for the same table, from a file; once, for they take long."""
    found: dict[str, float] = {}
    for name, package, measure in (
        ("ip", "Debian: iproute2", _ip_batch),
        ("bird", "Debian: bird2", _bird),
    ):
        if shutil.which(name) is None:
            bench.leave_out(name, package)
            continue
        bench.say(f"{name}: {len(table)} routes from a file, once")
        found[name] = measure(table)
        table.clear()
    ours = timed_install(table, table.frames())
    table.clear()
    bench.add(f"install {len(table)} routes beside others", "s", ours, found)


def _texts(table: Table) -> Iterator[tuple[str, int]]:
    for key, hop in zip(table.keys, table.hops, strict=True):
        yield f"{ipaddress.ip_address(key >> 8)}/{key & 0xFF}", hop


def _ip_batch(table: Table) -> float:
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
    return time.perf_counter() - began


def _bird(table: Table) -> float:
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
        return time.perf_counter() - began
    finally:
        bird.terminate()  # it takes its routes along
        bird.wait(PEER_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit("run by `make bench ONLY=fib`")
