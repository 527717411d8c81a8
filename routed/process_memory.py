"""How much memory this process has now, also when it can open no file any more.

getrusage tells only the peak, which never shows that a leak was mended. /proc/self/statm tells the
present; its descriptor is taken before the sandbox closes and read again and again.

Source: proc_pid_statm(5): the second field is resident pages.
"""

from __future__ import annotations

import os
import resource

__all__ = ["ProcessMemory"]

_PAGE_BYTES = resource.getpagesize()


class ProcessMemory:
    """Reads the resident size. Make it before the process is confined."""

    def __init__(self) -> None:
        """Open what is read later; where there is no /proc the peak has to do."""
        try:
            self._descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def resident_bytes(self) -> int:
        """Resident memory, shared pages included."""
        if self._descriptor < 0:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return int(os.pread(self._descriptor, 200, 0).split()[1]) * _PAGE_BYTES
