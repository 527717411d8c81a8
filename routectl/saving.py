"""`record off FILE`: a text that comes in rows goes into a file.

The file is made first, and only for its owner: where it cannot be made, the daemon is not asked,
and what it has written down so far is not lost for a misspelt path.
"""

from __future__ import annotations

import os

from ipc.blocking import ControlClient, ControlError, ExitStatus
from ipc.control import Request

__all__ = ["STANDARD_OUTPUT", "save"]

STANDARD_OUTPUT = "-"
"""The path that means no file."""


def save(client: ControlClient, request: Request, path: str) -> list[str]:
    """Ask, and write what comes; what to say then.

    The daemon forgets the text while it answers. So a part of it is kept, whatever ends the
    writing: a full disk, a lost connection, or an interrupt. The file is removed only if nothing
    was written.

    Args:
        client: the daemon.
        request: its rows have one column, pieces of a text.
        path: of a file that does not exist yet.

    Raises:
        ControlError: the file cannot be written, or the daemon has said no; the error says so if
            the file has a part of the text.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ControlError("failed", f"{path}: {error.strerror}", ExitStatus.REFUSED) from error
    written = 0
    is_whole = False
    try:
        for row in client.ask(request).rows():
            piece = memoryview(str(row.get("text", "")).encode())
            while piece:
                count = os.write(descriptor, piece)
                piece, written = piece[count:], written + count
        os.fsync(descriptor)
        is_whole = True
    except OSError as error:
        problem = f"{path}: {error.strerror}{_what_is_there(written)}"
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
    return [f"{written} bytes written to {path}"]


def _what_is_there(written: int) -> str:
    return f"; it has only the first {written} bytes of the recording" if written else ""
