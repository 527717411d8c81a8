"""Random events for as long as requested, with continuous checks of the invariants.

    python netns-lab/soak.py --minutes 20               # `make soak MINUTES=20`
    python netns-lab/soak.py --seed 4711                # the same decisions once more
    python netns-lab/soak.py --seed 4711 --rounds 17    # only the seventeenth round of them
    python netns-lab/soak.py --seed 4711 --rounds 15-17

The network is a ring of eight routers. Each round carries out a few steps at once, drawn from a
seed (`soak_plan.py`): links are cut and restored, engines, parents and both killed, daemons
restarted, engines stopped, configurations reloaded, routes injected and deleted by hand, views
requested. Meanwhile every router pings the opposite one, in both families. Then the network must
converge: every router reaches every loopback address by a shortest path over the links that are up,
and each kernel equals its daemon's `show fib`, route by route. No packet may be lost in a round
that removed neither a link nor a route, whatever happened to daemons and whatever links were
restored, as long as the daemons were back within the dead interval. A router that no step has
silenced must not miss the dead interval.

At all times there is no forwarding loop, and no process uses more resources than its bound
(`soak_watch.py`); no packet's hop limit runs out, unless a router restarts meanwhile
(`soak_plan.py` gives the reason).
Every REST_ROUNDS rounds the ring is restored and the injections expire. Each process and router
that was seen at the last rest must then have as much as before: the same numbers of descriptors,
memfds and nexthop objects, and memory below a bound.

Failure: the seed, the round and every router's state are printed; exit status 1.
"""

from __future__ import annotations

import argparse
import itertools
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from ipaddress import ip_network

import kernel
import topology
from client import LabError
from pinger import PingStream
from soak_plan import INJECTED, MULTIPLIERS, Action, Plan, Round, Step
from soak_watch import SoakWatch
from testbed import Lab
from topology import Topology
from vitals import Usage
from waiting import wait_until

__all__ = ["REST_ROUNDS", "Soak", "plan_network"]

CONVERGE_S = 60.0
REST_ROUNDS = 5
MEMORY_GROWTH_BYTES = 24 << 20
"""Permitted growth of a process since it was first seen at rest: Python's allocator keeps arenas
after a table was temporarily larger."""

_GIVEN_UP = re.compile(r"adjacency-down .* link=eth-(\S+) .*silent for its dead interval")
_PING_INTERVAL_S = 0.02
_NOT_THERE = (0, 3)
"""Exit statuses of routectl: done, or there is no daemon (its engine was just killed)."""


def plan_network(name: str = "ring8") -> Topology:
    """Return the network of a soak, with a dead interval that is longer than a restart."""
    patience = {"eth*": {"hello": "300ms", "multiplier": MULTIPLIERS[0]}}
    return topology.load(name).with_config({"interfaces": patience, "fib": {"on_exit": "keep"}})


