"""Output that is longer than the screen goes through a pager; shorter output does not."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from routectl.command_line import CommandLine, command_line_for
from routectl.pager import pager_command, paging
from routectl.parse import parse
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import many_routes

ADMIN = AccessList(admin_uids=frozenset({os.getuid()}))

KEEPS_ALL = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
LEAVES_AT_ONCE = "import sys; open(sys.argv[1], 'w').write(sys.stdin.readline())"
UNTIL_END = "import signal, sys; signal.signal(2, signal.SIG_IGN); " + KEEPS_ALL


class Terminal(io.StringIO):
    """A terminal of twenty-four lines."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


@contextmanager
def at_terminal(tmp_path: Path, daemon: FakeDaemon) -> Iterator[tuple[CommandLine, Terminal]]:
    path, out = tmp_path / "routed.sock", Terminal()
    with (
        serving(path, daemon, ADMIN),
        command_line_for(["-s", str(path), "--no-color"], out, io.StringIO()) as command_line,
    ):
        command_line.is_shell = True
        yield command_line, out


def use_pager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> Path:
    script, seen = tmp_path / "pager.py", tmp_path / "seen"
    script.write_text(program)
    monkeypatch.setenv("ROUTECTL_PAGER", f"{sys.executable} {script} {seen}")
    monkeypatch.setenv("LINES", "24")
    return seen


def test_output_that_fits_stays_on_the_terminal(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = use_pager(monkeypatch, tmp_path, KEEPS_ALL)
    with at_terminal(tmp_path, daemon) as (command_line, out):
        command_line.run_line("show routes")
    assert out.getvalue().startswith("   PREFIX")
    assert not seen.exists()


def test_output_that_does_not_fit_goes_to_the_pager_whole(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.route_views = many_routes(3000)
    seen = use_pager(monkeypatch, tmp_path, KEEPS_ALL)
    with at_terminal(tmp_path, daemon) as (command_line, out):
        command_line.run_line("show routes")
    assert out.getvalue() == ""
    assert len(seen.read_text().splitlines()) == 1 + 2 * 3000


@pytest.mark.parametrize(
    ("line", "count", "is_paged"),
    [
        ("x" * 80, 23, False),
        ("x" * 81, 11, False),
        ("x" * 81, 12, True),
        ("\x1b[31m" + "x" * 80 + "\x1b[0m", 23, False),
        ("\u4e2d" * 40, 23, False),
        ("\u4e2d" * 41, 12, True),
        ("", 23, False),
        ("", 24, True),
    ],
)
def test_a_line_wider_than_the_screen_counts_for_each_line_that_it_wraps_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, count: int, *, is_paged: bool
) -> None:
    seen = use_pager(monkeypatch, tmp_path, KEEPS_ALL)
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    with paging(terminal) as out:
        for _ in range(count):
            out.write(line[:7])
            out.write(line[7:] + "\n")
    assert seen.exists() is is_paged
    assert bool(terminal.getvalue()) is not is_paged


def test_leaving_the_pager_ends_the_command_and_not_the_session(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.route_views = many_routes(20_000)
    seen = use_pager(monkeypatch, tmp_path, LEAVES_AT_ONCE)
    with at_terminal(tmp_path, daemon) as (command_line, out):
        assert command_line.run_line("show routes") == 0
        command_line.run_line("show memory")
    assert seen.read_text().startswith("   PREFIX")
    assert daemon.chunks_given < 200
    assert "trie" in out.getvalue()


@pytest.mark.usefixtures("no_collections")
def test_ctrl_c_leaves_the_pager_with_the_output_so_far(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.route_views = many_routes(20_000)
    seen = use_pager(monkeypatch, tmp_path, UNTIL_END)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        if daemon.chunks_given == 50:
            signal.pthread_kill(main, signal.SIGINT)

    daemon.on_chunk = interrupt
    with at_terminal(tmp_path, daemon) as (command_line, _):
        with pytest.raises(KeyboardInterrupt):
            command_line.run_line("show routes")
        command_line.interrupted()
    lines = seen.read_text().splitlines()
    assert lines[0].startswith("   PREFIX")
    assert 1 < len(lines) < 2 * 20_000


def test_without_an_installed_pager_the_output_goes_to_the_terminal(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.route_views = many_routes(100)
    monkeypatch.setenv("ROUTECTL_PAGER", "/nobody/has/this")
    with at_terminal(tmp_path, daemon) as (command_line, out):
        command_line.run_line("show routes")
    assert len(out.getvalue().splitlines()) == 201


@pytest.mark.parametrize(
    ("line", "is_paged"),
    [("show routes", True), ("explain ::1", True), ("monitor", False), ("top", False)],
)
def test_output_of_monitor_is_not_held_back(
    tmp_path: Path, daemon: FakeDaemon, line: str, *, is_paged: bool
) -> None:
    with (
        at_terminal(tmp_path, daemon) as (command_line, terminal),
        command_line._out_for(parse(line.split())) as out,
    ):
        assert (out is not terminal) is is_paged


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["less"]),
        ({"PAGER": "more -s"}, ["more", "-s"]),
        ({"PAGER": "more", "ROUTECTL_PAGER": "less -i"}, ["less", "-i"]),
        ({"PAGER": "more", "ROUTECTL_PAGER": ""}, []),
        ({"PAGER": "cat"}, []),
    ],
)
def test_the_user_chooses_the_pager(
    environment: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAGER", "ROUTECTL_PAGER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pager_command() == words
