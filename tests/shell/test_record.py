"""`record on` and `record off FILE`: the file is created first, complete, and readable by its owner
only.
"""

from __future__ import annotations

import io
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ipc.blocking import ControlError, ExitStatus
from routectl.command_line import command_line_for
from routectl.saving import save
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

TEXT = '{"routed-recording": 1}\n' + "x" * 40_000 + "\n"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


def run(tmp_path: Path, daemon: FakeDaemon, line: str) -> tuple[ExitStatus | None, str, str]:
    path = tmp_path / "routed.sock"
    out, errors = io.StringIO(), io.StringIO()
    with (
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
        command_line_for(["--socket", str(path)], out, errors) as command_line,
    ):
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


def test_a_recording_ends_in_a_file_for_its_owner(tmp_path: Path, daemon: FakeDaemon) -> None:
    file = tmp_path / "fault.jsonl"
    status, out, _ = run(tmp_path, daemon, "record on")
    assert (status, out) == (ExitStatus.DONE, "recording what NUP receives\n")
    status, out, _ = run(tmp_path, daemon, f"record off {file}")
    assert status is ExitStatus.DONE
    assert out == f"{file.stat().st_size} bytes written to {file}\n"
    assert file.read_text() == '{"routed-recording": 1}\n' + "x" * 40_000 + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_existing_file_is_not_changed_and_the_recording_continues(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    file = tmp_path / "fault.jsonl"
    file.write_text("mine")
    run(tmp_path, daemon, "record on")
    status, _, errors = run(tmp_path, daemon, f"record off {file}")
    assert (status, file.read_text()) == (ExitStatus.REFUSED, "mine")
    assert "File exists" in errors
    assert daemon.is_recording


def test_without_a_recording_no_file_is_left(tmp_path: Path, daemon: FakeDaemon) -> None:
    file = tmp_path / "fault.jsonl"
    status, _, errors = run(tmp_path, daemon, f"record off {file}")
    assert status is ExitStatus.REFUSED
    assert "nothing is being recorded" in errors
    assert not file.exists()


def test_a_recording_can_be_written_to_a_pipe(tmp_path: Path, daemon: FakeDaemon) -> None:
    run(tmp_path, daemon, "record on")
    status, out, _ = run(tmp_path, daemon, "record off -")
    assert status is ExitStatus.DONE
    assert out == '{"routed-recording": 1}\n' + "x" * 40_000 + "\n"


def test_a_recording_in_json_is_one_document(tmp_path: Path, daemon: FakeDaemon) -> None:
    run(tmp_path, daemon, "record on")
    _, out, _ = run(tmp_path, daemon, "record off - --json")
    text = "".join(row["text"] for row in json.loads(out)["data"])
    assert text == '{"routed-recording": 1}\n' + "x" * 40_000 + "\n"


def test_the_absence_of_a_recording_is_one_document_too(tmp_path: Path, daemon: FakeDaemon) -> None:
    _, out, _ = run(tmp_path, daemon, "record off - --json")
    assert json.loads(out)["error"]["code"]


class EndingClient:
    """A client whose answer ends with an error after some rows, such as a lost connection or an
    interrupt.
    """

    def __init__(self, texts: list[str], error: BaseException) -> None:
        self._texts, self._error = texts, error

    def ask(self, _request: object) -> EndingClient:
        return self

    def rows(self) -> Iterator[dict[str, str]]:
        for text in self._texts:
            yield {"text": text}
        raise self._error


REQUEST: Any = None
ENDS = [
    ControlError("unreachable", "the connection was lost", ExitStatus.REFUSED),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("end", ENDS, ids=["lost", "interrupted"])
def test_the_part_of_a_recording_that_arrived_is_kept(tmp_path: Path, end: BaseException) -> None:
    file = tmp_path / "fault.jsonl"
    client: Any = EndingClient(["first ", "second"], end)
    with pytest.raises(type(end)) as caught:
        save(client, REQUEST, str(file))
    assert file.read_text() == "first second"
    if isinstance(end, ControlError):
        assert str(caught.value) == (
            f"the connection was lost: {file}; it has only the first 12 bytes of the recording"
        )


@pytest.mark.parametrize("end", ENDS, ids=["lost", "interrupted"])
def test_without_any_row_no_file_is_left(tmp_path: Path, end: BaseException) -> None:
    file = tmp_path / "fault.jsonl"
    client: Any = EndingClient([], end)
    with pytest.raises(type(end)):
        save(client, REQUEST, str(file))
    assert not file.exists()


def test_a_full_disk_keeps_the_part_that_fits(tmp_path: Path, daemon: FakeDaemon) -> None:
    file = tmp_path / "fault.jsonl"
    run(tmp_path, daemon, "record on")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        status, _, errors = run(tmp_path, daemon, f"record off {file}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status is ExitStatus.REFUSED
    assert (
        f"{file}: File too large; it has only the first 10000 bytes of the recording; the daemon "
        "keeps the recording: `record off` with another file writes it again\n"
    ) in errors
    assert file.stat().st_size == 10_000
    other = tmp_path / "other.jsonl"
    status, out, _ = run(tmp_path, daemon, f"record off {other}")
    assert (status, other.read_text()) == (ExitStatus.DONE, TEXT)
    assert out == f"{len(TEXT)} bytes written to {other}\nthe recording ended 1m05s ago\n"


def test_a_closed_pipe_does_not_lose_the_recording(tmp_path: Path, daemon: FakeDaemon) -> None:
    run(tmp_path, daemon, "record on")
    reader, writer = os.pipe()
    os.close(reader)
    path = tmp_path / "routed.sock"
    with (
        os.fdopen(writer, "w", buffering=1) as closed,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
        command_line_for(["--socket", str(path)], closed, io.StringIO()) as command_line,
        pytest.raises(BrokenPipeError),
    ):
        command_line.run_line("record off -")
    status, out, errors = run(tmp_path, daemon, "record off -")
    assert (status, out) == (ExitStatus.DONE, TEXT)
    assert errors == "routectl: the recording ended 1m05s ago\n"
    _, out, _ = run(tmp_path, daemon, "record off - --json")
    assert {row["ended_s"] for row in json.loads(out)["data"]} == {65.0}
