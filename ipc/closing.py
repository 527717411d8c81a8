"""Close descriptors of untrusted peers outside the event loop, because close(2) may block.

    event loop --close(descriptor)--> queue (CLOSING_WAITING_MAX) --> CLOSING_THREADS_MAX threads

Needed before Linux 6.16 only, where a process cannot refuse descriptors (`ipc/fdpass.py`): a
connection that can carry none is closed at once. The threads start when there is something to
close, and then wait for more. They are daemon threads: a process that exits waits for none of them
(and the kernel does not wait for a socket's linger time when a process exits).

Invariants:
    Nothing here blocks the caller. A caller that checks `has_room` before it receives or accepts
    keeps the queue at CLOSING_WAITING_MAX descriptors. When the queue is full, untrusted peers have
    made CLOSING_THREADS_MAX closes block; their sockets are then no longer served, and nothing else
    is affected.

Failure: if a thread cannot be started, the running threads do the work. If none runs, the caller
closes: that may block, but the process does not run out of descriptors.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Iterable

from ipc.fdpass import DESCRIPTORS_MAX, may_carry_descriptors

__all__ = ["CLOSING_THREADS_MAX", "CLOSING_WAITING_MAX", "Closer"]

CLOSING_THREADS_MAX = 4
"""Closes that may block at the same time."""

CLOSING_WAITING_MAX = 1024
"""Descriptors that wait to be closed."""


class Closer:
    """Owns the queue and its threads."""

    def __init__(self) -> None:
        """Prepare; no thread is started yet."""
        self._waiting: deque[int] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0

    @property
    def has_room(self) -> bool:
        """Whether one more message full of descriptors can be closed."""
        return len(self._waiting) + DESCRIPTORS_MAX <= CLOSING_WAITING_MAX

    @property
    def waiting(self) -> int:
        """Descriptors that no thread has begun to close."""
        return len(self._waiting)

    def close_connection(self, connection: socket.socket) -> None:
        """Close a connection with what its sender has put into it."""
        if may_carry_descriptors(connection):
            # So that the peer is notified at once. OSError: it has closed the connection already.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            self.close([connection.detach()])
        else:
            connection.close()

    def close(self, descriptors: Iterable[int]) -> None:
        """Close descriptors that another process has opened."""
        with self._changed:
            before = len(self._waiting)
            self._waiting.extend(descriptors)
            if len(self._waiting) == before:
                return
            wanted = min(len(self._waiting) - self._idle, CLOSING_THREADS_MAX - self._threads)
            for _ in range(wanted):
                if not self._start_thread():
                    break
            self._changed.notify(len(self._waiting))
            if self._threads:
                return
        while self._waiting:
            _close(self._waiting.popleft())

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._serve, name="closer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the user has too many threads: "can't start new thread"
            return False
        self._threads += 1
        return True

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting:
                    self._changed.wait()
                self._idle -= 1
                descriptor = self._waiting.popleft()
            _close(descriptor)


def _close(descriptor: int) -> None:
    # OSError: errors of the file at its last close (EIO, ENOSPC) do not concern us.
    with contextlib.suppress(OSError):
        os.close(descriptor)
