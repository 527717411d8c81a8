"""Martians, another router with our id, and seqnos that neighbors drive: over the wire."""

from __future__ import annotations

import itertools

from routed.model.martians import MartianRules
from routed.model.prefix import Prefix
from routed.nup.duplicate_ids import LEFTOVER_S, REMEMBERED, DuplicateIdDetector
from routed.nup.events import NeighborRow
from routed.nup.routes.distances import SOURCE_GC_S
from routed.nup.routes.seqno_limits import LEAP
from routed.nup.wire.message import RouteUpdate
from tests.fakes.fake_wire import FakeWire, Node, router_id
from tests.fakes.network_laws import lie, take_away
from tests.fakes.nup_pair import LOOPBACK, pair

MARTIANS = [
    "fe80::/64", "fe80::/10", "ff00::/8", "ff12::/16", "::1/128", "127.0.0.0/8", "0.0.0.0/8",
    "224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16", "::ffff:0:0/96",
]  # fmt: skip


def row(wire: FakeWire, node: Node) -> NeighborRow:
    (found,) = node.instance.neighbors(wire.now)
    return found


def test_martians_are_never_learned_and_it_can_be_seen() -> None:
    wire, _, b = pair()
    wire.originate("a", *MARTIANS)
    wire.run(1)
    assert set(b.learned) == {LOOPBACK, Prefix.parse("2001:db8:1::/48")}
    counters = b.instance.counters()
    assert counters["ignored_martian"] == len(MARTIANS)
    assert counters["martian_refused"] == 1
    assert row(wire, b).prefixes == 2
    assert row(wire, b).problem.startswith(f"martians are refused: {len(MARTIANS)}, such as ")
    for text in MARTIANS:
        wire.withdraw("a", text)
    wire.run(1)
    assert row(wire, b).problem == ""


def test_martians_that_are_allowed_later_are_learned_and_forgotten_again() -> None:
    wire, _, b = pair()
    wire.originate("a", "240.0.0.0/8", "fe80::/64")
    wire.run(1)
    reserved = Prefix.parse("240.0.0.0/8")
    allowing = MartianRules((Prefix.parse("240.0.0.0/4"), Prefix.parse("fe80::/10")))
    b.instance.set_martians(allowing, wire.now)
    assert row(wire, b).problem == (
        "its table is requested again: prefixes refused as martians are allowed now"
    )
    b.instance.set_martians(MartianRules((Prefix.parse("240.0.0.0/4"),)), wire.now)
    wire.run(40)
    assert row(wire, b).problem.startswith("martians are refused: 1, such as fe80::/64")
    assert b.instance.counters()["ignored_origins_full"] == 0
    assert reserved in b.learned
    assert Prefix.parse("fe80::/64") not in b.learned
    b.instance.set_martians(MartianRules(), wire.now)
    wire.run(3)
    assert reserved not in b.learned
    assert row(wire, b).problem.startswith("martians are refused: 2, ")


def cloned(gap: int = 3) -> tuple[FakeWire, list[Node]]:
    """Build a line of routers whose ends have one router id and announce one prefix."""
    wire = FakeWire(4)
    nodes = [wire.add_node(name) for name in "abcde"[:gap]] + [
        wire.add_node("clone", clone_of=wire.nodes["a"])
    ]
    for left, right in itertools.pairwise(nodes):
        wire.connect(left.name, right.name)
    return wire, nodes


def test_two_routers_with_one_id_do_not_flap_the_network_and_are_named() -> None:
    wire, nodes = cloned(2)
    assert nodes[0].instance.router_id == nodes[-1].instance.router_id == router_id(1)
    wire.run(3)
    wire.originate("a", "192.0.2.0/24")
    wire.run(1)
    for _ in range(3):
        wire.originate("clone", "192.0.2.0/24")
        wire.withdraw("clone", "192.0.2.0/24")
    wire.originate("clone", "192.0.2.0/24")
    wire.run(LEFTOVER_S + 20)
    counters = [node.instance.counters() for node in (nodes[0], nodes[-1])]
    assert 0 < sum(each["seqno_raised"] for each in counters) <= 4
    assert sum(each["seqno_raise_refused"] for each in counters) > 0
    problems = [row(wire, node).problem for node in (nodes[0], nodes[-1])]
    assert any("another router has our router id: 192.0.2.0/24" in each for each in problems)


