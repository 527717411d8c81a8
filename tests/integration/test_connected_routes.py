"""A subnet is connected if the kernel routes it, held against the real kernel: it does not matter
which program writes or removes the route, in which table, and with or without a notification.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from routed.fib.links.table import LinkChange, LinkTable
from routed.fib.monitor import KernelMonitor
from routed.fib.request_socket import RequestSocket
from routed.model.link import Interface
from routed.model.prefix import Address
from routed.netlink.socket import EventSocket
from rtnetlink import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, Rtnetlink, SubnetRoute
from tests.fakes.kernels import Namespace

pytestmark = pytest.mark.root

BLACKHOLE, UNREACHABLE, PROHIBIT = 6, 7, 8
KERNEL, BOOT, STATIC, RA, BIRD, DHCP, OURS = 2, 3, 4, 9, 12, 16, 205
MAIN, OTHER = 254, 100


@dataclass(frozen=True)
class Family:
    """The addresses of one situation in one family."""

    subnet: str
    address: str
    second: str
    """Another address in the subnet."""
    host: str
    via: str

    @property
    def here(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        return ipaddress.ip_interface(self.address)


FAMILIES = [
    Family("10.9.0.0/24", "10.9.0.1/24", "10.9.0.2/24", "10.7.0.1/32", "10.9.0.7"),
    Family(
        "2001:db8:9::/64", "2001:db8:9::1/64", "2001:db8:9::2/64", "2001:db8:7::1/128",
        "2001:db8:9::7",
    ),
]  # fmt: skip
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])


class Scene:
    """A running monitor, and changes to the kernel's routes."""

    def __init__(self, monitor: KernelMonitor, lab: Rtnetlink, ifindexes: dict[str, int]) -> None:
        self.monitor = monitor
        self.lab = lab
        self._ifindexes = ifindexes
        self.news = trio.Event()
        self.changes: list[LinkChange] = []

    def received(self, change: LinkChange) -> None:
        self.changes.append(change)
        self.news.set()
        self.news = trio.Event()

    def link(self, ifname: str = "v0") -> Interface:
        return self.monitor.links.interfaces[self._ifindexes[ifname]]

    def connected(self, ifname: str = "v0") -> set[str]:
        return {str(prefix) for prefix in self.link(ifname).connected_prefixes()}

    async def until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            await self.news.wait()

    def add(self, address: str, flags: int = 0, ifname: str = "v0") -> None:
        flags |= IFA_F_NODAD
        self.lab.add_address(ifname, ipaddress.ip_interface(address), flags=flags)

    async def drained(self) -> None:
        """Wait until the monitor has handled all earlier notifications: a new address marks the
        end.
        """
        mark = "198.18.255.1/32"
        self.add(mark)
        await self.until(lambda: mark in self.connected())
        self.lab.delete_address("v0", ipaddress.ip_interface(mark))
        await self.until(lambda: mark not in self.connected())


@asynccontextmanager
async def watching(namespace: Namespace, table_id: int = MAIN) -> AsyncIterator[Scene]:
    with namespace.here.inside():
        requests, lab = RequestSocket(OURS), Rtnetlink.open_here()
        listener = EventSocket([requests.port_id])
    with contextlib.closing(lab), listener, requests:
        async with _watched(listener, requests, lab, namespace.ifindexes, table_id) as scene:
            yield scene


@asynccontextmanager
async def _watched(
    listener: EventSocket,
    requests: RequestSocket,
    lab: Rtnetlink,
    ifindexes: dict[str, int],
    table_id: int,
) -> AsyncIterator[Scene]:
    monitor = KernelMonitor(
        listener,
        requests,
        on_link=lambda change: scene.received(change),
        on_route=lambda _route, _is_removed, _is_replacing: None,
        on_rule=lambda: None,
        on_nexthop=lambda _seen, _is_removed: None,
        on_overrun=lambda _reason: None,
        on_failure=lambda _error: None,
        links=LinkTable(table_id, OURS),
    )
    scene = Scene(monitor, lab, ifindexes)
    with trio.fail_after(30):
        await monitor.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            yield scene
            nursery.cancel_scope.cancel()


