"""The trio edge of NUP: datagrams in, outputs out, one timer.

    socket readable --> receive_burst (as many as are there) --+
    timer ------------> receive_burst, from all sockets -------+--> drain --> send / on_outputs
    kick() (another input of the instance) --------------------+         --> timer, if earlier

Before a timer is served, every socket is read: a process that the scheduler kept waiting must not
take its own delay for the silence of its neighbors.

One reader task per socket and one timer task; everything else is synchronous, so the instance is
never entered twice. Sending does not wait: a full socket buffer is a lost datagram, which the
protocol repairs by itself.

Failure: errors of the network (link gone, unreachable, no buffers, not permitted) are counted by
errno name in `socket_errors` and end nothing. An exception of the instance is our bug, and escapes.

Cancellation leaves the instance consistent; sockets are closed when `run` ends.
"""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import trio

from ipc.lazy_dataclass import dataclass, field
from routed.model.nup_addresses import GROUP_IPV4, GROUP_IPV6, NUP_PORT
from routed.model.prefix import Address, Family
from routed.nup.events import Datagram, Output, SendDatagram
from routed.nup.instance import NeighborInstance
from routed.nup.wire.message import MAX_DATAGRAM_BYTES
from routed.udp import receiving

__all__ = ["NeighborNetwork"]

READ_BURST = 64
"""Datagrams read from one socket before others get a turn."""
STALE_MAX = 16_384
"""Datagrams discarded from a socket that is taken over: they were for the previous engine. More
than its buffer holds."""
_IP_PKTINFO = 8
_IN_PKTINFO = struct.Struct("@i4s4s")
_IN6_PKTINFO = struct.Struct("@16si")


@dataclass(slots=True, eq=False)
class _LinkSocket:
    ifindex: int
    family: Family
    sock: socket.socket
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    drops_before: int = 0
    """The kernel's drop counter when we took the socket over."""

    def kernel_drops(self) -> int:
        """Return how many datagrams the kernel has dropped since then: by the filter, or for want
        of room."""
        return (receiving.dropped(self.sock) - self.drops_before) & 0xFFFF_FFFF

    def target(self, destination: Address | None) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the destination: one neighbor, or the family's group."""
        if self.family is Family.IPV6:
            return (str(destination or GROUP_IPV6), NUP_PORT, 0, self.ifindex)
        return (str(destination or GROUP_IPV4), NUP_PORT)

    def source_control(self, source: Address | None) -> list[tuple[int, int, bytes]]:
        """Return the source address as ancillary data: a link may have several addresses."""
        if source is None or source.family is not self.family:
            return []
        if self.family is Family.IPV6:
            info = _IN6_PKTINFO.pack(source.packed, self.ifindex)
            return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
        info = _IN_PKTINFO.pack(self.ifindex, source.packed, bytes(4))
        return [(socket.IPPROTO_IP, _IP_PKTINFO, info)]


