"""A snapshot with a synthetic table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from routed.model.prefix import Address, Family
from routed.model.route import NextHop, PathAttributes, RouteSource
from routed.rib.table import BestPath, BestPathChanges
from routed.snapshot.writer import FibSnapshot
from tests.bench import tables

__all__ = ["best_changes", "publish"]

HOPS = [
    (NextHop(Address(Family.IPV4, 0xC0000201 + number), 2),) for number in range(tables.NEXT_HOPS)
]


SELECTIONS = [
    BestPath(PathAttributes(1, 0, RouteSource.STATIC, "", next_hops=hops), hops) for hops in HOPS
]


def best_changes(shape: tables.Shape, routes: Sequence[tables.Route]) -> BestPathChanges:
    """The routes as the RIB reports them, where many share their next hops."""
    family = Family.IPV4 if shape.width == 32 else Family.IPV6
    rows = sorted((network << 8 | length, hop) for network, length, hop in routes)
    return BestPathChanges(family, [key for key, _ in rows], [SELECTIONS[hop] for _, hop in rows])


def publish(content: Mapping[tables.Shape, Sequence[tables.Route]]) -> FibSnapshot:
    """A snapshot of the routes."""
    snapshot = FibSnapshot(Address.parse("10.255.0.1"), os.getpid())
    for shape, routes in content.items():
        snapshot.apply([best_changes(shape, routes)], lambda index: f"eth{index}", 1)
    return snapshot
