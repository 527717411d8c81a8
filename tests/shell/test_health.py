"""`health` prints one line or one document and has one exit status, the same in both paths of the
program.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from routectl import cli
from routectl import quick as routectl_quick
from routed.control.policy import AccessList
from routed.control.views import HealthState
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import STATUS

CASES = [
    (HealthState.OK, (), 0, "ok"),
    (HealthState.DEGRADED, ("failed 3", "shadowed 1"), 1, "degraded: failed 3, shadowed 1"),
    (HealthState.FAILED, ("decoupled",), 2, "failed: decoupled"),
]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as daemon:
        yield daemon


@pytest.fixture
def socket_path(tmp_path: Path, daemon: FakeDaemon) -> Iterator[Path]:
    path = tmp_path / "routed.sock"
    with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))):
        yield path


@pytest.fixture(params=["quick", "full"])
def is_quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "quick")


def run(path: Path, *arguments: str, is_quick: bool) -> int:
    main = routectl_quick.main if is_quick else cli.main
    return main(["-s", str(path), "health", *arguments])


@pytest.mark.parametrize(("state", "problems", "status", "line"), CASES)
def test_the_line_and_the_exit_status_show_the_state(
    daemon: FakeDaemon,
    socket_path: Path,
    state: HealthState,
    problems: tuple[str, ...],
    status: int,
    line: str,
    is_quick: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.status_view = replace(STATUS, health=state, problems=problems)
    assert run(socket_path, is_quick=is_quick) == status
    assert capsys.readouterr() == (f"{line}\n", "")
    assert run(socket_path, "--json", is_quick=is_quick) == status
    (row,) = json.loads(capsys.readouterr().out)["data"]
    assert row == {
        "health": state.value,
        "problems": list(problems),
        "config_in_sync": True,
        "config_state": "confirmed",
        "confirm_left_s": None,
    }


def test_the_full_path_is_not_needed(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "main", lambda _arguments: 99)
    assert run(socket_path, is_quick=True) == 1
    assert capsys.readouterr().out == "degraded: failed 1\n"


def test_a_daemon_that_is_not_there_has_failed(
    tmp_path: Path, is_quick: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "absent", is_quick=is_quick) == 2
    out, errors = capsys.readouterr()
    assert out.startswith("failed: routed is not running")
    assert errors == ""
    assert run(tmp_path / "absent", "-j", is_quick=is_quick) == 2
    (row,) = json.loads(capsys.readouterr().out)["data"]
    assert row["health"] == "failed"
    assert "routed is not running" in row["problems"][0]


def test_a_daemon_that_does_not_answer_has_failed(
    tmp_path: Path, is_quick: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(path))
        silent.listen()
        assert run(path, "-t", "1", is_quick=is_quick) == 2
    out, errors = capsys.readouterr()
    assert out.startswith("failed: ")
    assert errors == ""


def test_a_client_without_a_role_gets_no_information(
    tmp_path: Path, daemon: FakeDaemon, is_quick: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "closed.sock"
    with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid() + 1}))):
        assert run(path, is_quick=is_quick) == 4
    assert capsys.readouterr().out == ""
