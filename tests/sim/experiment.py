"""The phases of one network: start, a cut wire, its repair, a dead router; messages and convergence
times.

Time is virtual, and the result is a pure function of the arguments. After every step the laws are
checked (no forwarding loop at any instant), and at the end of every phase also that each router has
the shortest path to everything reachable, and to nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tests.fakes.fake_wire import FakeWire, WireFaults
from tests.fakes.network_laws import LoopWatch, assert_converged
from tests.sim.topologies import TOPOLOGIES

__all__ = ["Outcome", "run_experiment"]

ORIGINS_MAX = 50
"""The number of routers that originate a prefix, evenly spread: the cost per prefix is measured,
and memory bounds the number.
"""
QUIET_S = 1.25
"""A network has converged when its forwarding has not changed for this time."""
LOSSY_QUIET_S = 10.0
"""The same with lossy wires, where the next retransmission may be 4 s away."""
LIMIT_S = 60.0
DEAD_S = 3.0
REST_S = 3.0
"""The time during which heartbeats contain addresses and are sent every interval."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one network."""

    topology: str
    routers: int
    links: int
    prefixes: int
    start_s: float
    """From switching all routers on to the last change of forwarding; virtual seconds."""
    cut_s: float
    """From cutting one wire, with carrier loss, to the last change."""
    mend_s: float
    crash_s: float
    """From the death of a router, without a goodbye, to the last change; it contains the dead
    interval of 3 s.
    """
    start_datagrams: float
    """Sent per router during the start; on a LAN a datagram to the group is one."""
    start_bytes: float
    cut_datagrams: float
    """Sent per router because of the cut: heartbeats of the same time are subtracted."""
    cut_bytes: float
    idle_bytes_per_s: float
    """Sent per router and second in a network without changes."""
    checked: int
    """Next-hop sets that were followed in the search for loops."""

    def to_json(self) -> dict[str, object]:
        """Return a row of the result file."""
        return asdict(self)


class _Meter:
    """Counts the datagrams and bytes that all routers have sent since it was created."""

    def __init__(self, wire: FakeWire) -> None:
        self._wire = wire
        self._started = wire.now
        self._datagrams, self._bytes = self._totals()

    def _totals(self) -> tuple[int, int]:
        nodes = self._wire.nodes.values()
        return sum(n.sent_datagrams for n in nodes), sum(n.sent_bytes for n in nodes)

    def read(self) -> tuple[float, float, float]:
        """Return datagrams and bytes per router, and the elapsed time."""
        datagrams, sent_bytes = self._totals()
        routers = len(self._wire.nodes)
        return (
            (datagrams - self._datagrams) / routers,
            (sent_bytes - self._bytes) / routers,
            self._wire.now - self._started,
        )


def _wait_quiet(wire: FakeWire, least_s: float = 0.0) -> float:
    """Let time pass until forwarding has been quiet. Returns how long it was not."""
    started = wire.now
    quiet_s = LOSSY_QUIET_S if wire.faults.loss else QUIET_S
    wire.run(least_s)
    while wire.now - max(wire.changed_at, started + least_s) < quiet_s:
        assert wire.now - started < LIMIT_S, "it does not converge"
        wire.run(0.25)
    assert_converged(wire)
    return max(0.0, wire.changed_at - started)


def run_experiment(
    topology: str, routers: int, *, seed: int = 1, faults: WireFaults | None = None
) -> Outcome:
    """Build a network and run its phases.

    Raises:
    AssertionError: a law was broken; seed and phase are enough to reproduce it.
    """
    rng = random.Random(seed)
    wire = FakeWire(seed, faults or WireFaults(delay_s=0.0005, jitter_s=0.001))
    TOPOLOGIES[topology](wire, routers, rng)
    watch = LoopWatch(wire)
    names = list(wire.nodes)
    origins = names[:: max(1, len(names) // ORIGINS_MAX)][:ORIGINS_MAX]
    for name in origins:
        number = wire.nodes[name].number
        wire.originate(name, f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}/32")

    meter = _Meter(wire)
    start_s = _wait_quiet(wire)
    start_datagrams, start_bytes, _ = meter.read()
    assert wire.all_up()

    wire.run(REST_S)
    idle = _Meter(wire)
    wire.run(4)
    idle_datagrams, idle_bytes, idle_s = idle.read()

    def measured(change: Callable[[], None], least_s: float = 0.0) -> tuple[float, float, float]:
        meter = _Meter(wire)
        change()
        took_s = _wait_quiet(wire, least_s)
        datagrams, sent_bytes, passed_s = meter.read()
        return (
            took_s,
            max(0.0, datagrams - idle_datagrams / idle_s * passed_s),
            max(0.0, sent_bytes - idle_bytes / idle_s * passed_s),
        )

    segment = rng.choice(wire.segments)
    cut_s, cut_datagrams, cut_bytes = measured(lambda: wire.cut(segment))
    mend_s, _, _ = measured(lambda: wire.mend(segment))
    victim = rng.choice([name for name in names if name not in origins] or names[1:])
    crash_s, _, _ = measured(lambda: wire.crash(victim, is_forwarding=False), DEAD_S)
    return Outcome(
        topology=topology,
        routers=routers,
        links=len(wire.segments),
        prefixes=len(origins),
        start_s=start_s,
        cut_s=cut_s,
        mend_s=mend_s,
        crash_s=crash_s,
        start_datagrams=start_datagrams,
        start_bytes=start_bytes,
        cut_datagrams=cut_datagrams,
        cut_bytes=cut_bytes,
        idle_bytes_per_s=idle_bytes / idle_s,
        checked=watch.checked,
    )
