"""The RIB with a full table: the time to select its best paths, and the memory of two
candidates for each prefix.

Memory is the growth of the process (resident set), so it is measured once, in a separate process.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import Gateway, NextHop, Route, RouteSource
from routed.rib.table import Rib
from tests.bench import tables
from tests.bench.harness import ROOT, Bench, seconds

ROUTES = 1_000_000
ATTRIBUTE_SETS = 240_000
NEIGHBORS = 250
LINK = Interface(
    2, "eth0", True, True, 1500, False, True, (InterfaceAddress(Address.parse("192.0.2.1"), 24),)
)
GATEWAYS = [(Gateway(Address(Family.IPV4, 0xC0000202 + number)),) for number in range(NEIGHBORS)]
NEXT_HOPS = [
    (NextHop(Address(Family.IPV4, 0xC0000202 + number), 2),) for number in range(NEIGHBORS)
]


def run(bench: Bench) -> None:
    """Static routes with gateways that have to be resolved; then the memory."""
    table = tables.full_table(tables.IPV4, bench.scaled(ROUTES))
    routes = [
        Route(
            Prefix.trusted(Family.IPV4, network, length), RouteSource.STATIC, 1,
            gateways=GATEWAYS[hop % NEIGHBORS], owner="1/0",
        )
        for network, length, hop in table
    ]  # fmt: skip

    def install() -> Rib:
        rib = Rib()
        rib.link_changed(LINK)
        for route in routes:
            rib.install(route)
        return rib

    def decide() -> float:
        rib = install()
        return seconds(rib.process) / len(routes) * 1e6

    bench.compare("install one route", "us", lambda: seconds(install) / len(routes) * 1e6)
    bench.compare("decide one static route, gateway resolved", "us", decide)
    grown = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_rib", str(bench.scaled(ROUTES))],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    bench.add(
        "1M prefixes x 2 candidates, 240k attribute sets", "MB", float(grown.stdout), target=150
    )


def megabytes_of_two_candidates(count: int) -> float:
    """Return the growth of the process by a RIB of `count` prefixes with two candidates each."""
    table = tables.full_table(tables.IPV4, count)
    sets = max(1, len(table) * ATTRIBUTE_SETS // ROUTES // 2)  # of each of the two sources
    gc.collect()
    before = resident_bytes()
    rib = Rib()
    for source in (RouteSource.NEIGHBOR, RouteSource.INJECTED):
        for index, (network, length, _) in enumerate(table):
            # Two routes share a set of attributes: here metric, tag and next hops.
            shared = index % sets
            rib.install(
                Route(
                    Prefix.trusted(Family.IPV4, network, length), source, 90, shared, shared,
                    next_hops=NEXT_HOPS[shared % NEIGHBORS], owner="nup",
                )
            )  # fmt: skip
    rib.process()
    gc.collect()
    return (resident_bytes() - before) / 1e6


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(megabytes_of_two_candidates(int(sys.argv[1])))
