"""The laws that every simulated network must obey, and the topologies to hold them against."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Collection, Iterator

from routed.model.prefix import Address, Family, Prefix
from routed.nup.wire.message import RouteUpdate
from tests.fakes.fake_wire import FakeWire, Node, Segment
from tests.fakes.next_hop_graph import NextHopGraph

__all__ = [
    "LoopWatch",
    "NoStarvation",
    "assert_converged",
    "build_grid",
    "build_lan",
    "build_line",
    "build_random",
    "build_ring",
    "lie",
    "loopbacks",
    "originate_loopbacks",
    "shortest_metrics",
    "take_away",
]


def loopbacks(node: Node) -> tuple[str, str]:
    """Return the prefixes that a node originates, one per family."""
    return f"10.255.0.{node.number}/32", f"2001:db8:{node.number:x}::/48"


def originate_loopbacks(wire: FakeWire) -> None:
    """Every node brings in its own."""
    for name, node in wire.nodes.items():
        wire.originate(name, *loopbacks(node))


def _add_nodes(wire: FakeWire, count: int) -> list[str]:
    names = [f"r{number}" for number in range(1, count + 1)]
    for name in names:
        wire.add_node(name)
    return names


def build_line(wire: FakeWire, count: int) -> None:
    """r1 - r2 - ... - rn"""
    for left, right in itertools.pairwise(_add_nodes(wire, count)):
        wire.connect(left, right)


def build_ring(wire: FakeWire, count: int) -> None:
    """Build a ring."""
    names = _add_nodes(wire, count)
    for left, right in itertools.pairwise([*names, names[0]]):
        wire.connect(left, right)


def build_grid(wire: FakeWire, side: int) -> None:
    """side x side; every inner node has four neighbors and many equal paths."""
    names = _add_nodes(wire, side * side)
    for row, column in itertools.product(range(side), repeat=2):
        here = names[row * side + column]
        if column + 1 < side:
            wire.connect(here, names[row * side + column + 1])
        if row + 1 < side:
            wire.connect(here, names[(row + 1) * side + column])


def build_lan(wire: FakeWire, count: int) -> None:
    """Build a LAN of all routers, and one more router behind the first."""
    names = _add_nodes(wire, count)
    wire.connect(*names)
    wire.add_node("stub")
    wire.connect(names[0], "stub")


def build_random(wire: FakeWire, count: int, seed: int) -> None:
    """Build a random tree, plus half as many edges again; costs 1 to 20."""
    rng = random.Random(seed)
    names = _add_nodes(wire, count)
    joined = {(rng.choice(names[:position]), names[position]) for position in range(1, count)}
    while len(joined) < count + count // 2:
        joined.add(tuple(rng.sample(names, 2)))  # type: ignore[arg-type]
    for left, right in sorted(joined):
        wire.connect(left, right, cost=rng.randint(1, 20))


def _is_usable(segment: Segment) -> bool:
    return not segment.is_cut


def shortest_metrics(wire: FakeWire, target: Node) -> dict[str, int]:
    """Run Dijkstra's algorithm from a node. Returns the metric of every other node's path to it."""
    distances = {target.name: 0}
    queue = [(0, target.name)]
    while queue:
        distance, name = heapq.heappop(queue)
        if distance > distances[name]:
            continue
        for segment, _ in wire.nodes[name].links.values():
            if not _is_usable(segment):
                continue
            for peer, ifindex in segment.plugs:
                if not peer.is_alive:
                    continue
                # A metric grows by the cost of the link that the update was heard on.
                reached = distance + peer.links[ifindex][1].cost
                if reached < distances.get(peer.name, reached + 1):
                    distances[peer.name] = reached
                    heapq.heappush(queue, (reached, peer.name))
    return distances


def assert_converged(wire: FakeWire) -> None:
    """Every live router has the shortest metric to every reachable prefix, and no other route."""
    expected: dict[str, dict[Prefix, int]] = {name: {} for name in wire.nodes}
    for target in wire.nodes.values():
        if not (target.is_alive and target.origins):
            continue
        for name, distance in shortest_metrics(wire, target).items():
            if name != target.name:
                for prefix, metric in target.origins.items():
                    expected[name][prefix] = metric + distance
    for name, node in wire.nodes.items():
        if node.is_alive:
            learned = {prefix: route.metric for prefix, route in node.learned.items()}
            assert learned == expected[name], name
            assert not node.held


def lie(
    wire: FakeWire, liar: Node, update: RouteUpdate | None, prefix: Prefix | None = None
) -> None:
    """Have a router advertise a false update of a prefix to all its neighbors, or none.

    The messages are valid: only the instance's own advertisement of the prefix is replaced.
    """
    instance = liar.instance
    honest, concerned = instance._transmitter._advertise, prefix or (update and update.prefix)
    assert concerned is not None

    def advertise(asked: Prefix, ifindex: int) -> RouteUpdate | None:
        return update if asked == concerned else honest(asked, ifindex)

    instance._transmitter._advertise = advertise
    instance._pending_updates.mark(concerned, wire.now)
    instance.handle_timer(wire.now)
    wire.kick(liar.name)


def take_away(wire: FakeWire, name: str) -> None:
    """Have a router send GOODBYE, and remove its wires."""
    node = wire.nodes[name]
    wire.stop(name, is_restart=False)
    node.origins.clear()
    for segment in {segment.number: segment for segment, _ in node.links.values()}.values():
        wire.cut(segment, has_carrier_loss=True)


class NoStarvation:
    """The law that a router without a route to a reachable prefix gets one within a bound of time.

    From the moment that the network and its prefixes last changed.
    """

    def __init__(self, wire: FakeWire, limit_s: float, but_for: Collection[str] = ()) -> None:
        """Args:
        wire: the network.
        limit_s: how long a prefix may be missing.
        but_for: routers that are not looked at, and whose prefixes are not asked for.
        """
        self._wire = wire
        self._limit_s = limit_s
        self._but_for = but_for
        self.longest_s = 0.0
        """Longest time for which a route was missing."""

    def hold(self, duration_s: float) -> None:
        """Let time pass; raise AssertionError when a prefix has been missing for too long."""
        wire, missing_since = self._wire, dict[tuple[str, Prefix], float]()
        end = wire.now + duration_s
        wanted = list(self._reachable())
        while wire.now < end:
            wire.run(1.0)
            for name, prefix in wanted:
                if prefix in wire.nodes[name].learned:
                    missing_since.pop((name, prefix), None)
                    continue
                since = missing_since.setdefault((name, prefix), wire.now)
                self.longest_s = max(self.longest_s, wire.now - since)
                assert wire.now - since <= self._limit_s, f"{name} has no route to {prefix}"
        assert not missing_since

    def _reachable(self) -> Iterator[tuple[str, Prefix]]:
        for target in self._wire.nodes.values():
            if target.name in self._but_for:
                continue
            for name in shortest_metrics(self._wire, target):
                if name != target.name and name not in self._but_for:
                    yield from ((name, prefix) for prefix in target.origins)


class LoopWatch:
    """Looks for forwarding loops after every step, at every node whose forwarding has changed."""

    def __init__(self, wire: FakeWire, but_for: Collection[str] = ()) -> None:
        """Args:
        wire: the network.
        but_for: routers that do with packets what they like: what goes there is gone.
        """
        self._wire = wire
        self._but_for = but_for
        self.checked = 0
        """Next-hop sets that were looked at."""
        self._graphs: defaultdict[Prefix, NextHopGraph] = defaultdict(NextHopGraph)
        self._at_link_local = {
            settings.local_address: node.name
            for node in wire.nodes.values()
            for _, settings in node.links.values()
        }
        self._at_ipv4 = {
            (segment.number, entry.address): node.name
            for node in wire.nodes.values()
            for segment, settings in node.links.values()
            for entry in settings.addresses
            if entry.address.family is Family.IPV4
        }
        wire.on_step = self.check

    def check(self) -> None:
        """Raise AssertionError if any forwarding loop exists now."""
        if not self._wire.changed:
            return
        changes: defaultdict[Prefix, dict[str, list[str]]] = defaultdict(dict)
        for name, prefix in self._wire.changed:
            changes[prefix][name] = self._successors(self._wire.nodes[name], prefix)
        self.checked += len(self._wire.changed)
        self._wire.changed.clear()
        for prefix, changed in changes.items():
            looping = self._graphs[prefix].change(changed)
            assert looping is None, f"{prefix} loops through {looping} at {self._wire.now}"

    def _successors(self, node: Node, prefix: Prefix) -> list[str]:
        route = node.routes.get(prefix)
        if route is None or prefix in node.origins or node.name in self._but_for:
            return []
        return [self._owner(node, hop.ifindex, hop.via) for hop in route.next_hops]

    def _owner(self, node: Node, ifindex: int, via: Address | None) -> str:
        assert via is not None
        if via.family is Family.IPV6:
            return self._at_link_local[via]
        return self._at_ipv4[node.links[ifindex][0].number, via]
