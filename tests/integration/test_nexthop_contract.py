"""The behaviour of nexthop objects that the daemon relies on, held against the fake and the real
kernel.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
import trio

from routed.fib.monitor import KernelMonitor
from routed.fib.nexthops.codec import (
    OWN_GATEWAY,
    Hop,
    NextHopForm,
    NextHopKind,
    NextHopWrite,
    SeenNextHop,
    encode_nexthop,
)
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import Ownership, RouteValue
from routed.fib.routes.plan import OpKind
from routed.fib.routes.tables import FibTables
from routed.model.kernel_attributes import attributes_of
from routed.model.prefix import Address
from routed.model.route import NextHop, RouteType
from routed.netlink.socket import EventSocket
from tests.fakes.fake_kernel import FakeKernel
from tests.fakes.kernels import Contract, Namespace, do, key, objects, ours, write_object
from waiting import wait_until

pytestmark = pytest.mark.root

A, B, ONLINK, SIX, SIX_GLOBAL, ALONE, ALSO_ALONE = range(205_000_001, 205_000_008)
GROUP, MIXED, SIXES, LINKS, HALF = range(205_000_011, 205_000_016)
WEIGHTY = 205_000_021


def forms(contract: Contract) -> dict[int, NextHopForm]:
    """Every shape of object that the daemon creates, members before groups."""
    v0, v1 = contract.v0, contract.v1
    return {
        A: Hop(Address.parse("192.0.0.2"), v0),
        B: Hop(Address.parse("192.0.1.2"), v1),
        ONLINK: Hop(Address.parse("198.51.100.1"), v0, is_onlink=True),
        SIX: Hop(Address.parse("fe80::2"), v1),
        SIX_GLOBAL: Hop(Address.parse("2001:db8:0::2"), v0),
        ALONE: Hop(None, v0),
        ALSO_ALONE: Hop(None, v1),
        GROUP: ((A, 1), (B, 255)),
        MIXED: ((B, 2), (SIX, 1)),
        SIXES: ((SIX, 3), (SIX_GLOBAL, 1)),
        LINKS: ((ALONE, 1), (ALSO_ALONE, 1)),
        HALF: ((SIX, 1), (ALONE, 2)),
    }


def fill(contract: Contract) -> dict[int, NextHopForm]:
    wanted = forms(contract)
    for nexthop_id, form in wanted.items():
        outcome = write_object(contract, NextHopKind.INSTALL, nexthop_id, form)
        assert outcome.errno == 0, (nexthop_id, outcome)
    return wanted


def through(nexthop_id: int) -> RouteValue:
    return RouteValue(RouteType.UNICAST, (), nexthop_id)


async def test_every_shape_reads_back_as_it_was_written(contract: Contract) -> None:
    wanted = fill(contract)
    assert objects(contract) == wanted
    for nexthop_id in reversed(wanted):
        assert write_object(contract, NextHopKind.REMOVE, nexthop_id).errno == 0
    assert objects(contract) == {}


MTU = attributes_of((("mtu", "1400"),))


async def test_a_route_without_metrics_gets_none_of_another_route_of_its_object(
    contract: Contract,
) -> None:
    fill(contract)
    plain, limited = through(A), through(A)._replace(attributes=MTU)
    assert do(contract.kernel, OpKind.INSTALL, key("10.1.0.0/16"), limited).errno == 0
    assert do(contract.kernel, OpKind.INSTALL, key("10.2.0.0/16"), plain).errno == 0
    assert do(contract.kernel, OpKind.INSTALL, key("10.3.0.0/16"), limited).errno == 0
    assert do(contract.kernel, OpKind.REPLACE, key("10.3.0.0/16"), plain).errno == 0
    assert await ours(contract) == {
        key("10.1.0.0/16"): limited, key("10.2.0.0/16"): plain, key("10.3.0.0/16"): plain
    }  # fmt: skip


async def test_a_metric_that_another_program_has_added_can_be_removed(contract: Contract) -> None:
    fill(contract)
    plain, limited = through(A), through(A)._replace(attributes=MTU)
    assert do(contract.kernel, OpKind.INSTALL, key("10.1.0.0/16"), plain).errno == 0
    with other_socket(contract) as other:
        assert do(other, OpKind.REPLACE, key("10.1.0.0/16"), limited).errno == 0
    assert do(contract.kernel, OpKind.REPLACE, key("10.1.0.0/16"), plain).errno == 0
    assert await ours(contract) == {key("10.1.0.0/16"): plain}


async def test_a_start_learns_from_the_dump_that_an_earlier_daemon_wrote_metrics(
    contract: Contract,
) -> None:
    fill(contract)
    plain, limited = through(A), through(A)._replace(attributes=MTU)
    with other_socket(contract) as earlier:
        assert do(earlier, OpKind.INSTALL, key("10.1.0.0/16"), limited).errno == 0
    assert await ours(contract) == {key("10.1.0.0/16"): limited}
    assert do(contract.kernel, OpKind.INSTALL, key("10.2.0.0/16"), plain).errno == 0
    assert await ours(contract) == {key("10.1.0.0/16"): limited, key("10.2.0.0/16"): plain}


@contextlib.contextmanager
def other_socket(contract: Contract) -> Iterator[FakeKernel | RequestSocket]:
    """Another program with our protocol number; the fake kernel has one client only."""
    if isinstance(contract.kernel, FakeKernel):
        yield contract.kernel
        return
    with contract.namespace.here.inside():
        requests = RequestSocket(205)
    with requests:
        yield requests


async def test_an_object_is_installed_once_and_removed_once(contract: Contract) -> None:
    form = forms(contract)[A]
    assert write_object(contract, NextHopKind.INSTALL, A, form).errno == 0
    assert write_object(contract, NextHopKind.INSTALL, A, form).errno == errno.EEXIST
    assert write_object(contract, NextHopKind.REMOVE, A).errno == 0
    assert write_object(contract, NextHopKind.REMOVE, A).errno == errno.ENOENT


async def test_a_group_needs_its_members(contract: Contract) -> None:
    outcome = write_object(contract, NextHopKind.INSTALL, GROUP, ((A, 1), (B, 1)))
    assert outcome.errno == errno.EINVAL


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "0.0.0.0/0", "2001:db8:5::/48", "::/0"])
async def test_routes_go_through_every_shape_and_read_back(contract: Contract, prefix: str) -> None:
    fill(contract)
    usable = (
        (SIX, SIX_GLOBAL, SIXES, ALONE, LINKS, HALF)
        if ":" in prefix
        else (A, B, ONLINK, SIX, SIX_GLOBAL, GROUP, MIXED, SIXES)
    )
    for nexthop_id in usable:
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), through(nexthop_id)).errno == 0
        assert await ours(contract) == {key(prefix): through(nexthop_id)}
        assert do(contract.kernel, OpKind.REMOVE, key(prefix), through(nexthop_id)).errno == 0
        assert await ours(contract) == {}


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "2001:db8:5::/48"])
async def test_a_route_moves_between_objects_and_next_hops_by_the_planned_operations(
    contract: Contract, prefix: str
) -> None:
    fill(contract)
    fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
    fib_tables.open_gate()
    via = "fe80::2" if ":" in prefix else "192.0.1.2"
    plain = RouteValue.canonical(RouteType.UNICAST, (NextHop(Address.parse(via), contract.v1),))
    bare = RouteValue.canonical(RouteType.UNICAST, (NextHop(None, contract.v0),))
    shapes = [through(SIX), through(SIXES), plain, bare, RouteValue(RouteType.BLACKHOLE, ())]
    wanted = key(prefix).prefix
    for before in shapes:
        for after in shapes:
            for value in (before, after):
                fib_tables.set_desired(254, wanted.family, [wanted.as_int], [value])
                batches = fib_tables.plan(0.0)
                refusals = contract.kernel.apply(batches)
                assert not any(refusals), (before, after, refusals)
                assert fib_tables.record(batches, refusals, 0.0)
                assert await ours(contract) == {key(prefix): value}, (before, after)


async def test_a_route_through_a_missing_object_is_refused(contract: Contract) -> None:
    for prefix in ("203.0.113.0/24", "2001:db8:5::/48"):
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), through(A)).errno == errno.EINVAL


async def test_replacing_a_group_does_not_affect_its_routes(contract: Contract) -> None:
    fill(contract)
    assert do(contract.kernel, OpKind.INSTALL, key("203.0.113.0/24"), through(GROUP)).errno == 0
    assert write_object(contract, NextHopKind.REPLACE, GROUP, ((B, 1),)).errno == 0
    assert objects(contract)[GROUP] == ((B, 1),)
    assert await ours(contract) == {key("203.0.113.0/24"): through(GROUP)}


async def test_routes_and_memberships_are_removed_with_their_object(contract: Contract) -> None:
    fill(contract)
    routes = {"10.1.0.0/16": A, "10.2.0.0/16": GROUP, "2001:db8:5::/48": SIX}
    for prefix, nexthop_id in routes.items():
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), through(nexthop_id)).errno == 0
    for nexthop_id in (A, SIX):
        assert write_object(contract, NextHopKind.REMOVE, nexthop_id).errno == 0
    assert await ours(contract) == {key("10.2.0.0/16"): through(GROUP)}
    left = objects(contract)
    assert left[GROUP] == ((B, 255),)
    assert left[MIXED] == ((B, 2),)
    assert left[SIXES] == ((SIX_GLOBAL, 1),)


@pytest.mark.parametrize("ifname", ["v0", "w0"])
async def test_objects_of_a_link_that_goes_down_are_removed_and_groups_shrink(
    contract: Contract, ifname: str
) -> None:
    fill(contract)
    routes = {"10.1.0.0/16": A, "10.2.0.0/16": GROUP, "10.3.0.0/16": SIXES}
    for prefix, nexthop_id in routes.items():
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), through(nexthop_id)).errno == 0
    contract.set_link(ifname, is_up=False)
    # The kernel notices a lost carrier a little later.
    wait_until(lambda: A not in objects(contract), 10, "the objects over the link are gone")
    left = objects(contract)
    assert left.keys() == {B, SIX, ALSO_ALONE, GROUP, MIXED, SIXES, LINKS, HALF}
    assert left[LINKS] == ((ALSO_ALONE, 1),)
    assert left[GROUP] == ((B, 255),)
    assert left[SIXES] == ((SIX, 3),)
    assert (await ours(contract)).keys() == {key("10.2.0.0/16"), key("10.3.0.0/16")}
    form = forms(contract)[A]
    assert write_object(contract, NextHopKind.INSTALL, A, form).errno == errno.ENETDOWN
    contract.set_link("w1", is_up=False)
    wait_until(lambda: not objects(contract), 10, "groups without a member are gone, too")
    assert await ours(contract) == {}


async def test_a_kernel_accepts_the_greatest_weight_or_reports_that_it_is_too_great(
    contract: Contract,
) -> None:
    fill(contract)
    outcome = write_object(contract, NextHopKind.INSTALL, WEIGHTY, ((A, 1), (B, 256)))
    if outcome.errno == 0:  # since Linux 6.12
        assert objects(contract)[WEIGHTY] == ((A, 1), (B, 256))
    else:
        assert outcome.errno == errno.EINVAL
        assert "weight" in outcome.detail


async def test_a_gateway_may_be_resolved_by_a_route_of_ours(contract: Contract) -> None:
    for base, via, prefix in (
        ("172.31.1.1/32", "172.31.1.1", "10.1.0.0/16"),
        ("2001:db8:77::1/128", "2001:db8:77::1", "2001:db8:5::/48"),
    ):
        form = Hop(Address.parse(via), contract.v0)
        alone = RouteValue(RouteType.UNICAST, (NextHop(None, contract.v0),))
        plain = RouteValue(RouteType.UNICAST, (NextHop(Address.parse(via), contract.v0),))
        refused = {errno.ENETUNREACH, errno.EHOSTUNREACH}
        assert write_object(contract, NextHopKind.INSTALL, A, form).errno in refused
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), plain).errno in refused
        assert do(contract.kernel, OpKind.INSTALL, key(base), alone).errno == 0
        assert write_object(contract, NextHopKind.INSTALL, A, form).errno == 0
        assert do(contract.kernel, OpKind.INSTALL, key(prefix), plain).errno == 0
        assert write_object(contract, NextHopKind.REMOVE, A).errno == 0


async def test_a_gateway_may_be_resolved_by_a_route_through_several_links(
    contract: Contract,
) -> None:
    fill(contract)
    form = Hop(Address.parse("2001:db8:77::1"), contract.v1)
    assert do(contract.kernel, OpKind.INSTALL, key("2001:db8:77::1/128"), through(LINKS)).errno == 0
    assert write_object(contract, NextHopKind.INSTALL, WEIGHTY, form).errno == 0


async def test_several_links_without_gateways_need_an_object_for_ipv6(contract: Contract) -> None:
    alone = tuple(NextHop(None, ifindex) for ifindex in sorted((contract.v0, contract.v1)))
    value = RouteValue.canonical(RouteType.UNICAST, alone)
    outcome = do(contract.kernel, OpKind.INSTALL, key("2001:db8:5::/48"), value)
    assert outcome.errno == errno.EINVAL
    assert do(contract.kernel, OpKind.INSTALL, key("203.0.113.0/24"), value).errno == 0


async def test_a_gateway_that_is_our_own_address_is_refused_until_the_address_is_removed(
    contract: Contract,
) -> None:
    """The kernel accepts an IPv4 one with the scope host, and its packets would reach no router."""
    form = Hop(Address.parse("192.0.0.9"), contract.v0)
    contract.add_own("192.0.0.9/24")
    for kind in (NextHopKind.INSTALL, NextHopKind.REPLACE):
        assert write_object(contract, kind, A, form) == OWN_GATEWAY
        assert objects(contract) == {}, "what would mislead packets is not left there"
    contract.delete_own("192.0.0.9/24")
    assert write_object(contract, NextHopKind.INSTALL, A, form).errno == 0
    contract.add_own("192.0.0.9/24")
    assert objects(contract) == {A: form}, "what was written before keeps its gateway"
    assert write_object(contract, NextHopKind.REPLACE, A, form) == OWN_GATEWAY
    assert objects(contract) == {}


async def test_the_scope_of_a_gateway_is_read(namespace: Namespace) -> None:
    """Such an object was written by an earlier daemon while its gateway was an address of
    the host.
    """
    namespace.add_address("v0", "192.0.0.9/24")
    form = Hop(Address.parse("192.0.0.9"), namespace.ifindexes["v0"])
    with namespace.here.inside(), RequestSocket(205) as requests:
        write = NextHopWrite(NextHopKind.INSTALL, A, form)
        requests._request(lambda sequence: encode_nexthop(write, 205, sequence))
        namespace.delete_address("v0", "192.0.0.9/24")
        assert requests.dump_nexthops() == [SeenNextHop(A, 205, form, is_gateway_unused=True)]
        (outcome,) = requests.write_nexthops([write._replace(kind=NextHopKind.REPLACE)])
        assert outcome.errno == 0
        assert requests.dump_nexthops() == [SeenNextHop(A, 205, form)]


async def test_objects_of_other_programs_are_reported_and_our_own_are_not(
    namespace: Namespace,
) -> None:
    heard: list[tuple[SeenNextHop, bool]] = []
    news = trio.Event()

    def receive(seen: SeenNextHop, is_removed: bool) -> None:
        heard.append((seen, is_removed))
        if is_removed:
            news.set()

    with namespace.here.inside():
        routes, requests, other = RequestSocket(205), RequestSocket(205), RequestSocket(12)
        listener = EventSocket([routes.port_id, requests.port_id])
    monitor = KernelMonitor(
        listener,
        routes,
        on_link=lambda _change: None,
        on_route=lambda _route, _is_removed, _is_replacing: None,
        on_rule=lambda: None,
        on_nexthop=receive,
        on_overrun=lambda _reason: None,
        on_failure=lambda _error: None,
    )
    form = Hop(Address.parse("192.0.0.2"), namespace.ifindexes["v0"])
    with listener, routes, requests, other, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor.run)
            for socket, nexthop_id in ((requests, A), (other, 7)):
                for kind in (NextHopKind.INSTALL, NextHopKind.REMOVE):
                    (outcome,) = socket.write_nexthops([NextHopWrite(kind, nexthop_id, form)])
                    assert outcome.errno == 0
            await news.wait()
            nursery.cancel_scope.cancel()
    assert heard == [(SeenNextHop(7, 12, form), False), (SeenNextHop(7, 12, form), True)]
