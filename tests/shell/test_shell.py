"""The interactive shell through prompt-toolkit's pipe: TAB, `?`, abbreviations, Ctrl-C, history."""

from __future__ import annotations

import io
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from routectl.client import LiveValueSource
from routectl.command_line import CommandLine, command_line_for
from routectl.completer import GrammarCompleter
from routectl.grammar import ValueKind
from routectl.shell import Shell, history_path, open_history, prompt_text
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import STATUS, many_routes

ADMIN = AccessList(admin_uids=frozenset({os.getuid()}))
TAB, CTRL_C, CTRL_D, ENTER = "\t", "\x03", "\x04", "\r"


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The daemon's socket; the history file lies in the same folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "routed.sock"
    monkeypatch.setenv("ROUTECTL_SOCKET", str(path))
    return path


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


class Typist:
    """Sends keys when the line has an expected state, so no key is sent too early."""

    def __init__(self, keyboard: PipeInput, shell: Shell) -> None:
        self._keyboard = keyboard
        self._shell = shell
        self._steps: list[tuple[Callable[[str], bool], str]] = []
        shell.session.app.after_render += lambda _: self._look()

    def types(self, keys: str) -> Typist:
        """Send keys when the earlier steps are done."""
        return self.when(lambda _: True, keys)

    def when(self, is_time: Callable[[str], bool], keys: str) -> Typist:
        """Send keys when the line satisfies a condition."""
        self._steps.append((is_time, keys))
        return self

    def _look(self) -> None:
        line = self._shell.session.default_buffer.text
        while self._steps and self._steps[0][0](line):
            self._keyboard.send_text(self._steps.pop(0)[1])


class Scene:
    """A shell that reads from a pipe."""

    def __init__(self, command_line: CommandLine, keyboard: PipeInput) -> None:
        self.command_line = command_line
        self.shell = Shell(command_line)
        self.typist = Typist(keyboard, self.shell)


@contextmanager
def shell_at_a_pipe() -> Iterator[tuple[Scene, io.StringIO, io.StringIO]]:
    out, errors = io.StringIO(), io.StringIO()
    with (
        create_pipe_input() as keyboard,
        create_app_session(input=keyboard, output=DummyOutput()),
        command_line_for([], out, errors) as command_line,
    ):
        yield Scene(command_line, keyboard), out, errors


def test_an_abbreviated_command_runs_and_ctrl_d_leaves(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, errors):
        scene.typist.types("sh nei" + ENTER).when(lambda line: line == "", CTRL_D)
        assert scene.shell.run() == 0
    assert out.getvalue().startswith("ROUTER ID")
    assert errors.getvalue() == ""


@pytest.mark.parametrize("word", ["quit", "exit", "q"])
def test_quit_and_exit_leave(path: Path, daemon: FakeDaemon, word: str) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, _, _):
        scene.typist.types(word + ENTER)
        assert scene.shell.run() == 0


def test_tab_completes_keywords(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, _):
        scene.typist.types("show cou" + TAB)
        scene.typist.when(lambda line: line == "show counters", ENTER)
        scene.typist.when(lambda line: line == "", CTRL_D)
        scene.shell.run()
    assert "nup_received" in out.getvalue()


def test_tab_completes_current_values_of_the_daemon(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, _):
        scene.typist.types("show neighbors 10.2" + TAB)
        scene.typist.when(lambda line: line == "show neighbors 10.255.0.2", ENTER)
        scene.typist.when(lambda line: line == "", CTRL_D)
        scene.shell.run()
    assert "10.255.0.2" in out.getvalue()


def test_a_question_mark_shows_help_at_once_and_keeps_the_line(
    path: Path, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, _):
        scene.typist.types("show f?").when(lambda line: line == "show f", "ib" + ENTER)
        scene.typist.when(lambda line: line == "", CTRL_D)
        scene.shell.run()
    assert "The routes desired in the kernel" in capsys.readouterr().out
    assert out.getvalue().startswith("PREFIX")


