"""Starting and stopping: exit status and message agree with the state, and each failure has its
own.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import router_config
from testbed import Lab
from tests.fakes.route_monitor import RouteMonitor
from tests.integration.conftest import LabBuilder, foreign_route
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def start(lab: Lab, router: str = "R", *options: str) -> tuple[int, str]:
    """Run `routed -c`. Returns its exit status and output."""
    path = router_config.config_path(router)
    done = lab.run(router, ["routed", "-c", path, *options])
    return done.returncode, done.stderr.strip()


def test_a_ready_daemon_already_has_its_routes_in_the_kernel(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    lab.write_config(
        "R", lab.read_config("R") + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    )
    assert start(lab) == (0, "")
    assert [route.prefix for route in lab.kernel_routes("R")] == ["10.9.0.0/16"]
    (status,) = lab.routectl("R", "show", "status")
    assert status["router_id"] == lab.node("R").router_id
    assert status["fib"]["installed"] == 1


def test_a_start_reports_how_many_routes_the_kernel_refused(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    static = (
        "static: [{prefix: 10.9.0.0/16, type: blackhole}, {prefix: 10.8.0.0/16, type: blackhole}]\n"
    )
    lab.write_config("R", lab.read_config("R") + static)
    foreign_route(lab, "R", "INSTALL", "10.9.0.0/16")
    status, said = start(lab)
    assert status == 0, "it runs"
    assert said == (
        "routed: 1 of 2 routes in the kernel, 1 failed; `routectl show fib` has the reasons"
    )
    (ready,) = [row for row in lab.routectl("R", "show", "log") if row["event"] == "ready"]
    assert "routes=1 failed=1" in ready["text"]


def test_a_start_ends_when_the_kernel_has_installed_or_refused_all_static_routes(
    build_lab: LabBuilder,
) -> None:
    """The first batch has 2,000 routes; the start does not end before the others are done."""
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    prefixes = [f"10.{number >> 8}.{number & 0xFF}.0/24" for number in range(6000)]
    static = "".join(f"  - {{prefix: {prefix}, type: blackhole}}\n" for prefix in prefixes)
    lab.write_config("R", f"{lab.read_config('R')}static:\n{static}")
    for prefix in prefixes[::1500]:
        foreign_route(lab, "R", "INSTALL", prefix)
    status, said = start(lab)
    assert status == 0
    words = "5996 of 6000 routes in the kernel, 4 failed; `routectl show fib` has the reasons"
    assert said == f"routed: {words}"
    (ready,) = [row for row in lab.routectl("R", "show", "log") if row["event"] == "ready"]
    assert "routes=5996 failed=4" in ready["text"]


def test_a_route_that_loses_in_the_kernel_is_not_shown_as_healthy(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    static = "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    lab.write_config("R", lab.read_config("R") + static)
    foreign_route(lab, "R", "INSTALL", "10.9.0.0/16", priority=0)
    assert start(lab) == (0, "")
    shadowed = ("shadowed", "preferred foreign route: protocol bird, priority 0")

    def state() -> tuple[str, str]:
        (row,) = lab.routectl("R", "show", "fib", "10.9.0.0/16")
        return row["state"], row["reason"]

    wait_until(lambda: state() == shadowed, DEADLINE_S, "the route is shown as it is")
    (route,) = lab.routectl("R", "show", "routes", "10.9.0.0/16")
    assert (route["fib_state"], route["fib_reason"]) == shadowed
    (status,) = lab.routectl("R", "show", "status")
    assert status["fib"]["shadowed"] == 1
    foreign_route(lab, "R", "REMOVE", "10.9.0.0/16", priority=0)
    wait_until(lambda: state() == ("installed", ""), DEADLINE_S, "it is used again")


def test_every_failure_has_its_own_line_and_status(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    good = lab.read_config("R")
    path = router_config.config_path("R")

    lab.write_config("R", good + "statik: []\n")
    status, said = start(lab)
    line = good.count("\n") + 1
    assert (status, said) == (2, f"{path}:{line}:1: statik: unknown key; did you mean 'static'?")

    lab.file(path).unlink()
    status, said = start(lab)
    assert (status, said) == (2, f"{path}:1:1: (file): cannot read it: No such file or directory")

    lab.write_config("R", good)
    socket_path = router_config.socket_path("R")
    lab.file(socket_path).write_text("precious")
    status, said = start(lab)
    assert status == 1
    assert said.startswith(f"routed: management socket {socket_path}")
    assert lab.file(socket_path).read_text() == "precious"
    lab.file(socket_path).unlink()

    without = [sys.executable, "-c", WITHOUT_CAPABILITIES, path]
    done = lab.run("R", without)
    assert done.returncode == 1
    assert "needs the capability CAP_NET_ADMIN" in done.stderr

    assert start(lab) == (0, "")
    status, said = start(lab)
    assert status == 1
    assert said.startswith("routed: already running as pid ")
    assert said.endswith(f"(it holds {router_config.pid_path('R')})")

    # Another daemon with its own pid file and protocol number, and the same socket.
    lab.write_config(
        "R", good.replace("routed.pid", "other.pid") + "fib: {table: 77, protocol: 206}\n"
    )
    status, said = start(lab)
    assert status == 1
    assert "in use" in said
    assert lab.routectl("R", "show", "status"), "the first one never noticed"


WITHOUT_CAPABILITIES = """
import sys
from routed.sandbox.capabilities import clear_all
clear_all()
from routed.cli import main
sys.exit(main(["-c", sys.argv[1]]))
"""


def test_a_socket_left_by_a_dead_daemon_is_replaced(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.start_daemons(["R"])
    pids = lab.kill("R", "daemon")
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "the daemon is gone")
    assert lab.file(router_config.socket_path("R")).exists()
    assert start(lab) == (0, "")


def test_check_and_schema_change_nothing(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    assert start(lab, "R", "--check") == (0, "")
    assert not lab.file(router_config.pid_path("R")).exists()


def test_an_orderly_stop_removes_routes_and_files(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    pids = lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R has stopped")
    assert lab.kernel_routes("R") == []
    assert not lab.file(router_config.socket_path("R")).exists()
    assert not lab.file(router_config.pid_path("R")).exists()
    # Its neighbors are notified at once, long before the dead interval: it sent a goodbye.
    wait_until(lambda: not lab.routectl("A", "show", "neighbors"), 0.8, "A has dropped R")


def test_in_the_foreground_it_logs_to_stderr_and_ends_with_status_0(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    lines = [
        line for line in lab.read_config("R").splitlines() if "file: " not in line or "pid" in line
    ]
    lab.write_config("R", "\n".join(lines) + "\n")
    command = ["routed", "-f", "-c", router_config.config_path("R")]
    process = lab.popen("R", command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if " ready " in line:
            break
    lab.kill("R", "daemon", signal.SIGUSR1)
    said = ""
    for line in process.stderr:
        said += line
        if "engine: diagnostic what=counters" in line:
            break
    lab.kill("R", "daemon", signal.SIGUSR2)
    lab.kill("R", "daemon", signal.SIGINT)
    said += process.stderr.read()
    assert process.wait(DEADLINE_S) == 0
    process.stderr.close()
    assert "parent: diagnostic what=fib" in said
    assert 'engine: diagnostic what="memory engine" value=' in said
    assert "log-level level=debug" in said
    assert "stopping reason=SIGINT" in said


def test_on_exit_keep_leaves_routes_and_the_next_start_adopts_them(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    statics = "static:\n" + "".join(
        f"  - {{prefix: 10.9.{number}.0/24, type: blackhole}}\n" for number in range(5)
    )
    base = lab.read_config("R") + "fib: {on_exit: keep}\n"
    lab.write_config("R", base + statics)
    assert start(lab) == (0, "")
    pids = lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R has stopped")
    kept = lab.kernel_routes("R")
    assert len(kept) == 5

    with RouteMonitor(lab, "R") as monitor:
        lab.write_config("R", base + statics.replace("10.9.4.0", "10.9.5.0"))
        assert start(lab) == (0, "")
        expected = {f"10.9.{number}.0/24" for number in (0, 1, 2, 3, 5)}
        wait_until(
            lambda: {route.prefix for route in lab.kernel_routes("R")} == expected,
            DEADLINE_S,
            "the stale route is swept",
        )
    assert sorted(monitor.heard) == [("del", "10.9.4.0/24"), ("new", "10.9.5.0/24")]
    (status,) = lab.routectl("R", "show", "status")
    assert status["fib"]["installed"] == 5
