"""What can go wrong with a router's daemon, each as something that is done to a lab.

A fault is done to R in the middle of A - R - B while packets flow from A to B a thousand times a
second. The topology never changes, so nothing may be lost, whatever happens to the daemon; and in
the end every kernel table is what it was before.

Neighbors forgive a crash for their dead interval, so each fault says how long it may take, and the
lab's dead interval is longer.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kernel
import router_config
from client import LabError
from testbed import Lab
from waiting import wait_until
from watcher import Watcher

__all__ = ["FAULTS", "ROUTER", "Fault", "statics"]

ROUTER = "R"
HELLO_MS = 300
_DEADLINE_S = 30.0
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    what: str
    """For the table."""
    strike: Callable[[Lab], None]
    """Does it, and undoes what a person would have to undo; returns when R may recover."""
    dead_interval_s: float = 9.0
    config: dict[str, Any] = field(default_factory=dict)
    """Merged over the generated configuration of every router."""
    routes: int = 0
    """Static routes that A announces beside its own."""


# --- the daemon's processes die


def _kill_engine(lab: Lab) -> None:
    old = lab.engine_pid(ROUTER)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), _DEADLINE_S, "the next engine")


def _kill_engine_in_churn(lab: Lab) -> None:
    """A takes ten thousand routes back and announces others; R's engine dies in the middle."""
    _reload_statics(lab, "A", statics(_MANY, second_octet=2))
    wait_until(lambda: _learned(lab, "10.2.") > 0, _DEADLINE_S, "some of them have come", poll_s=0)
    _kill_engine(lab)
    _reload_statics(lab, "A", statics(_MANY, second_octet=1))


def _kill_engine_in_exchange(lab: Lab) -> None:
    """The second engine dies while its neighbors tell it their tables."""
    _kill_engine(lab)
    with Watcher(lab, [ROUTER]) as watcher:
        wait_until(
            lambda: 0 < (watcher.status(ROUTER) or {"routes": 0})["routes"] < _MANY,
            _DEADLINE_S,
            "a part of the table has come",
            poll_s=0,
        )
    _kill_engine(lab)


def _kill_engine_in_reload(lab: Lab) -> None:
    old = lab.engine_pid(ROUTER)
    lab.write_config(ROUTER, lab.read_config(ROUTER).replace("level: info", "level: debug"))
    lab.sighup(ROUTER)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), _DEADLINE_S, "the next engine")


def _kill_and_start(lab: Lab, who: str) -> None:
    _kill(lab, who)
    lab.start_daemons([ROUTER])


def _restart_in_order(lab: Lab) -> None:
    pids = lab.kill(ROUTER, "daemon", signal.SIGTERM)
    wait_until(lambda: not any(map(lab.is_running, pids)), _DEADLINE_S, "R has stopped")
    lab.start_daemons([ROUTER])


def _kill_while_starting(lab: Lab) -> None:
    """Ten starts, each killed a little later: before, between and after the forks."""
    _kill(lab, "both")
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
    _run(lab, [sys.executable, "-c", script, router_config.config_path(ROUTER)])
    lab.start_daemons([ROUTER])


def _kill_in_first_sync(lab: Lab) -> None:
    """R starts with many routes of its own and dies when the kernel has some of them."""
    _reload_statics(lab, ROUTER, statics(_MANY, second_octet=3))
    _kill(lab, "both")
    for route in [r for r in lab.kernel_routes(ROUTER) if r.prefix.startswith("10.3.")]:
        kernel.delete_route(lab.netlink(ROUTER), route)
    path = router_config.config_path(ROUTER)
    starting = lab.popen(ROUTER, [sys.executable, "-m", "routed", "-c", path])
    wait_until(lambda: _learned(lab, "10.3.") > 0, _DEADLINE_S, "a part is written", poll_s=0)
    with contextlib.suppress(LabError):
        lab.kill(ROUTER, "both", signal.SIGKILL)
    starting.wait(_DEADLINE_S)
    lab.write_config(ROUTER, lab.read_config(ROUTER).partition("static:")[0])
    lab.start_daemons([ROUTER])


