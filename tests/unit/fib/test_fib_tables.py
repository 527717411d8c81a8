"""The ledger alone: every row of the failure table, in virtual time, against the fake kernel."""

from __future__ import annotations

import errno
import math

import pytest
import trio

from routed.fib.routes.link_prefixes import PREFIXES_MAX, LinkPrefixes
from routed.fib.routes.ownership import KernelRoute, Ownership, RouteKey, RouteValue
from routed.fib.routes.plan import OpKind
from routed.fib.routes.table import Drift
from routed.fib.routes.tables import FibTables
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel, operations_of

OURS = Ownership(protocol=205, priority=205, tables=frozenset({254}))


def key(prefix: str, priority: int = 205) -> RouteKey:
    return RouteKey(254, Prefix.parse(prefix), 0, priority)


def via(*addresses: str, ifindex: int = 2) -> RouteValue:
    hops = tuple(NextHop(Address.parse(address), ifindex) for address in addresses)
    return RouteValue.canonical(RouteType.UNICAST, hops)


BLACKHOLE = RouteValue(RouteType.BLACKHOLE, ())
A, B, C = key("10.1.0.0/16"), key("10.2.0.0/16"), key("2001:db8::/32")


class Bench:
    """A ledger, a fake kernel and a clock."""

    def __init__(self) -> None:
        self.fib_tables = FibTables(OURS)
        self.kernel = FakeKernel()
        self.now = 100.0

    def set_desired(self, route: RouteKey, value: RouteValue) -> None:
        prefix = route.prefix
        self.fib_tables.set_desired(route.table_id, prefix.family, [prefix.as_int], [value])

    def withdraw(self, route: RouteKey) -> None:
        self.fib_tables.withdraw(route.table_id, route.prefix.family, [route.prefix.as_int])

    def dump(self) -> list[Drift]:
        drift: list[Drift] = []
        for family in Family:
            found, is_thorough = None, False
            while found is None:
                comparison = self.fib_tables.begin_dump(254, family, is_thorough=is_thorough)
                trio.run(self.kernel.dump_routes, 254, family, comparison.receive)
                found, is_thorough = comparison.finish(self.now), True
            drift += found
        self.fib_tables.end_dump()
        return drift

    def step(self) -> bool:
        """Plan, apply and record once; returns whether the FIB table agreed with the kernel."""
        batches = self.fib_tables.plan(self.now)
        return self.fib_tables.record(batches, self.kernel.apply(batches), self.now)

    def planned(self) -> list[OpKind]:
        """The kinds of the next operations, without doing them."""
        return [operation.kind for operation in operations_of(self.fib_tables.plan(self.now))]

    def failure_of(self, route: RouteKey) -> str:
        return self.fib_tables.fib_table(route.table_key).failure_of(route.prefix.as_int)

    def reconcile(self) -> None:
        for _ in range(10):
            if not self.fib_tables.plan(self.now):
                return
            if not self.step():
                self.dump()
        pytest.fail("the FIB tables never equal the kernel")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_wanted_routes_are_installed_and_a_second_round_writes_nothing(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(C, BLACKHOLE)
    bench.reconcile()
    assert bench.kernel.ours() == {A: via("192.0.2.1"), C: BLACKHOLE}
    writes = len(bench.kernel.writes)
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    assert len(bench.kernel.writes) == writes


def test_set_unset_set_same_before_apply_costs_no_write(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    writes = len(bench.kernel.writes)
    bench.set_desired(A, via("192.0.2.9"))
    bench.withdraw(A)
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    assert len(bench.kernel.writes) == writes


def test_equal_leftovers_are_adopted_without_a_write_and_stale_ones_wait_for_the_gate(
    bench: Bench,
) -> None:
    bench.kernel.put(A, via("192.0.2.1"), 205)
    bench.kernel.put(B, via("192.0.2.1"), 205)
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    assert bench.kernel.writes == []
    assert set(bench.kernel.ours()) == {A, B}, "nothing is swept before the gate"
    assert bench.fib_tables.stale_count == 1
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A}
    assert bench.fib_tables.stale_count == 0
    assert (bench.fib_tables.counts.adopted, bench.fib_tables.counts.swept) == (1, 1)


def test_the_legs_are_those_that_kernel_routes_of_ours_go_through(bench: Bench) -> None:
    bench.kernel.put(A, via("192.0.2.1", "192.0.2.2"), 205)
    bench.kernel.put(B, via("192.0.2.3"), 2)
    assert bench.fib_tables.hops() == set()
    bench.dump()
    bench.set_desired(B, via("192.0.2.4"))  # not there yet
    assert bench.fib_tables.hops() == {(Address.parse(f"192.0.2.{last}"), 2) for last in (1, 2)}


def test_a_dump_that_comes_after_the_wish_adopts_too(bench: Bench) -> None:
    bench.kernel.put(A, via("192.0.2.1"), 205)
    bench.set_desired(A, via("192.0.2.1"))
    bench.dump()
    bench.reconcile()
    assert bench.kernel.writes == []
    assert bench.fib_tables.counts.adopted == 1


def test_additions_come_before_removals(bench: Bench) -> None:
    bench.fib_tables.open_gate()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.withdraw(A)
    bench.set_desired(B, via("192.0.2.1"))
    bench.reconcile()
    assert [write.kind for write in bench.kernel.writes[1:]] == [OpKind.INSTALL, OpKind.REMOVE]


def test_a_foreign_route_is_never_touched_and_its_key_is_reported(bench: Bench) -> None:
    foreign = bench.kernel.put(A, via("192.0.2.99"), 12)
    bench.dump()
    bench.fib_tables.open_gate()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    assert bench.kernel.routes[A] == foreign
    assert "protocol bird" in bench.failure_of(A)
    assert bench.kernel.writes == []


def test_our_route_goes_in_as_soon_as_the_foreign_one_leaves(bench: Bench) -> None:
    foreign = bench.kernel.put(A, via("192.0.2.99"), 12)
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.kernel.lose([A])
    bench.fib_tables.route_changed(foreign, bench.now, is_removed=True)
    bench.reconcile()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}


