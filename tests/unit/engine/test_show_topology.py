"""`topology`: one summary for all clients, made in turns, shown by position."""

from __future__ import annotations

import gc
import itertools
from typing import cast

from routed.control.views import TopologyView
from routed.engine.router import Router
from routed.engine.show.topology import STEP_WORK, VIA_MAX, TopologySummary, TopologyTable
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, Route, RouteSource
from routed.nup.events import AdjacencyState, NeighborRow
from routed.nup.views import NeighborPosition, position_of
from routed.rib.table import BestPath, Rib

SELF = Address.parse("10.255.0.1")


def router_id(number: int) -> Address:
    return Address(Family.IPV4, 0x0A01_0000 + number)


def prefix(number: int) -> Prefix:
    return Prefix(Family.IPV4, 0x1400_0000 + (number << 8), 24)


def neighbor(number: int) -> NeighborRow:
    """Return an adjacency whose address ends as its router id does."""
    return NeighborRow(
        router_id=router_id(number), ifindex=2, ifname="eth0", address=gateway(number),
        state=AdjacencyState.UP, uptime_s=1.0, dead_in_s=3.0, rtt_ms=None, rto_ms=1.0, cost=10,
        loss_here=0.0, loss_there=0.0, retransmissions=0, prefixes=0, infeasible=0,
        is_restarting=False, window=1, in_flight=0, sent=0, received=0, duplicates=0,
        out_of_order=0, problem="",
    )  # fmt: skip


def gateway(number: int) -> Address:
    return Address.parse(f"192.0.2.{number}")


class CountedRib(Rib):
    """Counts the lookups of a walk."""

    looks = 0

    def best(self, prefix: Prefix) -> BestPath | None:
        self.looks += 1
        return super().best(prefix)


class FakeRouter:
    """The parts of a router that the topology reads."""

    def __init__(self, neighbors: int) -> None:
        self.rib = CountedRib(now=lambda: 0.0)
        self.origins: dict[Prefix, Address] = {}
        self.neighbors = self
        self.rows = [neighbor(number) for number in range(1, neighbors + 1)]
        self.rib.link_changed(
            Interface(
                ifindex=2, ifname="eth0", is_admin_up=True, has_carrier=True, mtu=1500,
                is_loopback=False, has_multicast=True,
                addresses=(InterfaceAddress(Address.parse("192.0.2.254"), 24),),
            )
        )  # fmt: skip

    def neighbors_after(
        self, after: NeighborPosition | None, limit: int, now: float
    ) -> list[NeighborRow]:
        rows = [row for row in self.rows if after is None or position_of(row) > after]
        return rows[:limit]

    def neighbor_ids(self) -> set[Address | None]:
        return {row.router_id for row in self.rows}

    def announce(self, number: int, origin: int, metric: int, *via: int) -> None:
        """Add a prefix of a router, reached through some neighbors."""
        self.origins[prefix(number)] = router_id(origin)
        hops = tuple(NextHop(gateway(each), 2, 1) for each in via)
        self.rib.install(
            Route(
                prefix=prefix(number), source=RouteSource.NEIGHBOR, distance=90, metric=metric,
                next_hops=hops, owner="nup",
            )
        )  # fmt: skip

    def decide(self) -> None:
        for _ in self.rib.process():
            pass


def many(routers: int, prefixes: int = 1) -> FakeRouter:
    """Return a router with two neighbors, and routers behind them."""
    fake_router = FakeRouter(2)
    for origin in range(routers):
        for each in range(prefixes):
            fake_router.announce(origin * prefixes + each, 1000 + origin, origin, 1 + origin % 2)
    fake_router.decide()
    return fake_router


def table_of(fake_router: FakeRouter) -> TopologyTable:
    return TopologyTable(cast("Router", fake_router))


def shown(table: TopologyTable) -> list[TopologyView]:
    return list(itertools.chain.from_iterable(table.rows(SELF)))


def summaries() -> int:
    gc.collect()
    return sum(isinstance(each, TopologySummary) for each in gc.get_objects())


