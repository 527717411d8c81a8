"""Traffic counters end to end: the packets sent through a router are the packets counted."""

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
PACKETS = 500
PAYLOAD = 100
FRAME = 14 + 20 + 8 + PAYLOAD

_SEND = f"""
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({PACKETS}):
    sender.sendto(bytes({PAYLOAD}), (sys.argv[1], 9))
"""

_ATTACHED = """
import socket
from routed.dataplane.kernel import AttachType, Kernel
ifindex = socket.if_nametoindex("eth-A")
print(*(len(Kernel().attached(ifindex, where)) for where in AttachType))
"""


def counted(*names: str) -> dict[str, Any]:
    return {"dataplane": {"interfaces": list(names), "statistics": True}}


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab(topology.load("line3").with_config(counted("eth-*")))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def address_of(lab: Lab, router: str) -> str:
    """The router id, an address of the loopback interface that NUP routes."""
    (status,) = lab.routectl(router, "show", "status")
    return str(status["router_id"])


def send(lab: Lab, source: str, destination: str) -> None:
    done = lab.run(source, [sys.executable, "-c", _SEND, address_of(lab, destination)])
    assert done.returncode == 0, done.stderr


def udp(lab: Lab, interface: str) -> tuple[int, int, int, int]:
    """IPv4 over UDP on an interface of R, where NUP uses IPv6: packets and bytes in both
    directions.
    """
    rows = lab.routectl("R", "show", "traffic", "protocols", "interface", interface)
    for row in rows:
        if (row["family"], row["protocol"]) == ("ipv4", "udp"):
            return (
                row["received_packets"], row["received_bytes"],
                row["sent_packets"], row["sent_bytes"],
            )  # fmt: skip
    return 0, 0, 0, 0


def reload(lab: Lab) -> None:
    done = lab.run("R", lab.routectl_command("R", "reload"))
    assert done.returncode == 0, done.stderr


def attached(lab: Lab) -> str:
    """The number of programs in the kernel at eth-A of R, for received and sent packets."""
    return lab.run("R", [sys.executable, "-c", _ATTACHED]).stdout.strip()


def hooks(lab: Lab) -> dict[str, str]:
    rows = lab.routectl("R", "show", "dataplane", "interfaces")
    return {row["interface"]: row["hook"] for row in rows}


def test_packets_sent_are_packets_counted(lab: Lab) -> None:
    wait_until(lambda: hooks(lab) == {"eth-A": "tcx", "eth-B": "tcx"}, DEADLINE_S, "attached")
    send(lab, "A", "B")
    through = (PACKETS, PACKETS * FRAME)
    wait_until(lambda: udp(lab, "eth-B")[2:] == through, DEADLINE_S, "all went through")
    assert udp(lab, "eth-A")[:2] == through
    assert udp(lab, "eth-A")[2:] == (0, 0)
    (row,) = lab.routectl("R", "show", "traffic", "interfaces", "interface", "eth-B")
    assert row["sent_packets"] >= PACKETS
    sizes = {
        row["size_bytes"]: row["sent_packets"]
        for row in lab.routectl("R", "show", "traffic", "packet-sizes", "interface", "eth-B")
    }
    assert sizes["128-255"] >= PACKETS
    metrics = [row["text"] for row in lab.routectl("R", "show", "metrics")]
    labels = 'direction="sent",interface="eth-B",family="ipv4",protocol="udp"'
    assert f"routed_traffic_bytes_total{{{labels}}} {PACKETS * FRAME}" in metrics
    programs = {row["program"]: row for row in lab.routectl("R", "show", "dataplane", "programs")}
    assert programs["received"]["interfaces"] == programs["sent"]["interfaces"] == 2
    assert programs["received"]["runs"] >= PACKETS
    assert programs["received"]["code_bytes"] > 0


def routes(lab: Lab) -> dict[str | None, tuple[int, int]]:
    """Packets received and sent by R, by prefix."""
    return {
        row["prefix"]: (row["received_packets"], row["sent_packets"])
        for row in lab.routectl("R", "show", "traffic", "routes", "top", "100")
    }


def test_packets_of_a_route_are_counted_once_and_the_largest_count_comes_first(lab: Lab) -> None:
    host = address_of(lab, "B")
    send(lab, "A", "B")
    wait_until(lambda: routes(lab).get(f"{host}/32") == (PACKETS, PACKETS), DEADLINE_S, "counted")
    rows = lab.routectl("R", "show", "traffic", "routes", "top", "1")
    assert [row["prefix"] for row in rows if row["prefix"]] == [f"{host}/32"]


