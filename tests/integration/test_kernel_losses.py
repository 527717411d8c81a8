"""Routes that Linux removes without a notification are restored: the sync loop against the real
kernel.

Links go down, are renamed, deleted and created again; addresses are removed; another program
flushes the table. With and without nexthop objects the kernel has the desired routes in the end.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

import kernel
from routed.fib.carrier import CarrierCheck
from routed.fib.links.table import LinkChange
from routed.fib.messages import DesiredChanges, FibRows
from routed.fib.monitor import KernelMonitor
from routed.fib.nexthop_sync import ObjectSync
from routed.fib.nexthops.codec import Hop, NextHopForm, NextHopKind, NextHopWrite
from routed.fib.nexthops.table import NexthopTable
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import Ownership, RouteValue, TableKey
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.routes.tables import FibTables
from routed.fib.sync import FibSync
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.netlink.socket import EventSocket
from rtnetlink import RTM_NEWLINK, LinkEnd, Rtnetlink, attribute
from tests.fakes.kernels import Namespace, add_equal, do, dump, key
from tests.unit.fib.test_sync import ListSink

pytestmark = pytest.mark.root

_IFINFO, _IFADDR = struct.Struct("=BxHiII"), struct.Struct("=BBBBi")
_RTM_DELLINK, _RTM_DELADDR, _IFLA_IFNAME, _IFA_LOCAL = 17, 21, 3, 2
DEADLINE_S = 60.0


class Side:
    """The privileged part of a daemon, in a namespace."""

    def __init__(
        self,
        namespace: Namespace,
        requests: RequestSocket,
        reader: RequestSocket,
        object_requests: RequestSocket,
        listener: EventSocket,
        *,
        by_object: bool,
    ) -> None:
        self.namespace = namespace
        self.listener_port = listener.port_id
        self.by_object = by_object
        self.sink = ListSink()
        log = Logger(self.sink, "parent", Level.DEBUG)
        fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
        fib_table = NexthopTable(205, is_enabled=by_object, is_link_up=self._is_link_up)
        self.sync = FibSync(
            fib_tables,
            requests,
            resync_s=1e6,
            log=log,
            rng=random.Random(1),
            on_progress=self._ring,
            is_link_up=self._is_link_up,
            objects=ObjectSync(fib_table, object_requests, fib_tables, log, lambda: 0),
        )
        self.monitor = KernelMonitor(
            listener,
            reader,
            on_link=self._on_link,
            on_route=self.sync.route_notified,
            on_rule=lambda: None,
            on_nexthop=self.sync.nexthop_notified,
            on_overrun=lambda _reason: self.sync.notifications_lost(),
            on_failure=lambda _error: None,
        )
        self.news = trio.Event()
        self._serial = 0

    def _is_link_up(self, ifindex: int) -> bool:
        link = self.monitor.links.interfaces.get(ifindex)
        return link is not None and link.is_up

    def _on_link(self, change: LinkChange) -> None:
        before, after = change.before, change.after
        lost = before is not None and (
            after is None
            or (before.is_up and not after.is_up)
            or not set(before.addresses) <= set(after.addresses)
        )
        self.sync.links_changed(may_have_lost_routes=lost)
        self._ring()

    def _ring(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def set_desired(self, wanted: dict[str, tuple[NextHop, ...]]) -> None:
        self.set_desired_in(Family.IPV4, wanted)

    def set_desired_in(self, family: Family, wanted: dict[str, tuple[NextHop, ...]]) -> None:
        self._serial += 1
        keys = [Prefix.parse(prefix).as_int for prefix in wanted]
        values = [RouteValue.canonical(RouteType.UNICAST, hops) for hops in wanted.values()]
        self.sync.update(DesiredChanges(self._serial, [FibRows(254, family, keys, values)], []))

    def routes(self) -> dict[str, set[str | None]]:
        """Our routes, and the gateways to which the kernel sends their packets."""
        with self.namespace.here.inside():
            netlink = Rtnetlink.open_here()
            routes = kernel.read_routes(netlink)
            netlink.close()
        return {route.prefix: {hop.via for hop in route.next_hops} for route in routes}

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(DEADLINE_S):
            while not is_so():
                with trio.move_on_after(
                    0.05
                ):  # the kernel sends no notification of what it removes
                    await self.news.wait()

    def do(self, kind: int, body: bytes, what: str) -> None:
        """Let another program change a link or an address."""
        with self.namespace.here.inside():
            netlink = Rtnetlink.open_here()
            netlink.request(kind, 0, body, what)
            netlink.close()


@pytest.fixture(params=[True, False], ids=["objects", "plain"])
async def side(request: pytest.FixtureRequest, namespace: Namespace) -> AsyncIterator[Side]:
    async with _opened(namespace, by_object=request.param) as side:
        yield side


@asynccontextmanager
async def _opened(
    namespace: Namespace, *, by_object: bool, receive_buffer_bytes: int = 1 << 24
) -> AsyncIterator[Side]:
    with namespace.here.inside():
        sockets = [RequestSocket(205) for _ in range(3)]
        listener = EventSocket(
            [sockets[0].port_id, sockets[2].port_id], receive_buffer_bytes=receive_buffer_bytes
        )
    requests, reader, object_requests = sockets
    with listener, requests, reader, object_requests:
        side = Side(namespace, requests, reader, object_requests, listener, by_object=by_object)
        await side.monitor.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side.monitor.run)
            nursery.start_soon(side.sync.run)
            yield side
            nursery.cancel_scope.cancel()


def hops(namespace: Namespace, *numbers: int) -> tuple[NextHop, ...]:
    return tuple(
        NextHop(Address.parse(f"192.0.{number}.2"), namespace.ifindexes[f"v{number}"])
        for number in numbers
    )


ALONE = {"10.1.0.0/16": {"192.0.0.2"}}
BOTH = {"10.2.0.0/16": {"192.0.0.2", "192.0.1.2"}}


async def filled(side: Side) -> None:
    side.set_desired(
        {"10.1.0.0/16": hops(side.namespace, 0), "10.2.0.0/16": hops(side.namespace, 0, 1)}
    )
    side.sync.in_sync()
    await side.until(lambda: side.routes() == ALONE | BOTH)


@pytest.mark.parametrize("ifname", ["v0", "w0"])
async def test_routes_of_a_link_that_goes_down_return_with_it(side: Side, ifname: str) -> None:
    await filled(side)
    side.namespace.set_up(ifname, is_up=False)
    ifindex = side.namespace.ifindexes["v0"]
    await side.until(lambda: not side.monitor.links.interfaces[ifindex].is_up)
    if ifname == "v0" or side.by_object:
        await side.until(lambda: side.sync.counters().failed > 0)
        assert "10.1.0.0/16" not in side.routes()
    else:  # Linux keeps a route with its own next hops, marked `linkdown`
        assert side.routes() == ALONE | BOTH
    side.namespace.set_up(ifname, is_up=True)
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_a_polled_carrier_is_known_before_linux_reports_it(side: Side) -> None:
    """Linux checks carriers once a second at most; the link that goes down second waits."""
    await filled(side)
    known = side.monitor.links.interfaces
    v0, v1 = side.namespace.ifindexes["v0"], side.namespace.ifindexes["v1"]
    with side.namespace.here.inside():
        asker = RequestSocket(205)
    with asker:
        check = CarrierCheck(asker, lambda: [v0, v1, 4711], side.monitor.link_answered, None)
        check.look()
        assert known[v0].is_up
        assert known[v1].is_up
        for ifname in ("w1", "w0"):
            side.namespace.set_up(ifname, is_up=False)
        check.look()  # no other task has run since
        assert not known[v0].is_up
        assert not known[v1].is_up
    assert check.failures == 0


async def test_a_renamed_link_keeps_its_routes(side: Side) -> None:
    await filled(side)
    writes = side.sync.counters().kernel_writes
    ifindex = side.namespace.ifindexes["v0"]
    name = attribute(_IFLA_IFNAME, b"renamed\0")
    side.do(RTM_NEWLINK, _IFINFO.pack(0, 0, ifindex, 0, 0) + name, "rename v0")
    await side.until(lambda: side.monitor.links.interfaces[ifindex].ifname == "renamed")
    assert side.routes() == ALONE | BOTH
    assert side.sync.counters().kernel_writes == writes


async def test_a_link_that_is_created_again_has_another_index_and_its_routes(side: Side) -> None:
    await filled(side)
    here, there = side.namespace.here, side.namespace.there
    old = side.namespace.ifindexes["v0"]
    side.do(_RTM_DELLINK, _IFINFO.pack(0, 0, old, 0, 0), "delete v0")
    await side.until(lambda: side.sync.counters().failed > 0)
    assert "10.1.0.0/16" not in side.routes()
    with here.inside():
        netlink = Rtnetlink.open_here()
        far = LinkEnd("w0", bytes((2, 0, 0, 0, 1, 9)))
        netlink.add_veth(LinkEnd("v0", bytes((2, 0, 0, 0, 0, 9))), far, there.net_fd)
        netlink.add_address("v0", ipaddress.ip_interface("192.0.0.1/24"))
        netlink.set_up("v0", is_up=True)
        new = {name: ifindex for ifindex, name in netlink.link_names().items()}["v0"]
        netlink.close()
    side.namespace.set_up("w0", is_up=True)
    assert new != old
    side.namespace.ifindexes["v0"] = new
    side.set_desired(
        {"10.1.0.0/16": hops(side.namespace, 0), "10.2.0.0/16": hops(side.namespace, 0, 1)}
    )
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_routes_of_an_address_that_is_removed_and_added_return(side: Side) -> None:
    await filled(side)
    address = attribute(_IFA_LOCAL, bytes((192, 0, 0, 1)))
    body = _IFADDR.pack(socket.AF_INET, 24, 0, 0, side.namespace.ifindexes["v0"]) + address
    side.do(_RTM_DELADDR, body, "remove the address")
    gone = Prefix.parse("192.0.0.0/24")
    links = side.monitor.links.interfaces
    ifindex = side.namespace.ifindexes["v0"]
    await side.until(lambda: gone not in links[ifindex].connected_prefixes())
    with side.namespace.here.inside():
        netlink = Rtnetlink.open_here()
        netlink.add_address("v0", ipaddress.ip_interface("192.0.0.1/24"))
        netlink.close()
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_a_flush_by_another_program_is_repaired(side: Side) -> None:
    await filled(side)
    with side.namespace.here.inside():
        netlink = Rtnetlink.open_here()
        for route in kernel.read_routes(netlink):
            kernel.delete_route(netlink, route)
        netlink.close()
    await side.until(lambda: side.sync.counters().repaired == 2)
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_routes_lost_in_a_flood_of_notifications_are_repaired_and_the_loss_is_counted(
    namespace: Namespace,
) -> None:
    """Another program writes and removes hundreds of routes and one of ours, and the kernel has no
    buffer space to report it.
    """
    table_key = TableKey(254, Family.IPV4, 0, 32)
    keys = [Prefix.parse(f"172.16.{number}.0/24").as_int for number in range(250)]
    values = [RouteValue(RouteType.BLACKHOLE, ())] * len(keys)
    ours = TableKey(254, Family.IPV4, 0, 205)
    victim = [Prefix.parse("10.1.0.0/16").as_int]
    async with _opened(namespace, by_object=True, receive_buffer_bytes=2048) as side:
        await filled(side)
        with namespace.here.inside():
            bird, vandal = RequestSocket(12), RequestSocket(205)
        with bird, vandal:
            for _ in range(4):
                bird.apply([FibBatch(OpKind.INSTALL, table_key, keys, values)])
                vandal.apply([FibBatch(OpKind.REMOVE, ours, victim, values[:1])])
                bird.apply([FibBatch(OpKind.REMOVE, table_key, keys, values)])
                await side.until(lambda: side.routes() == ALONE | BOTH)
    losses = side.sync.counters().overruns
    assert losses >= 1
    reasons = [record.fields["reason"] for record in side.sink.events("fib-resync")]
    assert reasons.count("overrun") <= losses, "each loss is one reading, or less"


async def test_a_foreign_route_that_wins_is_reported_and_left_alone(side: Side) -> None:
    await filled(side)
    table_key = TableKey(254, Family.IPV4, 0, 32)
    wanted = [Prefix.parse(prefix).as_int for prefix in ("10.1.0.0/16", "10.3.0.0/16")]
    values = [RouteValue(RouteType.BLACKHOLE, ())] * 2
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    with bird:
        bird.apply([FibBatch(OpKind.INSTALL, table_key, wanted, values)])
        await side.until(lambda: side.sync.counters().shadowed == 1)
        (record,) = side.sink.events("fib-route-shadowed")
        assert record.fields["prefix"] == "10.1.0.0/16"
        assert (record.fields["by"], record.fields["priority"]) == ("bird", "32")
        side.set_desired({"10.3.0.0/16": hops(side.namespace, 1)})
        await side.until(lambda: side.sync.counters().shadowed == 2)
        await side.until(lambda: side.sync.counters().installed == 3)
        assert side.sync.counters().shadowed_now == 2
        bird.apply([FibBatch(OpKind.REMOVE, table_key, wanted, values)])
    await side.until(lambda: side.sync.counters().shadowed_now == 0)
    await side.until(lambda: side.routes() == ALONE | BOTH | {"10.3.0.0/16": {"192.0.1.2"}})


async def stack(side: Side, prefix: str) -> list[int]:
    """The protocols of every route with our priority for a prefix, unordered."""
    with side.namespace.here.inside():
        requests = RequestSocket(205)
    with requests:
        return sorted(route.protocol for route in await dump(requests) if route.key == key(prefix))


async def until_stack(side: Side, prefix: str, protocols: list[int]) -> None:
    with trio.fail_after(DEADLINE_S):
        while await stack(side, prefix) != protocols:
            with trio.move_on_after(0.05):
                await side.news.wait()


@pytest.mark.parametrize("prefix", ["10.1.0.0/16", "2001:db8:77::/48"])
async def test_a_foreign_route_with_the_key_of_ours_is_its_failure_until_it_is_removed(
    side: Side, prefix: str
) -> None:
    await filled(side)
    family = Prefix.parse(prefix).family
    gateway = "192.0.0.2" if family is Family.IPV4 else "2001:db8:0::2"
    value = RouteValue(
        RouteType.UNICAST, (NextHop(Address.parse(gateway), side.namespace.ifindexes["v0"]),)
    )
    side.set_desired_in(family, {prefix: value.next_hops})
    await until_stack(side, prefix, [205])
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    with bird:
        for _ in range(2):
            assert do(bird, OpKind.REPLACE, key(prefix), value).errno == 0
            await side.until(lambda: side.sync.counters().failed == 1)
            failed = side.sync.fib_tables.fib_table(key(prefix).table_key).failure_of(
                key(prefix).prefix.as_int
            )
            assert "protocol bird holds this prefix" in failed
            assert await stack(side, prefix) == [12]
            assert do(bird, OpKind.REMOVE, key(prefix), value).errno == 0
            await side.until(lambda: side.sync.counters().failed == 0)
            await until_stack(side, prefix, [205])
    found = {record.fields["drifted"] for record in side.sink.events("fib-resync")}
    assert found == {"0"}, "the notification says it, no dump is needed"


async def test_a_foreign_route_before_ours_wins_and_one_behind_does_not(side: Side) -> None:
    await filled(side)
    value = RouteValue(RouteType.BLACKHOLE, ())
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    with bird:
        for prefix, is_first in (("10.1.0.0/16", True), ("10.2.0.0/16", False)):
            assert add_equal(bird, 12, key(prefix), value, is_first=is_first).errno == 0
        await side.until(lambda: side.sync.counters().shadowed_now == 1)
        await side.sync.resync()
        counters = side.sync.counters()
        assert (counters.shadowed_now, counters.installed, counters.failed) == (1, 2, 0)
        (record,) = side.sink.events("fib-route-shadowed")
        assert (record.fields["prefix"], record.fields["by"]) == ("10.1.0.0/16", "bird")
        assert await stack(side, "10.1.0.0/16") == [12, 205]
        assert await stack(side, "10.2.0.0/16") == [12, 205]
        for prefix in ("10.1.0.0/16", "10.2.0.0/16"):
            assert do(bird, OpKind.REMOVE, key(prefix), value).errno == 0
    await side.until(lambda: side.sync.counters().shadowed_now == 0)
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_an_ipv6_route_beside_a_foreign_one_of_its_priority_is_reported(
    side: Side,
) -> None:
    """The foreign one has no gateway, so the kernel does not merge the two into one route."""
    await filled(side)
    prefix = "2001:db8:77::/48"
    ours = NextHop(Address.parse("2001:db8:0::2"), side.namespace.ifindexes["v0"])
    side.set_desired_in(Family.IPV6, {prefix: (ours,)})
    await until_stack(side, prefix, [205])
    theirs = RouteValue(RouteType.UNICAST, (NextHop(None, side.namespace.ifindexes["v1"]),))
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    with bird:
        assert add_equal(bird, 12, key(prefix), theirs, is_first=False).errno == 0
        await side.until(lambda: side.sync.counters().shadowed_now == 1)
        await side.sync.resync()
        counters = side.sync.counters()
        assert (counters.shadowed_now, counters.failed) == (1, 0)
        assert await stack(side, prefix) == [12, 205]
        assert do(bird, OpKind.REMOVE, key(prefix), theirs).errno == 0
    await side.until(lambda: side.sync.counters().shadowed_now == 0)
    assert await stack(side, prefix) == [205]


async def test_other_routes_of_our_own_protocol_are_removed(side: Side) -> None:
    await filled(side)
    kinds = [RouteType.BLACKHOLE, RouteType.UNREACHABLE, RouteType.PROHIBIT]
    with side.namespace.here.inside():
        vandal = RequestSocket(205)
    with vandal:
        for prefix, is_first in (("10.1.0.0/16", True), ("10.2.0.0/16", False)):
            for kind in kinds:
                value = RouteValue(kind, ())
                assert add_equal(vandal, 205, key(prefix), value, is_first=is_first).errno == 0
    for prefix in ("10.1.0.0/16", "10.2.0.0/16"):
        await until_stack(side, prefix, [205])
    await side.until(lambda: side.routes() == ALONE | BOTH)
    report = await side.sync.resync()
    assert (report.missing, report.changed) == (0, 0)
    assert side.sync.counters().installed == 2


def object_through(side: Side, number: int) -> NextHopForm:
    gateway = Address.parse(f"192.0.{number}.99")
    return Hop(gateway, side.namespace.ifindexes[f"v{number}"])


async def test_an_object_that_has_another_owner_is_restored_or_its_routes_fail(
    side: Side,
) -> None:
    if not side.by_object:
        return
    await filled(side)
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    with bird:
        single = id_of(bird, side, "192.0.0.2")
        writes = [NextHopWrite(NextHopKind.REPLACE, single, object_through(side, 1))]
        before = bird.dump_nexthops()
        assert [outcome.errno for outcome in bird.write_nexthops(writes)] == [0]
        await side.until(lambda: bird.dump_nexthops() == before)
        assert side.routes() == ALONE | BOTH
        side.namespace.delete_address("v0", "192.0.0.1/24")  # its gateway cannot be reached now
        await side.until(lambda: not side.monitor.links.device_routes.is_doubtful)
        assert [outcome.errno for outcome in bird.write_nexthops(writes)] == [0]
        await side.until(lambda: side.sync.counters().failed == 1)
        assert side.routes() == {"10.2.0.0/16": {"192.0.1.2"}}
        assert single not in {seen.id for seen in bird.dump_nexthops() or ()}
        side.namespace.add_address("v0", "192.0.0.1/24")
        await side.until(lambda: side.routes() == ALONE | BOTH)


def id_of(requests: RequestSocket, side: Side, gateway: str) -> int:
    """Our object for one gateway."""
    seen = requests.dump_nexthops()
    assert seen is not None
    forms = {entry.form: entry.id for entry in seen if entry.protocol == 205}
    return forms[Hop(Address.parse(gateway), side.namespace.ifindexes["v0"])]


@pytest.mark.parametrize("priority", [32, 205])
async def test_a_foreign_route_that_is_removed_with_its_object_no_longer_wins(
    side: Side, priority: int
) -> None:
    await filled(side)
    with side.namespace.here.inside():
        bird = RequestSocket(12)
    route = key("10.1.0.0/16", priority)
    value = RouteValue(RouteType.UNICAST, (), 78)
    with bird:
        install = NextHopWrite(NextHopKind.INSTALL, 78, object_through(side, 1))
        for write in (install, install._replace(kind=NextHopKind.REMOVE)):
            assert bird.write_nexthops([write])[0].errno == 0
            if write is install:
                assert add_equal(bird, 12, route, value, is_first=True).errno == 0
                await side.until(lambda: side.sync.counters().shadowed_now == 1)
                assert side.sync.counters().failed == 0
        await side.until(lambda: side.sync.counters().shadowed_now == 0)
    await side.until(lambda: side.routes() == ALONE | BOTH)


async def test_messages_that_do_not_come_from_the_kernel_are_ignored(side: Side) -> None:
    """A process with the privilege may write to a netlink port; only the kernel's port is 0."""
    await filled(side)
    with side.namespace.here.inside():
        stranger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        netlink = Rtnetlink.open_here()
    links = dict(side.monitor.links.interfaces)
    # RTM_DELLINK of v0, as the kernel would send it.
    name = attribute(_IFLA_IFNAME, b"v0\0")
    body = _IFINFO.pack(0, 1, side.namespace.ifindexes["v0"], 0, 0) + name
    forged = struct.pack("=IHHII", 16 + len(body), _RTM_DELLINK, 0, 0, 0) + body
    stranger.sendto(forged, (side.listener_port, 0))
    netlink.add_address("v1", ipaddress.ip_interface("198.51.100.1/24"))  # is received after it
    wanted = Prefix.parse("198.51.100.0/24")
    ifindex = side.namespace.ifindexes["v1"]
    current = side.monitor.links.interfaces
    await side.until(lambda: wanted in current[ifindex].connected_prefixes())
    assert current.keys() == links.keys()
    stranger.close()
    netlink.close()
