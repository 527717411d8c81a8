"""The output of each command is held in golden files: text for people, JSON for programs.

`pytest --update-golden` writes them again; a person then reviews the difference.
"""

from __future__ import annotations

import io
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for
from routectl.commands import TREE
from routectl.grammar import Await, Leaf, Local, leaves
from routed.control.policy import AccessList
from routed.control.rows import columns_of
from routed.control.views import VIEW_CLASSES
from tests.fakes.fake_daemon import FakeDaemon, serving

GOLDEN = Path(__file__).parent / "golden"

COMMANDS = (
    "show status",
    "show neighbors",
    "show interfaces",
    "show routes",
    "show routes 10.0.0.0/8 longer selected",
    "show routes -6",
    "show route 10.1.2.3",
    "show fib",
    "show counters",
    "show log level warning",
    "show memory",
    "show metrics",
    "show nexthops",
    "show rules",
    "show bfd sessions",
    "show nup routes",
    "show nup routes 10.0.0.0/8 received",
    "show bfd session uplink1",
    "show probes",
    "show probe uplink1",
    "show config fib all",
    "show config",
    "show protocol",
    "show dataplane interfaces",
    "show dataplane programs",
    "show export",
    "show traffic interfaces",
    "show traffic protocols",
    "show traffic packet-sizes",
    "show traffic routes",
    "show traffic flows",
    "show traffic hosts",
    "show traffic ports",
    "show traffic routes top 1 by packets last 10s",
    "show traffic route 10.1.0.0/16",
    "fib couple",
    "fib decouple",
    "fib resync",
    "reload",
    "reload confirm 60s",
    "reload plan",
    "confirm",
    "rollback",
    "check",
    "diff",
    "clear neighbor 10.255.0.2",
    "clear traffic",
    "log level debug",
    "log reopen",
    "route add 192.0.2.1/32 dev eth0 lease 30s",
    "route replace 203.0.113.0/24 via 10.0.0.2 metric 10 tag 7",
    "route delete 192.0.2.1/32",
    "route renew lease 30s",
    "help route add",
    "help show routes",
    "show ?",
    "show routes 203.0.113.0/24 ?",
)


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


BEFORE = {
    "route renew lease 30s": (
        "route add 192.0.2.1/32 dev eth0 lease 30s",
        "route add 192.0.2.2/32 dev eth0 lease 30s",
        "route add 192.0.2.3/32 dev eth0 lease 30s",
    ),
}
"""The requests that prepare a fresh daemon for a command that needs something there."""


def run(socket_path: Path, line: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(socket_path)], out, errors) as command_line:
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


def run_prepared(socket_path: Path, line: str, *options: str) -> tuple[ExitStatus | None, str, str]:
    for earlier in BEFORE.get(line, ()):
        assert run(socket_path, earlier)[0] is ExitStatus.DONE
    return run(socket_path, " ".join([line, *options]))


def compare(name: str, text: str, *, is_updating: bool) -> None:
    path = GOLDEN / name
    if is_updating:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def file_name(line: str, suffix: str) -> str:
    words = line.replace("?", "help").replace("/", "_").replace(":", "_").split()
    return "-".join(words) + suffix


@pytest.fixture
def is_updating(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden", default=False))


@pytest.mark.parametrize("line", COMMANDS)
def test_the_text_equals_the_golden_file(socket_path: Path, line: str, is_updating: bool) -> None:
    status, out, errors = run_prepared(socket_path, line)
    assert (status, errors) == (ExitStatus.DONE, "")
    compare(file_name(line, ".txt"), out, is_updating=is_updating)


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.endswith("?")])
def test_the_json_equals_the_golden_file(socket_path: Path, line: str, is_updating: bool) -> None:
    status, out, errors = run_prepared(socket_path, line, "--pretty")
    assert (status, errors) == (ExitStatus.DONE, "")
    assert json.loads(out)["version"] == 1
    compare(file_name(line, ".json"), out, is_updating=is_updating)


HAVE_TESTS_OF_THEIR_OWN = {
    "lookup": "test_lookup.py",
    "import": "test_import.py",
    "monitor": "test_monitor.py",
    "explain": "test_explain.py",
    "topology": "test_pictures.py",
    "health": "test_health.py",
    "on": "test_record.py",
    "off": "test_record.py",
}
ADDED_BY_ROUTECTL = {"kernel", "kernel_error", "agrees", "agreement"}
LOCAL_OR_SNAPSHOT = {"lookup", "monitor", "top", "help", "quit", "exit"}


@pytest.mark.parametrize(
    "leaf",
    [
        leaf
        for _, leaf in leaves(TREE)
        if leaf.word not in LOCAL_OR_SNAPSHOT and not isinstance(leaf.action, Await)
    ],
    ids=lambda leaf: leaf.example,
)
def test_every_command_answers_in_text_and_json(
    socket_path: Path, leaf: Leaf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    for options in ("", " --json"):
        _, out, errors = run(socket_path, leaf.example + options)
        assert out or errors
        if options:
            document = json.loads(out)
            assert document["version"] == 1
            assert ("data" in document) != ("error" in document)


def test_the_columns_of_every_view_reach_json(socket_path: Path) -> None:
    found = set()
    for line in (*COMMANDS[: COMMANDS.index("fib couple")], "explain 10.1.2.3", "topology"):
        _, out, _ = run(socket_path, f"{line} --json")
        found |= {
            tuple(name for name in row if name not in ADDED_BY_ROUTECTL)
            for row in json.loads(out)["data"]
        }
    assert found == {columns_of(view_class) for view_class in VIEW_CLASSES}


def test_every_command_has_a_golden_file() -> None:
    spelled = {" ".join(shlex.split(line)[:count]) for line in COMMANDS for count in (2, 3)}
    for words, leaf in leaves(TREE):
        if leaf.word in HAVE_TESTS_OF_THEIR_OWN or isinstance(leaf.action, (Await, Local)):
            continue
        assert " ".join(words) in spelled
