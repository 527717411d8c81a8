"""`reload plan` prints text for people and rows for programs, and no row if nothing would
change.
"""

from __future__ import annotations

import io
import json
import os
from contextlib import closing
from pathlib import Path

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for
from routed.control.daemon import CommandOutcome
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving


def run(daemon: FakeDaemon, path: Path, line: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with (
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
        command_line_for(["--socket", str(path)], out, errors) as command_line,
    ):
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


def test_a_plan_without_a_step_has_no_row_and_reports_no_change(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    with closing(FakeDaemon(plan=())) as daemon:
        assert run(daemon, path, "reload --plan") == (
            ExitStatus.DONE, "nothing would change\n", "",
        )  # fmt: skip
        _, out, _ = run(daemon, path, "reload --plan --json")
        assert json.loads(out) == {"version": 1, "data": []}


def test_a_plan_has_a_row_for_each_step(tmp_path: Path) -> None:
    with closing(FakeDaemon()) as daemon:
        _, out, _ = run(daemon, tmp_path / "routed.sock", "reload --plan --json")
    first, second = json.loads(out)["data"]
    assert first == {
        "action": "install",
        "object": "route 10.9.2.0/24",
        "before": None,
        "after": "blackhole",
        "text": "kernel      install 10.9.2.0/24 blackhole",
    }
    assert (second["before"], second["after"]) == ("cost 10", "cost 77")


class _Refusing(FakeDaemon):
    """A fake daemon whose configuration file has an error."""

    def _configure(self, request: object) -> CommandOutcome:
        return CommandOutcome(False, ("routes.yaml:1:1: nonsense: unknown key",))


def test_a_file_with_errors_has_no_plan(tmp_path: Path) -> None:
    with closing(_Refusing()) as daemon:
        status, out, errors = run(daemon, tmp_path / "routed.sock", "reload --plan")
    assert (status, out) == (ExitStatus.REFUSED, "")
    assert "nonsense: unknown key" in errors
