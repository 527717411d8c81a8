"""BFD on sockets: what a flood may cost between two looks at the timers."""

from __future__ import annotations

import random
import socket
import struct
from typing import Any, cast

import trio

from routed.bfd.instance import BfdInstance, Origin
from routed.liveness import network
from routed.liveness.network import READ_BURST, BfdNetwork
from routed.model.prefix import Family
from tests.fakes.bfd_pair import B, settings


class Flooded(BfdInstance):
    """Records the packets that it was given between two looks at its timers."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.bursts = [0]
        self.looked = trio.Event()

    def receive_datagram(self, data: bytes, origin: Origin, now: float) -> None:
        self.bursts[-1] += 1
        super().receive_datagram(data, origin, now)

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now)
        self.bursts.append(0)
        if len(self.bursts) > 20:
            self.looked.set()


class Endless:
    """A socket on which packets never end, each from another address."""

    def __init__(self, readable: socket.socket) -> None:
        self._readable = readable
        self._number = 0

    def fileno(self) -> int:
        return self._readable.fileno()

    def setblocking(self, _flag: bool) -> None: ...

    def close(self) -> None: ...

    def recvmsg(self, _size: int, _space: int) -> tuple[bytes, list[Any], int, tuple[str, int]]:
        self._number += 1
        source = socket.inet_ntoa(struct.pack("!I", 0x0A00_0000 + self._number))
        return bytes(24), [], 0, (source, 50_000)


async def test_a_flood_leaves_time_for_the_timers_and_fills_no_memory() -> None:
    instance = Flooded()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.send(b"readable for ever")
        async with trio.open_nursery() as nursery:
            bfd = BfdNetwork(instance, trio.current_time, lambda _name: None, nursery)
            bfd.configure([settings(B)])
            endless = cast("socket.socket", Endless(ours))
            bfd.add_receiver(Family.IPV4, endless, is_multihop=False)
            nursery.start_soon(bfd.keep_time)
            with trio.fail_after(30):
                await instance.looked.wait()
            nursery.cancel_scope.cancel()
    assert max(instance.bursts) == READ_BURST
    assert sum(instance.bursts) > 1024
    assert network._parsed.cache_info().currsize <= 1024
    assert sum(instance.counts().values()) == sum(instance.bursts)