@BOTH
async def test_an_address_without_its_prefix_route_connects_nothing(
    namespace: Namespace, family: Family
) -> None:
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        await scene.until(lambda: str(scene.link().addresses).count(family.address[:6]) > 0)
        await scene.drained()
        assert family.subnet not in scene.connected()
        assert scene.link().owner_of_subnet(Address.parse(family.via)) is None


@BOTH
@pytest.mark.parametrize("protocol", [KERNEL, BOOT, STATIC, RA, DHCP])
async def test_a_prefix_route_of_a_network_manager_connects(
    namespace: Namespace, family: Family, protocol: int
) -> None:
    """NetworkManager, networkd and dhcpcd set noprefixroute and route the subnet with a metric."""
    route = SubnetRoute(family.subnet, protocol, priority=100)
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", route)
        await scene.until(lambda: family.subnet in scene.connected())
        assert scene.link().owner_of_subnet(Address.parse(family.via)) is not None
        scene.lab.delete_subnet_route("v0", route)
        await scene.until(lambda: family.subnet not in scene.connected())
        scene.lab.add_subnet_route("v0", route)
        await scene.until(lambda: family.subnet in scene.connected())


@BOTH
async def test_existing_routes_are_read_at_the_start(namespace: Namespace, family: Family) -> None:
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.add(family.host)
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, DHCP, priority=100))
    async with watching(namespace) as scene:
        assert {family.subnet, family.host} <= scene.connected()


@BOTH
@pytest.mark.parametrize(
    "route",
    [
        pytest.param(SubnetRoute("", BIRD), id="of a routing daemon"),
        pytest.param(SubnetRoute("", OURS), id="ours"),
        pytest.param(SubnetRoute("", KERNEL, table_id=OTHER), id="in another table"),
        pytest.param(SubnetRoute("", KERNEL, via="via"), id="through a gateway"),
    ],
)
async def test_other_routes_of_the_subnet_do_not_connect(
    namespace: Namespace, family: Family, route: SubnetRoute
) -> None:
    via = None if route.via is None else family.via
    route = SubnetRoute(family.subnet, route.protocol, 100, route.table_id, via)
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", route)
        await scene.drained()
        assert family.subnet not in scene.connected()
    async with watching(namespace) as scene:
        assert family.subnet not in scene.connected()


@BOTH
async def test_a_daemon_with_its_own_table_has_the_subnets_of_main_too(
    namespace: Namespace, family: Family
) -> None:
    async with watching(namespace, OTHER) as scene:
        scene.add(family.address)
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.delete_subnet_route("v0", SubnetRoute(family.subnet, KERNEL))
        await scene.until(lambda: family.subnet not in scene.connected())
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, KERNEL, table_id=OTHER))
        await scene.until(lambda: family.subnet in scene.connected())
        scene.monitor.follow_table(MAIN)
        await scene.until(lambda: family.subnet not in scene.connected())


@BOTH
async def test_a_replaced_subnet_route_connects_no_longer(
    namespace: Namespace, family: Family
) -> None:
    priority = 256 if ":" in family.subnet else 0  # the kernel's own route
    async with watching(namespace) as scene:
        scene.add(family.address)
        await scene.until(lambda: family.subnet in scene.connected())
        through = SubnetRoute(family.subnet, BIRD, priority, via=family.via)
        if priority:  # IPv6 keeps a route without a gateway in addition
            scene.lab.delete_subnet_route("v0", SubnetRoute(family.subnet, KERNEL, priority))
        scene.lab.add_subnet_route("v0", through, is_replacing=True)
        await scene.until(lambda: family.subnet not in scene.connected())
        back = SubnetRoute(family.subnet, KERNEL, priority)
        scene.lab.add_subnet_route("v0", back, is_replacing=True)
        await scene.until(lambda: family.subnet in scene.connected())


@BOTH
async def test_a_link_that_goes_down_removes_the_routes_of_a_network_manager(
    namespace: Namespace, family: Family
) -> None:
    """IPv4 routes are removed without a notification, and the kernel restores only its own."""
    address = ipaddress.ip_interface(family.address)
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, KERNEL, priority=100))
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.set_up("v0", is_up=False)
        await scene.until(lambda: not scene.link().is_up)
        scene.lab.set_up("v0", is_up=True)
        await scene.until(lambda: scene.link().is_up)
        if address.version == 6:  # the kernel removes addresses as well
            scene.add(family.address, IFA_F_NOPREFIXROUTE)
        await scene.drained()
        assert family.subnet not in scene.connected()
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, KERNEL, priority=100))
        await scene.until(lambda: family.subnet in scene.connected())


