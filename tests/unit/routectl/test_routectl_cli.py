"""The command line: options, exit statuses, the three modes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.cli import main
from routectl.command_line import command_line_for
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import many_routes

ADMIN = AccessList(admin_uids=frozenset({os.getuid()}))
READER = AccessList(read_uids=frozenset({os.getuid()}), admin_uids=frozenset({4242}))


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the daemon's socket, which routectl gets from its environment."""
    path = tmp_path / "routed.sock"
    monkeypatch.setenv("ROUTECTL_SOCKET", str(path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return path


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["show", "neighbors"], ExitStatus.DONE),
        (["show", "neighbors", "--json"], ExitStatus.DONE),
        (["-4j", "show", "routes"], ExitStatus.DONE),
        (["show", "route", "203.0.113.1"], ExitStatus.REFUSED),
        (["show", "interfaces", "eth7"], ExitStatus.REFUSED),
        (["show"], ExitStatus.USAGE),
        (["--frobnicate"], ExitStatus.USAGE),
        (["show", "route", "x"], ExitStatus.USAGE),
        (["reload"], ExitStatus.DENIED),
        (["--version"], ExitStatus.DONE),
        (["help"], ExitStatus.DONE),
    ],
)
def test_the_exit_status_shows_the_result(
    path: Path, daemon: FakeDaemon, arguments: list[str], status: ExitStatus
) -> None:
    with serving(path, daemon, READER):
        assert main(arguments) == status


def test_an_absent_daemon_is_exit_status_3(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "status"]) == ExitStatus.UNREACHABLE
    assert f"there is no socket {path}" in capsys.readouterr().err


def test_the_socket_option_wins_over_the_environment(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-s", str(tmp_path / "other.sock"), "show", "status"]) == ExitStatus.UNREACHABLE
    assert "other.sock" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "status"], "unreachable"),
        (["shwo"], "usage"),
        (["--frobnicate"], "usage"),
    ],
)
def test_errors_are_json_too(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == code
    assert captured.err == ""


def test_options_may_stand_anywhere(
    path: Path, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = set()
    with serving(path, daemon, ADMIN):
        for arguments in ("--json -6 show routes", "show --json routes -6", "show routes -6 -j"):
            assert main(arguments.split()) == ExitStatus.DONE
            outputs.add(capsys.readouterr().out)
    (output,) = outputs
    assert [row["prefix"] for row in json.loads(output)["data"]] == ["2001:db8:5::/48"]


def test_both_families_together_mean_all(
    path: Path, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(path, daemon, ADMIN):
        main(["-4", "-6", "show", "routes", "--json"])
    assert len(json.loads(capsys.readouterr().out)["data"]) == 5


def test_a_question_mark_lists_what_may_come_next(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "ne?"]) == ExitStatus.DONE
    assert capsys.readouterr().out.split()[0] == "neighbors"
    assert main(["frob", "?"]) == ExitStatus.USAGE


def from_pipe(lines: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    return main([])


def test_commands_come_from_a_pipe_one_a_line(
    path: Path,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = "# a comment\n\nshow neighbors --json\n  sh int -j # another\nquit\nnonsense\n"
    with serving(path, daemon, ADMIN):
        assert from_pipe(lines, monkeypatch) == ExitStatus.DONE
    captured = capsys.readouterr()
    assert captured.out.count('{"version": 1, "data": [') == 2
    assert captured.err == ""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("show interfaces eth0#1", "no interface eth0#1"),
        ("show interfaces '#z'", "no interface #z"),
        ('show interfaces "#z"', "no interface #z"),
        ("show interfaces \\#z", "no interface #z"),
        ("show interfaces 'a # b' # c", "no interface a # b"),
        ("show interfaces nope # it's a comment", "no interface nope"),
        ("show interfaces 'x" + "y" * 5_000, "...: no closing quotation"),
    ],
)
def test_a_comment_begins_after_a_blank_and_outside_quotes(
    path: Path,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    error: str,
) -> None:
    with serving(path, daemon, ADMIN):
        from_pipe(f"{line}\n", monkeypatch)
    errors = capsys.readouterr().err
    assert errors.endswith(f"{error}\n")
    assert len(errors) < 200


def test_a_failing_line_does_not_stop_the_rest_and_gives_the_exit_status(
    path: Path,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(path, daemon, READER):
        status = from_pipe("reload\nnonsense\n'unbalanced\nshow counters\n", monkeypatch)
    assert status == ExitStatus.DENIED
    captured = capsys.readouterr()
    assert "nup_received" in captured.out
    assert "routectl: line 1: reload needs the role admin" in captured.err
    assert "routectl: line 2: 'nonsense' is unknown" in captured.err
    assert "no closing quotation" in captured.err


def test_an_absent_daemon_is_reported_once_for_all_lines(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_pipe("show status\nshow status\n", monkeypatch) == ExitStatus.UNREACHABLE
    assert capsys.readouterr().err.count("not running") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "has_color"),
    [
        ([], {}, True),
        (["--no-color"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        ([], {"TERM": "dumb"}, False),
        (["--json"], {}, False),
    ],
)
def test_colour_is_for_terminals_whose_owner_has_not_declined(
    path: Path,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    has_color: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    with (
        serving(path, daemon, ADMIN),
        command_line_for(arguments, out, io.StringIO()) as command_line,
    ):
        command_line.run_line("show neighbors")
    assert ("\x1b[32mup" in out.getvalue()) is has_color


def test_it_survives_a_reader_that_has_seen_enough(path: Path, daemon: FakeDaemon) -> None:
    daemon.route_views = many_routes(5000)
    with serving(path, daemon, ADMIN):
        program = subprocess.Popen(
            [sys.executable, "-m", "routectl", "show", "routes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert program.stdout is not None
        assert program.stderr is not None
        with program, program.stdout, program.stderr:
            assert b"NEXT HOPS" in program.stdout.readline()
            program.stdout.close()
            assert program.stderr.read() == b""
            assert program.wait(20) == ExitStatus.DONE
