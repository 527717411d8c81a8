"""Ctrl-C in a real process: exit status 130, no traceback, and with `--json` one whole document.

No test waits for a moment: the signal arrives while the program imports a certain module, or while
the daemon or the reader of the answer keeps it waiting.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from routectl.interrupts import INTERRUPTED
from routectl.render.json import JsonOutput
from routectl.render.text import TextTable
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import many_routes

DEADLINE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]
FORM = TextTable((), "")
CANCELLED = {"code": "cancelled", "text": "cancelled"}


@contextmanager
def started(
    *arguments: str, program: tuple[str, ...] = ("-m", "routectl"), stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[socket.socket]:
    """Return the socket of a daemon that accepts connections and never answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "routed.sock"))
        listener.listen()
        listener.settimeout(DEADLINE_S)
        yield listener


def interrupted(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out.decode(), errors.decode()


@pytest.mark.parametrize("words", ["show routes", "explain 10.0.0.1", "wait synced", "fib resync"])
@pytest.mark.parametrize("form", ["--json", "--pretty"])
def test_a_document_reports_that_a_silent_daemon_was_abandoned(
    silent: socket.socket, words: str, form: str
) -> None:
    path = silent.getsockname()
    with started("-s", path, form, *words.split()) as process:
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(65536)  # so the command waits, or is about to wait
            status, out, errors = interrupted(process)
    assert (status, errors) == (INTERRUPTED, "")
    assert json.loads(out) == {"version": 1, "error": CANCELLED}


def test_a_line_of_a_pipe_ends_in_a_document_and_the_lines_after_it_do_not_run(
    silent: socket.socket,
) -> None:
    path = silent.getsockname()
    with started("-s", path, "--json", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"show routes\nshow status\n")
        process.stdin.flush()
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(65536)
            status, out, errors = interrupted(process)
    assert (status, errors) == (INTERRUPTED, "")
    assert json.loads(out) == {"version": 1, "error": CANCELLED}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("form", ["--json", "--pretty"])
@pytest.mark.parametrize("words", ["show routes", "show routes 0.0.0.0/0 longer"])
def test_an_answer_that_was_begun_is_one_document(
    tmp_path: Path, form: str, words: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has stopped, so the signal arrives while a page is written to a full pipe."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    path = tmp_path / "routed.sock"
    with closing(FakeDaemon()) as daemon:
        daemon.route_views = many_routes(20_000)
        with (
            serving(path, daemon, AccessList(read_uids=frozenset({os.getuid()}))),
            started("-s", str(path), form, *words.split()) as process,
        ):
            assert process.stdout is not None
            begun = os.read(process.stdout.fileno(), 1)
            status, rest, errors = interrupted(process)
    assert (status, errors) == (INTERRUPTED, "")
    document = json.loads(begun.decode() + rest)
    assert document["error"] == CANCELLED
    assert 0 < len(document["data"]) < 20_000


def test_text_ends_silently(silent: socket.socket) -> None:
    with started("-s", silent.getsockname(), "show", "routes") as process:
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(65536)
            assert interrupted(process) == (INTERRUPTED, "", "")


def test_a_stopped_reader_cannot_keep_the_program_from_ending(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    with closing(FakeDaemon()) as daemon:
        daemon.route_views = many_routes(20_000)
        with (
            serving(path, daemon, AccessList(read_uids=frozenset({os.getuid()}))),
            started("-s", str(path), "--json", "show", "routes") as process,
        ):
            assert process.stdout is not None
            os.read(process.stdout.fileno(), 1)
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.returncode == INTERRUPTED


# --- Ctrl-C while the program starts

AT_IMPORT = """
import os, signal, sys

class Interrupting:
    name = sys.argv.pop(1)

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            self.name = ""
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from routectl.start import main
sys.exit(main())
"""


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize(
    "module", ["routectl.quick", "socket", "routectl.cli", "argparse", "routectl.commands"]
)
def test_an_import_that_is_interrupted_prints_no_traceback(
    tmp_path: Path, module: str, form: list[str]
) -> None:
    path = str(tmp_path / "routed.sock")
    words = ["-s", path, *form, "explain", "10.0.0.1"]
    with started(module, *words, program=("-c", AT_IMPORT)) as process:
        out, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (INTERRUPTED, b"")
    documents = [json.loads(line) for line in out.splitlines()]
    assert documents == ([{"version": 1, "error": CANCELLED}] if form else [])


def test_the_first_import_that_is_interrupted_prints_no_traceback() -> None:
    with started("routectl.interrupts", "health", program=("-c", AT_IMPORT)) as process:
        out, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, errors) == (INTERRUPTED, b"", b"")


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """A job that a script has put in the background starts so."""
    script = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{AT_IMPORT}"
    path = str(tmp_path / "routed.sock")
    with started("routectl.cli", "-s", path, "reload", program=("-c", script)) as process:
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, b"is not running" in errors) == (3, True)


# --- the document itself


WRITES: dict[str, Callable[[JsonOutput], None]] = {
    "show": lambda output: output.show(FORM, [[{"a": 1}]]),
    "report": lambda output: output.report(["1 route added"]),
    "fail": lambda output: output.fail("busy", "try again"),
    "text": lambda output: output.write_text([[{"text": "a"}]]),
    "stream": lambda output: output.stream(FORM, [[{"a": 1}]]),
}


@pytest.mark.parametrize("is_pretty", [False, True])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_whole_document_is_not_followed_by_another(
    write: Callable[[JsonOutput], None], is_pretty: bool
) -> None:
    out = io.StringIO()
    output = JsonOutput(out, is_pretty=is_pretty)
    write(output)
    whole = out.getvalue()
    output.cancel()
    assert out.getvalue() == whole
    json.loads(whole)
