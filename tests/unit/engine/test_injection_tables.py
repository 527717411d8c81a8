"""Injected routes of several tables: each has its own, and the journal keeps all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest

from ipc.control import RouteOperation
from ipc.framing import IpcError
from routed.control.injection import Injection
from routed.engine.injection.journal import Dropped, Journal, Kept, Record, Removed, check, fold
from routed.engine.injection.service import InjectionService
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.injection import InjectedAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteColumn, RouteType
from routed.rib.table import Rib
from tests.unit.fib.test_sync import ListSink

PREFIX = Prefix.parse("10.1.0.0/16")
ATTRIBUTES = (InjectedAttributes(RouteType.BLACKHOLE, (), 0, 0),)
OWNER = "uid0"


class Scene:
    """An engine with a main RIB, and RIBs of other tables."""

    def __init__(self, *table_ids: int) -> None:
        self.now = 100.0
        self.ribs = {table_id: Rib(lambda: 0.0) for table_id in (0, *table_ids)}
        log = Logger(ListSink(), "engine", Level.INFO)
        self.service = InjectionService(self.ribs[0], lambda: self.now, log, lambda: None)
        self.follow(*table_ids)

    def follow(self, *table_ids: int) -> None:
        ribs: Mapping[int, Rib] = {table_id: self.ribs[table_id] for table_id in table_ids}
        self.service.follow_tables(ribs)

    def ask(
        self,
        operation: RouteOperation,
        table_id: int,
        lease_s: float | None = None,
        session: int | None = None,
    ) -> list[str]:
        column = RouteColumn(Family.IPV4, [PREFIX.as_int], [0])
        injection = Injection(
            operation, (OWNER,), (column,), ATTRIBUTES, lease_s, session, table_id
        )
        return [refusal.problem for refusal in self.service.inject(injection)]

    def add(self, table_id: int, lease_s: float | None = None) -> None:
        assert self.ask(RouteOperation.ADD, table_id, lease_s) == []

    @property
    def has(self) -> set[int]:
        """Tables that have the route."""
        return {table_id for table_id, rib in self.ribs.items() if rib.candidates(PREFIX)}


@pytest.fixture
def files() -> Iterator[list[int]]:
    descriptors = [os.memfd_create("journal") for _ in range(2)]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def journal(files: list[int]) -> Journal:
    problems: list[str] = []
    made = Journal([os.dup(descriptor) for descriptor in files], problems.append)
    assert problems == []
    return made


def test_a_route_is_added_and_deleted_in_its_table() -> None:
    scene = Scene(100, 7)
    scene.add(100)
    assert scene.has == {100}
    assert "has a route to 10.1.0.0/16 already" in scene.ask(RouteOperation.ADD, 100)[0]
    scene.add(0)
    assert scene.ask(RouteOperation.DELETE, 7) == ["uid0 injected no route to 10.1.0.0/16"]
    assert scene.ask(RouteOperation.DELETE, 100) == []
    assert scene.has == {0}


def test_leases_end_in_every_table_and_are_renewed_together() -> None:
    scene = Scene(100)
    scene.add(0, 10.0)
    scene.add(100, 20.0)
    left = scene.service.remaining_s
    assert [left(PREFIX, OWNER, scene.now, table) for table in (254, 100)] == [10.0, 20.0]
    assert scene.service.renew(OWNER, 30.0) == 2
    assert [left(PREFIX, OWNER, scene.now, table) for table in (254, 100)] == [30.0, 30.0]


def test_a_session_takes_its_routes_of_all_tables_along() -> None:
    scene = Scene(100)
    for table_id in (0, 100):
        assert scene.ask(RouteOperation.ADD, table_id, session=3) == []
    scene.service.session_ended(3)
    assert scene.has == set()


def test_the_next_engine_has_the_routes_of_every_table(files: list[int]) -> None:
    scene = Scene(100, 7)
    scene.service.restore(journal(files))
    for table_id in (0, 100, 7):
        scene.add(table_id)
    assert scene.ask(RouteOperation.DELETE, 7) == []
    following = Scene(100, 7)
    following.service.restore(journal(files))
    assert following.has == {0, 100}


def test_routes_of_a_removed_table_do_not_come_back_with_it(files: list[int]) -> None:
    scene = Scene(100)
    scene.service.restore(journal(files))
    scene.add(100)
    scene.add(0)
    scene.follow()
    scene.ribs[100] = Rib(lambda: 0.0)
    scene.follow(100)
    assert scene.has == {0}
    following = Scene(100)
    following.service.restore(journal(files))
    assert following.has == {0}


def test_an_engine_without_the_table_forgets_its_routes(files: list[int]) -> None:
    scene = Scene(100)
    scene.service.restore(journal(files))
    scene.add(100)
    without = Scene()
    without.service.restore(journal(files))
    assert without.has == set()
    again = Scene(100)
    again.service.restore(journal(files))
    assert again.has == set()


def test_a_table_under_another_name_keeps_its_routes() -> None:
    scene = Scene(100)
    scene.add(100)
    scene.follow(100)
    assert scene.has == {100}
    assert "already" in scene.ask(RouteOperation.ADD, 100)[0]


def record(table_id: int) -> Kept:
    column = RouteColumn(Family.IPV4, [PREFIX.as_int], [0])
    return Kept.of(OWNER, column, ATTRIBUTES, None, table_id)


def test_fold_keeps_tables_apart() -> None:
    removed = Removed(OWNER, Family.IPV4, record(7).keys, 7)
    records: list[Record] = [record(0), record(7), record(8), record(9), removed, Dropped(8)]
    assert [kept.table_id for kept in fold(records, 0.0)] == [0, 9]


@pytest.mark.parametrize("bad", [record(-1), record(1 << 32), Dropped(1 << 40)])
def test_a_table_that_cannot_exist_damages_the_journal(bad: Record) -> None:
    with pytest.raises(IpcError, match="a table that cannot exist"):
        check([bad])
