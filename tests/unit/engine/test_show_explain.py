"""Explanation of a route: winner, losers by rule, prefixes around, the trie's path."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, cast

import pytest

from routed.control.views import NextHopView, RouteView
from routed.engine.router import Router
from routed.engine.show.explain import WAITING_MAX, explain
from routed.engine.tracking import LivenessTracking
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import DEFAULT_DISTANCE, Gateway, Route, RouteSource, RouteType
from routed.nup.events import LearnedRow
from routed.rib.table import Candidate, Rib
from routed.snapshot.trace import describe
from routed.snapshot.writer import FibSnapshot
from tests.fakes.trie_search import lookup
from tests.unit.engine.test_probe_states import DOWN, UPLINK

ROUTER_ID = Address.parse("10.255.0.1")


class FakeRouter:
    """The parts of a router that are read."""

    def __init__(self) -> None:
        self.rib = Rib(lambda: 0.0)
        self.neighbors = self
        log = Logger(cast("Any", None), "engine", Level.ERROR)
        self.tracking = LivenessTracking(
            self.rib, cast("Any", None), {}, log, lambda: 100.0, lambda: None
        )
        self.waiting: list[LearnedRow] = []
        self.snapshot = FibSnapshot(ROUTER_ID, 1, trie_words=1 << 20, data_words=1 << 16)

    def install(self, prefix: str, source: RouteSource, **fields: object) -> None:
        values = {"type": RouteType.BLACKHOLE, "distance": DEFAULT_DISTANCE[source], **fields}
        self.rib.install(Route(Prefix.parse(prefix), source, **values))  # type: ignore[arg-type]

    def waiting_for(self, address: Address) -> list[LearnedRow]:
        """Like the method of NUP's instance."""
        return [row for row in self.waiting if row.prefix.contains_address(address)]

    def ifname_of(self, ifindex: int) -> str:
        """Like the method of the router."""
        return f"eth{ifindex}"

    def select_and_acknowledge(self) -> Router:
        self.snapshot.apply(self.rib.process(), str, 0)
        return self  # type: ignore[return-value]  # it has what is asked for


@pytest.fixture
def fake_router() -> FakeRouter:
    return FakeRouter()


def view_of(candidate: Candidate) -> RouteView:
    route = candidate.route
    hops = tuple(NextHopView(hop.via, str(hop.ifindex), hop.weight) for hop in candidate.next_hops)
    return RouteView(
        route.prefix, route.type, route.source, route.distance, route.metric, route.tag, hops,
        candidate.is_selected, None, candidate.problem, 0.0, route.owner, None,
    )  # fmt: skip


def test_each_losing_candidate_has_its_rule_and_both_values(fake_router: FakeRouter) -> None:
    prefix = "10.0.0.0/8"
    fake_router.install(prefix, RouteSource.STATIC, metric=5, owner="1/5")
    fake_router.install(prefix, RouteSource.STATIC, metric=9, owner="1/9")
    fake_router.install(prefix, RouteSource.NEIGHBOR, owner="nup")
    fake_router.install(prefix, RouteSource.INJECTED, owner="uid0", distance=1, metric=5)
    fake_router.install(prefix, RouteSource.STATIC, distance=255, owner="255/0")
    found = explain(fake_router.select_and_acknowledge(), Address.parse("10.1.2.3"), view_of)
    assert str(found.prefix) == prefix
    verdicts = [(each.owner, each.rule, each.verdict) for each in found.candidates]
    assert verdicts == [
        ("1/5", None, "wins"),
        ("uid0", 4, "loses by rule 4 (order of sources): injected against static"),
        ("1/9", 3, "loses by rule 3 (lower metric): 9 against 5"),
        ("nup", 2, "loses by rule 2 (lower distance): 90 against 1"),
        (
            "255/0", 1,
            "loses by rule 1 (only a usable route may win): "
            "administrative distance 255 is never used against usable",
        ),
    ]  # fmt: skip


def test_a_winner_without_some_of_its_next_hops_is_usable(fake_router: FakeRouter) -> None:
    fake_router.rib.link_changed(
        Interface(
            ifindex=2, ifname="eth0", is_admin_up=True, has_carrier=True, mtu=1500,
            is_loopback=False, has_multicast=True,
            addresses=(InterfaceAddress(Address.parse("192.0.2.9"), 24),),
        )
    )  # fmt: skip
    gateways = (Gateway(None, "eth0"), Gateway(Address.parse("203.0.113.1"), None))
    fake_router.install("10.0.0.0/8", RouteSource.STATIC, type=RouteType.UNICAST, gateways=gateways)
    fake_router.install("10.0.0.0/8", RouteSource.STATIC, distance=255, owner="255/0")
    found = explain(fake_router.select_and_acknowledge(), Address.parse("10.1.2.3"), view_of)
    assert found.candidates[1].verdict.endswith("is never used against usable")


def test_shorter_and_longer_prefixes_are_listed(fake_router: FakeRouter) -> None:
    fake_router.install("0.0.0.0/0", RouteSource.STATIC)
    fake_router.install("10.0.0.0/8", RouteSource.STATIC)
    fake_router.install("10.1.0.0/16", RouteSource.STATIC)
    fake_router.install("10.1.2.0/24", RouteSource.STATIC, distance=255)
    found = explain(fake_router.select_and_acknowledge(), Address.parse("10.1.2.3"), view_of)
    assert (str(found.prefix), found.unusable, found.shorter) == (
        "10.1.0.0/16", ("10.1.2.0/24",), ("10.0.0.0/8", "0.0.0.0/0"),
    )  # fmt: skip
    assert found.unusable_reasons == ("10.1.2.0/24: administrative distance 255 is never used",)


def test_infeasible_routes_are_listed(fake_router: FakeRouter) -> None:
    for number in range(2 * WAITING_MAX):
        fake_router.waiting.append(
            LearnedRow(
                Prefix.parse("10.1.0.0/16"), Address.parse(f"10.255.0.{number}"), 3, 20, 0, False,
                Address.parse("10.255.9.9"), 5, is_feasible=False, is_selected=False,
                is_stale=False,
            )
        )  # fmt: skip
    found = explain(fake_router.select_and_acknowledge(), Address.parse("10.1.2.3"), view_of)
    assert len(found.waiting) == WAITING_MAX
    assert found.waiting[0] == (
        "10.1.0.0/16: 10.255.0.0 on eth3 advertises it at metric 20, "
        "not feasible until 10.255.9.9 has raised its seqno"
    )
    assert (
        explain(fake_router.select_and_acknowledge(), Address.parse("10.2.0.1"), view_of).waiting
        == ()
    )


def test_an_address_without_a_route_is_explained(fake_router: FakeRouter) -> None:
    found = explain(fake_router.select_and_acknowledge(), Address.parse("2001:db8::1"), view_of)
    assert (found.prefix, found.candidates, found.shorter) == (None, (), ())
    assert found.trie_path[-1] == "default route: none"


@pytest.mark.parametrize("family", list(Family))
def test_the_path_ends_where_a_lookup_does(fake_router: FakeRouter, family: Family) -> None:
    rng = random.Random(7)
    for _ in range(600):
        length = rng.randrange(family.width // 4, family.width + 1)
        bits = rng.randrange(1 << 12) << family.width - 12 | rng.getrandbits(family.width - 12)
        fake_router.install(str(Prefix.masked(family, bits, length)), RouteSource.STATIC)
    fake_router.select_and_acknowledge()
    shape = fake_router.snapshot._shape(family)
    for _ in range(500):
        bits = rng.randrange(1 << 12) << family.width - 12 | rng.getrandbits(family.width - 12)
        lines = describe(shape, bits)
        beside = [line.partition(", else record ")[2] for line in lines if ", else" in line]
        end = lines[-1].partition(", else")[0].partition(" record ")[2]
        assert str(lookup(shape, bits)) == (end or (beside or ["0"])[-1])
    fake_router.snapshot.close()


def test_a_probe_that_is_down_is_named_with_its_age() -> None:
    router = FakeRouter()
    router.tracking.probes.configure([UPLINK])
    router.tracking.probes.receive([dataclasses.replace(DOWN, age_s=12.0)], 100.0)
    router.rib.set_trackers(router.tracking.probes.problems())
    gateway = Gateway(Address.parse("192.0.2.2"), tracker="probe uplink")
    router.rib.install(
        Route(Prefix.parse("10.0.0.0/8"), RouteSource.STATIC, 1, gateways=(gateway,))
    )
    found = explain(router.select_and_acknowledge(), Address.parse("10.1.2.3"), view_of)
    (reason,) = found.unusable_reasons
    assert reason == (
        "10.0.0.0/8: 192.0.2.2 is not used: probe uplink: down since 12 s "
        "(3 of 3 failed: no answer within 1 s)"
    )
