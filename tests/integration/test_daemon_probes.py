"""Probes end to end: systems that answer, fall silent or refuse, and what becomes of the routes."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Self

import pytest

from testbed import Lab
from tests.integration.conftest import LabBuilder
from tests.integration.test_daemon_bfd import (
    DEADLINE_S,
    FLOATING,
    PLAIN,
    SHARED,
    address,
    all_up,
    append,
    hops,
    link_local,
    liveness_pid,
    restarts,
    send_signal,
    watched,
    without_b,
)
from waiting import wait_until

pytestmark = pytest.mark.root

PORT = 7007
TIMES = "interval: 200ms, timeout: 150ms, rise: 2, fall: 3"


def probe(lab: Lab, name: str, router: str = "A") -> dict[str, Any]:
    (row,) = lab.routectl(router, "show", "probe", name)
    return row


def wait_state(lab: Lab, name: str, state: str) -> None:
    wait_until(lambda: probe(lab, name)["state"] == state, DEADLINE_S, f"{name} is {state}")


def block(lab: Lab, router: str, *, is_blocked: bool) -> None:
    """Have a router not answer echo requests of IPv4: it stays up, and silent."""
    lab.run(
        router,
        ["sh", "-c", f"echo {int(is_blocked)} > /proc/sys/net/ipv4/icmp_echo_ignore_all"],
    )


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    """A with routes through B and C, each checked by an echo; IPv4 to B, link-local IPv6 to C."""
    lab = build_lab("triangle")
    via_b, via_c = address(lab, "B-A"), address(lab, "C-A")
    far = link_local(lab.topology.port_between("C-A").mac)
    append(
        lab,
        "A",
        f"""
probes:
  to-b: {{kind: icmp, target: {via_b}, interface: eth-B, {TIMES}}}
  to-c: {{kind: icmp, target: "{far}", interface: eth-C, {TIMES}}}
  wire: {{kind: carrier, interface: eth-B, interval: 1s, rise: 1, fall: 1}}
  service: {{kind: tcp, target: {via_b}, port: {PORT}, {TIMES}}}
  both: {{kind: all, of: [to-b, to-c]}}
  either: {{kind: any, of: [to-b, to-c]}}
static:
  - {{prefix: {SHARED}, next_hops: [{{via: {via_b}, probe: to-b}}, {{via: {via_c}, probe: to-c}}]}}
  - {{prefix: {FLOATING}, via: {via_b}, probe: to-b}}
  - {{prefix: {FLOATING}, via: {via_c}, metric: 10}}
  - {{prefix: {PLAIN}, via: {via_b}}}
