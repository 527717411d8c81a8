"""Longest-prefix match in the shared-memory FIB: one million IPv4 and 200k IPv6 routes.

Batches are packed arrays as a flow exporter would have them; singles are timed in a loop that costs
about 20 ns by itself, which is not subtracted. The peers look the same addresses up in their own
tables of the same routes. `gather` is the rate at which this machine reads at random from an array
as large as the IPv4 trie, one word per address: no search can be faster than that.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ipc.extension import native
from ipc.fib_search import PythonSearch, Search
from ipc.snapshot import FibReader
from routed.model.prefix import Address, Family
from tests.bench import tables
from tests.bench.harness import HERE, Bench, Measure, seconds
from tests.bench.loading import publish

V4_ROUTES = 1_000_000
V6_ROUTES = 200_000
SINGLES = 200_000
"""Single look-ups in one run."""
BATCH = 1 << 20
"""Addresses in one batch."""
TRIE_WORDS = 2_700_000
"""About the memory of a million routes."""


def run(bench: Bench) -> None:
    """Build both tables, look addresses up one by one and in batches."""
    v4 = tables.full_table(tables.IPV4, bench.scaled(V4_ROUTES))
    v6 = tables.full_table(tables.IPV6, bench.scaled(V6_ROUTES))
    snapshot = publish({tables.IPV4: v4, tables.IPV6: v6})
    trie, *_ = snapshot.memory()
    with (
        FibReader.from_fd(os.dup(snapshot.fileno()), search=PythonSearch) as in_python,
        FibReader.from_fd(os.dup(snapshot.fileno())) as reader,
    ):
        if native is None:
            bench.leave_out("the C extension", "python setup.py build_ext --inplace")
        else:
            batches(bench, reader.search, v4, v6)
        singles(bench, in_python, reader, v4)
        singles_ipv6(bench, in_python.search, reader.search, v6)
        routes_from_text(bench, in_python, v4)
    bench.add("trie of both tables", "MB", trie.used_bytes / 1e6)
    snapshot.close()


def batches(
    bench: Bench, search: Search, v4: Sequence[tables.Route], v6: Sequence[tables.Route]
) -> None:
    """Packed addresses in, numbers out."""
    count = bench.scaled(BATCH)
    out = array("I", bytes(4 * count))
    bound = gather_bound(bench)
    streams = (
        ("IPv4, random", tables.IPV4, tables.random_addresses(tables.IPV4, count), 0.6),
        ("IPv4, zipf", tables.IPV4, tables.zipf_addresses(tables.IPV4, v4, count), 0.6),
        ("IPv6, random", tables.IPV6, tables.random_addresses(tables.IPV6, count), None),
        ("IPv6, zipf", tables.IPV6, tables.zipf_addresses(tables.IPV6, v6, count), 0.35),
    )
    for name, shape, addresses, target in streams:
        packed = tables.packed(shape, addresses)
        version = 4 if shape is tables.IPV4 else 6

        def measure(packed: bytes = packed, version: int = version) -> float:
            return count / seconds(lambda: search.find_many(packed, version, out)) / 1e6

        bench.compare(
            f"batch, {name}", "M/s", measure, bound, target=target, is_more_better=True,
            limit="gather",
        )  # fmt: skip


def gather_bound(bench: Bench) -> dict[str, Measure]:
    """Measure independent random reads from as much memory as the trie has; needs a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        bench.leave_out("the gather bound (a C compiler)", "Debian: gcc")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "gather.so"
        subprocess.run(
            [compiler, "-O3", "-shared", "-fPIC", "-o", library, HERE / "gather.c"], check=True
        )
        gather = ctypes.CDLL(str(library)).gather
    gather.restype = ctypes.c_double
    return {"gather": lambda: float(gather(TRIE_WORDS, bench.scaled(BATCH)))}


def each(find: Callable[[Any], object], items: Sequence[object]) -> Measure:
    """Return the nanoseconds for one call, over all items."""

    def work() -> None:
        deque(map(find, items), maxlen=0)

    return lambda: seconds(work) / len(items) * 1e9


def singles(
    bench: Bench, in_python: FibReader, reader: FibReader, v4: Sequence[tables.Route]
) -> None:
    """One address at a time, from a number and from text."""
    count = bench.scaled(SINGLES)
    for name, addresses in (
        ("zipf", tables.zipf_addresses(tables.IPV4, v4, count)),
        ("random", tables.random_addresses(tables.IPV4, count)),
    ):
        texts = [str(Address(Family.IPV4, address)) for address in addresses]
        peers = text_peers(bench, v4) if name == "zipf" else {}
        from_text = {peer: each(find, texts) for peer, find in peers.items()}
        if native is not None:
            find4 = reader.search.find4
            # `callable` is a function of one argument that does nothing with it.
            bench.compare(
                f"single, int, {name}, C", "ns", each(find4, addresses),
                {"an empty call": each(callable, addresses)}, target=2.2, limit="an empty call",
            )  # fmt: skip
            row = bench.compare(
                f"single, text, {name}, C", "ns", each(reader.search.find, texts), from_text
            )
            if "pytricia" in row.peers:
                factor = row.peers["pytricia"] / row.ours
                bench.add(
                    f"single, text, {name}, C: pytricia / ours", "x", factor, target=4,
                    is_more_better=True,
                )  # fmt: skip
        find4 = in_python.search.find4
        bench.compare(
            f"single, int, {name}, Python", "ns", each(find4, addresses),
            {key: find for key, find in from_text.items() if key == "pytricia"},
            target=0.25, limit="pytricia",
        )  # fmt: skip
        bench.compare(
            f"single, text, {name}, Python", "ns", each(in_python.search.find, texts), from_text
        )


def singles_ipv6(
    bench: Bench, in_python: Search, search: Search, v6: Sequence[tables.Route]
) -> None:
    """The same for IPv6."""
    addresses = tables.zipf_addresses(tables.IPV6, v6, bench.scaled(SINGLES))
    if native is not None:
        bench.compare("single, int, IPv6, zipf, C", "ns", each(search.find6, addresses))
    bench.compare("single, int, IPv6, zipf, Python", "ns", each(in_python.find6, addresses))


def routes_from_text(bench: Bench, reader: FibReader, v4: Sequence[tables.Route]) -> None:
    """From text to the decoded route, as `routectl lookup` has it."""
    addresses = [
        str(Address(Family.IPV4, address))
        for address in tables.zipf_addresses(tables.IPV4, v4, bench.scaled(SINGLES // 10))
    ]
    bench.compare("whole route, IPv4 text, zipf, Python", "ns", each(reader.lookup, addresses))


def text_peers(bench: Bench, routes: Sequence[tables.Route]) -> dict[str, Callable[[str], object]]:
    """The installed libraries with the same routes, each as a function from text to a value."""
    prefixes = [
        (f"{Address(Family.IPV4, network)}/{length}", hop) for network, length, hop in routes
    ]
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
        found["pysubnettree"] = lambda address: address in subnets and subnets[address]
    return found
