"""The pid file: one daemon per file, by a lock that dies with its holder
(`routed.parent.lockfile`).

The lock is what counts, not the file's existence or the number in it.
"""

from __future__ import annotations

import os

from routed.parent.lockfile import LockFile, LockHeldError

__all__ = ["AlreadyRunning", "PidFile"]


class AlreadyRunning(Exception):
    """Another daemon holds the pid file."""


class PidFile:
    """A locked pid file, for as long as this object lives."""

    def __init__(self, path: str) -> None:
        """Create or take over the file, lock it and write our pid.

        Raises:
            AlreadyRunning: somebody holds the lock; the message says which process.
            LockRefusedError: the file belongs to somebody else, or is no plain file.
            OSError: the directory or the file cannot be made.
        """
        self.path = path
        try:
            self._lock = LockFile(path, f"{os.getpid()}\n")
        except LockHeldError as error:
            raise AlreadyRunning(f"already running as {error.holder} (it holds {path})") from None

    def remove(self) -> None:
        """Take the file away and release the lock."""
        self._lock.remove()
