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

    Args:
        client: the daemon.
        request: its rows have one column, pieces of a text.
        path: of a file that does not exist yet.

    Raises:
        ControlError: the file cannot be written, or the daemon has said no; there is no file then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ControlError("failed", f"{path}: {error.strerror}", ExitStatus.REFUSED) from error
    written = 0
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            for row in client.ask(request).rows():
                written += file.write(str(row.get("text", "")))
    except OSError as error:
        os.unlink(path)
        raise ControlError("failed", f"{path}: {error.strerror}", ExitStatus.REFUSED) from error
    except ControlError:
        os.unlink(path)
        raise
    return [f"{written} bytes written to {path}"]
