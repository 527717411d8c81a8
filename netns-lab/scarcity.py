"""Faults in which the daemon lacks a resource: memory, disk space, descriptors, processor time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

import kernel
import router_config
from fault_tools import (
    DEADLINE_S,
    ROUTER,
    clients,
    kill,
    limit,
    reload_statics,
    run,
    start_lean,
    statics,
)
from testbed import Lab
from waiting import wait_until

__all__ = [
    "crowd",
    "fork_bomb",
    "full_disk",
    "killed_for_memory",
    "lost_notifications",
    "needs_memory_groups",
    "no_descriptors_for_the_engine",
    "no_descriptors_for_the_parent",
    "out_of_memory",
]

_CGROUPS = {
    # directory of the groups -> name of the limit
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}


def _announce_large_table(lab: Lab) -> None:
    """Have A announce 32,000 routes, for which R's engine needs about 17 MiB."""
    lines = [statics(1 << 14, second_octet=octet).removeprefix("static:\n") for octet in (1, 2)]
    reload_statics(lab, "A", "static:\n" + "".join(lines))


def out_of_memory(lab: Lab) -> None:
    """Limit the engine's growth to 8 MiB, and have its neighbor send a large table.

    The start of the engine needs about 4 MiB of them, or less if its modules are compiled already.
    """
    start_lean(lab, "DATA", 8 << 20)
    assert "MemoryError" not in lab.log(ROUTER), "the lean engine has died before the table came"
    old = lab.engine_pid(ROUTER)
    _announce_large_table(lab)
    wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "it has died of it")
    reload_statics(lab, "A", "")


def _memory_groups() -> Path | None:
    """Return a directory in which this user may create memory cgroups, or None."""
    for place, name in _CGROUPS.items():
        if not os.access(place, os.W_OK):
            continue
        with contextlib.suppress(OSError):
            probe = Path(tempfile.mkdtemp(prefix="routed-probe-", dir=place))
            has_limit = (probe / name).exists()
            probe.rmdir()
            if has_limit:
                return place
    return None


def needs_memory_groups() -> str:
    return "" if _memory_groups() else "this kernel lacks a memory cgroup that we may make"


def killed_for_memory(lab: Lab) -> None:
    """Have the kernel's out-of-memory killer end the engine, whose cgroup may grow by 4 MiB."""
    place = _memory_groups()
    assert place is not None
    old = lab.engine_pid(ROUTER)
    group = Path(tempfile.mkdtemp(prefix="routed-lab-", dir=place))
    try:
        (group / _CGROUPS[place]).write_text(str(4 << 20), encoding="ascii")
        # Run inside the lab, where the engine has the PID that the lab knows.
        run(lab, ["sh", "-c", f"echo {old} > {group}/cgroup.procs"])
        _announce_large_table(lab)
        wait_until(lambda: lab.engine_pid(ROUTER) not in (None, old), DEADLINE_S, "it was killed")
    finally:
        group.rmdir()
    assert "killed by SIGKILL" in lab.log(ROUTER)
    reload_statics(lab, "A", "")


def full_disk(lab: Lab) -> None:
    """Kill the daemon while the file system with pid file, log and configuration is full."""
    text = lab.read_config(ROUTER)
    kill(lab, "both")
    place = f"/dev/shm/{ROUTER}"
    modules = str(Path(__file__).parent)
    mount = "import netns, sys; netns.mount('tmpfs', sys.argv[1], 'tmpfs', 0, 'size=128k')"
    run(lab, ["env", f"PYTHONPATH={modules}", sys.executable, "-c", mount, place])
    lab.write_config(ROUTER, text)
    lab.start_daemons([ROUTER])
    lab.run(ROUTER, ["sh", "-c", f"cat /dev/zero > {place}/filler"])
    kill(lab, "both")
    lab.start_daemons([ROUTER])
    lab.routectl(ROUTER, "reload")
    run(lab, ["rm", f"{place}/filler"])


def lost_notifications(lab: Lab) -> None:
    """Stop the parent while more foreign routes change than its buffer holds, and one of ours."""
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
    run(lab, [sys.executable, "-c", flood])
    lab.kill(ROUTER, "daemon", signal.SIGCONT)
    wait_until(lambda: "fib-overrun" in lab.log(ROUTER), DEADLINE_S, "it has noticed")


def fork_bomb(lab: Lab) -> None:
    """Run clients that fork up to 128 processes, each connecting and sending requests all the
    time."""
    script = textwrap.dedent(
        """
        import os, socket, sys, time
        ends_at = time.monotonic() + 4
        children = 0
        for _ in range(7):
            if os.fork() == 0:
                children = 0
            else:
                children += 1
        while time.monotonic() < ends_at:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                    client.settimeout(0.5)
                    client.connect(sys.argv[1])
                    for _ in range(20):
                        client.send(os.urandom(64))
                        client.recv(1 << 16)
            except OSError:
                pass
        for _ in range(children):
            os.wait()
        """
    )
    run(lab, [sys.executable, "-c", script, router_config.socket_path(ROUTER)])


def crowd(lab: Lab) -> None:
    """Connect a thousand clients at once that send an invalid request, and then a thousand more."""
    for _ in range(2):
        with clients(lab, 1000, b"?"):
            pass


def no_descriptors_for_the_engine(lab: Lab) -> None:
    start_lean(lab, "NOFILE", 24)
    with clients(lab, 100, b""):
        wait_until(
            lambda: "Too many open files" in lab.log(ROUTER), DEADLINE_S, "it says what it lacks"
        )


def no_descriptors_for_the_parent(lab: Lab) -> None:
    """Take descriptors from the parent, which cannot start the next engine without them."""
    pid = lab.daemon_pid(ROUTER)
    limit(lab, pid, 8)
    lab.kill(ROUTER, "engine", signal.SIGKILL)
    wait_until(
        lambda: "engine-not-started" in lab.log(ROUTER), DEADLINE_S, "it says that it cannot"
    )
    limit(lab, pid, 4096)
