"""The ledger alone: every row of the failure table, in virtual time, against the fake kernel."""

from __future__ import annotations

import errno

import pytest
import trio

from routed.fib.ledger import Ledger
from routed.fib.ownership import KernelRoute, Ownership, RouteKey, RouteValue
from routed.fib.plan import OpKind
from routed.model.prefix import Address, Prefix
from routed.model.route import NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel

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
        self.ledger = Ledger(OURS)
        self.kernel = FakeKernel()
        self.now = 100.0

    def dump(self) -> None:
        routes = trio.run(self.kernel.dump_routes, 254)
        self.ledger.dumped(routes)

    def step(self) -> bool:
        """Plan, apply and record once; returns whether the book agreed with the kernel."""
        operations = self.ledger.plan(self.now)
        outcomes = trio.run(self.kernel.apply, operations)
        agrees = [
            self.ledger.record(operation, outcome, self.now)
            for operation, outcome in zip(operations, outcomes, strict=True)
        ]
        return all(agrees)

    def settle(self) -> None:
        for _ in range(10):
            if not self.ledger.plan(self.now):
                return
            if not self.step():
                self.dump()
        pytest.fail("the ledger never settles")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_wanted_routes_are_installed_and_a_second_round_writes_nothing(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.ledger.set_desired(C, BLACKHOLE)
    bench.settle()
    assert bench.kernel.ours() == {A: via("192.0.2.1"), C: BLACKHOLE}
    writes = len(bench.kernel.writes)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    assert len(bench.kernel.writes) == writes


def test_set_unset_set_same_before_apply_costs_no_write(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    writes = len(bench.kernel.writes)
    bench.ledger.set_desired(A, via("192.0.2.9"))
    bench.ledger.delete_desired(A)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    assert len(bench.kernel.writes) == writes


def test_equal_leftovers_are_adopted_without_a_write_and_stale_ones_wait_for_the_gate(
    bench: Bench,
) -> None:
    bench.kernel.put(A, via("192.0.2.1"), 205)
    bench.kernel.put(B, via("192.0.2.1"), 205)
    bench.dump()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    assert bench.kernel.writes == []
    assert set(bench.kernel.ours()) == {A, B}, "nothing is swept before the gate"
    bench.ledger.open_gate()
    bench.settle()
    assert set(bench.kernel.ours()) == {A}
    assert (bench.ledger.counts.adopted, bench.ledger.counts.swept) == (1, 1)


def test_a_dump_that_comes_after_the_wish_adopts_too(bench: Bench) -> None:
    bench.kernel.put(A, via("192.0.2.1"), 205)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.dump()
    bench.settle()
    assert bench.kernel.writes == []
    assert bench.ledger.counts.adopted == 1


def test_additions_come_before_removals(bench: Bench) -> None:
    bench.ledger.open_gate()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.ledger.delete_desired(A)
    bench.ledger.set_desired(B, via("192.0.2.1"))
    kinds = [operation.kind for operation in bench.ledger.plan(bench.now)]
    assert kinds == [OpKind.INSTALL, OpKind.REMOVE]


def test_a_foreign_route_is_never_touched_and_its_key_is_reported(bench: Bench) -> None:
    foreign = bench.kernel.put(A, via("192.0.2.99"), 12)
    bench.dump()
    bench.ledger.open_gate()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    assert bench.kernel.routes[A] == foreign
    assert "protocol bird" in bench.ledger.failure_of(A)
    assert bench.kernel.writes == []


def test_our_route_goes_in_as_soon_as_the_foreign_one_leaves(bench: Bench) -> None:
    foreign = bench.kernel.put(A, via("192.0.2.99"), 12)
    bench.dump()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.kernel.lose([A])
    bench.ledger.route_changed(foreign, is_removed=True)
    bench.settle()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}


def test_a_foreign_route_that_beats_us_to_the_key_is_found_by_reading_again(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.kernel.put(A, via("192.0.2.99"), 12)  # unnoticed yet
    assert not bench.step(), "EEXIST contradicts the book"
    bench.dump()
    bench.settle()
    assert "protocol bird" in bench.ledger.failure_of(A)
    assert bench.kernel.routes[A].protocol == 12


def test_a_route_deleted_by_hand_comes_back(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    (gone,) = bench.kernel.lose([A])
    drift = bench.ledger.route_changed(gone, is_removed=True)
    assert drift is not None
    assert drift.what == "deleted"
    bench.settle()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}
    assert bench.ledger.counts.repaired == 1


def test_a_route_changed_by_hand_is_replaced(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    changed = bench.kernel.put(A, via("192.0.2.66"), 205)
    drift = bench.ledger.route_changed(changed, is_removed=False)
    assert drift is not None
    assert drift.what == "changed"
    bench.settle()
    assert bench.kernel.ours() == {A: via("192.0.2.1")}
    assert bench.kernel.writes[-1].kind is OpKind.REPLACE


def test_a_silent_loss_is_found_by_a_dump(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.kernel.lose([A])
    bench.dump()
    bench.settle()
    assert A in bench.kernel.ours()
    assert bench.ledger.counts.repaired == 1


def test_a_refused_route_is_visible_retried_with_backoff_and_stops_nobody_else(
    bench: Bench,
) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, A, errno.ENETUNREACH, "Nexthop has invalid gateway")
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.ledger.set_desired(B, via("192.0.2.1"))
    bench.step()
    assert set(bench.kernel.ours()) == {B}
    assert bench.ledger.failure_of(A) == "Nexthop has invalid gateway (Network is unreachable)"
    assert bench.ledger.totals == (2, 1, 1, 0)
    assert bench.ledger.plan(bench.now) == [], "held back"
    assert bench.ledger.retry_at() is not None
    bench.now += 1
    bench.settle()
    assert set(bench.kernel.ours()) == {A, B}
    assert bench.ledger.failure_of(A) == ""
    assert bench.kernel.unconsumed == []


def test_backoff_doubles_up_to_a_minute(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    waits = []
    for _ in range(10):
        bench.kernel.refuse_next(OpKind.INSTALL, A, errno.ENETUNREACH)
        bench.step()
        retry_at = bench.ledger.retry_at()
        assert retry_at is not None
        waits.append(retry_at - bench.now)
        bench.now = retry_at
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) == 60.0


def test_a_link_event_retries_what_failed_at_once(bench: Bench) -> None:
    bench.kernel.down_links.add(2)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.step()
    assert bench.ledger.failure_of(A)
    bench.kernel.down_links.clear()
    bench.ledger.something_changed()
    bench.settle()
    assert A in bench.kernel.ours()


def test_a_failure_is_reported_once_and_so_is_the_recovery(bench: Bench) -> None:
    bench.kernel.down_links.add(2)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.step()
    assert set(bench.ledger.take_report().failures) == {A}
    bench.now += 10
    bench.step()
    assert bench.ledger.take_report().failures == {}, "the same reason is no news"
    bench.kernel.down_links.clear()
    bench.now += 100
    bench.settle()
    assert bench.ledger.take_report().recovered == (A,)


def test_a_removal_of_what_is_gone_already_counts_as_done(bench: Bench) -> None:
    bench.ledger.open_gate()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.kernel.lose([A])
    bench.ledger.delete_desired(A)
    bench.settle()
    assert bench.ledger.plan(bench.now) == []
    assert bench.ledger.failure_of(A) == ""


def test_a_replace_of_what_is_gone_already_becomes_an_install(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.kernel.lose([A])
    bench.ledger.set_desired(A, via("192.0.2.2"))
    bench.settle()
    assert bench.kernel.ours() == {A: via("192.0.2.2")}


def test_ipv6_is_replaced_in_place_only_between_routes_through_gateways(bench: Bench) -> None:
    bench.ledger.set_desired(C, via("fe80::1"))
    bench.settle()
    bench.ledger.set_desired(C, via("fe80::1", "fe80::2"))
    assert [operation.kind for operation in bench.ledger.plan(bench.now)] == [OpKind.REPLACE]
    bench.settle()
    bench.ledger.set_desired(C, BLACKHOLE)
    kinds = [operation.kind for operation in bench.ledger.plan(bench.now)]
    assert kinds == [OpKind.REMOVE, OpKind.INSTALL]
    bench.settle()
    assert bench.kernel.ours() == {C: BLACKHOLE}


def test_wishes_of_a_dead_engine_hold_until_the_next_one_is_in_sync(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.ledger.set_desired(B, via("192.0.2.1"))
    bench.ledger.open_gate()
    bench.settle()
    bench.ledger.begin_session()
    (gone,) = bench.kernel.lose([A])
    bench.ledger.route_changed(gone, is_removed=True)
    bench.settle()
    assert set(bench.kernel.ours()) == {A, B}, "defended while no engine runs"
    writes = len(bench.kernel.writes)
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    assert len(bench.kernel.writes) == writes
    bench.ledger.open_gate()
    bench.settle()
    assert set(bench.kernel.ours()) == {A}


def test_a_changed_priority_moves_our_routes_to_the_new_keys(bench: Bench) -> None:
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.ledger.open_gate()
    bench.settle()
    bench.ledger.change_ownership(Ownership(205, 300, frozenset({254})))
    bench.ledger.set_desired(key("10.1.0.0/16", 300), via("192.0.2.1"))
    bench.settle()
    assert set(bench.kernel.ours()) == {key("10.1.0.0/16", 300)}


def test_wanting_nothing_removes_all_of_ours_and_nothing_else(bench: Bench) -> None:
    bench.kernel.put(B, via("192.0.2.1"), 12)
    bench.dump()
    bench.ledger.set_desired(A, via("192.0.2.1"))
    bench.settle()
    bench.ledger.want_nothing()
    bench.settle()
    assert set(bench.kernel.routes) == {B}


def test_routes_of_another_table_or_protocol_are_not_ours() -> None:
    other_table = KernelRoute(A._replace(table_id=100), 205, BLACKHOLE)
    other_protocol = KernelRoute(A, 4, BLACKHOLE)
    assert not OURS.is_ours(other_table)
    assert not OURS.is_ours(other_protocol)
    assert not OURS.is_rival(other_table)
    assert OURS.is_rival(other_protocol)


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
