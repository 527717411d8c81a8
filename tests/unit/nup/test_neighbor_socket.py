"""The real sockets, on a veth pair in a network namespace of this test's own."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from pyroute2 import IPRoute

from routed.model.link import InterfaceAddress
from routed.model.nup_addresses import GROUP_IPV4, GROUP_IPV6, NUP_PORT
from routed.model.prefix import Address, Family, Prefix
from routed.nup.events import Output, RoutesLearned
from routed.nup.instance import NeighborInstance
from routed.nup.link.settings import LinkSettings
from routed.nup.network import NeighborNetwork
from routed.nup.wire import message as wire
from routed.parent import nup_socket_options as sockets
from routed.parent.nup_socket_options import is_reusable, open_neighbor_socket
from tests.fakes.fake_wire import router_id

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a network namespace"),
]

CLONE_NEWNET = 0x40000000
LEFT, RIGHT = "left0", "right0"
IPV4 = {LEFT: "198.51.100.1", RIGHT: "198.51.100.2"}
IPV6 = {LEFT: "fe80::1", RIGHT: "fe80::2"}


def write_sysctl(family: str, ifname: str, name: str, value: str) -> None:
    """Set one sysctl of this thread's namespace."""
    (Path("/proc/sys/net") / family / "conf" / ifname / name).write_text(value)


def make_veth_pair() -> None:
    """Create left0 and right0, up, with the addresses above and no others, usable at once (no
    DAD)."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=LEFT, kind="veth", peer={"ifname": RIGHT})
        write_sysctl("ipv4", "all", "rp_filter", "0")
        for ifname in (LEFT, RIGHT):
            write_sysctl("ipv6", ifname, "accept_dad", "0")
            write_sysctl("ipv6", ifname, "addr_gen_mode", "1")
            write_sysctl("ipv4", ifname, "rp_filter", "0")
            write_sysctl("ipv4", ifname, "accept_local", "1")
            netlink.link("set", index=socket.if_nametoindex(ifname), state="up")
        for ifname in (LEFT, RIGHT):
            index = socket.if_nametoindex(ifname)
            netlink.addr("add", index=index, address=IPV4[ifname], prefixlen=24)
            netlink.addr("add", index=index, address=IPV6[ifname], prefixlen=64)


def in_namespace(test: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function on a thread that has a network namespace to itself."""
    failures: list[BaseException] = []

    def body() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            make_veth_pair()
            trio.run(test)
        except BaseException as failure:  # noqa: BLE001 - carried to the test's own thread
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def settings_of(ifname: str, family: Family) -> LinkSettings:
    ipv4, ipv6 = Address.parse(IPV4[ifname]), Address.parse(IPV6[ifname])
    return LinkSettings(
        ifindex=socket.if_nametoindex(ifname),
        ifname=ifname,
        cost=10,
        hello_interval_s=0.2,
        multiplier=3,
        mtu=1500,
        local_address=ipv6 if family is Family.IPV6 else ipv4,
        addresses=(InterfaceAddress(ipv4, 24), InterfaceAddress(ipv6, 64)),
    )


async def exchange_a_route(family: Family) -> None:
    """Run two instances on the two ends of the pair until the left one's prefix arrives at the
    right one."""
    learned = trio.Event()

    def take(outputs: list[Output]) -> None:
        if any(isinstance(output, RoutesLearned) for output in outputs):
            learned.set()

    async with trio.open_nursery() as nursery:
        for number, ifname in enumerate((LEFT, RIGHT), start=1):
            instance = NeighborInstance(router_id(number), number, 1, random.Random(number))
            network = NeighborNetwork(instance, trio.current_time, take)
            settings = settings_of(ifname, family)
            sock = open_neighbor_socket(settings.ifindex, ifname, family)
            network.add_socket(settings.ifindex, family, sock)
            instance.link_up(settings, trio.current_time())
            if ifname == LEFT:
                prefix = Prefix.parse("10.255.0.1/32")
                instance.originate(prefix, 0, 0, False, trio.current_time())
            nursery.start_soon(network.run)
        with trio.fail_after(10):
            await learned.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("family", [Family.IPV6, Family.IPV4])
def test_two_instances_on_a_veth_pair_exchange_a_route(family: Family) -> None:
    async def test() -> None:
        await exchange_a_route(family)

    in_namespace(test)


def test_a_second_socket_on_the_same_link_is_refused_and_one_on_another_is_not() -> None:
    async def test() -> None:
        left, right = socket.if_nametoindex(LEFT), socket.if_nametoindex(RIGHT)
        with (
            open_neighbor_socket(left, LEFT, Family.IPV6),
            open_neighbor_socket(left, LEFT, Family.IPV4),
            open_neighbor_socket(right, RIGHT, Family.IPV6),
            pytest.raises(OSError, match="in use") as caught,
        ):
            open_neighbor_socket(left, LEFT, Family.IPV6)
        assert caught.value.errno == errno.EADDRINUSE

    in_namespace(test)


def test_a_link_that_is_not_there_is_an_error() -> None:
    async def test() -> None:
        with pytest.raises(OSError, match="No such device"):
            open_neighbor_socket(99, "nowhere0", Family.IPV6)

    in_namespace(test)


