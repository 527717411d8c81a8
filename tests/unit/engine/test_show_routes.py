"""Rows of large tables equal the rows of the views of the same routes."""

from __future__ import annotations

from typing import cast

import pytest

from routed.config.load import load_text
from routed.control.rows import columns_of, to_row
from routed.control.selection import RouteSelector
from routed.control.views import FibState, RouteView
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.programming import FibProgramming
from routed.engine.router import Router
from routed.engine.show.route_tables import RouteTablePages
from routed.engine.show.routes import PAGE_HOPS, TablePages
from routed.engine.tables import RoutingTable, RoutingTables
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.fib import FibCounters, FibFailure, PreferredRoute
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, Gateway, NextHop, Route, RouteSource, RouteType
from routed.rib.nexthop import PROBLEMS_SHOWN
from routed.rib.table import Rib
from tests.unit.fib.test_sync import ListSink

LOG = Logger(ListSink(), "engine", Level.INFO)
CONFIG = "router_id: 10.255.0.1\nuser: root\n"


class FakeRouter:
    """The parts of a router that the tables read."""

    def __init__(self) -> None:
        self.version = 0
        self.rib = Rib(now=lambda: 0.0)
        self.desired = DesiredFib(254)
        self.programming = FibProgramming(
            load_text(CONFIG).fib, (), self.rib.best, self.desired, ConvergenceClock(), LOG
        )
        self.main = RoutingTable("main", self.rib, self.desired, self.programming)
        self.tables = RoutingTables(self.main, self.programming, {}, LOG)
        self.injection = self
        self.neighbors = self
        self.next_hops: set[tuple[Address | None, int]] = set()
        """Those of the neighbor that a test asks for."""
        self.rib.link_changed(
            Interface(
                ifindex=2, ifname="eth0", is_admin_up=True, has_carrier=True, mtu=1500,
                is_loopback=False, has_multicast=True,
                addresses=(InterfaceAddress(Address.parse("192.0.2.9"), 24),),
            )
        )  # fmt: skip

    def decide(self) -> None:
        """Decide, and set the desired routes."""
        for changes in self.rib.process():
            self.programming.set_desired(changes)
        self.programming.end_decision(has_verified=False, has_all_links=True)

    def remaining_s(self, prefix: Prefix, owner: str, now: float, table_id: int) -> float | None:
        assert table_id == 254
        return 12.5 if owner == "uid0" else None

    def next_hops_of(self, address: Address) -> set[tuple[Address | None, int]]:
        return self.next_hops if address == Address.parse("10.255.0.2") else set()

    def ifname_of(self, ifindex: int) -> str:
        return f"if{ifindex}"

    def select_and_acknowledge(self) -> None:
        """Decide, and acknowledge all updates."""
        self.decide()
        while self.desired.has_unsent:
            update = self.programming.pop_update()
            assert update is not None
            self.desired.record_progress(update.serial, (), (), FibCounters())


def route(prefix: str, source: RouteSource, **fields: object) -> Route:
    values: dict[str, object] = {"distance": 1, "metric": 0, "gateways": (), **fields}
    return Route(prefix=Prefix.parse(prefix), source=source, **values)  # type: ignore[arg-type]


def via(address: str) -> tuple[Gateway, ...]:
    return (Gateway(Address.parse(address), None),)


@pytest.fixture
def fake_router() -> FakeRouter:
    fake_router = FakeRouter()
    for each in (
        route("10.0.0.0/8", RouteSource.STATIC, gateways=via("192.0.2.1"), tag=7),
        route("10.0.0.0/8", RouteSource.INJECTED, gateways=via("192.0.2.2"), owner="uid0"),
        route("10.1.0.0/16", RouteSource.INJECTED, gateways=via("192.0.2.2"), owner="uid7/a"),
        route("10.2.0.0/16", RouteSource.STATIC, type=RouteType.BLACKHOLE, metric=5),
        route("10.3.0.0/16", RouteSource.STATIC, gateways=via("203.0.113.1")),  # does not resolve
        route("2001:db8::/32", RouteSource.STATIC, gateways=(Gateway(None, "eth0"),)),
    ):
        fake_router.rib.install(each)
    fake_router.select_and_acknowledge()
    return fake_router


def tables_of(fake_router: FakeRouter) -> RouteTablePages:
    return RouteTablePages(cast("Router", fake_router))


