"""A file whose lock shows that the process which holds it is running.

The kernel releases the lock however the holder ends, so a file that is left over never prevents the
start of a daemon. flock(2) works on any open descriptor, even one that is open for reading only.
Hence only the owner can open the file; otherwise any local user could lock it.

Invariants:
    The holder's lock is on the file that the path names. A file that was removed or replaced
    between open and flock is closed, and the path is opened again: otherwise two processes could
    hold the locks of two files with the same path. The file is a regular file of this process's
    user with a single name (mode 0600). Another file is refused, and neither written nor removed.
    Only the holder removes the file, and only the file that it has locked.

Failure: `LockHeldError` with the text of the holder; `LockRefusedError` for a file that cannot be
used; OSError from the system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

__all__ = ["LockFile", "LockHeldError", "LockRefusedError"]

_MODE = 0o600
_LOCKS = "/proc/locks"
"""The kernel's list of locks, with pids of the reader's PID namespace."""
_OPEN_ATTEMPTS_MAX = 100
"""How often the file of the path may be replaced between open and flock; each time another process
has ended or started at that moment."""
_TEXT_MAX_BYTES = 512
"""The most bytes of the holder's text that a message has."""


class LockHeldError(Exception):
    """Another process holds the lock; the message is the text that it wrote to the file."""

    def __init__(self, text: str, holder: str) -> None:
        """Keep the holder.

        Args:
            text: the text that it wrote.
            holder: a description of the process.
        """
        self.holder = holder
        super().__init__(text)


class LockRefusedError(Exception):
    """The file cannot serve as a lock; the message says why and what to do."""


class LockFile:
    """A locked file; the lock is held as long as the descriptor of this object is open."""

    def __init__(self, path: str, text: str) -> None:
        """Create the file or use an existing one, lock it and write a text.

        The directory is created if it is missing.

        Args:
            path: absolute path.
            text: the content of the file, which a second process reports.

        Raises:
            LockHeldError: another process holds the lock.
            LockRefusedError: the file belongs to another user, or is not a regular file with a
                single name.
            OSError: the directory or the file cannot be created.
        """
        self.path = path
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        self._descriptor = _open_locked(path)
        # Overwrite the old content first and truncate afterwards: on a full file system that needs
        # no new block, so a daemon that died can always be started again.
        content = text.encode()
        try:
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
        except OSError:
            os.close(self._descriptor)
            raise

    def remove(self) -> None:
        """Remove the file, unless the path names another file by now, and release the lock."""
        try:
            if _is_at(self._descriptor, self.path):
                # FileNotFoundError: it has been removed in the meantime.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
        finally:
            os.close(self._descriptor)


def _open_locked(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(_OPEN_ATTEMPTS_MAX):
        descriptor = os.open(path, flags, _MODE)
        try:
            _check(descriptor, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            text = os.pread(descriptor, _TEXT_MAX_BYTES, 0).decode("utf-8", "replace").strip()
            holder = _describe_holder(os.fstat(descriptor).st_ino, text)
            os.close(descriptor)
            raise LockHeldError(text, holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise LockRefusedError(f"{path} is replaced again and again by another process")


def _describe_holder(inode: int, text: str) -> str:
    """Describe the process that holds a lock, for a message.

    The text has the pid in the holder's PID namespace, such as 1 in a container; the kernel's list
    has the pid in this one.
    """
    try:
        pids = _pids_holding(inode)
    except OSError:  # no /proc here
        return f"pid {text} by its own count" if text.isdecimal() else "another process"
    if text in pids:
        return f"pid {text}"
    # Files of several file systems may have one inode number.
    return f"pid {pids.pop()}" if len(pids) == 1 else "a process that is not visible here"


def _pids_holding(inode: int) -> set[str]:
    """Return the pids that hold a flock on a file with this inode number.

    Raises:
        OSError: the kernel's list cannot be read.
    """
    pids = set()
    with open(_LOCKS, encoding="ascii") as locks:
        for line in locks:
            # 1: FLOCK  ADVISORY  WRITE 1234 08:01:131090 0 EOF; "->" marks a process that waits.
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                pids.add(words[4])
    return pids - {"0", "-1"}


def _check(descriptor: int, path: str) -> None:
    """Refuse a file that must not be locked and written; set the mode of one that may be."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise LockRefusedError(f"{path} is not a plain file: remove it")
    if status.st_uid != os.geteuid():
        raise LockRefusedError(f"{path} belongs to uid {status.st_uid}: remove it")
    if status.st_nlink > 1:
        raise LockRefusedError(f"{path} is a file that has another name as well: remove it")
    if stat.S_IMODE(status.st_mode) != _MODE:
        os.fchmod(descriptor, _MODE)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether a path names the file of a descriptor."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
