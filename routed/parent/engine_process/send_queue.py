"""What the engine should be told, until it has been.

    send         in order: a configuration, a socket per link, an answer per request
    links        dirty ones; what is told is their state when their turn comes
    progress     that the FIB has news; what it is, is asked when its turn comes
    learned      the same of others' routes
    refusals     how many system calls were refused
    log lines    the newest LOG_LINES_KEPT

Most of it is state, and the messages in order are few by nature, so that a slow engine costs the
parent nothing. An engine that has MESSAGES_MAX of them before it does not follow any more. While an
engine is being configured only messages in order go out.

Invariants:
    A queued descriptor is the outbox's to close, whether it was sent or not. One that comes when
    the engine has ended is closed at once: a socket left open keeps its port from the next one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
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
"""In order: a configuration of hundreds of megabytes, or sockets of links that flap all along."""


class StateSource(Protocol):
    """Where state is asked for when its turn comes."""

    def link(self, ifindex: int) -> Interface | None:
        """A link as it is now; None when it is gone."""
        ...

    def pop_progress(self) -> FibProgress | None:
        """What the engine should be told of the FIB; None when it knows."""
        ...

    def pop_imported(self) -> RoutesImported | None:
        """What the engine should be told of others' routes; None when it knows."""
        ...


class Outgoing(NamedTuple):
    """One message, the request that it answers (0: none), and what rides along."""

    message: object
    request_id: int = 0
    descriptor: int | None = None


class SendQueue:
    """Owns what one engine has not been told yet."""

    def __init__(self, source: StateSource) -> None:
        self._source = source
        self._wake = trio.Event()
        self._messages: deque[Outgoing] = deque()
        self._links: dict[int, None] = {}
        self._has_progress = False
        self._has_imported = False
        self._refusals: Mapping[str, int] | None = None
        self._dropped: int | None = None
        self._log_lines: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        self._is_closed = False

    def send(self, message: object, request_id: int = 0, descriptor: int | None = None) -> None:
        """Queue one message, in order; nothing happens when the engine has ended."""
        if self._is_closed:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._messages.append(Outgoing(message, request_id, descriptor))
        self.wake()

    @property
    def is_full(self) -> bool:
        """Whether the engine has more messages before it than one that follows ever has."""
        return len(self._messages) > MESSAGES_MAX

    def mark_link(self, ifindex: int) -> None:
        """A link has changed."""
        self._links[ifindex] = None
        self.wake()

    def mark_progress(self) -> None:
        """The FIB has news."""
        self._has_progress = True
        self.wake()

    def mark_imported(self) -> None:
        """Routes of others have changed."""
        self._has_imported = True
        self.wake()

    def report_refusals(self, calls: Mapping[str, int]) -> None:
        """More system calls were refused.

        Args:
            calls: by name; read when its turn comes.
        """
        self._refusals = calls
        self.wake()

    def report_dropped(self, count: int) -> None:
        """So many messages to engines could not be sent so far."""
        self._dropped = count
        self.wake()

    def send_line(self, line: LogLine) -> None:
        """Queue a line of the log; when the engine does not follow, the oldest are left out."""
        self._log_lines.append(line)
        self.wake()

    def wake(self) -> None:
        """There is something to say, or the engine may be told more than before."""
        self._wake.set()

    async def wait(self) -> None:
        """Until there may be something to say."""
        await self._wake.wait()
        self._wake = trio.Event()

    def pop(self, *, is_running: bool) -> Outgoing | None:
        """What comes next; the descriptor is the caller's to close. None: nothing for now.

        Args:
            is_running: the engine is past its configuration.
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
        """Messages in order, and links, that wait."""
        return len(self._messages) + len(self._links)

    def close(self) -> None:
        """Forget it all, and whatever comes."""
        self._is_closed = True
        for outgoing in self._messages:
            if outgoing.descriptor is not None:
                os.close(outgoing.descriptor)
        self._messages.clear()
