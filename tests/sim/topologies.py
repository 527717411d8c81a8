"""Networks of any size, each a pure function of its size and seed.

ring          everybody has two neighbors; the longest paths there are
grid          rows and columns; many equal paths
random        a random tree and as many edges more: degree 4 on average, costs 1 to 20
small world   a ring of second neighbors, one edge in ten rewired (Watts and Strogatz, 1998)
fat tree      k-ary, switches only: many equal paths, few hops (Al-Fares et al., 2008)
lan           LANs of 16 routers; one router of each is on the next LAN, too
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from tests.fakes.fake_wire import FakeWire

__all__ = ["TOPOLOGIES"]

LAN_ROUTERS = 16
REWIRED = 0.1


def _add_nodes(wire: FakeWire, count: int) -> list[str]:
    names = [f"r{number}" for number in range(1, count + 1)]
    for name in names:
        wire.add_node(name)
    return names


def _connect_all(wire: FakeWire, pairs: set[frozenset[str]]) -> None:
    for pair in sorted(map(sorted, pairs)):
        wire.connect(*pair)


def build_ring(wire: FakeWire, count: int, _rng: random.Random) -> None:
    """r1 - r2 - ... - rn - r1"""
    names = _add_nodes(wire, count)
    for left, right in itertools.pairwise([*names, names[0]]):
        wire.connect(left, right)


def build_grid(wire: FakeWire, count: int, _rng: random.Random) -> None:
    """The network is as square as possible: rows of the same length, the last one perhaps
    shorter.
    """
    names = _add_nodes(wire, count)
    width = max(1, round(count**0.5))
    for position, name in enumerate(names):
        if (position + 1) % width and position + 1 < count:
            wire.connect(name, names[position + 1])
        if position + width < count:
            wire.connect(name, names[position + width])


def build_random(wire: FakeWire, count: int, rng: random.Random) -> None:
    """A connected network with 2n edges and different costs."""
    names = _add_nodes(wire, count)
    edges = {
        frozenset((rng.choice(names[:position]), names[position])) for position in range(1, count)
    }
    wanted = min(2 * count, count * (count - 1) // 2)
    while len(edges) < wanted:
        edges.add(frozenset(rng.sample(names, 2)))
    for pair in sorted(map(sorted, edges)):
        wire.connect(*pair, cost=rng.randint(1, 20))


def build_small_world(wire: FakeWire, count: int, rng: random.Random) -> None:
    """A ring that stays whole, and edges to second neighbors, some of them rewired."""
    names = _add_nodes(wire, count)
    edges: set[frozenset[str]] = set()
    for position, name in enumerate(names):
        edges.add(frozenset((name, names[(position + 1) % count])))
        is_rewired = rng.random() < REWIRED
        other = rng.choice(names) if is_rewired else names[(position + 2) % count]
        if other != name:
            edges.add(frozenset((name, other)))
    _connect_all(wire, edges)


def build_fat_tree(wire: FakeWire, count: int, _rng: random.Random) -> None:
    """The largest k-ary fat tree of at most `count` switches; the others are attached to
    its edge.
    """
    arity = 2
    while 5 * (arity + 2) ** 2 // 4 <= count:
        arity += 2
    half = arity // 2
    names = iter(_add_nodes(wire, count))
    core = [next(names) for _ in range(half * half)]
    edge_switches: list[str] = []
    for _ in range(arity):
        upper = [next(names) for _ in range(half)]
        lower = [next(names) for _ in range(half)]
        edge_switches += lower
        for number, switch in enumerate(upper):
            for above in core[number * half : (number + 1) * half]:
                wire.connect(above, switch)
            for below in lower:
                wire.connect(switch, below)
    for switch, name in zip(itertools.cycle(edge_switches), names, strict=False):
        wire.connect(switch, name)


def build_lans(wire: FakeWire, count: int, _rng: random.Random) -> None:
    """A chain of LANs in a ring."""
    names = _add_nodes(wire, count)
    lans = [names[start : start + LAN_ROUTERS] for start in range(0, count, LAN_ROUTERS)]
    for position, lan in enumerate(lans):
        following = lans[(position + 1) % len(lans)]
        members = lan if following is lan else [*lan, following[0]]
        if len(members) > 1:
            wire.connect(*dict.fromkeys(members))


Builder = Callable[[FakeWire, int, random.Random], None]

TOPOLOGIES: dict[str, Builder] = {
    "ring": build_ring,
    "grid": build_grid,
    "random": build_random,
    "small world": build_small_world,
    "fat tree": build_fat_tree,
    "lan": build_lans,
}
"""The builders by the name in tables and plots."""
