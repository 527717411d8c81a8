"""Packets are forwarded and the tables become right again after each process dies or another
program interferes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

import kernel
import topology
from testbed import Lab
from tests.fakes.route_monitor import RouteMonitor
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


@pytest.fixture
def patient_lab(build_lab: LabBuilder) -> Lab:
    """A crash without a goodbye loses nothing when the router is back within the dead interval,
    which is long enough here for a busy machine.
    """
    patience = {"interfaces": {"eth*": {"hello": "300ms", "multiplier": 30}}}
    lab = build_lab(topology.load("line3").with_config(patience))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def uptimes(lab: Lab, router: str) -> dict[str, float | None]:
    return {row["interface"]: row["uptime_s"] for row in lab.routectl(router, "show", "neighbors")}


def _engine_other_than(lab: Lab, old: int | None) -> Callable[[], bool]:
    return lambda: lab.engine_pid("R") not in (None, old)


def test_kill_9_of_the_engine_loses_no_packet(patient_lab: Lab) -> None:
    lab = patient_lab
    first = lab.engine_pid("R")
    with lab.ping_stream("A", "B") as stream:
        for round_number in (1, 2):
            before = lab.engine_pid("R")
            lab.kill("R", "engine", signal.SIGKILL)
            wait_until(_engine_other_than(lab, before), DEADLINE_S, "a new engine")
            lab.wait_converged(DEADLINE_S)
            wait_until(
                lambda: all(uptimes(lab, "R").values()) and len(uptimes(lab, "R")) == 2,
                DEADLINE_S,
                "both neighbors are back",
            )
            (status,) = lab.routectl("R", "show", "status")
            assert status["engine_restarts"] == round_number
    assert first is not None
    assert stream.sent > 100
    assert stream.lost == 0


def test_a_new_engine_does_not_wait_for_neighbors_on_a_link_that_is_down(
    build_lab: LabBuilder,
) -> None:
    """The dead interval here is longer than any deadline, so the engine does not wait for it
    either.
    """
    slow = {"interfaces": {"eth*": {"hello": "1s", "multiplier": 60}}}
    lab = build_lab(topology.load("triangle").with_config(slow))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    before = lab.engine_pid("A")
    lab.kill("A", "engine", signal.SIGSTOP)  # the stopped engine does not notice the cut
    lab.cut("A-B")
    lab.kill("A", "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid("A") not in (None, before), DEADLINE_S, "a new engine")
    lab.wait_converged(DEADLINE_S)


def test_kill_9_of_the_daemon_and_a_new_start_lose_no_packet(patient_lab: Lab) -> None:
    lab = patient_lab
    with lab.ping_stream("A", "B") as stream:
        pids = lab.kill("R", "both", signal.SIGKILL)
        wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R is dead")
        lab.start_daemons(["R"])
        lab.wait_converged(DEADLINE_S)
    assert stream.lost == 0


def test_an_orderly_restart_that_keeps_its_routes_loses_no_packet(build_lab: LabBuilder) -> None:
    keep = {"fib": {"on_exit": "keep"}}
    lab = build_lab(topology.load("line3").with_config(keep))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    with RouteMonitor(lab, "R") as monitor, lab.ping_stream("A", "B") as stream:
        pids = lab.kill("R", "daemon", signal.SIGTERM)
        wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R is gone")
        lab.start_daemons(["R"])
        lab.wait_converged(DEADLINE_S)
        wait_until(
            lambda: "fib-in-sync" in lab.log("R").rpartition(" starting ")[2], DEADLINE_S, "in sync"
        )
    assert monitor.heard == []
    assert stream.lost == 0


def test_a_link_that_flaps_faster_than_sockets_are_replaced_recovers(lab: Lab) -> None:
    netlink = lab.netlink("R")
    for _ in range(10):
        netlink.set_up("eth-A", is_up=False)
        netlink.set_up("eth-A", is_up=True)
        wait_until(lambda: uptimes(lab, "R").get("eth-A"), DEADLINE_S, "the neighbor is back")
    lab.wait_converged(DEADLINE_S)


def test_an_engine_does_not_survive_its_parent(lab: Lab) -> None:
    engine = lab.engine_pid("R")
    assert engine is not None
    lab.kill("R", "daemon", signal.SIGKILL)
    wait_until(lambda: not lab.is_running(engine), DEADLINE_S, "the engine has gone, too")
    assert lab.kernel_routes("R"), "the kernel keeps the routes"


def test_an_engine_that_keeps_dying_is_not_restarted_for_ever_and_the_routes_stay(lab: Lab) -> None:
    daemon, before = lab.daemon_pid("R"), lab.kernel_routes("R")
    killed: set[int] = set()

    def kill_the_next_engine() -> bool:
        if not lab.is_running(daemon):
            return True
        engine = lab.engine_pid("R")
        if engine is not None and engine not in killed:
            killed.add(engine)
            lab.kill("R", "engine", signal.SIGKILL)
        return False

    wait_until(kill_the_next_engine, DEADLINE_S, "the daemon gives up", poll_s=0.3)
    assert lab.kernel_routes("R") == before
    assert "engine-given-up" in lab.log("R")


def test_a_daemon_without_an_engine_ends_on_sigterm(lab: Lab) -> None:
    daemon = lab.daemon_pid("R")
    killed: set[int | None] = {None}
    for _ in range(4):  # each death makes the pause before the next engine longer
        wait_until(lambda: lab.engine_pid("R") not in killed, DEADLINE_S, "another engine")
        killed.add(lab.engine_pid("R"))
        lab.kill("R", "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid("R") is None, DEADLINE_S, "no engine for 0.4 s", poll_s=0.01)
    lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not lab.is_running(daemon), DEADLINE_S, "the daemon has ended")
    assert lab.log("R").count("engine-started") == 4, "no other was started"


def test_a_route_deleted_by_hand_comes_back(lab: Lab) -> None:
    before = lab.kernel_routes("R")
    for route in before:
        kernel.delete_route(lab.netlink("R"), route)
    wait_until(lambda: lab.kernel_routes("R") == before, DEADLINE_S, "all routes are back")
    wait_until(
        lambda: (
            {row["name"]: row["value"] for row in lab.routectl("R", "show", "counters")}[
                "fib_repaired"
            ]
            >= len(before)
        ),
        DEADLINE_S,
        "the repairs are counted",
    )
    assert "fib-drift" in lab.log("R")


def test_fib_commands_remove_install_and_repair_routes(lab: Lab) -> None:
    before = lab.kernel_routes("R")
    done = lab.run("R", ["routectl", "fib", "decouple"])
    assert done.returncode == 0, done.stderr
    assert lab.kernel_routes("R") == []
    assert {row["state"] for row in lab.routectl("R", "show", "fib")} == {"decoupled"}
    lab.kill("R", "engine", signal.SIGKILL)
    wait_until(
        lambda: lab.routectl("R", "show", "status")[0]["engine_restarts"] == 1,
        DEADLINE_S,
        "a new engine",
    )
    assert lab.kernel_routes("R") == [], "a new engine couples nothing"
    assert lab.run("R", ["routectl", "fib", "couple"]).returncode == 0
    wait_until(lambda: lab.kernel_routes("R") == before, DEADLINE_S, "all routes are back")
    done = lab.run("R", ["routectl", "fib", "resync"])
    assert "0 were missing, 0 changed" in done.stdout


def test_a_foreign_route_is_never_touched(lab: Lab) -> None:
    netlink = lab.netlink("R")
    kernel.add_route(netlink, "198.18.0.0/15", via=None, dev="eth-A")
    foreign = [route for route in lab.kernel_routes("R", None) if route.prefix == "198.18.0.0/15"]
    lab.kill("R", "engine", signal.SIGKILL)
    lab.wait_converged(DEADLINE_S)
    pids = lab.kill("R", "daemon", signal.SIGTERM)
    wait_until(lambda: not any(map(lab.is_running, pids)), DEADLINE_S, "R has stopped")
    after = [route for route in lab.kernel_routes("R", None) if route.prefix == "198.18.0.0/15"]
    assert after == foreign


def test_a_link_that_flaps_gets_its_routes_back(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    far = str(lab.topology.ports_of("A")[0].addresses[0].ip)
    statics = (
        f"static: [{{prefix: 10.9.0.0/16, via: {far}}}, {{prefix: 10.8.0.0/16, via: 10.9.1.1}}]\n"
    )
    lab.write_config("R", lab.read_config("R") + statics)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    before = lab.kernel_routes("R")
    assert {"10.8.0.0/16", "10.9.0.0/16"} <= {route.prefix for route in before}
    lab.cut("R-A")
    wait_until(lambda: not _route(lab, "10.9.0.0/16"), DEADLINE_S, "the static route is gone")
    rows = {row["prefix"]: row for row in lab.routectl("R", "show", "routes")}
    assert not rows["10.9.0.0/16"]["selected"]
    assert "not reachable" in rows["10.9.0.0/16"]["fib_reason"]
    lab.mend("R-A")
    lab.wait_converged(DEADLINE_S)
    wait_until(lambda: lab.kernel_routes("R") == before, DEADLINE_S, "everything is as before")


def _route(lab: Lab, prefix: str) -> list[kernel.KernelRoute]:
    return [route for route in lab.kernel_routes("R") if route.prefix == prefix]
