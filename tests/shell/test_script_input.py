"""Arguments and input of scripts: bytes that are not valid text, `-`, a quoted `?`, `--help` with
`--json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

DEADLINE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


@pytest.fixture
def path(tmp_path: Path, daemon: FakeDaemon) -> Iterator[Path]:
    path = tmp_path / "routed.sock"
    with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))):
        yield path


def routectl(
    path: Path, *arguments: str | bytes, lines: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "routectl", *arguments],
        cwd=ROOT, env={**os.environ, "ROUTECTL_SOCKET": str(path)},
        input=lines, capture_output=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


# --- bytes that are not valid text


@pytest.mark.parametrize("form", [b"--json", b"--pretty"])
@pytest.mark.parametrize(
    "arguments",
    [
        [b"route", b"import", b"\xff"],
        [b"check", b"\xff"],
        [b"record", b"off", b"\xff/x"],
        [b"--\xff"],
        [b"\xff"],
        [b"-s", b"/tmp/\xff", b"show", b"status"],
        [b"-s", b"/tmp/\xff", b"reload"],
        [b"show", b"interfaces", b"\xff"],
        [b"show", b"route", b"\xff"],
        [b"help", b"\xff"],
        [b"show", b"\xff?"],
    ],
)
def test_bytes_that_are_not_valid_text_keep_json_one_document(
    path: Path, arguments: list[bytes], form: bytes
) -> None:
    done = routectl(path, form, *arguments)
    document = json.loads(done.stdout.decode("utf-8"))
    assert "udcff" in repr(document["error"]["text"])
    assert (done.returncode, done.stderr) != (0, b"")
    assert done.stderr == b""


def test_a_recording_in_a_file_whose_name_is_not_valid_text_is_one_document(
    path: Path, tmp_path: Path
) -> None:
    file = os.fsencode(tmp_path) + b"/\xff"
    routectl(path, "record", "on")
    done = routectl(path, "--json", "record", "off", file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["data"][0]["text"].endswith(f"written to {os.fsdecode(file)}")


def test_a_line_that_is_not_valid_text_does_not_stop_the_lines_after_it(path: Path) -> None:
    done = routectl(path, "--json", lines=b"--\xff\nshow status\n")
    first, rest = done.stdout.split(b"\n", 1)
    assert json.loads(first)["error"]["code"] == "usage"
    assert json.loads(rest)["data"][0]["router_id"]
    assert (done.returncode, done.stderr) == (ExitStatus.USAGE, b"")


# --- standard input that holds the commands


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
def test_routes_are_not_read_from_the_input_that_holds_the_commands(
    path: Path, daemon: FakeDaemon, file: str
) -> None:
    lines = f"route import {file}\nroute add 10.98.0.0/16 via 10.0.0.2\n"
    done = routectl(path, lines=lines.encode())
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr.decode() == (
        f"routectl: line 1: {file} is standard input, where the commands come from; name a file\n"
    )
    assert done.stdout == b"added 1 route\n"
    assert [injection.count for injection in daemon.injections] == [1]


def test_a_configuration_is_not_read_from_the_input_that_holds_the_commands(path: Path) -> None:
    done = routectl(path, lines=b"check /dev/stdin\nshow status\n")
    assert (done.returncode, b"line 1: /dev/stdin is standard input" in done.stderr) == (2, True)
    assert b"router id" in done.stdout


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
def test_routes_are_read_from_standard_input_when_the_command_is_an_argument(
    path: Path, daemon: FakeDaemon, file: str
) -> None:
    done = routectl(path, "route", "import", file, lines=b"10.98.0.0/16 via 10.0.0.2\n")
    assert (done.returncode, done.stdout) == (0, b"1 route imported\n")
    assert [injection.count for injection in daemon.injections] == [1]


# --- a question mark as a value


def test_a_quoted_question_mark_is_a_value(path: Path, daemon: FakeDaemon) -> None:
    done = routectl(path, "show", "interfaces", "?")
    assert (done.returncode, done.stdout) == (ExitStatus.REFUSED, b"")
    assert done.stderr == b"routectl: no interface ?\n"
    done = routectl(path, "route", "add", "10.98.0.0/16", "dev", "?")
    assert (done.returncode, done.stdout) == (0, b"added 1 route\n")
    done = routectl(path, lines=b"route add 10.99.0.0/16 dev 'a?'\n")
    assert (done.returncode, done.stdout) == (0, b"added 1 route\n")
    devices = [injection.attributes[0].gateways[0].ifname for injection in daemon.injections]
    assert devices == ["?", "a?"]


@pytest.mark.parametrize(
    "words", ["show route ?", "explain ?", "wait synced within ?", "log level ?"]
)
def test_a_question_mark_that_is_not_a_valid_value_is_an_error_with_the_help(
    path: Path, words: str
) -> None:
    for done in (routectl(path, *words.split()), routectl(path, lines=words.encode())):
        assert done.returncode == ExitStatus.USAGE
        assert done.stdout.startswith(b"  ")
        assert b"'?' " in done.stderr
    done = routectl(path, "--json", *words.split())
    document = json.loads(done.stdout)
    assert (done.returncode, document["error"]["code"]) == (ExitStatus.USAGE, "usage")
    assert document["data"]


@pytest.mark.parametrize("words", ["?", "show ?", "sh nei?", "show routes 10.0.0.0/8 ?"])
def test_a_question_mark_where_only_keywords_are_valid_is_help(path: Path, words: str) -> None:
    done = routectl(path, *words.split())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"  ")


# --- help and version


@pytest.mark.parametrize("form", ["--json", "--pretty"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_json_help_and_version_are_a_document_of_the_lines_of_their_text(
    path: Path, option: str, form: str
) -> None:
    text = routectl(path, option)
    done = routectl(path, form, option)
    assert (text.returncode, done.returncode, done.stderr) == (0, 0, b"")
    rows = json.loads(done.stdout)["data"]
    assert [row["text"].rstrip() for row in rows] == text.stdout.decode().splitlines()
    assert rows[0]["text"].startswith(("usage: routectl", "routectl "))
