"""The cases of this folder: reads, replays, compares and writes them (README.md: the format)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routed.config.scalars import PrefixMatch
from routed.nup.events import LearnedRow, NeighborRow
from routed.nup.instance import NeighborInstance
from routed.nup.recording.replay import RecordingError, apply_input, start_instance
from routed.nup.recording.text import read_line, without_summaries, write_output, write_value

__all__ = [
    "CORPUS", "Case", "Phase", "case_names", "case_of_recording", "differences", "read_case",
    "replay", "save_case", "save_expected",
]  # fmt: skip

CORPUS = Path(__file__).parent
OTHERS = (PrefixMatch,)
"""Classes of other packages that may be in a case."""
DIGITS = 6
"""Digits after the point, of the floats in a state."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a case: some inputs, and the state after them."""

    title: str
    inputs: tuple[dict[str, Any], ...]
    until: float
    """The time at which the state is read; seconds, on the clock of the inputs."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case as it is on disk, without its expected results."""

    shows: str
    header: dict[str, Any]
    phases: tuple[Phase, ...]


@dataclass(slots=True)
class Expected:
    """The results of one phase: the lines of its two files."""

    output: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)


def case_names() -> list[str]:
    """Return the folders of the corpus."""
    return sorted(path.parent.name for path in CORPUS.glob("*/header.json"))


def read_case(folder: Path) -> Case:
    """Read a case.

    Raises:
        RecordingError: a file is damaged; the message names it.
    """
    header = read_line((folder / "header.json").read_text(), 1)
    phases = tuple(_read_phase(path) for path in sorted(folder.glob("*-input.jsonl")))
    if not phases or not isinstance(header.get("shows"), str):
        raise RecordingError(f"{folder}: no inputs, or nothing that says what the case shows")
    shows = header.pop("shows")
    return Case(shows, header, phases)


def _read_phase(path: Path) -> Phase:
    texts = path.read_text().splitlines()
    first, *lines = [read_line(text, number) for number, text in enumerate(texts, start=1)]
    match first, lines:
        case {"phase": str(title)}, [*inputs, {"until": float(until)}]:
            return Phase(title, tuple(inputs), until)
    raise RecordingError(f"{path}: does not begin with a phase and end with its time")


def case_of_recording(text: str, shows: str) -> Case:
    """Make a case of one phase from a file of `routectl record off`.

    Raises:
    RecordingError: it is not a recording.
    """
    header, *lines = [read_line(line, at) for at, line in enumerate(text.splitlines(), start=1)]
    inputs = tuple(line for line in lines if "in" in line)
    return Case(shows, header, (Phase("as recorded", inputs, float(lines[-1]["at"])),))


# --- replaying


def replay(case: Case) -> Iterator[Expected]:
    """Feed a case to an instance. Returns the results of each phase.

    Raises:
    RecordingError: an input cannot be carried out.
    """
    instance = start_instance(case.header, OTHERS)
    for phase in case.phases:
        found = Expected()
        for number, line in enumerate(phase.inputs, start=1):
            apply_input(instance, line, OTHERS)
            found.output += [
                json.dumps({"after": number, **write_output(output)})
                for output in instance.outputs()
            ]
        found.state = list(_state_lines(instance, phase.until))
        yield found


def _state_lines(instance: NeighborInstance, now: float) -> Iterator[str]:
    """Return what `show` prints, one row a line: neighbors, routes, and counters that are not 0."""
    neighbors = [write_value(NeighborRow, row) for row in instance.neighbors(now)]
    routes = [write_value(LearnedRow, row) for row in instance.learned()]
    counters = sorted((name, count) for name, count in instance.counters().items() if count)
    yield "{"
    yield from _block('"neighbors": [', map(_rounded, neighbors), "],")
    yield from _block('"routes": [', map(_rounded, routes), "],")
    yield from _block('"counters": {', [f"{json.dumps(name)}: {n}" for name, n in counters], "}")
    yield "}"


def _rounded(row: Mapping[str, Any]) -> str:
    return json.dumps(
        {key: round(each, DIGITS) if isinstance(each, float) else each for key, each in row.items()}
    )


def _block(begin: str, items: Iterable[str], end: str) -> Iterator[str]:
    known = list(items)
    yield begin
    yield from (f"  {item}," for item in known[:-1])
    yield from (f"  {item}" for item in known[-1:])
    yield end


# --- comparing


def differences(folder: Path) -> str:
    """Return how a replay of a case differs from the expected results, as a diff; empty if it
    does not.
    """
    case = read_case(folder)
    found: list[str] = []
    for number, (phase, came) in enumerate(zip(case.phases, replay(case), strict=True), start=1):
        for kind, lines in (("output.jsonl", came.output), ("state.json", came.state)):
            path = folder / f"{number:02}-{kind}"
            expected = path.read_text().splitlines() if path.exists() else []
            if list(map(_comparable, expected)) != list(map(_comparable, lines)):
                found.append(f"phase {number}, {phase.title}")
                found += difflib.unified_diff(
                    expected, lines, f"{path.name} (expected)", f"{path.name} (now)", n=1,
                    lineterm="",
                )  # fmt: skip
    surplus = sorted(folder.glob(f"{len(case.phases) + 1:02}-*"))
    found += [f"{path.name}: belongs to no phase" for path in surplus]
    return "\n".join(found)


def _comparable(line: str) -> object:
    """Return a line without the parts that are for people only; a line of a state is not JSON
    by itself.
    """
    return without_summaries(json.loads(line)) if line.startswith('{"after"') else line


# --- writing


def save_case(folder: Path, case: Case) -> None:
    """Write a case, and the results of its replay now."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    header = json.dumps({"shows": case.shows, **case.header}, indent=1)
    (folder / "header.json").write_text(header + "\n")
    for number, phase in enumerate(case.phases, start=1):
        lines = [{"phase": phase.title}, *phase.inputs, {"until": phase.until}]
        _write(folder / f"{number:02}-input.jsonl", map(json.dumps, lines))
    save_expected(folder)


def save_expected(folder: Path) -> None:
    """Write the results of the replay now; a person reviews the difference."""
    case = read_case(folder)
    for number, came in enumerate(replay(case), start=1):
        _write(folder / f"{number:02}-output.jsonl", came.output)
        _write(folder / f"{number:02}-state.json", came.state)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