def test_a_router_that_issues_seqnos_of_ours_again_and_again_is_named_at_once() -> None:
    """It is not an earlier boot of ours: these no longer issue seqnos."""
    wire, nodes = cloned(2)
    began = wire.now
    wire.run(3)
    wire.originate("a", "192.0.2.0/24")
    for _ in range(8):
        wire.originate("clone", "192.0.2.0/24")
        wire.run(8)
        wire.withdraw("clone", "192.0.2.0/24")
    problem = "another router has our router id: 192.0.2.0/24 is announced with it"
    assert row(wire, nodes[0]).problem == problem
    assert nodes[0].instance.counters()["own_id_elsewhere"] == 1
    assert wire.now < began + LEFTOVER_S


def test_a_router_with_our_id_and_other_prefixes_is_named() -> None:
    wire, nodes = cloned()
    wire.originate("a", "192.0.2.0/24")
    wire.originate("clone", "198.51.100.0/24")
    wire.run(LEFTOVER_S - 10)
    assert row(wire, nodes[0]).problem == ""
    wire.run(20)
    for node, prefix in ((nodes[0], "198.51.100.0/24"), (nodes[-1], "192.0.2.0/24")):
        assert prefix in row(wire, node).problem
        assert "our router id" in row(wire, node).problem
        assert node.instance.counters()["own_id_elsewhere"] == 1
    wire.withdraw("clone", "198.51.100.0/24")
    wire.run(1)
    assert row(wire, nodes[0]).problem == ""


def test_routes_of_an_earlier_boot_prove_no_other_router() -> None:
    wire, a, b = pair()
    wire.originate("a", "192.0.2.0/24")
    wire.run(2)
    wire.crash("a")
    wire.run(0.5)
    wire.revive("a")
    wire.withdraw("a", "192.0.2.0/24")
    wire.run(LEFTOVER_S + 60)
    assert a.instance.counters()["own_id_elsewhere"] == 0
    assert row(wire, a).problem == ""
    assert Prefix.parse("192.0.2.0/24") not in b.learned


def test_few_prefixes_are_remembered_for_it() -> None:
    watch = DuplicateIdDetector()
    for number in range(10 * REMEMBERED):
        watch.record(Prefix.parse(f"10.0.{number}.0/24"), 0.0)
    assert len(watch._since) == REMEMBERED
    watch.clear([Prefix.parse("10.0.0.0/24")])
    assert watch.found(LEFTOVER_S - 1) is None
    assert watch.found(LEFTOVER_S) == Prefix.parse("10.0.1.0/24")
    assert watch.next_timer() == LEFTOVER_S


def test_a_route_that_waits_for_a_newer_seqno_can_be_seen() -> None:
    """A neighbor claims another's prefix and leaves: the correct route is offered, and waits."""
    wire, a, b = pair()
    liar = wire.add_node("liar")
    wire.connect("b", "liar")
    wire.run(1)
    assert b.instance.waiting_for(LOOPBACK.address) == []
    lie(wire, liar, RouteUpdate(LOOPBACK, 0, 0, False, a.router_id, 65_536 + LEAP + (1 << 20)))
    wire.run(1)
    take_away(wire, "liar")
    wire.run(1)
    (waiting,) = b.instance.waiting_for(LOOPBACK.address)
    assert (waiting.prefix, waiting.router_id, waiting.is_feasible) == (
        LOOPBACK, a.router_id, False,
    )  # fmt: skip
    assert row(wire, b).infeasible == 1
    assert a.instance.counters()["seqno_raise_refused"] > 0
    wire.run(SOURCE_GC_S)
    assert b.instance.waiting_for(LOOPBACK.address) == []
    assert row(wire, b).infeasible == 0
    assert LOOPBACK in b.learned
