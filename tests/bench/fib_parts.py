"""Shared parts of the FIB's benchmarks: network namespaces, tables in all their forms, and our
own process.

The arena is a pair of network namespaces joined by eight links; a table is the same routes as
frames of the engine, as buffers for the kernel, and as text; `Daemon` is all that the privileged
process does with them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from ipc import codec
from netns import RouterNamespaces
from routed.engine.fib.desired import UPDATE_ROUTES_MAX
from routed.fib.nexthop_sync import ObjectSync
from routed.fib.nexthops.table import NexthopTable
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.bulk import encode_batch
from routed.fib.routes.codec import encode_barrier
from routed.fib.routes.ownership import Ownership, RouteValue, TableKey
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.routes.tables import BATCH_OPERATIONS, FibTables
from routed.fib.sync import FibSync
from routed.imsg.columns import pack_indices, pack_keys
from routed.imsg.messages import FibColumns, FibUpdate, FibValue
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.prefix import Address, Family
from routed.model.route import NextHop, RouteType
from routed.parent.route_admission import validate_update
from rtnetlink import LinkEnd, Rtnetlink
from tests.bench import tables

__all__ = ["LINKS", "OURS", "PRIORITY", "PROTOCOL", "Arena", "Daemon", "Table", "timed_install"]

LINKS = 8
FIRST_TABLE = 1000
"""Number of the first of several kernel tables."""
PROTOCOL = PRIORITY = 205
OURS = Ownership(PROTOCOL, PRIORITY, frozenset({254}))


class Arena:
    """A network namespace with eight links, up, each with a neighbor's address in its subnet."""

    def __init__(
        self, here: RouterNamespaces, there: RouterNamespaces, ifindexes: Sequence[int]
    ) -> None:
        self.here = here
        self.there = there
        self.ifindexes = ifindexes

    @classmethod
    @contextlib.contextmanager
    def built(cls) -> Iterator[Arena]:
        """Build one; it is removed at the end of the block."""
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
                netlink.set_up("lo", is_up=True)
                for number in range(LINKS):
                    address = ipaddress.ip_interface(f"10.255.{number}.2/24")
                    netlink.add_address(f"w{number}", address)
                    netlink.set_up(f"w{number}", is_up=True)
                netlink.close()
            yield cls(here, there, [names[f"v{number}"] for number in range(LINKS)])
        finally:
            here.close()
            there.close()

    def prefixes(self) -> int:
        """Return the number of IPv4 prefixes in the kernel, of all programs."""
        with self.here.inside():
            text = Path("/proc/thread-self/net/fib_triestat").read_text(encoding="ascii")
        return sum(
            int(line.split()[-1])
            for line in text.splitlines()
            if line.strip().startswith("Prefixes")
        )


