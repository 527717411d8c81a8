"""Nexthop objects: ids, groups, what dies and what comes back, adoption and sweep."""

from __future__ import annotations

import errno
import math
import random

import pytest

from routed.fib.nexthops import table as nexthops
from routed.fib.nexthops.codec import Hop, NextHopKind, NextHopWrite, SeenNextHop
from routed.fib.nexthops.table import (
    BATCH_MEMBERS,
    IDS_PER_PROTOCOL,
    OBJECTS_MAX,
    SUSPECT_PAUSE_S,
    NexthopTable,
)
from routed.fib.nexthops.weights import reduced
from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.plan import KernelRefusal
from routed.model.prefix import Address, Family
from routed.model.route import NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel
from tests.fakes.operations import operations

A, B, C = (Hop(Address.parse(f"192.0.{number}.2"), number + 1) for number in range(3))
DONE = KernelRefusal(0, "")
LONG_AGO = -100.0


def route(*hops: Hop, weights: tuple[int, ...] = ()) -> RouteValue:
    """A route with gateways of its own."""
    next_hops = [
        NextHop(hop.via, hop.ifindex, weight, hop.is_onlink)
        for hop, weight in zip(hops, weights or (1,) * len(hops), strict=True)
    ]
    return RouteValue.canonical(RouteType.UNICAST, tuple(next_hops))


class Bench:
    """A book and a fake kernel."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.nexthop_table = NexthopTable(
            205, is_enabled=True, is_link_up=lambda ifindex: ifindex not in self.kernel.down_links
        )
        self.nexthop_table.read(self.kernel.dump_nexthops() or ())

    def work(self, now: float = 0.0) -> list[NextHopWrite]:
        """Carry out everything that is due."""
        done: list[NextHopWrite] = []
        while True:
            compared = self.nexthop_table.compare()
            writes = self.nexthop_table.plan(now, 3)
            if not compared and not writes:
                break
            self.nexthop_table.record(writes, self.kernel.write_nexthops(writes), now)
            done += writes
        return done

    def set_desired(self, *hops: Hop, weights: tuple[int, ...] = ()) -> int:
        value = self.nexthop_table.value_for(route(*hops, weights=weights))
        self.work()
        return value.nexthop_id

    def members(self, nexthop_id: int) -> set[Hop]:
        """What a group in the kernel resolves to."""
        form = self.kernel.objects[nexthop_id].form
        assert form is not None
        assert not isinstance(form, Hop)
        found = {self.kernel.objects[member].form for member, _ in form}
        return {hop for hop in found if isinstance(hop, Hop)}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_routes_with_equal_next_hops_share_one_object(bench: Bench) -> None:
    first = bench.nexthop_table.value_for(route(A, B))
    again = bench.nexthop_table.value_for(route(B, A))
    assert first is again
    assert first.next_hops == ()
    assert first.nexthop_id // IDS_PER_PROTOCOL == 205
    assert bench.nexthop_table.value_for(route(A, B, weights=(2, 1))) != first
    assert bench.nexthop_table.value_for(route(A)) != first


def test_members_are_written_before_their_group(bench: Bench) -> None:
    bench.set_desired(A, B, C)
    kinds = [isinstance(write.form, Hop) for write in bench.kernel.object_writes]
    assert kinds == [True, True, True, False]
    assert bench.work() == [], "nothing is written twice"


@pytest.mark.parametrize(
    "value",
    [
        RouteValue(RouteType.BLACKHOLE, ()),
        RouteValue(RouteType.UNICAST, (NextHop(None, 1),)),
        RouteValue(RouteType.UNICAST, (NextHop(None, 1), NextHop(A.via, 2))),
    ],
)
def test_routes_without_gateways_go_without_an_object(bench: Bench, value: RouteValue) -> None:
    assert bench.nexthop_table.value_for(value) is value


def test_off_means_that_routes_keep_their_next_hops() -> None:
    nexthop_table = NexthopTable(205, is_enabled=False, is_link_up=lambda _ifindex: True)
    assert nexthop_table.value_for(route(A, B)) == route(A, B)


def test_beyond_the_limit_routes_keep_their_next_hops(bench: Bench) -> None:
    hops = [Hop(Address.parse(f"10.{n >> 8}.{n & 255}.1"), 1) for n in range(OBJECTS_MAX + 1)]
    values = [bench.nexthop_table.value_for(route(hop)) for hop in hops]
    assert all(value.nexthop_id for value in values[:OBJECTS_MAX])
    assert values[-1] == route(hops[-1])
    assert bench.nexthop_table.value_for(route(hops[0])).nexthop_id, "what has an object keeps it"


def test_a_suspected_next_hop_leaves_every_group_that_has_others(bench: Bench) -> None:
    both, three, alone, other = (
        bench.set_desired(A, B), bench.set_desired(A, B, C), bench.set_desired(A),
        bench.set_desired(B, C),
    )  # fmt: skip
    assert bench.nexthop_table.begin_verification([(A.via, A.ifindex)], 0.0)
    writes = bench.work()
    assert {write.id for write in writes} == {both, three}
    assert {write.kind for write in writes} == {NextHopKind.REPLACE}
    assert bench.members(both) == {B}
    assert bench.members(three) == {B, C}
    assert bench.kernel.objects[alone].form == A, "a route with nowhere else to go keeps it"
    assert bench.members(other) == {B, C}


def test_naming_a_next_hop_a_thousand_times_costs_as_much_as_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A taken-over engine names one next hop of large groups over and over, in one message."""
    groups = [bench.set_desired(A, B, weights=(weight, 1)) for weight in range(1, 51)]
    compared: list[int] = []
    evaluate = bench.nexthop_table._evaluate

    def counting(nexthop_id: int) -> None:
        compared.append(nexthop_id)
        evaluate(nexthop_id)

    monkeypatch.setattr(bench.nexthop_table, "_evaluate", counting)
    hop = (A.via, A.ifindex)
    assert bench.nexthop_table.begin_verification([hop] * 1000, 0.0)
    assert sorted(compared) == groups
    compared.clear()
    bench.nexthop_table.begin_verification([hop] * 1000, 0.0)
    assert compared == [], "it is suspected already"
    assert bench.work()
    assert all(bench.members(group) == {B} for group in groups)
    compared.clear()
    bench.nexthop_table.lift(bench.nexthop_table.suspicions, LONG_AGO)
    assert sorted(compared) == groups