async def test_a_route_is_removed_without_notification_with_its_source_address(
    namespace: Namespace,
) -> None:
    family = FAMILIES[0]
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.add(family.second, IFA_F_NOPREFIXROUTE)
        scene.add(family.host)
        source = family.host.partition("/")[0]
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, KERNEL, 100, source=source))
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.delete_address("v0", ipaddress.ip_interface(family.host))
        await scene.until(lambda: family.subnet not in scene.connected())


@BOTH
async def test_one_of_two_routes_to_a_subnet_is_enough(
    namespace: Namespace, family: Family
) -> None:
    own = SubnetRoute(family.subnet, KERNEL, 256 if ":" in family.subnet else 0)
    manager = SubnetRoute(family.subnet, KERNEL, 300)
    async with watching(namespace) as scene:
        scene.add(family.address)
        scene.lab.add_subnet_route("v0", manager)
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.delete_subnet_route("v0", own)
        await scene.drained()
        assert family.subnet in scene.connected()
        scene.lab.delete_subnet_route("v0", manager)
        await scene.until(lambda: family.subnet not in scene.connected())


@BOTH
@pytest.mark.parametrize("kind", [BLACKHOLE, UNREACHABLE, PROHIBIT])
async def test_a_rejecting_route_that_the_kernel_prefers_disconnects(
    namespace: Namespace, family: Family, kind: int
) -> None:
    better, worse = (SubnetRoute(family.subnet, STATIC, each, kind=kind) for each in (50, 200))
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", SubnetRoute(family.subnet, DHCP, priority=100))
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.add_subnet_route("v0", worse)
        await scene.drained()
        assert family.subnet in scene.connected()
        scene.lab.add_subnet_route("v0", better)
        await scene.until(lambda: family.subnet not in scene.connected())
    async with watching(namespace) as scene:
        assert family.subnet not in scene.connected(), "read at a start, too"
        scene.lab.delete_subnet_route("v0", better)
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.add_subnet_route("v0", better)
        await scene.until(lambda: family.subnet not in scene.connected())
        if ":" in family.subnet:  # here nothing replaces a route that rejects
            scene.lab.delete_subnet_route("v0", better)
        else:
            through = SubnetRoute(family.subnet, BIRD, 50, via=family.via)
            scene.lab.add_subnet_route("v0", through, is_replacing=True)
        await scene.until(lambda: family.subnet in scene.connected())


async def test_a_rejecting_route_before_the_kernel_s_own_disconnects(
    namespace: Namespace,
) -> None:
    """`ip route prepend`: IPv4 has several routes of one key, and the first one counts."""
    family = FAMILIES[0]
    refusing = SubnetRoute(family.subnet, STATIC, kind=UNREACHABLE)
    async with watching(namespace) as scene:
        scene.add(family.address)
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.add_subnet_route("v0", refusing, is_first=True)
        await scene.until(lambda: family.subnet not in scene.connected())
        scene.lab.delete_subnet_route("v0", refusing)
        await scene.until(lambda: family.subnet in scene.connected())


async def test_a_route_that_accepts_no_gateway_connects_nothing(namespace: Namespace) -> None:
    """Its scope is wider than a link; `ip route add P nexthop dev A nexthop dev B` writes such a
    route.
    """
    family = FAMILIES[0]
    wide = SubnetRoute(family.subnet, STATIC, 100, scope=0)
    behind = SubnetRoute("198.18.0.0/24", BIRD, via=family.via, is_onlink=False)
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", wide)
        with pytest.raises(OSError, match=r"198\.18\.0\.0/24"):
            scene.lab.add_subnet_route("v0", behind)
        await scene.drained()
        assert family.subnet not in scene.connected()
    async with watching(namespace) as scene:
        assert family.subnet not in scene.connected()
        narrow = dataclasses.replace(wide, scope=None)
        scene.lab.add_subnet_route("v0", narrow, is_replacing=True)
        await scene.until(lambda: family.subnet in scene.connected())
        scene.lab.add_subnet_route("v0", behind)


