"""python -m routed.replay FILE: replay a recording of `routectl record`, step by step.

Prints each input with its outputs, and each difference from the recording. To find a fault, read
the output, or run the program in a debugger:

    routectl record on
    ...                              the fault happens
    routectl record off fault.jsonl
    python -m routed.replay fault.jsonl

`--state` prints only the state at the start of the recording, one object per line (its format is in
`routed/nup/recording/saved_state.py`).

Exit status: 0 no difference, 1 a difference, 2 the file is not a recording of this release.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path

from routed.config.scalars import PrefixMatch
from routed.nup.recording.replay import RecordingError, Replay
from routed.nup.recording.saved_state import read_state
from routed.nup.recording.text import RECORDING_BYTES_MAX, read_line

__all__ = ["MEMORY_BYTES_MAX", "main", "read_recording"]

MEMORY_BYTES_MAX = 4 << 30
"""The memory limit of this program: a forged recording can make NUP request any amount."""


def read_recording(text: str) -> Replay:
    """Read a recording of the daemon, whose filters have prefixes in the form of routes.yaml.

    Raises:
        RecordingError: the text is not a recording of this release.
    """
    return Replay(text, (PrefixMatch,))


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m routed.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="a file of `routectl record off`")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what differs")
    parser.add_argument("--state", action="store_true", help="print the state at the start")
    options = parser.parse_args(arguments)
    inputs = differing = 0
    try:
        text = _read(options.file)
        if options.state:
            return _print_state(text)
        replay = read_recording(text)
        for step in replay.steps():
            inputs += step.name not in ("out", "end")
            differing += bool(step.differs)
            if not options.quiet:
                _say(f"{step.line}: {step.name}", *step.text)
            if step.differs:
                _say(f"{step.line}: DIFFERS: {step.differs}")
    except (OSError, UnicodeDecodeError, RecordingError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    _say(f"{inputs} inputs replayed, {differing} differences")
    return 1 if differing else 0


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(RECORDING_BYTES_MAX + 1)


def _print_state(text: str) -> int:
    start = read_line(text.partition("\n")[0], 1).get("start")
    if not isinstance(start, dict):
        raise RecordingError("line 1: the state at the start is missing")
    entries = read_state(start["state"]) if "state" in start else [start]
    lines = (f"{number}: {json.dumps(entry)}\n" for number, entry in enumerate(entries))
    sys.stdout.writelines(lines)
    return 0


def _say(first: str, *more: str) -> None:
    sys.stdout.write("\n    ".join([first, *more]) + "\n")


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES_MAX if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES_MAX, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    _limit_memory()
    sys.exit(main())