def test_what_was_lifted_a_moment_ago_is_not_suspected_again(bench: Bench) -> None:
    """Each time all its groups are written twice, for a message of thirty bytes."""
    group = bench.set_desired(A, B)
    hop = (A.via, A.ifindex)
    for now in (0.0, 0.5, 0.9):
        assert bench.nexthop_table.begin_verification([hop], now) is (now == 0.0)
        bench.work()
        assert bench.members(group) == ({B} if now == 0.0 else {A, B})
        bench.nexthop_table.lift(bench.nexthop_table.suspicions, 0.0)
        bench.work()
    assert bench.nexthop_table.begin_verification([hop], SUSPECT_PAUSE_S)


def test_large_groups_are_written_few_at_a_time(bench: Bench) -> None:
    """Each member costs the kernel time, in which the parent waits."""
    many = [Hop(Address.parse(f"10.0.{n >> 8}.{n & 255}"), 1) for n in range(300)]
    groups = [
        bench.nexthop_table.value_for(route(A, *many[first:])).nexthop_id for first in range(20)
    ]
    assert all(groups)
    bench.work()
    bench.nexthop_table.begin_verification([(A.via, A.ifindex)], 0.0)
    left = set(groups)
    while left:
        bench.nexthop_table.compare()
        writes = bench.nexthop_table.plan_regroup(0.0, 400)
        members = [len(write.form) for write in writes if not isinstance(write.form, Hop)]
        assert 0 < sum(members) <= BATCH_MEMBERS
        bench.nexthop_table.record(writes, [DONE] * len(writes), 0.0)
        left -= {write.id for write in writes}
    assert bench.nexthop_table.plan_regroup(0.0, 400) == []


def groups_with_a(bench: Bench, count: int) -> None:
    """So many groups of 300 members, A among them."""
    many = [Hop(Address.parse(f"10.0.{n >> 8}.{n & 255}"), 1) for n in range(300)]
    for first in range(count):
        assert bench.nexthop_table.value_for(route(A, *many[first:])).nexthop_id
    bench.work()


