"""Routes through nexthop objects: the loop around both books, in virtual time, on a fake kernel."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from routed.fib.messages import DesiredChanges, FibRemovals, FibRows
from routed.fib.nexthop_sync import ObjectSync
from routed.fib.nexthops.codec import Hop, NextHopKind
from routed.fib.nexthops.table import NexthopTable
from routed.fib.routes.ownership import Ownership, RouteKey, RouteValue
from routed.fib.routes.plan import OpKind
from routed.fib.routes.tables import FibTables
from routed.fib.sync import FibSync
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel
from tests.unit.fib.test_sync import ListSink

A, B, C = (Hop(Address.parse(f"192.0.{number}.2"), number + 1) for number in range(3))


def key(prefix: str) -> RouteKey:
    return RouteKey(254, Prefix.parse(prefix), 0, 205)


def value(*hops: Hop) -> RouteValue:
    next_hops = tuple(NextHop(hop.via, hop.ifindex) for hop in hops)
    return RouteValue.canonical(RouteType.UNICAST, next_hops)


def update(serial: int, desired: dict[str, RouteValue], *gone: str) -> DesiredChanges:
    keys = [Prefix.parse(prefix).as_int for prefix in desired]
    removals = [Prefix.parse(prefix).as_int for prefix in gone]
    return DesiredChanges(
        serial,
        [FibRows(254, Family.IPV4, keys, list(desired.values()))],
        [FibRemovals(254, Family.IPV4, removals)],
    )


class Bench:
    """One life of a daemon on a kernel."""

    def __init__(self, kernel: FakeKernel, *, is_enabled: bool = True) -> None:
        self.kernel = kernel
        self.sink = ListSink()
        log = Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time)
        fib_tables = FibTables(Ownership(205, 205, frozenset({254})))
        nexthop_table = NexthopTable(205, is_enabled=is_enabled, is_link_up=self._is_link_up)
        self.sync = FibSync(
            fib_tables,
            kernel,
            resync_s=300,
            log=log,
            rng=random.Random(1),
            on_progress=lambda: None,
            is_link_up=self._is_link_up,
            objects=ObjectSync(nexthop_table, kernel, fib_tables, log, lambda: 0),
        )

    def _is_link_up(self, ifindex: int) -> bool:
        return ifindex not in self.kernel.down_links

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await self.quiet()
            yield
            nursery.cancel_scope.cancel()

    async def quiet(self) -> None:
        """Until the loop has nothing to do now."""
        await trio.testing.wait_all_tasks_blocked()

    def through(self) -> dict[str, set[Hop]]:
        """Where packets to our routes go."""
        found = {}
        for route_key, route in self.kernel.ours().items():
            form = self.kernel.objects[route.nexthop_id].form
            assert form is not None
            if isinstance(form, Hop):
                found[str(route_key.prefix)] = {form}
                continue
            members = {self.kernel.objects[member].form for member, _ in form}
            found[str(route_key.prefix)] = {hop for hop in members if isinstance(hop, Hop)}
        return found


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    kernel = FakeKernel()
    yield kernel
    assert kernel.unconsumed == []


@pytest.fixture
def bench(kernel: FakeKernel) -> Bench:
    return Bench(kernel)


async def test_routes_go_through_objects_that_are_there_before_them(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B)}))
        await bench.quiet()
    assert bench.through() == {"10.1.0.0/16": {A}, "10.2.0.0/16": {A, B}}
    assert bench.sync.counters().installed == 2
    assert bench.sync.counters().failed == 0


async def test_a_suspected_next_hop_goes_by_one_message_and_no_route_is_written(
    bench: Bench, autojump_clock: MockClock
) -> None:
    desired = {f"10.{number}.0.0/16": value(A, B) for number in range(50)}
    async with bench.running():
        bench.sync.update(update(1, desired))
        await bench.quiet()
        routes, objects = len(bench.kernel.writes), len(bench.kernel.object_writes)
        bench.sync.begin_verification([(A.via, A.ifindex)])
        assert set(map(frozenset, bench.through().values())) == {frozenset({B})}, "at once"
        assert len(bench.kernel.object_writes) == objects + 1
        await bench.quiet()
        assert len(bench.kernel.writes) == routes


async def test_groups_are_whole_again_once_the_wishes_that_followed_were_tried(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A, B), "10.2.0.0/16": value(A, B)}))
        await bench.quiet()
        bench.sync.begin_verification([(A.via, A.ifindex)])
        bench.sync.update(update(2, {"10.1.0.0/16": value(B)}))
        bench.sync.next_hops_evaluated()
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {B}, "10.2.0.0/16": {A, B}}


async def test_objects_go_after_the_last_route_through_them(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A, B), "10.2.0.0/16": value(C)}))
        bench.sync.in_sync()
        await bench.quiet()
        bench.sync.update(update(2, {"10.2.0.0/16": value(B)}, "10.1.0.0/16"))
        await trio.sleep(5)
        assert [entry.form for entry in bench.kernel.objects.values()] == [B]
        assert bench.through() == {"10.2.0.0/16": {B}}
    assert await bench.sync.flush() == 0
    assert bench.kernel.objects == {}


async def test_a_restart_adopts_routes_and_objects_without_a_write(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    desired = {"10.1.0.0/16": value(A, B), "10.2.0.0/16": value(C), "10.3.0.0/16": value(B, C)}
    first, second = Bench(kernel), Bench(kernel)
    async with first.running():
        first.sync.update(update(1, desired))
        first.sync.in_sync()
        await first.quiet()
    writes, object_writes = len(kernel.writes), len(kernel.object_writes)
    async with second.running():
        second.sync.update(update(1, desired))
        await second.quiet()
        assert (len(kernel.writes), len(kernel.object_writes)) == (writes, object_writes)
        assert second.sync.counters().adopted == 3
        second.sync.in_sync()
        await trio.sleep(5)
        assert (len(kernel.writes), len(kernel.object_writes)) == (writes, object_writes)


async def test_nothing_of_an_earlier_life_is_swept_before_the_gate(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    first, second = Bench(kernel), Bench(kernel)
    async with first.running():
        first.sync.update(update(1, {"10.1.0.0/16": value(A, B)}))
        await first.quiet()
    async with second.running():
        second.sync.update(update(1, {"10.2.0.0/16": value(C)}))
        await trio.sleep(60)
        assert second.through() == {"10.1.0.0/16": {A, B}, "10.2.0.0/16": {C}}
        kernel.object_writes.clear()
        second.sync.in_sync()
        await trio.sleep(5)
    assert second.through() == {"10.2.0.0/16": {C}}
    assert [entry.form for entry in kernel.objects.values()] == [C]
    group, *members = kernel.object_writes
    assert not isinstance(group.form, Hop), "groups go before their members"
    assert {write.kind for write in (group, *members)} == {NextHopKind.REMOVE}


async def test_switched_off_the_routes_leave_their_objects_and_these_go(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    desired = {"10.1.0.0/16": value(A, B), "10.2.0.0/16": value(C)}
    first, second = Bench(kernel), Bench(kernel, is_enabled=False)
    async with first.running():
        first.sync.update(update(1, desired))
        await first.quiet()
    async with second.running():
        second.sync.update(update(1, desired))
        second.sync.in_sync()
        await trio.sleep(5)
    assert kernel.ours() == {key(prefix): route for prefix, route in desired.items()}
    assert kernel.objects == {}


async def test_a_removed_object_and_the_routes_that_went_with_it_come_back(
    bench: Bench, autojump_clock: MockClock
) -> None:
    desired = {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B)}
    async with bench.running():
        bench.sync.update(update(1, desired))
        await bench.quiet()
        single = bench.kernel.routes[key("10.1.0.0/16")].value.nexthop_id
        for seen in bench.kernel.remove_objects([single]):
            bench.sync.nexthop_notified(seen, is_removed=True)
        group = bench.kernel.routes[key("10.2.0.0/16")].value.nexthop_id
        bench.sync.nexthop_notified(bench.kernel.objects[group], is_removed=False)
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A}, "10.2.0.0/16": {A, B}}
        assert bench.sync.counters().repaired == 1
    assert [record.fields["prefix"] for record in bench.sink.events("fib-drift")] == ["10.1.0.0/16"]


async def test_an_object_that_was_changed_by_hand_is_changed_back_and_no_route_is_written(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        await bench.quiet()
        writes = len(bench.kernel.writes)
        single = bench.kernel.routes[key("10.1.0.0/16")].value.nexthop_id
        bench.sync.nexthop_notified(bench.kernel.put_object(single, C, 205), is_removed=False)
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A}}
        assert len(bench.kernel.writes) == writes


async def test_an_object_that_vanished_without_a_word_is_missed_when_a_route_needs_it(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        await bench.quiet()
        bench.kernel.remove_objects(list(bench.kernel.objects))
        bench.sync.update(update(2, {"10.2.0.0/16": value(A)}))
        await trio.sleep(5)
        assert bench.through() == {"10.1.0.0/16": {A}, "10.2.0.0/16": {A}}


async def test_a_route_fails_with_its_objects_reason_and_is_retried_with_the_link(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.down_links.add(A.ifindex)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert [failure.reason for failure in progress.failures] == [
            "Nexthop device is not up (Network is down)"
        ]
        assert bench.sync.errors[errno.errorcode[errno.ENETDOWN]] == 1
        bench.kernel.set_link(A.ifindex, is_up=True)
        bench.sync.links_changed(may_have_lost_routes=False)
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A}}


async def test_a_link_goes_down_and_comes_back(bench: Bench, autojump_clock: MockClock) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B)}))
        bench.sync.in_sync()
        await bench.quiet()
        bench.kernel.set_link(A.ifindex, is_up=False)
        bench.sync.links_changed(may_have_lost_routes=True)
        await bench.quiet()
        assert bench.through() == {"10.2.0.0/16": {B}}
        bench.sync.update(update(2, {"10.2.0.0/16": value(B)}, "10.1.0.0/16"))
        await trio.sleep(5)
        assert bench.through() == {"10.2.0.0/16": {B}}
        assert [entry.form for entry in bench.kernel.objects.values()] == [B]
        bench.kernel.set_link(A.ifindex, is_up=True)
        bench.sync.links_changed(may_have_lost_routes=False)
        bench.sync.update(update(3, {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B)}))
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A}, "10.2.0.0/16": {A, B}}
    assert bench.sink.events("fib-drift") == [], "the kernel takes what goes with a link"


async def test_decoupled_routes_keep_their_objects_for_the_way_back(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A, B)}))
        bench.sync.in_sync()
        await bench.quiet()
        assert await bench.sync.decouple() == 0
        await trio.sleep(5)
        await bench.sync.couple()
        assert bench.through() == {"10.1.0.0/16": {A, B}}


# --- in which order, and what is tried again when


def link_route(ifindex: int = 1) -> RouteValue:
    return RouteValue(RouteType.UNICAST, (NextHop(None, ifindex),))


def rows(serial: int, desired: dict[str, RouteValue]) -> DesiredChanges:
    """Routes of both families."""
    found = []
    for family in Family:
        prefixes = {Prefix.parse(text): value for text, value in desired.items()}
        of_family = {key: value for key, value in prefixes.items() if key.family is family}
        keys = [prefix.as_int for prefix in of_family]
        found.append(FibRows(254, family, keys, list(of_family.values())))
    return DesiredChanges(serial, found, [])


def via(text: str, ifindex: int = 1) -> RouteValue:
    return RouteValue(RouteType.UNICAST, (NextHop(Address.parse(text), ifindex),))


STANDING = {
    "0.0.0.0/0": via("172.31.1.1"),
    "172.31.1.1/32": link_route(),
    "2000::/3": via("2001:db8:77::1"),
    "2001:db8:77::1/128": link_route(),
}
"""A default through a gateway that is outside of every subnet, and what it stands on."""


@pytest.mark.parametrize("has_objects", [True, False])
async def test_what_a_gateway_stands_on_is_installed_first(
    kernel: FakeKernel, has_objects: bool, autojump_clock: MockClock
) -> None:
    kernel.subnets = set()
    bench = Bench(kernel, is_enabled=has_objects)
    many = {f"10.{n >> 8}.{n & 255}.0/24": via("172.31.1.1") for n in range(1000)}
    async with bench.running():
        bench.sync.update(rows(1, many | STANDING))
        await bench.quiet()
    assert bench.sync.counters().installed == 1004
    assert bench.sync.counters().errors == {}, "nothing is tried too early"
    assert bench.sink.events("fib-route-failed") == []


@pytest.mark.parametrize("has_objects", [True, False])
async def test_a_dependent_is_installed_as_soon_as_what_it_stands_on_is_in(
    kernel: FakeKernel, has_objects: bool, autojump_clock: MockClock
) -> None:
    kernel.subnets = set()
    bench = Bench(kernel, is_enabled=has_objects)
    dependents = {"0.0.0.0/0": STANDING["0.0.0.0/0"], "2000::/3": STANDING["2000::/3"]}
    async with bench.running():
        bench.sync.update(rows(1, dependents))
        await trio.sleep(10)
        began = trio.current_time()
        bench.sync.update(rows(2, {"172.31.1.1/32": link_route()}))
        await bench.quiet()
        assert bench.sync.counters().installed == 2
        kernel.put(key("2001:db8:77::1/128"), link_route(), 3)
        bench.sync.route_notified(kernel.routes[key("2001:db8:77::1/128")], is_removed=False)
        await bench.quiet()
        assert bench.sync.counters().installed == 3, "whoever has put it there"
        assert trio.current_time() == began, "no pause was waited for"


@pytest.mark.parametrize("has_objects", [True, False])
async def test_a_dependent_is_back_at_once_after_each_flap(
    kernel: FakeKernel, has_objects: bool, autojump_clock: MockClock
) -> None:
    kernel.subnets = set()
    bench = Bench(kernel, is_enabled=has_objects)
    async with bench.running():
        bench.sync.update(rows(1, STANDING))
        await bench.quiet()
        for _ in range(4):
            kernel.set_link(1, is_up=False)
            bench.sync.links_changed(may_have_lost_routes=True)
            await trio.sleep(3)
            began = trio.current_time()
            kernel.set_link(1, is_up=True)
            bench.sync.links_changed(may_have_lost_routes=False)
            await bench.quiet()
            assert bench.sync.counters().installed == 4
            assert trio.current_time() == began
    assert "ENETUNREACH" not in bench.sync.counters().errors


async def test_more_objects_than_a_batch_are_there_before_their_routes(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    bench = Bench(kernel)
    desired = {f"10.{n >> 8}.{n & 255}.0/24": via(f"192.0.{n >> 8}.{n & 255}") for n in range(900)}
    async with bench.running():
        bench.sync.update(rows(1, desired))
        await bench.quiet()
    assert bench.sync.counters().installed == 900
    assert bench.sync.counters().errors == {}
    assert bench.sync.counters().resyncs == 1


async def test_an_ipv6_route_over_several_links_alone_is_installed(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    kernel.subnets = set()
    bench = Bench(kernel)
    links = RouteValue.canonical(RouteType.UNICAST, (NextHop(None, 1), NextHop(None, 2)))
    desired = {"2001:db8:5::/48": via("2001:db8:2::1"), "2001:db8:2::1/128": links}
    async with bench.running():
        bench.sync.update(rows(1, desired))
        await bench.quiet()
    assert bench.sync.counters().installed == 2
    assert bench.sync.counters().errors == {}, "and what stands on it comes after it"


async def test_without_objects_the_reason_says_what_would_help(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    bench = Bench(kernel, is_enabled=False)
    links = RouteValue.canonical(RouteType.UNICAST, (NextHop(None, 1), NextHop(None, 2)))
    async with bench.running():
        bench.sync.update(rows(1, {"2001:db8:2::1/128": links}))
        await bench.quiet()
        progress = bench.sync.pop_progress()
    assert progress is not None
    (failure,) = progress.failures
    assert "nexthop objects" in failure.reason


async def test_a_weight_that_an_older_kernel_refuses_is_reduced_and_said_once(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    kernel.weight_max = 255
    bench = Bench(kernel)
    heavy = RouteValue.canonical(RouteType.UNICAST, (NextHop(A.via, 1, 256), NextHop(B.via, 2, 1)))
    async with bench.running():
        bench.sync.update(rows(1, {"10.1.0.0/16": heavy, "10.2.0.0/16": value(A)}))
        await bench.quiet()
    counters = bench.sync.counters()
    assert (counters.installed, counters.failed) == (2, 0)
    assert bench.sink.events("fib-route-failed") == []
    (said,) = bench.sink.events("nexthop-weight-limit")
    assert dict(said.fields)["limit"] == "255"
    assert "weights up to 255" in counters.nexthops


# --- what the kernel derives at the moment of writing


async def test_routes_are_written_again_when_their_gateway_is_our_own_address_no_longer(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    bench = Bench(kernel, is_enabled=False)
    desired = {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B), "10.3.0.0/16": value(C)}
    async with bench.running():
        bench.sync.update(update(1, desired))
        await bench.quiet()
        kernel.writes.clear()
        assert A.via is not None
        bench.sync.addresses_left([A.via])
        bench.sync.links_changed(may_have_lost_routes=True)
        await bench.quiet()
        assert {write.key for write in kernel.writes} == {key("10.1.0.0/16"), key("10.2.0.0/16")}
        assert {write.kind for write in kernel.writes} == {OpKind.REPLACE}
        await trio.sleep(1000)
        assert len(kernel.writes) == 2, "once"
    assert bench.sink.events("fib-drift") == []
    assert bench.sync.counters().installed == 3


async def test_a_gateway_that_is_our_own_address_fails_until_it_has_left(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    bench = Bench(kernel)
    assert A.via is not None
    kernel.addresses.add(A.via)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A), "10.2.0.0/16": value(B)}))
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        (failure,) = progress.failures
        assert "address of this host" in failure.reason
        assert bench.through() == {"10.2.0.0/16": {B}}
        kernel.addresses.clear()
        bench.sync.addresses_left([A.via])
        bench.sync.links_changed(may_have_lost_routes=True)
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A}, "10.2.0.0/16": {B}}


async def test_an_object_that_does_not_use_its_gateway_is_found_by_a_resync(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    """An earlier life wrote it while the gateway was an address of this host."""
    bench = Bench(kernel)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        await bench.quiet()
        (entry,) = kernel.objects.values()
        kernel.put_object(entry.id, A, 205, is_gateway_unused=True)
        await bench.sync.resync()
        await bench.quiet()
        assert not kernel.objects[entry.id].is_gateway_unused


async def test_an_object_that_turns_out_to_lead_nowhere_takes_its_routes_along(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    """It was right when it was written; somebody touches it after the address has come here."""
    bench = Bench(kernel)
    assert A.via is not None
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A), "10.2.0.0/16": value(B)}))
        await bench.quiet()
        kernel.addresses.add(A.via)
        (entry,) = [seen for seen in kernel.objects.values() if seen.form == A]
        changed = kernel.put_object(entry.id, C, 205)
        bench.sync.nexthop_notified(changed, is_removed=False)
        await trio.sleep(1)
        assert bench.through() == {"10.2.0.0/16": {B}}
        counters = bench.sync.counters()
        assert (counters.installed, counters.failed) == (1, 1)


async def test_what_somebody_adds_to_a_route_is_drift(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    bench = Bench(kernel, is_enabled=False)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        await bench.quiet()
        kernel.put(key("10.1.0.0/16"), value(A)._replace(is_altered=True), 205)
        await bench.sync.resync()
        await bench.quiet()
        assert kernel.ours() == {key("10.1.0.0/16"): value(A)}
    assert len(bench.sink.events("fib-drift")) == 1


async def test_a_kernel_without_ipv6_has_the_rest_and_says_why(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    kernel.families = {Family.IPV4}
    bench = Bench(kernel)
    async with bench.running():
        bench.sync.update(rows(1, {"10.1.0.0/16": value(A), "2001:db8:5::/48": link_route()}))
        await bench.quiet()
        progress = bench.sync.pop_progress()
    assert progress is not None
    assert progress.counters.installed == 1
    (failure,) = progress.failures
    assert "no IPv6" in failure.reason


async def test_a_key_that_has_its_turn_twice_does_not_let_dependents_overtake_their_objects(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    """A loss that is seen twice, by a notification and by the resync after it."""
    kernel.subnets = set()
    bench = Bench(kernel)
    async with bench.running():
        bench.sync.update(rows(1, STANDING))
        await bench.quiet()
        for flap in range(3):
            gone = [kernel.routes[key(prefix)] for prefix in STANDING]
            kernel.set_link(1, is_up=False)
            bench.sync.links_changed(may_have_lost_routes=True)
            for route in gone:
                bench.sync.route_notified(route, is_removed=True)
            kernel.set_link(1, is_up=True)
            bench.sync.links_changed(may_have_lost_routes=False)
            bench.sync.links_changed(may_have_lost_routes=False)
            await bench.quiet()
            assert bench.sync.counters().installed == 4, flap
            assert bench.sync.counters().errors == {}, flap
            await trio.sleep(100)


async def test_a_route_goes_on_by_the_next_hops_that_the_kernel_takes(
    kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    assert A.via is not None
    kernel.addresses.add(A.via)
    bench = Bench(kernel)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A, B)}))
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {B}}
        assert bench.sync.counters().failed == 0
        await trio.sleep(100)
        (line,) = bench.sink.events("nexthop-refused")
        assert line.fields["via"] == str(A.via)
        kernel.addresses.clear()
        bench.sync.links_changed(may_have_lost_routes=False)
        await bench.quiet()
        assert bench.through() == {"10.1.0.0/16": {A, B}}


@pytest.mark.parametrize("protocol", [0, 205])
async def test_routes_fail_where_the_kernel_refuses_to_put_their_object_back(
    kernel: FakeKernel, autojump_clock: MockClock, protocol: int
) -> None:
    kernel.subnets = {(Prefix.parse(f"192.0.{number}.0/24"), number + 1) for number in range(3)}
    bench = Bench(kernel)
    async with bench.running():
        desired = {"10.1.0.0/16": value(A), "10.2.0.0/16": value(A, B), "10.3.0.0/16": value(B)}
        bench.sync.update(update(1, desired))
        bench.sync.in_sync()
        await bench.quiet()
        subnet = (Prefix.parse("192.0.0.0/24"), A.ifindex)
        kernel.subnets.discard(subnet)
        (entry,) = [seen for seen in kernel.objects.values() if seen.form == A]
        changed = kernel.put_object(entry.id, C, protocol)
        bench.sync.nexthop_notified(changed, is_removed=False)
        await trio.sleep(3)
        assert bench.through() == {"10.2.0.0/16": {B}, "10.3.0.0/16": {B}}
        assert entry.id not in kernel.objects, "nothing of it is left"
        (failure,) = bench.sync.fib_tables.pop_report(10).failures.items()
        assert failure[0] == key("10.1.0.0/16")
        assert "gateway" in failure[1]
        kernel.subnets.add(subnet)
        bench.sync.links_changed(may_have_lost_routes=False)
        await trio.sleep(3)
        assert bench.through() == {
            "10.1.0.0/16": {A},
            "10.2.0.0/16": {A, B},
            "10.3.0.0/16": {B},
        }
        assert bench.sync.counters().failed == 0
    assert len(bench.sink.events("nexthop-drift")) == (protocol != 205)


@pytest.mark.parametrize("priority", [32, 205], ids=["shadow", "same key"])
async def test_a_foreign_route_that_goes_with_its_object_wins_no_longer(
    bench: Bench, kernel: FakeKernel, autojump_clock: MockClock, priority: int
) -> None:
    through_78 = RouteValue(RouteType.UNICAST, (), 78)
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        bench.sync.in_sync()
        await bench.quiet()
        for is_again in (False, True):
            kernel.put_object(78, B, 99)
            foreign = key("10.1.0.0/16")._replace(priority=priority)
            route = kernel.prepend(foreign, through_78, 99)
            bench.sync.route_notified(route, is_removed=False)
            await trio.sleep(1)
            assert bench.sync.counters().shadowed_now == 1
            (gone,) = kernel.remove_objects([78])
            bench.sync.nexthop_notified(gone, is_removed=True)
            await trio.sleep(2)
            assert bench.sync.counters().shadowed_now == 0, is_again
            assert bench.sync.counters().installed == 1


async def test_foreign_objects_that_come_and_go_all_the_time_cost_a_dump_a_second_at_most(
    bench: Bench, kernel: FakeKernel, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, {"10.1.0.0/16": value(A)}))
        bench.sync.in_sync()
        await bench.quiet()
        gone = kernel.put_object(78, B, 99)
        kernel.remove_objects([78])
        dumps = kernel.dumps
        for _ in range(20):
            bench.sync.nexthop_notified(gone, is_removed=True)
            await bench.quiet()
        assert kernel.dumps == dumps, "nothing foreign concerns us"
        better = key("10.1.0.0/16")._replace(priority=32)
        bench.sync.route_notified(kernel.put(better, value(B), 99), is_removed=False)
        for _ in range(50):
            bench.sync.nexthop_notified(gone, is_removed=True)
            await trio.sleep(0.1)
        assert 1 <= kernel.dumps - dumps <= 6
