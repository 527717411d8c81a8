"""Present memory of the engine and its parent, readable even when no file can be opened any more.

getrusage reports only the peak, which never shows that a leak was fixed. /proc/PID/statm has the
present size; its descriptors are opened before the process is confined, and read again and again.

Source: proc_pid_statm(5): the second field is resident pages.
"""

from __future__ import annotations

import os
import resource

__all__ = ["ProcessMemory"]

_PAGE_BYTES = resource.getpagesize()


class ProcessMemory:
    """Owns the descriptors. To be made before the process is confined."""

    def __init__(self) -> None:
        """Open the files. Without /proc the peak is reported instead."""
        self._own = _open("self")
        self._parents = _open(str(os.getppid()))

    def resident_bytes(self) -> int:
        """Return the resident memory of this process in bytes, including shared pages."""
        found = _read(self._own)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if found is None else found

    def parent_resident_bytes(self) -> int | None:
        """Return the resident memory of the parent process in bytes; None if /proc hides the
        processes of other users (`hidepid=`)."""
        return _read(self._parents)


def _open(process: str) -> int | None:
    try:
        return os.open(f"/proc/{process}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(descriptor: int | None) -> int | None:
    """Read a resident size in bytes; None if it is not known, or not any more."""
    if descriptor is None:
        return None
    try:
        pages = int(os.pread(descriptor, 200, 0).split()[1])
    except OSError:  # ESRCH: the process has ended
        return None
    return pages * _PAGE_BYTES or None  # 0: it has ended and is a zombie