def test_a_foreign_route_that_beats_us_to_the_key_is_found_by_reading_again(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.kernel.put(A, via("192.0.2.99"), 12)  # unnoticed yet
    assert not bench.step(), "EEXIST contradicts the FIB table"
    bench.dump()
    bench.reconcile()
    assert "protocol bird" in bench.failure_of(A)
    assert bench.kernel.routes[A].protocol == 12


def test_a_route_deleted_by_hand_comes_back(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    (gone,) = bench.kernel.lose([A])
    drift = bench.fib_tables.route_changed(gone, bench.now, is_removed=True)
    assert drift is not None
    assert drift.what == "deleted"
    bench.reconcile()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}
    assert bench.fib_tables.counts.repaired == 1


def test_a_route_changed_by_hand_is_replaced(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    changed = bench.kernel.put(A, via("192.0.2.66"), 205)
    drift = bench.fib_tables.route_changed(changed, bench.now, is_removed=False, is_replacing=True)
    assert drift is not None
    assert drift.what == "changed"
    bench.reconcile()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}
    assert bench.kernel.writes[-1].kind is OpKind.REPLACE


def test_a_silent_loss_is_found_by_a_dump(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.kernel.lose([A])
    bench.dump()
    bench.reconcile()
    assert A in bench.kernel.ours()
    assert bench.fib_tables.counts.repaired == 1


def test_a_refused_route_is_visible_retried_with_backoff_and_stops_nobody_else(
    bench: Bench,
) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, A, errno.ENETUNREACH, "Nexthop has invalid gateway")
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    bench.step()
    assert set(bench.kernel.ours()) == {B}
    assert bench.failure_of(A) == "Nexthop has invalid gateway (Network is unreachable)"
    assert bench.fib_tables.totals == (2, 1, 1, 0)
    assert bench.fib_tables.plan(bench.now) == [], "held back"
    assert bench.fib_tables.retry_at() < math.inf
    bench.now += 1
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, B}
    assert bench.failure_of(A) == ""
    assert bench.kernel.unconsumed == []


