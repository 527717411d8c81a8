"""RIBs of many tables, or of one with the same routes; run as a program, it prints their memory."""

from __future__ import annotations

import gc
import sys

from routed.model.prefix import Family, Prefix
from routed.model.route import Route, RouteSource
from routed.rib.table import Rib
from routed.rib.table_rib import TableRib
from tests.bench import tables
from tests.bench.bench_rib import GATEWAYS, LINK, NEIGHBORS, resident_bytes

__all__ = ["decided", "routes_of"]


def routes_of(count: int) -> list[Route]:
    """Make routes with gateways that have to be resolved."""
    return [
        Route(
            Prefix.trusted(Family.IPV4, network, length), RouteSource.STATIC, 1,
            gateways=GATEWAYS[hop % NEIGHBORS], owner="1/0",
        )
        for network, length, hop in tables.full_table(tables.IPV4, count)
    ]  # fmt: skip


def decided(routes: list[Route], number: int) -> list[Rib]:
    """Spread routes over a number of tables beside an empty main one; over that one if it is 1."""
    main = Rib()
    main.link_changed(LINK)
    main_changes = main.process()
    ribs: list[Rib] = [main] if number == 1 else []
    for _ in range(number - len(ribs)):
        rib = TableRib(main.find_cover)
        rib.link_changed(LINK)
        rib.main_changed(main_changes)
        ribs.append(rib)
    for index, route in enumerate(routes):
        ribs[index % number].install(route)
    for each in ribs:
        each.process()
    return ribs


def main(count: int, number: int) -> None:
    """Print how much this process grows by the RIBs."""
    routes = routes_of(count)
    gc.collect()
    before = resident_bytes()
    ribs = decided(routes, number)
    gc.collect()
    assert sum(map(len, ribs)) >= len(routes)
    print((resident_bytes() - before) / 1e6)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
