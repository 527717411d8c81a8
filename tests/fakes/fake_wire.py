"""Many neighbor instances on imagined wires, in virtual time.

A `FakeWire` holds nodes (one `NeighborInstance` each) and segments (what links of nodes are plugged
into). Everything that happens is an event in one heap, so a run is a pure function of its seed.
Loss, delay, reordering and duplication come from one seeded generator.

Each node keeps what its instance has reported, as a FIB would: `routes` (forwarding), `held`,
`adjacency_log`, `traces`. A node that is `crash`ed keeps its forwarding while its instance is gone,
as a router does whose control plane restarts; after `revive`, forwarding follows the new instance
from the moment that it is loaded, and what it has not learned goes after its dead interval: the
daemon's FIB gate.

With `kernel_lag_s` forwarding follows later: each node writes what was reported in batches, one at
a time, each of which takes a time of its own, and tells its instance when that is done.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.nup.auth.keys import KeyRing
from routed.nup.events import (
    AdjacencyChanged,
    AdjacencyState,
    LearnedPath,
    RouteHeld,
    RouteLost,
    RoutesLearned,
    SendDatagram,
    Trace,
    TraceCode,
)
from routed.nup.instance import NeighborInstance
from routed.nup.link.settings import LinkSettings
from routed.nup.recording.text import NewInstance

__all__ = ["FakeWire", "Node", "Segment", "WireFaults", "link_settings", "router_id"]


def router_id(number: int) -> Address:
    """10.255.0.n"""
    return Address(Family.IPV4, (10 << 24) + (255 << 16) + number)


def link_settings(
    node_number: int,
    ifindex: int,
    segment_number: int = 0,
    *,
    cost: int = 10,
    hello_interval_s: float = 1.0,
    multiplier: int = 3,
    mtu: int = 1500,
    has_ipv4: bool = True,
) -> LinkSettings:
    """Return a link with a link-local address, and 10.<segment>.0.<node>/16 unless without IPv4."""
    local = Address(Family.IPV6, (0xFE80 << 112) + (node_number << 16) + ifindex)
    addresses = [InterfaceAddress(local, 64)]
    if has_ipv4:
        ipv4_bits = (10 << 24) + ((segment_number % 200) << 16) + node_number
        addresses.insert(0, InterfaceAddress(Address(Family.IPV4, ipv4_bits), 16))
    return LinkSettings(
        ifindex=ifindex,
        ifname=f"eth{ifindex}",
        cost=cost,
        hello_interval_s=hello_interval_s,
        multiplier=multiplier,
        mtu=mtu,
        local_address=local,
        addresses=tuple(addresses),
    )


@dataclass(slots=True)
class WireFaults:
    """The faults of the wires."""

    loss: float = 0.0
    """Probability that a receiver misses a datagram."""
    duplication: float = 0.0
    delay_s: float = 0.0002
    jitter_s: float = 0.0
    """Largest additional delay, uniformly distributed; more than the gap between datagrams reorders
    them."""


@dataclass(slots=True, eq=False)
class Segment:
    """One wire; `is_cut` silences it, each plug's `is_up` is that end's carrier."""

    number: int
    plugs: list[tuple[Node, int]] = field(default_factory=list)
    is_cut: bool = False
    drops: Callable[[Node, Node, bytes], bool] | None = None
    """Returns whether a datagram from one node to another is lost."""


class Node:
    """A router: an instance, its links, and what the instance has reported."""

    def __init__(
        self, name: str, number: int, router_id: Address, rng: random.Random, now: float
    ) -> None:
        self.name = name
        self.number = number
        self.router_id = router_id
        self.rng = rng
        self.lives = 0
        self.new: NewInstance
        """Arguments of the present instance."""
        self.instance = self._new_instance()
        self.is_alive = True
        self.links: dict[int, tuple[Segment, LinkSettings]] = {}
        self.origins: dict[Prefix, int] = {}
        self.learned: dict[Prefix, LearnedPath] = {}
        """Routes that the present instance has reported."""
        self.routes: dict[Prefix, LearnedPath] = {}
        """Forwarding: routes that were learned, and those from before a restart."""
        self.is_gated = False
        self.unwritten: dict[Prefix, None] = {}
        """Reported, and not begun to be written; the kernel lags."""
        self.writing: dict[Prefix, LearnedPath | None] = {}
        """The batch that is being written; None for a removal."""
        self.awaited: dict[Prefix, None] = {}
        """Prefixes whose forwarding the instance awaits."""
        self.held: set[Prefix] = set()
        self.adjacency_log: list[AdjacencyChanged] = []
        self.traces: list[Trace] = []
        self.sent_datagrams = 0
        self.sent_bytes = 0
        """UDP payload."""
        self.started_at = now

    def _new_instance(self) -> NeighborInstance:
        self.lives += 1
        boot_id, seed = self.rng.getrandbits(32), self.rng.getrandbits(64)
        new = self.new = NewInstance(self.router_id, boot_id, self.lives << 16, seed)
        return NeighborInstance(new.router_id, new.boot_id, new.origin_seqno, random.Random(seed))

    def start_life(self, now: float) -> None:
        """Start a new instance with the same links and prefixes; forwarding stays as it is."""
        self.instance = self._new_instance()
        self.is_alive = True
        self.is_gated = True
        self.started_at = now
        self.unwritten.clear()
        self.writing = {}
        self.awaited.clear()
        self.learned = {}
        self.held.clear()
        former = [
            (hop.ifindex, hop.via)
            for route in self.routes.values()
            for hop in route.next_hops
            if hop.via is not None
        ]
        self.instance.expect_neighbors(former, now + self.dead_interval_s)
        for segment, settings in self.links.values():
            if not segment.is_cut:
                self.instance.link_up(settings, now)
        for prefix, metric in self.origins.items():
            self.instance.originate(prefix, metric, 0, False, now)

    @property
    def dead_interval_s(self) -> float:
        """The longest of its links."""
        return max((link.dead_interval_s for _, link in self.links.values()), default=0.0)

    def trace_codes(self) -> set[TraceCode]:
        """Trace codes so far."""
        return {trace.code for trace in self.traces}


class FakeWire:
    """The whole network and its clock."""

    def __init__(
        self,
        seed: int = 1,
        faults: WireFaults | None = None,
        *,
        kernel_lag_s: float = 0.0,
        awaits_forwarding: bool = True,
    ) -> None:
        """Begin with nothing.

        Args:
            seed: of everything that happens.
            faults: of the wires.
            kernel_lag_s: what a node takes at most to write a batch; 0 for no time at all.
            awaits_forwarding: whether instances wait for kernels that lag.
        """
        self._kernel_lag_s = kernel_lag_s
        self._awaits_forwarding = awaits_forwarding and kernel_lag_s > 0
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.faults = faults or WireFaults()
        self.nodes: dict[str, Node] = {}
        self.segments: list[Segment] = []
        self.changed: dict[tuple[str, Prefix], None] = {}
        """Changed forwarding as node and prefix, for an observer, which removes the entries."""
        self.changed_at = self.now
        """Time of the last change of forwarding."""
        self.on_step: Callable[[], None] | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        self._timers: dict[str, float | None] = {}

    # Building

    def add_node(self, name: str, clone_of: Node | None = None) -> Node:
        """Add a router with a new number, and a router id that follows from it or that of another
        router."""
        number = len(self.nodes) + 1
        own_id = router_id(number) if clone_of is None else clone_of.router_id
        node = Node(name, number, own_id, random.Random(self.rng.getrandbits(64)), self.now)
        self.nodes[name] = node
        node.instance.await_forwarding(self._awaits_forwarding, self.now)
        return node

    def connect(
        self,
        *names: str,
        cost: int = 10,
        hello_interval_s: float = 1.0,
        has_ipv4: bool = True,
        key_rings: Mapping[str, KeyRing] | None = None,
        accepts_unsigned: bool = False,
    ) -> Segment:
        """Plug nodes into a new segment; their links come up at once.

        Args:
            names: the nodes.
            cost: of every end.
            hello_interval_s: of every end.
            has_ipv4: whether the ends have IPv4 addresses.
            key_rings: what nodes sign with, by name; those that are not there do not sign.
            accepts_unsigned: whether those who sign believe those who do not.
        """
        segment = Segment(len(self.segments))
        self.segments.append(segment)
        for name in names:
            node = self.nodes[name]
            settings = link_settings(
                node.number,
                len(node.links) + 1,
                segment.number,
                cost=cost,
                hello_interval_s=hello_interval_s,
                has_ipv4=has_ipv4,
            )
            if key_rings is not None and name in key_rings:
                settings = dataclasses.replace(
                    settings, key_ring=key_rings[name], accepts_unsigned=accepts_unsigned
                )
            node.links[settings.ifindex] = (segment, settings)
            segment.plugs.append((node, settings.ifindex))
            node.instance.link_up(settings, self.now)
            self._drain(node)
        return segment

    # What happens to it

    def originate(self, name: str, *prefixes: str, metric: int = 0) -> None:
        """Originate prefixes at a node."""
        node = self.nodes[name]
        for prefix in map(Prefix.parse, prefixes):
            node.origins[prefix] = metric
            node.instance.originate(prefix, metric, 0, False, self.now)
            self.changed[name, prefix] = None
        self._drain(node)

    def withdraw(self, name: str, prefix: str) -> None:
        """Withdraw a prefix at a node."""
        node = self.nodes[name]
        del node.origins[Prefix.parse(prefix)]
        self.changed[name, Prefix.parse(prefix)] = None
        node.instance.withdraw(Prefix.parse(prefix), self.now)
        self._drain(node)

    def cut(self, segment: Segment, *, has_carrier_loss: bool = True) -> None:
        """Cut a wire; with carrier loss both ends notice at once, without they do not."""
        segment.is_cut = True
        if has_carrier_loss:
            for node, ifindex in segment.plugs:
                if node.is_alive:
                    node.instance.link_down(ifindex, self.now)
                    self._drain(node)

    def mend(self, segment: Segment) -> None:
        """Undo `cut`."""
        segment.is_cut = False
        for node, ifindex in segment.plugs:
            if node.is_alive:
                node.instance.link_up(node.links[ifindex][1], self.now)
                self._drain(node)

    def reconfigure(self, node: Node, ifindex: int, settings: LinkSettings) -> None:
        """One end of a wire gets new settings."""
        node.links[ifindex] = (node.links[ifindex][0], settings)
        if node.is_alive:
            node.instance.link_changed(settings, self.now)
            self._drain(node)

    def change_cost(self, segment: Segment, cost: int) -> None:
        """Set the cost of both ends of a wire; an end that is down gets it when it comes up."""
        for node, ifindex in segment.plugs:
            settings = dataclasses.replace(node.links[ifindex][1], cost=cost)
            if segment.is_cut:
                node.links[ifindex] = (segment, settings)
            else:
                self.reconfigure(node, ifindex, settings)

    def crash(self, name: str, *, is_forwarding: bool = True) -> None:
        """Stop the control plane of a node without notice; forwarding continues or stops."""
        node = self.nodes[name]
        if not is_forwarding:
            self._stop_forwarding(node)
        node.is_alive = False
        node.is_gated = True
        self._timers[name] = None

    def revive(self, name: str) -> None:
        """Start a crashed node again."""
        node = self.nodes[name]
        node.start_life(self.now)
        self._drain(node)

    def kick(self, name: str) -> None:
        """Drain the outputs of an instance that was called outside of this wire."""
        self._drain(self.nodes[name])

    def await_forwarding(self, name: str, *, is_on: bool) -> None:
        """Switch the wait for `follow` on or off at a node."""
        node = self.nodes[name]
        node.instance.await_forwarding(is_on, self.now)
        self._drain(node)

    def hear_of_kernel(self, name: str) -> bool:
        """Tell a node that whoever writes its kernel is alive; whether something is due by that."""
        node = self.nodes[name]
        is_due = node.instance.forwarding_alive(self.now)
        self._drain(node)
        return is_due

    def follow(self, name: str, prefixes: list[Prefix] | None = None) -> list[Prefix]:
        """Tell a node that forwarding has followed.

        Args:
            name: of the node.
            prefixes: these; without them everything that it waits for.

        Returns:
            What it was told.
        """
        node = self.nodes[name]
        followed = node.instance.pop_forwarding_waits() if prefixes is None else prefixes
        node.instance.forwarding_updated(followed, self.now)
        self._drain(node)
        return followed

    def stop(self, name: str, *, is_restart: bool) -> None:
        """Stop a node in an orderly way."""
        node = self.nodes[name]
        node.instance.stop(is_restart, self.now)
        self._drain(node)
        node.is_alive = False
        node.is_gated = is_restart
        if not is_restart:
            self._stop_forwarding(node)

    # Time

    def run(self, duration_s: float) -> None:
        """Let virtual time pass."""
        self.run_until_time(self.now + duration_s)

    def run_until_time(self, end: float) -> None:
        """Let virtual time pass until a moment."""
        while self._events and self._events[0][0] <= end:
            moment, _, action = heapq.heappop(self._events)
            self.now = max(self.now, moment)
            action()
            if self.on_step is not None:
                self.on_step()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit_s: float) -> float:
        """Let time pass until a condition holds.

        Returns:
            Virtual seconds that it took.

        Raises:
            AssertionError: it did not hold within the limit.
        """
        start = self.now
        while not condition():
            assert self._events, "nothing will ever happen again"
            assert self._events[0][0] <= start + limit_s, f"not within {limit_s} s"
            self.run_until_time(self._events[0][0])
        return self.now - start

    def all_up(self) -> bool:
        """Return whether every pair of live plugs on an uncut segment has an adjacency UP, both
        ways."""
        up: dict[tuple[str, int], set[Address | None]] = defaultdict(set)
        for name, node in self.nodes.items():
            for row in node.instance.neighbors(self.now):
                if row.state is AdjacencyState.UP:
                    up[name, row.ifindex].add(row.router_id)
        for segment in self.segments:
            if segment.is_cut:
                continue
            alive = [(node, ifindex) for node, ifindex in segment.plugs if node.is_alive]
            for node, ifindex in alive:
                expected = {peer.router_id for peer, _ in alive if peer is not node}
                if up[node.name, ifindex] != expected:
                    return False
        return True

    # Inside

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._counter), action))

    def _drain(self, node: Node) -> None:
        """Carry out the outputs of an instance, and set its timer."""
        for output in node.instance.outputs():
            match output:
                case SendDatagram(ifindex, destination, data):
                    node.sent_datagrams += 1
                    node.sent_bytes += len(data)
                    self._send(node, ifindex, destination, data)
                case RoutesLearned(_, prefixes, path):
                    for prefix in prefixes:
                        node.learned[prefix] = path
                        node.held.discard(prefix)
                        self._forward(node, prefix)
                case RouteHeld(prefix):
                    node.learned.pop(prefix)
                    node.held.add(prefix)
                    self._forward(node, prefix)
                case RouteLost(prefix):
                    node.learned.pop(prefix, None)
                    node.held.discard(prefix)
                    self._forward(node, prefix)
                case AdjacencyChanged():
                    node.adjacency_log.append(output)
                case Trace():
                    node.traces.append(output)
        if node.is_gated and node.is_alive and node.instance.is_loaded(self.now):
            node.is_gated = False
            for prefix in node.learned:
                self._forward(node, prefix)
            self._sweep_later(node, node.instance)
            node.instance.await_forwarding(self._awaits_forwarding, self.now)
        if self._kernel_lag_s and node.is_alive:
            self._follow(node)
        self._arm(node)

    def _forward(self, node: Node, prefix: Prefix) -> None:
        if node.is_gated:
            return
        if self._kernel_lag_s:
            node.unwritten[prefix] = None
        else:
            self._write(node, prefix, node.learned.get(prefix))

    def _write(self, node: Node, prefix: Prefix, route: LearnedPath | None) -> None:
        self._record_changed(node, prefix)
        if route is not None:
            node.routes[prefix] = route
        else:
            node.routes.pop(prefix, None)

    def _sweep_later(self, node: Node, instance: NeighborInstance) -> None:
        """Remove routes of an earlier boot that were not advertised again, after the dead
        interval."""

        def sweep() -> None:
            if node.is_alive and node.instance is instance:
                for prefix in sorted(node.routes.keys() - node.learned.keys()):
                    self._forward(node, prefix)
                self._drain(node)

        self._at(max(node.started_at + node.dead_interval_s, self.now), sweep)

    def _follow(self, node: Node) -> None:
        """Begin to write the reported state of this moment, and schedule the end of the write."""
        if node.unwritten and not node.writing:
            node.writing = {prefix: node.learned.get(prefix) for prefix in node.unwritten}
            node.unwritten.clear()
            lag_s = self.rng.uniform(self._kernel_lag_s / 10, self._kernel_lag_s)
            instance = node.instance
            self._at(self.now + lag_s, lambda: self._finish_writing(node, instance))
        node.awaited.update(dict.fromkeys(node.instance.pop_forwarding_waits()))
        followed = node.awaited.keys() - node.unwritten.keys() - node.writing.keys()
        if followed:
            for prefix in followed:
                del node.awaited[prefix]
            node.instance.forwarding_updated(sorted(followed), self.now)
            self._drain(node)

    def _finish_writing(self, node: Node, instance: NeighborInstance) -> None:
        if not node.is_alive or node.instance is not instance:
            return
        for prefix, route in node.writing.items():
            self._write(node, prefix, route)
        node.writing = {}
        self._drain(node)

    def _stop_forwarding(self, node: Node) -> None:
        """Remove all routes of a node. This is a change for observers, but not one to wait for."""
        self.changed.update(dict.fromkeys((node.name, prefix) for prefix in node.routes))
        node.routes.clear()

    def _record_changed(self, node: Node, prefix: Prefix) -> None:
        self.changed[node.name, prefix] = None
        self.changed_at = self.now

    def _arm(self, node: Node) -> None:
        moment = node.instance.next_timer() if node.is_alive else None
        if moment == self._timers.get(node.name):
            return
        self._timers[node.name] = moment
        if moment is not None:
            instance = node.instance
            self._at(moment, lambda: self._fire(node, instance, moment))

    def _fire(self, node: Node, instance: NeighborInstance, moment: float) -> None:
        if node.instance is not instance or self._timers.get(node.name) != moment:
            return
        self._timers[node.name] = None
        instance.handle_timer(self.now)
        self._drain(node)

    def _send(self, sender: Node, ifindex: int, destination: Address | None, data: bytes) -> None:
        segment, settings = sender.links[ifindex]
        for node, its_ifindex in segment.plugs:
            if node is sender and its_ifindex == ifindex:
                continue
            its_address = node.links[its_ifindex][1].local_address
            if destination not in (None, its_address):
                continue
            if segment.drops is not None and segment.drops(sender, node, data):
                continue
            copies = 2 if self.rng.random() < self.faults.duplication else 1
            for _ in range(copies):
                if self.rng.random() < self.faults.loss:
                    continue
                delay_s = self.faults.delay_s + self.rng.uniform(0, self.faults.jitter_s)
                self._deliver_later(segment, node, its_ifindex, settings, data, delay_s)

    def _deliver_later(
        self,
        segment: Segment,
        node: Node,
        ifindex: int,
        sender_settings: LinkSettings,
        data: bytes,
        delay_s: float,
    ) -> None:
        def deliver() -> None:
            if node.is_alive and not segment.is_cut:
                source = sender_settings.local_address
                node.instance.receive_datagram(data, source, ifindex, 255, self.now)
                self._drain(node)

        self._at(self.now + delay_s, deliver)