@BOTH
async def test_the_same_subnet_on_two_links_is_evaluated_for_each(
    namespace: Namespace, family: Family
) -> None:
    async with watching(namespace) as scene:
        scene.add(family.address)
        scene.add(family.second, ifname="v1")
        await scene.until(lambda: family.subnet in scene.connected("v0") & scene.connected("v1"))
        scene.lab.delete_subnet_route("v1", SubnetRoute(family.subnet, KERNEL))
        await scene.until(lambda: family.subnet not in scene.connected("v1"))
        assert family.subnet in scene.connected("v0")


@BOTH
async def test_a_subnet_is_connected_by_the_link_that_packets_take(
    namespace: Namespace, family: Family
) -> None:
    """The kernel looks up a gateway on its link, so the gateway is on link in both cases."""
    best, good = (SubnetRoute(family.subnet, STATIC, priority) for priority in (40, 50))
    async with watching(namespace) as scene:
        scene.add(family.address, IFA_F_NOPREFIXROUTE)
        scene.lab.add_subnet_route("v0", good)
        await scene.until(lambda: family.subnet in scene.connected("v0"))
        scene.lab.add_subnet_route("v1", best)
        await scene.until(lambda: family.subnet not in scene.connected("v0"))
        assert scene.link("v0").owner_of_subnet(Address.parse(family.via)) is not None
        scene.add(family.second, IFA_F_NOPREFIXROUTE, ifname="v1")
        await scene.until(lambda: family.subnet in scene.connected("v1"))
    async with watching(namespace) as scene:
        assert family.subnet not in scene.connected("v0"), "read at a start, too"
        assert family.subnet in scene.connected("v1")
        scene.lab.delete_subnet_route("v1", best)
        await scene.until(lambda: family.subnet in scene.connected("v0"))


@BOTH
async def test_an_address_that_is_its_own_subnet_is_routed_by_the_local_table(
    namespace: Namespace, family: Family
) -> None:
    async with watching(namespace) as scene:
        scene.add(family.host, IFA_F_NOPREFIXROUTE)
        await scene.until(lambda: family.host in scene.connected())


async def test_an_ipv4_subnet_of_the_loopback_link_is_routed_by_the_local_table(
    namespace: Namespace,
) -> None:
    """An anycast prefix on `lo` has no route in main, and its packets are delivered here
    nevertheless.
    """
    async with watching(namespace) as scene:
        scene.add("198.51.100.1/24", ifname="lo")
        await scene.until(lambda: "198.51.100.0/24" in scene.connected("lo"))
        scene.add("203.0.113.1/24", IFA_F_NOPREFIXROUTE, "lo")
        scene.add("2001:db8:aa::1/64", ifname="lo")
        await scene.until(lambda: "2001:db8:aa::/64" in scene.connected("lo"))
        assert "203.0.113.0/24" not in scene.connected("lo")


@pytest.mark.parametrize("local", ["192.0.2.1", "2001:db8:2::1"], ids=["IPv4", "IPv6"])
async def test_peers_of_one_address_on_a_link_are_distinguished(
    namespace: Namespace, local: str
) -> None:
    """A hub (PPP, IPoE) has one address on a link, and many peers."""
    width = 128 if ":" in local else 32
    base = "2001:db8:3::" if width == 128 else "198.51.100."
    address = ipaddress.ip_interface(f"{local}/{width}")
    peers = [ipaddress.ip_address(f"{base}{number}") for number in (1, 2, 3)]
    async with watching(namespace) as scene:
        if width == 128:  # IPv6 accepts one peer for each local address
            peers = peers[:1]
        for peer in peers:
            scene.lab.add_address("v0", address, peer=peer, flags=IFA_F_NODAD)
        wanted = {f"{peer}/{width}" for peer in peers}
        await scene.until(lambda: wanted <= scene.connected())
        shown = [str(entry) for entry in scene.link().addresses]
        assert {f"{local} peer {peer}/{width}" for peer in peers} <= set(shown)
        if width == 128:
            return
        scene.lab.delete_address("v0", address, peer=peers[1])
        await scene.until(lambda: f"{peers[1]}/32" not in scene.connected())
        assert {f"{peers[0]}/32", f"{peers[2]}/32"} <= scene.connected()
