"""`routectl doctor`: text, JSON and exit status, with and without a daemon."""

from __future__ import annotations

import io
import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for
from routectl.doctor import command
from routectl.doctor.facts import Facts
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.shell.test_golden import compare
from tests.unit.routectl.test_doctor_checks import CASES, GOOD

FAULTS = (CASES[0][0], CASES[3][0], CASES[15][0])


def run(path: Path, line: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(path)], out, errors) as command_line:
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[Facts]:
    """The facts of the host, which a test changes."""
    facts = [GOOD]
    monkeypatch.setattr(command, "gather", lambda _client, _files: facts[-1])
    return facts


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_the_text_is_as_it_was(
    host: list[Facts], tmp_path: Path, number: int, request: pytest.FixtureRequest
) -> None:
    host.append(FAULTS[number])
    status, out, errors = run(tmp_path / "none", "doctor")
    assert errors.startswith("routectl: ")
    assert status is not ExitStatus.DONE
    is_updating = bool(request.config.getoption("--update-golden", default=False))
    compare(f"doctor-{number}.txt", out, is_updating=is_updating)


def test_a_good_host_has_nothing_to_change(host: list[Facts], tmp_path: Path) -> None:
    assert host == [GOOD]
    status, out, errors = run(tmp_path / "none", "doctor")
    assert (status, out) == (ExitStatus.DONE, "nothing to change\n")
    assert errors == "routectl: 23 more are ok, 0 cannot be examined here: `doctor all`\n"


def test_json_has_the_rows_that_the_text_has(host: list[Facts], tmp_path: Path) -> None:
    host.append(FAULTS[0])
    status, out, errors = run(tmp_path / "none", "doctor --json")
    assert (status, errors) == (ExitStatus(2), "")
    (row,) = json.loads(out)["data"]
    assert list(row) == ["check", "object", "state", "seen", "why", "command"]
    assert row["command"] == "sysctl -w net.ipv4.ip_forward=1"
    _, out, _ = run(tmp_path / "none", "doctor all --json")
    rows = json.loads(out)["data"]
    assert {row["state"] for row in rows} == {"ok", "problem"}
    assert all((row["command"] is None) == (row["state"] == "ok") for row in rows)


def test_a_filter_takes_a_finding_as_a_whole(host: list[Facts], tmp_path: Path) -> None:
    host.append(FAULTS[0])
    _, out, _ = run(tmp_path / "none", "doctor | include sysctl")
    assert out.splitlines()[1].startswith("problem")


def test_this_host_is_examined_without_a_daemon(tmp_path: Path) -> None:
    status, out, errors = run(tmp_path / "none", "doctor all --json")
    assert (int(status or 0) in (0, 1, 2), errors) == (True, "")
    rows = {(row["check"], row["object"]): row for row in json.loads(out)["data"]}
    daemon = rows["daemon", "routed"]
    assert daemon["state"] == "unknown"
    assert "is not running" in daemon["seen"]
    assert ("forwarding", "net.ipv4.ip_forward") in rows


def test_the_daemons_network_namespace_and_neighbors_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    with closing(FakeDaemon()) as daemon:
        daemon.status_view = replace(daemon.status_view, network_namespace=1)
        with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))):
            _, out, _ = run(path, "doctor --json")
    rows = [row for row in json.loads(out)["data"] if row["check"] == "daemon"]
    assert [row["command"] for row in rows] == ["nsenter --net=/proc/4711/ns/net routectl doctor"]


def test_a_client_without_a_role_examines_the_host_alone(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    access = AccessList(admin_uids=frozenset({os.getuid() + 1}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        _, out, errors = run(path, "doctor all --json")
    (row,) = [row for row in json.loads(out)["data"] if row["check"] == "daemon"]
    assert (row["state"], errors) == ("unknown", "")
    assert "role" in row["seen"]