def walk(
    fake_router: FakeRouter, selector: RouteSelector, limit: int = 2
) -> list[tuple[object, ...]]:
    tables, after = tables_of(fake_router), None
    rows: list[tuple[object, ...]] = []
    for _ in range(100):
        page = tables.routes(selector, after, limit)
        rows += page.rows
        after = page.after
        if after is None:
            return rows
    raise AssertionError("the walk does not end")


AGE = columns_of(RouteView).index("age_s")


def without_age(row: tuple[object, ...]) -> tuple[object, ...]:
    return row[:AGE] + row[AGE + 1 :]


def test_rows_are_what_views_become(fake_router: FakeRouter) -> None:
    views = [
        TablePages(cast("Router", fake_router), fake_router.main).view(candidate)
        for prefix in fake_router.rib.prefixes_after(None, 100)
        for candidate in fake_router.rib.candidates(prefix)
    ]
    rows = walk(fake_router, RouteSelector())
    assert len(rows) > 6
    assert list(map(without_age, rows)) == [without_age(to_row(view)) for view in views]
    assert {row[AGE - 2] for row in rows} == {"installed", None}


def prefixes_of(fake_router: FakeRouter, selector: RouteSelector) -> list[object]:
    return [row[0] for row in walk(fake_router, selector)]


def test_candidates_are_selected_by_their_next_hops(fake_router: FakeRouter) -> None:
    via_2 = Address.parse("192.0.2.2")
    assert prefixes_of(fake_router, RouteSelector(via=via_2)) == ["10.0.0.0/8", "10.1.0.0/16"]
    # A route that does not resolve is found by its configured gateway.
    assert prefixes_of(fake_router, RouteSelector(via=Address.parse("203.0.113.1"))) == [
        "10.3.0.0/16"
    ]
    on_link = prefixes_of(fake_router, RouteSelector(interface="if2"))
    assert {"10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"} <= set(on_link)
    assert "10.2.0.0/16" not in on_link
    assert prefixes_of(fake_router, RouteSelector(interface="if2", via=via_2)) == [
        "10.0.0.0/8", "10.1.0.0/16",
    ]  # fmt: skip
    assert prefixes_of(fake_router, RouteSelector(interface="eth9")) == []


def test_candidates_are_selected_by_neighbor(fake_router: FakeRouter) -> None:
    neighbor = Address.parse("10.255.0.2")
    fake_router.next_hops = {(Address.parse("192.0.2.2"), 2)}
    assert prefixes_of(fake_router, RouteSelector(neighbor=neighbor)) == [
        "10.0.0.0/8",
        "10.1.0.0/16",
    ]
    fake_router.next_hops = {(Address.parse("192.0.2.2"), 3)}
    assert prefixes_of(fake_router, RouteSelector(neighbor=neighbor)) == [], "that is another link"
    assert prefixes_of(fake_router, RouteSelector(neighbor=Address.parse("10.255.0.9"))) == []


def test_routes_and_desired_routes_are_selected_by_their_state(fake_router: FakeRouter) -> None:
    failed = Prefix.parse("10.1.0.0/16")
    fake_router.desired.record_progress(99, [FibFailure(254, failed, "no")], (), FibCounters())
    by_failure = RouteSelector(state=FibState.FAILED)
    assert prefixes_of(fake_router, by_failure) == ["10.1.0.0/16"]
    page = tables_of(fake_router).fib(by_failure, None, 100)
    assert [row[0] for row in page.rows] == ["10.1.0.0/16"]
    installed = RouteSelector(state=FibState.INSTALLED)
    assert "10.1.0.0/16" not in prefixes_of(fake_router, installed)
    waiting = FibFailure(254, failed, "waits", is_waiting=True)
    fake_router.desired.record_progress(99, [waiting], (), FibCounters())
    assert prefixes_of(fake_router, by_failure) == []
    (row,) = tables_of(fake_router).fib(RouteSelector(state=FibState.WAITING), None, 100).rows
    assert row[4:6] == ("waiting", "waits")
    assert prefixes_of(fake_router, RouteSelector(state=FibState.SHADOWED)) == []


