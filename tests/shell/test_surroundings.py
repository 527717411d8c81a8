"""routectl where something is missing: space on the disk, a terminal, a home directory, standard
streams, an answer. It prints one sentence and has an exit status for the case, and never a
traceback.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
from prompt_toolkit.history import InMemoryHistory

from ipc.blocking import ControlClient, DaemonUnreachable, ExitStatus
from ipc.control import ShowStatus
from ipc.quick import DEFAULT_TIMEOUT_S, NoAnswer, pages
from ipc.trio_client import TrioClient
from routectl import ending
from routectl.commands import TREE
from routectl.grammar import leaves
from routectl.pager import pager_command
from routectl.shell import history_path, open_history
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

DEADLINE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("poor") / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


def routectl(
    words: str, redirections: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run routectl as a shell would."""
    command = f"{shlex.quote(sys.executable)} -m routectl {words} {redirections}"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        check=False,
        encoding="utf-8",
        errors="surrogateescape",
    )


@pytest.mark.parametrize(
    "words",
    [
        "show status",
        "show routes --json",
        "show counters --pretty",
        "reload",
        "report",
        "topology format svg",
        "completion bash",
        "help show",
        "show '?'",
        "show nonsense --json",
        "--version",
        "--help",
        "--complete 'show r'",
        "record off -",
    ],
)
def test_a_full_disk_is_reported_and_has_its_own_exit_status(socket_path: Path, words: str) -> None:
    if words.startswith("record"):
        routectl(f"-s {socket_path} record on")
    ended = routectl(f"-s {socket_path} {words}", ">/dev/full")
    assert (ended.returncode, ended.stderr) == (
        5, "routectl: the answer cannot be written: No space left on device\n",
    )  # fmt: skip


def test_a_full_standard_error_does_not_end_the_command(socket_path: Path) -> None:
    ended = routectl(f"-s {socket_path} show nonsense", ">/dev/full 2>/dev/full")
    assert ended.returncode == 5
    ended = routectl(f"-s {socket_path} show nonsense", "2>/dev/full")
    assert (ended.returncode, ended.stdout) == (5, "")


@pytest.mark.parametrize("redirections", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["show status", "help show", "report", ""])
def test_closed_standard_streams_are_treated_as_dev_null(
    socket_path: Path, words: str, redirections: str
) -> None:
    ended = routectl(f"-s {socket_path} {words}", redirections)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bool(ended.stdout) == (bool(words) and ">&-" not in redirections.split())


def test_top_without_a_terminal_reports_it(socket_path: Path) -> None:
    ended = routectl(f"-s {socket_path} top")
    assert ended.returncode == 2
    assert ended.stderr.startswith("routectl: top needs a terminal; `show status` and")


def test_characters_that_the_encoding_lacks_are_escaped(socket_path: Path) -> None:
    name = "\u6771\u4eac"
    ended = routectl(f"-s {socket_path} help {name} --json", PYTHONIOENCODING="ascii")
    assert name in json.loads(ended.stdout)["error"]["text"]
    ended = routectl(f"-s {socket_path} -j help '\udcff'")
    assert json.loads(ended.stdout)["error"]["code"] == "usage"
    ended = routectl(f"-s {socket_path} show neighbors '\udcff'")
    assert (ended.returncode, ended.stderr) == (1, "routectl: no neighbor \\udcff\n")


def test_commands_that_are_not_valid_text_are_answered_like_any_other(socket_path: Path) -> None:
    ended = routectl(f"-s {socket_path}", "<<'END'\nshow neighbors \udcff\nshow memory\nEND")
    assert ended.stderr == "routectl: line 1: no neighbor \\udcff\n"
    assert ended.stdout.startswith("WHAT") or "KiB" in ended.stdout


def test_a_file_of_routes_that_ends_early_is_not_reported_as_a_full_disk(socket_path: Path) -> None:
    ended = routectl(f"-s {socket_path} route import /proc/self/mem")
    assert (ended.returncode, ended.stderr) == (
        2, "routectl: the routes cannot be read: Input/output error\n",
    )  # fmt: skip


def test_a_pager_with_an_unclosed_quote_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTECTL_PAGER", 'less "')
    assert pager_command() == []


HAVE_NO_DOCUMENT = {
    "monitor": "a document a line, for as long as one looks",
    "quit": "leaves the shell",
    "exit": "leaves the shell",
}


