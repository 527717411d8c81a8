"""One contract for two kernels: the behaviour that the daemon relies on, held against the fake and
the real one.

The real one is a new network namespace with two veth pairs, the fake is `FakeKernel`. A difference
between them fails here, so the fake behaves as the kernel does.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trio

from routed.fib import request_socket
from routed.fib.links.table import LinkChange
from routed.fib.monitor import KernelMonitor
from routed.fib.nexthops.codec import SeenNextHop
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.bulk import encode_batch
from routed.fib.routes.hints import add_hints
from routed.fib.routes.ownership import KernelRoute, Ownership, RouteKey, RouteValue
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.routes.tables import FibTables
from routed.fib.rule_codec import SeenRule, decode_rule, encode_rule_dump
from routed.fib.rule_support import RuleKernel
from routed.model.kernel_attributes import attributes_of
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.model.rule import (
    ANY_FLOW_LABEL,
    ANY_MARK,
    Masked,
    PolicyRule,
    PortRange,
    Realms,
    RuleAction,
    UidRange,
)
from routed.netlink.message import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    RTM_GETROUTE,
    NetlinkDecodeError,
    NetlinkMessage,
    attributes,
    pack_attribute,
    pack_message,
    pack_u32_attribute,
    split_messages,
)
from routed.netlink.socket import EventSocket, NetlinkError
from rtnetlink import Rtnetlink
from tests.fakes.fake_kernel import FakeKernel, FakeRuleKernel, single
from tests.fakes.kernels import Contract, Namespace, add_equal, do, dump, key, ours

pytestmark = pytest.mark.root


def values(contract: Contract, prefix: str) -> list[RouteValue]:
    """Every shape of route that the daemon writes, for one family."""
    v0, v1 = contract.v0, contract.v1

    def hop(via: str | None, ifindex: int, weight: int = 1, *, is_onlink: bool = False) -> NextHop:
        return NextHop(Address.parse(via) if via else None, ifindex, weight, is_onlink)

    if ":" in prefix:
        unicast = [
            (hop("2001:db8:0::2", v0),),
            (hop("fe80::2", v1),),
            (hop("fe80::2", v0), hop("fe80::2", v1)),
            (hop("fe80::2", v0, 3), hop("2001:db8:1::7", v1, 1)),
            (hop(None, v0),),
            (hop("2001:db8:9::1", v0, is_onlink=True),),
        ]
    else:
        unicast = [
            (hop("192.0.0.2", v0),),
            (hop("192.0.0.2", v0), hop("192.0.1.2", v1, 5)),
            (hop("fe80::2", v0),),
            (hop("fe80::2", v0), hop("192.0.1.2", v1)),
            (hop("fe80::2", v0, 2), hop("fe80::2", v1, 256)),
            (hop(None, v1),),
            (hop(None, v0), hop(None, v1)),
            (hop(None, v0), hop("192.0.1.2", v1)),
            (hop("198.51.100.1", v0, is_onlink=True),),
        ]
    shapes = [RouteValue.canonical(RouteType.UNICAST, hops) for hops in unicast]
    shapes += [RouteValue(kind, ()) for kind in RouteType if not kind.has_next_hops]
    return shapes + [
        RouteValue.canonical(kind, hops, attributes_of(words))
        for kind, hops, words in with_attributes(":" in prefix, unicast[0], unicast[2])
    ]


def with_attributes(
    is_ipv6: bool, one: tuple[NextHop, ...], two: tuple[NextHop, ...]
) -> list[tuple[RouteType, tuple[NextHop, ...], tuple[tuple[str, str], ...]]]:
    """Routes with attributes, and routes to a link that are not unicast."""
    link = (NextHop(None, one[0].ifindex),)
    source = ("src", "2001:db8:0::1" if is_ipv6 else "192.0.0.1")
    metrics = (
        ("mtu", "lock 1400"), ("advmss", "1000"), ("window", "5"), ("initcwnd", "10"),
        ("initrwnd", "20"), ("hoplimit", "3"), ("rto_min", "200ms"), ("quickack", "1"),
        ("congctl", "lock reno"), ("features", "ecn"),
    )  # fmt: skip
    found = [
        (RouteType.UNICAST, one, (source, *metrics)),
        (RouteType.UNICAST, two, (source,)),
        (RouteType.UNICAST, one, (("mtu", "1300"),)),
        (RouteType.BLACKHOLE, (), (("mtu", "1300"),)),
        (RouteType.LOCAL, link, ()),
        (RouteType.LOCAL, link, (("hoplimit", "9"),)),
    ]
    if is_ipv6:
        return [*found, (RouteType.UNICAST, two, (("pref", "low"),))]
    return [
        *found,
        (RouteType.UNICAST, one, (("realm", "3/4"), ("scope", "site"))),
        (RouteType.UNICAST, two, (("realm", "7"),)),
        (RouteType.UNICAST, link, (("scope", "global"),)),
        (RouteType.BROADCAST, link, ()),
    ]


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "2001:db8:5::/48"])
async def test_a_source_that_is_not_an_address_of_the_host_is_refused_by_name(
    contract: Contract, prefix: str
) -> None:
    one = values(contract, prefix)[0]
    source = "2001:db8:7::1" if ":" in prefix else "192.0.7.1"
    value = one._replace(attributes=attributes_of((("src", source),)))
    batch = single(OpKind.INSTALL, key(prefix), value)
    (refused,) = contract.kernel.apply([batch])
    add_hints(batch, refused)
    assert refused[0].errno == errno.EINVAL
    assert refused[0].detail == f"waits for its source {source}, which is no address of this host"
    contract.add_own(f"{source}/128" if ":" in prefix else f"{source}/32")
    assert do(contract.kernel, OpKind.INSTALL, key(prefix), value).errno == 0
    assert await ours(contract) == {key(prefix): value}


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "2001:db8:5::/48"])
async def test_a_congestion_control_that_the_kernel_lacks_is_named(
    contract: Contract, prefix: str
) -> None:
    one = values(contract, prefix)[0]
    value = one._replace(attributes=attributes_of((("congctl", "nonsense"),)))
    batch = single(OpKind.INSTALL, key(prefix), value)
    (refused,) = contract.kernel.apply([batch])
    add_hints(batch, refused)
    assert refused[0].detail == "this kernel has no TCP congestion control 'nonsense'"


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "0.0.0.0/0", "2001:db8:5::/48", "::/0"])
async def test_every_shape_reads_back_as_it_was_written(contract: Contract, prefix: str) -> None:
    for value in values(contract, prefix):
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), value).errno == 0, value
        assert await ours(contract) == {key(prefix): value}
        assert do(contract.kernel, OpKind.REMOVE, key(prefix), value).errno == 0, value
        assert await ours(contract) == {}


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "2001:db8:5::/48"])
async def test_any_shape_becomes_any_other_by_the_planned_operations(
    contract: Contract, prefix: str
) -> None:
    fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
    fib_tables.open_gate()
    shapes = values(contract, prefix)
    for before in shapes:
        for after in shapes:
            for value in (before, after):
                wanted = key(prefix).prefix
                fib_tables.set_desired(254, wanted.family, [wanted.as_int], [value])
                batches = fib_tables.plan(0.0)
                refusals = contract.kernel.apply(batches)
                assert not any(refusals), (before, after, refusals)
                assert fib_tables.record(batches, refusals, 0.0)
                assert await ours(contract) == {key(prefix): value}, (before, after)


async def test_an_install_never_overwrites(contract: Contract) -> None:
    for prefix in ("203.0.113.0/24", "2001:db8:5::/48"):
        first, second, *_ = values(contract, prefix)
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), first).errno == 0
        outcome = do(contract.kernel, OpKind.INSTALL, key(prefix), second)
        assert outcome.errno == errno.EEXIST
        assert (await ours(contract))[key(prefix)] == first


async def test_a_replace_needs_something_to_replace(contract: Contract) -> None:
    for prefix in ("203.0.113.0/24", "2001:db8:5::/48"):
        value = values(contract, prefix)[0]
        outcome = do(contract.kernel, OpKind.REPLACE, key(prefix), value)
        assert outcome.errno == errno.ENOENT


async def test_a_removal_of_nothing_is_reported(contract: Contract) -> None:
    for prefix in ("203.0.113.0/24", "2001:db8:5::/48"):
        value = values(contract, prefix)[0]
        outcome = do(contract.kernel, OpKind.REMOVE, key(prefix), value)
        assert outcome.errno == errno.ESRCH


async def test_one_refusal_in_a_batch_is_identified_and_stops_no_other(contract: Contract) -> None:
    value = values(contract, "203.0.113.0/24")[0]
    routes = [key(f"10.{number}.0.0/16") for number in range(50)]
    keys = [route.prefix.as_int for route in routes]
    good = FibBatch(OpKind.INSTALL, routes[0].table_key, keys, [value] * 50)
    again = good._replace(keys=[*keys[20:25], key("10.77.0.0/16").prefix.as_int])
    bad = single(OpKind.REMOVE, key("198.18.0.0/15"), value)
    refusals = contract.kernel.apply([good, bad, again._replace(values=[value] * 6)])
    assert refusals[0] == {}
    assert {at: outcome.errno for at, outcome in refusals[1].items()} == {0: errno.ESRCH}
    assert {at: outcome.errno for at, outcome in refusals[2].items()} == dict.fromkeys(
        range(5), errno.EEXIST
    )
    assert len(await ours(contract)) == 51


async def test_a_table_that_does_not_exist_is_empty(contract: Contract) -> None:
    assert await dump(contract.kernel, 4711) == []


@pytest.mark.parametrize("table_id", [100, 4711])
async def test_tables_are_independent(contract: Contract, table_id: int) -> None:
    for prefix in ("203.0.113.0/24", "2001:db8:5::/48"):
        value = values(contract, prefix)[0]
        assert do(contract.kernel, OpKind.INSTALL, key(prefix, 205, table_id), value).errno == 0
    assert await ours(contract) == {}
    assert len(await ours(contract, table_id)) == 2


async def test_a_removal_does_not_remove_a_foreign_route(namespace: Namespace) -> None:
    route = key("203.0.113.0/24")
    value = RouteValue.canonical(
        RouteType.UNICAST,
        (NextHop(Address.parse("192.0.0.2"), namespace.ifindexes["v0"]),),
    )
    with namespace.here.inside(), RequestSocket(12) as bird, RequestSocket(205) as requests:
        assert do(bird, OpKind.INSTALL, route, value).errno == 0
        outcome = do(requests, OpKind.REMOVE, route, value)
        assert outcome.errno == errno.ESRCH
        (found,) = [entry for entry in await dump(requests) if entry.key == route]
        assert found.protocol == 12


def add_foreign(contract: Contract, route: RouteKey, value: RouteValue, *, is_first: bool) -> None:
    """Add a route with a key of ours, of protocol 12."""
    if isinstance(contract.kernel, FakeKernel):
        add = contract.kernel.prepend if is_first else contract.kernel.append
        add(route, value, 12)
    else:
        assert add_equal(contract.kernel, 12, route, value, is_first=is_first).errno == 0


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "behind"])
async def test_rewriting_an_unchanged_route_shows_whether_it_comes_first(
    contract: Contract, is_first: bool
) -> None:
    route = key("203.0.113.0/24")
    mine, theirs, *_ = values(contract, "203.0.113.0/24")
    assert do(contract.kernel, OpKind.INSTALL, route, mine).errno == 0
    add_foreign(contract, route, theirs, is_first=is_first)
    order = [12, 205] if is_first else [205, 12]
    expected = errno.EEXIST if is_first else 0
    for _ in range(2):
        assert do(contract.kernel, OpKind.REPLACE, route, mine).errno == expected
        there = [entry for entry in await dump(contract.kernel) if entry.key == route]
        assert [entry.protocol for entry in there] == order
    assert do(contract.kernel, OpKind.INSTALL, route, mine).errno == errno.EEXIST
    assert do(contract.kernel, OpKind.REMOVE, route, mine).errno == 0
    assert do(contract.kernel, OpKind.REMOVE, route, mine).errno == errno.ESRCH
    (left,) = [entry for entry in await dump(contract.kernel) if entry.key == route]
    assert (left.protocol, left.value) == (12, theirs)


async def test_an_unreachable_gateway_has_the_kernel_s_message(namespace: Namespace) -> None:
    value = RouteValue.canonical(
        RouteType.UNICAST,
        (NextHop(Address.parse("198.51.100.77"), namespace.ifindexes["v0"]),),
    )
    with namespace.here.inside(), RequestSocket(205) as requests:
        outcome = do(requests, OpKind.INSTALL, key("10.9.0.0/16"), value)
    assert outcome.errno == errno.ENETUNREACH
    assert "gateway" in outcome.detail.lower()


def gateway_in_use(requests: RequestSocket, destination: str) -> Address | None:
    """The gateway to which packets really go: the kernel's answer to `ip route get`."""
    header = bytes((Family.IPV4, 32)) + bytes(10)
    question = header + pack_attribute(1, Address.parse(destination).packed)
    answers: list[NetlinkMessage] = []
    outcome = requests._request(
        lambda sequence: pack_message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, sequence, question),
        answers.append,
    )
    assert outcome.errno == 0
    (answer,) = answers
    found = dict(attributes(answer.payload, 12, len(answer.payload)))
    return Address.unpack(found[5]) if 5 in found else None


