"""The tables besides the main one follow the configuration, the links and the main table."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.programming import FibProgramming
from routed.engine.tables import RoutingTable, RoutingTables
from routed.imsg.messages import FibUpdate
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.rib.table import Rib
from tests.unit.fib.test_sync import ListSink

BASE = "router_id: 10.255.0.1\nuser: root\n"
TABLES = "tables: {isp2: {number: 100}, 7: {}}\n"
STATIC = """static:
  - {prefix: 10.9.0.0/16, via: 192.0.2.1, table: isp2}
  - {prefix: 10.9.0.0/16, type: blackhole, table: "7"}
"""
PREFIX = Prefix.parse("10.9.0.0/16")


class Scene:
    """A main RIB, its programming, and the other tables."""

    def __init__(self) -> None:
        log = Logger(ListSink(), "engine", Level.INFO)
        config = load_text(BASE)
        self.main = Rib(now=lambda: 0.0)
        desired = DesiredFib(254)
        self.links: dict[int, Interface] = {}
        self.programming = FibProgramming(
            config.fib, (), self.main.best, desired, ConvergenceClock(), log
        )
        main = RoutingTable("main", self.main, desired, self.programming)
        self.tables = RoutingTables(main, self.programming, self.links, log)
        self.link_changed(has_carrier=True)

    def link_changed(self, *, has_carrier: bool) -> None:
        link = Interface(
            ifindex=2, ifname="eth0", is_admin_up=True, has_carrier=has_carrier, mtu=1500,
            is_loopback=False, has_multicast=True,
            addresses=(InterfaceAddress(Address.parse("192.0.2.9"), 24),),
        )  # fmt: skip
        self.links[2] = link
        self.main.link_changed(link)
        self.tables.link_changed(link)

    def apply(self, text: str) -> list[FibUpdate]:
        """Apply a configuration, decide, and return what is sent."""
        config = load_text(BASE + text)
        self.programming.apply(config.fib, config.filters.kernel, config.tables)
        self.tables.apply(config)
        return self.decide()

    def decide(self) -> list[FibUpdate]:
        self.tables.process(self.main.process())
        self.programming.end_decision(has_verified=False, has_all_links=True)
        updates = []
        while (update := self.programming.pop_update()) is not None:
            updates.append(update)
        return updates


@pytest.fixture
def scene() -> Scene:
    return Scene()


def installed(updates: list[FibUpdate]) -> list[int]:
    return [columns.table_id for update in updates for columns in update.install]


def test_each_table_gets_its_static_routes(scene: Scene) -> None:
    assert installed(scene.apply(TABLES + STATIC)) == [100, 7]
    assert list(scene.tables.by_name) == ["isp2", "7"]
    isp2 = scene.tables.by_name["isp2"]
    best = isp2.rib.best(PREFIX)
    assert best is not None
    assert [hop.ifindex for hop in best.next_hops] == [2]


def test_an_equal_configuration_changes_nothing(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    before = dict(scene.tables.by_name)
    assert scene.apply(TABLES + STATIC) == []
    assert scene.tables.by_name == before


def test_a_table_with_another_number_begins_again(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    assert installed(scene.apply(TABLES.replace("100", "101") + STATIC)) == [101]


def test_a_removed_table_is_forgotten_and_its_routes_with_it(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    assert scene.apply("") == []
    assert scene.tables.by_name == {}
    assert not scene.programming.tables.has_unsent


def test_another_set_of_tables_is_in_sync_after_the_next_decision(scene: Scene) -> None:
    """In sync before, the parent would remove routes that an earlier daemon left in the table."""
    scene.apply("")
    scene.programming.set_in_sync()
    assert scene.programming.pop_in_sync()
    config = load_text(BASE + TABLES + STATIC)
    scene.programming.apply(config.fib, config.filters.kernel, config.tables)
    scene.tables.apply(config)
    assert not scene.programming.pop_in_sync(), "nothing is decided yet"
    scene.decide()
    assert scene.programming.pop_in_sync()
    assert not scene.programming.pop_in_sync()


def test_a_link_takes_routes_of_all_tables_along(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    scene.link_changed(has_carrier=False)
    (update,) = scene.decide()
    assert [columns.table_id for columns in update.remove] == [100]


def test_filters_kernel_concerns_all_tables(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    denied = "filters: {kernel: [{match: [10.9.0.0/16], action: deny}]}\n"
    updates = scene.apply(TABLES + STATIC + denied)
    assert sorted(c.table_id for update in updates for c in update.remove) == [7, 100]


def test_another_priority_sends_every_route_again(scene: Scene) -> None:
    scene.apply(TABLES + STATIC)
    assert sorted(installed(scene.apply(TABLES + STATIC + "fib: {priority: 9}\n"))) == [7, 100]


def test_trackers_concern_all_tables_also_those_that_come_later(scene: Scene) -> None:
    tracked = STATIC.replace("via: 192.0.2.1", "via: 192.0.2.1, bfd: up")
    session = "bfd: {sessions: {up: {peer: 192.0.2.1}}}\n"
    scene.tables.set_trackers({"bfd up": "it is down"})
    scene.apply(TABLES + tracked + session)
    candidate = scene.tables.by_name["isp2"].rib.candidates(PREFIX)[0]
    assert "it is down" in candidate.problem
    scene.tables.set_trackers({"bfd up": ""})
    assert installed(scene.decide()) == [100]