def test_fib_states_are_distinguished(fake_router: FakeRouter) -> None:
    failed = Prefix.parse("10.1.0.0/16")
    fake_router.desired.record_progress(99, [FibFailure(254, failed, "no")], (), FibCounters())
    fake_router.rib.withdraw(Prefix.parse("10.0.0.0/8"), RouteSource.STATIC, "")
    fake_router.decide()
    states = {(row[0], row[2]): row[AGE - 2 : AGE] for row in walk(fake_router, RouteSelector())}
    assert states["10.1.0.0/16", "injected"] == ("failed", "no")
    assert states["10.0.0.0/8", "injected"] == ("pending", "")
    assert states["2001:db8::/32", "static"] == ("installed", "")
    fib = {row[0]: row[4:6] for row in tables_of(fake_router).fib(RouteSelector(), None, 100).rows}
    assert fib["10.1.0.0/16"] == ("failed", "no")
    route_of_boot = PreferredRoute(254, Prefix.parse("2001:db8::/32"), "boot", 0)
    elsewhere = PreferredRoute(100, Prefix.parse("10.2.0.0/16"), "boot", 0)
    counters = FibCounters(shadowed_now=1)
    fake_router.desired.record_progress(99, (), (), counters, [route_of_boot, elsewhere])
    shadowed = ("shadowed", "preferred foreign route: protocol boot, priority 0")
    states = {(row[0], row[2]): row[AGE - 2 : AGE] for row in walk(fake_router, RouteSelector())}
    assert states["2001:db8::/32", "static"] == shadowed
    assert states["10.2.0.0/16", "static"] == ("installed", "")
    fib = {row[0]: row[4:6] for row in tables_of(fake_router).fib(RouteSelector(), None, 100).rows}
    assert fib["2001:db8::/32"] == shadowed
    other_table, ours = (100, route_of_boot.prefix), (254, route_of_boot.prefix)
    fake_router.desired.record_progress(99, (), (), FibCounters(), (), [other_table])
    assert fake_router.desired.preferred_to(route_of_boot.prefix)
    fake_router.desired.record_progress(99, (), (), FibCounters(), (), [ours])
    assert not fake_router.desired.preferred_to(route_of_boot.prefix)
    fake_router.desired.record_progress(99, (), (), FibCounters(is_coupled=False))
    assert {row[AGE - 2] for row in walk(fake_router, RouteSelector())} == {"decoupled", None}


def test_a_route_without_some_of_its_next_hops_says_which_are_missing_and_why(
    fake_router: FakeRouter,
) -> None:
    """It is installed with its other next hops, and looks complete in every other column."""
    part = route(
        "10.4.0.0/16", RouteSource.STATIC, gateways=(*via("192.0.2.1"), *via("203.0.113.1"))
    )
    fake_router.rib.install(part)
    fake_router.select_and_acknowledge()
    reason = (
        "some next hops are missing: 203.0.113.1 is not reachable: no route that routed knows "
        "covers it"
    )
    tables = tables_of(fake_router)
    (candidate,) = fake_router.rib.candidates(part.prefix)
    assert (
        TablePages(cast("Router", fake_router), fake_router.main).view(candidate).fib_reason
        == reason
    )
    states = {row[0]: row[AGE - 2 : AGE] for row in walk(fake_router, RouteSelector())}
    assert states["10.4.0.0/16"] == ("installed", reason)
    fib = {row[0]: row[4:6] for row in tables.fib(RouteSelector(), None, 100).rows}
    assert fib["10.4.0.0/16"] == ("installed", reason)
    assert fib["10.0.0.0/8"] == ("installed", "")
    fake_router.desired.record_progress(99, [FibFailure(254, part.prefix, "no")], (), FibCounters())
    states = {row[0]: row[AGE - 2 : AGE] for row in walk(fake_router, RouteSelector())}
    assert states["10.4.0.0/16"] == ("failed", "no")


def test_of_many_missing_next_hops_some_are_named_and_the_others_counted(
    fake_router: FakeRouter,
) -> None:
    gateways = tuple(Gateway(Address.parse(f"203.0.113.{n}"), None) for n in range(1, 129))
    fake_router.rib.install(route("10.4.0.0/16", RouteSource.STATIC, gateways=gateways))
    fake_router.select_and_acknowledge()
    (candidate,) = fake_router.rib.candidates(Prefix.parse("10.4.0.0/16"))
    assert candidate.reason.count("not reachable") == PROBLEMS_SHOWN
    assert candidate.reason.endswith(f"; and {128 - PROBLEMS_SHOWN} more")


