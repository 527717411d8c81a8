"""Checks of a soak that must hold at all times, made by a thread.

    forwarding loops   all kernel tables, read twice: if two readings in a row are equal, every
                       table had this content at the moment between them, and a loop in them is a
                       loop that existed
    bounds             descriptors, memfds and memory of each process; nexthop objects of a router

Violations are kept; `check` raises them. In addition, packets whose hop limit ran out are counted:
where kernels follow a change of the topology some milliseconds apart, in the wrong order, a packet
may go back and forth until the last of them has followed (a micro-loop, RFC 5715). Such a loop is
too short to be read twice.
"""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

import kernel
from convergence import forwarding_loops
from kernel import KernelRoute, RouteDump
from rtnetlink import NETLINK_ROUTE, Rtnetlink
from testbed import Lab
from vitals import Usage, Vitals, VitalsWatcher

__all__ = ["BOUNDS", "NEXTHOPS_MAX", "Peaks", "SoakWatch"]

BOUNDS = Usage(descriptors=64, memfds=8, resident_bytes=96 << 20)
"""Resources that a process of a small network never exceeds."""
NEXTHOPS_MAX = 64
"""Nexthop objects that a router of a small network never exceeds."""

_LOOK_EVERY_S = 0.05
_VITALS_EVERY_S = 0.5


class Peaks(NamedTuple):
    """The highest values seen, and the number of checks."""

    usage: Usage
    nexthops: int
    moments: int
    """Number of moments at which all tables were known."""

    def __str__(self) -> str:
        used = self.usage
        return (
            f"at most {used.descriptors} descriptors, {used.memfds} memfds and "
            f"{used.resident_bytes / (1 << 20):.0f} MiB in a process, {self.nexthops} nexthop "
            f"objects in a router; no loop at {self.moments} moments"
        )


class SoakWatch:
    """Owner of the thread, its sockets, and the violations found; a context manager."""

    def __init__(self, lab: Lab) -> None:
        """Open sockets and start the programs; the thread starts with the block."""
        self._lab = lab
        self._routers = list(lab.topology.nodes)
        self._netlinks = {
            router: Rtnetlink(
                lab.open_socket(router, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
            )
            for router in self._routers
        }
        self._names = {router: self._netlinks[router].link_names() for router in self._routers}
        self._vitals = VitalsWatcher(lab, self._routers)
        self._lock = threading.Lock()
        """Serialises the use of the sockets and programs, which answer one request at a time."""
        self._exceeded = {router: self.look(router).hop_limit_exceeded for router in self._routers}
        self._peaks = Peaks(Usage(0, 0, 0), 0, 0)
        self._problems: list[str] = []
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        self._thread.join()
        with self._vitals:
            for netlink in self._netlinks.values():
                netlink.close()

    @property
    def peaks(self) -> Peaks:
        """The highest values so far."""
        return self._peaks

    def check(self) -> None:
        """Raise the violations found.

        Raises:
            AssertionError: an invariant did not hold.
        """
        assert not self._problems, "\n".join(self._problems)
        assert self._thread.is_alive(), "the watch has ended"

    def look(self, router: str) -> Vitals:
        """Return the present state of a router's processes, and its counter of dropped packets."""
        with self._lock:
            return self._vitals.look(router)

    def nexthops(self, router: str) -> int:
        """Return the number of routed's nexthop objects in a router's kernel."""
        with self._lock:
            return kernel.count_nexthops(self._netlinks[router])

    def take_exceeded(self) -> dict[str, int]:
        """Return how many packets' hop limits have run out since the last call, by router, without
        zeros."""
        found = {}
        for router, before in self._exceeded.items():
            now = self.look(router).hop_limit_exceeded
            if now > before:
                found[router] = now - before
        self._exceeded.update({router: self._exceeded[router] + n for router, n in found.items()})
        return found

    # --- the thread

    def _work(self) -> None:
        before: dict[str, RouteDump] = {}
        checked: dict[str, RouteDump] = {}
        vitals_due = 0.0
        try:
            while not self._has_ended.wait(_LOOK_EVERY_S):
                tables = self._tables()
                if tables == before:
                    self._peaks = self._peaks._replace(moments=self._peaks.moments + 1)
                    if tables != checked:
                        self._check_tables(tables)
                        checked = tables
                before = tables
                if time.monotonic() >= vitals_due:
                    self._check_vitals()
                    vitals_due = time.monotonic() + _VITALS_EVERY_S
        except Exception as error:  # any error: the soak must not continue without these checks
            self._problems.append(f"the watch has failed: {error!r}")
            raise

    def _tables(self) -> dict[str, RouteDump]:
        with self._lock:
            return {router: kernel.dump_routes(self._netlinks[router]) for router in self._routers}

    def _check_tables(self, tables: dict[str, RouteDump]) -> None:
        routes: dict[str, list[KernelRoute]] = {
            router: kernel.decode_routes(bodies, self._names[router])
            for router, bodies in tables.items()
        }
        for loop in forwarding_loops(self._lab.topology, routes):
            self._problems.append(f"a forwarding loop: {loop}")

    def _check_vitals(self) -> None:
        for router in self._routers:
            vitals, nexthops = self.look(router), self.nexthops(router)
            for pid, usage in vitals.processes.items():
                if any(found > bound for found, bound in zip(usage, BOUNDS, strict=True)):
                    self._problems.append(f"process {pid} of {router}: {usage}; bound {BOUNDS}")
                self._raise_peaks(usage, nexthops)
            if nexthops > NEXTHOPS_MAX:
                self._problems.append(f"{router}: {nexthops} nexthop objects")

    def _raise_peaks(self, usage: Usage, nexthops: int) -> None:
        highest = Usage(*map(max, self._peaks.usage, usage))
        self._peaks = self._peaks._replace(
            usage=highest, nexthops=max(self._peaks.nexthops, nexthops)
        )
