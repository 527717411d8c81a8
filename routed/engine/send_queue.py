"""Messages to the parent: what waits, in which order it is sent, and the send loop.

    next hops to verify > answers and requests > desired routes > log lines > "verified", "in sync"

Desired routes stay in `routed.engine.fib` until the parent has room for them. They come before log
lines: their window is small, so the lines get a turn, and clients that fill the log do not delay
the kernel.

Invariants:
    At most LOG_BACKLOG log records wait; beyond that the oldest are dropped.
    A message that cannot be sent is dropped, logged and counted; it never ends the engine.
"""

from __future__ import annotations

from collections import deque

import trio

from ipc.channel import Channel, ChannelClosed
from ipc.framing import FrameError
from routed.engine.fib.programming import FibProgramming
from routed.imsg.frames import frames_or_problem
from routed.imsg.messages import FibInSync, LogEvent, NextHopsVerified
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord

__all__ = ["SendQueue"]

LOG_BACKLOG = 1000
"""Log records kept for a parent that does not read."""


class SendQueue:
    """Owns the sending half of the channel, and the log records on their way to the parent."""

    def __init__(self, channel: Channel) -> None:
        """Begin with nothing to send.

        Args:
            channel: to the parent.
        """
        self.log = Logger(self, "engine", Level.DEBUG)
        """Writes into this queue."""
        self.messages_dropped = 0
        """Messages that could not be sent: a defect."""
        self._channel = channel
        self._messages: deque[tuple[object, int]] = deque()
        self._log_records: deque[LogRecord] = deque(maxlen=LOG_BACKLOG)
        self._programming: FibProgramming | None = None
        self._has_more = trio.Event()

    def send_desired_routes(self, programming: FibProgramming) -> None:
        """Send what is desired in the kernel, from now on."""
        self._programming = programming

    def send(self, message: object, request_id: int = 0) -> None:
        """Queue one message."""
        self._messages.append((message, request_id))
        self._has_more.set()

    def wake(self) -> None:
        """Look for something to send: there may be desired routes, or room for them."""
        self._has_more.set()

    def write(self, record: LogRecord) -> None:
        """Queue one log record."""
        self._log_records.append(record)
        self._has_more.set()

    def close(self) -> None:
        """Do nothing: a logger closes its sink, but the channel is closed by its owner."""

    async def run(self) -> None:
        """Send what is queued, until cancelled or the parent has exited."""
        while True:
            await self._has_more.wait()
            self._has_more = trio.Event()
            try:
                await self.send_all()
            except ChannelClosed:
                return  # the receive loop sees it, too, and ends the process

    async def send_all(self) -> None:
        """Send everything that waits.

        Raises:
            ChannelClosed: the parent has exited.
        """
        while (item := self._pop_message()) is not None:
            await self._send_message(*item)

    async def _send_message(self, message: object, request_id: int) -> None:
        frames, problem = frames_or_problem(message, request_id)
        try:
            for frame in frames:
                await self._channel.send(frame)
        except FrameError as error:
            problem = str(error)
        if problem:
            self.messages_dropped += 1
            self.log.emit("message-dropped", message=type(message).__name__, problem=problem)

    def _pop_message(self) -> tuple[object, int] | None:
        """Take the next message to send, with its request id; None if nothing waits."""
        programming = self._programming
        if programming is not None:
            to_verify = programming.pop_next_hops_to_verify()
            if to_verify is not None:
                return to_verify, 0
        if self._messages:
            return self._messages.popleft()
        if programming is not None:
            update = programming.pop_update()
            if update is not None:
                return update, 0
        if self._log_records:
            record = self._log_records.popleft()
            return LogEvent(record.event, dict(record.fields)), 0
        if programming is None:
            return None
        if programming.pop_next_hops_verified():
            return NextHopsVerified(), 0
        return (FibInSync(0), 0) if programming.pop_in_sync() else None
