"""Route selection: feasibility, ECMP, seqno requests, versions, stale routes."""

from __future__ import annotations

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.routes.distances import SOURCE_GC_S, UNADVERTISED_S
from routed.nup.routes.policy import Imported
from routed.nup.routes.seqno_requests import REQUEST_DELAY_S, REQUEST_RETRY_S
from routed.nup.routes.table import (
    TOMBSTONE_S,
    LearnedRoute,
    NeighborKey,
    Path,
    RouteTable,
    UpdateVerdict,
    add_cost,
)
from routed.nup.wire.message import RouteUpdate, SeqnoRequest

PREFIX = Prefix.parse("192.0.2.0/24")
OURS = Address.parse("10.255.0.1")
ORIGIN = Address.parse("10.255.0.9")
B = NeighborKey(1, Address.parse("10.255.0.2"))
C = NeighborKey(2, Address.parse("10.255.0.3"))
BOTH = frozenset(Family)


def learned(table: RouteTable) -> list[tuple[Prefix, NeighborKey, LearnedRoute, bool]]:
    return sorted(row for prefix in table.prefixes() for row in table.learned_of(prefix))


class AdvertisedTable:
    """A table with two neighbors at cost 10, and updates with increasing versions."""

    def __init__(self) -> None:
        self.table = RouteTable(OURS)
        self.version = 0
        for key in (B, C):
            self.table.set_path(key, Path(10, BOTH), 0.0)

    def __call__(
        self,
        key: NeighborKey,
        metric: int,
        *,
        seqno: int = 1,
        version: int | None = None,
        origin: Address = ORIGIN,
        is_external: bool = False,
        now: float = 0.0,
    ) -> UpdateVerdict:
        self.version += 1
        update = RouteUpdate(PREFIX, metric, 0, is_external, origin, seqno)
        told_version = self.version if version is None else version
        outcomes = self.table.accept_updates(key, [update], told_version, now)
        assert all(list(outcome.prefixes) == [PREFIX] for outcome in outcomes)
        return outcomes[0].verdict if outcomes else UpdateVerdict.ACCEPTED

    def chosen(self) -> tuple[int, tuple[NeighborKey, ...]] | None:
        """Return metric and neighbors of the selection."""
        selection = self.table.selection(PREFIX)
        return None if selection is None else (selection.metric, selection.neighbors)


@pytest.fixture
def advertise() -> AdvertisedTable:
    return AdvertisedTable()


def test_the_lowest_total_metric_is_selected(advertise: AdvertisedTable) -> None:
    advertise(B, 30)
    advertise(C, 20)
    assert advertise.chosen() == (30, (C,))


def test_equal_routes_are_used_together_in_order(advertise: AdvertisedTable) -> None:
    advertise(C, 20)
    advertise(B, 20)
    assert advertise.chosen() == (30, (B, C))


def test_equal_routes_of_different_seqnos_or_origins_are_not_mixed(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 20)
    advertise(C, 20, seqno=2)
    assert advertise.chosen() == (30, (C,))


def test_internal_is_preferred_to_external_whatever_the_metric(advertise: AdvertisedTable) -> None:
    advertise(B, 5, is_external=True, origin=Address.parse("10.255.0.8"))
    advertise(C, 50)
    assert advertise.chosen() == (60, (C,))


def test_an_alternate_that_is_not_nearer_than_we_ever_were_is_kept_but_not_used(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 10)  # our feasibility distance is 20
    assert advertise(C, 20) is UpdateVerdict.UNFEASIBLE
    advertise(B, METRIC_INFINITY)
    assert advertise.chosen() is None


