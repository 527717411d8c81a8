"""`wait` ends when the state is reached, and names the missing state when the time is over."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for
from routed.control.policy import AccessList
from routed.control.views import FibState, HealthState, StatusView
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import ROUTES, STATUS

READY = replace(STATUS, health=HealthState.OK, problems=(), neighbors=2)
ADMIN = AccessList(admin_uids=frozenset({os.getuid()}))


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as daemon:
        yield daemon


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routed.sock"


def run(path: Path, line: str, *options: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(path), *options], out, errors) as command_line:
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("wait synced within 1ms", "failed 1, syncing 3"),
        ("wait neighbors 2 within 1ms", "neighbors up: 1"),
        ("wait route 192.0.2.128/25 within 1ms", "no route for 192.0.2.128/25"),
    ],
)
def test_the_missing_state_is_named_when_the_time_is_over(
    path: Path, daemon: FakeDaemon, line: str, missing: str
) -> None:
    daemon.status_view = replace(STATUS, problems=("failed 1", "syncing 3", "shadowed 1"))
    with serving(path, daemon, ADMIN):
        status, out, errors = run(path, line)
    assert (status, out) == (ExitStatus.REFUSED, "")
    assert errors == f"routectl: not reached within 0.001 s: {missing}\n"


def test_the_program_s_own_time_limit_applies_without_another(path: Path) -> None:
    status, _, errors = run(path, "wait synced", "--timeout", "0.001")
    assert status is ExitStatus.UNREACHABLE
    assert errors.startswith("routectl: not reached within 0.001 s: routed is not running")


@pytest.mark.parametrize("line", ["wait synced", "wait neighbors 2", "wait route 10.1.0.0/16"])
def test_a_state_that_is_already_reached_ends_the_wait_at_once(
    path: Path, daemon: FakeDaemon, line: str
) -> None:
    daemon.status_view = READY
    with serving(path, daemon, ADMIN):
        status, out, errors = run(path, line)
    assert (status, errors) == (ExitStatus.DONE, "")
    assert out.startswith("reached after ")


def test_a_problem_that_needs_an_operator_ends_the_wait(path: Path, daemon: FakeDaemon) -> None:
    problems = ("shadowed 1", "configuration file not in force")
    daemon.status_view = replace(READY, health=HealthState.DEGRADED, problems=problems)
    with serving(path, daemon, ADMIN):
        assert run(path, "wait synced")[0] is ExitStatus.DONE


def test_a_route_that_the_kernel_lacks_does_not_count(path: Path, daemon: FakeDaemon) -> None:
    daemon.route_views = (
        replace(ROUTES[1], fib_state=FibState.FAILED, fib_reason="No such device"),
    )
    with serving(path, daemon, ADMIN):
        _, _, errors = run(path, f"wait route {ROUTES[1].prefix} within 1ms")
    assert "the route is failed: No such device" in errors


class _Changing(FakeDaemon):
    """A fake daemon that reaches the state at the third request."""

    looks = 0

    def status(self) -> StatusView:
        self.looks += 1
        return READY if self.looks >= 3 else STATUS


def test_a_wait_repeats_its_request_until_the_state_is_reached(path: Path) -> None:
    with closing(_Changing()) as daemon, serving(path, daemon, ADMIN):
        assert run(path, "wait synced within 60s")[0] is ExitStatus.DONE
        assert daemon.looks == 3


def test_a_wait_for_a_daemon_that_starts_later_ends(path: Path, daemon: FakeDaemon) -> None:
    daemon.status_view = READY
    results: list[ExitStatus | None] = []
    waiting = threading.Thread(target=lambda: results.append(run(path, "wait neighbors 2")[0]))
    waiting.start()
    with serving(path, daemon, ADMIN):
        waiting.join(60)
    assert results == [ExitStatus.DONE]


def test_a_client_without_a_role_is_refused_at_once(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid() + 1}))):
        assert run(path, "wait synced within 60s")[0] is ExitStatus.DENIED
