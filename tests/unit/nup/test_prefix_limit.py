"""At most `max_prefixes` are learned from a neighbor; refused prefixes are requested when there is
room."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.events import NeighborRow, TraceCode
from routed.nup.link.settings import UsageError
from routed.nup.routes import prefix_counts
from routed.nup.routes.table import TOMBSTONE_S, NeighborKey, Path, RouteTable, UpdateVerdict
from routed.nup.wire.message import RouteUpdate
from tests.fakes.fake_wire import FakeWire, Node, link_settings, router_id
from tests.fakes.nup_pair import many_prefixes, pair

PREFIXES = [Prefix.parse(text) for text in many_prefixes(20)]
NEIGHBOR = NeighborKey(1, router_id(2))
ORIGIN = Address.parse("10.255.0.9")


def limited_table(limit: int) -> RouteTable:
    table = RouteTable(router_id(1))
    table.set_path(NEIGHBOR, Path(10, frozenset(Family)), 0.0)
    table.counts.set_limit(NEIGHBOR, limit)
    return table


def refused_of(
    table: RouteTable, prefixes: list[Prefix], metric: int = 5, version: int = 1, now: float = 0.0
) -> int:
    """Return how many of these updates were refused for want of room."""
    advertise = [RouteUpdate(prefix, metric, 0, False, ORIGIN, 1) for prefix in prefixes]
    outcomes = table.accept_updates(NEIGHBOR, advertise, version, now)
    refused = [each for each in outcomes if each.verdict is UpdateVerdict.TABLE_FULL]
    return sum(len(outcome.prefixes) for outcome in refused)


def test_all_neighbors_together_fill_no_more_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A link has room for 256 neighbors, and each may tell max_prefixes."""
    monkeypatch.setattr(prefix_counts, "MAX_ROUTES", 8)
    monkeypatch.setattr(prefix_counts, "RESERVE", 0)
    table = RouteTable(router_id(1))
    others = [NeighborKey(1, router_id(number)) for number in (2, 3)]
    for key in others:
        table.set_path(key, Path(10, frozenset(Family)), 0.0)
        table.counts.set_limit(key, 100)

    def advertise(key: NeighborKey, prefixes: list[Prefix], metric: int, version: int) -> None:
        updates = [RouteUpdate(prefix, metric, 0, False, ORIGIN, 1) for prefix in prefixes]
        table.accept_updates(key, updates, version, 0.0)

    advertise(others[0], PREFIXES[:6], 5, 1)
    advertise(others[1], PREFIXES[:6], 5, 1)
    assert [table.counts.reachable(key) for key in others] == [6, 2]
    assert table.counts.refused(others[1]) == 4
    assert not table.counts.has_room_again(others[1])
    advertise(others[0], PREFIXES[:6], METRIC_INFINITY, 2)
    advertise(others[0], PREFIXES[6:], METRIC_INFINITY, 3)
    assert table._learned.tombstones <= 2 * 8
    advertise(others[1], PREFIXES[2:6], 5, 2)
    assert table.counts.total + table._learned.tombstones <= 2 * 8
    table.remove_neighbor(others[0], 0.0)
    assert table.counts.has_room_again(others[1])
    table.remove_neighbor(others[1], 0.0)
    assert table.counts.total == 0


