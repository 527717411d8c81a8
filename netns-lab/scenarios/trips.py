"""Lists the source files through which a route passes, in the order of their first call.

R is traced (`traced.py`) in A - R - B, with one event at a time: R is reloaded without a change,
and with one more static route; A advertises a route; R's routes are shown. A file counts if one of
its functions has the route in an argument or in its result; a reload has no route to follow, so
each file that runs counts. A trip to the kernel ends with the file that encodes the netlink
message, so the answer and the acknowledgement that follow do not count. `model` does not count,
nor does a package's `__init__`.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import router_config
import topology
from fault_tools import ROUTER, reload_statics, start_other
from fault_tools import run as run_on_router
from testbed import Lab
from traced import ENCODER, ROUTES
from waiting import wait_until

__all__ = ["TOPOLOGY", "plan", "run", "trips_in"]

TOPOLOGY = "line3"

_DEADLINE_S = 60.0
_ALL_STATIC = "- {source: static}"
_STATIC, _LEARNED = ROUTES


class _Trace:
    """Reader of the output of the traced programs."""

    def __init__(self, fifo: str) -> None:
        os.mkfifo(fifo)
        os.chmod(fifo, 0o666)  # the engine runs as another user
        fd = os.open(fifo, os.O_RDWR)
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._reader = os.fdopen(fd, encoding="utf-8")
        self._lock = threading.Lock()
        self._lines: list[list[str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._reader:
            with self._lock:
                self._lines.append(line.split())

    def files(
        self, began_s: float, ended_s: float, *, kinds: str, last: str | None
    ) -> dict[str, str]:
        """Return for each file the process and the function that ran first, in order of time.

        Args:
            began_s: when the trip began; time.monotonic().
            ended_s: when it had ended.
            kinds: the lines that count: `d` with the route, `r` without it.
            last: name of the function that ends the trip earlier, if any.
        """
        found: dict[str, str] = {}
        with self._lock:
            lines = sorted(self._lines, key=lambda words: float(words[0]))
        for moment, process, kind, path, function in lines:
            if kind in kinds and began_s <= float(moment) <= ended_s and not _is_left_out(path):
                found.setdefault(path, f"{process:9} {function}")
                if function == last:
                    break
        return found


def _is_left_out(path: str) -> bool:
    return path.startswith("routed/model/") or path.endswith("/__init__.py")


def plan() -> topology.Topology:
    """Return a network with rare heartbeats."""
    interfaces = {"eth*": {"hello": "5s", "multiplier": 20}}
    return topology.load(TOPOLOGY).with_config({"interfaces": interfaces})


def run(lab: Lab, say: Callable[[str], None]) -> None:
    """Print the files of each trip, in a separate lab (the given one stays empty).

    Raises:
        DeadlineExceededError: a route did not arrive.
        LabError: a daemon did not start or answer.
    """
    with Lab(plan()) as own:
        for name, files in trips_in(own).items():
            say(f"\n{name}: {len(files)} files")
            for path, first in files.items():
                say(f"    {path:48} {first}")


def trips_in(lab: Lab) -> dict[str, dict[str, str]]:
    """Return for each trip and file the process and the function that ran first, in order of time.

    Args:
        lab: built by `plan`; its daemons are not started.

    Raises:
        DeadlineExceededError: a route did not arrive.
        LabError: a daemon did not start or answer.
    """
    lab.write_config_unless_there("A")
    text = lab.read_config("A")
    lab.write_config("A", text.replace("redistribute:\n", f"redistribute:\n{_ALL_STATIC}\n"))
    lab.start_daemons()
    lab.wait_converged(_DEADLINE_S)
    with tempfile.TemporaryDirectory(prefix="routed-trips-") as directory:
        os.chmod(directory, 0o755)
        fifo = str(Path(directory, "fifo"))
        trace = _Trace(fifo)
        start_other(lab, "traced.py", fifo, "routed")
        lab.wait_converged(_DEADLINE_S)
        return _trips(lab, trace, fifo)


def _trips(lab: Lab, trace: _Trace, fifo: str) -> dict[str, dict[str, str]]:
    trips: dict[str, dict[str, str]] = {}

    def trip(
        name: str, act: Callable[[], object], kinds: str = "d", last: str | None = None
    ) -> None:
        began_s = time.monotonic()
        act()
        trips[name] = trace.files(began_s, time.monotonic(), kinds=kinds, last=last)

    def wait_for(route: str, router: str) -> None:
        def is_there() -> bool:
            return any(each.prefix == route for each in lab.kernel_routes(router))

        wait_until(is_there, _DEADLINE_S, f"the kernel of {router} has {route}")

    def announce(router: str, route: str) -> None:
        reload_statics(lab, router, f"static:\n  - {{prefix: {route}, type: blackhole}}\n")
        wait_for(route, ROUTER)

    program = str(Path(__file__).parents[1] / "traced.py")
    socket = router_config.socket_path(ROUTER)
    show = [sys.executable, program, fifo, "routectl", "-s", socket, "show", "routes"]
    trip("a reload that changes nothing", lambda: lab.routectl(ROUTER, "reload"), kinds="dr")
    trip("a static route, to the kernel", lambda: announce(ROUTER, _STATIC), last=ENCODER)
    trip("a learned route, to the kernel", lambda: announce("A", _LEARNED), last=ENCODER)
    wait_for(_LEARNED, "B")
    trip("`show routes`", lambda: run_on_router(lab, show))
    return trips
