"""The pid file: one daemon per file, by a lock that dies with its holder.

The lock is what counts, not the file's existence or the number in it: the kernel releases it
whatever way the holder ends, so a stale file never keeps a daemon from starting.
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["AlreadyRunning", "PidFile"]


class AlreadyRunning(Exception):
    """Another daemon holds the pid file."""


class PidFile:
    """A locked pid file, for as long as this object's descriptor lives."""

    def __init__(self, path: str) -> None:
        """Create or take over the file, lock it and write our pid.

        Raises:
            AlreadyRunning: somebody holds the lock; the message names the pid.
            OSError: the directory or the file cannot be made.
        """
        self.path = path
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"already running as pid {holder or 'unknown'} (it holds {path})"
            ) from None
        # Over what is there, and only then cut to length: on a full file system that needs no new
        # block, so a daemon that died can always come back.
        text = f"{os.getpid()}\n".encode()
        try:
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
        except OSError:
            os.close(self._descriptor)
            raise

    def remove(self) -> None:
        """Take the file away and release the lock."""
        os.unlink(self.path)
        os.close(self._descriptor)
