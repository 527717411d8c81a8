"""`record off FILE`: writes a text that arrives in rows to a file.

The file is created before the request is sent, and readable by its owner only. If it cannot be
created, no request is sent, and the recording goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ipc.blocking import ControlClient, ControlError, ExitStatus
from ipc.control import Request
from routectl.render.text import duration_text

__all__ = ["STANDARD_OUTPUT", "age_of", "save"]

_AGAIN = "; the daemon keeps the recording: `record off` with another file writes it again"

STANDARD_OUTPUT = "-"
"""The path that stands for standard output."""


def save(client: ControlClient, request: Request, path: str) -> list[str]:
    """Send a request and write the text of its rows to a file. Returns the lines to print.

    The daemon keeps the text until the next `record on`, so it can be written again if writing
    ends early: by a full disk, a lost connection, or an interrupt. The part that was written is
    kept, too, as the daemon may have ended; the file is removed only if nothing was written.

    Args:
        client: the daemon.
        request: its rows have parts of a text, and its age.
        path: path of a file that does not exist yet.

    Raises:
        ControlError: the file cannot be written, or the daemon has rejected the request; the text
            says so if the file has a part of the recording.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ControlError("failed", f"{path}: {error.strerror}", ExitStatus.REFUSED) from error
    written = 0
    is_whole, age = False, ""
    try:
        for row in client.ask(request).rows():
            age = age_of(row)
            piece = memoryview(str(row.get("text", "")).encode())
            while piece:
                count = os.write(descriptor, piece)
                piece, written = piece[count:], written + count
        os.fsync(descriptor)
        is_whole = True
    except OSError as error:
        problem = f"{path}: {error.strerror}{_what_is_there(written)}{_AGAIN}"
        raise ControlError("failed", problem, ExitStatus.REFUSED) from error
    except ControlError as error:
        if not written:
            raise
        problem = f"{error.text}: {path}{_what_is_there(written)}"
        raise ControlError(error.code, problem, error.exit_status) from error
    finally:
        os.close(descriptor)
        if not is_whole and not written:
            os.unlink(path)
    return [f"{written} bytes written to {path}", *([age] if age else [])]


def age_of(row: Mapping[str, object]) -> str:
    """Return a line for a recording that an earlier request ended; empty if this one ended it."""
    ended_s = row.get("ended_s")
    return f"the recording ended {duration_text(ended_s)} ago" if ended_s else ""


def _what_is_there(written: int) -> str:
    return f"; it has only the first {written} bytes of the recording" if written else ""
