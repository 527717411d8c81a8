"""A real snapshot writer with a clock of its own, and what tests put into it."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterable
from functools import partial

from ipc.extension import native
from ipc.fib_search import PythonSearch, Search
from ipc.snapshot import FibReader
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, PathAttributes, RouteSource, RouteType
from routed.rib.table import BestPath, BestPathChanges
from routed.snapshot.parts import MakeParts, native_parts, python_parts
from routed.snapshot.writer import TICK_NS, FibSnapshot
from tests.fakes.lpm_oracle import LpmOracle

MakeSearch = Callable[[mmap.mmap], Search]

SEARCHES: dict[str, MakeSearch | None] = {
    "python": PythonSearch,
    "c": None if native is None else native.Search,
    "c, without vectors": None if native is None else partial(native.Search, is_wide=False),
}
"""All implementations; None where the C extension is not built.

`c` searches many IPv4 addresses with vectors where the processor has them."""

PARTS: dict[str, MakeParts] = {"python": python_parts} | (
    {} if native_parts is None else {"c": native_parts}
)
"""Factories of writers, by implementation."""

WORDS = 1 << 20
NAMES = {2: "eth0", 3: "a-name-of-15-ch"}


BestChange = tuple[Prefix, BestPath | None]


def gathered(changes: Iterable[BestChange]) -> list[BestPathChanges]:
    """Changes as the RIB reports them."""
    found = [BestPathChanges(family, [], []) for family in Family]
    for prefix, best in sorted(changes, key=lambda change: change[0]):
        rows = found[list(Family).index(prefix.family)]
        rows.keys.append(prefix.as_int)
        rows.best_paths.append(best)
    return found


def best_path(*hops: NextHop, metric: int = 0, tag: int = 0) -> BestPath:
    kind = RouteType.UNICAST if hops else RouteType.BLACKHOLE
    attributes = PathAttributes(1, metric, RouteSource.STATIC, "", tag, kind, next_hops=hops)
    return BestPath(attributes, hops)


def add(text: str, *hops: NextHop, metric: int = 0, tag: int = 0) -> BestChange:
    return Prefix.parse(text), best_path(*hops, metric=metric, tag=tag)


def drop(text: str) -> BestChange:
    return Prefix.parse(text), None


def hop(via: str | None, ifindex: int = 2, weight: int = 1) -> NextHop:
    return NextHop(Address.parse(via) if via else None, ifindex, weight)


class Writer:
    """A snapshot and a clock that lets every burst move the epoch on."""

    def __init__(self, make_parts: MakeParts = native_parts or python_parts) -> None:
        self.snapshot = FibSnapshot(
            Address.parse("10.255.0.1"),
            4711,
            trie_words=WORDS,
            data_words=WORDS,
            make_parts=make_parts,
        )
        self.now_ns = 10**9

    def apply(self, *changes: BestChange) -> None:
        self.now_ns += TICK_NS
        self.snapshot.apply(
            gathered(changes), lambda index: NAMES.get(index, f"if{index}"), self.now_ns
        )

    def reader(
        self,
        *,
        clock: Callable[[], int] | None = None,
        search: MakeSearch = PythonSearch,
    ) -> FibReader:
        return FibReader.from_fd(
            os.dup(self.snapshot.fileno()), clock=clock or (lambda: self.now_ns), search=search
        )


def table(rng: random.Random, count: int) -> dict[Prefix, int]:
    """Random prefixes of both families that nest, and a value each."""
    found: dict[Prefix, int] = {}
    for number in range(count):
        family = rng.choice(list(Family))
        top = rng.choice([0x0A, 0x20, 0xC0]) << family.width - 8
        bits = top | rng.getrandbits(family.width - 8)
        if rng.random() < 0.5:
            bits = top | rng.getrandbits(12) << family.width - 20
        length = rng.choice([0, 4, 8, 12, 16, 17, 20, 24, 28, 32, 48, 64, 96, 127, 128])
        found[Prefix.masked(family, bits, min(length, family.width))] = number + 1
    return found


def oracles(content: dict[Prefix, int]) -> dict[Family, LpmOracle]:
    by_family = {family: LpmOracle(family.width) for family in Family}
    for prefix, value in content.items():
        by_family[prefix.family].put(prefix.addr_bits, prefix.prefix_len, value)
    return by_family
