"""No offered route waits without limit, no old state returns, and no memory grows without end."""

from __future__ import annotations

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import REACH
from routed.nup.routes.distances import (
    ADVERTISED_S,
    IN_ALL,
    LEAST_PER_LINK,
    LEAST_PER_NEIGHBOR,
    SOURCE_GC_S,
    UNADVERTISED_S,
    FeasibilityDistances,
)
from routed.nup.routes.entries import Distance
from routed.nup.routes.table import (
    TOMBSTONE_S,
    NeighborKey,
    Path,
    RouteTable,
    UpdateVerdict,
)
from routed.nup.transport.reliable import MESSAGE_LIFETIME_S
from routed.nup.wire.message import RouteUpdate

PREFIX = Prefix.parse("192.0.2.0/24")
OURS = Address.parse("10.255.0.1")
ORIGIN = Address.parse("10.255.0.9")
HONEST = NeighborKey(1, Address.parse("10.255.0.2"))
LIAR = NeighborKey(2, Address.parse("10.255.0.3"))


def origin(number: int) -> Address:
    return Address(Family.IPV4, (11 << 24) + number)


@pytest.fixture
def table() -> RouteTable:
    table = RouteTable(OURS)
    for key in (HONEST, LIAR):
        table.set_path(key, Path(10, frozenset(Family)), 0.0)
        table.counts.set_limit(key, 10)
    return table


def advertise(
    table: RouteTable,
    key: NeighborKey,
    metric: int,
    seqno: int,
    version: int,
    now: float,
    by: Address = ORIGIN,
    prefix: Prefix = PREFIX,
) -> list[UpdateVerdict]:
    update = RouteUpdate(prefix, metric, 0, False, by, seqno)
    return [each.verdict for each in table.accept_updates(key, [update], version, now)]


def through(table: RouteTable) -> tuple[NeighborKey, ...]:
    selection = table.selection(PREFIX)
    return () if selection is None else selection.neighbors


def steal_and_leave(table: RouteTable, ahead: int) -> None:
    """Have a neighbor claim another's prefix once, better than any other, and leave."""
    advertise(table, HONEST, 10, 100, 1, 0.0)
    advertise(table, LIAR, 0, 100 + ahead, 1, 0.5)
    table.remove_neighbor(LIAR, 1.0)


def test_a_route_that_no_request_makes_feasible_is_used_when_the_distance_is_forgotten(
    table: RouteTable,
) -> None:
    steal_and_leave(table, REACH)
    assert through(table) == ()
    assert table.seqno_requests.waiting(HONEST) == 1
    asked = 0
    now = 1.0
    while now < 1.0 + SOURCE_GC_S:
        asked += len(table.pop_requests(now))
        table.collect(now)
        assert through(table) == ()
        now = min(each for each in [table.next_timer()] if each is not None)
    assert asked > 20, "requests go on for as long as it waits"
    table.collect(now)
    assert through(table) == (HONEST,)
    assert table.pop_changes() == [PREFIX]
    assert table.seqno_requests.waiting(HONEST) == 0
    assert table.pop_requests(now + 100) == []


@pytest.mark.parametrize("ahead", [REACH + 1, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 31) + 1])
def test_a_claim_from_beyond_the_reach_takes_nothing_away(table: RouteTable, ahead: int) -> None:
    advertise(table, HONEST, 10, 100, 1, 0.0)
    assert advertise(table, LIAR, 0, 100 + ahead, 1, 0.5) == [UpdateVerdict.OUT_OF_REACH]
    assert through(table) == (HONEST,)
    table.remove_neighbor(LIAR, 1.0)
    assert through(table) == (HONEST,)
    assert advertise(table, HONEST, 20, 101, 2, 1.0) == []
    assert through(table) == (HONEST,)