""",
    )
    lab.start_daemons()
    for name in ("to-b", "to-c", "wire", "both", "either"):
        wait_state(lab, name, "up")
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "all next hops are used")
    return lab


def test_a_system_that_falls_silent_takes_its_next_hops_along(lab: Lab) -> None:
    block(lab, "B", is_blocked=True)
    wait_until(lambda: hops(lab) == without_b(lab), DEADLINE_S, "B is used without a probe only")
    row = probe(lab, "to-b")
    assert row["state"] == "down"
    assert row["change_reason"] == "3 of 3 failed: no answer within 150 ms"
    assert (row["users"], row["used"], row["history_ms"][-1]) == (2, False, None)
    assert (probe(lab, "both")["state"], probe(lab, "either")["state"]) == ("down", "up")
    assert probe(lab, "wire")["state"] == "up"
    (route,) = [row for row in lab.routectl("A", "show", "routes", FLOATING) if not row["selected"]]
    assert "probe to-b: down (3 of 3 failed: no answer within 150 ms)" in route["fib_reason"]
    assert "probe to-b: down since " in str(lab.routectl("A", "explain", "203.0.114.1"))
    block(lab, "B", is_blocked=False)
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "B is used again")
    events = [row["event"] for row in lab.routectl("A", "show", "log")]
    assert events.count("probe-down") == 3, "to-b, both, and the service that nobody runs"
    assert "routed_probe_up" in str(lab.routectl("A", "show", "metrics"))


def test_a_service_is_down_until_something_listens(lab: Lab) -> None:
    wait_state(lab, "service", "down")
    assert probe(lab, "service")["last_reason"] == "Connection refused"
    with lab.open_socket("B", socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((address(lab, "B-A"), PORT))
        listener.listen(64)
        wait_state(lab, "service", "up")
        assert probe(lab, "service")["rtt_ms"] > 0
    wait_state(lab, "service", "down")


def test_a_link_without_carrier_is_seen_at_once(lab: Lab) -> None:
    lab.cut("A-B")
    wait_state(lab, "wire", "down")
    assert probe(lab, "wire")["last_reason"] in ("eth-B has no carrier", "eth-B is down")
    wait_state(lab, "to-b", "down")
    assert hops(lab)[SHARED] == [address(lab, "C-A")]


def test_the_death_of_the_liveness_process_withdraws_nothing(lab: Lab) -> None:
    routes, before = watched(lab), liveness_pid(lab, "A")
    attempts = probe(lab, "to-b")["attempts"]
    send_signal(lab, "A", before, signal.SIGKILL)
    wait_until(lambda: liveness_pid(lab, "A") != before, DEADLINE_S, "another process")
    wait_until(
        lambda: (
            probe(lab, "to-b")["state"] == "up"
            and probe(lab, "to-b")["attempts"] < attempts
            and probe(lab, "both")["state"] == "up"
        ),
        DEADLINE_S,
        "it knows the probes",
    )
    assert watched(lab) == routes, "the kernel's routes were not touched"
    events = [row["event"] for row in lab.routectl("A", "show", "log")]
    assert events.count("probe-up") == 5, "none went down and came up"


def test_the_death_of_the_engine_withdraws_nothing(lab: Lab) -> None:
    routes, liveness = watched(lab), liveness_pid(lab, "A")
    attempts = probe(lab, "to-b")["attempts"]
    before = restarts(lab)
    for pid in lab._client.children(lab.daemon_pid("A")):
        if pid != liveness:
            send_signal(lab, "A", pid, signal.SIGKILL)
    wait_until(lambda: restarts(lab) == before + 1, DEADLINE_S, "a new engine")
    wait_until(
        lambda: (
            any(row["event"] == "fib-in-sync" for row in lab.routectl("A", "show", "log")[-40:])
            and probe(lab, "to-b")["state"] == "up"
        ),
        DEADLINE_S,
        "it knows the probes",
    )
    assert watched(lab) == routes
    assert probe(lab, "to-b")["attempts"] >= attempts, "the probe goes on"


def test_a_reload_adds_removes_and_changes_probes(lab: Lab) -> None:
    text = lab.read_config("A")
    changed = text.replace(
        "wire: {kind: carrier, interface: eth-B, interval: 1s, rise: 1, fall: 1}",
        "wire: {kind: carrier, interface: eth-B, interval: 1s, rise: 1, fall: 1, invert: true}",
    )
    lab.write_config("A", changed)
    lab.routectl("A", "reload")
    wait_state(lab, "wire", "down")
    start = text.index("probes:\n")
    fewer = text[:start] + text[text.index("static:\n", start) :]
    lab.write_config("A", fewer.replace(", probe: to-b", "").replace(", probe: to-c", ""))
    lab.routectl("A", "reload")
    assert lab.routectl("A", "show", "probes") == []
    assert hops(lab) == all_up(lab)
    lab.write_config("A", text)
    lab.routectl("A", "reload")
    for name in ("to-b", "to-c", "wire", "both", "either"):
        wait_state(lab, name, "up")
    wait_until(lambda: hops(lab) == all_up(lab), DEADLINE_S, "all next hops are used")


ANYCAST = "198.51.100.0/24"


def test_an_anycast_prefix_is_announced_while_the_service_answers(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    append(
        lab,
        "R",
        f"""
probes: {{resolver: {{kind: tcp, target: 127.0.0.1, port: {PORT}, {TIMES}}}}}
static: [{{prefix: {ANYCAST}, dev: lo, probe: resolver}}]
""",
    )
    text = lab.read_config("R")
    entry = f"- {{source: static, match: [{ANYCAST}]}}\n"
    lab.write_config("R", text.replace("redistribute:\n", f"redistribute:\n{entry}"))
    lab.start_daemons()

    def is_announced() -> bool:
        return any(route.prefix == ANYCAST for route in lab.kernel_routes("A"))

    with lab.open_socket("R", socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", PORT))
        listener.listen(64)
        wait_until(is_announced, DEADLINE_S, "A has the route")
    wait_until(lambda: not is_announced(), DEADLINE_S, "A has lost it")


class Resolver:
    """A resolver that gives one address to every question; it may be changed meanwhile."""

    def __init__(self, sock: socket.socket) -> None:
        self.address = "192.0.2.80"
        self._sock = sock
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._answer_all)
        sock.settimeout(0.1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        self._thread.join()

    def _answer_all(self) -> None:
        while not self._is_ending.is_set():
            with suppress(TimeoutError):
                query, source = self._sock.recvfrom(512)
                head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
                value = socket.inet_aton(self.address)
                record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + value
                self._sock.sendto(head + query[12:] + record, source)


def test_a_resolver_that_answers_wrongly_is_down(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    target = address(lab, "R-A")
    options = f"query: www.example.org, answer: 192.0.2.80, {TIMES}"
    append(lab, "A", f"probes: {{names: {{kind: dns, target: {target}, {options}}}}}\n")
    with lab.open_socket("R", socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((target, 53))
        with Resolver(sock) as resolver:
            lab.start_daemons(["A"])
            wait_state(lab, "names", "up")
            resolver.address = "198.51.100.1"
            wait_state(lab, "names", "down")
            reason = probe(lab, "names")["last_reason"]
            assert reason == "the answer has 198.51.100.1, expected 192.0.2.80"
            resolver.address = "192.0.2.80"
            wait_state(lab, "names", "up")
    wait_state(lab, "names", "down")
