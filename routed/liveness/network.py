"""BFD on real sockets: read, feed the instance, carry out its outputs, wake at its timer.

    receivers (one a family and kind)  --packets--> BfdInstance --SendControl--> sender of a session
                                                        |
                                       state changes ---+--> Reporter

Before a timer is served every socket is read: a packet that has arrived counts, however late this
process runs.

Bounds: READ_BURST packets of a socket are read between two looks at the timers.

Sources: ip(7), ipv6(7); RFC 5881, section 4; RFC 5883, section 5.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterable, Iterator

import trio

from ipc.lazy_dataclass import dataclass, field
from routed.bfd.instance import BfdInstance, Origin
from routed.bfd.outputs import BfdStateChanged, SendControl
from routed.bfd.wire import PACKET_BYTES_MAX
from routed.liveness.timer import Timer
from routed.model.bfd import BfdSettings
from routed.model.prefix import Address, Family
from routed.udp import receiving

__all__ = ["MULTIHOP_PORT", "SINGLE_HOP_PORT", "BfdNetwork"]

SINGLE_HOP_PORT = 3784
MULTIHOP_PORT = 4784

READ_BURST = 64


@dataclass(slots=True)
class _Receiver:
    family: Family
    is_multihop: bool
    sock: socket.socket
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass(frozen=True, slots=True)
class _Sender:
    sock: socket.socket
    target: tuple[str, int] | tuple[str, int, int, int]


class BfdNetwork:
    """Owns the sockets of BFD."""

    def __init__(
        self,
        instance: BfdInstance,
        clock: Callable[[], float],
        on_change: Callable[[str], None],
        nursery: trio.Nursery,
    ) -> None:
        """Begin without sockets.

        Args:
            instance: the protocol.
            clock: seconds, monotonic.
            on_change: called with the name of a session whose state has changed, or that has ended.
            nursery: runs a task for each receiving socket.
        """
        self._instance = instance
        self._clock = clock
        self._on_change = on_change
        self._nursery = nursery
        self._settings: dict[str, BfdSettings] = {}
        self._receivers: dict[tuple[Family, bool], _Receiver] = {}
        self._senders: dict[str, _Sender] = {}
        self._timer = Timer(instance.next_timer, clock)

    # --- configuration

    def configure(self, sessions: Iterable[BfdSettings]) -> None:
        """Have exactly these sessions; the sockets of new ones follow."""
        before, self._settings = self._settings, {each.name: each for each in sessions}
        self._instance.configure(self._settings.values(), self._clock())
        self._kick()  # by the sockets of before: the sessions that end say so
        for name, settings in before.items():
            after = self._settings.get(name)
            if after is None or _target(after) != _target(settings):
                self._remove_sender(name)
            if after is None:
                self._on_change(name)

    def add_receiver(self, family: Family, sock: socket.socket, *, is_multihop: bool) -> None:
        """Receive from a socket from now on, in place of an earlier one."""
        former = self._receivers.pop((family, is_multihop), None)
        if former is not None:
            receiving.close(former.sock, former.scope)
        sock.setblocking(False)
        receiver = _Receiver(family, is_multihop, sock)
        self._receivers[family, is_multihop] = receiver
        self._nursery.start_soon(self._read, receiver)

    def add_sender(self, name: str, sock: socket.socket) -> None:
        """Send a session's packets by a socket from now on, in place of an earlier one."""
        settings = self._settings.get(name)
        if settings is None:
            sock.close()
            return
        self._remove_sender(name)
        sock.setblocking(False)
        self._senders[name] = _Sender(sock, _target(settings))

    def _remove_sender(self, name: str) -> None:
        sender = self._senders.pop(name, None)
        if sender is not None:
            sender.sock.close()

    def stop(self) -> None:
        """Take all sessions down administratively, and say so to the other systems."""
        self._instance.stop(self._clock())
        self._kick()

    @property
    def dropped_by_kernel(self) -> int:
        """Packets that the kernel dropped: by the sockets' filter, or because a buffer was full.

        Cost: a system call for each receiving socket.
        """
        return sum(receiving.dropped(receiver.sock) for receiver in self._receivers.values())

    # --- service

    async def keep_time(self) -> None:
        """Serve the timers until cancelled."""
        await self._timer.run(lambda: self._serve(self._receivers.values()))

    async def _read(self, receiver: _Receiver) -> None:
        with receiver.scope:
            while await receiving.is_readable(receiver.sock):
                self._serve(self._receivers.values() if self._timer.is_due else [receiver])

    def _serve(self, receivers: Iterable[_Receiver]) -> None:
        """Feed the packets that are there, then the timers; carry out the consequences."""
        now = self._clock()
        for receiver in receivers:
            for data, origin in _waiting(receiver):
                self._instance.receive_datagram(data, origin, now)
        self._instance.handle_timer(now)
        self._kick()

    def _kick(self) -> None:
        for output in self._instance.outputs():
            match output:
                case SendControl(session=name, data=data):
                    self._send(name, data)
                case BfdStateChanged(session=name):
                    self._on_change(name)
        self._timer.check()

    def _send(self, name: str, data: bytes) -> None:
        sender = self._senders.get(name)
        try:
            if sender is not None:
                sender.sock.sendto(data, sender.target)
                return
        except OSError:
            pass  # no route, no address, no neighbor entry: counted below, and sent again later
        self._instance.record_send_error(name)


def _target(settings: BfdSettings) -> tuple[str, int] | tuple[str, int, int, int]:
    port = MULTIHOP_PORT if settings.is_multihop else SINGLE_HOP_PORT
    if settings.peer.family is Family.IPV6:
        return (str(settings.peer), port, 0, settings.ifindex)
    return (str(settings.peer), port)


def _waiting(receiver: _Receiver) -> Iterator[tuple[bytes, Origin]]:
    """Yield the packets that have arrived on a socket, at most a burst."""
    for _ in range(READ_BURST):
        try:
            data, ancillary, _, source = receiver.sock.recvmsg(
                PACKET_BYTES_MAX, receiving.ANCILLARY_BYTES
            )
        except OSError:  # none is left, or an error of an earlier packet
            return
        yield data, _origin(ancillary, source[:2], is_multihop=receiver.is_multihop)


def _origin(
    ancillary: list[tuple[int, int, bytes]], source: tuple[str, int], *, is_multihop: bool
) -> Origin:
    info = receiving.read_ancillary(ancillary)
    destination = None if info.destination is None else Address.unpack(info.destination)
    ifindex, (text, port) = info.ifindex or 0, source
    return Origin(_parsed(text), destination, ifindex, info.hop_limit, is_multihop, port)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Address:
    return Address.parse(text.partition("%")[0])
