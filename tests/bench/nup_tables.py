"""Large tables between real daemons: 100,000 routes to a LAN, 10,000 that lose their next hop.

The kernels of the receivers show when it is done: the first through the size of their routing trie,
which is cheap to read, the second through dumps that are made meanwhile and read afterwards.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from typing import Any

import yaml

import kernel
import topology
from protocol import RUN_DIRECTORY
from testbed import Lab
from tests.bench.harness import Bench
from waiting import wait_until

__all__ = ["lan_table", "lost_routes", "sent_bytes"]

DEADLINE_S = 120.0
TABLE, LOST = 100_000, 10_000
UPDATE_BYTES = 4 + 19 + 3
"""The bytes of a /24 in DATA: the TLV's header, its fixed part, three bytes of prefix."""

_LAN: dict[str, Any] = {
    "description": "an origin and four neighbors on one LAN",
    "config": {"interfaces": {"eth*": {"hello": "1s"}}},
    "nodes": {"A": {}, "N1": {}, "N2": {}, "N3": {}, "N4": {}},
    "lans": {"lan": ["A", "N1", "N2", "N3", "N4"]},
}
_DIAMOND: dict[str, Any] = {
    "description": "A reaches D through B, and through C at a higher cost",
    "config": {"interfaces": {"eth*": {"hello": "1s"}}},
    "nodes": {
        "A": {"config": {"interfaces": {"eth-C": {"cost": 15}}}},
        "B": {}, "C": {}, "D": {},
    },
    "links": ["A-B", "A-C", "B-D", "C-D"],
}  # fmt: skip


def _prefixes(count: int) -> list[str]:
    return [
        f"{20 + number // 65536}.{number // 256 % 256}.{number % 256}.0/24"
        for number in range(count)
    ]


def _inject(lab: Lab, router: str, count: int) -> None:
    """Inject routes that end there into a daemon, without announcing them."""
    path = f"{RUN_DIRECTORY}/table"
    lab.file(path).write_text("".join(f"blackhole {prefix}\n" for prefix in _prefixes(count)))
    done = lab.run(
        router, lab.routectl_command(router, "route", "import", path), timeout_s=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr


def _announce(lab: Lab, router: str) -> None:
    """Let a daemon announce the injected routes."""
    config = yaml.safe_load(lab.read_config(router))
    config["redistribute"].append({"source": "injected"})
    lab.write_config(router, yaml.safe_dump(config))
    lab.sighup(router)


def _kernel_prefixes(lab: Lab, router: str) -> int:
    """Return how many IPv4 prefixes a kernel's trie has, its own among them."""
    text = lab.run(router, ["cat", "/proc/net/fib_triestat"]).stdout
    return max(map(int, re.findall(r"Prefixes:\s+(\d+)", text)), default=0)


def sent_bytes(lab: Lab, router: str) -> int:
    """Return the bytes that a router has sent on its links, Ethernet headers included."""
    text = lab.run(router, ["cat", "/proc/net/dev"]).stdout
    rows = (line.partition(":") for line in text.splitlines()[2:])
    return sum(int(words.split()[8]) for name, _, words in rows if name.strip() != "lo")


def lan_table(bench: Bench) -> None:
    """A announces a table at once; the row has the time until the last of four kernels has it,
    and the cost.
    """
    count = bench.scaled(TABLE)
    took, ratios = [], []
    for _ in range(min(bench.runs, 3)):
        with Lab(topology.compute(_LAN)) as lab:
            lab.start_daemons()
            lab.wait_converged(DEADLINE_S)
            _inject(lab, "A", count)
            wait_until(lambda: _kernel_prefixes(lab, "A") >= count, DEADLINE_S, "A has the table")
            before, started = sent_bytes(lab, "A"), time.perf_counter()
            _announce(lab, "A")
            for router in ("N1", "N2", "N3", "N4"):
                wait_until(
                    lambda: _kernel_prefixes(lab, router) >= count,  # noqa: B023
                    DEADLINE_S, f"{router} has the table",
                )  # fmt: skip
            took.append(time.perf_counter() - started)
            ratios.append((sent_bytes(lab, "A") - before) / (count * UPDATE_BYTES))
    bench.add(
        f"{count:,} routes to 4 neighbors on one LAN: the last has all in its kernel",
        "s", statistics.median(took), target=6.0,
    )  # fmt: skip
    bench.add(
        "... bytes sent, with all headers, to those of one table's updates",
        "ratio", statistics.median(ratios), target=1.3,
    )  # fmt: skip


def lost_routes(bench: Bench) -> None:
    """The link to the next hop of 10,000 routes goes down; measured until all go through the
    alternate.
    """
    count = bench.scaled(LOST)
    took = []
    with Lab(topology.compute(_DIAMOND)) as lab:
        lab.start_daemons()
        lab.wait_converged(DEADLINE_S)
        _inject(lab, "D", count)
        _announce(lab, "D")
        for _ in range(bench.runs):
            wait_until(lambda: _through(lab, "eth-B") >= count, DEADLINE_S, "A goes through B")
            started = time.perf_counter()
            lab.cut("A-B")
            dumps = _dumps_until_quiet(lab)
            took.append(_first_time(lab, dumps, count) - started)
            lab.mend("A-B")
    bench.add(
        f"{count:,} routes lose their next hop, alternate known: all in the kernel",
        "ms", statistics.median(took) * 1000, target=500.0,
    )  # fmt: skip


def _through(lab: Lab, dev: str) -> int:
    return sum(dev in route.devices for route in lab.kernel_routes("A"))


def _dumps_until_quiet(lab: Lab) -> list[tuple[float, kernel.RouteDump]]:
    """Dump A's kernel repeatedly for two seconds. Returns each dump with the time of its start."""
    dumps = []
    ends = time.perf_counter() + 2.0
    for _ in itertools.count():
        began = time.perf_counter()
        dumps.append((began, kernel.dump_routes(lab.netlink("A"))))
        if began > ends:
            return dumps
    raise AssertionError


def _first_time(lab: Lab, dumps: list[tuple[float, kernel.RouteDump]], count: int) -> float:
    """Return when the first dump began that has all routes through C. It is found by
    bisection, because all later ones have them, too.
    """
    names = lab.netlink("A").link_names()

    def is_done(dump: kernel.RouteDump) -> bool:
        routes = kernel.decode_routes(dump, names)
        return sum("eth-C" in route.devices for route in routes) >= count

    low, high = 0, len(dumps) - 1
    assert is_done(dumps[high][1]), "the alternate is not used within two seconds"
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_done(dumps[middle][1]) else (middle + 1, high)
    return dumps[low][0]
