"""Filters and summaries, as a network of routers sees them."""

from __future__ import annotations

import dataclasses

import pytest

from routed.config.load import load_text
from routed.engine.nup_policy import neighbor_policy
from routed.model.prefix import Prefix
from routed.nup.routes.policy import NeighborRule, Policy, Suppression
from tests.fakes.fake_wire import FakeWire, Node, router_id
from tests.fakes.network_laws import LoopWatch, assert_converged, build_ring, originate_loopbacks

LOOPBACK = Prefix.parse("10.255.0.1/32")
INSIDE = Prefix.parse("10.20.1.0/24")
SUMMARY = Prefix.parse("10.20.0.0/16")


@dataclasses.dataclass(frozen=True)
class Exactly:
    """A set of one prefix."""

    prefix: Prefix

    def matches(self, candidate: Prefix) -> bool:
        return candidate == self.prefix


def line(*prefixes: Prefix) -> tuple[FakeWire, Node, Node, Node]:
    """a - b - c, with prefixes at a."""
    wire = FakeWire(1)
    nodes = [wire.add_node(name) for name in "abc"]
    wire.connect("a", "b")
    wire.connect("b", "c")
    wire.originate("a", *map(str, prefixes or (LOOPBACK,)))
    wire.run(1)
    return wire, nodes[0], nodes[1], nodes[2]


def follow(wire: FakeWire, node: Node, policy: Policy) -> None:
    node.instance.set_policy(policy, wire.now)
    wire.run(1)


def test_a_denied_import_is_not_used_nor_passed_on_until_the_rule_goes() -> None:
    wire, _, b, c = line()
    follow(wire, b, Policy(imports=(NeighborRule(False, (Exactly(LOOPBACK),)),)))
    assert b.learned == {}
    assert c.learned == {}
    follow(wire, b, Policy())
    assert b.learned.keys() == c.learned.keys() == {LOOPBACK}


def test_a_denied_export_is_used_here_and_not_advertised() -> None:
    wire, _, b, c = line()
    follow(wire, b, Policy(exports=(NeighborRule(False, interface="eth2"),)))
    assert LOOPBACK in b.learned
    assert c.learned == {}
    assert not b.held
    follow(wire, b, Policy())
    assert LOOPBACK in c.learned


def test_an_import_rule_sets_metric_tag_and_distance() -> None:
    wire, _, b, c = line()
    rule = NeighborRule(neighbor=router_id(1), set_metric=500, set_tag=7, set_distance=33)
    follow(wire, b, Policy(imports=(rule,)))
    learned = b.learned[LOOPBACK]
    assert (learned.metric, learned.tag, learned.distance) == (500, 7, 33)
    assert (c.learned[LOOPBACK].metric, c.learned[LOOPBACK].tag) == (510, 7)
    assert c.learned[LOOPBACK].distance is None


@pytest.mark.parametrize("where", ["import", "export"])
def test_a_metric_is_raised_and_never_lowered(where: str) -> None:
    wire, _, b, c = line()
    rules = (NeighborRule(set_metric=1),)
    follow(wire, b, Policy(imports=rules) if where == "import" else Policy(exports=rules))
    assert b.learned[LOOPBACK].metric == 10
    assert c.learned[LOOPBACK].metric == 20


@pytest.mark.parametrize(
    ("rule", "is_fitting"),
    [
        (NeighborRule(False), True),
        (NeighborRule(False, is_external=True), False),
        (NeighborRule(False, is_external=False), True),
        (NeighborRule(False, tag=5), False),
        (NeighborRule(False, tag=0), True),
        (NeighborRule(False, neighbor=router_id(9)), False),
        (NeighborRule(False, interface="eth9"), False),
        (NeighborRule(False, interface="eth*"), True),
        (NeighborRule(False, (Exactly(SUMMARY),)), False),
    ],
)
def test_every_condition_counts(rule: NeighborRule, is_fitting: bool) -> None:
    wire, _, b, _ = line()
    follow(wire, b, Policy(imports=(rule,)))
    assert (LOOPBACK not in b.learned) is is_fitting


def test_the_first_rule_that_fits_decides() -> None:
    wire, _, b, _ = line(LOOPBACK, INSIDE)
    follow(wire, b, Policy(imports=(NeighborRule(True, (Exactly(LOOPBACK),)), NeighborRule(False))))
    assert b.learned.keys() == {LOOPBACK}


def test_a_suppression_hides_what_is_inside_and_not_the_prefix_itself() -> None:
    wire, _, b, c = line(LOOPBACK, INSIDE, SUMMARY)
    follow(wire, b, Policy(suppressions=(Suppression(SUMMARY, "eth2"),)))
    assert c.learned.keys() == {LOOPBACK, SUMMARY}
    follow(wire, b, Policy(suppressions=(Suppression(SUMMARY, "eth7"),)))
    assert c.learned.keys() == {LOOPBACK, SUMMARY, INSIDE}


def test_changing_filters_in_a_ring_makes_no_loop() -> None:
    wire = FakeWire(3)
    build_ring(wire, 8)
    LoopWatch(wire)
    originate_loopbacks(wire)
    wire.run(1)
    for step in range(30):
        node = wire.nodes[wire.rng.choice(list(wire.nodes))]
        rules = tuple(
            NeighborRule(
                wire.rng.random() < 0.7,
                interface=wire.rng.choice(["eth1", "eth2"]),
                set_metric=wire.rng.randint(0, 200),
            )
            for _ in range(wire.rng.randint(0, 2))
        )
        policy = Policy(imports=rules) if step % 2 else Policy(exports=rules)
        node.instance.set_policy(policy, wire.now)
        wire.run(wire.rng.uniform(0.001, 0.2))
    for node in wire.nodes.values():
        node.instance.set_policy(Policy(), wire.now)
    wire.run(12)
    assert_converged(wire)


def test_the_configuration_becomes_rules_in_its_order() -> None:
    config = load_text(
        "router_id: 10.255.0.1\nuser: root\n"
        "filters:\n"
        "  import:\n"
        "    - {match: [10.0.0.0/8 le 24], neighbor: 10.255.0.2, tag: 7, set_distance: 99}\n"
        "    - {source: redistributed, interface: 'wg*', action: deny}\n"
        "  export: [{source: neighbor, set_metric: 5, set_tag: 6}]\n"
        "summaries: [{prefix: 10.20.0.0/16, only: true, interface: eth0}, {prefix: 10.0.0.0/8}]\n"
    )
    policy = neighbor_policy(config.filters, config.summaries)
    first, second = policy.imports
    assert first.prefixes[0].matches(INSIDE)
    assert not first.prefixes[0].matches(LOOPBACK)
    assert (first.neighbor, first.tag, first.set_distance) == (router_id(2), 7, 99)
    assert (second.is_accepted, second.is_external, second.interface) == (False, True, "wg*")
    assert policy.exports == (NeighborRule(is_external=False, set_metric=5, set_tag=6),)
    assert policy.suppressions == (Suppression(SUMMARY, "eth0"),)


def test_a_seqno_request_follows_next_hops_however_far_the_origin_is() -> None:
    """A cut ring of 150: those next to the cut lose their route, 140 hops from the origin."""
    wire = FakeWire(1)
    build_ring(wire, 150)
    wire.originate("r1", str(LOOPBACK))
    wire.run(3)
    wire.cut(wire.segments[4])
    wire.run(3)
    assert_converged(wire)
