"""The journals, two files in memory by which an engine hands injected routes to the next one.

    engine 1 --writes--> memfd, memfd <--copies-- Journals (parent) --copies--> engine 2

The parent never reads the files (`routed.engine.injection.journal` does, in the engine), because
they have data of clients. But the files exist longer than any engine, so a compromised engine could
leave a file that uses up the machine's memory, or that makes each of its successors fail. Hence a
file that is longer than a correct engine makes it is replaced by an empty one. So are both files if
several engines in a row received them and ended before their first desired route, or if the daemon
would end with the next engine that dies soon, because their content may also do harm later. The
injected routes are lost then, which the log reports, and the daemon continues.

A dead engine may have passed a copy of its descriptors to another process, which could continue to
write. Hence the next engine gets a copy of the content in a fresh file, and the old file is closed.

The descriptors of engine and parent share their file status flags. Hence O_APPEND, which the next
engine relies on, is set again before each engine gets its descriptors.
"""

from __future__ import annotations

import fcntl
import os

from routed.imsg.messages import JOURNAL_BYTES_MAX
from routed.log.logger import Logger

__all__ = ["DEATHS_MAX", "Journals"]

DEATHS_MAX = 3
"""How many engines in a row may fail with the journals; fewer than the deaths that end the
daemon."""


class Journals:
    """The owner of the two files."""

    def __init__(self, log: Logger) -> None:
        """Create both files, empty."""
        self._log = log
        self._descriptors = [_open(), _open()]
        self._deaths = 0
        self._was_handed_over = False
        self._is_shared = False
        """Whether an engine has received descriptors of the present files."""

    def copies(self) -> list[int]:
        """Return a new descriptor of each file for a new engine; the caller owns them.

        Raises:
            OSError: there is no free descriptor, or no memory for a copy of the content.

        Cost: for each engine but the first, a copy of both files, each of at most
        JOURNAL_BYTES_MAX.
        """
        for number, descriptor in enumerate(self._descriptors):
            size = os.fstat(descriptor).st_size
            if size > JOURNAL_BYTES_MAX:
                self._forget(number, f"it has {size} bytes, over {JOURNAL_BYTES_MAX}")
            elif self._is_shared and size:
                self._replace(number, _copy(descriptor))
        copies: list[int] = []
        try:
            for descriptor in self._descriptors:
                fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
                copies.append(os.dup(descriptor))
        except OSError:
            for copy in copies:
                os.close(copy)
            raise
        self._was_handed_over = True
        self._is_shared = True
        return copies

    def engine_died(self, *, has_desired_routes: bool, is_next_last: bool = False) -> None:
        """Handle the death of an engine, and replace the files if they may be the cause.

        Args:
            has_desired_routes: whether it had sent desired routes, which it does after it has read
                the journals.
            is_next_last: whether the daemon would end with the next engine that dies soon.
        """
        if is_next_last and self._was_handed_over:
            self._give_up("the next engine is the last one that is tried: it does without it")
        if has_desired_routes:
            self._deaths = 0
        elif self._was_handed_over:
            self._deaths += 1
        self._was_handed_over = False
        if self._deaths < DEATHS_MAX:
            return
        self._give_up(f"{DEATHS_MAX} engines in a row died of it, for all we know")

    def _give_up(self, reason: str) -> None:
        self._deaths = 0
        for number, descriptor in enumerate(self._descriptors):
            if os.fstat(descriptor).st_size:
                self._forget(number, reason)

    def close(self) -> None:
        """Close both files."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _forget(self, number: int, reason: str) -> None:
        """Replace a journal by an empty file. The old one is not truncated and used again, because
        other processes may have copies of its descriptor."""
        self._replace(number, _open())
        self._log.emit("journal-given-up", number=number, reason=reason)

    def _replace(self, number: int, fresh: int) -> None:
        os.close(self._descriptors[number])
        self._descriptors[number] = fresh


def _copy(old: int) -> int:
    """Create a file with the first JOURNAL_BYTES_MAX of another one. Returns its descriptor.

    Raises:
        OSError: there is no free descriptor, or no memory.
    """
    fresh = _open()
    # sendfile(2) writes at the file position, which O_APPEND ignores and some kernels refuse.
    fcntl.fcntl(fresh, fcntl.F_SETFL, 0)
    offset = 0
    try:
        while offset < JOURNAL_BYTES_MAX:
            sent = os.sendfile(fresh, old, offset, JOURNAL_BYTES_MAX - offset)
            if sent == 0:
                break
            offset += sent
    except OSError:
        os.close(fresh)
        raise
    return fresh


def _open() -> int:
    """Create an empty file in memory, for appending. Returns its descriptor."""
    descriptor = os.memfd_create("routed-injected", os.MFD_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor
