"""python -m tests.replay: records the cases of this folder; `-h` says how.

    python -m tests.replay list
    python -m tests.replay record [CASE ...]            run scenarios anew, and write their cases
    python -m tests.replay add CASE FILE --shows TEXT   a recording of a lab or a daemon as a case

Both write inputs, outputs and states, and nothing else does but `pytest --update-golden`, which
writes outputs and states. The difference is for a person to judge.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from routed.nup.recording.replay import RecordingError, Replay
from tests.replay.corpus import CORPUS, OTHERS, case_names, case_of_recording, save_case
from tests.replay.scenarios import SCENARIOS, record

__all__ = ["main"]


def main(arguments: list[str] | None = None, corpus: Path = CORPUS) -> int:
    """Run the program. Returns its exit status.

    Args:
    arguments: of the command line; None for those of this process.
    corpus: the folder that cases are written to.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.replay")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the cases")
    recording = commands.add_parser("record", help="run scenarios and write their cases")
    recording.add_argument("cases", nargs="*", choices=[[], *SCENARIOS], metavar="CASE")
    adding = commands.add_parser("add", help="make a case of a recording")
    adding.add_argument("case")
    adding.add_argument("file", type=Path, help="what `routectl record off` has written")
    adding.add_argument("--shows", required=True, help="one sentence: what the case shows")
    options = parser.parse_args(arguments)
    match options.command:
        case "list":
            sys.stdout.writelines(f"{name}\n" for name in case_names())
        case "record":
            for name in options.cases or SCENARIOS:
                save_case(corpus / name, record(name))
        case "add":
            return _add(corpus / options.case, options.file, options.shows)
    return 0


def _add(folder: Path, file: Path, shows: str) -> int:
    if folder.exists():
        print(f"{folder}: is there already", file=sys.stderr)
        return 2
    try:
        text = file.read_text(encoding="utf-8")
        differs = [step for step in Replay(text, OTHERS).steps() if step.differs]
        for step in differs:
            print(f"line {step.line} differs: {step.differs}", file=sys.stderr)
        save_case(folder, case_of_recording(text, shows))
    except (OSError, UnicodeDecodeError, RecordingError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 2
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
