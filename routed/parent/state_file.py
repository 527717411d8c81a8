"""A text that the daemon keeps for its next start, in a file whose first line has a checksum.

    # routed 1 routed.pid.running.yaml 1234 bytes sha256 9f86d081884c7d65...
    router_id: 10.255.0.1
    ...

The first line is a YAML comment: the file can be read, compared and copied like any other
configuration. It is written completely or not at all (a new file is renamed over the old one), so
an incomplete file has been damaged later. The checksum is necessary because a truncated
configuration is often valid. The first line has the name of the file, so that no state file can
take the place of another.

A text is accepted if the file is a regular file that belongs to root or to this process's user,
cannot be written by others, and matches its first line. Hence a directory that all users can write
is safe, but not recommended: a user who can remove the files can make the daemon forget them.

Failure: `StateFileError` with a reason; OSError from the system.

Sources: rename(2) replaces a file atomically; fsync(2) of a file does not cover its directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["STATE_MAX_BYTES", "StateFileError", "read_state", "remove_state", "write_state"]

STATE_MAX_BYTES = 256 << 20
"""The most bytes of a file that are read, as many as a configuration may have."""

_FIRST_LINE = re.compile(rb"# routed 1 (\S+) (\d{1,12}) bytes sha256 ([0-9a-f]{64})")


class StateFileError(Exception):
    """The content of the file is not accepted."""


def read_state(path: Path) -> str | None:
    """Read a text that `write_state` wrote; None if the file does not exist.

    Raises:
        StateFileError: the file was not written by this daemon, is damaged, or is of an earlier
            release.
        OSError: the file cannot be read.
        UnicodeDecodeError: the text is not UTF-8.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not block the start of the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        _check_owner(status)  # before `open`, whose error for a directory names the descriptor
        with open(descriptor, "rb", closefd=False) as file:
            content = _content(file, status.st_size)
    finally:
        os.close(descriptor)
    first_line, _, text = content.partition(b"\n")
    stated = _FIRST_LINE.fullmatch(first_line)
    if stated is None:
        raise StateFileError("its first line is not that of this release of routed")
    name, size, digest = stated.groups()
    if name != os.fsencode(path.name):
        raise StateFileError(f"it was written as {name.decode('utf-8', 'replace')}")
    if len(text) != int(size):
        raise StateFileError(f"it has {len(text)} bytes of {int(size)}")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise StateFileError("it was changed: the checksum differs")
    return text.decode("utf-8")


def write_state(path: Path, text: str) -> None:
    """Write a text, completely or not at all, to a file that only this process's user can read.

    Raises:
        OSError: the file cannot be written; the old one is unchanged, unless only the sync of the
            directory failed.
    """
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # of a killed daemon, or another user's: it must not be reused
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(f"# routed 1 {path.name} {len(content)} bytes sha256 {digest}\n".encode())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove_state(path: Path) -> None:
    """Remove a state file, if it exists.

    Raises:
        OSError: the file cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Write a directory to disk, so that a rename or removal in it survives a crash.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system does not support it, fsync(2)
            raise
    finally:
        os.close(descriptor)


def _content(file: BinaryIO, size: int) -> bytes:
    """Read a file of a given size, at most STATE_MAX_BYTES; `read` allocates the size it is given.

    Raises:
        StateFileError: the content does not fit into the memory of this process.
    """
    try:
        return file.read(min(size, STATE_MAX_BYTES) + 1)  # one more, to detect a file that grows
    except MemoryError:
        raise StateFileError("it does not fit into memory") from None


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StateFileError("it is not a plain file")
    if status.st_uid not in (0, os.geteuid()):
        raise StateFileError(f"it belongs to uid {status.st_uid}")
    if status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        raise StateFileError(f"others may write it (mode {mode:04o})")
