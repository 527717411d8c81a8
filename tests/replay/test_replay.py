"""Every case of this folder is replayed: the same inputs give the same outputs and states."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from routed.nup.recording.recorder import Recorder
from routed.nup.recording.replay import RecordingError
from tests.fakes.nup_pair import many_prefixes, pair
from tests.replay.__main__ import main
from tests.replay.corpus import (
    CORPUS,
    case_names,
    differences,
    read_case,
    replay,
    save_case,
    save_expected,
)
from tests.replay.scenarios import SCENARIOS, record

CASES_MIN = 18
SMALL = "dead-interval"


@pytest.mark.parametrize("name", case_names())
def test_a_case_is_replayed_to_the_same_outputs_and_states(
    name: str, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--update-golden"):
        save_expected(CORPUS / name)
    assert differences(CORPUS / name) == ""


def test_the_corpus_exists_and_its_index_describes_each_case() -> None:
    assert len(case_names()) >= CASES_MIN
    index = " ".join((CORPUS / "README.md").read_text().split())
    for name in case_names():
        shows = " ".join(read_case(CORPUS / name).shows.split())
        assert f"| `{name}` | {shows} |" in index, name


def test_every_scenario_is_a_case() -> None:
    assert set(SCENARIOS) <= set(case_names())


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of a case, to be damaged."""
    return Path(shutil.copytree(CORPUS / SMALL, tmp_path / SMALL))


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)


def test_a_changed_output_is_reported_as_a_difference_of_lines(case: Path) -> None:
    edit(case / "02-output.jsonl", lambda text: text.replace("HEARTBEAT", "heartbeat", 1))
    assert differences(case) == "", "what is for people is not compared"
    lines = (case / "03-output.jsonl").read_text().splitlines()
    number, lost = next((n, line) for n, line in enumerate(lines) if '"RouteLost"' in line)
    lines[number] = lost.replace('"RouteLost"', '"RouteHeld"')
    (case / "03-output.jsonl").write_text("\n".join(lines))
    seen = differences(case).splitlines()
    assert seen[0] == "phase 3, the dead interval has passed: adjacency and routes are lost"
    assert f"-{lines[number]}" in seen
    assert f"+{lost}" in seen


def test_a_changed_byte_of_a_sent_datagram_is_reported(case: Path) -> None:
    lines = (case / "01-output.jsonl").read_text().splitlines()
    number, line = next((n, line) for n, line in enumerate(lines) if "SendDatagram" in line)
    sent = json.loads(line)
    sent["data"] = ("0" if sent["data"][0] != "0" else "1") + sent["data"][1:]
    lines[number] = json.dumps(sent)
    (case / "01-output.jsonl").write_text("\n".join(lines))
    assert f"-{lines[number]}" in differences(case)


def test_a_missing_or_new_output_is_reported(case: Path) -> None:
    edit(case / "02-output.jsonl", lambda text: text[text.index("\n") + 1 :])
    assert "\n+{" in differences(case)
    save_expected(case)
    edit(case / "02-output.jsonl", lambda text: text + text.splitlines()[-1])
    assert "\n-{" in differences(case)


def test_a_changed_counter_or_row_is_reported(case: Path) -> None:
    edit(case / "01-state.json", lambda text: text.replace('"metric": 0', '"metric": 1', 1))
    assert '\n-  {"prefix": "10.255.0.1/32"' in differences(case)
    assert '"metric": 0' in differences(case)


def test_a_missing_input_is_visible_in_later_results(case: Path) -> None:
    def without_the_first_datagram(text: str) -> str:
        lines = text.splitlines(keepends=True)
        del lines[next(n for n, line in enumerate(lines) if "receive_burst" in line)]
        return "".join(lines)

    edit(case / "01-input.jsonl", without_the_first_datagram)
    assert "01-output.jsonl (now)" in differences(case)


def test_an_invalid_input_is_named(case: Path) -> None:
    edit(case / "01-input.jsonl", lambda text: text.replace('"cost": 10', '"cost": 0'))
    with pytest.raises(RecordingError, match="link_up: settings: UsageError: a link cost"):
        differences(case)


def test_expected_results_are_written_only_on_request(case: Path) -> None:
    edit(case / "02-output.jsonl", lambda _: "")
    assert differences(case)
    assert (case / "02-output.jsonl").read_text() == ""
    save_expected(case)
    assert differences(case) == ""
    assert (case / "02-output.jsonl").read_text() == (
        CORPUS / SMALL / "02-output.jsonl"
    ).read_text()


def test_a_scenario_results_in_the_case_that_was_recorded_from_it(tmp_path: Path) -> None:
    save_case(tmp_path / SMALL, record(SMALL))
    for path in sorted((CORPUS / SMALL).iterdir()):
        assert (tmp_path / SMALL / path.name).read_text() == path.read_text(), path.name


def test_a_recording_of_a_running_daemon_becomes_a_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wire, _, b = pair()
    wire.run(2)
    recorder = Recorder(b.instance, b"salt" * 4, wire.now)
    b.instance.record_to(recorder)
    wire.originate("a", *many_prefixes(5))
    wire.run(1)
    file, corpus = tmp_path / "fault.jsonl", tmp_path / "corpus"
    corpus.mkdir()
    file.write_text(recorder.text(b.instance, wire.now))
    arguments = ["add", "a-fault", str(file), "--shows", "Five prefixes come."]
    assert main(arguments, corpus) == 0
    added = read_case(corpus / "a-fault")
    assert added.shows == "Five prefixes come."
    assert differences(corpus / "a-fault") == ""
    (came,) = replay(added)
    assert sum('"prefix": "172.16.' in line for line in came.state) == 5
    assert main(arguments, corpus) == 2
    assert "is there already" in capsys.readouterr().err
