"""Replay of a recording: feeds its inputs to an instance, and compares the outputs.

The behaviour of a daemon in the field can be examined step by step on another machine, and a
recording of a fault, once the fault is fixed, is a test (`tests/replay`).

Failure: a text that is no recording, or of another format, is `RecordingError`. So is one whose
state NUP cannot be in: the exception that NUP raises on it is the cause.

Bounds: RECORDING_BYTES_MAX for the text; see `text` and `saved_state` for its parts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ipc.lazy_dataclass import dataclass
from routed.nup.instance import NeighborInstance
from routed.nup.recording.saved_state import load_state
from routed.nup.recording.text import (
    FORMAT,
    RECORDING_BYTES_MAX,
    NewInstance,
    RecordingError,
    read_arguments,
    read_line,
    read_value,
    summarize_state,
    without_summaries,
    write_output,
)

__all__ = ["RecordingError", "Replay", "Step", "apply_input", "start_instance"]


def start_instance(header: Mapping[str, Any], others: Sequence[type] = ()) -> NeighborInstance:
    """Make the instance that a recording begins with.

    Args:
        header: the first line of the recording.
        others: classes of other packages that may be in it, such as prefix tests of filters.

    Raises:
        RecordingError: it is no header, or of another format.
    """
    number = header.get("routed-recording")
    if number != FORMAT:
        if type(number) is int:
            raise RecordingError(
                f"it is a recording of format {number}, and this release reads format {FORMAT}; "
                f"replay it with the release that made it"
            )
        raise RecordingError("it is no recording")
    match header.get("start"):
        case {"state": packed}:
            return load_state(packed, others)
        case {"new": arguments}:
            new = read_value(NewInstance, arguments)
            rng = random.Random(new.seed)  # noqa: S311 a recording repeats what it did
            try:
                return NeighborInstance(new.router_id, new.boot_id, new.origin_seqno, rng)
            except Exception as error:
                raise RecordingError(f"line 1: {error}") from error
    raise RecordingError("line 1: it does not say what the recording starts with")


def apply_input(
    instance: NeighborInstance, line: Mapping[str, Any], others: Sequence[type] = ()
) -> str:
    """Carry out one input of a recording.

    Args:
        instance: in the state after the inputs before.
        line: the input.
        others: as for `start_instance`.

    Returns:
        The name of the input.

    Raises:
        RecordingError: it is no input, or NUP cannot carry it out.
    """
    name, arguments = read_arguments(line, others)
    try:
        getattr(instance, name)(*arguments)
    except Exception as error:
        # A fabricated state can be one that NUP is never in, and break it anywhere.
        raise RecordingError(f"{name}: {type(error).__name__}: {error}") from error
    return name


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a replay."""

    line: int
    """Number of the recording's line, from 1."""
    name: str
    """Name of the input; `out` for outputs, `end` for the last line."""
    text: tuple[str, ...]
    """The input, or the outputs of this replay, for people."""
    differs: str = ""
    """The difference from the recording; empty when there is none."""


class Replay:
    """A recording, and the instance that its inputs are fed to."""

    def __init__(self, text: str, others: Sequence[type] = ()) -> None:
        """Read the header of a recording.

        Args:
            text: the result of `Recorder.text`.
            others: as for `start_instance`.

        Raises:
            RecordingError: it is no recording.
        """
        if len(text) > RECORDING_BYTES_MAX:
            raise RecordingError(f"it has more than {RECORDING_BYTES_MAX} bytes")
        self._others = others
        self._lines = text.splitlines()
        header = read_line(self._lines[0] if self._lines else "", 1)
        self.instance = start_instance(header, others)

    def steps(self) -> Iterator[Step]:
        """Replay it, step by step; the instance may be examined in between.

        Raises:
            RecordingError: a line is damaged, or cannot be carried out.
        """
        for number, text in enumerate(self._lines[1:], start=2):
            line = read_line(text, number)
            try:
                step = self._step(number, line)
            except RecordingError as error:
                raise RecordingError(f"line {number}: {error}") from error
            except Exception as error:
                # A fabricated state may hold values that no output or view can be made of.
                raise RecordingError(f"line {number}: {type(error).__name__}: {error}") from error
            yield step

    def _step(self, number: int, line: dict[str, Any]) -> Step:
        if "in" in line:
            name = apply_input(self.instance, line, self._others)
            return Step(number, name, (describe_input(line),))
        match line:
            case {"out": list(expected)}:
                return self._compare(number, expected)
            case {"end": "full"}:
                return Step(number, "end", ("the recording was full",))
            case {"end": "complete", "at": int() | float() as now, "state": dict(expected)}:
                return self._finish(number, now, expected)
        raise RecordingError("neither input nor output")

    def _compare(self, number: int, expected: list[Any]) -> Step:
        outputs = self.instance.outputs()
        written = [write_output(output) for output in outputs]
        differs = ""
        for at in range(max(len(written), len(expected))):
            now = written[at] if at < len(written) else None
            then = expected[at] if at < len(expected) else None
            if without_summaries(now) != without_summaries(then):
                differs = (
                    f"output {at + 1}: then {_describe_output(then)}; now {_describe_output(now)}"
                )
                break
        return Step(number, "out", tuple(map(_describe_output, written)), differs)

    def _finish(self, number: int, now: float, expected: dict[str, Any]) -> Step:
        state = summarize_state(self.instance, now)
        different = [name for name in state if state[name] != expected.get(name)]
        parts = [f"{name}: then {expected.get(name)}; now {state[name]}" for name in different]
        return Step(number, "end", ("complete",), "; ".join(parts))


def describe_input(line: Mapping[str, Any]) -> str:
    """Describe the arguments of an input for people, in short."""
    parts = []
    for name, value in line.items():
        match value:
            case [{"data": _}, *_]:
                parts += [
                    f"link {each.get('ifindex')} from {each.get('source')}: {each.get('summary')}"
                    for each in value
                ]
            case {"ifname": ifname, "ifindex": ifindex}:
                parts.append(f"{ifname} ({ifindex})")
            case dict():
                parts.append(name)
            case _ if name != "in":
                parts.append(f"{name} {_short(value)}")
    return ", ".join(parts)


def _describe_output(output: Any) -> str:
    if not isinstance(output, dict):
        return "nothing" if output is None else str(output)
    fields = [f"{name}={_short(each)}" for name, each in output.items() if name != "out"]
    return f"{output.get('out')}({', '.join(fields)})"


def _short(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_short, value))}]"
        case dict():
            return f"({', '.join(f'{name}={_short(each)}' for name, each in value.items())})"
    return str(value)