@pytest.mark.parametrize(
    "leaf", [leaf for _, leaf in leaves(TREE) if leaf.word not in HAVE_NO_DOCUMENT],
    ids=lambda leaf: leaf.example,
)  # fmt: skip
def test_json_is_one_document_for_every_command(
    socket_path: Path, leaf: object, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from routectl.quick import main

    monkeypatch.chdir(tmp_path)  # some write files
    example = getattr(leaf, "example")  # noqa: B009  parametrize knows no type
    example = example.replace(
        "within 60s", "within 50ms"
    )  # the state that is waited for does not occur
    main(["-s", str(socket_path), "--json", *shlex.split(example)])
    written = capsys.readouterr()
    document = json.loads(written.out)
    assert (document["version"], written.err) == (1, "")
    assert {"data", "error"} & set(document)


# --- no home directory


def test_without_a_home_the_history_is_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose uid has no entry in the password file is such a case."""

    def no_entry(_uid: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    assert history_path() is None
    assert isinstance(open_history(history_path()), InMemoryHistory)


def test_a_history_that_cannot_grow_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history"
    history = open_history(path)
    path.unlink()
    path.mkdir()  # any error that keeps the file from growing
    history.append_string("show status")
    history.append_string("show routes")
    assert (
        capsys.readouterr().out == f"routectl: the history is not saved: {path}: Is a directory\n"
    )
    assert history.get_strings() == ["show status", "show routes"]


# --- a daemon that does not answer


@contextmanager
def hung_daemon(path: Path) -> Iterator[Callable[[], int]]:
    """A socket that accepts connections and never answers. Yields the number of connections."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(8)
    taken: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            taken.append(connection)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield lambda: len(taken)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("-t 1 show status", "1"),
        ("-t 0.2 show status", "0.2"),
        ("--timeout=0.2 reload", "0.2"),
        ("show neighbors -t 1 --json", "1"),
    ],
)
def test_a_daemon_that_does_not_answer_gets_one_request_and_is_reported_once(
    tmp_path: Path, words: str, seconds: str
) -> None:
    path = tmp_path / "routed.sock"
    with hung_daemon(path) as connections:
        ended = routectl(f"-s {path} {words}")
        assert connections() == 1
    text = f"routed at {path} has not answered for {seconds} s"
    assert ended.returncode == ExitStatus.UNREACHABLE
    if "--json" in words:
        assert json.loads(ended.stdout)["error"] == {"code": "unreachable", "text": text}
    else:
        assert ended.stderr == f"routectl: {text}\n"


@pytest.mark.parametrize("seconds", ["0", "x", "nan", "inf", "1e9", ""])
def test_an_invalid_time_limit_is_a_usage_error(tmp_path: Path, seconds: str) -> None:
    ended = routectl(f"-s {tmp_path}/none --timeout '{seconds}' show status")
    assert ended.returncode == ExitStatus.USAGE
    assert "expected a number of seconds above 0" in ended.stderr


def test_every_client_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    with hung_daemon(path):
        with ControlClient(str(path), timeout_s=0.05) as client, pytest.raises(DaemonUnreachable):
            client.ask(ShowStatus()).result()
        with pytest.raises(NoAnswer):
            next(pages(str(path), 16, [], 0.05))

        async def ask() -> None:
            async with TrioClient(str(path), timeout_s=0.05) as routed:
                await routed.status()

        with pytest.raises(DaemonUnreachable, match=r"has not answered for 0\.05 s"):
            trio.run(ask)
    assert DEFAULT_TIMEOUT_S == 30.0


def test_the_exit_status_is_that_of_the_table() -> None:
    assert ending.UNWRITTEN == ExitStatus.UNWRITTEN


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("show routes --help", "All candidates of all prefixes"),
        ("-h show routes 10.0.0.0/8 longer", "All candidates of all prefixes"),
        ("reload --confirm 60s --help", "Read the configuration file again"),
        ("show --help", "Look at the daemon's state"),
        ("--help", "usage: routectl [-s SOCKET]"),
    ],
)
def test_help_describes_the_command_before_it(socket_path: Path, words: str, first: str) -> None:
    for typed in (words, f"--json {words}"):
        ended = routectl(f"-s {socket_path} {typed}")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert first in ended.stdout.partition("\n\n")[0]
    of_a_line = routectl(f"-s {socket_path}", f"<<END\n{words}\nEND")
    assert of_a_line.returncode == 0
    asked = "help " + " ".join(word for word in words.split() if not word.startswith("-"))
    assert of_a_line.stdout == routectl(f"-s {socket_path} {asked}").stdout


def test_help_after_an_unknown_command_reports_that(socket_path: Path) -> None:
    ended = routectl(f"-s {socket_path} show nonsense --help")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "'nonsense' after show is unknown" in ended.stderr


def test_an_error_outside_of_a_system_call_is_not_reported_as_a_failed_write() -> None:
    """The exit status of a failed write would mean that the command may have been carried out."""

    def run() -> int:
        raise OSError("illegal IP address string passed to inet_pton")

    with pytest.raises(OSError, match="illegal IP address"):
        ending.run_to_end(run)