GOOD = bytes([wire.NUP_VERSION]) + bytes(wire.HEADER_BYTES - 1)
LARGEST = GOOD + bytes(wire.MAX_DATAGRAM_BYTES - len(GOOD))
IPV4_OPTION = b"\x94\x04\x00\x00"  # router alert
IPV6_HOP_BY_HOP = b"\x00\x00\x05\x02\x00\x00\x01\x00"  # router alert, padded


def test_the_filters_numbers_are_the_protocols() -> None:
    assert sockets.NUP_VERSION == wire.NUP_VERSION
    assert sockets.NUP_BYTES_MIN == wire.HEADER_BYTES
    assert sockets.NUP_BYTES_MAX == wire.MAX_DATAGRAM_BYTES


def bind_once_it_can_be(sock: socket.socket, address: tuple[str, int, int, int]) -> None:
    """Bind as soon as the link, which has just come up, has an address."""
    deadline = time.monotonic() + 30
    while True:
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def sender(family: Family, *, port: int = NUP_PORT, hop_limit: int = 255) -> socket.socket:
    """Return a socket of another program on the right end."""
    is_ipv6 = family is Family.IPV6
    sock = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    index = socket.if_nametoindex(RIGHT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, RIGHT.encode())
    if is_ipv6:
        for option in (socket.IPV6_MULTICAST_HOPS, socket.IPV6_UNICAST_HOPS):
            sock.setsockopt(socket.IPPROTO_IPV6, option, hop_limit)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        bind_once_it_can_be(sock, (IPV6[RIGHT], port, 0, index))
    else:
        for option in (socket.IP_MULTICAST_TTL, socket.IP_TTL):
            sock.setsockopt(socket.IPPROTO_IP, option, hop_limit)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(IPV4[RIGHT]))
        sock.bind((IPV4[RIGHT], port))
    return sock


def with_options(family: Family) -> socket.socket:
    """Return a socket whose valid packets have options or an extension header before the UDP
    header."""
    sock = sender(family)
    if family is Family.IPV6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, IPV6_HOP_BY_HOP)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, IPV4_OPTION)
    return sock


@pytest.mark.parametrize("family", [Family.IPV6, Family.IPV4])
def test_the_kernel_drops_what_no_neighbor_sends_before_the_buffer(family: Family) -> None:
    """To the group and to our address alike; the last good one shows that nothing is behind."""
    is_ipv6 = family is Family.IPV6
    group = str(GROUP_IPV6 if is_ipv6 else GROUP_IPV4)

    async def test() -> None:
        index = socket.if_nametoindex(RIGHT)
        own = IPV6[LEFT] if is_ipv6 else IPV4[LEFT]
        with open_neighbor_socket(socket.if_nametoindex(LEFT), LEFT, family) as ours:
            for destination in (group, own):
                target = (destination, NUP_PORT, 0, index) if is_ipv6 else (destination, NUP_PORT)
                bad = [
                    (sender(family, port=44_153), GOOD),
                    (sender(family, hop_limit=254), GOOD),
                ]
                wrong = (b"", GOOD[:-1], LARGEST + b"x", b"\x02" + GOOD[1:], b"\x00" * 100)
                for sock, data in bad:
                    with sock:
                        sock.sendto(data, target)
                with sender(family) as sock:
                    for data in wrong:
                        sock.sendto(data, target)
                    sock.sendto(GOOD, target)
                    sock.sendto(LARGEST, target)
                with with_options(family) as sock:
                    sock.sendto(GOOD + b"last", target)
                arrived: list[bytes] = []
                with trio.fail_after(30):
                    while not arrived or arrived[-1] != GOOD + b"last":
                        await trio.lowlevel.wait_readable(ours)
                        arrived.append(ours.recv(2000))
                assert arrived == [GOOD, LARGEST, GOOD + b"last"]
            with pytest.raises(PermissionError):
                ours.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER
            counts = ours.getsockopt(socket.SOL_SOCKET, 55, 36)  # SO_MEMINFO
            assert int.from_bytes(counts[32:], "little") >= 14, "dropped, and counted"

    in_namespace(test)


@pytest.mark.parametrize("family", [Family.IPV6, Family.IPV4])
def test_a_socket_that_an_engine_had_is_made_as_new_or_found_spoilt(family: Family) -> None:
    async def test() -> None:
        index = socket.if_nametoindex(LEFT)
        own = Address.parse(IPV6[LEFT] if family is Family.IPV6 else IPV4[LEFT])
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            bind_once_it_can_be(probe, (IPV6[LEFT], 0, 0, index))
        with open_neighbor_socket(index, LEFT, family) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 0)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            ours.setblocking(True)
            assert is_reusable(ours, index, LEFT, family, own)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 6
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 100_000
            assert not ours.getblocking()
            assert not is_reusable(ours, index, RIGHT, family, own), "of another link"
            with pytest.raises(OSError, match="not connected"):
                ours.shutdown(socket.SHUT_WR)
            assert not is_reusable(ours, index, LEFT, family, own), "it can send no more"
        with open_neighbor_socket(index, LEFT, family) as ours:
            peer = IPV6[RIGHT] if family is Family.IPV6 else IPV4[RIGHT]
            target = (peer, 9, 0, index) if family is Family.IPV6 else (peer, 9)
            ours.connect(target)
            assert not is_reusable(ours, index, LEFT, family, own), "it hears one peer only"

    in_namespace(test)
