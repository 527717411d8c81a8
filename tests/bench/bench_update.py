"""Publishing changes of the table: one route, ten thousand in one burst, the whole table.

The time is the writer's, from the call of `FibSnapshot.apply` until the change can be seen in the
shared memory; the RIB's decision comes before it (`bench_rib`).
"""

from __future__ import annotations

import itertools
import os
import random
import time

from routed.model.prefix import Address
from routed.rib.table import BestPathChanges
from routed.snapshot.parts import MakeParts, native_parts, python_parts
from routed.snapshot.writer import TICK_NS, FibSnapshot
from tests.bench import tables
from tests.bench.harness import Bench, seconds
from tests.bench.loading import best_changes

V4_ROUTES = 1_000_000
V6_ROUTES = 200_000
ONES = 20_000
"""Single changes, half of them removals."""
BURST = 10_000


class Publisher:
    """A snapshot, and a clock by which every burst lets memory be reused as in a busy daemon."""

    def __init__(self, make_parts: MakeParts) -> None:
        router_id = Address.parse("10.255.0.1")
        self.snapshot = FibSnapshot(router_id, os.getpid(), make_parts=make_parts)
        self._now_ns = itertools.count(TICK_NS, TICK_NS // 100)

    def apply(self, changes: BestPathChanges) -> None:
        self.snapshot.apply([changes], lambda index: f"eth{index}", next(self._now_ns))


def run(bench: Bench) -> None:
    """The same work in Python and, where it is built, by the C extension."""
    v4 = best_changes(tables.IPV4, tables.full_table(tables.IPV4, bench.scaled(V4_ROUTES)))
    v6 = best_changes(tables.IPV6, tables.full_table(tables.IPV6, bench.scaled(V6_ROUTES)))
    measure(bench, "Python", python_parts, v4, v6, (3.0, 40.0, 1000.0, 400.0))
    if native_parts is None:
        bench.leave_out("the C extension", "python setup.py build_ext --inplace")
    else:
        measure(bench, "C", native_parts, v4, v6, (0.3, 6.0, None, 60.0))


def measure(
    bench: Bench,
    name: str,
    make_parts: MakeParts,
    v4: BestPathChanges,
    v6: BestPathChanges,
    targets: tuple[float, float, float | None, float],
) -> None:
    """Load both tables, change single routes, change ten thousand at once."""
    full, p50, p999, burst = targets
    publisher = Publisher(make_parts)
    took = seconds(lambda: publisher.apply(v4))
    bench.add(f"full load, 1M IPv4, {name}", "s", took, target=full)
    publisher.apply(v6)
    for family, changes in (("IPv4", v4), ("IPv6", v6)):
        times = single_changes(publisher, changes, bench.scaled(ONES))
        is_v4 = family == "IPv4"
        bench.add(
            f"one route, {family}, p50, {name}", "us", times[len(times) // 2],
            target=p50 if is_v4 else None,
        )  # fmt: skip
        bench.add(
            f"one route, {family}, p99.9, {name}", "us", times[len(times) * 999 // 1000],
            target=p999 if is_v4 else None,
        )  # fmt: skip
        chosen = sample(changes, bench.scaled(BURST))
        bench.compare(
            f"10k changes, {family}, {name}", "ms",
            lambda chosen=chosen: seconds(lambda: publisher.apply(chosen)) * 1e3,  # type: ignore[misc]
            target=burst if is_v4 else None,
        )  # fmt: skip
    publisher.snapshot.close()


def sample(changes: BestPathChanges, count: int) -> BestPathChanges:
    """Some of them, in order."""
    chosen = sorted(random.Random(7).sample(range(len(changes.keys)), count))
    return BestPathChanges(
        changes.family,
        [changes.keys[index] for index in chosen],
        [changes.best_paths[index] for index in chosen],
    )


def single_changes(publisher: Publisher, changes: BestPathChanges, count: int) -> list[float]:
    """Remove a route and add it again, repeatedly. Returns the times in us, sorted."""
    rng, times = random.Random(5), []
    for _ in range(-(-count // 2)):
        index = rng.randrange(len(changes.keys))
        for best_path in (None, changes.best_paths[index]):
            one = BestPathChanges(changes.family, [changes.keys[index]], [best_path])
            began_ns = time.perf_counter_ns()
            publisher.apply(one)
            times.append((time.perf_counter_ns() - began_ns) / 1e3)
    return sorted(times)
