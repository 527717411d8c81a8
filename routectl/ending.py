"""The end of the program: its exit status, including failures of its output.

    run_to_end(lambda: ...)  ->  the status of the command
                             ->  0     the reader has closed the pipe, as `head` does
                             ->  5     the answer could not be written: a full disk, a dead terminal
                             ->  130   Ctrl-C

Output may be buffered until the end. It is flushed here, where a failure can still be reported and
has its own exit status.

Imports only modules that a one-shot command has loaded already.
"""

from __future__ import annotations

import io
import os
import sys

from ipc.standard_streams import open_nothing
from routectl.interrupts import INTERRUPTED, INTERRUPTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

__all__ = [
    "CANNOT_BE_SHOWN",
    "UNWRITTEN",
    "cannot_be_shown",
    "prepare_streams",
    "run_to_end",
]

CANNOT_BE_SHOWN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions raised by the renderers for rows that only a faulty daemon sends: a next hop that is a
number, a cost that is a list. They are reported in one line, as an error of the daemon."""

UNWRITTEN = 5
"""`ExitStatus.UNWRITTEN`, copied because a quick `show` does not load that module; a test compares
the two."""


def prepare_streams() -> None:
    """Replace standard streams that are closed, and have characters that cannot be encoded escaped.

    A name may have characters that the terminal's encoding lacks, and a file of commands may have
    bytes that are not text. Both are escaped instead of raising an error. Standard output is
    buffered, whatever $PYTHONUNBUFFERED says: an unbuffered one loses what a signal leaves of a
    write.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from ipc.standard_streams import occupy_standard_streams

        occupy_standard_streams()
    out = sys.__stdout__
    if out is not None and out is sys.stdout and isinstance(out.buffer, io.RawIOBase):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(out.fileno(), "w", closefd=False)),
            encoding=out.encoding,
            line_buffering=out.isatty(),
        )
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        reconfigure = getattr(stream, "reconfigure", None)  # a test may have replaced the stream
        if reconfigure is not None:
            reconfigure(errors=errors)


def cannot_be_shown(error: BaseException) -> str:
    """Return the error message for a row that cannot be rendered."""
    return f"routed sent an answer that cannot be shown: {type(error).__name__}: {error}"[:500]


def run_to_end(run: Callable[[], int]) -> int:
    """Run the program and flush its output. Returns the exit status."""
    try:
        status = _status_of(run)
        with INTERRUPTS.allowed():
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        _forget_output()
        return 0
    except KeyboardInterrupt:
        _forget_output()  # what its reader does not take
        return INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise  # not from a system call, so not from writing
        _forget_output()
        _complain(error)
        return UNWRITTEN
    return status


def _status_of(run: Callable[[], int]) -> int:
    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # raised by argparse after --help
        return end.code if isinstance(end.code, int) else 0


def _forget_output(stream: TextIO | None = None) -> None:
    """Redirect a stream, by default standard output, to /dev/null: Python flushes it again at exit,
    and would fail again."""
    nowhere = open_nothing(takes_writes=True)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def _complain(error: OSError) -> None:
    reason = error.strerror or str(error)
    try:
        sys.stderr.write(f"routectl: the answer cannot be written: {reason}\n")
        sys.stderr.flush()
    except OSError:
        _forget_output(sys.stderr)  # it is full as well; the exit status reports the failure