def test_a_feasible_alternate_takes_over_at_once(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    assert advertise(C, 19) is UpdateVerdict.ACCEPTED
    advertise(B, METRIC_INFINITY)
    assert advertise.chosen() == (29, (C,))
    assert advertise.table.pop_requests(100.0) == []


def test_a_grown_metric_keeps_the_route_since_the_old_claim_still_holds(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 10)
    assert advertise(B, 500) is UpdateVerdict.ACCEPTED
    assert advertise.chosen() == (510, (B,))


def test_a_retraction_voids_the_claim(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(B, METRIC_INFINITY)
    assert advertise(B, 500) is UpdateVerdict.UNFEASIBLE
    assert advertise.chosen() is None


def test_a_newer_seqno_makes_any_metric_feasible(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(B, METRIC_INFINITY)
    assert advertise(C, 500, seqno=2) is UpdateVerdict.ACCEPTED
    assert advertise.chosen() == (510, (C,))


def test_starvation_requests_the_next_seqno_repeatedly(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(C, 30)
    advertise(B, METRIC_INFINITY, now=1.0)
    assert advertise.table.pop_requests(1.0) == []
    ((key, request),) = advertise.table.pop_requests(1.0 + REQUEST_DELAY_S)
    assert (key, request.origin, request.seqno) == (C, ORIGIN, 2)
    assert advertise.table.pop_requests(1.0 + REQUEST_RETRY_S) == []
    assert len(advertise.table.pop_requests(1.0 + REQUEST_DELAY_S + REQUEST_RETRY_S)) == 1
    advertise(C, 30, seqno=2, now=2.0)
    assert advertise.chosen() == (40, (C,))
    assert advertise.table.pop_requests(100.0) == []


def test_a_better_route_that_is_not_feasible_is_requested_too(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(C, 30)
    advertise(B, 100)
    assert advertise.chosen() == (110, (B,))
    ((key, _),) = advertise.table.pop_requests(1.0)
    assert key == C


def test_a_request_that_loses_its_point_within_its_delay_is_never_sent(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 10)
    advertise(C, 30)
    advertise(B, METRIC_INFINITY)
    advertise(C, METRIC_INFINITY)
    assert advertise.table.pop_requests(100.0) == []


def test_an_older_version_is_ignored_and_a_repeated_one_harmless(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 10, version=5)
    assert advertise(B, 3, version=4) is UpdateVerdict.OLD_VERSION
    assert advertise(B, 10, version=5) is UpdateVerdict.ACCEPTED
    assert advertise.chosen() == (20, (B,))


def test_a_retraction_is_not_undone_by_an_older_update_that_arrives_later(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, METRIC_INFINITY, version=8)
    assert advertise(B, 10, version=7) is UpdateVerdict.OLD_VERSION
    assert advertise.chosen() is None


def test_tombstones_and_distances_are_dropped_in_time(advertise: AdvertisedTable) -> None:
    advertise(B, 10, now=0.0)
    advertise(B, METRIC_INFINITY, now=1.0)
    advertise.table.collect(1.0 + UNADVERTISED_S)
    advertise.table.collect(1.0 + TOMBSTONE_S)
    assert advertise(B, 50, version=9, now=130.0) is UpdateVerdict.UNFEASIBLE
    advertise(B, METRIC_INFINITY, version=10, now=131.0)
    advertise.table.collect(1.0 + SOURCE_GC_S)
    assert advertise(C, 50, now=182.0) is UpdateVerdict.ACCEPTED
    assert advertise.chosen() == (60, (C,))


def test_a_selected_source_is_never_collected(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise.table.collect(10 * SOURCE_GC_S)
    assert advertise(C, 20) is UpdateVerdict.UNFEASIBLE


def test_our_own_route_is_refused_when_received(advertise: AdvertisedTable) -> None:
    assert advertise(B, 10, origin=OURS) is UpdateVerdict.OWN_ORIGIN
    assert advertise.chosen() is None


def test_a_route_that_no_next_hop_can_carry_is_not_selected(advertise: AdvertisedTable) -> None:
    advertise.table.set_path(B, Path(10, frozenset({Family.IPV6})), 0.0)
    advertise(B, 10)
    assert advertise.chosen() is None


def test_a_changed_cost_changes_the_choice(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(C, 12)
    advertise.table.set_path(B, Path(100, BOTH), 1.0)
    assert advertise.chosen() == (22, (C,))


def test_metrics_saturate_at_infinity(advertise: AdvertisedTable) -> None:
    assert add_cost(METRIC_INFINITY - 5, 10) == METRIC_INFINITY
    advertise(B, METRIC_INFINITY - 5)
    assert advertise.chosen() is None


def test_stale_routes_are_used_until_swept_and_updates_to_them_wait_for_the_sweep(
    advertise: AdvertisedTable,
) -> None:
    advertise(B, 10)
    advertise.table.mark_stale(B, 1.0)
    assert advertise(B, 300, version=1) is UpdateVerdict.PARKED
    assert advertise.chosen() == (20, (B,))
    advertise.table.sweep_stale(B, 2.0)
    assert (
        advertise.chosen() is None
    )  # 300 is no claim below 20, and the new life has forgotten the old
    ((key, request),) = advertise.table.pop_requests(3.0)
    assert (key, request.seqno) == (B, 2)


def test_a_stale_route_that_is_not_advertised_again_is_removed(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise.table.mark_stale(B, 1.0)
    advertise.table.sweep_stale(B, 2.0)
    assert advertise.chosen() is None


def test_of_two_parked_updates_the_newer_version_counts(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise.table.mark_stale(B, 1.0)
    advertise(B, 8, version=3)
    assert advertise(B, 6, version=2) is UpdateVerdict.OLD_VERSION
    advertise.table.sweep_stale(B, 2.0)
    assert advertise.chosen() == (18, (B,))


def test_a_removed_neighbor_leaves_nothing_behind(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise.table.remove_neighbor(B, 1.0)
    assert advertise.chosen() is None
    assert learned(advertise.table) == []
    assert advertise.table.counts.reachable(B) == 0


def test_requests_are_passed_to_the_next_hop_and_never_back(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    advertise(C, 15)
    request = SeqnoRequest(PREFIX, ORIGIN, 2, 5)
    assert advertise.table.forwarders(request, C) == ([B], True)
    assert advertise.table.forwarders(request, B) == ([C], False)


def test_changes_are_reported_once(advertise: AdvertisedTable) -> None:
    advertise(B, 10)
    assert advertise.table.pop_changes() == [PREFIX]
    advertise(C, 500)
    assert advertise.table.pop_changes() == []


# Runs: what is told alike is decided once, and differently known prefixes part company


MANY = [Prefix.parse(f"198.51.{number}.0/24") for number in range(100)]


def updates(
    prefixes: list[Prefix], metric: int, *, seqno: int = 1, origin: Address = ORIGIN
) -> list[RouteUpdate]:
    return [RouteUpdate(prefix, metric, 0, False, origin, seqno) for prefix in prefixes]


def test_a_run_comes_to_the_same_as_its_updates_one_by_one() -> None:
    """Whatever was known of its prefixes before: nothing, more, less, stale, retracted."""
    words = [
        (B, updates(MANY[:60], 20)),
        (C, updates(MANY[30:90], 5)),
        (C, updates(MANY[80:85], METRIC_INFINITY)),
        (B, updates(MANY[40:70], 5) + updates(MANY[70:], 30)),
        (B, updates([*MANY[:10], PREFIX], 90, seqno=2)),
        (C, updates(MANY[20:50], 200, origin=Address.parse("10.255.0.8"))),
        (C, updates(MANY[:5], 3, origin=OURS)),
    ]
    tables = RouteTable(OURS), RouteTable(OURS)
    for table in tables:
        for key in (B, C):
            table.set_path(key, Path(10, BOTH), 0.0)
    seen: list[list[tuple[UpdateVerdict, Prefix]]] = [[], []]
    for version, (key, run) in enumerate(words):
        if version == 4:
            for table in tables:
                table.mark_stale(B, 1.0)
        parts = [run], [[update] for update in run]
        for table, split, verdicts in zip(tables, parts, seen, strict=True):
            for part in split:
                for outcome in table.accept_updates(key, part, version, 1.0):
                    verdicts += [(outcome.verdict, prefix) for prefix in outcome.prefixes]
    for table in tables:
        table.sweep_stale(B, 2.0)
        table.set_path(C, Path(12, BOTH), 3.0)
    together, apart = tables
    assert together.selections() == apart.selections()
    assert learned(together) == learned(apart)
    assert set(together.pop_changes()) == set(apart.pop_changes())
    assert sorted(together.pop_requests(9.0)) == sorted(apart.pop_requests(9.0))
    assert sorted(seen[0], key=str) == sorted(seen[1], key=str)
    for key in (B, C):
        advertise = [row for row in learned(together) if row[1] == key]
        assert together.counts.reachable(key) == apart.counts.reachable(key) == len(advertise)
    for table in tables:
        table.remove_neighbor(B, 4.0)
        table.collect(4.0 + SOURCE_GC_S + TOMBSTONE_S)
        assert table.counts.reachable(B) == 0
    assert together.selections() == apart.selections()
    assert learned(together) == learned(apart)


def test_of_two_families_in_one_run_each_is_reached_by_its_own() -> None:
    table = RouteTable(OURS)
    table.set_path(B, Path(10, frozenset({Family.IPV6})), 0.0)
    both = [PREFIX, Prefix.parse("2001:db8::/32"), MANY[0]]
    table.accept_updates(B, updates(both, 20), 1, 0.0)
    assert list(table.selections()) == [both[1]]


def test_a_policy_that_looks_at_prefixes_is_asked_for_each_of_a_run() -> None:
    def judge(_key: NeighborKey, update: RouteUpdate) -> Imported:
        is_odd = bool(update.prefix.addr_bits >> 8 & 1)
        return Imported(is_accepted=not is_odd, least_metric=0, tag=0, distance=None)

    table = RouteTable(OURS, judge)
    table.imports_by_prefix = True
    table.set_path(B, Path(10, BOTH), 0.0)
    table.accept_updates(B, updates(MANY, 20), 1, 0.0)
    assert list(table.selections()) == MANY[::2]
    assert table.counts.reachable(B) == len(MANY), "what a filter refuses is kept: it may change"


def test_a_prefix_that_occurs_twice_in_one_run_is_one_route() -> None:
    table = RouteTable(OURS)
    table.set_path(B, Path(10, BOTH), 0.0)
    table.accept_updates(B, updates([PREFIX, MANY[0], PREFIX], 20), 1, 0.0)
    assert table.counts.reachable(B) == 2
