"""A hundred tables of ten thousand routes, beside one table of a million: RIB, memory, kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import tables
from tests.bench.bench_fib import build_limit, install
from tests.bench.fib_parts import Arena, Table
from tests.bench.harness import ROOT, Bench, seconds
from tests.bench.many_ribs import decided, routes_of

ROUTES, TABLES = 1_000_000, 100


def run(bench: Bench) -> None:
    """Time to decide, memory, and the way into the kernel."""
    count = bench.scaled(ROUTES)
    routes = routes_of(count)
    bench.compare(
        f"install and decide {TABLES} tables x {count // TABLES} routes",
        "us a route",
        lambda: seconds(lambda: decided(routes, TABLES)) / count * 1e6,
        {"one table": lambda: seconds(lambda: decided(routes, 1)) / count * 1e6},
        target=1.3,
        limit="one table",
    )
    many, one = (_grown(count, number) for number in (TABLES, 1))
    work = f"memory of {TABLES} RIBs x {count // TABLES} routes"
    bench.add(work, "MB", many, {"one table": one}, target=1.3, limit="one table")
    if os.geteuid() != 0:
        bench.leave_out("the kernel", "needs root, for network namespaces")
        return
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limit = build_limit(bench, directory)
        arena = stack.enter_context(Arena.built())
        install(bench, Table(arena, tables.IPV4, count, directory, kernel_tables=TABLES), limit)


def _grown(count: int, number: int) -> float:
    """How much a process grows by these RIBs, in megabytes."""
    words = [sys.executable, "-m", "tests.bench.many_ribs", str(count), str(number)]
    grown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(grown.stdout)