def test_backoff_doubles_up_to_a_minute(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    waits = []
    for _ in range(10):
        bench.kernel.refuse_next(OpKind.INSTALL, A, errno.ENETUNREACH)
        bench.step()
        retry_at = bench.fib_tables.retry_at()
        assert retry_at < math.inf
        waits.append(retry_at - bench.now)
        bench.now = retry_at
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) == 60.0


def test_a_link_event_retries_what_failed_at_once(bench: Bench) -> None:
    bench.kernel.down_links.add(2)
    bench.set_desired(A, via("192.0.2.1"))
    bench.step()
    assert bench.failure_of(A)
    bench.kernel.down_links.clear()
    bench.fib_tables.retry_everything()
    bench.reconcile()
    assert A in bench.kernel.ours()


def test_a_failure_is_reported_once_and_so_is_the_recovery(bench: Bench) -> None:
    bench.kernel.down_links.add(2)
    bench.set_desired(A, via("192.0.2.1"))
    bench.step()
    assert set(bench.fib_tables.pop_report(100).failures) == {A}
    bench.now += 10
    bench.step()
    assert bench.fib_tables.pop_report(100).failures == {}, "the same reason is no news"
    bench.kernel.down_links.clear()
    bench.now += 100
    bench.reconcile()
    assert bench.fib_tables.pop_report(100).recovered == (A,)


def test_what_went_with_its_link_waits_for_it_and_is_nobodys_doing(bench: Bench) -> None:
    bench.fib_tables.is_over_dead_link = lambda value: any(
        hop.ifindex in bench.kernel.down_links for hop in value.next_hops
    )
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    for _ in range(3):  # no matter how often within REPAIR_MEMORY_S
        bench.kernel.down_links.add(2)
        bench.kernel.lose([A])
        assert [entry.what for entry in bench.dump()] == ["deleted"]
        assert bench.planned() == [], "the kernel would only refuse it"
        assert bench.failure_of(A) == "its link is down"
        bench.fib_tables.retry_everything()
        assert bench.planned() == [], "another link changed"
        bench.kernel.down_links.clear()
        bench.fib_tables.retry_everything()
        bench.reconcile()
        assert A in bench.kernel.ours()
    assert bench.fib_tables.counts.repaired == 0
    assert bench.fib_tables.pop_changes().failures == {}, "the log has the link"


def test_what_went_with_its_link_goes_elsewhere_at_once(bench: Bench) -> None:
    bench.fib_tables.is_over_dead_link = lambda value: value.next_hops[0].ifindex == 2
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.kernel.lose([A])
    bench.dump()
    bench.set_desired(A, via("198.51.100.1", ifindex=3))
    assert bench.planned() == [OpKind.INSTALL]
    bench.reconcile()
    assert not bench.failure_of(A)


def test_a_failure_that_ends_before_it_is_reported_is_no_news(bench: Bench) -> None:
    bench.kernel.down_links.add(2)
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    bench.step()
    assert len(bench.fib_tables.pop_report(1).failures) == 1
    bench.kernel.down_links.clear()
    bench.fib_tables.retry_everything()
    bench.reconcile()
    report = bench.fib_tables.pop_report(100)
    assert (report.failures, report.recovered) == ({}, (A,)), "of B nobody has heard"


def test_a_removal_of_what_is_gone_already_counts_as_done(bench: Bench) -> None:
    bench.fib_tables.open_gate()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.kernel.lose([A])
    bench.withdraw(A)
    bench.reconcile()
    assert bench.fib_tables.plan(bench.now) == []
    assert bench.failure_of(A) == ""


