"""The real sockets, on a veth pair in a network namespace of this test's own."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from pyroute2 import IPRoute

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.neighbor.events import LinkSettings, Output, RoutesLearned
from routed.neighbor.instance import NeighborInstance
from routed.neighbor.network import NeighborNetwork
from routed.sockets import open_neighbor_socket
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
    """left0 and right0, up, with the addresses above and no others; usable at once (no DAD)."""
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
    """Two instances on the two ends of the pair; the left one's prefix arrives at the right one."""
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
