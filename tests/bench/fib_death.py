"""A next hop fails under a table: how long its packets are lost.

Every route has two next hops, in a group that they share. A stream of packets, one a millisecond,
goes to an address in one of the routes, by the next hop that is to fail; the receiver records when
each arrives and by which link. Two failures:

    a neighbor stops sending  the engine marks its next hop to be verified; from that moment until
                              the first packet that arrives by the other link
    the carrier is lost       the far end of the link is switched off; the longest gap

The first must not depend on the number of routes: it is one message. The second is the kernel's own
work: it removes a link's next hops from their groups when it has noticed the loss. It looks at such
losses once a second at most (linkwatch), so links are left alone for longer than that before one is
cut. In practice the second link that changes within a second is noticed up to a second late, unless
its carrier is polled, which is the third row.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from routed.fib.carrier import CarrierCheck
from routed.fib.request_socket import RequestSocket
from rtnetlink import Rtnetlink
from tests.bench.fib_parts import PROTOCOL, Arena, Daemon, Table
from tests.bench.harness import Bench
from waiting import wait_until

__all__ = ["next_hop_dies"]

PERIOD_S = 0.001
PORT = 9
ASKS_EVERY_S = 0.01
LINKWATCH_S = 1.2
"""After this time without a change the kernel looks at the next one at once (linkwatch.c)."""
_IP_PKTINFO = 8
_PKTINFO = struct.Struct("=i4s4s")


class _Arrival(NamedTuple):
    at: float
    ifindex: int


class _Stream:
    """One packet a millisecond, and the arrivals."""

    def __init__(self, arena: Arena, destination: str) -> None:
        self.arrivals: list[_Arrival] = []
        with arena.there.inside():
            self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._far.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._far.bind(("0.0.0.0", PORT))
            self._far.settimeout(0.1)
        with arena.here.inside():
            self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._destination = (destination, PORT)
        self._has_ended = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send and receive until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            for thread in self._threads:
                thread.join()
            self._near.close()
            self._far.close()

    def _send(self) -> None:
        due = time.perf_counter()
        while not self._has_ended.wait(max(0.0, due - time.perf_counter())):
            try:
                self._near.sendto(b"", self._destination)
            except OSError:
                pass  # no route, for a moment: that is what is measured
            due += PERIOD_S

    def _receive(self) -> None:
        while not self._has_ended.is_set():
            try:
                _, ancillary, _, _ = self._far.recvmsg(16, 64)
            except TimeoutError:
                continue
            ifindex = _PKTINFO.unpack(ancillary[0][2])[0]
            self.arrivals.append(_Arrival(time.perf_counter(), ifindex))


def next_hop_dies(bench: Bench, table: Table) -> None:
    """Both failures, under a table whose routes have two next hops each."""
    silent = [_measure(table, has_carrier=True) for _ in range(bench.runs)]
    carrier = [_measure(table, has_carrier=False) for _ in range(bench.runs)]
    asked = [
        _measure(table, has_carrier=False, asks_every_s=ASKS_EVERY_S) for _ in range(bench.runs)
    ]
    bench.add(
        f"a neighbor is suspected under {len(table)} routes, until packets go the other way",
        "ms",
        statistics.median(silent),
        target=20.0,
    )
    bench.add(
        f"a carrier is lost under {len(table)} routes: longest silence of a 1 kHz stream",
        "ms",
        statistics.median(carrier),
        target=20.0,
    )
    bench.add(
        f"the same a moment after another link, `carrier_check: 10ms`, {len(table)} routes",
        "ms",
        statistics.median(asked),
        target=20.0,
    )
    table.clear()


def _measure(table: Table, *, has_carrier: bool, asks_every_s: float | None = None) -> float:
    arena, compat = table.arena, "/proc/sys/net/ipv4/nexthop_compat_mode"
    destination = str(ipaddress.IPv4Address(table.keys[0] >> 8))
    with arena.here.inside(), open(compat, "w", encoding="ascii") as switch:
        switch.write("0\n")
    with arena.there.inside():
        netlink = Rtnetlink.open_here()
        if destination not in _LOCAL:
            _LOCAL.add(destination)
            netlink.add_address("lo", ipaddress.ip_interface(f"{destination}/32"))
        names = {name: ifindex for ifindex, name in netlink.link_names().items()}
        netlink.close()
    stream = _Stream(arena, destination)

    async def main() -> float:
        with RequestSocket(PROTOCOL) as requests, RequestSocket(PROTOCOL) as object_requests:
            daemon = Daemon(requests, object_requests, by_object=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(daemon.sync.run)
                await daemon.take(table.frames())
                with stream.running():
                    wait_until(lambda: len(stream.arrivals) > 50, 10, "the stream flows")
                    dying = _number_of(stream.arrivals[-1].ifindex, names)
                    if has_carrier:
                        took = _verify(table, daemon, stream, dying)
                    elif asks_every_s is None:
                        took = _cut_alone(arena, stream, dying)
                    else:
                        took = _cut_while_polling(arena, stream, dying, asks_every_s)
                nursery.cancel_scope.cancel()
            return 1e3 * took

    with arena.here.inside():
        return trio.run(main)


_LOCAL: set[str] = set()
"""Addresses that the receiver has already."""


def _number_of(ifindex: int, names: dict[str, int]) -> int:
    return next(int(name[1:]) for name, index in names.items() if index == ifindex)


def _verify(table: Table, daemon: Daemon, stream: _Stream, dying: int) -> float:
    """Return the seconds from the mark to the first packet that arrives by another link."""
    old = stream.arrivals[-1].ifindex
    via = table.values[dying].next_hops[0].via
    assert via is not None
    began = time.perf_counter()
    daemon.sync.begin_verification([(via, table.arena.ifindexes[dying])])

    def first_other() -> float:
        return next((one.at for one in stream.arrivals[-500:] if one.ifindex != old), 0.0)

    wait_until(first_other, 10, "packets go the other way")
    return first_other() - began


def _cut(arena: Arena, stream: _Stream, dying: int) -> float:
    """Return the longest gap of the stream around the loss of a carrier, in seconds."""
    old, before = stream.arrivals[-1].ifindex, len(stream.arrivals)
    _switch(arena, dying, is_up=False)
    wait_until(
        lambda: len([one for one in stream.arrivals[before:] if one.ifindex != old]) > 50,
        10,
        "packets go the other way",
    )
    times = [one.at for one in stream.arrivals[before - 1 :]]
    _switch(arena, dying, is_up=True)
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def _cut_alone(arena: Arena, stream: _Stream, dying: int) -> float:
    """The same for a link that goes down when none has changed for a while."""
    time.sleep(LINKWATCH_S)
    return _cut(arena, stream, dying)


def _cut_while_polling(arena: Arena, stream: _Stream, dying: int, every_s: float) -> float:
    """The same for the second link that goes down within a second, while `CarrierCheck` polls."""
    other = (dying + 2) % len(arena.ifindexes)  # in no group with the failing one
    has_ended = threading.Event()
    with arena.here.inside(), RequestSocket(PROTOCOL) as asker:
        check = CarrierCheck(asker, lambda: arena.ifindexes, lambda _answer: None, every_s)

        def ask() -> None:
            while not has_ended.wait(every_s):
                check.look()

        asking = threading.Thread(target=ask)
        time.sleep(LINKWATCH_S)
        _switch(arena, other, is_up=False)
        asking.start()
        try:
            return _cut(arena, stream, dying)
        finally:
            has_ended.set()
            asking.join()
            _switch(arena, other, is_up=True)


def _switch(arena: Arena, number: int, *, is_up: bool) -> None:
    with arena.there.inside():
        netlink = Rtnetlink.open_here()
        netlink.set_up(f"w{number}", is_up=is_up)
        netlink.close()