def test_ctrl_c_at_the_prompt_clears_the_line(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, _):
        scene.typist.types("reload").when(lambda line: line == "reload", CTRL_C)
        scene.typist.when(lambda line: line == "", "show memory" + ENTER)
        scene.typist.when(lambda line: line == "", CTRL_D)
        assert scene.shell.run() == 0
    assert daemon.reloads == []
    assert "trie" in out.getvalue()


@pytest.mark.usefixtures("no_collections")
def test_ctrl_c_cancels_the_command_and_not_the_session(path: Path, daemon: FakeDaemon) -> None:
    daemon.route_views = many_routes(20_000)
    chunks = iter(range(1000))

    def interrupt_once() -> None:
        if next(chunks) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    daemon.on_chunk = interrupt_once
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, out, errors):
        scene.typist.types("show routes" + ENTER)
        scene.typist.when(lambda line: line == "", "show counters" + ENTER)
        scene.typist.when(lambda line: line == "", CTRL_D)
        assert scene.shell.run() == 0
    assert errors.getvalue() == "routectl: cancelled\n"
    assert "nup_received" in out.getvalue()


def test_errors_do_not_end_the_session(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, _, errors):
        scene.typist.types("sh ro" + ENTER).when(lambda line: line == "", CTRL_D)
        assert scene.shell.run() == 0
    assert "'ro' after show is ambiguous: routes, route" in errors.getvalue()


def test_lines_are_kept_for_the_next_session(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), shell_at_a_pipe() as (scene, _, _):
        scene.typist.types("show memory" + ENTER).types("sh fib" + ENTER).types(CTRL_D)
        scene.shell.run()
    assert list(open_history(history_path()).load_history_strings()) == ["sh fib", "show memory"]


def test_the_prompt_names_the_router_and_its_health(path: Path, daemon: FakeDaemon) -> None:
    with command_line_for([], io.StringIO(), io.StringIO()) as command_line:
        assert prompt_text(command_line) == "routed (unreachable)> "
        with serving(path, daemon, ADMIN):
            assert prompt_text(command_line) == "10.255.0.1 failed 1> "
        assert prompt_text(command_line) == "routed (unreachable)> "
        with serving(path, daemon, ADMIN):
            assert prompt_text(command_line) == "10.255.0.1 failed 1> "
    assert STATUS.fib.failed == 1


def test_the_history_is_readable_by_its_owner_only() -> None:
    path = history_path()
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_text("")
    path.chmod(0o644)
    assert isinstance(open_history(path), FileHistory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_history_is_made_with_its_directories() -> None:
    path = history_path()
    assert path is not None
    open_history(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_history_that_cannot_be_written_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(open_history(tmp_path / "file" / "history"), InMemoryHistory)
    assert "the history is not saved" in capsys.readouterr().out


def test_a_relative_state_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert history_path() == Path("/home/somebody/.local/state/routectl/history")


def completions(path: Path, text: str) -> list[str]:
    completer = GrammarCompleter(LiveValueSource(str(path)))
    return [
        completion.text for completion in completer.get_completions(Document(text), CompleteEvent())
    ]


def test_completion_lists_neighbors_interfaces_and_prefixes(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN):
        assert completions(path, "show neighbors ") == [
            "10.255.0.2",
            "fe80::2",
            "192.0.2.9",
            "interface",
        ]
        assert completions(path, "show interfaces ") == ["eth0", "eth1"]
        assert completions(path, "sh routes 10.") == ["10.0.0.0/24", "10.1.0.0/16"]


def test_completion_stops_a_long_answer_when_it_has_enough(path: Path, daemon: FakeDaemon) -> None:
    daemon.route_views = many_routes(20_000)
    with serving(path, daemon, ADMIN):
        assert len(LiveValueSource(str(path))(ValueKind.PREFIX, "11.")) == 200
    assert daemon.chunks_given < 100


def test_completion_is_silent_when_the_daemon_is_not_there(path: Path) -> None:
    assert completions(path, "show interfaces ") == []
    assert completions(path, "show in") == ["interfaces"]
