"""Long or numerous values do not end the daemon, because none of its own messages is too long."""

from __future__ import annotations

import contextlib
import socket
import struct
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
    """A router without neighbors."""
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    return lab


def processes(lab: Lab) -> tuple[int, int | None]:
    """The pids of parent and engine; they are the same afterwards when neither has died."""
    wait_until(lambda: lab.engine_pid("R") is not None, DEADLINE_S, "an engine")
    return lab.daemon_pid("R"), lab.engine_pid("R")


def is_running_as(lab: Lab) -> bool:
    (status,) = lab.routectl("R", "show", "status")
    return bool(status["engine_restarts"] == 0)


@pytest.mark.parametrize(
    "lines",
    [
        "static:\n" + "".join(f"  - {{prefx: 10.{n >> 8}.{n & 255}.0/24}}\n" for n in range(3000)),
        "static:\n  - {prefix: 10.0.0.0/8, via: " + "x" * 150_000 + "}\n",
        "vrf: {" + "y" * 150_000 + ": 5}\n",
    ],
    ids=["3,000 mistakes", "a long value", "a long key"],
)
def test_a_broken_file_is_refused_and_the_daemon_continues(lab: Lab, lines: str) -> None:
    """Otherwise the parent would end, and the restart would fail because the file is still
    broken.
    """
    lab.start_daemons(["R"])
    before, good = processes(lab), lab.read_config("R")
    lab.write_config("R", good + lines)
    lab.sighup("R")
    wait_until(lambda: "reload-failed" in lab.log("R"), DEADLINE_S, "the file is refused")
    done = lab.run("R", ["routectl", "reload"])
    assert done.returncode == 1
    assert len(done.stderr) < 70_000
    assert done.stderr.startswith("routectl:") or "routes.yaml:" in done.stderr
    assert processes(lab) == before
    lab.write_config("R", good + "static: [{prefix: 10.9.1.0/24, type: blackhole}]\n")
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    assert is_running_as(lab)


def add_addresses(lab: Lab, count: int) -> None:
    """Add addresses to `lo`, as a host of many virtual services has them."""
    with contextlib.closing(lab.open_socket("R", socket.AF_NETLINK, socket.SOCK_RAW, 0)) as raw:
        for start in range(0, count, 500):
            messages = [
                struct.pack("=IHHII", 32, 20, 0x401, 1, 0)
                + struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, 1)
                + struct.pack("=HH4s", 8, 2, bytes((10, 64 + (n >> 16), n >> 8 & 255, n & 255)))
                for n in range(start, min(start + 500, count))
            ]
            raw.send(b"".join(messages))


def test_a_host_with_thousands_of_addresses_starts_and_shows_them(lab: Lab) -> None:
    """Otherwise the daemon could not start."""
    count = 16_000
    add_addresses(lab, count)
    lab.start_daemons(["R"])
    before = processes(lab)
    (link,) = lab.routectl("R", "show", "interfaces", "lo")
    left_out = link["left_out"]["addresses"]
    assert len(link["addresses"]) + left_out >= count, "those that have no room are counted"
    assert processes(lab) == before
    assert is_running_as(lab)


def test_policy_rules_by_the_thousand(lab: Lab) -> None:
    """Otherwise the daemon would accept the rules, end, and fail to start again."""
    count = 9000
    rules = "".join(
        f"  - {{priority: {1000 + n}, from: 10.{n >> 8}.{n & 255}.0/24, table: 100}}\n"
        for n in range(count)
    )
    lab.write_config("R", lab.read_config("R") + "rules:\n" + rules)
    lab.start_daemons(["R"])
    before = processes(lab)
    wait_until(
        lambda: len(lab.routectl("R", "show", "rules")) == count, DEADLINE_S, "all are known"
    )
    assert processes(lab) == before
    assert is_running_as(lab)


LEARNED, WIDTH = 300, 64

WIDE_ROUTES = f"""
import sys
from routed.fib.routes.ownership import TableKey, RouteValue
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.request_socket import RequestSocket
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType

hops = [
    NextHop(Address.parse(f"192.0.2.{{n + 1}}"), int(sys.argv[1]), 1, True) for n in range({WIDTH})
]
value = RouteValue.canonical(RouteType.UNICAST, hops)
space = TableKey(254, Family.IPV4, 0, 20)
keys = [Prefix.parse(f"172.20.{{n >> 8}}.{{n & 255}}/32").as_int for n in range({LEARNED})]
kernel = RequestSocket(186)
for key in keys:
    assert kernel.apply([FibBatch(OpKind.INSTALL, space, [key], [value])]) == [{{}}]
"""


def test_learned_routes_with_many_next_hops(lab: Lab) -> None:
    """Otherwise an FRR with wide ECMP on the same machine would end the daemon at each start."""
    names = {name: ifindex for ifindex, name in lab.netlink("R").link_names().items()}
    done = lab.run("R", [sys.executable, "-c", WIDE_ROUTES, str(names["eth-A"])])
    assert done.returncode == 0, done.stderr
    lab.write_config("R", lab.read_config("R") + "learn: [{protocol: 186}]\n")
    lab.start_daemons(["R"])
    before = processes(lab)

    def learned() -> list[dict[str, object]]:
        return [
            row
            for row in lab.routectl("R", "show", "routes")
            if row["prefix"].startswith("172.20.")
        ]

    wait_until(lambda: len(learned()) == LEARNED, DEADLINE_S, "all are learned")
    assert all(len(row["next_hops"]) == WIDTH for row in learned())  # type: ignore[arg-type]
    assert processes(lab) == before
    assert is_running_as(lab)


RUBBISH = """
import socket, struct, sys
import msgpack
from ipc.control import PROTOCOL_VERSION, ControlType

def message(kind, request_id, fields):
    return struct.pack("!HHI", kind, 0, request_id) + msgpack.packb(fields)

rubbish = [chr(1) * 60_000, None, False, None, False]
for _ in range(7):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(30)
        client.connect(sys.argv[1])
        client.send(message(ControlType.HELLO, 1, [PROTOCOL_VERSION]))
        assert client.recv(1 << 17)
        client.send(message(ControlType.SHOW_ROUTES, 2, rubbish))
        try:
            while client.recv(1 << 17):
                pass
        except ConnectionResetError:
            pass
"""


def test_a_client_that_sends_long_garbage_ends_its_own_session_only(lab: Lab) -> None:
    """Otherwise five requests of a reader would end five engines, and then the daemon."""
    lab.start_daemons(["R"])
    before = processes(lab)
    done = lab.run("R", [sys.executable, "-c", RUBBISH, router_config.socket_path("R")])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: lab.log("R").count("client-refused") == 7, DEADLINE_S, "each is in the log")
    assert "is no AddressFamily" not in lab.log("R"), "the quotation is cut before its end"
    assert processes(lab) == before
    assert is_running_as(lab)
