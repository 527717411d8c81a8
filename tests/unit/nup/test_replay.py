"""python -m routed.replay: its output for a recording, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.config import scalars
from routed.nup.recording.recorder import Recorder
from routed.nup.routes.policy import NeighborRule, Policy
from routed.replay import main
from tests.fakes.nup_pair import many_prefixes, pair


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    wire, _, b = pair()
    wire.run(1)
    recorder = Recorder(b.instance, b"salt" * 4, wire.now)
    b.instance.record_to(recorder)
    test = scalars.prefix_match.read("172.16.0.0/16 le 32")
    b.instance.set_policy(
        Policy(imports=(NeighborRule(prefixes=(test,), set_metric=99),)), wire.now
    )
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    path = tmp_path / "recording.jsonl"
    path.write_text(recorder.text(b.instance, wire.now))
    return path


def test_a_recording_is_described_input_by_input(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recording)]) == 0
    out = capsys.readouterr().out
    assert "receive_burst\n    link 1 from fe80::1:1: DATA" in out
    assert "RoutesLearned(family=IPV4, prefixes=[172.16.0.0/24, " in out
    assert " 172.16.3.0/24, " in out
    assert "path=(metric=99" in out
    assert out.endswith("0 differences\n")


def test_a_difference_is_named_and_is_the_exit_status(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = recording.read_text().splitlines()
    recording.write_text("\n".join(line for line in lines if "set_policy" not in line))
    assert main(["-q", str(recording)]) == 1
    out = capsys.readouterr().out
    assert "metric=99" in out
    assert "now RoutesLearned(" in out
    assert "path=(metric=10" in out


def test_an_invalid_recording_is_reported_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    assert main([str(path)]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    errors = capsys.readouterr().err
    assert f"{path}: line 1:" in errors
    assert "No such file" in errors


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        (0, '{"routed-recording": 3'),
        (0, '{"routed-recording": 3, "start": {"state": 7}}'),
        (0, '{"routed-recording": 3, "start": {"state": "eJwLDAAAqwBU"}}'),
        (-2, '{"in": ["receive_burst"]}'),
        (-2, '{"in": "receive_burst", "datagrams": "AAAA", "now": 1.0}'),
        (-2, '{"in": "receive_burst", "datagrams": [], "now": NaN}'),
        (-2, '{"out": 7}'),
        (-1, '{"end": "complete", "state": "x"}'),
        (-1, "[" * 100_000),
    ],
)
def test_a_damaged_line_is_named_and_ends_the_replay(
    line: int, damaged: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = recording.read_text().splitlines()
    lines[line] = damaged
    recording.write_text("\n".join(lines))
    assert main(["-q", str(recording)]) == 2
    assert str(recording) in capsys.readouterr().err


def test_the_state_at_the_start_can_be_read(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recording), "--state"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith('0: ["object", "instance.NeighborInstance", {"router_id": [')
    assert any('"state.Link"' in line for line in others)


def test_a_recording_of_an_earlier_release_is_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text('{"routed-recording": 2, "at": 5.0, "router_id": "10.255.0.1"}\n')
    assert main([str(path)]) == 2
    assert "format 2" in (errors := capsys.readouterr().err)
    assert "with the release that made it" in errors
