"""A topology: routers and the links between them, from a YAML file.

    description: one line
    config: {...}                   # merged over the generated routes.yaml of every router
    nodes:
      A: {}                         # or {config: {...}}: this router alone
      R: {}
      B: {}
    links:
      - A-R                         # a veth pair
      - {between: R-B, ipv4: 10.9.9.0/30, ipv6: 2001:db8:99::/64}
      - {between: A-B, cost: 100}   # of NUP, at both ends; default: that of `config`, else 10
    lans:
      lan: [A, R, B]                # a bridge in a namespace of its own

All other values follow from the order in the file, so that a topology is the same network every
time it is built:

    router N (from 1)       router id and loopback 10.255.0.N/32 and 2001:db8:ff::N/128
    segment S (links, then  10.0.S.0/30 and 2001:db8:S::/64; the first named end is .1 and ::1
    lans, from 1)           a LAN: 10.0.S.0/24, router N is .N and ::N
    interface of A to B     eth-B; to a LAN, eth-LANNAME
    its hardware address    02:00:00:00:SS:NN, so that link-local addresses are stable, too

Failure: `TopologyError` names the file and the error.
"""

from __future__ import annotations

import fnmatch
import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "DEFAULT_COST",
    "HELLO",
    "LOOPBACKS_IPV4",
    "LOOPBACKS_IPV6",
    "MULTIPLIER",
    "Node",
    "Port",
    "Segment",
    "Topology",
    "load",
    "merge",
]

LOOPBACKS_IPV4 = IPv4Network("10.255.0.0/16")
LOOPBACKS_IPV6 = IPv6Network("2001:db8:ff::/48")

DIRECTORY = Path(__file__).parent / "topologies"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,9}")
"""Name of a node or LAN: short enough for `eth-NAME`, and without the dash that joins two of
them."""

_NODES_MAX, _SEGMENTS_MAX = 250, 250

DEFAULT_COST = 10
"""Of an interface whose configuration names none."""
HELLO, MULTIPLIER = "300ms", 3
"""Timers of NUP in a lab."""

IpInterface = IPv4Interface | IPv6Interface


