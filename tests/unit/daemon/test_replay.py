"""python -m routed.replay: what it says of a recording, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.config import scalars
from routed.neighbor.policy import Policy, Rule
from routed.replay import main
from tests.fakes.nup_pair import many_prefixes, pair


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    wire, _, b = pair()
    wire.run(1)
    b.instance.start_recording(b"salt" * 4, wire.now)
    test = scalars.prefix_match.read("172.16.0.0/16 le 32")
    b.instance.set_policy(Policy(imports=(Rule(prefixes=(test,), set_metric=99),)), wire.now)
    wire.originate("a", *many_prefixes(20))
    wire.run(2)
    path = tmp_path / "recording.jsonl"
    path.write_text(b.instance.stop_recording(wire.now))
    return path


def test_a_recording_is_told_input_by_input(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recording)]) == 0
    out = capsys.readouterr().out
    assert "receive_burst\n    link 1 from fe80::1:1: DATA" in out
    assert "RoutesLearned(family=<Family.IPV4: 2>, prefixes=(Prefix('172.16.0.0/24')" in out
    assert "Prefix('172.16.3.0/24'), " in out
    assert "path=LearnedPath(metric=99" in out
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
    assert "path=LearnedPath(metric=10" in out


def test_what_is_no_recording_is_said_in_words(
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
        (0, '{"routed-recording": 2'),
        (1, '{"state": 7}'),
        (1, '{"state": "eJwLDAAAqwBU"}'),
        (-2, '{"in": ["receive_burst"]}'),
        (-2, '{"in": "receive_burst", "args": "AAAA"}'),
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
