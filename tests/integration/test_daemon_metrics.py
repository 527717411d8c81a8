"""Metrics of a real daemon, scraped as Prometheus does, across reloads and the death of an
engine.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import parser as text_format
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import topology
from routed.engine.show import metrics as exporter
from routed.nup.events import TraceCode
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
SOCKET = "/dev/shm/R/metrics.sock"


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab(topology.load("line3").with_config({"fib": {"resync": "1s"}}))
    lab.write_config_unless_there("R")
    lab.write_config("R", lab.read_config("R") + f"metrics: {{listen: 'unix:{SOCKET}'}}\n")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def scrape(path: Path | str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return every sample by name and labels; the parser is strict."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(path))
        client.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: routed\r\nAccept: application/openmetrics-text\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = float(sample.value)
    return found


def test_the_numbers_are_those_of_show(lab: Lab) -> None:
    metrics = scrape(lab.file(SOCKET))
    (status,) = lab.routectl("R", "show", "status")
    ((info, _),) = metrics["routed_info"].items()
    assert dict(info)["router_id"] == status["router_id"]
    assert dict(info)["sandbox"] == status["sandbox"]
    fib = metrics["routed_fib_routes"]
    assert fib[("state", "installed"),] == status["fib"]["installed"] > 0
    assert fib[("state", "failed"),] == fib[("state", "pending"),] == 0
    assert metrics["routed_nup_adjacencies"][("state", "up"),] == 2
    assert metrics["routed_rib_prefixes"][()] == status["routes"]
    sources: dict[str, int] = {}
    for row in lab.routectl("R", "show", "routes"):
        sources[row["source"]] = sources.get(row["source"], 0) + 1
    candidates = {
        dict(key)["source"]: value for key, value in metrics["routed_rib_candidates"].items()
    }
    assert {source: count for source, count in candidates.items() if count} == sources
    assert metrics["routed_nup_packets_total"][("direction", "received"),] > 0
    assert metrics["routed_convergence_seconds_count"][()] > 0
    for process in ("engine", "parent"):
        assert metrics["routed_memory_bytes"][("part", process),] > 1_000_000
    neighbors = {dict(key)["neighbor"] for key in metrics["routed_nup_prefixes"]}
    assert neighbors == {lab.node("A").router_id, lab.node("B").router_id}


def test_show_metrics_has_the_same_families_without_the_endpoint(lab: Lab) -> None:
    text = "".join(row["text"] + "\n" for row in lab.routectl("R", "show", "metrics"))
    found = {
        sample.name
        for family in text_format.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == set(scrape(lab.file(SOCKET)))


def test_a_reload_moves_and_removes_the_endpoint(lab: Lab) -> None:
    text = lab.read_config("R")
    moved = SOCKET.replace("metrics", "moved")
    lab.write_config("R", text.replace(SOCKET, moved))
    lab.routectl("R", "reload")
    wait_until(lambda: lab.file(moved).exists(), DEADLINE_S, "the new socket is there")
    assert scrape(lab.file(moved))["routed_reloads_total"][("outcome", "done"),] >= 1
    assert not lab.file(SOCKET).exists()

    lab.write_config("R", text.replace(f"unix:{SOCKET}", "127.0.0.1:9705"))
    lab.routectl("R", "reload")
    done = lab.run("R", [sys.executable, "-c", FETCH])
    assert "routed_info" in done.stdout, done.stderr

    lab.write_config("R", text[: text.index("metrics:")])
    lab.routectl("R", "reload")
    done = lab.run("R", [sys.executable, "-c", FETCH])
    assert "ConnectionRefusedError" in done.stderr
    assert not lab.file(moved).exists()


FETCH = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9705/metrics", timeout=10).read().decode())
"""


def test_an_address_in_use_fails_the_reload_and_changes_nothing(lab: Lab) -> None:
    text = lab.read_config("R")
    taken = "/dev/shm/A/routed.sock"  # an address of another daemon
    lab.write_config("R", text.replace(SOCKET, taken))
    done = lab.run("R", lab.routectl_command("R", "reload"))
    assert done.returncode == 1
    assert f"metrics socket {taken}: in use" in done.stdout + done.stderr
    assert scrape(lab.file(SOCKET))


