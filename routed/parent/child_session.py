"""The liveness process and the observer as children of the parent: one incarnation, from its start
to its end.

    ChildSession   sender    queued messages   -->  child
                   receiver  hello, pongs      <--  (the table of its messages first)
                   output    stdout, stderr    <--
                   watcher   pidfd: the process has ended

The process reads what comes from the network, so its messages are not trusted. It has few to send:
another message, more of them than this process waits for, a descriptor, or a hello of another
version ends it. So does missing PINGS_MISSED_MAX pings.

Bounds: QUEUE_MAX messages wait for a process that does not read; then it is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.closing import Closer
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError, IpcError
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_or_problem
from routed.imsg.messages import EngineHello, Ping, Pong
from routed.log.logger import Logger
from routed.model.bfd import BFD_SESSIONS_MAX
from routed.parent.engine_process.output import EngineOutput
from routed.parent.engine_process.spawn import EngineProcess

__all__ = ["ChildProtocol", "ChildSession"]

PING_S = 5.0
PINGS_MISSED_MAX = 6
"""Pings are counted instead of seconds, so that a stop of the parent itself does not count."""

HELLO_TIMEOUT_S = 30.0
QUEUE_MAX = 16 * BFD_SESSIONS_MAX
"""Messages that wait, each counted with its sessions: a few MB."""

STOP_TIMEOUT_S = 1.0
"""Time that the process has to end in order, as liveness does: it says goodbye to its peers."""


class ChildProtocol(NamedTuple):
    """The messages of a kind of process, and the log events about it."""

    classes: Mapping[type, int]
    """The frame type of each message class."""
    check: Callable[[int, bool], type]
    """Returns the class of a message that the process has sent, by its type and whether it carries
    a descriptor; raises `IpcError`."""
    stop: object
    """The request to exit."""
    weight: Callable[[object], int]
    """Returns what a message counts while it waits (QUEUE_MAX)."""
    requests: tuple[type, ...]
    """Classes of the messages that the process may send at any time."""
    misbehaved: str
    output: str


class ChildSession:
    """One process, and the messages for it."""

    def __init__(
        self,
        process: EngineProcess,
        protocol: ChildProtocol,
        log: Logger,
        closer: Closer,
        on_request: Callable[[object], None],
    ) -> None:
        """Take over a started process.

        Args:
            process: owned from now on.
            protocol: of its kind.
            log: for its output, and for its faults.
            closer: closes descriptors that it sends.
            on_request: called with each request of it.
        """
        self.process = process
        self.is_running = False
        """Whether it has said that it is of this version, and has not ended."""
        self._protocol = protocol
        self._log = log
        self._on_request = on_request
        self._channel = Channel(process.channel, INTERNAL_FRAME_MAX_BYTES, closer)
        self._output = EngineOutput(process.output_fd, self._log_output)
        self._messages: deque[tuple[object, int | None]] = deque()
        self._queued = 0
        """Of the messages that wait; see QUEUE_MAX."""
        self._has_messages = trio.Event()
        self._has_greeted = trio.Event()
        self._ended = trio.Event()
        self._pings_missed = 0
        self._status = 0

    def send(self, message: object, descriptor: int | None = None) -> None:
        """Queue one message; its descriptor is closed once it was sent or the process has ended."""
        if self._ended.is_set():
            if descriptor is not None:
                os.close(descriptor)
            return
        self._messages.append((message, descriptor))
        self._has_messages.set()
        was_full = self._queued > QUEUE_MAX
        self._queued += self._protocol.weight(message)
        if self._queued > QUEUE_MAX and not was_full:
            self._log.emit(self._protocol.misbehaved, problem="it does not read its messages")
            self.kill()

    @property
    def backlog(self) -> int:
        """How many messages wait to be sent."""
        return len(self._messages)

    async def wait_greeted(self) -> bool:
        """Wait for the hello. Returns False, and kills the process, if it is late."""
        with trio.move_on_after(HELLO_TIMEOUT_S):
            await self._has_greeted.wait()
        if not self.is_running:
            self.kill()
        return self.is_running

    async def stop(self) -> None:
        """Let the process end its sessions in order; kill it if that takes too long."""
        if self.is_running:
            self.send(self._protocol.stop)
            with trio.move_on_after(STOP_TIMEOUT_S):
                await self._ended.wait()
        self.kill()

    def kill(self) -> None:
        """Kill the process; no effect if it has ended."""
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process.pidfd, signal.SIGKILL)

    async def run(self) -> str:
        """Serve the process until it has ended. Returns how it ended, as text for people."""
        try:
            async with trio.open_nursery() as nursery:
                for task in (self._output.relay, self._send_loop, self._receive_loop, self._ping):
                    nursery.start_soon(task)
                await trio.lowlevel.wait_readable(self.process.pidfd)
                # It has ended, so this does not wait.
                self._status = os.waitpid(self.process.pid, os.WNOHANG)[1]  # noqa: ASYNC222
                self._output.drain()
                nursery.cancel_scope.cancel()
        finally:
            self.kill()
            self._close()
        code = os.waitstatus_to_exitcode(self._status)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _close(self) -> None:
        self.is_running = False
        self._ended.set()
        self._has_greeted.set()
        self._channel.close()
        self._output.close()
        os.close(self.process.pidfd)
        for _, descriptor in self._messages:
            if descriptor is not None:
                os.close(descriptor)
        self._messages.clear()

    async def _send_loop(self) -> None:
        while True:
            await self._has_messages.wait()
            self._has_messages = trio.Event()
            while self._messages:
                message, descriptor = self._messages.popleft()
                self._queued -= self._protocol.weight(message)
                try:
                    await self._send(message, descriptor)
                except ChannelClosed:
                    return  # it is ending: `run` reports how
                finally:
                    if descriptor is not None:
                        os.close(descriptor)

    async def _send(self, message: object, descriptor: int | None) -> None:
        frames, problem = frames_or_problem(message, types=self._protocol.classes)
        try:
            for frame in frames:
                await self._channel.send(frame, descriptor)
        except FrameError as error:
            problem = str(error)
        if problem:
            self._log.emit("message-dropped", message=type(message).__name__, problem=problem)

    async def _receive_loop(self) -> None:
        try:
            while True:
                await self._receive()
        except ChannelClosed:
            return  # it is ending: `run` reports how
        except IpcError as error:
            self._log.emit(self._protocol.misbehaved, problem=error)
            self.kill()

    async def _receive(self) -> None:
        frame, descriptor = await self._channel.receive()
        if descriptor is not None:
            self._channel.discard([descriptor])
        message_class = self._protocol.check(frame.type, descriptor is not None)
        message: object = codec.decode(message_class, frame.body)
        match message:
            case Pong() if self._pings_missed:
                self._pings_missed = 0
            case Pong():
                raise IpcError("PONG without a ping")
            case EngineHello() if self.is_running:
                raise IpcError("HELLO for the second time")
            case EngineHello() if message == hello_of_this_process():
                self._channel.refuse_descriptors()
                self.is_running = True
                self._has_greeted.set()
            case _ if self.is_running and isinstance(message, self._protocol.requests):
                self._on_request(message)
            case _:
                raise IpcError("it is of another version than this process")

    async def _ping(self) -> None:
        await self._has_greeted.wait()
        while self._pings_missed < PINGS_MISSED_MAX:
            if self._pings_missed == 0:
                self.send(Ping())  # one at a time: it stays queued while the process is stopped
            self._pings_missed += 1
            await trio.sleep(PING_S)
        self._log.emit(self._protocol.misbehaved, problem=f"no answer to {PINGS_MISSED_MAX} pings")
        self.kill()

    def _log_output(self, line: str) -> None:
        self._log.emit(self._protocol.output, line=line)
