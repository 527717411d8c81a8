"""BFD end to end: two daemons, a peer that dies or stops sending, and the routes that
depend on it.
"""

from __future__ import annotations

import signal
import socket
import sys
from typing import Any

import pytest

import router_config
from kernel import KernelRoute
from routed.bfd.wire import ControlPacket, encode
from routed.model.bfd import BfdDiagnostic, BfdState
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0

SHARED, FLOATING, PLAIN = "203.0.113.0/24", "203.0.114.0/24", "203.0.115.0/24"


def address(lab: Lab, port: str, version: int = 4) -> str:
    """The address of A's port to B, for `A-B`."""
    addresses = lab.topology.port_between(port).addresses
    return next(str(each.ip) for each in addresses if each.version == version)


def append(lab: Lab, router: str, text: str) -> None:
    lab.write_config_unless_there(router)
    lab.write_config(router, lab.read_config(router) + text)


def session(lab: Lab, router: str, name: str) -> dict[str, Any]:
    (row,) = lab.routectl(router, "show", "bfd", "session", name)
    return row


def wait_state(lab: Lab, router: str, name: str, state: str) -> None:
    wait_until(
        lambda: session(lab, router, name)["session_state"] == state,
        DEADLINE_S,
        f"{name} of {router} is {state}",
    )


def hops(lab: Lab, router: str = "A") -> dict[str, list[str]]:
    """The gateways in the kernel for each static route."""
    return {
        route.prefix: sorted(str(hop.via) for hop in route.next_hops)
        for route in lab.kernel_routes(router)
        if route.prefix in (SHARED, FLOATING, PLAIN)
    }


def liveness_pid(lab: Lab, router: str) -> int:
    lines = [
        str(row["text"])
        for row in lab.routectl(router, "show", "log")
        if row["event"] == "liveness-started"
    ]
    return int(lines[-1].partition("pid=")[2].split()[0])


def send_signal(lab: Lab, router: str, pid: int, number: signal.Signals) -> None:
    done = lab.run(router, [sys.executable, "-c", f"import os; os.kill({pid}, {number.value})"])
    assert done.returncode == 0, done.stderr


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    """A with routes through B and C, each checked by a session: IPv4 to B, link-local IPv6 to C."""
    lab = build_lab("triangle")
    via_b, via_c = address(lab, "B-A"), address(lab, "C-A")
    macs = {name: lab.topology.port_between(name).mac for name in ("A-C", "C-A")}
    links = {name: link_local(mac) for name, mac in macs.items()}
    timers = "transmit: 200ms, receive: 200ms, multiplier: 10"
    append(
        lab,
        "A",
        f"""
bfd:
  sessions:
    to-b: {{peer: {via_b}, {timers}}}
    to-c: {{peer: "{links["C-A"]}", interface: eth-C, {timers}}}
static:
  - {{prefix: {SHARED}, next_hops: [{{via: {via_b}, bfd: to-b}}, {{via: {via_c}, bfd: to-c}}]}}
  - {{prefix: {FLOATING}, via: {via_b}, bfd: to-b}}
  - {{prefix: {FLOATING}, via: {via_c}, metric: 10}}
  - {{prefix: {PLAIN}, via: {via_b}}}
""",
    )
    append(lab, "B", f"bfd: {{sessions: {{to-a: {{peer: {address(lab, 'A-B')}, {timers}}}}}}}\n")
    peer = f'peer: "{links["A-C"]}", interface: eth-A'
    append(lab, "C", f"bfd: {{sessions: {{to-a: {{{peer}, {timers}}}}}}}\n")
    lab.start_daemons()
    for name in ("to-b", "to-c"):
        wait_state(lab, "A", name, "up")
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "all next hops are used")
    return lab


def link_local(mac: bytes) -> str:
    """The address that the kernel forms from a hardware address (RFC 4291, appendix A)."""
    words = bytes([mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]])
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + words)


def all_up(lab: Lab) -> dict[str, list[str]]:
    via_b, via_c = address(lab, "B-A"), address(lab, "C-A")
    return {SHARED: sorted([via_b, via_c]), FLOATING: [via_b], PLAIN: [via_b]}


