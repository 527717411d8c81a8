"""IPFIX of a real router, read by a collector of ours and by nfcapd."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import topology
from testbed import Lab
from tests.fakes.ipfix_collector import IpfixCollector
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
FLOWS, PACKETS, PAYLOAD = 300, 3, 100
OCTETS = 20 + 8 + PAYLOAD
PORT = 4739
CONFIG: dict[str, Any] = {
    "dataplane": {
        "interfaces": ["eth-*"],
        "flows": {"max": 65536, "idle": "1s"},
        "export": {"ipfix": [{"to": f"127.0.0.1:{PORT}", "domain": 7}]},
    }
}

_SEND = f"""
import socket, sys
for port in range(20000, 20000 + {FLOWS}):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", port))
    for _ in range({PACKETS}):
        sender.sendto(bytes({PAYLOAD}), (sys.argv[1], 9))
"""

_COLLECT = """
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    print(listener.recv(2048).hex(), flush=True)
"""


_UNTIL_A_LINE = """
import subprocess, sys
collector = subprocess.Popen(sys.argv[1:])
sys.stdin.readline()
collector.terminate()
collector.wait()
"""
"""Runs a program until a line comes: what it has received is in its file when it has ended."""


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    return build_lab(topology.load("line3").with_config(CONFIG))


def start(lab: Lab) -> str:
    """Start the daemons; returns the address of B."""
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    (status,) = lab.routectl("B", "show", "status")
    return str(status["router_id"])


def send(lab: Lab, host: str) -> None:
    done = lab.run("A", [sys.executable, "-c", _SEND, host])
    assert done.returncode == 0, done.stderr


def test_every_flow_arrives_with_its_route_and_interfaces(lab: Lab) -> None:
    command = [sys.executable, "-c", _COLLECT, str(PORT)]
    with lab.popen("R", command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        host = start(lab)
        send(lab, host)
        collector = IpfixCollector()
        packed = socket.inet_aton(host)
        found: dict[int, dict[int, bytes]] = {}
        packets: Counter[int] = Counter()
        octets: Counter[int] = Counter()
        # A sender that moves between processors has a flow on each.
        while packets.total() < FLOWS * PACKETS:
            collector.receive(bytes.fromhex(process.stdout.readline()))
            for record in collector.records:
                if record.get(12) == packed and record[11] == (9).to_bytes(2, "big"):
                    port = int.from_bytes(record[7], "big")
                    found[port] = record
                    packets[port] += int.from_bytes(record[2], "big")
                    octets[port] += int.from_bytes(record[1], "big")
            collector.records.clear()
        process.kill()
    assert collector.missing == 0
    assert set(found) == set(range(20000, 20000 + FLOWS))
    values = [
        {element: int.from_bytes(value, "big") for element, value in record.items()}
        for record in found.values()
    ]
    assert (set(packets.values()), set(octets.values())) == ({PACKETS}, {PACKETS * OCTETS})
    (hop,) = lab.routectl("R", "show", "route", host)[0]["next_hops"]
    assert {(each[13], each[15]) for each in values} == {
        (32, int.from_bytes(socket.inet_aton(hop["via"]), "big"))
    }
    assert all(each[10] and each[14] and each[10] != each[14] for each in values)
    (row,) = lab.routectl("R", "show", "export")
    assert (row["collector"], row["domain"]) == (f"127.0.0.1:{PORT}", 7)
    wait_until(lambda: exported(lab) >= FLOWS, DEADLINE_S, "the report of a second later")


def _compare_with_nfcapd(lab: Lab, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        _UNTIL_A_LINE,
        "nfcapd",
        "-w",
        str(tmp_path),
        "-b",
        "127.0.0.1",
        "-p",
        str(PORT),
        "-t",
        "3600",
    ]
    with lab.popen("R", command, stdin=subprocess.PIPE, stdout=sys.stderr) as process:
        host = start(lab)
        send(lab, host)
        wait_until(lambda: exported(lab) >= FLOWS, DEADLINE_S, "all flows are sent")
        process.communicate("\n", DEADLINE_S)
    form = "fmt:%da,%dp,%sp,%nh,%dmk,%pkt,%byt"
    dump = ["nfdump", "-R", str(tmp_path), "-q", "-o", form]
    listed = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    cells = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines()]
    rows = [row[2:] for row in cells if row[:2] == [host, "9"]]
    assert rows, listed
    (hop,) = lab.routectl("R", "show", "route", host)[0]["next_hops"]
    packets: Counter[int] = Counter()
    octets: Counter[int] = Counter()
    for row in rows:
        packets[int(row[0])] += int(row[3])
        octets[int(row[0])] += int(row[4])
    assert set(packets) == set(range(20000, 20000 + FLOWS))
    assert (set(packets.values()), set(octets.values())) == ({PACKETS}, {PACKETS * OCTETS})
    assert {tuple(row[1:3]) for row in rows} == {(hop["via"], "32")}


if shutil.which("nfcapd") is not None:  # Debian: nfdump; a root test may not be left out

    def test_nfcapd_understands_every_flow(lab: Lab, tmp_path: Path) -> None:
        _compare_with_nfcapd(lab, tmp_path)


def exported(lab: Lab) -> int:
    return sum(int(row["records"]) for row in lab.routectl("R", "show", "export"))
