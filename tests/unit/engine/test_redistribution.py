"""Redistribution: rules in order, tags, links, and summaries."""

from __future__ import annotations

import dataclasses
import random

import pytest

from routed.config.load import load_text
from routed.config.schema import Config
from routed.engine.redistribution import SUMMARY_OWNER, Redistribution
from routed.model.martians import MartianRules
from routed.model.prefix import Family, Prefix
from routed.model.route import DEFAULT_DISTANCE, Gateway, NextHop, Route, RouteSource, RouteType
from routed.nup.instance import NeighborInstance
from routed.nup.transport.advertise import OwnRoute
from routed.rib.table import BestPath, BestPathChanges
from tests.fakes.fake_wire import router_id

PREFIX = Prefix.parse("10.20.1.0/24")
OTHER = Prefix.parse("10.20.2.0/24")
SUMMARY = Prefix.parse("10.20.0.0/16")


def config(rules: str = "[]", summaries: str = "[]") -> Config:
    return load_text(
        f"router_id: 10.255.0.1\nuser: root\nredistribute: {rules}\nsummaries: {summaries}\n"
    )


def route(
    prefix: Prefix = PREFIX, source: RouteSource = RouteSource.STATIC, **fields: object
) -> Route:
    distance = DEFAULT_DISTANCE[source]
    return Route(prefix=prefix, source=source, distance=distance, metric=0, **fields)  # type: ignore[arg-type]


class Rig:
    """A redistribution, its instance, and the router's part of summaries."""

    def __init__(self, settings: Config) -> None:
        self.instance = NeighborInstance(router_id(1), 1, 1, random.Random(1))
        self.summaries: list[tuple[Prefix, bool]] = []
        self.redistribution = Redistribution(
            self.instance,
            lambda prefix, is_active: self.summaries.append((prefix, is_active)),
            lambda ifindex: f"eth{ifindex}",
        )
        self.apply(settings)

    def apply(self, settings: Config) -> bool:
        martians = MartianRules.of(settings.allow_martians)
        return self.redistribution.apply(settings.redistribute, settings.summaries, martians)

    def reconcile(self, prefix: Prefix, best: Route | None) -> OwnRoute | None:
        best_path = None if best is None else BestPath(best.attributes, best.next_hops)
        changes = BestPathChanges(prefix.family, [prefix.as_int], [best_path])
        self.redistribution.handle_best_paths(changes, 0.0)
        return self.instance._origins.get(prefix)


@pytest.mark.parametrize("source", ["connected", "static", "injected", "kernel"])
def test_each_source_is_originated_by_its_own_rule_only(source: str) -> None:
    rig = Rig(config(f"[{{source: {source}, metric: 20}}]"))
    for kind in (
        RouteSource.CONNECTED, RouteSource.STATIC, RouteSource.INJECTED, RouteSource.KERNEL,
    ):  # fmt: skip
        origin = rig.reconcile(PREFIX, route(source=kind))
        assert (origin is not None) is (kind.label == source)
        if origin is not None:
            assert (origin.metric, origin.is_external) == (20, kind is not RouteSource.CONNECTED)


def test_learned_routes_are_not_originated() -> None:
    rig = Rig(config("[{source: static}, {source: connected}]"))
    assert rig.reconcile(PREFIX, route(source=RouteSource.NEIGHBOR)) is None


@pytest.mark.parametrize("source", [RouteSource.STATIC, RouteSource.CONNECTED])
@pytest.mark.parametrize("text", ["169.254.0.0/16", "fe80::/64", "240.1.0.0/16", "ff02::/16"])
def test_a_martian_is_not_originated_unless_it_is_allowed(source: RouteSource, text: str) -> None:
    prefix = Prefix.parse(text)
    rules = config("[{source: static}, {source: connected}]")
    rig = Rig(rules)
    assert rig.reconcile(prefix, route(prefix, source)) is None
    assert rig.reconcile(PREFIX, route(source=source)) is not None
    allowing = dataclasses.replace(rules, allow_martians=(prefix,))
    assert rig.apply(allowing), "all are evaluated again"
    assert not rig.apply(allowing)
    assert rig.reconcile(prefix, route(prefix, source)) is not None
    assert rig.apply(rules)
    assert rig.reconcile(prefix, route(prefix, source)) is None


def test_the_first_matching_rule_decides() -> None:
    rig = Rig(config("[{source: static, match_tag: 666, action: deny}, {source: static, tag: 5}]"))
    assert rig.reconcile(PREFIX, route(tag=666)) is None
    origin = rig.reconcile(PREFIX, route(tag=1))
    assert origin is not None
    assert origin.tag == 5
    assert rig.reconcile(PREFIX, route(tag=666)) is None, "it is withdrawn"


def test_a_rule_can_match_the_link() -> None:
    rig = Rig(config("[{source: static, interface: 'eth1*'}]"))
    assert rig.reconcile(PREFIX, route(gateways=(Gateway(ifname="eth10"),)))
    assert rig.reconcile(PREFIX, route(gateways=(Gateway(ifname="wg0"),))) is None
    assert rig.reconcile(PREFIX, route(next_hops=(NextHop(None, 1),)))
    assert rig.reconcile(PREFIX, route(next_hops=(NextHop(None, 2),))) is None


def test_a_summary_exists_as_long_as_a_prefix_inside_it() -> None:
    rig = Rig(config("[{source: static}]", "[{prefix: 10.20.0.0/16, metric: 9, tag: 3}]"))
    rig.reconcile(PREFIX, route())
    assert rig.summaries == [(SUMMARY, True)]
    rig.reconcile(OTHER, route(OTHER, RouteSource.NEIGHBOR))
    discard = route(SUMMARY, type=RouteType.UNREACHABLE, owner=SUMMARY_OWNER)
    origin = rig.reconcile(SUMMARY, discard)
    assert origin is not None
    assert (origin.metric, origin.tag, origin.is_external) == (9, 3, False)
    rig.reconcile(PREFIX, None)
    assert rig.summaries == [(SUMMARY, True)], "the learned one is still inside"
    rig.reconcile(OTHER, None)
    assert rig.summaries[-1] == (SUMMARY, False)
    assert rig.reconcile(SUMMARY, None) is None


def test_a_prefix_that_is_not_originated_makes_no_summary() -> None:
    rig = Rig(config("[{source: connected}]", "[{prefix: 10.20.0.0/16}]"))
    rig.reconcile(PREFIX, route())
    assert rig.summaries == []


def test_a_summary_removed_from_the_configuration_is_withdrawn() -> None:
    rig = Rig(config("[{source: static}]", "[{prefix: 10.20.0.0/16}]"))
    rig.reconcile(PREFIX, route())
    assert rig.apply(config("[{source: static}]"))
    assert rig.summaries[-1] == (SUMMARY, False)
    assert not rig.apply(config("[{source: static}]"))


@pytest.mark.parametrize("rules", ["[{source: static, metric: 20}]",
    "[{source: static, metric: 20, match: [10.0.0.0/8 le 32]}]",
        "[{source: connected, match: [10.0.0.0/8]}, {source: static, metric: 20}]"])  # fmt: skip
def test_prefixes_that_are_decided_together_are_originated_together(rules: str) -> None:
    """This holds with and without rules that match prefixes."""
    rig = Rig(config(rules))
    keys = [Prefix.parse(f"10.9.{number}.0/24").as_int for number in range(10)]
    tagged, learned = route(tag=7), route(source=RouteSource.NEIGHBOR)
    chosen = [BestPath((tagged if number % 2 else learned).attributes, ()) for number in range(10)]
    rig.redistribution.handle_best_paths(BestPathChanges(Family.IPV4, keys, [*chosen]), 0.0)
    origins = rig.instance._origins
    announced = [Prefix.from_int(Family.IPV4, key) for key in keys[1::2]]
    assert list(origins.prefixes()) == announced
    assert {origins.get(prefix) for prefix in announced} == {OwnRoute(20, 7, True, 1)}
    rig.redistribution.handle_best_paths(BestPathChanges(Family.IPV4, keys[:5], [None] * 5), 0.0)
    assert list(origins.prefixes()) == announced[2:]