class NeighborNetwork:
    """Carries one `NeighborInstance` on real sockets."""

    def __init__(
        self,
        instance: NeighborInstance,
        clock: Callable[[], float],
        on_outputs: Callable[[list[Output]], None],
    ) -> None:
        """Connect an instance to sockets and a clock.

        Args:
            instance: the protocol.
            clock: seconds, monotonic; the same clock for every call of the instance.
            on_outputs: receives the outputs other than datagrams, at once and in order; must not
                call the instance.
        """
        self.socket_errors: Counter[str] = Counter()
        """Errors of the network, by errno name."""
        self.received = 0
        self.sent = 0
        """Datagrams, with or without effect."""
        self.dropped_source_port = 0
        """Datagrams from another port than NUP's."""
        self._drops_of_closed = 0
        self._instance = instance
        self._clock = clock
        self._on_outputs = on_outputs
        self._sockets: dict[int, _LinkSocket] = {}
        self._nursery: trio.Nursery | None = None
        self._rearm = trio.Event()
        self._armed_for = -math.inf
        """Time at which the timer task wakes by itself; never later than `next_timer`."""

    def add_socket(self, ifindex: int, family: Family, sock: socket.socket) -> None:
        """Take over a link's socket (see `routed.parent.nup_socket_options`); replaces an earlier
        one."""
        self.remove_socket(ifindex)
        sock.setblocking(False)
        _throw_away(sock)
        link_socket = _LinkSocket(ifindex, family, sock, drops_before=receiving.dropped(sock))
        self._sockets[ifindex] = link_socket
        if self._nursery is not None:
            self._nursery.start_soon(self._read, link_socket)

    def remove_socket(self, ifindex: int) -> None:
        """Close a link's socket; unknown links are ignored."""
        link_socket = self._sockets.pop(ifindex, None)
        if link_socket is not None:
            self._drops_of_closed += link_socket.kernel_drops()
            receiving.close(link_socket.sock, link_socket.scope)

    @property
    def dropped_by_kernel(self) -> int:
        """Datagrams that the kernel dropped: by the sockets' filter, or because a buffer was full.

        Cost: a system call for each link.
        """
        now = sum(link_socket.kernel_drops() for link_socket in self._sockets.values())
        return self._drops_of_closed + now

    def kick(self) -> None:
        """Carry out the consequences of an input to the instance."""
        others: list[Output] = []
        for output in self._instance.outputs():
            if isinstance(output, SendDatagram):
                self._send(output)
            else:
                others.append(output)
        if others:
            self._on_outputs(others)
        moment = self._instance.next_timer()
        if moment is not None and moment < self._armed_for:
            self._rearm.set()  # only then: most inputs make no timer earlier, and waking costs

    async def run(self) -> None:
        """Serve until cancelled; then close the sockets."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for link_socket in self._sockets.values():
                    nursery.start_soon(self._read, link_socket)
                self.kick()
                await self._keep_time()
        finally:
            self._nursery = None
            for ifindex in list(self._sockets):
                self.remove_socket(ifindex)

    async def _keep_time(self) -> None:
        """Call the instance at its timer; compute the time again after every kick."""
        while True:
            self._rearm = trio.Event()
            moment = self._instance.next_timer()
            self._armed_for = math.inf if moment is None else moment
            with trio.move_on_after(max(self._armed_for - self._clock(), 0)) as scope:
                await self._rearm.wait()
            if scope.cancelled_caught:
                self._read_sockets(self._sockets.values())

    async def _read(self, link_socket: _LinkSocket) -> None:
        with link_socket.scope:
            while await receiving.is_readable(link_socket.sock):
                self._read_sockets(self._sockets.values() if self._is_late() else [link_socket])

    def _is_late(self) -> bool:
        """Return whether a timer is overdue: then every buffer is read before it is served."""
        moment = self._instance.next_timer()
        return moment is not None and moment <= self._clock()

    def _read_sockets(self, link_sockets: Iterable[_LinkSocket]) -> None:
        """Feed the datagrams that are there, then the timers; carry out the consequences."""
        datagrams = [
            datagram for link_socket in link_sockets for datagram in self._waiting(link_socket)
        ]
        self._instance.receive_burst(datagrams, self._clock())
        self.kick()

    def _waiting(self, link_socket: _LinkSocket) -> Iterator[Datagram]:
        """Yield the datagrams that have arrived on a socket, at most a burst."""
        for _ in range(READ_BURST):
            try:
                received = link_socket.sock.recvmsg(
                    MAX_DATAGRAM_BYTES + 1, receiving.ANCILLARY_BYTES
                )
            except BlockingIOError:
                return
            except OSError as error:
                self._count(error)
                return
            datagram = self._to_datagram(link_socket, *received)
            if datagram is not None:
                yield datagram

    def _to_datagram(
        self,
        link_socket: _LinkSocket,
        data: bytes,
        ancillary: list[tuple[int, int, bytes]],
        _flags: int,
        source: tuple[str, int],
    ) -> Datagram | None:
        """Make a datagram for the instance; None if it came from another port than NUP's."""
        self.received += 1
        if source[1] != NUP_PORT:
            self.dropped_source_port += 1
            return None
        info = receiving.read_ancillary(ancillary)
        address = Address.parse(source[0].partition("%")[0])
        arrived_on = link_socket.ifindex if info.ifindex is None else info.ifindex
        return Datagram(data, address, arrived_on, info.hop_limit)

    def _send(self, datagram: SendDatagram) -> None:
        link_socket = self._sockets.get(datagram.ifindex)
        if link_socket is None:
            self.socket_errors["NO_SOCKET"] += 1
            return
        try:
            link_socket.sock.sendmsg(
                [datagram.data],
                link_socket.source_control(datagram.source),
                0,
                link_socket.target(datagram.destination),
            )
        except OSError as error:
            self._count(error)
        else:
            self.sent += 1

    def _count(self, error: OSError) -> None:
        self.socket_errors[errno.errorcode.get(error.errno or 0, "UNKNOWN")] += 1


def _throw_away(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # BlockingIOError: it is empty
        for _ in range(STALE_MAX):
            sock.recv(0)