def test_the_endpoint_survives_the_engine(lab: Lab) -> None:
    lab.kill("R", "engine")
    # Connections to the dead engine end with it. Later connections wait in the queue of a fresh
    # listener for the next engine, so none is refused.
    wait_until(lambda: "engine-died" in lab.log("R"), DEADLINE_S, "the end of the engine")
    assert scrape(lab.file(SOCKET))["routed_engine_restarts_total"][()] == 1


SCRAPES = 20

MANY = """
import os, socket, sys
if sys.argv[1] == "unix":
    os.setresuid(65533, 65533, 65533)
for _ in range(int(sys.argv[3])):
    if sys.argv[1] == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.connect(sys.argv[2])
    else:
        client = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    client.sendall(b"GET /metrics HTTP/1.1\\r\\n\\r\\n")
    answer = b"".join(iter(lambda: client.recv(65536), b""))
    print(answer.split()[1].decode())
"""


def test_no_scraper_makes_the_engine_try_a_forbidden_system_call(lab: Lab) -> None:
    """Over TCP and over a Unix socket, with status 200 or 403, a connection causes no refused
    system call, so no unauthenticated client can make the engine look like an attacker.
    """
    text = lab.read_config("R")
    assert scrape(lab.file(SOCKET))
    done = lab.run("R", [sys.executable, "-c", MANY, "unix", SOCKET, str(SCRAPES)])
    if not lab.is_rootless:  # the namespace has no other user
        assert done.stdout.split() == ["403"] * SCRAPES, done.stderr
    lab.write_config("R", text.replace(f"unix:{SOCKET}", "127.0.0.1:9705"))
    lab.routectl("R", "reload")
    done = lab.run("R", [sys.executable, "-c", MANY, "tcp", "9705", str(SCRAPES)])
    assert done.stdout.split() == ["200"] * SCRAPES, done.stderr
    (status,) = lab.routectl("R", "show", "status")
    assert status["sandbox_refusals"] == 0
    assert status["engine_restarts"] == 0
    assert "sandbox-refused" not in lab.log("R")


SELECTOR = re.compile(r"\b(routed_[a-z0-9_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)="([^"]*)"')
CONFIGS = Path(__file__).parents[2] / "configs"
DROPS = [
    code.value.removeprefix("dropped_") for code in TraceCode if code.value.startswith("dropped_")
]


def test_all_series_of_an_idle_daemon_exist_from_the_start_and_alerts_use_no_others(
    build_lab: LabBuilder,
) -> None:
    """A counter that appears with the value 1 has not increased, so its alert would never fire."""
    lab = build_lab(topology.compute({"nodes": {"R": {}, "A": {}}, "links": ["A-R"]}))
    lab.write_config_unless_there("R")
    lab.write_config("R", lab.read_config("R") + f"metrics: {{listen: 'unix:{SOCKET}'}}\n")
    lab.start_daemons(["R"])
    metrics = scrape(lab.file(SOCKET))
    expected: dict[str, tuple[str, Iterable[str]]] = {
        "routed_reloads_total": ("outcome", exporter.RELOAD_OUTCOMES),
        "routed_client_refusals_total": ("reason", exporter.CLIENT_REFUSAL_REASONS),
        "routed_netlink_errors_total": ("kind", exporter.NETLINK_ERRORS),
        "routed_sandbox_refusals_total": ("call", ("kill", "socket", "openat", "other")),
        "routed_engine_violations_total": ("kind", ("channel", "flood", "syscall")),
        "routed_messages_dropped_total": ("sender", ("engine", "parent")),
        "routed_nup_drops_total": ("reason", ("source_port", "by_kernel", *DROPS)),
    }
    for name, (label, values) in expected.items():
        series = metrics[name]
        assert {((label, value),) for value in values} <= series.keys(), name
        assert not any(series.values()), name
    counted = {row["name"]: row["value"] for row in lab.routectl("R", "show", "counters")}
    assert counted["messages_dropped"] == counted["parent_messages_dropped"] == 0
    alerts = yaml.safe_load((CONFIGS / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    used = [found for rule in rules for found in SELECTOR.findall(rule["expr"])]
    assert len(used) >= 10
    for name, matchers in used:
        wanted = set(MATCHER.findall(matchers))
        series = metrics.get(name, {})
        assert any(wanted <= set(labels) for labels in series), (name, matchers)
