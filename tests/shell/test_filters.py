"""Filters after a `|`: which rows pass, which lines are counted, and how a mistake is reported."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl import cli
from routectl import quick as routectl_quick
from routectl.command_line import command_line_for
from routectl.filters import complete_line
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("filters") / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


def run(path: Path, line: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["-s", str(path)], out, errors) as command_line:
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


def lines_of(path: Path, line: str) -> list[str]:
    status, out, errors = run(path, line)
    assert (status, errors) == (ExitStatus.DONE, ""), line
    return out.splitlines()


def test_rows_that_match_are_shown_whole_and_with_their_titles(socket_path: Path) -> None:
    everything = lines_of(socket_path, "show routes")
    found = lines_of(socket_path, "show routes | include 10.1.0.0/16")
    assert found[0] == everything[0]
    start = next(at for at, line in enumerate(everything) if "10.1.0.0/16" in line)
    # The second next hop of the row is on its second line, which does not match by itself.
    assert found[1:3] == everything[start : start + 2]
    assert "10.1.0.0/16" not in found[2]


def test_exclude_shows_the_rows_that_do_not_match(socket_path: Path) -> None:
    both = [
        lines_of(socket_path, f"show routes | {verb} ' static '")[1:]
        for verb in ("include", "exclude")
    ]
    assert all(both)
    assert sorted(both[0] + both[1]) == sorted(lines_of(socket_path, "show routes")[1:])


def test_count_counts_rows_and_not_lines(socket_path: Path) -> None:
    (count,) = lines_of(socket_path, "show neighbors|count")
    assert count == "2"
    prefixes = lines_of(socket_path, "show routes source static | count")
    assert prefixes == lines_of(socket_path, "show routes | include ' static ' | count")
    assert lines_of(socket_path, "show routes 192.0.2.128/25 | count") == ["0"]


def test_begin_shows_all_from_the_first_match_on(socket_path: Path) -> None:
    everything = lines_of(socket_path, "show status")
    at = next(at for at, line in enumerate(everything) if line.startswith("uptime"))
    assert lines_of(socket_path, "show status | begin ^uptime") == everything[at:]


def test_filters_follow_one_another_and_may_be_abbreviated(socket_path: Path) -> None:
    assert lines_of(socket_path, "show status | inc . | exc ^version | b pid | c") == [
        str(len(lines_of(socket_path, "show status | begin ^pid")))
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("show routes |", "| needs a filter after it: include, exclude, begin, count"),
        ("show routes | include", "| include needs a WORD after it, for example: | include eth0"),
        ("show routes | grep x", "'grep' after | is unknown"),
        ("show routes | include a b", "unexpected 'b' after | include; quote a WORD with blanks"),
        ("show routes | include '('", "'(' is not a regular expression"),
        ("show routes | count | ", "| needs a filter after it"),
        ("show routes --json | count", "a filter after | is for text"),
    ],
)
def test_a_wrong_filter_is_named(socket_path: Path, line: str, error: str) -> None:
    status, out, errors = run(socket_path, line)
    assert status is ExitStatus.USAGE
    assert error in out + errors


def test_a_bar_in_quotes_belongs_to_the_argument(socket_path: Path) -> None:
    assert lines_of(socket_path, "show neighbors | include 'up|init' | count") == ["2"]


def test_an_error_is_not_filtered(socket_path: Path) -> None:
    status, _, errors = run(socket_path, "show neighbors 192.0.2.77 | exclude .")
    assert status is ExitStatus.REFUSED
    assert "no neighbor 192.0.2.77" in errors


def test_one_shot_commands_accept_filters_too(
    socket_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-s", str(socket_path), "show", "neighbors", "|", "count"]
    assert routectl_quick.main(arguments) == 0
    assert capsys.readouterr().out == "2\n"
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize(
    ("words", "start", "found"),
    [
        (["show", "routes", "|"], "", ["include", "exclude", "begin", "count"]),
        (["show", "routes", "|"], "in", ["include"]),
        (["show", "routes", "|", "count"], "", ["|"]),
        (["show", "routes", "|", "include", "x", "|"], "c", ["count"]),
        (["show", "routes", "|", "include"], "", []),
        (["show", "nonsense", "|"], "", []),
        (["show", "routes", "|", "nonsense"], "", []),
    ],
)
def test_filters_are_completed(words: list[str], start: str, found: list[str]) -> None:
    assert [
        choice.text for choice in complete_line(words, start, lambda _kind, _start: [])
    ] == found
