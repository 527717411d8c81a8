"""The daemon under a service manager: its notifications, and a daemon without root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import router_config
import topology
from testbed import Lab
from tests.integration.conftest import LabBuilder, foreign_route
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    return build_lab("line3")


@pytest.fixture
def manager(lab: Lab) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = lab.file("/dev/shm/R/notify")
        listener.bind(str(path))
        path.chmod(0o666)
        listener.settimeout(DEADLINE_S)
        yield listener


def receive(manager: socket.socket, wanted: str) -> str:
    """Return the next datagram with this beginning; those of the watchdog and the status are
    skipped.
    """
    while True:
        said = manager.recv(1000).decode()
        if said.startswith(wanted):
            return said
        assert said == "WATCHDOG=1" or said.startswith("STATUS="), said


def test_a_service_manager_is_notified_of_the_state(lab: Lab, manager: socket.socket) -> None:
    lab.write_config_unless_there("R")
    config = lab.read_config("R")
    lab.write_config("R", config + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n")
    words = ["env", "NOTIFY_SOCKET=/dev/shm/R/notify", "WATCHDOG_USEC=100000"]
    process = lab.popen(
        "R",
        [*words, sys.executable, "-m", "routed", "-f", "-c", router_config.config_path("R")],
        stdin=subprocess.DEVNULL,
    )
    assert receive(manager, "READY=1") == "READY=1\nSTATUS=1 of 1 routes in the kernel"
    assert lab.kernel_routes("R"), "ready is said after the first routes"
    assert receive(manager, "WATCHDOG=1")
    lab.sighup("R")
    receive(manager, "RELOADING=1\nMONOTONIC_USEC=")
    receive(manager, "READY=1")
    lab.kill("R", "daemon", signal.SIGTERM)
    receive(manager, "STOPPING=1")
    assert process.wait(DEADLINE_S) == 0


def test_the_status_counts_installed_routes_and_follows_them(
    lab: Lab, manager: socket.socket
) -> None:
    lab.write_config_unless_there("R")
    static = "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    lab.write_config("R", lab.read_config("R") + static)
    foreign_route(lab, "R", "INSTALL", "10.9.0.0/16")
    process = lab.popen(
        "R",
        ["env", "NOTIFY_SOCKET=/dev/shm/R/notify", sys.executable, "-m", "routed", "-f",
         "-c", router_config.config_path("R")],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert receive(manager, "READY=1") == "READY=1\nSTATUS=0 of 1 routes in the kernel, 1 failed"
    foreign_route(lab, "R", "REMOVE", "10.9.0.0/16")
    assert receive(manager, "STATUS=") == "STATUS=1 of 1 routes in the kernel"
    lab.kill("R", "daemon", signal.SIGTERM)
    receive(manager, "STOPPING=1")
    assert process.wait(DEADLINE_S) == 0


WITH_NET_ADMIN_ALONE = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_SET_MDWE = 28, 47, 2, 65
NET_ADMIN = 12
NOROOT_FOR_GOOD = 0b11
assert libc.prctl(PR_SET_SECUREBITS, NOROOT_FOR_GOOD, 0, 0, 0) == 0
bit = 1 << NET_ADMIN
header = struct.pack("=Ii", 0x20080522, 0)
data = struct.pack("=6I", bit, bit, bit, 0, 0, 0)
assert libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)) == 0
assert libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NET_ADMIN, 0, 0) == 0
libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # as MemoryDenyWriteExecute= does, where the kernel can
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""AmbientCapabilities=CAP_NET_ADMIN does the same for a plain user. The uid stays 0, without an
effect: SECBIT_NOROOT makes root a user like any other. (A test may not rely on an interpreter
that other users can execute.)
"""


def test_it_runs_without_root_by_one_ambient_capability(build_lab: LabBuilder) -> None:
    lab = build_lab(topology.load("line3").with_config({"user": "root"}))
    lab.write_config_unless_there("R")
    command = [sys.executable, "-c", WITH_NET_ADMIN_ALONE, sys.executable, "-m", "routed", "-c"]
    done = lab.run("R", [*command, router_config.config_path("R")])
    assert done.returncode == 0, done.stderr
    lab.start_daemons(["A", "B"])
    lab.wait_converged(DEADLINE_S)
    for pid, effective in ((lab.daemon_pid("R"), 1 << 12), (lab.engine_pid("R"), 0)):
        text = lab.run("R", ["cat", f"/proc/{pid}/status"]).stdout
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == effective
        assert int(status["CapAmb"], 16) == int(status["CapInh"], 16) == 0
    lab.kill("R", "engine")
    lab.wait_converged(DEADLINE_S)
    (row,) = lab.routectl("R", "show", "status")
    assert row["engine_restarts"] == 1


def test_a_reload_whose_files_need_root_is_reported_at_the_start(
    build_lab: LabBuilder,
) -> None:
    lab = build_lab(topology.load("line3"))
    if lab.is_rootless:
        pytest.skip("this kernel lacks a second uid in a user namespace made without root")
    lab.write_config_unless_there("R")
    path = lab.file(router_config.config_path("R"))
    path.chmod(0o600)
    os.chown(path, 65534, 65534)
    lab.start_daemons(["R"])
    assert "config-out-of-reach" in lab.log("R")
    lab.sighup("R")
    wait_until(lambda: "reload-failed" in lab.log("R"), DEADLINE_S, "the reload fails in words")
