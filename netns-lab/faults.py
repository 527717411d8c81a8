"""Faults of a router's daemon, each as a function of a lab.

A fault is applied to R in the middle of A - R - B while a thousand packets per second flow from A
to B. The topology never changes, so no packet may be lost, whatever happens to the daemon, and at
the end every kernel table must be as before.

Neighbors keep routes after a crash for the dead interval. Each fault therefore has a dead interval
that is longer than its duration.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kernel
import router_config
from client import LabError
from fault_tools import (
    DEADLINE_S,
    MANY,
    ROUTER,
    kill,
    learned,
    let_pass,
    reload_statics,
    run,
    snapshot_is_searched,
    start_other,
    statics,
)
from scarcity import (
    crowd,
    fork_bomb,
    full_disk,
    killed_for_memory,
    lost_notifications,
    needs_memory_groups,
    no_descriptors_for_the_engine,
    no_descriptors_for_the_parent,
    out_of_memory,
)
from testbed import Lab
from waiting import wait_until
from watcher import Watcher

__all__ = ["FAULTS", "ROUTER", "Fault", "statics"]

HELLO_MS = 300
WAITED_FOR_S = 9.0
"""Dead interval of faults in which it has to expire: its expiry cleans up, or is part of the
fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    name: str
    what: str
    """Description in the table."""
    strike: Callable[[Lab], None]
    """Applies the fault, and undoes what an operator would have to undo; returns when R can
    recover."""
    dead_interval_s: float = 30.0
    """Dead interval of every link: much longer than R needs on a busy machine, unless a test has to
    wait for it."""
    config: dict[str, Any] = field(default_factory=dict)
    """Merged over the generated configuration of every router."""
    routes: int = 0
    """Number of static routes that A announces in addition to its own routes."""
    missing: Callable[[], str] = str
    """Returns what this machine lacks for the fault, as text; empty if nothing is missing."""


# --- the daemon's processes die


def _kill_engine(lab: Lab) -> None:
    old = lab.engine_pid(ROUTER)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "the next engine")


def _kill_engine_in_churn(lab: Lab) -> None:
    """Kill R's engine while A withdraws ten thousand routes and announces as many others."""
    reload_statics(lab, "A", statics(MANY, second_octet=2))
    wait_until(lambda: learned(lab, "10.2.") > 0, DEADLINE_S, "some of them have come", poll_s=0)
    _kill_engine(lab)
    reload_statics(lab, "A", statics(MANY, second_octet=1))


def _kill_engine_in_exchange(lab: Lab) -> None:
    """Kill the second engine while its neighbors send their tables."""
    _kill_engine(lab)
    with Watcher(lab, [ROUTER]) as watcher:

        def has_a_part() -> bool:
            known: int = (watcher.status(ROUTER) or {"routes": 0})["routes"]
            if known >= MANY:  # checked too late; the next engine gets the tables, too
                _kill_engine(lab)
            return 0 < known < MANY

        wait_until(has_a_part, DEADLINE_S, "a part of the table has come", poll_s=0)
    _kill_engine(lab)


def _kill_engine_in_reload(lab: Lab) -> None:
    old = lab.engine_pid(ROUTER)
    lab.write_config(ROUTER, lab.read_config(ROUTER).replace("level: info", "level: debug"))
    lab.sighup(ROUTER)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "the next engine")


def _kill_and_start(lab: Lab, who: str) -> None:
    kill(lab, who)
    lab.start_daemons([ROUTER])


def _restart_in_order(lab: Lab) -> None:
    pids = lab.kill(ROUTER, "daemon", signal.SIGTERM)
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R has stopped")
    lab.start_daemons([ROUTER])


def _kill_while_starting(lab: Lab) -> None:
    """Start R ten times and kill it a little later each time: before, between and after the
    forks."""
    kill(lab, "both")
    script = textwrap.dedent(
        """
        import os, select, signal, subprocess, sys
        for attempt in range(10):
            started = subprocess.Popen([sys.executable, "-m", "routed", "-c", sys.argv[1]],
                                       start_new_session=True, stderr=subprocess.DEVNULL)
            select.select([], [], [], 0.04 * attempt)
            # The command, and the daemon that left its session: whatever names the configuration.
            for entry in filter(str.isdigit, os.listdir("/proc")):
                try:
                    words = open(f"/proc/{entry}/cmdline", "rb").read().split(b"\\0")
                except OSError:
                    continue
                if int(entry) != os.getpid() and sys.argv[1].encode() in words:
                    os.kill(int(entry), signal.SIGKILL)
            started.wait()
        """
    )
    run(lab, [sys.executable, "-c", script, router_config.config_path(ROUTER)])
    lab.start_daemons([ROUTER])


def _kill_in_first_sync(lab: Lab) -> None:
    """Start R with many routes of its own, and kill it when the kernel has some of them."""
    reload_statics(lab, ROUTER, statics(MANY, second_octet=3))
    kill(lab, "both")
    for route in [r for r in lab.kernel_routes(ROUTER) if r.prefix.startswith("10.3.")]:
        kernel.delete_route(lab.netlink(ROUTER), route)
    path = router_config.config_path(ROUTER)
    starting = lab.popen(ROUTER, [sys.executable, "-m", "routed", "-c", path])
    wait_until(lambda: learned(lab, "10.3.") > 0, DEADLINE_S, "a part is written", poll_s=0)
    with contextlib.suppress(LabError):
        lab.kill(ROUTER, "both", signal.SIGKILL)
    starting.wait(DEADLINE_S)
    lab.write_config(ROUTER, lab.read_config(ROUTER).partition("static:")[0])
    lab.start_daemons([ROUTER])


