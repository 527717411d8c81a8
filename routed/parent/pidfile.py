"""The pid file: one daemon per file, by a lock that the kernel releases when its holder ends
(`routed.parent.lockfile`).

Only the lock is relevant, neither the existence of the file nor the number in it.
"""

from __future__ import annotations

import os

from routed.parent.lockfile import LockFile, LockHeldError

__all__ = ["AlreadyRunning", "PidFile"]


class AlreadyRunning(Exception):
    """Another process holds the lock of the pid file."""


class PidFile:
    """A locked pid file."""

    def __init__(self, path: str) -> None:
        """Create the file or use an existing one, lock it and write the pid of this process.

        Raises:
            AlreadyRunning: another process holds the lock; the message says which.
            LockRefusedError: the file belongs to another user, or is not a regular file.
            OSError: the directory or the file cannot be created.
        """
        self.path = path
        try:
            self._lock = LockFile(path, f"{os.getpid()}\n")
        except LockHeldError as error:
            raise AlreadyRunning(f"already running as {error.holder} (it holds {path})") from None

    def remove(self) -> None:
        """Remove the file and release the lock."""
        self._lock.remove()
