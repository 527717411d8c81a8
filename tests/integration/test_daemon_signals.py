"""Signals to a daemon while it starts, runs and ends, and a parent that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    for router in "ARB":
        lab.write_config_unless_there(router)
    return lab


def statics(number: int) -> str:
    return f"static: [{{prefix: 10.9.{number}.0/24, type: blackhole}}]\n"


def prefixes(lab: Lab, router: str) -> set[str]:
    found = {route.prefix for route in lab.kernel_routes(router)}
    return {prefix for prefix in found if prefix.startswith("10.9.")}


def test_signals_are_served_from_the_moment_the_pid_file_exists(lab: Lab) -> None:
    """Otherwise a program that reads the pid file and sends SIGHUP would end the daemon."""
    base = lab.read_config("R")
    lab.write_config("R", base + statics(1))
    process = lab.popen(
        "R",
        [sys.executable, "-m", "routed", "-f", "-c", router_config.config_path("R")],
        stdin=subprocess.DEVNULL,
    )
    pid_file = lab.file(router_config.pid_path("R"))
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "", DEADLINE_S, "a pid file")
    lab.write_config("R", base + statics(2))
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        lab.kill("R", "daemon", number)
    wait_until(lambda: prefixes(lab, "R") == {"10.9.2.0/24"}, DEADLINE_S, "SIGHUP is followed")
    assert process.poll() is None
    twice = "; ".join([f"kill -TERM {pid_file.read_text().strip()}"] * 2)
    lab.run("R", ["sh", "-c", twice])
    assert process.wait(DEADLINE_S) == 0, "in order, also when it is told twice"


def test_the_log_is_reopened_by_a_signal_while_a_confirmation_is_pending(lab: Lab) -> None:
    """Otherwise log rotation during that time would continue in the old file."""
    base = lab.read_config("R")
    lab.start_daemons(["R"])
    log = lab.file(router_config.log_path("R"))
    lab.write_config("R", base + statics(1))
    assert lab.run("R", ["routectl", "reload", "confirm", "1h"]).returncode == 0
    (status,) = lab.routectl("R", "show", "status")
    assert (status["config_state"], len(status["confirm_token"])) == ("unconfirmed", 6)
    assert 3000 < status["confirm_left_s"] <= 3600
    log.rename(log.with_suffix(".1"))
    lab.sighup("R")
    wait_until(
        lambda: log.exists() and "waits for `confirm`" in log.read_text(),
        DEADLINE_S,
        "the refusal is in the new file",
    )
    done = lab.run("R", ["routectl", "confirm", "000000"])
    assert (done.returncode, "is not the configuration that waits" in done.stderr) == (1, True)
    assert lab.run("R", ["routectl", "confirm", status["confirm_token"]]).returncode == 0
    (status,) = lab.routectl("R", "show", "status")
    assert (status["config_state"], status["confirm_token"]) == ("confirmed", None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rollback_succeeds_without_a_running_engine(lab: Lab, number: signal.Signals) -> None:
    """Otherwise the unconfirmed configuration would stay while the engine is dead or stopped."""
    base = lab.read_config("R")
    lab.write_config("R", base + statics(1))
    lab.start_daemons(["R"])
    lab.write_config("R", base + statics(2))
    assert lab.run("R", ["routectl", "reload", "confirm", "1s"]).returncode == 0
    lab.kill("R", "engine", number)
    wait_until(
        lambda: "rolled-back" in lab.log("R") and prefixes(lab, "R") == {"10.9.1.0/24"},
        DEADLINE_S,
        "the old configuration is back",
    )
    lab.sighup("R")
    wait_until(lambda: "SIGHUP does not load it" in lab.log("R"), DEADLINE_S, "it stays away")
    assert prefixes(lab, "R") == {"10.9.1.0/24"}


def test_the_engine_leaves_signals_to_its_parent(lab: Lab) -> None:
    lab.start_daemons(["R"])
    (pid,) = lab.kill("R", "engine", signal.SIGTERM)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        lab.kill("R", "engine", number)
    (status,) = lab.routectl("R", "show", "status")
    assert status["engine_restarts"] == 0
    assert lab.is_running(pid)


def test_a_parent_that_hangs_is_reported_and_its_routes_are_not_advertised_as_better(
    lab: Lab,
) -> None:
    """Otherwise R's engine would advertise a route to A that R's kernel does not have: a black
    hole.
    """
    base = lab.read_config("B").replace("redistribute:\n", "redistribute:\n- source: static\n")
    lab.write_config("B", base)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    lab.kill("R", "daemon", signal.SIGSTOP)
    try:
        lab.write_config("B", base + statics(7))
        assert lab.run("B", ["routectl", "reload"]).returncode == 0
        wait_until(
            lambda: lab.routectl("R", "show", "status")[0]["parent_silent_s"] is not None,
            DEADLINE_S,
            "the engine says that its parent hangs",
        )
        done = lab.run("R", ["routectl", "show", "status"])
        assert "parent silent for" in done.stdout
        known = {row["prefix"] for row in lab.routectl("R", "show", "routes")}
        assert "10.9.7.0/24" in known, "R's engine has heard of it"
        assert "10.9.7.0/24" not in prefixes(lab, "A"), "and has told nobody"
    finally:
        lab.kill("R", "daemon", signal.SIGCONT)
    wait_until(lambda: "10.9.7.0/24" in prefixes(lab, "A"), DEADLINE_S, "now it is told")
    wait_until(lambda: "parent-back" in lab.log("R"), DEADLINE_S, "and the log has both")
    assert "parent-silent" in lab.log("R")
