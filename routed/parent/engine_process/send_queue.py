"""The queue of messages and pending notifications from the parent to one engine.

    send         in order: a configuration, a socket per link, an answer per request
    links        changed links; the state of each is read when its turn comes
    progress     a mark that the FIB has progress to report, read when its turn comes
    imported     the same for imported routes
    refusals     the numbers of refused system calls
    log lines    the newest LOG_LINES_KEPT

Most entries are state, and few messages have to be sent in order, so a slow engine costs the parent
little memory. An engine with more than MESSAGES_MAX of them pending no longer keeps up. While an
engine is being configured, only messages in order are sent.

Invariants:
    The queue owns each descriptor until it is popped or the queue is closed. A descriptor that is
    queued after the engine ended is closed at once: an open socket would keep its port occupied.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import trio

from routed.imsg.messages import (
    LOG_LINES_KEPT,
    FibProgress,
    LinkChanged,
    LinkRemoved,
    LogLine,
    MessagesDropped,
    RefusalsCounted,
    RoutesImported,
)
from routed.model.link import Interface

__all__ = ["MESSAGES_MAX", "Outgoing", "SendQueue", "StateSource"]

MESSAGES_MAX = 16_384
"""Most messages in order: enough for a configuration of hundreds of megabytes, or for the sockets
of links that flap."""


class StateSource(Protocol):
    """The source of state that is read at the time it is sent."""

    def link(self, ifindex: int) -> Interface | None:
        """Return the current state of a link; None if it does not exist."""
        ...

    def pop_progress(self) -> FibProgress | None:
        """Pop the next FIB progress for the engine; None if there is none."""
        ...

    def pop_imported(self) -> RoutesImported | None:
        """Pop the next changes of imported routes for the engine; None if there are none."""
        ...


class Outgoing(NamedTuple):
    """One message, the id of the request that it answers (0: none), and its descriptor."""

    message: object
    request_id: int = 0
    descriptor: int | None = None


class SendQueue:
    """The owner of everything that was not sent to one engine yet."""

    def __init__(self, source: StateSource) -> None:
        """Begin with nothing to send; `source` has the state that is read later."""
        self._source = source
        self._wake = trio.Event()
        self._messages: deque[Outgoing] = deque()
        self._links: dict[int, None] = {}
        self._has_progress = False
        self._has_imported = False
        self._refusals: Mapping[str, int] | None = None
        self._dropped: int | None = None
        self._log_lines: deque[LogLine] | None = None
        self._is_closed = False

    def send(self, message: object, request_id: int = 0, descriptor: int | None = None) -> None:
        """Queue one message, in order. After `close`, only the descriptor is closed."""
        if self._is_closed:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._messages.append(Outgoing(message, request_id, descriptor))
        self.wake()

    @property
    def is_full(self) -> bool:
        """Whether more messages are queued than an engine that keeps up ever has."""
        return len(self._messages) > MESSAGES_MAX

    def mark_link(self, ifindex: int) -> None:
        """Record that a link has changed."""
        self._links[ifindex] = None
        self.wake()

    def mark_progress(self) -> None:
        """Record that the FIB has progress to report."""
        self._has_progress = True
        self.wake()

    def mark_imported(self) -> None:
        """Record that imported routes have changed."""
        self._has_imported = True
        self.wake()

    def report_refusals(self, calls: Mapping[str, int]) -> None:
        """Record that more system calls were refused.

        Args:
            calls: number of refused calls by name; read when it is sent.
        """
        self._refusals = calls
        self.wake()

    def report_dropped(self, count: int) -> None:
        """Record how many messages to engines could not be sent so far."""
        self._dropped = count
        self.wake()

    def send_log(self, lines: Iterable[LogLine]) -> None:
        """Queue the lines that were logged before this engine, and those that follow it."""
        self._log_lines = deque(lines, maxlen=LOG_LINES_KEPT)
        self.wake()

    def send_line(self, line: LogLine) -> None:
        """Queue a log line; if the engine does not keep up, the oldest lines are dropped.

        A line that is logged before `send_log` is one of the lines of that.
        """
        if self._log_lines is not None:
            self._log_lines.append(line)
            self.wake()

    def wake(self) -> None:
        """Wake `wait`: there is something to send, or more kinds of messages may be sent now."""
        self._wake.set()

    async def wait(self) -> None:
        """Wait until there may be something to send."""
        await self._wake.wait()
        self._wake = trio.Event()

    def pop(self, *, is_running: bool) -> Outgoing | None:
        """Pop the next message; the caller closes its descriptor. None if there is nothing to send.

        Args:
            is_running: whether the engine has applied its configuration.
        """
        if self._messages:
            return self._messages.popleft()
        if not is_running:
            return None
        if self._links:
            ifindex = next(iter(self._links))
            del self._links[ifindex]
            link = self._source.link(ifindex)
            return Outgoing(LinkRemoved(ifindex) if link is None else LinkChanged(link))
        if self._has_progress:
            progress = self._source.pop_progress()
            self._has_progress = progress is not None
            if progress is not None:
                return Outgoing(progress)
        if self._has_imported:
            learned = self._source.pop_imported()
            self._has_imported = learned is not None
            if learned is not None:
                return Outgoing(learned)
        if self._refusals is not None:
            calls, self._refusals = dict(self._refusals), None
            return Outgoing(RefusalsCounted(calls))
        if self._dropped is not None:
            count, self._dropped = self._dropped, None
            return Outgoing(MessagesDropped(count))
        if self._log_lines:
            return Outgoing(self._log_lines.popleft())
        return None

    def __len__(self) -> int:
        """Number of messages in order and changed links that are queued."""
        return len(self._messages) + len(self._links)

    def close(self) -> None:
        """Discard all entries, and those that are queued later."""
        self._is_closed = True
        for outgoing in self._messages:
            if outgoing.descriptor is not None:
                os.close(outgoing.descriptor)
        self._messages.clear()