class Table:
    """One table of routes in all the forms that the benchmarks need."""

    def __init__(
        self,
        arena: Arena,
        shape: tables.Shape,
        count: int,
        directory: Path,
        *,
        by_object: bool = True,
        paths: int = 1,
        kernel_tables: int = 1,
    ) -> None:
        """Args:
        arena: where it will be installed.
        shape: of the routes.
        count: of the routes.
        directory: for files.
        by_object: whether routes go through nexthop objects.
        paths: next hops of each route.
        kernel_tables: number of kernel tables over which the routes are spread; 1 is main.
        """
        self.arena = arena
        self.by_object = by_object
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
                tuple(
                    NextHop(Address.parse(via.format(leg % LINKS)), arena.ifindexes[leg % LINKS])
                    for leg in range(number, number + paths)
                ),
            )
            for number in range(LINKS)
        ]
        first = FIRST_TABLE if kernel_tables > 1 else 254
        self.table_ids = range(first, first + kernel_tables)
        self.ownership = Ownership(PROTOCOL, PRIORITY, frozenset(self.table_ids))

    def __len__(self) -> int:
        return len(self.keys)

    def frames(self, turn: int = 0) -> list[bytes]:
        """Return the frames of the engine; with another `turn`, every route has another next
        hop.
        """
        values = tuple(FibValue(value.type, value.next_hops) for value in self.values)
        frames = []
        for serial, (table_id, keys, hops) in enumerate(self._parts(UPDATE_ROUTES_MAX), 1):
            indices = pack_indices([(hop + turn) % LINKS for hop in hops])
            columns = FibColumns(table_id, self.family, pack_keys(self.family, keys), indices)
            frames.append(codec.encode(FibUpdate(serial, values, (columns,), ())))
        return frames

    def _parts(self, limit: int) -> Iterator[tuple[int, list[int], list[int]]]:
        """Yield at most `limit` routes of one kernel table at a time: its number, keys, hops."""
        step = len(self.table_ids)
        for number, table_id in enumerate(self.table_ids):
            keys, hops = self.keys[number::step], self.hops[number::step]
            for start in range(0, len(keys), limit):
                yield table_id, keys[start : start + limit], hops[start : start + limit]

    def buffers(self) -> Iterator[bytes]:
        """Return the messages to the kernel for the whole table, in the batches of our sync."""
        in_kernel = self._kernel_values()
        for table_id, keys, hops in self._parts(BATCH_OPERATIONS):
            values = [in_kernel[hop] for hop in hops]
            table_key = TableKey(table_id, self.family, 0, PRIORITY)
            batch = FibBatch(OpKind.INSTALL, table_key, keys, values)
            yield encode_batch(batch, PROTOCOL, 1) + encode_barrier(len(keys) + 1)

    def _kernel_values(self) -> list[RouteValue]:
        """Return the values as the kernel gets them; their nexthop objects exist then."""
        if not self.by_object:
            return self.values

        async def main() -> list[RouteValue]:
            with RequestSocket(PROTOCOL) as requests:
                book = NexthopTable(PROTOCOL, is_enabled=True, is_link_up=lambda _ifindex: True)
                book.read(requests.dump_nexthops() or ())
                values = [book.value_for(value) for value in self.values]
                while writes := book.plan(0.0, BATCH_OPERATIONS):
                    book.record(writes, requests.write_nexthops(writes), 0.0)
                return values

        with self.arena.here.inside():
            return trio.run(main)

    def limit_file(self) -> Path:
        """The same for `fib_limit send`."""
        number = len(self.table_ids)
        path = self.directory / f"{self.family.name}-{len(self)}-{self.by_object}-{number}"
        if not path.exists():
            with path.open("wb") as file:
                for buffer in self.buffers():
                    file.write(struct.pack("=I", len(buffer)) + buffer)
        return path

    def clear(self) -> None:
        """Remove everything from the kernel."""

        async def main() -> None:
            with RequestSocket(PROTOCOL) as requests:
                for table_id, keys, _ in self._parts(BATCH_OPERATIONS):
                    values = [self.values[0]] * len(keys)
                    table_key = TableKey(table_id, self.family, 0, PRIORITY)
                    requests.apply([FibBatch(OpKind.REMOVE, table_key, keys, values)])

        with self.arena.here.inside():
            trio.run(main)


class _Errors:
    """A log sink that fails on any line."""

    def write(self, record: LogRecord) -> None:
        if record.event not in ("fib-resync", "fib-in-sync", "nexthop-suspected"):
            raise AssertionError(f"{record.event} {record.fields}")

    def close(self) -> None:
        """Nothing is open."""


class Daemon:
    """The part of the privileged process, on the kernel of an arena."""

    def __init__(
        self,
        requests: RequestSocket,
        object_requests: RequestSocket,
        *,
        by_object: bool,
        ownership: Ownership = OURS,
    ) -> None:
        self.progress = trio.Event()
        self._ownership = ownership
        fib_tables, log = FibTables(ownership), Logger(_Errors(), "parent", Level.DEBUG)
        book = NexthopTable(PROTOCOL, is_enabled=by_object, is_link_up=lambda _ifindex: True)
        self.sync = FibSync(
            fib_tables,
            requests,
            resync_s=1e6,
            log=log,
            objects=ObjectSync(book, object_requests, fib_tables, log, lambda: 0),
            rng=random.Random(1),
            on_progress=self._on_progress,
            is_link_up=lambda _ifindex: True,
        )

    def _on_progress(self) -> None:
        self.sync.pop_progress()
        self.progress.set()
        self.progress = trio.Event()

    async def take(self, frames: Sequence[bytes]) -> None:
        """Handle frames as they come over the channel, until all routes are in the kernel."""
        for frame in frames:
            update, refused = validate_update(codec.decode(FibUpdate, frame), self._ownership)
            assert not refused
            self.sync.update(update)
            while self.sync.updates_waiting > 4:
                await self.progress.wait()
        while self.sync.updates_waiting or not self.sync.fib_tables.has_tried_all:
            await self.progress.wait()


def timed_install(table: Table, frames: Sequence[bytes], *, adopts: bool = False) -> float:
    """Return the seconds from the first frame (or the first dump) until every route is
    installed.
    """

    async def main() -> float:
        with RequestSocket(PROTOCOL) as requests, RequestSocket(PROTOCOL) as object_requests:
            daemon = Daemon(
                requests, object_requests, by_object=table.by_object, ownership=table.ownership
            )
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