def test_a_replace_of_what_is_gone_already_becomes_an_install(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.kernel.lose([A])
    bench.set_desired(A, via("192.0.2.2"))
    bench.reconcile()
    assert bench.kernel.ours() == {A: via("192.0.2.2")}


def test_ipv6_is_replaced_in_place_only_between_routes_through_gateways(bench: Bench) -> None:
    bench.set_desired(C, via("fe80::1"))
    bench.reconcile()
    bench.set_desired(C, via("fe80::1", "fe80::2"))
    assert bench.planned() == [OpKind.REPLACE]
    bench.reconcile()
    bench.set_desired(C, BLACKHOLE)
    kinds = bench.planned()
    assert kinds == [OpKind.REMOVE, OpKind.INSTALL]
    bench.reconcile()
    assert bench.kernel.ours() == {C: BLACKHOLE}


def test_wishes_of_a_dead_engine_hold_until_the_next_one_is_in_sync(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    bench.fib_tables.begin_session()
    (gone,) = bench.kernel.lose([A])
    bench.fib_tables.route_changed(gone, bench.now, is_removed=True)
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, B}, "defended while no engine runs"
    writes = len(bench.kernel.writes)
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    assert len(bench.kernel.writes) == writes
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A}


def test_a_changed_priority_moves_our_routes_to_the_new_keys(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    new = key("10.1.0.0/16", 300)
    bench.fib_tables.change_ownership(Ownership(205, 300, frozenset({254})))
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A}, "no packet is without a route meanwhile"
    bench.set_desired(new, via("192.0.2.1"))
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, new}
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {new}


def test_a_table_that_is_removed_is_emptied_once_the_engine_is_in_sync_without_it(
    bench: Bench,
) -> None:
    other = A._replace(table_id=100)
    bench.fib_tables.change_ownership(Ownership(205, A.priority, frozenset({254, 100})))
    for route in (A, other):
        bench.set_desired(route, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, other}
    bench.fib_tables.change_ownership(Ownership(205, A.priority, frozenset({254})))
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, other}
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A}


def test_routes_that_an_earlier_run_left_in_a_table_that_is_added_wait_for_the_engine(
    bench: Bench,
) -> None:
    left, stale = A._replace(table_id=100), B._replace(table_id=100)
    bench.fib_tables.open_gate()
    bench.reconcile()
    bench.fib_tables.change_ownership(Ownership(205, A.priority, frozenset({254, 100})))
    for route in (left, stale):
        bench.fib_tables.route_changed(
            KernelRoute(route, 205, via("192.0.2.1")), 0.0, is_removed=False
        )
    bench.reconcile()
    assert bench.fib_tables.stale_count == 2, "nothing is removed before the engine is in sync"
    bench.set_desired(left, via("192.0.2.1"))
    bench.reconcile()
    assert bench.fib_tables.stale_count == 1
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert bench.fib_tables.stale_count == 0


def test_a_priority_that_is_changed_back_keeps_the_routes(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    before = Ownership(205, A.priority, frozenset({254}))
    bench.fib_tables.change_ownership(Ownership(205, 300, frozenset({254})))
    bench.set_desired(key("10.1.0.0/16", 300), via("192.0.2.1"))
    bench.reconcile()
    bench.fib_tables.change_ownership(before)
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A}, "B was not requested again"


def test_an_engine_that_dies_during_a_move_leaves_no_old_route(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    new = key("10.1.0.0/16", 300)
    bench.fib_tables.change_ownership(Ownership(205, 300, frozenset({254})))
    bench.fib_tables.begin_session()
    bench.set_desired(new, via("192.0.2.1"))
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, new}
    bench.fib_tables.open_gate()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {new}


