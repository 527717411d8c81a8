"""Containers and unusual starts: closed streams, streams without a reader, other namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
import yaml

import kernel
import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    """A lab whose R logs to standard error, and has one static route."""
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    config = yaml.safe_load(lab.read_config("R"))
    del config["log"]["file"]
    config["static"] = [{"prefix": "10.9.0.0/16", "type": "blackhole"}]
    lab.write_config("R", yaml.safe_dump(config))
    return lab


def shell(lab: Lab, redirections: str, *options: str) -> list[str]:
    """A command that starts R's daemon with some streams redirected or closed."""
    python = lab.routectl_command("R")[0]
    words = " ".join(["-m routed", *options, "-c", router_config.config_path("R")])
    return ["sh", "-c", f'exec "$0" {words} {redirections}', python]


def wait_for_route(lab: Lab) -> None:
    wait_until(
        lambda: [route.prefix for route in lab.kernel_routes("R")] == ["10.9.0.0/16"],
        DEADLINE_S,
        "the route is in the kernel",
    )


def wait_for_end(lab: Lab, pids: list[int]) -> None:
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "the daemon's end")


def fill(pipe: int) -> None:
    """Write until the pipe accepts no further byte."""
    os.set_blocking(pipe, False)
    try:
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                for _ in range(1 << 16):
                    os.write(pipe, b"x" * size)
    finally:
        os.set_blocking(pipe, True)


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_daemon_starts_without_standard_streams(redirections: str, lab: Lab) -> None:
    with lab.popen("R", shell(lab, redirections, "-f"), stderr=subprocess.PIPE) as daemon:
        try:
            wait_for_route(lab)
            for descriptor in range(3):
                opened = lab.run("R", ["readlink", f"/proc/{lab.daemon_pid('R')}/fd/{descriptor}"])
                assert "routed" not in opened.stdout, "no file of ours has a stream's place"
        finally:
            lab.kill("R", "daemon", signal.SIGTERM)
        _, said = daemon.communicate(timeout=DEADLINE_S)
        assert daemon.returncode == 0
        assert "Traceback" not in said


def test_a_start_into_the_background_without_standard_streams(lab: Lab) -> None:
    assert lab.run("R", shell(lab, "<&- >&- 2>&-")).returncode == 0
    wait_for_route(lab)


def test_a_log_without_a_reader_stops_nothing(lab: Lab) -> None:
    """The pipe to a log collector that hangs is full; the parent continues, and ends on SIGTERM."""
    read_end, write_end = os.pipe()
    with lab.popen("R", shell(lab, "", "-f"), stderr=write_end) as daemon:
        try:
            wait_for_route(lab)
            fill(write_end)
            for _ in range(3):
                lab.kill("R", "daemon", signal.SIGUSR1)
            (route,) = lab.kernel_routes("R")
            kernel.delete_route(lab.netlink("R"), route)
            wait_for_route(lab)
            assert lab.routectl("R", "show", "status")
        finally:
            lab.kill("R", "daemon", signal.SIGTERM)
        assert daemon.wait(DEADLINE_S) == 0
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("options", [(), ("-f",)], ids=["background", "foreground"])
def test_a_start_with_the_history_configuration_waits_for_no_reader(
    options: tuple[str, ...], lab: Lab
) -> None:
    """After a crash during an unconfirmed reload the start has a message to print, and the pipe may
    be full.
    """
    assert lab.run("R", shell(lab, "")).returncode == 0
    text = lab.read_config("R")
    lab.write_config("R", text.replace("10.9.0.0/16", "10.8.0.0/16"))
    assert lab.run("R", ["routectl", "reload", "confirm", "1h"]).returncode == 0
    wait_until(
        lambda: [route.prefix for route in lab.kernel_routes("R")] == ["10.8.0.0/16"],
        DEADLINE_S,
        "the new route is there in the place of the old one",
    )
    pids = lab.kill("R", "daemon")
    wait_for_end(lab, pids)
    read_end, write_end = os.pipe()
    fill(write_end)
    for stderr in (os.open("/dev/full", os.O_WRONLY), write_end):
        with lab.popen("R", shell(lab, "", *options), stderr=stderr) as command:
            wait_for_route(lab)
            pids = lab.kill("R", "daemon", signal.SIGTERM)
            assert command.wait(DEADLINE_S) == 0
            wait_for_end(lab, pids)
        os.close(stderr)
    os.close(read_end)


def test_dev_stdout_is_a_log_file(lab: Lab) -> None:
    config = yaml.safe_load(lab.read_config("R"))
    config["log"]["file"] = "/dev/stdout"
    lab.write_config("R", yaml.safe_dump(config))
    with lab.popen("R", shell(lab, "", "-f"), stdout=subprocess.PIPE) as daemon:
        try:
            wait_for_route(lab)
        finally:
            lab.kill("R", "daemon", signal.SIGTERM)
        said, _ = daemon.communicate(timeout=DEADLINE_S)
        assert daemon.returncode == 0
        assert " info parent: ready " in said
    started = lab.run("R", shell(lab, ""))
    assert started.returncode == 1
    assert "start with --foreground" in started.stderr


def test_a_client_of_another_pid_namespace_is_served_by_its_uid(lab: Lab) -> None:
    """The lab has its own PID namespace, in which this process has no number, as a sidecar
    container.
    """
    assert lab.run("R", shell(lab, "")).returncode == 0
    inside = lab.file(router_config.socket_path("R"))
    path = str(inside).replace("/proc/self/", f"/proc/{os.getpid()}/")
    command = [sys.executable, "-m", "routectl", "-s", path, "show", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "router id" in done.stdout


@pytest.mark.parametrize("redirections", [">&-", "<&-", "<&- >&- 2>&-"])
def test_routectl_without_standard_streams_shows_no_traceback(redirections: str, lab: Lab) -> None:
    assert lab.run("R", shell(lab, "")).returncode == 0
    command = lab.routectl_command("R", "show", "status")
    done = lab.run("R", ["sh", "-c", f'exec "$@" {redirections}', "sh", *command])
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