def test_a_message_about_a_next_hop_of_all_groups_costs_a_batch_of_them() -> None:
    """Each group was compared in the turn in which the message came, as often as it came."""
    costs = []
    for count in (8, 32):
        bench = Bench()
        groups_with_a(bench, count)
        table, hop = bench.nexthop_table, (A.via, A.ifindex)
        suspected = operations(lambda: table.begin_verification([hop], 0.0))  # noqa: B023 called at once
        bench.work()
        lifted = operations(lambda: table.lift(table.suspicions, 0.0))  # noqa: B023 the same
        assert table.retry_at() == -math.inf, "the others are compared in turns of their own"
        costs.append((suspected, lifted))
        bench.work()
        assert table.retry_at() == math.inf
    (few_suspected, few_lifted), (suspected, lifted) = costs
    assert suspected < 1.2 * few_suspected
    assert lifted < 1.2 * few_lifted


def test_members_of_all_groups_together_have_a_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bounds what one next hop that dies can cost: a look at every member of its groups."""
    monkeypatch.setattr(nexthops, "MEMBERS_MAX", 5)
    first, second = bench.set_desired(A, B), bench.set_desired(A, B, C)
    assert first
    assert second
    third = route(A, C)
    assert bench.nexthop_table.value_for(third) == third, "its routes keep next hops of their own"
    assert bench.set_desired(A, B) == first, "what has an object keeps it"
    bench.nexthop_table.record(
        writes := bench.nexthop_table.plan_sweep({second}), [DONE] * len(writes), 0.0
    )
    assert bench.nexthop_table.value_for(third).nexthop_id, "there is room again"


def test_what_no_object_stands_for_any_more_is_suspected_no_longer(bench: Bench) -> None:
    bench.set_desired(A, B)
    bench.nexthop_table.begin_verification([(A.via, A.ifindex)], 0.0)
    bench.work()
    bench.nexthop_table.record(
        writes := bench.nexthop_table.plan_sweep(set()), [DONE] * len(writes), 0.0
    )
    assert not bench.nexthop_table._to_verify


def test_a_lift_ends_what_was_suspected_before_it_and_nothing_later(bench: Bench) -> None:
    group = bench.set_desired(A, B, C)
    bench.nexthop_table.begin_verification([(A.via, A.ifindex)], 0.0)
    until_here = bench.nexthop_table.suspicions
    bench.nexthop_table.begin_verification([(B.via, B.ifindex)], 0.0)
    bench.nexthop_table.lift(until_here, LONG_AGO)
    bench.work()
    assert bench.members(group) == {A, C}
    bench.nexthop_table.lift(bench.nexthop_table.suspicions, LONG_AGO)
    bench.work()
    assert bench.members(group) == {A, B, C}


def test_a_group_never_becomes_empty(bench: Bench) -> None:
    group = bench.set_desired(A, B)
    bench.nexthop_table.begin_verification([(A.via, A.ifindex), (B.via, B.ifindex)], 0.0)
    bench.work()
    assert bench.members(group) == {A, B}


def test_a_link_that_comes_back_comes_back_into_its_groups(bench: Bench) -> None:
    group = bench.set_desired(A, B)
    bench.kernel.set_link(A.ifindex, is_up=False)
    bench.nexthop_table.read(bench.kernel.dump_nexthops() or ())
    bench.nexthop_table.links_changed()
    bench.work()
    assert bench.members(group) == {B}
    assert bench.nexthop_table.plan(0.0, 9) == [], "A is tried again later, not at once"
    bench.kernel.set_link(A.ifindex, is_up=True)
    bench.nexthop_table.links_changed()
    bench.work()
    assert bench.members(group) == {A, B}


def test_what_the_kernel_refuses_waits_ever_longer_and_says_why(bench: Bench) -> None:
    bench.kernel.down_links.add(A.ifindex)
    nexthop_id = bench.set_desired(A)
    failure = bench.nexthop_table.failure_of(nexthop_id)
    assert failure is not None
    assert failure.text == "Nexthop device is not up (Network is down)"
    assert [len(bench.work(now)) for now in (0.4, 0.5, 1.4, 1.5, 3.4, 3.5)] == [0, 1, 0, 1, 0, 1]
    bench.kernel.down_links.clear()
    bench.nexthop_table.links_changed()
    writes = bench.nexthop_table.plan(3.5, 9)
    assert bench.nexthop_table.record(writes, bench.kernel.write_nexthops(writes), 3.5), (
        "it has recovered"
    )
    assert bench.nexthop_table.failure_of(nexthop_id) is None


def test_an_id_that_another_protocol_occupies_is_refused_with_that_protocol(bench: Bench) -> None:
    nexthop_id = bench.set_desired(A)
    bench.nexthop_table.read(())
    seen = bench.kernel.put_object(nexthop_id, B, 12)
    assert bench.work(), "before the notification has come"
    bench.nexthop_table.changed(seen, is_removed=False)
    bench.work(1.0)
    failure = bench.nexthop_table.failure_of(nexthop_id)
    assert failure is not None
    assert f"nexthop {nexthop_id} has another owner (protocol 12)" in failure.text


def test_a_group_says_which_member_is_to_blame(bench: Bench) -> None:
    bench.kernel.set_link(A.ifindex, is_up=False)
    bench.kernel.set_link(B.ifindex, is_up=False)
    group = bench.set_desired(A, B)
    failure = bench.nexthop_table.failure_of(group)
    assert failure is not None
    assert failure.errno == errno.ENETDOWN


def test_what_an_earlier_life_left_is_given_to_the_same_next_hops_again(bench: Bench) -> None:
    ids = bench.set_desired(A, B), bench.set_desired(C), bench.set_desired(B, C, weights=(3, 1))
    later = Bench(bench.kernel)
    before = len(bench.kernel.object_writes)
    assert (
        later.set_desired(A, B),
        later.set_desired(C),
        later.set_desired(B, C, weights=(3, 1)),
    ) == ids
    assert len(bench.kernel.object_writes) == before
    fresh = later.set_desired(A, C)
    assert fresh not in ids


def test_the_legs_of_an_earlier_lifes_objects_are_told_by_their_ids(bench: Bench) -> None:
    group, single = bench.set_desired(A, B), bench.set_desired(C)
    later = Bench(bench.kernel)
    assert later.nexthop_table.next_hops_of([group]) == {(hop.via, hop.ifindex) for hop in (A, B)}
    assert later.nexthop_table.next_hops_of([single, 1]) == {(C.via, C.ifindex)}


def test_what_no_route_uses_is_swept_groups_first(bench: Bench) -> None:
    kept, gone = bench.set_desired(A, B), bench.set_desired(B, C)
    writes = bench.nexthop_table.plan_sweep({kept})
    assert writes[0].id == gone
    assert len(writes) == 2, "the group, and C; B is in use"
    bench.nexthop_table.record(writes, bench.kernel.write_nexthops(writes), 0.0)
    assert {entry.form for entry in bench.kernel.objects.values()} >= {A, B}
    assert gone not in bench.kernel.objects
    assert C not in {entry.form for entry in bench.kernel.objects.values()}
    assert bench.set_desired(B, C), "and may be wanted again"


def test_foreign_objects_are_never_touched(bench: Bench) -> None:
    bench.kernel.put_object(205_000_001, A, 12)
    bench.kernel.put_object(7, A, 205)
    bench.nexthop_table.read(bench.kernel.dump_nexthops() or ())
    assert bench.set_desired(A) not in (7, 205_000_001)
    assert [write.id for write in bench.nexthop_table.plan_sweep(set())] == [205_000_002]


def test_a_change_by_somebody_else_is_put_right(bench: Bench) -> None:
    group = bench.set_desired(A, B)
    seen = bench.kernel.put_object(group, ((bench.set_desired(C), 1),), 205)
    assert not bench.nexthop_table.changed(seen, is_removed=False)
    assert [write.kind for write in bench.work()] == [NextHopKind.REPLACE]
    assert bench.members(group) == {A, B}


@pytest.mark.parametrize("protocol", [0, 99])
@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "found by a dump"])
def test_a_claimed_object_that_is_somebody_elses_by_now_is_put_back(
    bench: Bench, protocol: int, is_noticed: bool
) -> None:
    single, group = bench.set_desired(A), bench.set_desired(A, B)
    other = bench.set_desired(C)
    for seen in (
        bench.kernel.put_object(single, C, protocol),
        bench.kernel.put_object(group, ((other, 1),), protocol),
    ):
        if is_noticed:
            assert not bench.nexthop_table.changed(seen, is_removed=False)
    if not is_noticed:
        bench.nexthop_table.read(bench.kernel.dump_nexthops() or ())
    assert [(write.kind, write.id) for write in bench.work()] == [
        (NextHopKind.REPLACE, single),
        (NextHopKind.REPLACE, group),
    ]
    assert bench.kernel.objects[single] == SeenNextHop(single, 205, A)
    assert bench.kernel.objects[group].protocol == 205
    assert bench.members(group) == {A, B}
    assert [(seen.id, seen.protocol) for seen in bench.nexthop_table.popped_changes] == [
        (single, protocol),
        (group, protocol),
    ]


def test_an_object_of_an_earlier_life_that_is_somebody_elses_by_now_is_left_alone(
    bench: Bench,
) -> None:
    single = bench.set_desired(A)
    later = Bench(bench.kernel)
    seen = bench.kernel.put_object(single, C, 99)
    later.nexthop_table.changed(seen, is_removed=False)
    assert later.set_desired(A) != single
    assert later.nexthop_table.plan_sweep(set()) != []
    assert single not in {write.id for write in later.nexthop_table.plan_sweep(set())}
    assert bench.kernel.objects[single] == seen


def test_a_removal_by_somebody_else_may_have_taken_routes_along(bench: Bench) -> None:
    group, single = bench.set_desired(A, B), bench.set_desired(A)
    for seen in bench.kernel.remove_objects([single]):
        assert bench.nexthop_table.changed(seen, is_removed=True)
    bench.nexthop_table.changed(bench.kernel.objects[group], is_removed=False)
    bench.work()
    assert bench.members(group) == {A, B}
    assert not bench.nexthop_table.changed(SeenNextHop(7, 12, A), is_removed=True), "not ours"


def test_the_kernel_has_what_is_wanted_whatever_happens() -> None:
    """Any sequence of events, then quiet: each claimed group has all members that are alive."""
    for seed in range(30):
        rng = random.Random(seed)
        bench = Bench()
        hops = [Hop(Address.parse(f"192.0.{n}.2"), n + 1) for n in range(5)]
        desired: dict[int, frozenset[Hop]] = {}
        for step in range(60):
            now = step * 100.0
            match rng.randrange(6):
                case 0 | 1:
                    chosen = rng.sample(hops, rng.randint(2, 4))
                    value = bench.nexthop_table.value_for(route(*chosen))
                    desired[value.nexthop_id] = frozenset(chosen)
                case 2:
                    ifindex = rng.randint(1, 5)
                    bench.kernel.set_link(ifindex, is_up=ifindex in bench.kernel.down_links)
                    bench.nexthop_table.read(bench.kernel.dump_nexthops() or ())
                    bench.nexthop_table.links_changed()
                case 3:
                    hop = rng.choice(hops)
                    bench.nexthop_table.begin_verification([(hop.via, hop.ifindex)], 0.0)
                case 4:
                    bench.nexthop_table.lift(bench.nexthop_table.suspicions, LONG_AGO)
                case 5:
                    for nexthop_id in list(desired)[:1]:
                        if nexthop_id in bench.kernel.objects:
                            for seen in bench.kernel.remove_objects([nexthop_id]):
                                bench.nexthop_table.changed(seen, is_removed=True)
            bench.work(now)
        bench.kernel.down_links.clear()
        bench.nexthop_table.lift(bench.nexthop_table.suspicions, LONG_AGO)
        bench.nexthop_table.links_changed()
        bench.work(1e9)
        for nexthop_id, members in desired.items():
            assert bench.members(nexthop_id) == members, seed


@pytest.mark.parametrize(
    ("weights", "limit", "expected"),
    [
        ((1, 256), 256, (1, 256)),
        ((256, 256), 255, (1, 1)),
        ((256, 128), 255, (2, 1)),
        ((256, 255), 255, (255, 254)),
        ((256, 1), 255, (255, 1)),
        ((), 255, ()),
    ],
)
def test_weights_are_reduced_to_what_a_kernel_takes(
    weights: tuple[int, ...], limit: int, expected: tuple[int, ...]
) -> None:
    assert reduced(weights, limit) == expected


def test_a_kernel_that_refuses_the_greatest_weight_is_given_smaller_ones(bench: Bench) -> None:
    """Linux before 6.12 takes at most 255 in a nexthop group."""
    bench.kernel.weight_max = 255
    group = bench.set_desired(A, B, weights=(256, 128))
    assert bench.kernel.objects[group].form == ((group - 2, 2), (group - 1, 1))
    assert bench.nexthop_table.failure_of(group) is None
    writes = len(bench.kernel.object_writes)
    other = bench.set_desired(A, B, weights=(256, 1))
    assert bench.kernel.objects[other].form == ((group - 2, 255), (group - 1, 1))
    assert len(bench.kernel.object_writes) == writes + 1, "it is known by now"
    assert [state.problem for state in bench.nexthop_table.states_after(0)] == ["", "", "", ""]


def test_a_refusal_for_another_reason_does_not_reduce_weights(bench: Bench) -> None:
    bench.kernel.down_links = {A.ifindex, B.ifindex}
    bench.set_desired(A, B, weights=(256, 1))
    assert bench.nexthop_table.weight_limit == 256


def test_an_ipv6_route_over_several_links_alone_is_a_group(bench: Bench) -> None:
    hops = RouteValue.canonical(RouteType.UNICAST, (NextHop(None, 1), NextHop(None, 2)))
    assert bench.nexthop_table.value_for(hops, Family.IPV4) is hops, "IPv4 takes it as it is"
    value = bench.nexthop_table.value_for(hops, Family.IPV6)
    bench.work()
    assert bench.members(value.nexthop_id) == {Hop(None, 1), Hop(None, 2)}
    assert bench.nexthop_table.is_link_route(value.nexthop_id)


def test_links_alone_are_written_before_gateways_and_groups_last(bench: Bench) -> None:
    hops = RouteValue.canonical(
        RouteType.UNICAST, (NextHop(Address.parse("fe80::2"), 1), NextHop(None, 2))
    )
    bench.nexthop_table.value_for(hops, Family.IPV6)
    forms = [write.form for write in bench.work()]
    assert forms[:2] == [Hop(None, 2), Hop(Address.parse("fe80::2"), 1)]
    assert len(forms) == 3


def test_an_object_whose_gateway_was_our_own_address_is_written_again(bench: Bench) -> None:
    single = bench.set_desired(A)
    bench.kernel.put_object(single, A, 205, is_gateway_unused=True)
    bench.nexthop_table.read(bench.kernel.dump_nexthops() or ())
    (write,) = bench.work()
    assert (write.kind, write.form) == (NextHopKind.REPLACE, A)
    assert bench.kernel.objects[single] == SeenNextHop(single, 205, A)


def test_objects_are_written_again_when_their_gateway_is_our_own_address_no_longer(
    bench: Bench,
) -> None:
    first, other = bench.set_desired(A), bench.set_desired(B)
    assert A.via is not None
    bench.nexthop_table.rewrite({A.via})
    assert [write.id for write in bench.work()] == [first]
    assert bench.kernel.objects[other].form == B


def test_a_gateway_that_becomes_reachable_is_tried_at_once_and_its_group_with_it(
    bench: Bench,
) -> None:
    assert A.via is not None
    assert B.via is not None
    bench.kernel.subnets = {(B.via.host_prefix(), B.ifindex)}
    group = bench.set_desired(A, B)
    assert bench.members(group) == {B}, "the group goes without what is refused"
    bench.kernel.subnets.add((A.via.host_prefix(), A.ifindex))
    bench.nexthop_table.retry_covered(lambda via: via == B.via)
    assert bench.work() == [], "what has not changed waits"
    bench.nexthop_table.retry_covered(lambda via: via == A.via)
    bench.work()
    assert bench.members(group) == {A, B}


def test_the_pause_is_not_doubled_from_flap_to_flap(bench: Bench) -> None:
    assert A.via is not None
    bench.kernel.subnets = set()
    bench.set_desired(A)
    for flap in range(5):
        bench.nexthop_table.links_changed()
        bench.work(now := 100.0 * flap)
        assert bench.nexthop_table.retry_at() == now + 0.5


def test_a_group_of_which_every_member_is_refused_has_their_reason(bench: Bench) -> None:
    bench.kernel.subnets = set()
    group = bench.set_desired(A, B)
    assert group not in bench.kernel.objects
    outcome = bench.nexthop_table.failure_of(group)
    assert outcome is not None
    assert "invalid gateway" in outcome.detail
    assert bench.nexthop_table.retry_at() == 0.5


def test_groups_that_share_a_refused_member_are_compared_once_a_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of many members, all of which are refused."""
    bench.kernel.subnets = set()
    hops = [Hop(Address.parse(f"10.0.0.{n}"), 1) for n in range(1, 41)]
    for weight in range(1, 11):
        bench.nexthop_table.value_for(route(*hops, weights=(weight, *(1,) * 39)))
    compared: list[int] = []
    evaluate = bench.nexthop_table._evaluate

    def counting(nexthop_id: int) -> None:
        compared.append(nexthop_id)
        evaluate(nexthop_id)

    monkeypatch.setattr(bench.nexthop_table, "_evaluate", counting)
    writes = bench.nexthop_table.plan(0.0, 400)
    bench.nexthop_table.record(writes, bench.kernel.write_nexthops(writes), 0.0)
    assert len(compared) == 10
