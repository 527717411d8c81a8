"""Applies every fault of `faults.py`: packets lost, and the time until the network has recovered.

A - R - B; A pings B a thousand times a second in each family while the fault is applied to R. At
the end all kernel tables of all three are as before, `show fib` agrees with them, and the
adjacencies are up.

    python netns-lab/lab.py scenario crash_matrix          # all, and a table
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import faults
import kernel
import topology
from faults import FAULTS, Fault
from testbed import Lab, LabError
from waiting import DeadlineExceededError, wait_until
from watcher import Watcher

__all__ = ["TOPOLOGY", "Survival", "run", "survive"]

TOPOLOGY = "line3"
INTERVAL_S = 0.001

_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Survival:
    """The result of a fault."""

    fault: Fault
    sent: int
    lost: int
    recovery_s: float
    """Time from the moment at which R can recover until all tables are as before and agree."""

    def __str__(self) -> str:
        return (
            f"{self.fault.name:20} {self.lost:6} of {self.sent:6} lost, "
            f"well again after {self.recovery_s:6.2f} s   ({self.fault.what})"
        )


def run(lab: Lab, say: Callable[[str], None]) -> None:
    """Apply every fault in a separate lab (the given one stays empty), and print the table of
    docs/reliability.md.

    Raises:
        AssertionError: packets were lost, or a state is not as before; raised after all faults.
    """
    rows, failed = [], []
    for fault in FAULTS:
        if reason := fault.missing():
            say(f"{fault.name:20} left out: {reason}")
            rows.append(f"| {fault.what} | not here | {reason} |")
            continue
        try:
            survival = survive(fault)
        except (AssertionError, LabError, DeadlineExceededError) as error:
            say(f"{fault.name:20} not survived: {error}")
            failed.append(f"{fault.name}: {error}")
            continue
        say(str(survival))
        rows.append(f"| {fault.what} | {survival.lost} | {survival.recovery_s:.1f} s |")
        if survival.lost:
            failed.append(str(survival))
    way = "in a user namespace" if lab.is_rootless else "as root"
    say(f"\nLinux {platform.release()}, {os.cpu_count()} processors, {way}\n")
    say("\n".join(["| fault | lost | well again after |", "| --- | --- | --- |", *rows]))
    assert not failed, "\n".join(failed)


def plan_for(fault: Fault) -> topology.Topology:
    """Return the network that a fault needs."""
    multiplier = round(fault.dead_interval_s * 1000 / faults.HELLO_MS)
    config = {
        "interfaces": {"eth*": {"hello": f"{faults.HELLO_MS}ms", "multiplier": multiplier}},
        **fault.config,
    }
    return topology.load(TOPOLOGY).with_config(config)


def survive(fault: Fault) -> Survival:
    """Build the network, apply the fault, and wait for the recovery.

    Raises:
        AssertionError: the network did not recover; the text has the differences.
        LabError: it cannot be built here.
    """
    with Lab(plan_for(fault)) as lab:
        return survive_in(lab, fault)


def survive_in(lab: Lab, fault: Fault) -> Survival:
    """Apply a fault in a lab that was built by `plan_for`, as `survive`."""
    lab.write_config_unless_there("A")
    text = lab.read_config("A").replace("redistribute:\n", "redistribute:\n- {source: static}\n")
    lab.write_config("A", text + faults.statics(fault.routes, second_octet=1))
    lab.start_daemons()
    lab.wait_converged(_DEADLINE_S)
    with Watcher(lab, list(lab.topology.nodes)) as watcher:
        wait_until(lambda: _is_well(lab, watcher), _DEADLINE_S, "all is well before")
        before = _tables(lab)
        with lab.ping_stream("A", "B", interval_s=INTERVAL_S) as stream:
            fault.strike(lab)
            began = time.monotonic()
            wait_until(
                lambda: _is_well(lab, watcher) and _tables(lab) == before,
                _DEADLINE_S,
                "all is as before",
                explain=lambda: _difference(before, _tables(lab)),
            )
            recovery_s = time.monotonic() - began
    lab.wait_converged(_DEADLINE_S)  # a daemon and its kernel are not read at the same time
    return Survival(fault, stream.sent, stream.lost, recovery_s)


def _tables(lab: Lab) -> dict[str, Counter[str]]:
    """Return every route of every router, ours and foreign ones, as text."""
    return {
        router: Counter(map(kernel.as_ip_route, lab.kernel_routes(router, None)))
        for router in lab.topology.nodes
    }


def _difference(before: dict[str, Counter[str]], after: dict[str, Counter[str]]) -> str:
    lines = []
    for router, routes in before.items():
        lines += [f"{router}: gone: {route}" for route in routes - after[router]]
        lines += [f"{router}: new: {route}" for route in after[router] - routes]
    return "\n".join(lines[:20]) or "the tables are, but a daemon is not in order"


def _is_well(lab: Lab, watcher: Watcher) -> bool:
    """Return whether every daemon answers, has its neighbors, and its kernel agrees."""
    for router in lab.topology.nodes:
        status = watcher.status(router)
        if status is None or status["neighbors"] != len(lab.topology.ports_of(router)):
            return False
        fib = status["fib"]
        if fib["pending"] or fib["failed"] or fib["installed"] != fib["desired"]:
            return False
    return True