async def test_a_route_whose_gateway_was_our_own_address_is_written_again(
    namespace: Namespace,
) -> None:
    """The kernel does not show that it ignores the gateway; it uses it after the rewrite."""
    gateway = Address.parse("192.0.0.9")
    value = RouteValue(RouteType.UNICAST, (NextHop(gateway, namespace.ifindexes["v0"]),))
    wanted = key("203.0.113.0/24").prefix
    fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
    namespace.add_address("v0", "192.0.0.9/24")
    with namespace.here.inside(), RequestSocket(205) as requests:

        def write() -> None:
            batches = fib_tables.plan(0.0)
            assert fib_tables.record(batches, requests.apply(batches), 0.0)

        fib_tables.set_desired(254, wanted.family, [wanted.as_int], [value])
        write()
        namespace.delete_address("v0", "192.0.0.9/24")
        assert gateway_in_use(requests, "203.0.113.1") is None
        fib_tables.rewrite({gateway})
        write()
        assert gateway_in_use(requests, "203.0.113.1") == gateway
    assert fib_tables.totals[1] == 1


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "2001:db8:5::/48"])
async def test_an_attribute_that_another_program_adds_to_a_route_of_ours_is_detected_and_replaced(
    namespace: Namespace, prefix: str
) -> None:
    """A source, metrics or a preference are not visible in the route's next hops."""
    route = key(prefix)
    via = "2001:db8:0::2" if ":" in prefix else "192.0.0.2"
    hop = NextHop(Address.parse(via), namespace.ifindexes["v0"])
    value = RouteValue(RouteType.UNICAST, (hop,))
    additions = {"metrics": pack_attribute(8, pack_u32_attribute(2, 1400))}
    if ":" in prefix:
        additions["preference"] = pack_attribute(20, b"\x01")
        additions["expiry"] = pack_u32_attribute(23, 300)
    else:
        additions["source"] = pack_attribute(7, Address.parse("192.0.0.1").packed)
    fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
    fib_tables.set_desired(254, route.prefix.family, [route.prefix.as_int], [value])
    with namespace.here.inside(), RequestSocket(205) as requests:
        batches = fib_tables.plan(0.0)
        assert fib_tables.record(batches, requests.apply(batches), 0.0)
        for what, addition in additions.items():
            message = encode_batch(single(OpKind.REPLACE, route, value), 205, 1)
            outcome = requests._request(functools.partial(_altered, message, addition))
            assert outcome.errno == 0, (what, outcome)
            (found,) = [entry for entry in await dump(requests) if entry.protocol == 205]
            assert found.value._replace(attributes=None, is_altered=False) == value, what
            assert found.value != value, what
            assert fib_tables.route_changed(found, 0.0, is_removed=False) is not None, "drift"
            batches = fib_tables.plan(100.0)
            assert fib_tables.record(batches, requests.apply(batches), 100.0)
            assert [entry.value for entry in await dump(requests) if entry.protocol == 205] == [
                value
            ], what


def _altered(message: bytes, addition: bytes, sequence: int) -> bytes:
    """Add an attribute to a request, and send it with an acknowledgement."""
    (request,) = split_messages(message)
    return pack_message(
        request.type, request.flags | NLM_F_ACK, sequence, request.payload + addition
    )


class Received:
    """Collects the events of a monitor."""

    def __init__(self) -> None:
        self.changes: list[LinkChange] = []
        self.routes: list[tuple[KernelRoute, bool]] = []
        self.overruns: list[str] = []
        self.nexthops: list[tuple[SeenNextHop, bool]] = []
        self.rules = 0
        self.news = trio.Event()

    def link(self, change: LinkChange) -> None:
        self.changes.append(change)
        self._ring()

    def route(self, route: KernelRoute, is_removed: bool, _is_replacing: bool) -> None:
        self.routes.append((route, is_removed))
        self._ring()

    def rule(self) -> None:
        self.rules += 1
        self._ring()

    def nexthop(self, seen: SeenNextHop, is_removed: bool) -> None:
        self.nexthops.append((seen, is_removed))
        self._ring()

    def overrun(self, reason: str) -> None:
        self.overruns.append(reason)
        self._ring()

    def _ring(self) -> None:
        self.news.set()
        self.news = trio.Event()


async def test_links_and_addresses_are_followed(namespace: Namespace) -> None:
    heard = Received()
    with namespace.here.inside():
        requests, lab = RequestSocket(205), Rtnetlink.open_here()
        listener = EventSocket([requests.port_id])
    monitor = KernelMonitor(
        listener,
        requests,
        on_link=heard.link,
        on_route=heard.route,
        on_rule=heard.rule,
        on_nexthop=heard.nexthop,
        on_overrun=heard.overrun,
        on_failure=lambda _error: None,
    )
    with listener, requests, trio.fail_after(10):
        await monitor.load()
        v0 = monitor.links.interfaces[namespace.ifindexes["v0"]]
        assert v0.ifname == "v0"
        assert v0.is_up
        assert Prefix.parse("192.0.0.0/24") in v0.connected_prefixes()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            lab.add_address("v0", ipaddress.ip_interface("198.51.100.1/24"))
            wanted = Prefix.parse("198.51.100.0/24")
            while wanted not in monitor.links.interfaces[v0.ifindex].connected_prefixes():
                await heard.news.wait()
            lab.set_up("v0", is_up=False)
            while monitor.links.interfaces[v0.ifindex].is_admin_up:
                await heard.news.wait()
            nursery.cancel_scope.cancel()
    lab.close()


async def test_writes_of_other_programs_are_reported_and_our_own_are_not(
    namespace: Namespace,
) -> None:
    heard = Received()
    with namespace.here.inside():
        requests, bird = RequestSocket(205), RequestSocket(12)
        listener = EventSocket([requests.port_id])
    monitor = KernelMonitor(
        listener,
        requests,
        on_link=heard.link,
        on_route=heard.route,
        on_rule=heard.rule,
        on_nexthop=heard.nexthop,
        on_overrun=heard.overrun,
        on_failure=lambda _error: None,
    )
    value = RouteValue.canonical(
        RouteType.UNICAST,
        (NextHop(Address.parse("192.0.0.2"), namespace.ifindexes["v0"]),),
    )
    with listener, requests, bird, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            assert do(requests, OpKind.INSTALL, key("10.1.0.0/16"), value).errno == 0
            assert do(bird, OpKind.INSTALL, key("10.2.0.0/16", 32), value).errno == 0
            while not heard.routes:
                await heard.news.wait()
            nursery.cancel_scope.cancel()
    assert heard.routes == [(KernelRoute(key("10.2.0.0/16", 32), 12, value), False)]


async def test_lost_notifications_are_detected(namespace: Namespace) -> None:
    heard = Received()
    with namespace.here.inside():
        requests, bird = RequestSocket(205), RequestSocket(12)
        listener = EventSocket([requests.port_id], receive_buffer_bytes=2048)
    monitor = KernelMonitor(
        listener,
        requests,
        on_link=heard.link,
        on_route=heard.route,
        on_rule=heard.rule,
        on_nexthop=heard.nexthop,
        on_overrun=heard.overrun,
        on_failure=lambda _error: None,
    )
    value = RouteValue(RouteType.BLACKHOLE, ())
    routes = [key(f"10.{number >> 8}.{number & 255}.0/24") for number in range(400)]
    keys = [route.prefix.as_int for route in routes]
    flood = FibBatch(OpKind.INSTALL, routes[0].table_key, keys, [value] * 400)
    with listener, requests, bird, trio.fail_after(10):
        bird.apply([flood])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            while not heard.overruns:
                await heard.news.wait()
            nursery.cancel_scope.cancel()
    assert monitor.overruns >= 1
    assert monitor.links.interfaces, "links were read again"