def without_b(lab: Lab) -> dict[str, list[str]]:
    via_b, via_c = address(lab, "B-A"), address(lab, "C-A")
    return {SHARED: [via_c], FLOATING: [via_c], PLAIN: [via_b]}


def test_next_hops_are_removed_with_a_dead_peer_and_return_with_it(lab: Lab) -> None:
    lab.kill("B", "daemon", signal.SIGKILL)
    wait_until(lambda: hops(lab) == without_b(lab), DEADLINE_S, "B is used without a session only")
    row = session(lab, "A", "to-b")
    assert (row["session_state"], row["local_diag"]) == ("down", "detection_time_expired")
    assert row["users"] == 2
    assert not row["used"]
    (route,) = [row for row in lab.routectl("A", "show", "routes", FLOATING) if not row["selected"]]
    assert "bfd to-b: the session is down (detection time expired)" in route["fib_reason"]
    assert "bfd to-b" in str(lab.routectl("A", "explain", "203.0.114.1"))
    lab.start_daemons(["B"])
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "B is used again")
    events = [row["event"] for row in lab.routectl("A", "show", "log")]
    assert events.count("bfd-down") == 1


def test_the_liveness_process_has_a_high_priority(lab: Lab) -> None:
    pid = liveness_pid(lab, "A")
    script = f"""
import os
from routed.sandbox.priority import permit_priority
print(os.getpriority(os.PRIO_PROCESS, {pid}), os.nice(0), permit_priority())
"""
    done = lab.run("A", [sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    liveness, own, is_permitted = done.stdout.split()
    assert liveness == ("-20" if is_permitted == "True" else own)


def test_a_peer_that_stops_sending_while_its_link_is_up_is_down(lab: Lab) -> None:
    pid = liveness_pid(lab, "C")
    send_signal(lab, "C", pid, signal.SIGSTOP)
    wait_until(
        lambda: hops(lab)[SHARED] == [address(lab, "B-A")], DEADLINE_S, "C is not used any more"
    )
    send_signal(lab, "C", pid, signal.SIGCONT)
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "C is used again")


def test_the_death_of_the_liveness_process_withdraws_nothing(lab: Lab) -> None:
    before = session(lab, "A", "to-b")["local_discr"]
    removed = watched(lab)
    send_signal(lab, "A", liveness_pid(lab, "A"), signal.SIGKILL)
    wait_until(
        lambda: session(lab, "A", "to-b")["local_discr"] not in (None, before),
        DEADLINE_S,
        "another process has the session",
    )
    for name in ("to-b", "to-c"):
        wait_state(lab, "A", name, "up")
    assert watched(lab) == removed, "the kernel's routes were not touched"
    assert hops(lab) == all_up(lab)
    events = [row["event"] for row in lab.routectl("A", "show", "log")]
    assert "liveness-died" in events
    assert "bfd-down" not in events


def watched(lab: Lab) -> list[KernelRoute]:
    """The static routes in the kernel, with their nexthop objects."""
    return [route for route in lab.kernel_routes("A") if route.prefix in (SHARED, FLOATING)]


def test_the_death_of_the_engine_withdraws_nothing_and_ends_no_session(lab: Lab) -> None:
    before = session(lab, "A", "to-b")
    routes = watched(lab)
    (status,) = lab.routectl("A", "show", "status")
    lab.kill("A", "engine", signal.SIGKILL)
    wait_until(lambda: restarts(lab) == status["engine_restarts"] + 1, DEADLINE_S, "a new engine")
    wait_until(
        lambda: (
            any(row["event"] == "fib-in-sync" for row in lab.routectl("A", "show", "log")[-40:])
            and session(lab, "A", "to-b")["session_state"] == "up"
        ),
        DEADLINE_S,
        "it knows the sessions",
    )
    assert watched(lab) == routes
    after = session(lab, "A", "to-b")
    assert after["local_discr"] == before["local_discr"]
    assert after["times_down"] == 0


def restarts(lab: Lab) -> int:
    (status,) = lab.routectl("A", "show", "status")
    return int(status["engine_restarts"])


def test_an_orderly_stop_of_the_peer_is_not_a_failure(lab: Lab) -> None:
    """RFC 5882, section 3.2: AdminDown says nothing about the path."""
    lab.kill("B", "daemon", signal.SIGTERM)
    wait_state(lab, "A", "to-b", "down")
    row = session(lab, "A", "to-b")
    assert row["remote_session_state"] == "admin_down"
    assert row["used"]
    assert hops(lab) == all_up(lab)


def test_a_reload_adds_and_removes_sessions(lab: Lab) -> None:
    text = lab.read_config("A")
    fewer = text.replace(", bfd: to-b", "").replace(", bfd: to-c", "")
    start = fewer.index("bfd:\n")
    lab.write_config("A", fewer[:start] + fewer[fewer.index("static:\n", start) :])
    lab.routectl("A", "reload")
    assert lab.routectl("A", "show", "bfd", "sessions") == []
    wait_state(lab, "B", "to-a", "down")
    assert session(lab, "B", "to-a")["remote_session_state"] == "admin_down"
    lab.write_config("A", text)
    lab.routectl("A", "reload")
    for name in ("to-b", "to-c"):
        wait_state(lab, "A", name, "up")
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "all next hops are used")


