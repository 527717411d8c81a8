"""Helpers of the faults: kill R, start it with another program, run a command inside, wait."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import router_config
from client import LabError
from testbed import Lab
from waiting import wait_until

__all__ = [
    "DEADLINE_S",
    "MANY",
    "ROUTER",
    "clients",
    "kill",
    "learned",
    "let_pass",
    "limit",
    "reload_statics",
    "run",
    "snapshot_is_searched",
    "start_lean",
    "start_other",
    "statics",
]

ROUTER = "R"
DEADLINE_S = 60.0
MANY = 10_000


def kill(lab: Lab, who: str) -> None:
    pids = lab.kill(ROUTER, who, signal.SIGKILL)
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R is dead")


def start_other(lab: Lab, program: str, *words: str) -> None:
    """Kill R and start it with another program of this directory."""
    kill(lab, "both")
    path = str(Path(__file__).with_name(program))
    run(lab, [sys.executable, path, *words, "-c", router_config.config_path(ROUTER)])


def start_lean(lab: Lab, what: str, amount: int) -> None:
    """Kill R and start it with a first engine that lacks a resource (`lean_daemon.py`)."""
    start_other(lab, "lean_daemon.py", what, str(amount))


def run(lab: Lab, command: list[str]) -> None:
    done = lab.run(ROUTER, command)
    if done.returncode != 0:
        raise LabError(done.stderr)


def limit(lab: Lab, pid: int, open_files: int) -> None:
    """Set the limit of open descriptors of a process of the lab."""
    script = (
        f"import resource; resource.prlimit({pid}, resource.RLIMIT_NOFILE, ({open_files}, 4096))"
    )
    run(lab, [sys.executable, "-c", script])


def statics(count: int, second_octet: int) -> str:
    """Return the `static:` section of a configuration with `count` routes, 10.SECOND.x.y/30."""
    if not count:
        return ""
    rows = "".join(
        f"  - {{prefix: 10.{second_octet}.{n >> 6}.{(n & 63) * 4}/30, type: blackhole}}\n"
        for n in range(count)
    )
    return f"static:\n{rows}"


def reload_statics(lab: Lab, router: str, statics: str) -> None:
    base = lab.read_config(router).partition("static:")[0]
    lab.write_config(router, base + statics)
    lab.routectl(router, "reload")


def learned(lab: Lab, beginning: str) -> int:
    return sum(route.prefix.startswith(beginning) for route in lab.kernel_routes(ROUTER))


def let_pass(lab: Lab, seconds: float) -> None:
    """Wait: the fault lasts for this time."""
    gone = lab.popen(ROUTER, [sys.executable, "-c", f"import time; time.sleep({seconds})"])
    gone.wait(DEADLINE_S)


@contextlib.contextmanager
def clients(lab: Lab, count: int, words: bytes) -> Iterator[None]:
    """Connect clients that send `words`, or nothing, and keep them connected until the block
    ends."""
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


@contextlib.contextmanager
def snapshot_is_searched(lab: Lab) -> Iterator[None]:
    """Search for A in the present engine's snapshot all the time, until the block ends."""
    program = str(Path(__file__).with_name("snapshot_watch.py"))
    address = str(lab.node("A").loopbacks[0].ip)
    words = [sys.executable, program, router_config.socket_path(ROUTER), address, "eth-A"]
    wait_until(
        lambda: any(route.prefix == f"{address}/32" for route in lab.kernel_routes(ROUTER)),
        DEADLINE_S,
        "A is known",
    )
    watch = lab.popen(ROUTER, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert watch.stdin is not None
    assert watch.stdout is not None
    with watch:
        opened = watch.stdout.readline().strip()
        assert opened == "open", f"the snapshot could not be searched: {opened}"
        yield
        watch.stdin.close()
        said = watch.stdout.read().strip()
    assert watch.returncode == 0, f"a wrong answer: {said}"
    assert int(said) > 0
