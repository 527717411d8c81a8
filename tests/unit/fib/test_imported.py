"""Routes of others as candidates: who is learned, what is told, and what a dump corrects."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from routed.fib.import_sync import ImportSync
from routed.fib.imported import IMPORTED_CHANGES_MAX, KernelImportRule, RouteImporter
from routed.fib.nexthops.codec import Hop
from routed.fib.routes.ownership import KernelRoute, RouteKey, RouteValue
from routed.fib.routes.tables import SeenRoute
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel
from tests.unit.fib.test_sync import ListSink

DHCP, BIRD = 16, 12
BLACKHOLE, PROHIBIT = RouteValue(RouteType.BLACKHOLE, ()), RouteValue(RouteType.PROHIBIT, ())
ANY = KernelImportRule(DHCP, 254, 200, 7, lambda _prefix: True)


def route(prefix: str, protocol: int = DHCP, priority: int = 100, table: int = 254) -> KernelRoute:
    return KernelRoute(RouteKey(table, Prefix.parse(prefix), 0, priority), protocol, BLACKHOLE)


def unsent_changes(importer: RouteImporter) -> tuple[list[str], list[str]]:
    """Everything that is still to be told: prefixes that are new, and prefixes that are gone."""
    install, remove = [], []
    while (changes := importer.pop_changes()) is not None:
        install += [str(imported.prefix) for imported in changes.install]
        remove += [str(prefix) for prefix, _ in changes.remove]
    return install, remove


def test_a_rule_says_whose_routes_and_how_they_are_trusted() -> None:
    importer = RouteImporter()
    importer.set_desired(
        [ANY._replace(accepts=lambda prefix: prefix.prefix_len == 0), ANY._replace(tag=9)]
    )
    for seen in (
        route("0.0.0.0/0"),
        route("10.1.0.0/16", priority=5),
        route("10.2.0.0/16", BIRD),
        route("10.3.0.0/16", table=100),
        route("fe80::/64"),
        route("ff00::/8"),
        route("127.0.0.0/8"),
    ):
        importer.changed(seen, is_removed=False)
    changes = importer.pop_changes()
    assert changes is not None
    assert [(str(one.prefix), one.owner, one.metric, one.tag) for one in changes.install] == [
        ("0.0.0.0/0", "dhcp/main/100", 100, 7),
        ("10.1.0.0/16", "dhcp/main/5", 5, 9),
    ]
    assert importer.pop_changes() is None


def test_what_changes_twice_before_it_is_told_is_told_once() -> None:
    importer = RouteImporter()
    importer.set_desired([ANY])
    importer.changed(route("10.1.0.0/16"), is_removed=False)
    importer.changed(route("10.1.0.0/16"), is_removed=True)
    assert unsent_changes(importer) == ([], ["10.1.0.0/16"])
    importer.changed(route("10.1.0.0/16"), is_removed=True)
    assert unsent_changes(importer) == ([], []), "nothing was known of it"


def test_a_new_engine_is_told_everything_in_pieces() -> None:
    importer = RouteImporter()
    importer.set_desired([ANY])
    for number in range(IMPORTED_CHANGES_MAX + 1):
        importer.changed(route(f"10.{number >> 8}.{number & 255}.0/24"), is_removed=False)
    unsent_changes(importer)
    importer.begin_session()
    changes = importer.pop_changes()
    assert changes is not None
    assert len(changes.install) == IMPORTED_CHANGES_MAX
    assert len(unsent_changes(importer)[0]) == 1


class Bench:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.sink = ListSink()
        self.changes = 0
        log = Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time)
        self.sync = ImportSync(self.kernel, resync_s=300, log=log, on_change=self._count)
        self.importer = self.sync.importer

    def _count(self) -> None:
        self.changes += 1

    def put(self, seen: KernelRoute, value: RouteValue = BLACKHOLE) -> None:
        self.kernel.put(seen.key, value, seen.protocol)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def test_the_kernel_is_read_and_what_is_gone_is_gone(autojump_clock: MockClock) -> None:
    bench = Bench()
    first, second, other = route("10.1.0.0/16"), route("2001:db8::/32"), route("10.9.0.0/16", BIRD)
    for seen in (first, second, other):
        bench.put(seen)
    bench.sync.set_desired([ANY])
    async with bench.running():
        assert unsent_changes(bench.importer) == (["10.1.0.0/16", "2001:db8::/32"], [])
        bench.kernel.lose([first.key])
        bench.put(second, PROHIBIT)
        bench.sync.request_dump()
        await trio.testing.wait_all_tasks_blocked()
        assert unsent_changes(bench.importer) == (["2001:db8::/32"], ["10.1.0.0/16"])
        bench.sync.set_desired([ANY._replace(protocol=BIRD)])
        await trio.testing.wait_all_tasks_blocked()
        assert unsent_changes(bench.importer) == (["10.9.0.0/16"], ["2001:db8::/32"])
        bench.sync.set_desired([])
        assert unsent_changes(bench.importer) == ([], ["10.9.0.0/16"])


async def test_what_is_notified_during_a_dump_is_newer(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.put(route("10.1.0.0/16"))
    bench.sync.set_desired([ANY])

    def meanwhile() -> None:
        bench.sync.route_notified(route("10.1.0.0/16"), True)
        bench.sync.route_notified(route("10.2.0.0/16"), False)

    bench.kernel.during_dump = meanwhile
    async with bench.running():
        assert unsent_changes(bench.importer) == (["10.2.0.0/16"], [])


async def test_a_failed_dump_keeps_what_was_known_and_is_repeated(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.put(route("10.1.0.0/16"))
    bench.sync.set_desired([ANY])
    async with bench.running():
        unsent_changes(bench.importer)
        bench.kernel.refuse_dump = True
        bench.kernel.lose([route("10.1.0.0/16").key])
        bench.sync.request_dump()
        await trio.testing.wait_all_tasks_blocked()
        assert unsent_changes(bench.importer) == ([], [])
        assert len(bench.sink.events("netlink-error")) == 1
        await trio.sleep(2)
        assert unsent_changes(bench.importer) == ([], ["10.1.0.0/16"])


def test_a_changed_distance_is_news_without_a_dump() -> None:
    importer = RouteImporter()
    importer.set_desired([ANY])
    importer.changed(route("10.1.0.0/16"), is_removed=False)
    unsent_changes(importer)
    importer.set_desired([ANY._replace(distance=20)])
    changes = importer.pop_changes()
    assert changes is not None
    assert changes.install[0].distance == 20


async def test_routes_through_nexthop_objects_are_learned_with_what_these_stand_for(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.importer.set_desired([ANY])
    first, second = (Hop(Address.parse(f"192.0.{n}.2"), n + 1) for n in range(2))
    bench.kernel.put_object(1, first, BIRD)
    bench.kernel.put_object(2, second, BIRD)
    bench.kernel.put_object(10, ((1, 1), (2, 3)), BIRD)
    key = route("10.1.0.0/16").key
    bench.kernel.put(key, RouteValue(RouteType.UNICAST, (), 10), DHCP)
    async with bench.running():
        changes = bench.sync.importer.pop_changes()
        assert changes is not None
        assert [route.next_hops for route in changes.install] == [
            (NextHop(first.via, 1, 1), NextHop(second.via, 2, 3))
        ]
        bench.kernel.put_object(10, ((2, 1),), BIRD)
        bench.sync.nexthop_notified()
        await trio.testing.wait_all_tasks_blocked()
        changes = bench.sync.importer.pop_changes()
        assert changes is not None
        assert [route.next_hops for route in changes.install] == [(NextHop(second.via, 2, 1),)]
        bench.kernel.put_object(3, first, BIRD)  # is not among those last read
        changed = bench.kernel.put(key, RouteValue(RouteType.UNICAST, (), 3), DHCP)
        bench.sync.route_notified(changed, is_removed=False)
        await trio.testing.wait_all_tasks_blocked()
        changes = bench.sync.importer.pop_changes()
        assert changes is not None
        assert [route.next_hops for route in changes.install] == [(NextHop(first.via, 1),)]


async def test_a_route_through_a_larger_group_than_a_route_may_have_is_left_out_and_counted(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.importer.set_desired([ANY])
    for number in range(1, 1026):
        bench.kernel.put_object(number, Hop(Address(Family.IPV4, 0xC000_0200 + number), 1), BIRD)
    bench.kernel.put_object(2000, tuple((number, 1) for number in range(1, 1026)), BIRD)
    bench.kernel.put_object(2001, tuple((number, 1) for number in range(1, 1025)), BIRD)
    for prefix, through in (("10.1.0.0/16", 2000), ("10.2.0.0/16", 2001)):
        value = RouteValue(RouteType.UNICAST, (), through)
        bench.kernel.put(route(prefix).key, value, DHCP)
    async with bench.running():
        changes = bench.sync.importer.pop_changes()
        assert changes is not None
        assert [str(imported.prefix) for imported in changes.install] == ["10.2.0.0/16"]
        assert len(changes.install[0].next_hops) == 1024
        assert bench.sync.importer.left_out == {"more than 1024 next hops": 1}


TOS = KernelRoute(RouteKey(254, Prefix.parse("10.5.0.0/16"), 0x10, 100), DHCP, BLACKHOLE)
ENCAPSULATED = route("2001:db8:e::/48")._replace(is_encapsulated=True)
BROAD = route("10.8.0.0/16")._replace(
    value=RouteValue(
        RouteType.UNICAST, tuple(NextHop(None, number, 1) for number in range(1, 1026))
    )
)


def test_a_route_that_cannot_be_expressed_is_not_imported() -> None:
    """Q8: a TOS and an encapsulation change who is forwarded, and how."""
    importer = RouteImporter()
    importer.set_desired([ANY])
    for left_out in (TOS, ENCAPSULATED, BROAD):
        importer.changed(left_out, is_removed=False)
    assert unsent_changes(importer) == ([], [])
    importer.changed(route("2001:db8:e::/48"), is_removed=False)
    assert unsent_changes(importer) == (["2001:db8:e::/48"], [])
    importer.changed(ENCAPSULATED, is_removed=False)
    assert unsent_changes(importer) == ([], ["2001:db8:e::/48"]), (
        "and one that becomes such is forgotten"
    )


def test_a_dump_counts_what_it_leaves_out() -> None:
    importer = RouteImporter()
    importer.set_desired([ANY])
    counts = Counter[str]()
    for seen in (TOS, ENCAPSULATED, BROAD, route("10.6.0.0/16"), TOS._replace(protocol=BIRD)):
        prefix = seen.key.prefix
        dump = importer.begin_dump(254, prefix.family)
        dump.receive(SeenRoute(seen.key.table_key, *seen[1:]), [prefix.as_int])
        counts += dump.finish()
    assert counts == {"only for a TOS": 1, "encapsulated": 1, "more than 1024 next hops": 1}


def test_a_blackhole_through_a_nexthop_object_is_learned_as_one() -> None:
    """The kernel says the type of the route itself, and there is no next hop to be told."""
    importer = RouteImporter()
    importer.set_desired([ANY])
    importer.objects = {70: None}
    value = RouteValue(RouteType.BLACKHOLE, (NextHop(None, 1),), 70)
    importer.changed(route("10.1.0.0/16")._replace(value=value), is_removed=False)
    changes = importer.pop_changes()
    assert changes is not None
    assert [(one.type, one.next_hops) for one in changes.install] == [(RouteType.BLACKHOLE, ())]
    assert not importer.has_unknown_objects


def test_what_is_not_learned_for_its_object_or_its_destination_is_counted() -> None:
    importer = RouteImporter()
    importer.set_desired([ANY])
    importer.objects = {5: None}
    tunnel = RouteValue(RouteType.UNICAST, (), 5)
    counts = Counter[str]()
    for seen in (
        route("10.1.0.0/16")._replace(value=tunnel),
        route("127.5.0.0/16"),
        route("224.5.0.0/16"),
        route("fe80:1::/64"),
        route("fe80:1::/64", BIRD),
    ):
        prefix = seen.key.prefix
        dump = importer.begin_dump(254, prefix.family)
        dump.receive(SeenRoute(seen.key.table_key, *seen[1:]), [prefix.as_int])
        counts += dump.finish()
    assert counts == {
        "through a nexthop object that cannot be expressed": 1,
        "link-local, loopback or multicast": 3,
    }
    assert unsent_changes(importer) == ([], [])
    assert not importer.has_unknown_objects, "nothing is to be read once more"
