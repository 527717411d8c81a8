"""A snapshot with a synthetic table in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, Route, RouteSource
from routed.rib.snapshot import FibSnapshot
from routed.rib.table import BestChange, Selection
from tests.bench import tables

__all__ = ["best_changes", "publish"]

HOPS = [
    (NextHop(Address(Family.IPV4, 0xC0000201 + number), 2),) for number in range(tables.NEXT_HOPS)
]


def best_changes(shape: tables.Shape, routes: Sequence[tables.Route]) -> list[BestChange]:
    """The routes as the RIB reports them."""
    family = Family.IPV4 if shape.width == 32 else Family.IPV6
    changes = []
    for network, length, hop in routes:
        prefix = Prefix.trusted(family, network, length)
        route = Route(prefix, RouteSource.STATIC, 1, next_hops=HOPS[hop])
        changes.append(BestChange(prefix, Selection(route, HOPS[hop])))
    return changes


def publish(content: Mapping[tables.Shape, Sequence[tables.Route]]) -> FibSnapshot:
    """A snapshot of the routes."""
    snapshot = FibSnapshot(Address.parse("10.255.0.1"), os.getpid())
    for shape, routes in content.items():
        snapshot.apply(best_changes(shape, routes), lambda index: f"eth{index}", 1)
    return snapshot
