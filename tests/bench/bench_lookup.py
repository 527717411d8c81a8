"""Longest-prefix match in the shared-memory FIB: one million IPv4 and 200k IPv6 routes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ipc.snapshot import FibReader
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, Route, RouteSource
from routed.rib.snapshot import FibSnapshot
from routed.rib.table import BestChange, Selection
from tests.bench import tables
from tests.bench.harness import Bench, Measure, seconds

V4_ROUTES = 1_000_000
V6_ROUTES = 200_000
SINGLES = 50_000
"""Single look-ups in one run."""


def run(bench: Bench) -> None:
    """Build both tables, look addresses up one by one and in batches."""
    routes = {
        tables.IPV4: tables.full_table(tables.IPV4, bench.scaled(V4_ROUTES)),
        tables.IPV6: tables.full_table(tables.IPV6, bench.scaled(V6_ROUTES)),
    }
    snapshot = publish(routes)
    with FibReader.from_fd(os.dup(snapshot.fileno())) as reader:
        singles_from_text(bench, reader, routes[tables.IPV4])
    snapshot.close()


def publish(routes: dict[tables.Shape, list[tables.Route]]) -> FibSnapshot:
    """A snapshot of the routes."""
    snapshot = FibSnapshot(Address.parse("10.255.0.1"), os.getpid())
    hops = [
        (NextHop(Address(Family.IPV4, 0xC0000201 + number), 2),)
        for number in range(tables.NEXT_HOPS)
    ]
    for shape, of_shape in routes.items():
        family = Family.IPV4 if shape.width == 32 else Family.IPV6
        changes = []
        for network, length, hop in of_shape:
            prefix = Prefix.trusted(family, network, length)
            route = Route(prefix, RouteSource.STATIC, 1, next_hops=hops[hop])
            changes.append(BestChange(prefix, Selection(route, hops[hop])))
        snapshot.apply(changes, lambda index: f"eth{index}", 1)
    return snapshot


def singles_from_text(bench: Bench, reader: FibReader, routes: list[tables.Route]) -> None:
    """From an address as text to the route, as routectl does it, beside the libraries of PyPI."""
    addresses = [
        socket.inet_ntop(socket.AF_INET, address.to_bytes(4, "big"))
        for address in tables.zipf_addresses(tables.IPV4, routes, bench.scaled(SINGLES))
    ]
    prefixes = [
        (f"{socket.inet_ntop(socket.AF_INET, network.to_bytes(4, 'big'))}/{length}", hop)
        for network, length, hop in routes
    ]

    def each(lookup: Callable[[str], object]) -> Measure:
        def measure() -> float:
            def work() -> None:
                for address in addresses:
                    lookup(address)

            return seconds(work) / len(addresses) * 1e9

        return measure

    peers = {name: each(lookup) for name, lookup in text_peers(bench, prefixes).items()}
    bench.compare("whole route, IPv4 text, zipf", "ns", each(reader.lookup), peers)


def text_peers(bench: Bench, prefixes: list[tuple[str, int]]) -> dict[str, Callable[[str], object]]:
    """The libraries that are installed, filled, each as a function from text to a value."""
    found: dict[str, Callable[[str], object]] = {}
    pytricia = bench.peer("pytricia", "PyPI: pytricia")
    if pytricia is not None:
        patricia = pytricia.PyTricia(32)
        for prefix, hop in prefixes:
            patricia[prefix] = hop
        found["pytricia"] = patricia.get
    radix = bench.peer("radix", "PyPI: py-radix")
    if radix is not None:
        tree = radix.Radix()
        for prefix, hop in prefixes:
            tree.add(prefix).data["hop"] = hop
        found["py-radix"] = tree.search_best
    subnettree = bench.peer("SubnetTree", "PyPI: pysubnettree")
    if subnettree is not None:
        subnets = subnettree.SubnetTree()
        for prefix, hop in prefixes:
            subnets[prefix] = hop
        found["pysubnettree"] = subnets.__getitem__
    return found
