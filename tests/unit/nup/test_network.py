"""The trio edge on loopback sockets: what arrives is fed, what comes out is sent, timers fire."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from routed.model.link import InterfaceAddress
from routed.model.nup_addresses import NUP_PORT
from routed.model.prefix import Address, Family
from routed.nup.events import (
    AdjacencyChanged,
    AdjacencyState,
    Output,
    SendDatagram,
    Trace,
    TraceCode,
)
from routed.nup.instance import NeighborInstance
from routed.nup.link.settings import LinkSettings
from routed.nup.network import NeighborNetwork
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import router_id

LOOPBACK_IFINDEX = socket.if_nametoindex("lo")
# Addresses of our own in 127/8, so that test runs side by side do not meet.
_NET = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"
OURS, PEERS = f"{_NET}.1", f"{_NET}.2"
_IP_PKTINFO = 8
_IP_RECVTTL = 12


def open_socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    sock.bind((address, NUP_PORT))
    sock.setblocking(False)
    return sock


def heartbeat(sequence: int, heard: tuple[NeighborHeard, ...] = ()) -> bytes:
    tlvs: tuple[Tlv, ...] = (Hello(1000, 3, 65_536, 0), *heard)
    sender = Sender(router_id(2), 7)
    return encode(Message(MessageType.HEARTBEAT, HeaderFlag(0), sequence, 1, sender, tlvs))


def loopback_settings() -> LinkSettings:
    own = Address.parse(OURS)
    return LinkSettings(
        ifindex=LOOPBACK_IFINDEX,
        ifname="lo",
        cost=1,
        hello_interval_s=1.0,
        multiplier=3,
        mtu=65_536,
        local_address=own,
        addresses=(InterfaceAddress(own, 24),),
    )


class Rig:
    """A network around a real instance on the loopback link, and a peer that is a bare socket."""

    def __init__(self) -> None:
        self.instance = NeighborInstance(router_id(1), 99, 1, random.Random(1))
        self.outputs: list[Output] = []
        self.news = trio.Event()
        self.network = NeighborNetwork(self.instance, trio.current_time, self._take)
        self.peer = open_socket(PEERS)

    def start(self) -> None:
        """Bring the loopback link up."""
        self.network.add_socket(LOOPBACK_IFINDEX, Family.IPV4, open_socket(OURS))
        self.instance.link_up(loopback_settings(), trio.current_time())
        self.network.kick()

    def _take(self, outputs: list[Output]) -> None:
        self.outputs += outputs
        self.news.set()

    async def seen(self, wanted: Callable[[Output], bool]) -> None:
        """Wait until a matching output has occurred."""
        with trio.fail_after(5):
            while not any(map(wanted, self.outputs)):
                self.news = trio.Event()
                await self.news.wait()

    async def seen_state(self, state: AdjacencyState) -> None:
        """Wait until an adjacency has reached a state."""
        await self.seen(lambda output: isinstance(output, AdjacencyChanged) and output.new is state)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.peer.close()


async def test_datagrams_are_fed_and_answers_are_sent(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        rig.start()
        rig.peer.sendto(heartbeat(1), (OURS, NUP_PORT))
        await rig.seen_state(AdjacencyState.INIT)
        link = rig.instance._links[LOOPBACK_IFINDEX]
        (session,) = [each.adjacency.session for each in link.neighbors.values()]
        entry = NeighborHeard(router_id(1), 99, 5, session, 0, 0)
        rig.peer.sendto(heartbeat(2, (entry,)), (OURS, NUP_PORT))
        await rig.seen_state(AdjacencyState.LOADING)
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(rig.peer)
        assert decode(rig.peer.recv(2000)).type is MessageType.DATA
        nursery.cancel_scope.cancel()


async def test_a_wrong_ttl_is_seen_and_refused(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        rig.start()
        rig.peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        rig.peer.sendto(heartbeat(1), (OURS, NUP_PORT))
        await rig.seen(lambda output: isinstance(output, Trace))
        nursery.cancel_scope.cancel()
    (trace,) = [output for output in rig.outputs if isinstance(output, Trace)]
    assert (trace.code, trace.ifindex) == (TraceCode.DROPPED_HOP_LIMIT, LOOPBACK_IFINDEX)
    assert trace.detail == "hop limit 64"


async def test_a_socket_may_be_removed_before_its_first_turn(rig: Rig) -> None:
    """A link appears and disappears within one burst of the parent's messages."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        await trio.testing.wait_all_tasks_blocked()
        rig.start()
        rig.network.remove_socket(LOOPBACK_IFINDEX)
        await trio.testing.wait_all_tasks_blocked()
        rig.network.add_socket(LOOPBACK_IFINDEX, Family.IPV4, open_socket(OURS))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_timers_fire_on_the_given_clock(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        rig.start()
        rig.peer.sendto(heartbeat(1), (OURS, NUP_PORT))
        await trio.lowlevel.wait_readable(rig.network._sockets[LOOPBACK_IFINDEX].sock)
        await trio.sleep(4)
        nursery.cancel_scope.cancel()
    states = [output.new for output in rig.outputs if isinstance(output, AdjacencyChanged)]
    assert states == [AdjacencyState.INIT, AdjacencyState.DOWN]


async def test_errors_of_the_network_are_counted_and_end_nothing(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        rig.start()
        too_long = SendDatagram(LOOPBACK_IFINDEX, Address.parse(PEERS), bytes(70_000))
        rig.network._send(too_long)
        rig.peer.sendto(heartbeat(1), (OURS, NUP_PORT))
        await rig.seen_state(AdjacencyState.INIT)
        nursery.cancel_scope.cancel()
    assert rig.network.socket_errors["EMSGSIZE"] == 1


async def test_a_datagram_for_a_link_without_socket_is_counted(rig: Rig) -> None:
    rig.start()
    rig.network.remove_socket(LOOPBACK_IFINDEX)
    rig.instance.stop(False, trio.current_time())
    rig.network.kick()
    assert rig.network.socket_errors["NO_SOCKET"] == 1


async def test_a_removed_socket_is_closed_while_others_go_on(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        rig.start()
        await trio.testing.wait_all_tasks_blocked()
        sock = rig.network._sockets[LOOPBACK_IFINDEX].sock
        rig.network.remove_socket(LOOPBACK_IFINDEX)
        await trio.testing.wait_all_tasks_blocked()
        assert sock.fileno() == -1
        rig.network.add_socket(LOOPBACK_IFINDEX, Family.IPV4, open_socket(OURS))
        rig.peer.sendto(heartbeat(1), (OURS, NUP_PORT))
        await rig.seen_state(AdjacencyState.INIT)
        nursery.cancel_scope.cancel()


async def test_every_socket_is_read_before_an_overdue_timer_is_served(rig: Rig) -> None:
    """The process was delayed: a heartbeat is in the buffer, and the dead interval of its sender
    has passed."""
    now = 100.0
    rig.network._clock = lambda: now
    rig.network.add_socket(LOOPBACK_IFINDEX, Family.IPV4, open_socket(OURS))
    rig.instance.link_up(loopback_settings(), now)
    rig.instance.receive_datagram(heartbeat(1), Address.parse(PEERS), LOOPBACK_IFINDEX, 255, now)
    rig.peer.sendto(heartbeat(2), (OURS, NUP_PORT))
    now = 110.0
    assert rig.network._is_late()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    states = [output.new for output in rig.outputs if isinstance(output, AdjacencyChanged)]
    assert states == [AdjacencyState.INIT]


async def test_another_source_port_than_nups_is_dropped_without_the_kernels_filter(
    rig: Rig,
) -> None:
    """The kernel drops it where the filter is; a socket that lacks it is read by the same rule."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        stranger.bind((PEERS, 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.network.run)
            rig.start()
            for sequence in range(1, 4):
                stranger.sendto(heartbeat(sequence), (OURS, NUP_PORT))
            rig.peer.sendto(heartbeat(9), (OURS, NUP_PORT))  # after them, on the same socket
            await rig.seen_state(AdjacencyState.INIT)
            nursery.cancel_scope.cancel()
    assert (rig.network.received, rig.network.dropped_source_port) == (4, 3)
    assert rig.network.dropped_by_kernel == 0, "this socket has no filter"
    (adjacency,) = [
        neighbor.adjacency
        for link in rig.instance._links.values()
        for neighbor in link.neighbors.values()
    ]
    assert adjacency.heartbeat_sequence == 9