@pytest.mark.parametrize("first", [100, (1 << 32) - 2])
def test_the_choice_among_equals_does_not_depend_on_arrival(first: int) -> None:
    """Three seqnos, each of which would be newer than the next all round the ring."""
    keys = [NeighborKey(number, OURS) for number in range(1, 4)]
    seqnos = [(first + step * ((1 << 32) // 3)) % (1 << 32) for step in range(3)]
    chosen = set()
    for shift in range(3):
        table = RouteTable(OURS)
        for number in range(3):
            table.set_path(keys[number], Path(10, frozenset()), 0.0)
        for number in [(shift + step) % 3 for step in range(3)]:
            advertise(table, keys[number], 5, seqnos[number], 1, 0.0)
        for number in range(3):
            table._paths[keys[number]] = Path(10, frozenset(Family))
        table.set_path(keys[0], Path(11, frozenset(Family)), 1.0)
        table.set_path(keys[0], Path(10, frozenset(Family)), 2.0)
        chosen.add(through(table))
    assert len(chosen) == 1


def test_a_distance_outlives_the_advertised_dead_interval(table: RouteTable) -> None:
    table.distances.extend_for_dead_interval(300.0)
    steal_and_leave(table, 1)
    table.collect(1.0 + UNADVERTISED_S)
    table.collect(1.0 + UNADVERTISED_S + MESSAGE_LIFETIME_S + 299)
    assert through(table) == ()
    table.collect(1.0 + UNADVERTISED_S + MESSAGE_LIFETIME_S + 300)
    assert through(table) == (HONEST,)


def test_a_distance_is_not_dropped_before_every_link_has_the_replacement(table: RouteTable) -> None:
    steal_and_leave(table, 1)
    now = 1.0
    for _ in range(5):
        now += UNADVERTISED_S
        table.collect(now, is_pending=lambda prefix: prefix == PREFIX)
    now += UNADVERTISED_S
    table.collect(now)
    table.collect(now + ADVERTISED_S - 1)
    assert through(table) == ()
    table.collect(now + ADVERTISED_S)
    assert through(table) == (HONEST,)


def test_an_update_that_was_overtaken_stays_too_late_however_late(table: RouteTable) -> None:
    advertise(table, HONEST, METRIC_INFINITY, 0, 9, 0.0)
    table.collect(TOMBSTONE_S)
    assert advertise(table, HONEST, 5, 100, 8, TOMBSTONE_S + 3) == [UpdateVerdict.OLD_VERSION]
    other = Prefix.parse("198.51.100.0/24")
    assert advertise(table, HONEST, 5, 100, 8, 999.0, prefix=other) == [UpdateVerdict.OLD_VERSION]
    assert advertise(table, HONEST, 5, 100, 10, 999.0) == []
    table.mark_stale(HONEST, 1000.0)
    table.sweep_stale(HONEST, 1001.0)
    assert advertise(table, HONEST, 5, 101, 1, 1002.0) == [], "a new life counts anew"


def test_a_tombstone_stays_while_its_neighbors_stream_has_a_gap(table: RouteTable) -> None:
    advertise(table, HONEST, METRIC_INFINITY, 0, 9, 0.0)
    for number in range(1, 4):
        table.collect(number * TOMBSTONE_S, has_gap=lambda key: key == HONEST)
        assert advertise(table, HONEST, 5, 100, 8, number * TOMBSTONE_S) == [
            UpdateVerdict.OLD_VERSION
        ]
    other = Prefix.parse("198.51.100.0/24")
    assert advertise(table, HONEST, 5, 100, 8, 400.0, prefix=other) == []
    table.collect(4 * TOMBSTONE_S)
    assert advertise(table, HONEST, 5, 100, 10, 500.0) == []


def test_ever_new_origins_fill_no_memory(table: RouteTable) -> None:
    """A neighbor that may advertise ten prefixes advertises one, with 5,000 origins."""
    advertise(table, HONEST, 50, 100, 1, 0.0)
    refused = 0
    for number in range(5000):
        verdicts = advertise(table, LIAR, 0, 1, number + 1, 1.0, by=origin(number))
        refused += verdicts == [UpdateVerdict.ORIGINS_FULL]
    assert len(table.distances) <= LEAST_PER_NEIGHBOR + 1
    assert refused >= 5000 - LEAST_PER_NEIGHBOR - 2
    assert table.counts.unremembered(LIAR) == refused
    assert table.counts.has_room_again(LIAR)
    assert through(table) == (HONEST,), "what it said before is not true any more"
    assert advertise(table, HONEST, 50, 100, 2, 2.0, by=origin(77_777)) == [], (
        "others have their own"
    )
    now = 1.0
    for _ in range(2):
        now += SOURCE_GC_S
        table.collect(now)
    table.counts.clear_refused(LIAR)
    assert advertise(table, LIAR, 0, 1, 9999, now, by=origin(9999)) == []
    assert through(table) == (LIAR,)


def test_neighbors_together_fill_no_more_than_the_bound_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound = IN_ALL // 10  # the test takes as long as the table is large
    monkeypatch.setattr("routed.nup.routes.distances.IN_ALL", bound)
    distances = FeasibilityDistances()
    kept = 0
    for number in range(10):
        key = NeighborKey(1 + number % 2, origin(number))
        while distances.room(key, 20_000) > 0:
            room = min(distances.room(key, 20_000), 10_000)
            for step in range(room):
                distances.end_use(
                    Prefix.trusted(Family.IPV4, (kept + step) << 8, 24), ORIGIN, key, 0.0
                )
            kept += room
    assert len(distances) == kept
    assert bound - 10_000 <= kept <= bound + 2 * LEAST_PER_LINK


def test_what_is_used_again_counts_no_more() -> None:
    distances = FeasibilityDistances()
    distances.improve([PREFIX], ORIGIN, Distance(1, 1))
    for _ in range(1000):
        distances.end_use(PREFIX, ORIGIN, LIAR, 0.0)
        distances.begin_use([PREFIX], ORIGIN)
    assert len(distances) == 0
    assert distances.room(LIAR, 10) == LEAST_PER_NEIGHBOR
    distances.collect(1e9, lambda _: False)
    assert distances.get(PREFIX, ORIGIN) == Distance(1, 1)