def test_a_count_stays_with_its_prefix_while_its_route_is_replaced(lab: Lab) -> None:
    """Each replacement gives the prefix another record while packets for it are in flight."""
    host = address_of(lab, "B")
    (hop,) = lab.routectl("R", "show", "route", host)[0]["next_hops"]
    prefix, rounds = f"{host}/32", 10
    for metric in range(1, rounds + 1):
        with lab.popen("A", [sys.executable, "-c", _SEND, host]) as sender:
            words = ["route", "replace", prefix, "via", hop["via"], "dev", hop["dev"]]
            done = lab.run("R", lab.routectl_command("R", *words, "metric", str(metric)))
            assert done.returncode == 0, done.stderr
            assert sender.wait(DEADLINE_S) == 0
    total = rounds * PACKETS
    wait_until(lambda: routes(lab).get(prefix) == (total, total), DEADLINE_S, "all are counted")
    done = lab.run("R", lab.routectl_command("R", "route", "delete", prefix))
    assert done.returncode == 0, done.stderr
    assert routes(lab)[prefix] == (total, total)


def test_a_window_has_what_was_sent_in_it_and_a_clear_begins_again(lab: Lab) -> None:
    host = address_of(lab, "B")
    prefix = f"{host}/32"
    send(lab, "A", "B")
    wait_until(lambda: routes(lab).get(prefix) == (PACKETS, PACKETS), DEADLINE_S, "counted")

    def window(*words: str) -> list[dict[str, Any]]:
        return lab.routectl("R", "show", "traffic", *words, "last", "60s")

    (row,) = (row for row in window("routes", "by", "packets") if row["prefix"] == prefix)
    assert (row["received_packets"], row["sent_packets"]) == (PACKETS, PACKETS)
    assert row["sent_bytes"] == PACKETS * FRAME
    assert row["seconds"] > 0
    (first,) = window("interfaces", "top", "1", "by", "packets")
    assert first["sent_packets"] + first["received_packets"] >= PACKETS
    (udp4,) = (
        row for row in window("protocols", "interface", "eth-B")
        if (row["family"], row["protocol"]) == ("ipv4", "udp")
    )  # fmt: skip
    assert udp4["sent_packets"] == PACKETS

    def in_seconds() -> int:
        rows = lab.routectl("R", "show", "traffic", "route", prefix)
        assert rows[0]["sent_packets"] == PACKETS
        return sum(row["sent_packets"] for row in rows[1:])

    wait_until(lambda: in_seconds() == PACKETS, DEADLINE_S, "the second is over")
    done = lab.run("R", lab.routectl_command("R", "clear", "traffic"))
    assert done.returncode == 0, done.stderr
    assert udp(lab, "eth-B") == (0, 0, 0, 0)
    assert prefix not in routes(lab)
    assert [row for row in window("routes") if row["prefix"] == prefix] == []
    send(lab, "A", "B")
    wait_until(lambda: routes(lab).get(prefix) == (PACKETS, PACKETS), DEADLINE_S, "counted again")
    assert udp(lab, "eth-B")[2:] == (PACKETS, PACKETS * FRAME)
    metrics = [row["text"] for row in lab.routectl("R", "show", "metrics")]
    labels = 'direction="sent",interface="eth-B",family="ipv4",protocol="udp"'
    assert f"routed_traffic_packets_total{{{labels}}} {2 * PACKETS}" in metrics


def test_a_window_is_exact_while_the_route_is_replaced(lab: Lab) -> None:
    """Each replacement gives the prefix another record; the counts of all are its own."""
    host = address_of(lab, "B")
    (hop,) = lab.routectl("R", "show", "route", host)[0]["next_hops"]
    prefix, rounds = f"{host}/32", 2
    wait_until(lambda: windowed(lab, prefix) is not None, DEADLINE_S, "the first sample")
    for metric in range(1, rounds + 1):
        with lab.popen("A", [sys.executable, "-c", _SEND, host]) as sender:
            words = ["route", "replace", prefix, "via", hop["via"], "dev", hop["dev"]]
            done = lab.run("R", lab.routectl_command("R", *words, "metric", str(metric)))
            assert done.returncode == 0, done.stderr
            assert sender.wait(DEADLINE_S) == 0
    wait_until(
        lambda: windowed(lab, prefix) == (rounds * PACKETS, rounds * PACKETS),
        DEADLINE_S, "all are in the window",
    )  # fmt: skip