def rules() -> list[PolicyRule]:
    """Every shape of rule that the configuration allows."""
    ipv4, ipv6 = Prefix.parse("10.1.0.0/16"), Prefix.parse("2001:db8:6::/48")
    return [
        PolicyRule(Family.IPV4, 1000, RuleAction.LOOKUP, 100, source=ipv4),
        PolicyRule(Family.IPV6, 1000, RuleAction.LOOKUP, 4711, source=ipv6, destination=ipv6),
        PolicyRule(Family.IPV4, 1001, RuleAction.LOOKUP, 254, iif="lo", oif="v0"),
        PolicyRule(Family.IPV6, 1002, RuleAction.LOOKUP, 100, fwmark=0x10, fwmask=0xFF),
        PolicyRule(Family.IPV4, 1003, RuleAction.LOOKUP, 100, fwmark=7, fwmask=ANY_MARK),
        PolicyRule(Family.IPV4, 1004, RuleAction.LOOKUP, 100, fwmark=0, fwmask=0xF0),
        PolicyRule(Family.IPV4, 1005, RuleAction.BLACKHOLE, destination=ipv4),
        PolicyRule(Family.IPV6, 1006, RuleAction.UNREACHABLE, destination=ipv6),
        PolicyRule(Family.IPV6, 1007, RuleAction.PROHIBIT, iif="gone0"),
        PolicyRule(Family.IPV4, 1008, RuleAction.GOTO, goto_priority=2**32 - 1),
        PolicyRule(Family.IPV6, 1009, RuleAction.NOP, is_inverted=True, ip_protocol=6),
        PolicyRule(Family.IPV4, 1010, table_id=2**32 - 1, tos=0x10, uids=UidRange(0, 5)),
        PolicyRule(Family.IPV6, 1011, is_l3mdev=True, source_ports=PortRange(1, 0xFFFE)),
        PolicyRule(Family.IPV4, 1012, table_id=255, realms=Realms(3, 4), tunnel_id=2**64 - 1),
        PolicyRule(Family.IPV6, 1013, table_id=253, suppress_prefix_len=0, suppress_group=0),
        PolicyRule(Family.IPV4, 1014, table_id=9, destination_ports=PortRange(53, 53)),
    ]