def test_a_daemon_that_stops_during_a_move_removes_both(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.reconcile()
    bench.fib_tables.change_ownership(Ownership(205, 300, frozenset({254})))
    bench.set_desired(key("10.1.0.0/16", 300), via("192.0.2.1"))
    bench.reconcile()
    bench.fib_tables.clear_desired()
    bench.reconcile()
    assert bench.kernel.ours() == {}


def test_decoupled_routes_leave_the_kernel_and_come_back_as_they_are_wanted_by_then(
    bench: Bench,
) -> None:
    for route in (A, B):
        bench.set_desired(route, via("192.0.2.1"))
    bench.reconcile()
    bench.fib_tables.decouple()
    bench.reconcile()
    assert bench.kernel.ours() == {}, "the gate keeps none of them: somebody asked for this"
    assert bench.fib_tables.totals[:2] == (2, 0)
    bench.withdraw(A)
    bench.set_desired(B, via("192.0.2.2"))
    bench.set_desired(C, BLACKHOLE)
    bench.reconcile()
    bench.dump()
    assert bench.kernel.ours() == {}
    bench.fib_tables.couple()
    bench.reconcile()
    assert bench.kernel.ours() == {B: via("192.0.2.2"), C: BLACKHOLE}


def test_what_a_dead_engine_wanted_while_decoupled_is_forgotten_at_the_next_gate(
    bench: Bench,
) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.fib_tables.decouple()
    bench.fib_tables.begin_session()
    bench.set_desired(B, via("192.0.2.1"))
    bench.fib_tables.open_gate()
    bench.fib_tables.couple()
    bench.reconcile()
    assert set(bench.kernel.ours()) == {B}


def test_wanting_nothing_removes_all_of_ours_and_nothing_else(bench: Bench) -> None:
    bench.kernel.put(B, via("192.0.2.1"), 12)
    bench.dump()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.fib_tables.clear_desired()
    bench.reconcile()
    assert set(bench.kernel.routes) == {B}


def test_routes_of_another_table_or_protocol_are_not_ours() -> None:
    other_table = A._replace(table_id=100).table_key
    assert not OURS.is_ours(other_table, 205)
    assert not OURS.is_ours(A.table_key, 4)
    assert not OURS.is_conflict(other_table, 4)
    assert OURS.is_conflict(A.table_key, 4)


def test_a_route_that_is_taken_away_again_and_again_is_put_back_ever_later(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    waits = []
    for _ in range(5):
        (gone,) = bench.kernel.lose([A])
        bench.fib_tables.route_changed(gone, bench.now, is_removed=True)
        retry_at = min(bench.fib_tables.retry_at(), bench.now + 1000)
        if not bench.planned():
            waits.append(retry_at - bench.now)
            assert "by another program" in bench.failure_of(A)
            bench.now = retry_at
        bench.reconcile()
        assert A in bench.kernel.ours()
        assert bench.failure_of(A) == ""
    assert waits == [0.5, 1.0, 2.0, 4.0]
    bench.now += 3600
    (gone,) = bench.kernel.lose([A])
    bench.fib_tables.route_changed(gone, bench.now, is_removed=True)
    assert bench.planned() == [OpKind.INSTALL], "long forgotten: at once"


def test_what_is_notified_during_a_dump_is_newer_than_the_dump(bench: Bench) -> None:
    bench.set_desired(A, via("192.0.2.1"))
    bench.set_desired(B, via("192.0.2.1"))
    bench.reconcile()

    def lose_one() -> None:
        (gone,) = bench.kernel.lose([A])
        bench.fib_tables.route_changed(gone, bench.now, is_removed=True)

    bench.kernel.during_dump = lose_one
    assert bench.dump() == [], "the notification has told it already"
    bench.reconcile()
    assert set(bench.kernel.ours()) == {A, B}
    assert bench.kernel.unconsumed == []


def test_a_route_that_the_kernel_will_not_remove_is_tried_again_at_the_next_dump(
    bench: Bench,
) -> None:
    bench.fib_tables.open_gate()
    bench.set_desired(A, via("192.0.2.1"))
    bench.reconcile()
    bench.withdraw(A)
    bench.kernel.refuse_next(OpKind.REMOVE, A, errno.EPERM)
    bench.reconcile()
    assert bench.planned() == [], "not at once"
    assert "cannot be removed" in bench.fib_tables.pop_changes().failures[A]
    bench.dump()
    bench.reconcile()
    assert bench.kernel.ours() == {}


def test_a_thousand_failures_delay_nobody_and_come_in_when_they_can(bench: Bench) -> None:
    bench.kernel.down_links.add(9)
    stuck = [key(f"10.{number >> 8}.{number & 255}.0/24") for number in range(1000)]
    for route in stuck:
        bench.set_desired(route, via("192.0.2.1", ifindex=9))
    bench.reconcile()
    assert bench.fib_tables.totals == (1000, 0, 1000, 0)
    writes = len(bench.kernel.writes)
    bench.set_desired(C, via("fe80::1"))
    bench.reconcile()
    assert len(bench.kernel.writes) == writes + 1
    bench.kernel.down_links.clear()
    bench.fib_tables.retry_everything()
    bench.reconcile()
    assert bench.fib_tables.totals == (1001, 1001, 0, 0)


@pytest.mark.parametrize(
    ("hops", "canonical"),
    [
        ([NextHop(None, 2, weight=7)], [NextHop(None, 2, weight=1)]),
        ([NextHop(None, 3), NextHop(None, 2)], [NextHop(None, 2), NextHop(None, 3)]),
        ([NextHop(None, 2), NextHop(None, 2)], [NextHop(None, 2)]),
    ],
)
def test_next_hops_take_the_form_that_the_kernel_reports(
    hops: list[NextHop], canonical: list[NextHop]
) -> None:
    value = RouteValue.canonical(RouteType.UNICAST, tuple(hops))
    assert value.next_hops == tuple(canonical)


def test_what_waits_for_a_gateway_costs_a_look_at_each_distinct_value(bench: Bench) -> None:
    """Ten thousand routes through two gateways are held up; a route that covers one appears."""
    bench.kernel.subnets = set()
    first, second = (
        RouteValue(RouteType.UNICAST, (NextHop(Address.parse(f"198.51.100.{last}"), 1),))
        for last in (1, 2)
    )
    keys = [Prefix.masked(Family.IPV4, number << 8, 24).as_int for number in range(1, 10_001)]
    values = [first, second] * 5000
    bench.fib_tables.set_desired(254, Family.IPV4, keys, values)
    while batches := bench.fib_tables.plan(bench.now):
        bench.fib_tables.record(batches, bench.kernel.apply(batches), bench.now)
    assert bench.fib_tables.failed_count == 10_000
    looks: list[RouteValue] = []

    def hops_of(value: RouteValue) -> tuple[NextHop, ...]:
        looks.append(value)
        return value.next_hops

    bench.fib_tables.retry_covered(lambda via: via == Address.parse("198.51.100.1"), hops_of)
    assert sorted(looks) == sorted([first, second])
    pending = bench.fib_tables.totals[0] - bench.fib_tables.totals[1]
    assert pending == 10_000
    again = bench.fib_tables.plan(bench.now, 20_000)
    assert sum(len(batch.keys) for batch in again) == 5000, "those that it concerns"


def test_what_appears_is_covered_by_its_length(bench: Bench) -> None:
    prefixes = LinkPrefixes()
    assert not prefixes
    for text in ("172.31.1.1/32", "10.0.0.0/8", "2001:db8:77::/48"):
        prefixes.add(Prefix.parse(text))
    covered = {"172.31.1.1", "10.200.0.1", "2001:db8:77::1"}
    others = {"172.31.1.2", "11.0.0.1", "2001:db8:78::1", "fe80::1"}
    found = {text for text in covered | others if prefixes.covers(Address.parse(text))}
    assert found == covered
    prefixes.clear()
    assert not prefixes
    assert not prefixes.covers(Address.parse("172.31.1.1"))


def test_more_than_can_be_remembered_covers_everything() -> None:
    prefixes = LinkPrefixes()
    for number in range(PREFIXES_MAX + 1):
        prefixes.add(Prefix.masked(Family.IPV4, number << 8, 24))
    assert prefixes.covers(Address.parse("203.0.113.1"))
    assert sum(map(len, prefixes._bits.values())) == PREFIXES_MAX
