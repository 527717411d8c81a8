"""How routectl ends: its exit status, whatever becomes of the place it writes to.

    run_to_end(lambda: ...)  ->  the status of the command
                             ->  0     the reader has left, as `head` does
                             ->  5     the answer could not be written: a full disk, a dead terminal
                             ->  130   Ctrl-C

An answer may wait in a buffer until the end, so what is buffered is written here, where a failure
can still be said and has a status of its own.

Only what a one-shot command has loaded already is imported.
"""

from __future__ import annotations

import os
import sys

from ipc.standard_streams import open_nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CANNOT_BE_SHOWN",
    "INTERRUPTED",
    "UNWRITTEN",
    "cannot_be_shown",
    "prepare_streams",
    "run_to_end",
]

CANNOT_BE_SHOWN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What writing rows ends with that no honest daemon sends: a hop that is a number, a cost that is a
list. They are the daemon's fault, and said in one line like any other."""

UNWRITTEN = 5
"""`ExitStatus.UNWRITTEN`, which a quick `show` has no time to load; a test holds the two equal."""
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports a command that Ctrl-C ended."""


def prepare_streams() -> None:
    """Take the places of standard streams that are closed, and let no character stop an answer.

    A name may have characters that the terminal's encoding lacks, and a file of commands bytes that
    are no text; they are escaped.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from ipc.standard_streams import occupy_standard_streams

        occupy_standard_streams()
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        reconfigure = getattr(stream, "reconfigure", None)  # a test may have put another there
        if reconfigure is not None:
            reconfigure(errors=errors)


def cannot_be_shown(error: BaseException) -> str:
    """What to say of it."""
    return f"routed sent an answer that cannot be shown: {type(error).__name__}: {error}"[:500]


def run_to_end(run: Callable[[], int]) -> int:
    """Run the program and write what is buffered; the exit status."""
    try:
        status = _status_of(run)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise  # not of a system call, so not of writing
        _forget_output()
        _complain(error)
        return UNWRITTEN
    return status


def _status_of(run: Callable[[], int]) -> int:
    try:
        return run()
    except SystemExit as end:  # argparse, after --help
        return end.code if isinstance(end.code, int) else 0


def _forget_output() -> None:
    """Python writes what is buffered once more when it ends, and would fail again."""
    nowhere = open_nothing(takes_writes=True)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _complain(error: OSError) -> None:
    reason = error.strerror or str(error)
    try:
        sys.stderr.write(f"routectl: the answer cannot be written: {reason}\n")
        sys.stderr.flush()
    except OSError:
        pass  # standard error is full as well, and the exit status says it