@pytest.fixture(params=["fake", "real"])
async def rule_kernel(
    request: pytest.FixtureRequest, namespace: Namespace
) -> AsyncIterator[RuleKernel]:
    if request.param == "fake":
        yield FakeRuleKernel()
        return
    with namespace.here.inside(), RequestSocket(205) as requests:
        yield requests


async def our_rules(kernel: RuleKernel) -> set[PolicyRule]:
    return {seen.rule for seen in await kernel.dump_rules() if seen.protocol == 205}


async def test_every_shape_of_rule_reads_back_as_it_was_written(rule_kernel: RuleKernel) -> None:
    assert await rule_kernel.dump_rules() == [], "the kernel's own are nobody's"
    for rule in rules():
        assert rule_kernel.add_rule(rule).errno == 0, rule
    assert await our_rules(rule_kernel) == set(rules())
    for rule in rules():
        assert rule_kernel.add_rule(rule).errno == 0, "a rule may exist several times"
        assert rule_kernel.remove_rule(rule).errno == 0, rule
        assert rule_kernel.remove_rule(rule).errno == 0, rule
        assert rule_kernel.remove_rule(rule).errno == errno.ENOENT, rule
    assert await our_rules(rule_kernel) == set()
    assert await rule_kernel.dump_rules() == []


