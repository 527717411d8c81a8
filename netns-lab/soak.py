"""Everything at random, for as long as wanted, and the invariants checked all along.

    python netns-lab/soak.py --minutes 20              # `make soak MINUTES=20`
    python netns-lab/soak.py --minutes 20 --seed 4711  # the same decisions once more

A ring of eight routers. Each round does a few things at once, drawn from a seeded generator: links
are cut and mended, engines and daemons killed, configurations reloaded, routes injected and taken
back, views asked for. Then the network must converge: every router reaches every loopback address
by a shortest path over the links that are up (so there is no loop), and each kernel equals its
daemon's `show fib`, route by route.

Every LEAK_ROUNDS rounds the ring is mended, the injections are gone, and each process that was seen
at the last rest must be as it was: descriptors and memfds the same, memory not above a bound.

Failure: the seed, the rounds so far and every router's state are printed; exit status 1.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from client import LabError
from testbed import Lab
from waiting import wait_until

__all__ = ["Soak", "Usage"]

CONVERGE_S = 60.0
LEAK_ROUNDS = 5
MEMORY_GROWTH_BYTES = 24 << 20
"""Above what a process had when it was first seen at rest: Python's allocator keeps arenas, and a
table that was larger for a while leaves some."""


class Usage(NamedTuple):
    """What a process holds at rest."""

    descriptors: int
    memfds: int
    resident_bytes: int


_USAGE = """
import json, os, sys
def of(pid):
    links = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except OSError:
            pass
    memfds = sum("memfd:" in link for link in links)
    resident = int(open(f"/proc/{pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(links), memfds, resident
print(json.dumps({pid: of(pid) for pid in sys.argv[1:]}))
"""


class Soak:
    """One run, in a lab of its own."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        """Args:
        lab: a ring; its daemons are not started yet.
        seed: of every decision.
        say: takes a line for each round.
        """
        self.rounds = 0
        self._lab = lab
        self._rng = random.Random(seed)
        self._say = say
        self._links = [segment.name for segment in lab.topology.segments]
        self._cut: str | None = None
        self._at_rest: dict[tuple[str, int], Usage] = {}
        self._actions: list[tuple[int, Callable[[], str]]] = [
            (4, self._cut_or_mend),
            (3, self._kill_engine),
            (1, self._kill_daemon),
            (3, self._reload),
            (4, self._inject),
            (4, self._show),
        ]

    def run(self, minutes: float) -> None:
        """Go on for so long, and at least until leaks were looked for twice.

        Raises:
            AssertionError: an invariant does not hold.
            LabError: a daemon did not start or answer.
        """
        self._lab.start_daemons()
        self._lab.wait_converged(CONVERGE_S)
        self._check_leaks()
        ends_at = time.monotonic() + minutes * 60
        while time.monotonic() < ends_at or self.rounds % LEAK_ROUNDS:
            self.rounds += 1
            self._round()
            if self.rounds % LEAK_ROUNDS == 0:
                self._come_to_rest()
                self._check_leaks()

    def _round(self) -> None:
        weights = [weight for weight, _ in self._actions]
        actions = self._rng.choices(self._actions, weights, k=self._rng.randint(1, 4))
        began = time.monotonic()
        done = [action() for _, action in actions]
        self._lab.wait_converged(CONVERGE_S)
        took_s = time.monotonic() - began
        self._say(f"round {self.rounds}: {', '.join(done)}: converged, {took_s:.1f} s in all")

    # --- what is done

    def _router(self) -> str:
        return self._rng.choice(list(self._lab.topology.nodes))

    def _cut_or_mend(self) -> str:
        """At most one link is down, so that every router can be reached."""
        if self._cut is not None:
            link, self._cut = self._cut, None
            self._lab.mend(link)
            return f"mend {link}"
        self._cut = self._rng.choice(self._links)
        self._lab.cut(self._cut)
        return f"cut {self._cut}"

    def _kill_engine(self) -> str:
        router = self._router()
        try:
            self._lab.kill(router, "engine", signal.SIGKILL)
        except LabError:
            return f"no engine to kill in {router}"  # killed in this round already
        return f"kill {router}'s engine"

    def _kill_daemon(self) -> str:
        router = self._router()
        pids = self._lab.kill(router, "both", signal.SIGKILL)
        wait_until(
            lambda: not any(map(self._lab.is_running, pids)), CONVERGE_S, f"{router} is dead"
        )
        self._lab.start_daemons([router])
        return f"kill and start {router}"

    def _reload(self) -> str:
        router = self._router()
        multiplier = self._rng.choice([3, 4, 5])
        lines = [
            f"    multiplier: {multiplier}" if "multiplier:" in line else line
            for line in self._lab.read_config(router).splitlines()
        ]
        self._lab.write_config(router, "\n".join(lines) + "\n")
        self._lab.sighup(router)
        return f"reload {router}"

    def _inject(self) -> str:
        router = self._router()
        prefixes = [
            f"10.{self._rng.randrange(64, 128)}.{n}.0/24" for n in range(self._rng.randint(1, 5))
        ]
        for prefix in prefixes:
            words = ["route", "replace", prefix, "type", "blackhole", "lease", "5s"]
            done = self._lab.run(router, self._lab.routectl_command(router, *words))
            if done.returncode == 3:
                return f"{router} is not there to be injected into"  # its engine was just killed
            assert done.returncode == 0, done.stderr + done.stdout
        return f"inject {len(prefixes)} into {router}"

    def _show(self) -> str:
        router = self._router()
        view = self._rng.choice(["status", "neighbors", "routes", "fib", "counters", "memory"])
        done = self._lab.run(router, self._lab.routectl_command(router, "--json", "show", view))
        assert done.returncode in (0, 3), done.stderr + done.stdout
        return f"show {view} on {router}"

    # --- leaks

    def _come_to_rest(self) -> None:
        """Mend the ring and wait until the leases of what was injected are over."""
        if self._cut is not None:
            self._lab.mend(self._cut)
            self._cut = None
        wait_until(lambda: not self._injections(), CONVERGE_S, "the injected routes have gone")
        self._lab.wait_converged(CONVERGE_S)

    def _injections(self) -> list[str]:
        return [
            route.prefix
            for router in self._lab.topology.nodes
            for route in self._lab.kernel_routes(router)
            if route.prefix.startswith("10.") and 64 <= int(route.prefix.split(".")[1]) < 128
        ]

    def _check_leaks(self) -> None:
        """Compare each process with itself at the first rest that it was seen at."""
        seen = {}
        for router in self._lab.topology.nodes:
            for pid, usage in self._usage(router).items():
                key = (router, pid)
                seen[key] = first = self._at_rest.get(key, usage)
                where = f"process {pid} of {router}: {first} at first, {usage} now"
                assert usage.descriptors == first.descriptors, where
                assert usage.memfds == first.memfds, where
                assert usage.resident_bytes - first.resident_bytes < MEMORY_GROWTH_BYTES, where
        old = len(seen.keys() & self._at_rest.keys())
        self._at_rest = seen
        self._say(f"at rest: {old} processes hold what they held, {len(seen) - old} are new")

    def _usage(self, router: str) -> dict[int, Usage]:
        daemon = self._lab.daemon_pid(router)
        engine = self._lab.engine_pid(router)
        words = [sys.executable, "-c", _USAGE, str(daemon), str(engine)]
        done = self._lab.run(router, words)
        assert done.returncode == 0, done.stderr
        return {int(pid): Usage(*values) for pid, values in json.loads(done.stdout).items()}


def main() -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(description="Soak routed in a ring of eight routers.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, help="of an earlier run, to do the same once more")
    parser.add_argument("--topology", default="ring8")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"soak: {options.minutes:g} minutes, seed {seed}", flush=True)
    with Lab(options.topology) as lab:
        soak = Soak(lab, seed, lambda line: print(line, flush=True))
        try:
            soak.run(options.minutes)
        except (AssertionError, LabError) as error:
            print(lab.dump())
            print(f"soak: round {soak.rounds} failed: {error}")
            print(f"soak: again with: make soak MINUTES={options.minutes:g} SEED={seed}")
            return 1
    print(f"soak: {soak.rounds} rounds, every invariant held; seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