# --- the daemon lives, and something is denied to it


def _stop_engine(lab: Lab) -> None:
    """It hangs for ten seconds."""
    lab.kill(ROUTER, "engine", signal.SIGSTOP)
    _let_pass(lab, 10.0)
    lab.kill(ROUTER, "engine", signal.SIGCONT)


def _out_of_memory(lab: Lab) -> None:
    """The engine has 8 MiB to spare, and its neighbor sends it a large table."""
    _start_lean(lab, "DATA", 8 << 20)
    old = lab.engine_pid(ROUTER)
    _reload_statics(lab, "A", statics(_MANY, second_octet=1))
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), _DEADLINE_S, "it has died of it")
    _reload_statics(lab, "A", "")


def _full_disk(lab: Lab) -> None:
    """The file system with pid file, log and configuration is full when the daemon dies."""
    text = lab.read_config(ROUTER)
    _kill(lab, "both")
    place = f"/dev/shm/{ROUTER}"
    modules = str(Path(__file__).parent)
    mount = "import netns, sys; netns.mount('tmpfs', sys.argv[1], 'tmpfs', 0, 'size=128k')"
    _run(lab, ["env", f"PYTHONPATH={modules}", sys.executable, "-c", mount, place])
    lab.write_config(ROUTER, text)
    lab.start_daemons([ROUTER])
    lab.run(ROUTER, ["sh", "-c", f"cat /dev/zero > {place}/filler"])
    _kill_and_start(lab, "both")
    lab.routectl(ROUTER, "reload")
    _run(lab, ["rm", f"{place}/filler"])


def _lost_notifications(lab: Lab) -> None:
    """The parent sleeps while others change more routes than its buffer holds, and one of ours."""
    lab.kill(ROUTER, "daemon", signal.SIGSTOP)
    ours = next(r for r in lab.kernel_routes(ROUTER) if r.prefix.startswith("10.1."))
    kernel.delete_route(lab.netlink(ROUTER), ours)
    flood = textwrap.dedent(
        """
        import socket, struct
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for kind, flags in ((24, 0x401), (25, 1)):
            for block in range(400):
                batch = b""
                for number in range(200):
                    route = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 4, 0, 6, 0)
                    route += struct.pack("=HH4B", 8, 1, 198, 18, block % 256, number)
                    batch += struct.pack("=IHHII", 16 + len(route), kind, flags, 1, 0) + route
                s.send(batch)
        """
    )
    _run(lab, [sys.executable, "-c", flood])
    lab.kill(ROUTER, "daemon", signal.SIGCONT)
    wait_until(lambda: "fib-overrun" in lab.log(ROUTER), _DEADLINE_S, "it has noticed")


def _clock_set_back(lab: Lab) -> None:
    """R comes back a year earlier than it went: what it counts up across lives went down."""
    _kill(lab, "both")
    script = (
        "import sys, time; now = time.time; time.time = lambda: now() - 365 * 86400; "
        "from routed.cli import main; sys.exit(main(['-c', sys.argv[1]]))"
    )
    _run(lab, [sys.executable, "-c", script, router_config.config_path(ROUTER)])


def _crowd(lab: Lab) -> None:
    """A thousand clients connect at once and say nothing useful, and a thousand more."""
    for _ in range(2):
        with _clients(lab, 1000, b"?"):
            pass


@contextlib.contextmanager
def _clients(lab: Lab, count: int, words: bytes) -> Iterator[None]:
    """Connections that say something, or nothing, and stay until the block ends."""
    path = str(lab.file(router_config.socket_path(ROUTER)))
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                client.connect(path)
                if words:
                    client.send(words)
        yield


def _no_descriptors_for_the_engine(lab: Lab) -> None:
    _start_lean(lab, "NOFILE", 24)
    with _clients(lab, 100, b""):
        wait_until(
            lambda: "Too many open files" in lab.log(ROUTER), _DEADLINE_S, "it says what it lacks"
        )


