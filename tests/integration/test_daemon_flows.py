"""Flows end to end: the observer of a real router, its sandbox, and its death."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

import topology
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
PAYLOAD = 100
OCTETS = 20 + 8 + PAYLOAD
"""Of IP."""
CONFIG: dict[str, Any] = {
    "dataplane": {
        "interfaces": ["eth-*"],
        "flows": {"max": 4096, "idle": "1h", "active": "1h"},
    }
}

_SEND = f"""
import socket, sys
for port in range(20000, 20000 + int(sys.argv[2])):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", port))
    for _ in range(int(sys.argv[3])):
        sender.sendto(bytes({PAYLOAD}), (sys.argv[1], 9))
"""


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab(topology.load("line3").with_config(CONFIG))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def send(lab: Lab, flows: int, packets: int) -> str:
    """Send from A to the address of B; returns that address."""
    (status,) = lab.routectl("B", "show", "status")
    host = str(status["router_id"])
    done = lab.run("A", [sys.executable, "-c", _SEND, host, str(flows), str(packets)])
    assert done.returncode == 0, done.stderr
    return host


def flows_to(lab: Lab, host: str) -> dict[int, dict[str, Any]]:
    """The flows through R to a host, by source port; nothing while there is no observer."""
    command = lab.routectl_command("R", "--json", "show", "traffic", "flows", "top", "1000")
    if lab.run("R", command).returncode:
        return {}
    rows = lab.routectl("R", "show", "traffic", "flows", "top", "1000")
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["destination"] == host:
            # Each processor has a cache of its own, and a sender may move between processors.
            former = found.get(row["source_port"], {"packets": 0, "bytes": 0})
            sums = {name: former[name] + row[name] for name in ("packets", "bytes")}
            found[row["source_port"]] = {**row, **sums}
    return found


def last_started(lab: Lab, event: str) -> int:
    """The pid of the newest process of R whose start was logged; 0 for none."""
    lines = [row["text"] for row in lab.routectl("R", "show", "log") if row["event"] == event]
    return int(lines[-1].partition("pid=")[2].split()[0]) if lines else 0


def kill(lab: Lab, pid: int) -> None:
    command = [sys.executable, "-c", f"import os; os.kill({pid}, {signal.SIGKILL.value})"]
    done = lab.run("R", command)
    assert done.returncode == 0, done.stderr


def test_every_packet_is_in_its_flow_with_its_route_also_when_observer_and_engine_die(
    lab: Lab,
) -> None:
    host = send(lab, 50, 4)

    def counted(packets: int) -> bool:
        found = flows_to(lab, host)
        return len(found) == 50 and all(row["packets"] == packets for row in found.values())

    wait_until(lambda: counted(4), DEADLINE_S, "50 flows of 4 packets")
    row = flows_to(lab, host)[20000]
    assert (row["protocol"], row["destination_port"], row["bytes"]) == ("udp", 9, 4 * OCTETS)
    assert (row["interface"], row["dev"]) == ("eth-A", "eth-B")
    assert row["prefix"] == f"{host}/32"
    (hop,) = lab.routectl("R", "show", "route", host)[0]["next_hops"]
    assert row["via"] == hop["via"]
    hosts = {row["host"]: row for row in lab.routectl("R", "show", "traffic", "hosts")}
    assert hosts[host]["received_packets"] == 200
    ports = lab.routectl("R", "show", "traffic", "ports", "by", "packets")
    (port,) = (row for row in ports if (row["protocol"], row["port"]) == ("udp", 9))
    assert (port["received_packets"], port["sent_packets"]) == (200, 0)

    observer = last_started(lab, "observer-started")
    kill(lab, observer)
    wait_until(
        lambda: last_started(lab, "observer-started") not in (0, observer), DEADLINE_S, "another"
    )
    send(lab, 50, 1)
    wait_until(lambda: counted(5), DEADLINE_S, "the flows of before go on")

    engine = last_started(lab, "engine-started")
    kill(lab, engine)
    wait_until(lambda: lab.engine_pid("R") not in (None, engine), DEADLINE_S, "another engine")
    lab.wait_converged(DEADLINE_S)
    send(lab, 50, 1)
    wait_until(lambda: counted(6), DEADLINE_S, "the flows of before go on")


_LOOK = """
import os, sys
folder = f"/proc/{sys.argv[1]}"
held = [os.readlink(f"{folder}/fd/{name}") for name in os.listdir(f"{folder}/fd")]
print(*[target for target in held if "bpf" in target], sep=",")
print("bpf-map" in open(f"{folder}/maps").read())
print(open(f"{folder}/status").read())
"""


def test_the_observer_has_no_privilege_and_no_program(lab: Lab) -> None:
    observer = last_started(lab, "observer-started")

    def look() -> tuple[str, str, dict[str, str]]:
        done = lab.run("R", [sys.executable, "-c", _LOOK, str(observer)])
        assert done.returncode == 0, done.stderr
        held, has_memory, *status = done.stdout.splitlines()
        fields = (line.partition(":") for line in status)
        return held, has_memory, {name: value.strip() for name, _, value in fields}

    wait_until(lambda: look()[1] == "True", DEADLINE_S, "it has its memory")
    held, _, status = look()
    assert held == ""
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "0" not in status["Uid"].split()


def test_without_flows_there_is_no_observer(build_lab: LabBuilder) -> None:
    config: dict[str, Any] = {"dataplane": {"interfaces": ["eth-*"]}}
    lab = build_lab(topology.load("line3").with_config(config))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    assert last_started(lab, "observer-started") == 0
    done = lab.run("R", lab.routectl_command("R", "show", "traffic", "flows"))
    assert done.returncode == 1
    assert "flows are not counted: `dataplane.flows.max` is 0" in done.stderr
