"""python -m routed.replay FILE: replay a recording of `routectl record`, step by step.

Prints each input and what came of it, and names what differs from the recording. To look for a
fault, read along, or run it in a debugger:

    routectl record on
    ...                              the fault happens
    routectl record off fault.jsonl
    python -m routed.replay fault.jsonl

`--state` prints the state that the recording begins with instead, one object a line
(`routed/nup/recording/saved_state.py` has the form).

Exit status: 0 all as it was, 1 something differs, 2 the file is no recording of this release.
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
"""Of this program: a recording that was made up can have NUP ask for any amount."""


def read_recording(text: str) -> Replay:
    """A recording of the daemon: filters in it test prefixes as routes.yaml writes them.

    Raises:
        RecordingError: it is none.
    """
    return Replay(text, (PrefixMatch,))


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m routed.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="what `routectl record off` has written")
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
        raise RecordingError("line 1: it does not say what the recording starts with")
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