class Soak:
    """One run, in a separate lab."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        """Prepare; no daemon is started.

        Args:
            lab: built by `plan_network`; its daemons are not started yet.
            seed: seed of every decision.
            say: called with a line for each round and each rest.
        """
        self.rounds = 0
        self.current: Round | None = None
        """The present round, for the error message."""
        self._lab = lab
        links = [segment.name for segment in lab.topology.segments]
        self._routers = list(lab.topology.nodes)
        self._plan = Plan(seed, self._routers, links)
        self._say = say
        self._cut: str | None = None
        self._stopped: list[str] = []
        self._at_rest: dict[tuple[str, int], Usage] = {}
        self._nexthops_at_rest: dict[str, int] = {}
        self._log_lines: dict[str, int] = {}
        """Number of log lines of each router that were read."""

    def run(self, minutes: float, first: int = 1, last: int | None = None) -> None:
        """Run for a time, and at least until leaks were checked twice.

        Args:
            minutes: ignored if `last` is given.
            first: first round.
            last: last round.

        Raises:
            AssertionError: an invariant does not hold.
            LabError: a daemon did not start or answer.
        """
        self._lab.start_daemons()
        self._lab.wait_converged(CONVERGE_S)
        with SoakWatch(self._lab) as watch:
            self._check_leaks(watch)
            self._given_up()  # eight simultaneous starts may exceed the dead interval
            ends_at = time.monotonic() + minutes * 60
            for drawn in self._plan.rounds(first, rest_every=REST_ROUNDS):
                self._round(drawn, watch)
                if drawn.number % REST_ROUNDS == 0 or drawn.number == last:
                    self._come_to_rest()
                    self._check_leaks(watch)
                    if drawn.number == last or (last is None and time.monotonic() >= ends_at):
                        break
            self._say(str(watch.peaks))

    def _round(self, drawn: Round, watch: SoakWatch) -> None:
        self.rounds += 1
        self.current = drawn
        if drawn.cut != self._cut:  # only in the first round of a replay
            assert drawn.cut is not None
            self._lab.cut(drawn.cut)
            self._cut = drawn.cut
            self._lab.wait_converged(CONVERGE_S)
        began = time.monotonic()
        with ExitStack() as stack:
            streams = [stack.enter_context(stream) for stream in self._streams()]
            remarks = [remark for step in drawn.steps if (remark := self._do(step))]
            self._resume()
            self._lab.wait_converged(CONVERGE_S)
            took_s = time.monotonic() - began
        lost = sum(stream.lost for stream in streams)
        sent = sum(stream.sent for stream in streams)
        late = self._given_up()
        if late:
            remarks.append(f"not back within the dead interval: {', '.join(sorted(late))}")
        note = "".join(f" ({remark})" for remark in remarks)
        exceeded = watch.take_exceeded()
        looped = f", {sum(exceeded.values())} in a micro-loop" if exceeded else ""
        took = f"converged, {took_s:.1f} s in all"
        self._say(f"{drawn}{note}: {took}, {lost} of {sent} packets lost{looped}")
        watch.check()
        assert late <= drawn.silenced, f"silent without a cause: {late - drawn.silenced}"
        assert drawn.may_loop or late or not exceeded, f"packets went round: {exceeded}"
        assert drawn.may_lose_packets or late or not lost, f"{lost} of {sent} packets were lost"

    def _streams(self) -> list[PingStream]:
        """Return pings between each router of one half of the ring and the opposite one."""
        half = len(self._routers) // 2
        return [
            self._lab.ping_stream(here, there, interval_s=_PING_INTERVAL_S)
            for here, there in itertools.islice(
                zip(self._routers, self._routers[half:], strict=False), half
            )
        ]

    # --- steps

    def _do(self, step: Step) -> str:
        """Carry out one step. Returns the reason as text if it was not possible."""
        router = step.target
        match step.action:
            case Action.CUT:
                self._cut = step.target
                self._lab.cut(step.target)
            case Action.MEND:
                self._cut = None
                self._lab.mend(step.target)
            case Action.KILL_ENGINE:
                return self._signal_engine(router, signal.SIGKILL)
            case Action.KILL_PARENT:
                self._end_and_start(router, "daemon", signal.SIGKILL)
            case Action.KILL_BOTH:
                self._end_and_start(router, "both", signal.SIGKILL)
            case Action.RESTART:
                self._end_and_start(router, "daemon", signal.SIGTERM)
            case Action.RELOAD:
                self._reload(router, step.words[0])
            case Action.INJECT:
                for prefix in step.words:
                    words = ("route", "replace", prefix, "type", "blackhole", "lease", "5s")
                    self._command(router, *words)
            case Action.SHOW:
                self._command(router, "--json", "show", *step.words)
            case Action.RESYNC:
                self._command(router, "fib", "resync")
            case Action.DRIFT:
                self._delete_route(router)
            case Action.HANG:
                remark = self._signal_engine(router, signal.SIGSTOP)
                self._stopped += [] if remark else [router]
                return remark
        return ""

    def _resume(self) -> None:
        """Resume the engines that were stopped, after a second each."""
        for router in self._stopped:
            self._lab.run(router, ["sleep", "1"])
            self._signal_engine(router, signal.SIGCONT)
        self._stopped.clear()

    def _signal_engine(self, router: str, number: signal.Signals) -> str:
        try:
            self._lab.kill(router, "engine", number)
        except LabError:
            return f"{router} has no engine just now"  # killed in this round already
        return ""

    def _end_and_start(self, router: str, who: str, number: signal.Signals) -> None:
        pids = self._lab.kill(router, who, number)
        wait_until(
            lambda: not any(map(self._lab.is_running, pids)), CONVERGE_S, f"{router} has ended"
        )
        self._lab.start_daemons([router])

    def _reload(self, router: str, multiplier: str) -> None:
        lines = [
            f"    multiplier: {multiplier}" if "multiplier:" in line else line
            for line in self._lab.read_config(router).splitlines()
        ]
        self._lab.write_config(router, "\n".join(lines) + "\n")
        self._lab.sighup(router)

    def _command(self, router: str, *words: str) -> None:
        done = self._lab.run(router, self._lab.routectl_command(router, *words))
        assert done.returncode in _NOT_THERE, f"{words}: {done.stderr}{done.stdout}"

    def _delete_route(self, router: str) -> None:
        """Delete the first route, as `ip route del` would."""
        for route in self._lab.kernel_routes(router)[:1]:
            with suppress(ProcessLookupError):  # its lease has expired since it was read
                kernel.delete_route(self._lab.netlink(router), route)

    def _given_up(self) -> set[str]:
        """Return routers that a neighbor has not heard within the dead interval since the last
        call. On a machine that is busy with other work a start may take that long, and the
        neighbors then rightly use other paths."""
        given_up = set()
        for router in self._routers:
            lines = self._lab.log(router).splitlines()
            new_lines = lines[self._log_lines.get(router, 0) :]
            self._log_lines[router] = len(lines)
            given_up |= {match[1] for line in new_lines if (match := _GIVEN_UP.search(line))}
        return given_up

    # --- leaks

    def _come_to_rest(self) -> None:
        """Restore the ring and wait until the leases of injected routes have expired."""
        if self._cut is not None:
            self._lab.mend(self._cut)
            self._cut = None
        wait_until(lambda: not self._injections(), CONVERGE_S, "the injected routes have gone")
        self._lab.wait_converged(CONVERGE_S)

    def _injections(self) -> list[str]:
        pool = ip_network(INJECTED)
        return [
            route.prefix
            for router in self._routers
            for route in self._lab.kernel_routes(router)
            if (network := ip_network(route.prefix)).version == pool.version
            and network.network_address in pool
        ]

    def _check_leaks(self, watch: SoakWatch) -> None:
        """Compare each process with itself at the rest at which it was first seen, and each router
        with its first rest."""
        seen = {}
        for router in self._routers:
            processes = watch.look(router).processes
            assert len(processes) == 2, f"{router} has the processes {sorted(processes)}"
            for pid, usage in processes.items():
                key = (router, pid)
                seen[key] = first = self._at_rest.get(key, usage)
                where = f"process {pid} of {router}: {first} at first, {usage} now"
                assert usage.descriptors == first.descriptors, where
                assert usage.memfds == first.memfds, where
                assert usage.resident_bytes - first.resident_bytes < MEMORY_GROWTH_BYTES, where
            nexthops = watch.nexthops(router)
            at_first = self._nexthops_at_rest.setdefault(router, nexthops)
            assert nexthops == at_first, f"{router}: {at_first} nexthop objects, {nexthops} now"
        old = len(seen.keys() & self._at_rest.keys())
        self._at_rest = seen
        self._say(f"at rest: {old} processes without leaks, {len(seen) - old} new ones")


def _span(text: str) -> tuple[int, int]:
    """Parse `17` or `15-17`."""
    first, _, last = text.partition("-")
    span = int(first), int(last or first)
    if not 1 <= span[0] <= span[1]:
        raise argparse.ArgumentTypeError(f"{text} is not a range of rounds, such as 15-17")
    return span


def main() -> int:
    """Run the program. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Soak routed in a ring of eight routers.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, help="seed of an earlier run, to repeat it")
    parser.add_argument("--rounds", type=_span, help="N or N-M: only these rounds of the seed")
    parser.add_argument("--topology", default="ring8")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    first, last = options.rounds or (1, None)
    print(f"soak: seed {seed}, " + (f"{options.minutes:g} minutes" if last is None else "replay"))
    with Lab(plan_network(options.topology)) as lab:
        soak = Soak(lab, seed, lambda line: print(line, flush=True))
        try:
            soak.run(options.minutes, first, last)
        except (AssertionError, LabError) as error:
            print(lab.dump())
            print(f"soak: failed: {soak.current}\n{error}")
            number = soak.current.number if soak.current is not None else 1
            print(f"soak: that round again: make soak SEED={seed} ROUNDS={number}")
            print(f"soak: everything again: make soak MINUTES={options.minutes:g} SEED={seed}")
            return 1
    print(f"soak: {soak.rounds} rounds, every invariant held; seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