async def test_a_flow_label_is_of_ipv6_and_realms_are_of_ipv4(rule_kernel: RuleKernel) -> None:
    labelled = PolicyRule(Family.IPV4, 1000, table_id=9, flow_label=Masked(5, ANY_FLOW_LABEL))
    assert rule_kernel.add_rule(labelled).errno == errno.EINVAL
    with_realms = PolicyRule(Family.IPV6, 1000, table_id=9, realms=Realms(0, 5))
    assert rule_kernel.add_rule(with_realms).errno == 0
    assert await our_rules(rule_kernel) == {with_realms._replace(realms=None)}, "read over"


async def test_rules_of_other_programs_are_reported_and_stay(namespace: Namespace) -> None:
    heard = Received()
    rule = rules()[0]
    with namespace.here.inside():
        requests, other = RequestSocket(205), RequestSocket(12)
        listener = EventSocket([requests.port_id])
    monitor = KernelMonitor(
        listener,
        requests,
        on_link=heard.link,
        on_route=heard.route,
        on_rule=heard.rule,
        on_nexthop=heard.nexthop,
        on_overrun=heard.overrun,
        on_failure=lambda _error: None,
    )
    with listener, requests, other, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            assert other.add_rule(rule).errno == 0
            while not heard.rules:
                await heard.news.wait()
            nursery.cancel_scope.cancel()
        assert requests.remove_rule(rule).errno == errno.ENOENT
        assert SeenRule(rule, 12) in await requests.dump_rules()


async def test_a_family_that_the_kernel_does_not_have_has_no_rules(namespace: Namespace) -> None:
    """ipv6.disable=1 is such a case; the kernel has no rules of AF_UNIX either."""
    with namespace.here.inside(), RequestSocket(205) as requests:
        encode = functools.partial(encode_rule_dump, cast("Family", socket.AF_UNIX))
        with pytest.raises(NetlinkError):
            await requests._dump(encode)
        assert await requests._dump(encode, request_socket._NO_SUCH_FAMILY) == []


class OldSocket(socket.socket):
    """A netlink socket of a kernel before 4.12."""

    def setsockopt(self, level: int, option: int, *rest: Any) -> None:
        if level == 270 and option in (11, 12):
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        super().setsockopt(level, option, *rest)


async def test_without_the_filter_of_dumps_the_fib_tables_are_right_nevertheless(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = RouteValue(RouteType.BLACKHOLE, ())
    with namespace.here.inside():
        with RequestSocket(205) as requests:
            for route in (key("10.1.0.0/16"), key("10.2.0.0/16", table_id=100)):
                assert do(requests, OpKind.INSTALL, route, value).errno == 0
        monkeypatch.setattr(socket, "socket", OldSocket)
        with RequestSocket(205) as requests:
            monkeypatch.undo()
            shown = {route.key.table_id for route in await dump(requests)}
            assert shown - {255} == {254, 100}, "255 has the kernel's own"
            fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
            for is_thorough in (False, True):
                comparison = fib_tables.begin_dump(254, Family.IPV4, is_thorough=is_thorough)
                await requests.dump_routes(254, Family.IPV4, comparison.receive)
                assert comparison.finish(0.0) == []
            assert fib_tables.kernel_count == 1
            rejected = do(requests, OpKind.INSTALL, key("10.1.0.0/16"), value)
            assert (rejected.errno, rejected.detail) == (errno.EEXIST, "")


async def test_a_rule_that_cannot_be_decoded_affects_no_other(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer kernel may have rules of kinds that this version does not support."""

    def fails_for_one(message: NetlinkMessage) -> SeenRule | None:
        seen = decode_rule(message)
        if seen is not None and seen.protocol == 12:
            raise NetlinkDecodeError("rule: what is this")
        return seen

    ours, foreign = rules()[:2]
    with namespace.here.inside(), RequestSocket(205) as requests, RequestSocket(12) as other:
        assert other.add_rule(foreign).errno == 0
        assert requests.add_rule(ours).errno == 0
        monkeypatch.setattr(request_socket, "decode_rule", fails_for_one)
        assert await requests.dump_rules() == [SeenRule(ours, 205)]
