"""Receiving on UDP sockets: what the kernel reports about a datagram, waiting, and closing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from routed.udp import receiving
from routed.udp.receiving import PacketInfo

_IP_PKTINFO = 8
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def receiver(family: socket.AddressFamily) -> socket.socket:
    """A socket on the loopback address of a family, with the options of the parent."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    sock.bind((LOOPBACK[family], 0))
    sock.setblocking(False)
    return sock


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A receiver, and a sender whose hop limit is 255."""
    with ExitStack() as stack:
        ours = stack.enter_context(receiver(request.param))
        peer = stack.enter_context(socket.socket(request.param, socket.SOCK_DGRAM))
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        if request.param == socket.AF_INET6:
            peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        yield ours, peer


async def test_hop_limit_interface_and_destination_are_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    peer.sendto(b"hello", ours.getsockname())
    assert await receiving.is_readable(ours)
    _, ancillary, flags, _ = ours.recvmsg(16, receiving.ANCILLARY_BYTES)
    destination = socket.inet_pton(ours.family, LOOPBACK[ours.family])
    loopback = socket.if_nametoindex("lo")
    assert receiving.read_ancillary(ancillary) == PacketInfo(255, loopback, destination)
    assert not flags & socket.MSG_CTRUNC


def test_without_options_nothing_is_known() -> None:
    assert receiving.read_ancillary([]) == PacketInfo(None, None, None)


async def test_a_socket_that_is_closed_ends_its_reader(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    peer.sendto(b"hello", ours.getsockname())
    scope, received = trio.CancelScope(), 0
    with scope:
        while await receiving.is_readable(ours):
            received += len(ours.recv(16))
            receiving.close(ours, scope)
    assert (received, ours.fileno()) == (5, -1)


async def test_a_socket_that_another_task_closes_is_not_readable(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    results = []

    async def read() -> None:
        results.append(await receiving.is_readable(ours))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        receiving.close(ours, trio.CancelScope())
    assert results == [False]


def test_datagrams_beyond_the_buffer_are_counted(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's minimum
    for _ in range(100):
        peer.sendto(bytes(1000), ours.getsockname())
    queued = 0
    while True:
        try:
            ours.recv(1000)
        except BlockingIOError:
            break
        queued += 1
    assert receiving.dropped(ours) == 100 - queued > 0


def test_a_socket_without_a_count_has_dropped_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert receiving.dropped(sock) == 0