def test_a_full_table_leaves_the_reserve_of_honest_neighbors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five stations of one open link fill it; the neighbor of another link, and its new prefixes,
    are learned all the same, also when its link was down meanwhile."""
    monkeypatch.setattr(prefix_counts, "MAX_ROUTES", 100)
    monkeypatch.setattr(prefix_counts, "RESERVE", 10)
    wire = FakeWire(3)
    names = [f"m{number}" for number in range(5)]
    for name in ("r1", "r2", *names):
        wire.add_node(name)
    honest = wire.connect("r1", "r2")
    wire.connect("r1", *names)
    r1 = wire.nodes["r1"]
    for ifindex in r1.links:
        settings = dataclasses.replace(r1.links[ifindex][1], max_prefixes=30)
        wire.reconfigure(r1, ifindex, settings)
    for number, name in enumerate(names):
        wire.originate(name, *(f"10.{number}.{each}.0/24" for each in range(40)))
    wire.run(10)
    assert r1.instance._table.counts.is_full
    wire.originate("r2", "203.0.113.0/24")
    wire.run(3)
    wire.cut(honest)
    wire.run(1)
    wire.mend(honest)
    wire.originate("r2", "198.51.100.0/24")
    wire.run(5)
    for text in ("203.0.113.0/24", "198.51.100.0/24"):
        assert Prefix.parse(text) in r1.learned
    assert r1.instance._table.counts.total <= 100 + 6 * 10
    wire.originate("r2", *(f"198.18.{each}.0/24" for each in range(20)))
    wire.run(3)
    problems = {str(each.router_id): each.problem for each in r1.instance.neighbors(wire.now)}
    refused = problems.pop("10.255.0.2")
    assert refused.startswith("the table has ")
    assert refused.endswith(": 12 updates were refused")
    named = set(refused.partition("most of ")[2].partition(":")[0].split(", "))
    assert len(named) == prefix_counts.FILLERS_NAMED
    assert named <= set(problems)
    assert all(problems.values())


def limit(wire: FakeWire, node: Node, max_prefixes: int) -> None:
    settings = dataclasses.replace(node.links[1][1], max_prefixes=max_prefixes)
    wire.reconfigure(node, 1, settings)


def row(wire: FakeWire, node: Node) -> NeighborRow:
    (found,) = node.instance.neighbors(wire.now)
    return found


def test_prefixes_beyond_the_limit_are_refused_and_the_others_are_learned() -> None:
    table = limited_table(8)
    assert refused_of(table, PREFIXES[:10]) == 2
    assert list(table.selections()) == PREFIXES[:8]
    assert refused_of(table, PREFIXES[:8], metric=7, version=2) == 0, (
        "what is known changes as ever"
    )
    assert table.selections()[PREFIXES[0]].metric == 17
    assert refused_of(table, PREFIXES[7:8], METRIC_INFINITY, version=3) == 0
    assert refused_of(table, PREFIXES[10:12], version=4) == 1
    assert table.counts.reachable(NEIGHBOR) == 8
    assert table.counts.refused(NEIGHBOR) == 3


def test_a_retracted_prefix_that_is_advertised_again_counts_like_any_other() -> None:
    table = limited_table(8)
    refused_of(table, PREFIXES[:8])
    refused_of(table, PREFIXES[:1], METRIC_INFINITY, version=2)
    refused_of(table, PREFIXES[8:9], version=3)
    assert refused_of(table, PREFIXES[:1], version=4) == 1


def test_retractions_that_are_remembered_are_bounded_too() -> None:
    table = limited_table(5)
    refused_of(table, PREFIXES, METRIC_INFINITY)
    assert len(table._learned.prefixes_of(NEIGHBOR)) == 10
    assert refused_of(table, PREFIXES[10:], version=2) == 10, "all that may be known is known"
    assert table.counts.refused(NEIGHBOR) == 10, "a retraction asks for no table"
    table.collect(TOMBSTONE_S)
    assert refused_of(table, PREFIXES[10:], version=3, now=TOMBSTONE_S) == 5


def test_a_neighbor_over_the_limit_is_named_once_and_counted() -> None:
    wire, _, b = pair()
    limit(wire, b, 10)
    wire.run(1)
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    assert len(b.learned) == 10
    assert row(wire, b).prefixes == 10
    assert row(wire, b).problem == "over max_prefixes 10: 12 updates were refused"
    named = [trace for trace in b.traces if trace.code is TraceCode.PREFIX_LIMIT]
    assert [trace.detail for trace in named] == ["10.255.0.1 advertises more than max_prefixes: 10"]
    counters = b.instance.counters()
    assert counters[TraceCode.IGNORED_TABLE_FULL.value] == 12
    assert counters[TraceCode.PREFIX_LIMIT.value] == 1


def test_the_table_that_an_adjacency_begins_with_is_limited_like_the_rest() -> None:
    wire, a, b = pair()
    for node in (a, b):
        limit(wire, node, 3)
    wire.originate("a", *many_prefixes(20))
    wire.run(3)
    assert wire.all_up()
    assert len(b.learned) == 3


def test_a_higher_limit_brings_the_refused_prefixes() -> None:
    wire, _, b = pair()
    limit(wire, b, 10)
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    limit(wire, b, 100)
    wire.run(1)
    assert len(b.learned) == 22
    assert row(wire, b).problem == ""
    assert b.instance.counters()[TraceCode.TABLE_REQUESTED.value] == 1


def test_a_lower_limit_removes_nothing() -> None:
    wire, _, b = pair()
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    limit(wire, b, 5)
    wire.originate("a", "192.0.2.0/24")
    wire.run(2)
    assert len(b.learned) == 22
    assert "over max_prefixes 5" in row(wire, b).problem


def test_room_made_by_retractions_is_filled_but_not_at_every_one() -> None:
    wire, _, b = pair()
    limit(wire, b, 10)
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    for text in map(str, list(b.learned)[:4]):
        wire.withdraw("a", text)
        wire.run(2)
    assert len(b.learned) == 7, "the first made room for another; the next may in 30 s"
    wire.run(30)
    assert len(b.learned) == 10
    assert b.instance.counters()[TraceCode.TABLE_REQUESTED.value] == 2


def test_what_was_refused_beside_a_restarted_neighbors_stale_routes_is_asked_for() -> None:
    wire, a, b = pair()
    limit(wire, b, 10)
    first, second = many_prefixes(20)[:8], many_prefixes(20)[8:16]
    wire.originate("a", *first)
    wire.run(2)
    wire.crash("a")
    for text in first:
        del a.origins[Prefix.parse(text)]
    a.origins.update(dict.fromkeys(map(Prefix.parse, second), 0))
    wire.revive("a")
    wire.run(20)
    assert {str(prefix) for prefix in b.learned} >= set(second)
    assert row(wire, b).problem == ""


def test_a_limit_of_nothing_is_the_callers_error() -> None:
    with pytest.raises(UsageError, match="at least one prefix"):
        dataclasses.replace(link_settings(1, 1), max_prefixes=0)
