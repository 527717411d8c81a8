"""A file whose lock says that its holder lives.

The kernel releases the lock in whatever way the holder ends, so a file that is left over never
keeps a daemon from starting. flock(2) works on any open descriptor, also on one that may only read:
the file is therefore readable by its owner alone, or any local user could take the lock.

Invariants:
    The holder's lock is on the file that the path names. A file that was removed or replaced
    between open and flock is let go, and the path is opened again: else two processes could hold
    the locks of two files of one name. The file is a plain file of this process's user with one
    name (mode 0600). What somebody else has put there is refused and neither written to nor
    removed. Only the holder removes the file, and only the one that it has locked.

Failure: `LockHeldError` with what the holder wrote; `LockRefusedError` for a file that is not ours;
OSError from the system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

__all__ = ["LockFile", "LockHeldError", "LockRefusedError"]

_MODE = 0o600
_LOCKS = "/proc/locks"
"""Who holds which file's lock, as far as they have a pid in the reader's PID namespace."""
_OPEN_ATTEMPTS_MAX = 100
"""How often the path may change its file between open and flock; each time another process has
ended or started at that moment."""
_TEXT_MAX_BYTES = 512
"""Of what the holder wrote, for a message."""


class LockHeldError(Exception):
    """Another process holds the lock. The text is what it wrote into the file."""

    def __init__(self, text: str, holder: str) -> None:
        """Args:
        text: what it wrote.
        holder: which process it is, in words.
        """
        self.holder = holder
        super().__init__(text)


class LockRefusedError(Exception):
    """The file cannot serve as a lock; the message says why and what to do."""


class LockFile:
    """A locked file, for as long as this object's descriptor lives."""

    def __init__(self, path: str, text: str) -> None:
        """Create or take over the file, lock it and write a text.

        The directory is made if it is missing.

        Args:
            path: absolute.
            text: for people, and for the message of who comes second.

        Raises:
            LockHeldError: another process holds the lock.
            LockRefusedError: the file belongs to somebody else, or is no plain file.
            OSError: the directory or the file cannot be made.
        """
        self.path = path
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        self._descriptor = _open_locked(path)
        # Over what is there, and only then cut to length: on a full file system that needs no new
        # block, so a daemon that died can always come back.
        content = text.encode()
        try:
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
        except OSError:
            os.close(self._descriptor)
            raise

    def remove(self) -> None:
        """Remove the file, unless another one has its name by now, and release the lock."""
        try:
            if _is_at(self._descriptor, self.path):
                # FileNotFoundError: somebody removed it meanwhile, as was due.
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
    """Which process holds a lock, for a message.

    What it wrote is the pid that it has in its own PID namespace, such as 1 in a container; the
    kernel says which it is here.
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
    """Those whom the kernel names as holders of flocks on files of a number.

    Raises:
        OSError: it does not say.
    """
    pids = set()
    with open(_LOCKS, encoding="ascii") as locks:
        for line in locks:
            # 1: FLOCK  ADVISORY  WRITE 1234 08:01:131090 0 EOF; with "->" one that only waits.
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                pids.add(words[4])
    return pids - {"0", "-1"}


def _check(descriptor: int, path: str) -> None:
    """Refuse what is not ours to lock and to write; close a file of ours to others."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise LockRefusedError(f"{path} is not a plain file: remove it")
    if status.st_uid != os.geteuid():
        raise LockRefusedError(f"{path} belongs to uid {status.st_uid}: remove it")
    if status.st_nlink > 1:
        raise LockRefusedError(f"{path} is a file that has another name too: remove it")
    if stat.S_IMODE(status.st_mode) != _MODE:
        os.fchmod(descriptor, _MODE)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether a path names the file of a descriptor."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
