"""Invalid bytes from the network and from clients are counted or end that session, and affect
nothing else.
"""

from __future__ import annotations

import random
import socket
import struct

import pytest

import router_config
from routed.model.nup_addresses import GROUP_IPV6, NUP_PORT
from testbed import Lab
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


def counters(lab: Lab, router: str) -> dict[str, int]:
    return {row["name"]: row["value"] for row in lab.routectl(router, "show", "counters")}


def multicast(lab: Lab, router: str, ifname: str, hop_limit: int) -> socket.socket:
    names = {name: ifindex for ifindex, name in lab.netlink(router).link_names().items()}
    sender = lab.open_socket(router, socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hop_limit)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, names[ifname])
    sender.connect((str(GROUP_IPV6), NUP_PORT, 0, names[ifname]))
    return sender


def test_datagrams_that_no_neighbor_sends_are_dropped_by_the_kernel_and_counted(lab: Lab) -> None:
    before = counters(lab, "R")
    rng = random.Random(1)
    with multicast(lab, "A", "eth-R", 255) as sender:
        sender.send(b"")
        sender.send(b"x")
        sender.send(struct.pack("!BBHIIHH", 9, 1, 0, 0, 0, 0, 0))
        for _ in range(100):
            sender.send(rng.randbytes(rng.randrange(200)))
    with multicast(lab, "A", "eth-R", 1) as sender:
        sender.send(b"from afar")

    def grown() -> dict[str, int]:
        after = counters(lab, "R")
        return {name: after[name] - before.get(name, 0) for name in after}

    wait_until(
        lambda: grown()["nup_dropped_by_kernel"] >= 104, DEADLINE_S, "each of them is counted"
    )
    assert "adjacency-down" not in lab.log("R"), "the adjacency never noticed"


def test_garbage_on_the_management_socket_closes_that_client_only(lab: Lab) -> None:
    # A path through /proc is short enough for a Unix socket address.
    path = str(lab.file(router_config.socket_path("R")))
    patient = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    patient.connect(path)
    for garbage in (b"x", bytes(70_000), b"\xff" * 64):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(DEADLINE_S)
            client.connect(path)
            client.send(garbage)
            while client.recv(1 << 17):
                pass  # the answer may have any text, and then the connection ends
    assert lab.routectl("R", "show", "status")
    patient.setblocking(False)
    with pytest.raises(BlockingIOError):
        patient.recv(10)
    patient.close()


def test_lookup_answers_from_the_mapped_snapshot(lab: Lab) -> None:
    loopbacks = [str(loopback.ip) for loopback in lab.node("B").loopbacks]
    rows = lab.routectl("A", "lookup", *loopbacks)
    assert [row["prefix"] for row in rows] == [
        str(loopback.network) for loopback in lab.node("B").loopbacks
    ]
    assert all(row["next_hops"][0]["dev"] == "eth-R" for row in rows)
    done = lab.run("A", ["routectl", "lookup", "192.0.2.77"])
    assert done.returncode == 1


def test_show_route_names_the_longest_match(lab: Lab) -> None:
    address = str(lab.node("B").loopbacks[0].ip)
    (row,) = lab.routectl("A", "show", "route", address)
    assert row["prefix"] == str(lab.node("B").loopbacks[0].network)
    assert (row["selected"], row["fib_state"], row["source"]) == (True, "installed", "neighbor")


def test_show_log_has_the_last_lines_of_both_processes_and_survives_the_engine(lab: Lab) -> None:
    lab.kill("R", "engine")
    lab.wait_converged(DEADLINE_S)
    rows = lab.routectl("R", "show", "log")
    events = [row["event"] for row in rows]
    died_at = events.index("engine-died")
    assert "starting" in events[:died_at]
    assert "adjacency-up" in events[:died_at]
    assert "adjacency-up" in events[died_at:]
    assert {row["process"] for row in rows} == {"parent", "engine"}
    assert rows == sorted(rows, key=lambda row: str(row["time"]))
    (died,) = lab.routectl("R", "show", "log", "level", "error")
    assert died["text"].startswith("engine-died pid=")
    assert died["text"] in lab.log("R")
    links = lab.routectl("R", "show", "log", "event", "link-up")
    assert {row["event"] for row in links} == {"link-up"}