def counters(lab: Lab) -> dict[str, int]:
    return {
        str(row["name"]): int(row["value"])
        for row in lab.routectl("A", "show", "counters")
        if str(row["name"]).startswith("bfd_dropped_")
    }


def test_hostile_packets_are_dropped_with_a_reason(lab: Lab) -> None:
    row = session(lab, "A", "to-b")
    good = ControlPacket(
        state=BfdState.DOWN,
        diagnostic=BfdDiagnostic.NONE,
        multiplier=3,
        my_discriminator=5,
        your_discriminator=row["local_discr"],
        desired_min_tx_us=50_000,
        required_min_rx_us=50_000,
    )
    target = (address(lab, "A-B"), 3784)
    with lab.open_socket("B", socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(encode(good), target)  # TTL 64: the packet could be from anywhere
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        sock.sendto(encode(good._replace(your_discriminator=row["local_discr"] ^ 1)), target)
        sock.sendto(encode(good._replace(my_discriminator=0)), target)
        sock.sendto(encode(good._replace(multiplier=0)), target)
        sock.sendto(encode(good)[:23], target)
        sock.sendto(b"\x41" + encode(good)[1:], target)
        sock.sendto(encode(good)[:3] + b"\xff" + encode(good)[4:], target)
    with lab.open_socket("C", socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        sock.sendto(encode(good), (address(lab, "A-C"), 3784))
    wanted = {
        "bfd_dropped_your_discriminator": 1,
        "bfd_dropped_my_discriminator": 1,
        "bfd_dropped_multiplier": 1,
        "bfd_dropped_length": 1,
        "bfd_dropped_by_kernel": 3,
    }
    wait_until(
        lambda: (
            wanted.items() <= counters(lab).items()
            and session(lab, "A", "to-b")["drops"] == [{"reason": "source", "packets": 1}]
        ),
        DEADLINE_S,
        "each is counted",
    )
    row = session(lab, "A", "to-b")
    assert (row["session_state"], row["times_down"]) == ("up", 0)


MULTIHOP = """
keys: {{far: [{{id: 3, algorithm: {algorithm}, secret_file: far.key}}]}}
bfd:
  sessions:
    far: {{peer: "{peer}", source: "{source}", multihop: true, key: far}}
"""


@pytest.mark.parametrize("version", [4, 6])
def test_a_multihop_session_with_a_key(build_lab: LabBuilder, version: int) -> None:
    lab = build_lab("line3")
    algorithm = "meticulous-keyed-sha1" if version == 4 else "password"
    loopbacks = {name: lab.node(name).loopbacks[version == 6].ip for name in "AB"}
    for router, other in (("A", "B"), ("B", "A")):
        text = MULTIHOP.format(algorithm=algorithm, peer=loopbacks[other], source=loopbacks[router])
        append(lab, router, text)
        config = lab.file(router_config.config_path(router))
        secret = config.with_name("far.key")
        secret.write_bytes(b"sixteen bytes ok")
        secret.chmod(0o600)
    lab.start_daemons()
    wait_state(lab, "A", "far", "up")
    row = session(lab, "A", "far")
    assert (row["multihop"], row["auth_type"], row["drops"]) == (True, algorithm, [])
    lab.cut("R-B")
    wait_state(lab, "A", "far", "down")
