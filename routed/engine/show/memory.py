"""How much memory the engine and its parent have now, also when no file can be opened any more.

getrusage tells only the peak, which never shows that a leak was mended. /proc/PID/statm tells the
present; its descriptors are taken before the sandbox closes and read again and again.

Source: proc_pid_statm(5): the second field is resident pages.
"""

from __future__ import annotations

import os
import resource

__all__ = ["ProcessMemory"]

_PAGE_BYTES = resource.getpagesize()


class ProcessMemory:
    """Reads resident sizes. Make it before the process is confined."""

    def __init__(self) -> None:
        """Open what is read later; where there is no /proc the peak has to do."""
        self._own = _open("self")
        self._parents = _open(str(os.getppid()))

    def resident_bytes(self) -> int:
        """Resident memory of this process, shared pages included."""
        found = _read(self._own)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if found is None else found

    def parent_resident_bytes(self) -> int | None:
        """The same of the process that started this one; None where /proc hides others' processes
        (`hidepid=`)."""
        return _read(self._parents)


def _open(process: str) -> int | None:
    try:
        return os.open(f"/proc/{process}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(descriptor: int | None) -> int | None:
    """The resident size; None when it cannot be known, or no longer."""
    if descriptor is None:
        return None
    try:
        pages = int(os.pread(descriptor, 200, 0).split()[1])
    except OSError:  # ESRCH: it has ended
        return None
    return pages * _PAGE_BYTES or None  # one that has ended and was not waited for has none