def _die_while_publishing(lab: Lab) -> None:
    start_other(lab, "fragile_daemon.py", "publish")
    with snapshot_is_searched(lab):
        old = lab.engine_pid(ROUTER)
        reload_statics(lab, "A", statics(MANY, second_octet=1))
        wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "it has died")
    reload_statics(lab, "A", "")


def _die_while_compacting(lab: Lab) -> None:
    """Have A withdraw most of its routes, which leaves the snapshot sparse."""
    start_other(lab, "fragile_daemon.py", "compaction")
    wait_until(lambda: learned(lab, "10.1.") == MANY, DEADLINE_S, "the table has come")
    with snapshot_is_searched(lab):
        old = lab.engine_pid(ROUTER)
        reload_statics(lab, "A", statics(MANY // 50, second_octet=1))
        wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "it has died")
    reload_statics(lab, "A", statics(MANY, second_octet=1))


# --- the daemon keeps running under unusual conditions


def _stop_engine(lab: Lab) -> None:
    """Stop the engine for ten seconds."""
    lab.kill(ROUTER, "engine", signal.SIGSTOP)
    let_pass(lab, 10.0)
    lab.kill(ROUTER, "engine", signal.SIGCONT)


def _clock_set_back(lab: Lab) -> None:
    """Restart R with the clock set back by a year: values that grow across restarts have
    decreased."""
    kill(lab, "both")
    script = (
        "import sys, time; now = time.time; time.time = lambda: now() - 365 * 86400; "
        "from routed.cli import main; sys.exit(main(['-c', sys.argv[1]]))"
    )
    run(lab, [sys.executable, "-c", script, router_config.config_path(ROUTER)])


def _clock_jumps(lab: Lab) -> None:
    """Have the clock jump for ten seconds, several Hello intervals and a dead interval."""
    start_other(lab, "fragile_daemon.py", "clock")
    lab.wait_converged(DEADLINE_S)
    said = len(lab.log(ROUTER))
    engine = lab.engine_pid(ROUTER)
    let_pass(lab, 10.0)

    def has_jumped() -> bool:
        """Return whether lines of both years are logged; each reload logs one."""
        lab.routectl(ROUTER, "reload")
        return len({line[:4] for line in lab.log(ROUTER)[said:].splitlines()}) == 2

    wait_until(has_jumped, DEADLINE_S, "lines of both years")
    log = lab.log(ROUTER)[said:]
    assert lab.engine_pid(ROUTER) == engine
    assert "adjacency-down" not in log, log
    (status,) = lab.routectl(ROUTER, "show", "status")
    assert 0 < status["uptime_s"] < 300, status


FAULTS: tuple[Fault, ...] = (
    Fault("kill-engine", "kill -9 of the engine, idle", _kill_engine),
    Fault(
        "kill-engine-churn", "kill -9 of the engine while 10,000 routes change",
        _kill_engine_in_churn, routes=MANY, dead_interval_s=WAITED_FOR_S,
    ),
    Fault(
        "kill-engine-exchange", "kill -9 of the engine while tables are exchanged",
        _kill_engine_in_exchange, routes=MANY,
    ),
    Fault("kill-engine-reload", "kill -9 of the engine during a reload", _kill_engine_in_reload),
    Fault(
        "kill-parent", "kill -9 of the parent, then a new start",
        lambda lab: _kill_and_start(lab, "daemon"),
    ),
    Fault(
        "kill-both", "kill -9 of both, then a new start",
        lambda lab: _kill_and_start(lab, "both"),
    ),
    Fault(
        "restart-keep", "an orderly restart with `fib.on_exit: keep`", _restart_in_order,
        config={"fib": {"on_exit": "keep"}},
    ),
    Fault(
        "kill-starting", "ten starts that are killed, early to late, then a good one",
        _kill_while_starting,
    ),
    Fault(
        "kill-first-sync", "kill -9 of both while the first 10,000 routes are written",
        _kill_in_first_sync, dead_interval_s=18.0,
    ),
    Fault(
        "kill-publishing", "SIGKILL of the engine between two stores of a snapshot's burst",
        _die_while_publishing, dead_interval_s=WAITED_FOR_S,
    ),
    Fault(
        "kill-compacting", "SIGKILL of the engine while the snapshot is compacted",
        _die_while_compacting, routes=MANY,
    ),
    Fault("stop-engine", "the engine hangs for 10 s (SIGSTOP)", _stop_engine, dead_interval_s=18.0),
    Fault(
        "out-of-memory", "the engine runs out of memory (RLIMIT_DATA)", out_of_memory,
        dead_interval_s=WAITED_FOR_S,
    ),
    Fault(
        "memory-cgroup", "the kernel kills the engine for its cgroup's memory", killed_for_memory,
        dead_interval_s=WAITED_FOR_S, missing=needs_memory_groups,
    ),
    Fault("full-disk", "no space for pid file and log, killed and started", full_disk),
    Fault(
        "lost-notifications", "160,000 foreign changes while the parent sleeps (ENOBUFS)",
        lost_notifications, routes=1, dead_interval_s=18.0,
    ),
    Fault("clock-back", "killed, and started with the clock a year back", _clock_set_back),
    Fault(
        "clock-jumps", "for 10 s the clock jumps by two years, twice a second", _clock_jumps,
        dead_interval_s=WAITED_FOR_S,
    ),
    Fault("fork-bomb", "128 clients, forked, that ask rubbish for 4 s", fork_bomb),
    Fault("crowd", "2,000 clients that say nothing useful", crowd),
    Fault("engine-emfile", "no descriptor left for the engine, and a crowd",
          no_descriptors_for_the_engine),
    Fault("parent-emfile", "no descriptor left for the parent, and the engine dies",
          no_descriptors_for_the_parent, dead_interval_s=18.0),
)  # fmt: skip