class TopologyError(Exception):
    """The topology cannot be built; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Port:
    """A router's interface on a segment."""

    node: str
    ifname: str
    mac: bytes
    addresses: tuple[IpInterface, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A link between routers: a veth pair (two ports) or a LAN."""

    name: str
    """`A-R` for a pair, otherwise the name of the LAN."""
    is_lan: bool
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A router."""

    name: str
    number: int
    """Position in the file, from 1."""
    config: Mapping[str, Any]
    """Merged over the generated configuration."""

    def cost(self, ifname: str) -> int:
        """Return the configured cost of NUP on an interface."""
        entries = merge({"eth*": {}}, self.config.get("interfaces") or {})
        for name in (ifname, *entries):
            entry = entries.get(name)
            if entry is not None and fnmatch.fnmatchcase(ifname, name):
                return int(entry.get("cost", DEFAULT_COST))
        return DEFAULT_COST

    @property
    def router_id(self) -> str:
        """The router id, which is also its IPv4 loopback address."""
        return str(LOOPBACKS_IPV4[self.number])

    @property
    def loopbacks(self) -> tuple[IPv4Interface, IPv6Interface]:
        """The addresses that the other routers should reach."""
        ipv4 = IPv4Interface(f"{LOOPBACKS_IPV4[self.number]}/32")
        return ipv4, IPv6Interface(f"{LOOPBACKS_IPV6[self.number]}/128")


@dataclass(frozen=True, slots=True)
class Topology:
    """A network with all values that follow from its file."""

    description: str
    document: Mapping[str, Any]
    """The topology as plain data, which is passed to the holder."""
    nodes: Mapping[str, Node]
    segments: tuple[Segment, ...]

    def with_config(self, config: Mapping[str, Any]) -> Topology:
        """Return the same network with additional configuration for every router."""
        common = merge(self.document.get("config") or {}, config)
        return compute({**self.document, "config": common})

    def ports_of(self, node: str) -> list[Port]:
        """Return the interfaces of one router, in file order."""
        return [port for segment in self.segments for port in segment.ports if port.node == node]

    def port_between(self, name: str) -> Port:
        """Return the port of `A-B` or `A-LAN`: A's interface towards B.

        Raises:
            TopologyError: there is no such link; the text lists the links.
        """
        node, _, towards = name.partition("-")
        for port in self.ports_of(node):
            if port.ifname == f"eth-{towards}":
                return port
        known = [
            segment.name if not segment.is_lan else f"{port.node}-{segment.name}"
            for segment in self.segments
            for port in (segment.ports if segment.is_lan else segment.ports[:1])
        ]
        raise TopologyError(f"there is no link {name}; the links are {', '.join(known)}")

    def first_hops(self, cut: frozenset[tuple[str, str]] = frozenset()) -> FirstHops:
        """Return the first links of shortest paths, for every router and every other router.

        A path is as long as the sum of the configured costs of the interfaces that it leaves by.

        Args:
            cut: ports that are down, as (node, interface name).

        Returns:
            (router, destination) -> interface names; none for a destination that cannot be reached.
        """
        edges = self._edges(cut)
        distances = {name: _distances(edges, name) for name in self.nodes}
        return {
            (here, there): frozenset(
                ifname
                for ifname, neighbor, cost in edges[here]
                if there in distances[neighbor]
                and cost + distances[neighbor][there] == distances[here][there]
            )
            for here in self.nodes
            for there in self.nodes
            if here != there
        }

    def _edges(self, cut: frozenset[tuple[str, str]]) -> Edges:
        """Return each router's links, the neighbor behind each and the cost; a veth pair needs both
        ports up."""
        edges: dict[str, list[tuple[str, str, int]]] = {name: [] for name in self.nodes}
        for segment in self.segments:
            alive = [port for port in segment.ports if (port.node, port.ifname) not in cut]
            if not segment.is_lan and len(alive) < len(segment.ports):
                continue
            for port in alive:
                others = [other.node for other in alive if other is not port]
                cost = self.nodes[port.node].cost(port.ifname)
                edges[port.node] += [(port.ifname, other, cost) for other in others]
        return edges


FirstHops = dict[tuple[str, str], frozenset[str]]


Edges = Mapping[str, Sequence[tuple[str, str, int]]]
"""By router: interface, neighbor, cost."""


def _distances(edges: Edges, origin: str) -> dict[str, int]:
    """Return the cost of the shortest path to every router that can be reached (Dijkstra)."""
    distances: dict[str, int] = {}
    found = [(0, origin)]
    while found:
        distance, node = heapq.heappop(found)
        if node in distances:
            continue
        distances[node] = distance
        for _, neighbor, cost in edges[node]:
            heapq.heappush(found, (distance + cost, neighbor))
    return distances


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over`; if both values of a key are mappings, they are
    merged."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both_map = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both_map and isinstance(old, Mapping) else value
    return merged


def load(name: str) -> Topology:
    """Read a topology by the name of a file in topologies/, or by a path.

    Raises:
        TopologyError: there is no such file, or it is invalid.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else DIRECTORY / f"{name}.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(entry.stem for entry in DIRECTORY.glob("*.yaml")))
        raise TopologyError(f"there is no topology {name!r}; there are {known}") from None
    except yaml.YAMLError as error:
        raise TopologyError(f"{path}: {error}") from error
    try:
        return compute(document)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error


def compute(document: object) -> Topology:
    """Compute a topology from plain data.

    Raises:
        TopologyError: a key is missing, unknown, duplicate or superfluous.
    """
    keys = {"description", "config", "nodes", "links", "lans"}
    if not isinstance(document, dict) or not document.get("nodes"):
        raise TopologyError("expected a mapping with at least `nodes`")
    if unknown := sorted(set(document) - keys):
        raise TopologyError(f"unknown keys {unknown}; there are {sorted(keys)}")
    pairs = [_pair_document(entry) for entry in document.get("links") or []]
    nodes = _nodes(document["nodes"], document.get("config") or {}, _costs(pairs))
    lans: dict[str, list[str]] = document.get("lans") or {}
    if len(pairs) + len(lans) > _SEGMENTS_MAX:
        raise TopologyError(f"more than {_SEGMENTS_MAX} links")
    segments = [_pair(entry, number, nodes) for number, entry in enumerate(pairs, 1)]
    segments += [
        _lan(name, members, number, nodes)
        for number, (name, members) in enumerate(lans.items(), len(pairs) + 1)
    ]
    _refuse_twins(segments)
    return Topology(str(document.get("description", "")), document, nodes, tuple(segments))


def _costs(pairs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the configuration of the interfaces whose link has a cost, by node."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        if "cost" in pair:
            left, _, right = pair["between"].partition("-")
            for here, there in ((left, right), (right, left)):
                entry = {"hello": HELLO, "multiplier": MULTIPLIER, "cost": pair["cost"]}
                found.setdefault(here, {})[f"eth-{there}"] = entry
    return {name: {"interfaces": entries} for name, entries in found.items()}


def _nodes(
    entries: object, common: Mapping[str, Any], costs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Node]:
    if not isinstance(entries, dict) or len(entries) > _NODES_MAX:
        raise TopologyError(f"`nodes` is a mapping of at most {_NODES_MAX} names")
    nodes = {}
    for number, (name, options) in enumerate(entries.items(), 1):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TopologyError(f"{name!r} cannot name a node (1 to 10 letters and digits)")
        if unknown := sorted(set(options or {}) - {"config"}):
            raise TopologyError(f"node {name}: unknown keys {unknown}; there is `config`")
        config = merge(merge(common, costs.get(name, {})), (options or {}).get("config") or {})
        nodes[name] = Node(name, number, config)
    return nodes


def _pair_document(entry: object) -> dict[str, Any]:
    document = {"between": entry} if isinstance(entry, str) else entry
    keys = {"between", "cost", "ipv4", "ipv6"}
    if not isinstance(document, dict) or "between" not in document or set(document) - keys:
        raise TopologyError(f"link {entry!r}: expected A-B or a mapping of {sorted(keys)}")
    cost = document.get("cost", DEFAULT_COST)
    if not isinstance(document["between"], str) or type(cost) is not int or not 1 <= cost <= 65535:
        raise TopologyError(f"link {entry!r}: expected a name (A-B), and a cost of 1 to 65535")
    return document


def _member(name: str, nodes: Mapping[str, Node], segment: str) -> Node:
    if name not in nodes:
        raise TopologyError(f"{segment}: there is no node {name!r}")
    return nodes[name]


def _pair(document: Mapping[str, str], number: int, nodes: Mapping[str, Node]) -> Segment:
    name = document["between"]
    left, dash, right = name.partition("-")
    if not dash or left == right:
        raise TopologyError(f"link {name!r}: expected two different nodes, as in A-B")
    try:
        subnets = (
            ip_network(document.get("ipv4", f"10.0.{number}.0/30")),
            ip_network(document.get("ipv6", f"2001:db8:{number:x}::/64")),
        )
    except ValueError as error:
        raise TopologyError(f"link {name}: {error}") from error
    ends = (_member(left, nodes, name), _member(right, nodes, name))
    ports = tuple(
        _port(node, towards.name, number, subnets, host)
        for node, towards, host in ((ends[0], ends[1], 1), (ends[1], ends[0], 2))
    )
    return Segment(name, False, ports)


def _lan(name: str, members: Sequence[str], number: int, nodes: Mapping[str, Node]) -> Segment:
    if not _NAME.fullmatch(name) or name in nodes:
        raise TopologyError(f"{name!r} cannot name a LAN, or is a node's name, too")
    subnets = (ip_network(f"10.0.{number}.0/24"), ip_network(f"2001:db8:{number:x}::/64"))
    routers = [_member(member, nodes, name) for member in members]
    ports = tuple(_port(node, name, number, subnets, node.number) for node in routers)
    return Segment(name, True, ports)


def _port(
    node: Node,
    towards: str,
    segment: int,
    subnets: tuple[IPv4Network | IPv6Network, ...],
    host: int,
) -> Port:
    addresses = tuple(
        ip_interface(f"{subnet.network_address + host}/{subnet.prefixlen}") for subnet in subnets
    )
    mac = bytes((2, 0, 0, 0, segment, node.number))
    return Port(node.name, f"eth-{towards}", mac, addresses)


def _refuse_twins(segments: Sequence[Segment]) -> None:
    seen: set[tuple[str, str]] = set()
    for segment in segments:
        for port in segment.ports:
            if (port.node, port.ifname) in seen:
                raise TopologyError(f"{segment.name}: {port.node} has a link of this name already")
            seen.add((port.node, port.ifname))
