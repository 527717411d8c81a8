"""What an engine leaves to the next one, as the parent holds it: two files in memory.

    engine 1 --writes--> memfd, memfd <--copies-- Journals (parent) --copies--> engine 2

The parent never looks inside (`routed.engine.injection.journal` does, in the engine): nothing that
a client said reaches it. But the files outlive every engine, so one that was taken over could leave
something that pins the machine's memory, or that brings down each of its successors. Against the
first, a file longer than an honest engine makes it is given up; against the second, both are, when
engine after engine took them and ended before its first desired route, or when the next engine that
dies soon would end the daemon: what they hold may kill late. What is lost then is what clients
injected; the log says so, and the daemon goes on.

A dead engine may have handed a copy of its descriptors to another process, which could go on
writing. So the next engine gets a copy of the content in a fresh file, and the old file is let go.

An engine's descriptor shares its flags with ours: appending, which the next engine counts on, is
switched on again for each.
"""

from __future__ import annotations

import fcntl
import os

from routed.imsg.messages import JOURNAL_BYTES_MAX
from routed.log.logger import Logger

__all__ = ["DEATHS_MAX", "Journals"]

DEATHS_MAX = 3
"""Of engines in a row that could not live with it; fewer than the deaths that end the daemon."""


class Journals:
    """Owns the two files, for the daemon's life."""

    def __init__(self, log: Logger) -> None:
        """Make them, empty."""
        self._log = log
        self._descriptors = [_open(), _open()]
        self._deaths = 0
        self._was_handed_over = False
        self._is_shared = False
        """Whether an engine has had these very files."""

    def copies(self) -> list[int]:
        """A descriptor of each, for a new engine; the caller's to close.

        Raises:
            OSError: none to spare, or no memory for a copy of the content.

        Cost: with engines after the first, one copy of the content, JOURNAL_BYTES_MAX at most.
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
        """An engine has ended by itself.

        Args:
            has_desired_routes: it had read what there was, and said what it wants in the kernel.
            is_next_last: the daemon ends with the next engine that dies soon.
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
        """Let go of both."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _forget(self, number: int, reason: str) -> None:
        """Begin a file anew. Another file, not a shorter one: the dead engine's clients may hold
        the old one for all we know."""
        self._replace(number, _open())
        self._log.emit("journal-given-up", number=number, reason=reason)

    def _replace(self, number: int, fresh: int) -> None:
        os.close(self._descriptors[number])
        self._descriptors[number] = fresh


def _copy(old: int) -> int:
    """A fresh file with the content of another, as far as a journal may be long.

    Raises:
        OSError: no descriptor or memory to spare.
    """
    fresh = _open()
    # sendfile(2) writes at the position, which appending ignores and some kernels refuse.
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
    """A file in memory that is only appended to."""
    descriptor = os.memfd_create("routed-injected", os.MFD_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor
