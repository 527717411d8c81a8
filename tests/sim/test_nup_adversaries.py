"""Two laws that hold for any messages of a neighbor: honest routers never form a loop, and none
loses a route for good.

A liar is a router whose advertisements do not come from its table: it speaks correct NUP, and its
updates name another router as the origin, with any seqno. While it is connected it may attract any
traffic (docs/nup.md section 11). It cannot make the honest routers forward in a circle, or keep a
route from them once it has gone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from routed.model.prefix import Address, Prefix
from routed.model.seqno import REACH
from routed.nup.routes.distances import SOURCE_GC_S
from routed.nup.routes.seqno_limits import BURST, LEAP
from routed.nup.routes.seqno_requests import REQUEST_RETRY_MAX_S
from routed.nup.wire.message import RouteUpdate, SeqnoRequest
from tests.fakes.fake_wire import FakeWire, Node, WireFaults
from tests.fakes.network_laws import (
    LoopWatch,
    NoStarvation,
    assert_converged,
    build_grid,
    build_random,
    build_ring,
    lie,
    originate_loopbacks,
    take_away,
)

FORGOTTEN_S = SOURCE_GC_S + REQUEST_RETRY_MAX_S + 10
"""By then every feasibility distance that comes from a liar has expired, and updates are complete.
"""

TOPOLOGIES: dict[str, Callable[[FakeWire], None]] = {
    "ring6": lambda wire: build_ring(wire, 6),
    "grid9": lambda wire: build_grid(wire, 3),
    "random9": lambda wire: build_random(wire, 9, seed=5),
}
AHEAD = [1, 2, 1 << 16, LEAP, LEAP + 1, REACH - 1, REACH, REACH + 1, 1 << 30, (1 << 31) - 1,
         1 << 31, (1 << 31) + 1, (1 << 32) - 1]  # fmt: skip


def honest_network(
    build: Callable[[FakeWire], None], seed: int, faults: WireFaults | None = None
) -> tuple[FakeWire, Node]:
    """A network that has converged, and beside three of its routers another one that has sent
    nothing yet.
    """
    wire = FakeWire(seed, faults)
    build(wire)
    names = list(wire.nodes)
    liar = wire.add_node("liar")
    for name in wire.rng.sample(names, 3):
        wire.connect(name, "liar", cost=wire.rng.randint(1, 20))
    LoopWatch(wire, but_for={"liar"})
    originate_loopbacks(wire)
    wire.run(3)
    return wire, liar


def seqno_of(wire: FakeWire, name: str, prefix: Prefix) -> int:
    own = wire.nodes[name].instance._origins.get(prefix)
    assert own is not None
    return own.seqno


def claim(wire: FakeWire, liar: Node, victim: str, ahead: int, metric: int = 0) -> Prefix:
    """Let the liar announce the prefix of another router as that router would, with a seqno of its
    choice.
    """
    node = wire.nodes[victim]
    prefix = next(iter(node.origins))
    seqno = (seqno_of(wire, victim, prefix) + ahead) % (1 << 32)
    lie(wire, liar, RouteUpdate(prefix, metric, 0, False, node.router_id, seqno))
    return prefix


CASES = [("ring6", ahead) for ahead in AHEAD] + [
    (name, ahead) for name in ("grid9", "random9") for ahead in (2, REACH)
]


@pytest.mark.parametrize(("name", "ahead"), CASES)
def test_one_false_claim_keeps_a_prefix_from_no_router_afterwards(name: str, ahead: int) -> None:
    wire, liar = honest_network(TOPOLOGIES[name], seed=ahead % 97)
    law = NoStarvation(wire, FORGOTTEN_S, but_for={"liar"})
    claim(wire, liar, "r1", ahead)
    wire.run(1)
    take_away(wire, "liar")
    law.hold(FORGOTTEN_S + 20)
    assert_converged(wire)


@pytest.mark.parametrize("seed", range(3))
def test_lies_of_every_kind_on_lossy_wires_form_no_loop_and_remove_no_route_for_good(
    seed: int,
) -> None:
    """The liar claims prefixes with random seqnos and metrics, retracts some, and links flap
    meanwhile.
    """
    faults = WireFaults(loss=0.1, duplication=0.1, delay_s=0.0005, jitter_s=0.05)
    wire, liar = honest_network(lambda wire: build_random(wire, 7, seed), seed, faults)
    law = NoStarvation(wire, FORGOTTEN_S, but_for={"liar"})
    for _ in range(30):
        victim = wire.rng.choice([name for name in wire.nodes if name != "liar"])
        what = wire.rng.random()
        if what < 0.7:
            claim(wire, liar, victim, wire.rng.choice(AHEAD), wire.rng.choice([0, 5, 500]))
        elif what < 0.85:
            lie(wire, liar, None, next(iter(wire.nodes[victim].origins)))
        else:
            segment = wire.rng.choice(wire.segments)
            wire.cut(segment, has_carrier_loss=wire.rng.random() < 0.5)
            wire.run(wire.rng.uniform(0, 4))
            wire.mend(segment)
        wire.run(wire.rng.uniform(0, 2))
    take_away(wire, "liar")
    wire.faults = WireFaults()
    law.hold(FORGOTTEN_S + 30)
    assert_converged(wire)


def test_a_claim_that_is_repeated_each_minute_has_no_effect_once_it_ends() -> None:
    wire, liar = honest_network(TOPOLOGIES["ring6"], seed=3)
    for ahead in (5, REACH, 7, LEAP + 1, REACH):
        claim(wire, liar, "r2", ahead)
        wire.run(30)
        lie(wire, liar, None, next(iter(wire.nodes["r2"].origins)))
        wire.run(30)
    law = NoStarvation(wire, FORGOTTEN_S, but_for={"liar"})
    take_away(wire, "liar")
    law.hold(FORGOTTEN_S + 20)
    assert_converged(wire)


def ask(wire: FakeWire, liar: Node, target: Node, origin: Address, seqno: int) -> None:
    """Let the liar send one seqno request on each of its links."""
    request = SeqnoRequest(next(iter(target.origins)), origin, seqno % (1 << 32), 64)
    for link in liar.instance._links.values():
        for neighbor in link.neighbors.values():
            liar.instance._relay.queue(neighbor.key, request)
    wire.run(0.01)


def test_a_flood_of_seqno_requests_raises_no_seqno_far_and_removes_no_route() -> None:
    wire, liar = honest_network(TOPOLOGIES["grid9"], seed=5)
    victim = wire.nodes["r5"]
    prefix = next(iter(victim.origins))
    first = seqno_of(wire, "r5", prefix)
    before = {name: set(node.learned) for name, node in wire.nodes.items()}
    sent = sum(node.sent_datagrams for node in wire.nodes.values())
    for step in range(300):  # for 3 s
        ahead = wire.rng.choice([1, 1, 1 << 16, LEAP, REACH, (1 << 31) - 1, 1 << 31])
        ask(wire, liar, victim, victim.router_id, seqno_of(wire, "r5", prefix) + ahead + step % 2)
        assert {name: set(node.learned) for name, node in wire.nodes.items()} == before
    raised = victim.instance.counters()["seqno_raised"]
    assert raised <= BURST + 4
    assert (seqno_of(wire, "r5", prefix) - first) % (1 << 32) <= LEAP + raised
    told = sum(node.sent_datagrams for node in wire.nodes.values()) - sent
    assert told <= 300 * 30, "each request costs a few datagrams, whatever it asks for"
    wire.run(20)
    assert_converged(wire)


def test_one_router_id_on_two_routers_does_not_affect_the_rest_of_the_network() -> None:
    wire = FakeWire(8)
    build_ring(wire, 6)
    clone = wire.add_node("clone", clone_of=wire.nodes["r1"])
    wire.connect("r4", clone.name)
    LoopWatch(wire)
    originate_loopbacks(wire)
    wire.run(2)
    shared = "198.51.100.0/24"
    for _ in range(4):
        wire.originate(clone.name, shared)
        wire.withdraw(clone.name, shared)
    wire.originate(clone.name, shared)
    wire.originate("r1", shared)
    changes = 0
    wire.run(30)
    settled = {name: dict(node.routes) for name, node in wire.nodes.items()}
    for _ in range(120):
        wire.run(1)
        now = {name: dict(node.routes) for name, node in wire.nodes.items()}
        changes += now != settled
        settled = now
    assert changes <= 4
    wire.run(60)
    problems = [row.problem for row in clone.instance.neighbors(wire.now)]
    assert any("another router has our router id" in problem for problem in problems)