def test_a_distance_that_is_never_used_is_no_missing_next_hop(fake_router: FakeRouter) -> None:
    never = route("10.4.0.0/16", RouteSource.STATIC, gateways=via("192.0.2.1"), distance=255)
    fake_router.rib.install(never)
    fake_router.select_and_acknowledge()
    (candidate,) = fake_router.rib.candidates(never.prefix)
    assert candidate.reason == "administrative distance 255 is never used"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (RouteSelector(prefix=Prefix.parse("10.0.0.0/8")), {"10.0.0.0/8"}),
        (RouteSelector(prefix=Prefix.parse("10.9.0.0/16")), set()),
        (
            RouteSelector(prefix=Prefix.parse("10.0.0.0/8"), is_longer=True),
            {"10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"},
        ),
        (RouteSelector(family=Family.IPV6), {"2001:db8::/32"}),
        (RouteSelector(family=Family.IPV6, prefix=Prefix.parse("10.0.0.0/8")), set()),
        (RouteSelector(source=RouteSource.INJECTED), {"10.0.0.0/8", "10.1.0.0/16"}),
    ],
)
def test_only_selected_routes_are_shown(
    fake_router: FakeRouter, selector: RouteSelector, expected: set[str]
) -> None:
    for limit in (1, 2, 100):
        assert {row[0] for row in walk(fake_router, selector, limit)} == expected


def test_only_best_paths_are_shown(fake_router: FakeRouter) -> None:
    rows = walk(fake_router, RouteSelector(is_selected_only=True))
    assert [row[0] for row in rows].count("10.0.0.0/8") == 1
    assert all(row[7] for row in rows)


def test_a_route_that_the_filter_keeps_out_says_which_rule(fake_router: FakeRouter) -> None:
    rule = "filters: {kernel: [{match: [10.2.0.0/16], action: deny}]}\n"
    config = load_text(CONFIG + rule)
    assert fake_router.programming.apply(config.fib, config.filters.kernel)
    assert not fake_router.programming.apply(config.fib, config.filters.kernel), (
        "nothing has changed"
    )
    fake_router.select_and_acknowledge()
    tables = RouteTablePages(cast("Router", fake_router))
    page = tables.routes(RouteSelector(), None, 100)
    found = {row[0]: dict(zip(columns_of(RouteView), row, strict=True)) for row in page.rows}
    assert found["10.2.0.0/16"]["fib_state"] is None
    assert found["10.2.0.0/16"]["fib_reason"] == "kept out by rule 1 of filters.kernel"
    assert found["10.1.0.0/16"]["fib_state"] == "installed"


def test_a_route_with_more_next_hops_than_are_used_says_so(fake_router: FakeRouter) -> None:
    hops = tuple(NextHop(Address(Family.IPV4, n), 2) for n in range(1, NEXT_HOPS_MAX + 3))
    for prefix, count in (("10.6.0.0/16", NEXT_HOPS_MAX), ("10.7.0.0/16", NEXT_HOPS_MAX + 2)):
        source = RouteSource.NEIGHBOR
        fake_router.rib.install(route(prefix, source, gateways=(), next_hops=hops[:count]))
    fake_router.select_and_acknowledge()
    reason = "1026 next hops, and 1024 of them are used"
    rows = {row[0]: row for row in walk(fake_router, RouteSelector())}
    position = columns_of(RouteView).index("fib_reason")
    assert rows["10.6.0.0/16"][position] == ""
    assert rows["10.7.0.0/16"][position] == reason
    (candidate,) = fake_router.rib.candidates(Prefix.parse("10.7.0.0/16"))
    assert (
        TablePages(cast("Router", fake_router), fake_router.main).view(candidate).fib_reason
        == reason
    )
    assert (
        len(TablePages(cast("Router", fake_router), fake_router.main).view(candidate).next_hops)
        == NEXT_HOPS_MAX
    )
    page = tables_of(fake_router).fib(RouteSelector(), None, 100)
    assert [row[5] for row in page.rows if row[0] == "10.7.0.0/16"] == [reason]


@pytest.mark.parametrize("table", ["routes", "fib"])
def test_a_page_has_so_many_next_hops_however_wide_the_routes(table: str) -> None:
    fake_router = FakeRouter()
    prefixes = [f"10.{number}.0.0/16" for number in range(60)]
    for number, prefix in enumerate(prefixes):
        gateways = tuple(
            Gateway(Address.parse(f"192.0.2.{host}"), None, 1 + (number if host == 10 else 0))
            for host in range(10, 210)
        )
        fake_router.rib.install(
            route(prefix, RouteSource.INJECTED, gateways=gateways, owner="uid7/a")
        )
    fake_router.select_and_acknowledge()
    take = getattr(tables_of(fake_router), table)
    shown: list[object] = []
    after: Prefix | None = None
    while True:
        page = take(RouteSelector(), after, 256)
        hops = sum(len(cell) for row in page.rows for cell in row if isinstance(cell, list))
        assert hops < PAGE_HOPS + 200
        shown += [row[0] for row in page.rows]
        after = page.after
        if after is None:
            break
    assert shown == [*prefixes, *(["192.0.2.0/24"] if table == "routes" else [])]
