"""A program inside a router that reports resources of its daemon and a counter of its kernel.

    a line on stdin -> a line of JSON on stdout: {"processes": {PID: [descriptors, memfds, resident
                       bytes]}, "hop_limit_exceeded": N}

A report costs a few reads of /proc and no start of a program. A forwarding loop, however short,
increases the number of packets whose hop limit ran out while they were forwarded.

Sources: proc_pid_fd(5), proc_pid_statm(5); /proc/net/snmp and snmp6, InHdrErrors: counted by
ip_forward and ip6_forward when the TTL or hop limit is used up.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NamedTuple

import router_config
from inside import Inside
from router_programs import RouterPrograms

__all__ = ["Usage", "Vitals", "VitalsWatcher"]


class Usage(NamedTuple):
    """Resource usage of a process."""

    descriptors: int
    memfds: int
    resident_bytes: int


class Vitals(NamedTuple):
    """State of a router at one time."""

    processes: dict[int, Usage]
    """Live processes of the daemon, by PID."""
    hop_limit_exceeded: int
    """Packets, since the router was built."""


class VitalsWatcher(RouterPrograms):
    """One such program for each router; a context manager."""

    def __init__(self, lab: Inside, routers: list[str]) -> None:
        """Start the programs."""
        super().__init__(
            lab, {router: [__file__, router_config.pid_path(router)] for router in routers}
        )

    def look(self, router: str) -> Vitals:
        """Return the present state of a router. Must not be called by two threads at once."""
        program = self._programs[router]
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("\n")
        program.stdin.flush()
        answer = json.loads(program.stdout.readline())
        processes = {int(pid): Usage(*values) for pid, values in answer["processes"].items()}
        return Vitals(processes, answer["hop_limit_exceeded"])


def _look(pid_path: str) -> dict[str, object]:
    processes = {}
    for pid in _daemon_and_engine(pid_path):
        try:
            processes[pid] = _usage(pid)
        except OSError:
            continue  # it has ended
    return {"processes": processes, "hop_limit_exceeded": _hop_limit_exceeded()}


def _daemon_and_engine(pid_path: str) -> list[int]:
    try:
        with open(pid_path, encoding="ascii") as pid_file:
            daemon = int(pid_file.read())
        with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as children:
            return [daemon, *map(int, children.read().split())]
    except (OSError, ValueError):
        return []  # it is starting


def _usage(pid: int) -> Usage:
    entries = os.listdir(f"/proc/{pid}/fd")
    targets = []
    for entry in entries:
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:
            continue  # closed since the directory was read
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    memfds = sum("memfd:" in target for target in targets)
    return Usage(len(targets), memfds, pages * os.sysconf("SC_PAGE_SIZE"))


def _hop_limit_exceeded() -> int:
    with open("/proc/net/snmp", encoding="ascii") as snmp:
        names, values = [line.split() for line in snmp if line.startswith("Ip:")]
    total = int(dict(zip(names, values, strict=True))["InHdrErrors"])
    with open("/proc/net/snmp6", encoding="ascii") as snmp6:
        counters = dict(line.split() for line in snmp6)
    return total + int(counters["Ip6InHdrErrors"])


if __name__ == "__main__":
    for _ in sys.stdin:
        print(json.dumps(_look(sys.argv[1])), flush=True)