def windowed(lab: Lab, prefix: str) -> tuple[int, int] | None:
    """Packets received and sent in the last minute, for a prefix; None without a sample."""
    rows = lab.routectl("R", "show", "traffic", "routes", "top", "100", "last", "60s")
    for row in rows:
        if row["prefix"] == prefix:
            return row["received_packets"], row["sent_packets"]
    return (0, 0) if rows else None


def test_impossible_windows_and_routes_are_refused(lab: Lab) -> None:
    for words, status, why in (
        (("routes", "last", "61s"), 2, "`last` is 1s to 60s, not 61s"),
        (("interfaces", "top", "0"), 2, "`top` is 1 to 1000, not 0"),
        (("route", "192.0.2.0/24"), 1, "192.0.2.0/24 is no route"),
    ):
        done = lab.run("R", lab.routectl_command("R", "show", "traffic", *words))
        assert (done.returncode, why in done.stderr) == (status, True)


def test_routes_beyond_the_configured_number_have_no_counter(
    build_lab: LabBuilder,
) -> None:
    config: dict[str, Any] = {"dataplane": {"interfaces": ["eth-*"], "routes": 0}}
    lab = build_lab(topology.load("line3").with_config(config))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    done = lab.run("R", lab.routectl_command("R", "show", "traffic", "routes"))
    assert done.returncode == 1
    assert "the traffic of routes is not counted: `dataplane.routes` is 0" in done.stderr


def test_counters_survive_the_engine_and_programs_end_with_the_daemon(lab: Lab) -> None:
    send(lab, "A", "B")
    through = (PACKETS, PACKETS * FRAME)
    wait_until(lambda: udp(lab, "eth-B")[2:] == through, DEADLINE_S, "all went through")
    lab.kill("R", "engine", signal.SIGKILL)
    wait_until(lambda: lab.engine_pid("R") is not None, DEADLINE_S, "the next engine")
    lab.wait_converged(DEADLINE_S)
    assert attached(lab) == "1 1"
    assert udp(lab, "eth-B")[2:] == through
    lab.kill("R", "daemon", signal.SIGKILL)
    wait_until(lambda: attached(lab) == "0 0", DEADLINE_S, "no program is left")


def test_a_reload_detaches_and_attaches(lab: Lab) -> None:
    text = lab.read_config("R")
    lab.write_config("R", text.replace("eth-*", "eth-B"))
    reload(lab)
    assert hooks(lab) == {"eth-B": "tcx"}
    assert attached(lab) == "0 0"
    lab.write_config("R", text)
    reload(lab)
    assert hooks(lab) == {"eth-A": "tcx", "eth-B": "tcx"}
    assert attached(lab) == "1 1"


def test_a_daemon_without_a_dataplane_has_no_programs_and_no_capabilities_for_it(
    build_lab: LabBuilder,
) -> None:
    """A reload that enables it reports that this needs a restart."""
    lab = build_lab("line3")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    assert attached(lab) == "0 0"
    maps = lab.run("R", ["cat", f"/proc/{lab.daemon_pid('R')}/maps"]).stdout
    assert "bpf-map" not in maps
    lab.write_config("R", lab.read_config("R") + "dataplane: {interfaces: [eth-A]}\n")
    reload(lab)
    (row,) = lab.routectl("R", "show", "dataplane", "interfaces")
    assert (row["hook"], row["reason"]) == ("none", "restart-needed")


def test_capabilities_for_loading_are_dropped_and_the_engine_holds_no_program(lab: Lab) -> None:
    """CAP_PERFMON is 38, CAP_BPF 39; only the parent has descriptors of programs and links."""
    parent, engine = lab.daemon_pid("R"), lab.engine_pid("R")
    status = lab.run("R", ["cat", f"/proc/{parent}/status"]).stdout
    (effective,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    assert int(effective, 16) >> 38 & 0b11 == 0
    listing = {
        pid: lab.run("R", ["ls", "-l", f"/proc/{pid}/fd"]).stdout for pid in (parent, engine)
    }
    assert "bpf-prog" in listing[parent]
    assert "bpf" not in listing[engine]
    assert "socket:" in listing[engine]