def test_it_shows_this_router_its_neighbors_and_routers_behind_them() -> None:
    fake_router = FakeRouter(2)
    fake_router.announce(1, 1, 10, 1)  # of a neighbor itself
    fake_router.announce(2, 9, 30, 1, 2)
    fake_router.announce(3, 9, 20, 2)
    fake_router.announce(4, 8, 40, 1)
    fake_router.decide()
    rows = [
        (row.role, row.router_id, row.metric, row.prefixes, row.via)
        for row in shown(table_of(fake_router))
    ]
    one, two = str(router_id(1)), str(router_id(2))
    assert rows == [
        ("self", SELF, None, 0, ()),
        ("neighbor", router_id(1), 10, 1, (one,)),
        ("neighbor", router_id(2), None, 0, ()),
        ("router", router_id(8), 40, 1, (one,)),
        ("router", router_id(9), 20, 2, (one, two)),
    ]


def test_clients_that_ask_at_the_same_time_share_one_walk() -> None:
    fake_router = many(3 * STEP_WORK)
    table = table_of(fake_router)
    readers = [table.rows(SELF) for _ in range(50)]
    rows = [0] * len(readers)
    for chunks in itertools.zip_longest(*readers):
        for number, chunk in enumerate(chunks):
            rows[number] += len(chunk or ())
    assert rows == [3 + 3 * STEP_WORK] * 50
    assert fake_router.rib.looks == 3 * STEP_WORK


def test_all_readers_share_one_summary_which_the_last_one_releases() -> None:
    before = summaries()
    table = table_of(many(500))
    readers = [table.rows(SELF) for _ in range(200)]
    for reader in readers:
        while not next(reader):
            pass
    assert summaries() == before + 1
    for reader in readers:
        reader.close()
    assert summaries() == before


def test_a_walk_without_readers_is_abandoned() -> None:
    before = summaries()
    fake_router = many(20 * STEP_WORK)
    reader = table_of(fake_router).rows(SELF)
    for _ in range(4):
        assert next(reader) == ()
    reader.close()
    assert summaries() == before
    assert fake_router.rib.looks <= 4 * STEP_WORK


def test_no_step_exceeds_its_work() -> None:
    fake_router = many(4 * STEP_WORK)
    looks, most, longest = 0, 0, 0
    for chunk in table_of(fake_router).rows(SELF):
        most = max(most, fake_router.rib.looks - looks)
        looks = fake_router.rib.looks
        longest = max(longest, len(chunk))
    assert most <= STEP_WORK
    assert longest <= 128


def test_a_slow_reader_continues_in_the_next_summary() -> None:
    before = summaries()
    fake_router = many(1000)
    clock = [100.0]
    table = TopologyTable(cast("Router", fake_router), lambda: clock[0])
    slow = table.rows(SELF)
    seen: list[TopologyView] = []
    while len(seen) < 300:
        seen += next(slow)
    for number in range(1000):  # all are farther now, and one is gone that was seen
        fake_router.announce(number, 1000 + number, 5000, 1)
    del fake_router.origins[prefix(0)]
    fake_router.decide()
    clock[0] += 60
    assert len(shown(table)) == 3 + 999
    assert summaries() == before + 1
    seen += itertools.chain.from_iterable(slow)
    routers = [row for row in seen if row.role == "router"]
    assert [row.router_id for row in routers] == [router_id(1000 + each) for each in range(1000)]
    assert {row.metric for row in routers[-500:]} == {5000}


def test_a_later_request_sees_what_has_changed() -> None:
    fake_router = many(10)
    clock = [100.0]
    table = TopologyTable(cast("Router", fake_router), lambda: clock[0])
    held = table.rows(SELF)
    next(held)
    assert len(shown(table)) == 13
    fake_router.origins.clear()
    assert len(shown(table)) == 13, "made a moment ago"
    clock[0] += 60
    assert len(shown(table)) == 3


def test_a_bounded_number_of_neighbors_is_listed_for_a_router() -> None:
    fake_router = FakeRouter(100)
    fake_router.announce(1, 900, 10, *range(1, 101))
    fake_router.announce(2, 900, 10, *range(50, 101))
    fake_router.decide()
    (row,) = [row for row in shown(table_of(fake_router)) if row.role == "router"]
    assert row.via == tuple(str(router_id(number)) for number in range(1, VIA_MAX + 1))