def _no_descriptors_for_the_parent(lab: Lab) -> None:
    """It cannot start the next engine until it has some again."""
    pid = lab.daemon_pid(ROUTER)
    _limit(lab, pid, 8)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(
        lambda: "engine-not-started" in lab.log(ROUTER), _DEADLINE_S, "it says that it cannot"
    )
    _limit(lab, pid, 4096)


# --- helpers


def _kill(lab: Lab, who: str) -> None:
    pids = lab.kill(ROUTER, who, signal.SIGKILL)
    wait_until(lambda: not any(map(lab.is_running, pids)), _DEADLINE_S, "R is dead")


def _start_lean(lab: Lab, what: str, amount: int) -> None:
    """Start R anew with a first engine that lacks something (`lean_daemon.py`)."""
    _kill(lab, "both")
    program = [sys.executable, str(Path(__file__).with_name("lean_daemon.py"))]
    _run(lab, [*program, what, str(amount), "-c", router_config.config_path(ROUTER)])


def _run(lab: Lab, command: list[str]) -> None:
    done = lab.run(ROUTER, command)
    if done.returncode != 0:
        raise LabError(done.stderr)


def _limit(lab: Lab, pid: int, open_files: int) -> None:
    """Set how many descriptors a process of the lab may have."""
    script = (
        f"import resource; resource.prlimit({pid}, resource.RLIMIT_NOFILE, ({open_files}, 4096))"
    )
    _run(lab, [sys.executable, "-c", script])


def statics(count: int, second_octet: int) -> str:
    """The `static:` section of a configuration with so many routes, 10.SECOND.x.y/30."""
    if not count:
        return ""
    rows = "".join(
        f"  - {{prefix: 10.{second_octet}.{n >> 6}.{(n & 63) * 4}/30, type: blackhole}}\n"
        for n in range(count)
    )
    return f"static:\n{rows}"


def _reload_statics(lab: Lab, router: str, statics: str) -> None:
    base = lab.read_config(router).partition("static:")[0]
    lab.write_config(router, base + statics)
    lab.routectl(router, "reload")


def _learned(lab: Lab, beginning: str) -> int:
    return sum(route.prefix.startswith(beginning) for route in lab.kernel_routes(ROUTER))


def _let_pass(lab: Lab, seconds: float) -> None:
    """Time is what this fault is made of."""
    gone = lab.popen(ROUTER, [sys.executable, "-c", f"import time; time.sleep({seconds})"])
    gone.wait(_DEADLINE_S)


FAULTS: tuple[Fault, ...] = (
    Fault("kill-engine", "kill -9 of the engine, idle", _kill_engine),
    Fault(
        "kill-engine-churn", "kill -9 of the engine while 10,000 routes change",
        _kill_engine_in_churn, routes=_MANY,
    ),
    Fault(
        "kill-engine-exchange", "kill -9 of the engine while tables are exchanged",
        _kill_engine_in_exchange, routes=_MANY,
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
        _kill_while_starting, dead_interval_s=30.0,
    ),
    Fault(
        "kill-first-sync", "kill -9 of both while the first 10,000 routes are written",
        _kill_in_first_sync,
    ),
    Fault("stop-engine", "the engine hangs for 10 s (SIGSTOP)", _stop_engine, dead_interval_s=18.0),
    Fault(
        "out-of-memory", "the engine runs out of memory (RLIMIT_DATA)", _out_of_memory,
    ),
    Fault("full-disk", "no space for pid file and log, killed and started", _full_disk),
    Fault(
        "lost-notifications", "160,000 foreign changes while the parent sleeps (ENOBUFS)",
        _lost_notifications, routes=1, dead_interval_s=18.0,
    ),
    Fault("clock-back", "killed, and started with the clock a year back", _clock_set_back),
    Fault("crowd", "2,000 clients that say nothing useful", _crowd),
    Fault("engine-emfile", "no descriptor left for the engine, and a crowd",
          _no_descriptors_for_the_engine),
    Fault("parent-emfile", "no descriptor left for the parent, and the engine dies",
          _no_descriptors_for_the_parent, dead_interval_s=18.0),
)  # fmt: skip
