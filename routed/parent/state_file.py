"""A text that the daemon keeps for its next start, with a first line that vouches for the rest.

    # routed 1 routed.pid.running.yaml 1234 bytes sha256 9f86d081884c7d65...
    router_id: 10.255.0.1
    ...

The first line is a comment of YAML: the file can be looked at, compared and copied like any other.
It is written whole or not at all (a new file, renamed over the old one), so what is not whole was
damaged by somebody or something else; a configuration that ends too early is often a right one, and
smaller. The name is part of it, so that one file cannot stand for another.

A text is believed when the file is a plain one, belongs to root or to this process's user, cannot
be written by others, and is what its first line says. A directory that everybody may write is
therefore safe, though no good place: who removes the files there has the daemon forget them.

Failure: `StateFileError` with a reason; OSError from the system.

Sources: rename(2) replaces atomically; fsync(2), the directory is synced by itself.
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
"""More than a configuration can have."""

_FIRST_LINE = re.compile(rb"# routed 1 (\S+) (\d{1,12}) bytes sha256 ([0-9a-f]{64})")


class StateFileError(Exception):
    """What is in the file cannot be believed."""


def read_state(path: Path) -> str | None:
    """Read a text that `write_state` wrote; None when there is none.

    Raises:
        StateFileError: the file is not ours, not whole, or of an earlier release.
        OSError: it cannot be read.
    """
    try:
        # Not blocking: a name that leads to a FIFO must not hang the daemon's start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_owner(status)
        content = _content(file, status.st_size)
    first_line, _, text = content.partition(b"\n")
    stated = _FIRST_LINE.fullmatch(first_line)
    if stated is None:
        raise StateFileError("its first line is not that of routed, or of an earlier release")
    name, size, digest = stated.groups()
    if name != os.fsencode(path.name):
        raise StateFileError(f"it was written as {name.decode('utf-8', 'replace')}")
    if len(text) != int(size):
        raise StateFileError(f"it has {len(text)} bytes of {int(size)}")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise StateFileError("it was changed: the checksum is another")
    return text.decode("utf-8")


def write_state(path: Path, text: str) -> None:
    """Write a text, whole or not at all, readable by our user alone.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # of a start that was killed, or planted: not to be written into
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
    """Remove a text, if there is one.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Have on disk which file a name leads to, before anybody relies on it.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing, fsync(2)
            raise
    finally:
        os.close(descriptor)


def _content(file: BinaryIO, size: int) -> bytes:
    """The whole file; `read` allocates what it is asked for, so it is asked for no more than that.

    Raises:
        StateFileError: it does not fit into the memory that this process may have.
    """
    try:
        return file.read(min(size, STATE_MAX_BYTES) + 1)  # one more: what grows is not whole
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
