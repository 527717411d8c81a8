"""The parent's session with one engine process, from its start to its end.

    EngineSession   sender    queued messages (`send_queue`)     -->  engine
                    receiver  messages                           <--  (authority table first)
                    output    its final output (`output`)        <--  (stdout and stderr)
                    watcher   pidfd: the process has ended

The engine faces the network, so its messages are not trusted. They are bounded in kind (the
authority table), in meaning (route admission validates each desired route) and in amount: log lines
beyond a rate are dropped and counted, more than REQUESTS_MAX unanswered requests break the rules (a
request is answered once the answer has left this process), and one message is handled per turn of
the event loop, so that a flood delays nothing else. An engine that breaks the rules is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.closing import Closer
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FloodError, Frame, FrameError, IpcError
from ipc.lazy_dataclass import dataclass, field
from routed.config.schema import Config
from routed.config.transfer import pack
from routed.imsg.authority import ChannelEnd, ImsgType, check_authority
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_or_problem
from routed.imsg.messages import (
    CONF_ITEM_BYTES,
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfItem,
    ConfReady,
    ConfSecrets,
    EngineHello,
    FibUpdate,
    LinkChanged,
    LogEvent,
    LogLine,
    Ping,
    Pong,
    Stop,
    Stopped,
)
from routed.log.logger import Logger
from routed.model.secret import SharedSecret
from routed.parent.engine_process.conduct import Conduct
from routed.parent.engine_process.life import (
    PHASES,
    TRANSITIONS,
    EngineAction,
    EngineEvent,
    EngineState,
)
from routed.parent.engine_process.log_relay import LogRelay
from routed.parent.engine_process.output import EngineOutput
from routed.parent.engine_process.refused_calls import RefusedCalls
from routed.parent.engine_process.send_queue import (
    MESSAGES_MAX,
    Outgoing,
    SendQueue,
    StateSource,
)
from routed.parent.engine_process.spawn import EngineProcess

__all__ = [
    "CONFIGURE_TIMEOUT_S",
    "REQUESTS_MAX",
    "EngineFailed",
    "EngineHandlers",
    "EngineSession",
]

CONFIGURE_TIMEOUT_S = 30.0
"""Seconds after which an engine that has not applied its configuration is killed."""

STOP_TIMEOUT_S = 2.0
"""Seconds that an orderly stop of the engine may take."""

REQUESTS_MAX = 512
"""Most unanswered reload requests of one engine: twice the number of management sessions."""

CLOSED_S = 3.0
"""Seconds that an engine may run, to print its final output, after it closed the channel."""

PULSE_S = 5.0
PULSES_MISSED_MAX = 12
"""An engine that misses PULSES_MISSED_MAX pings, one every PULSE_S, hangs and is killed. Pings are
counted instead of seconds, so that a stop of the parent itself does not count. A minute is far
longer than any uninterrupted work of an engine; adjacencies expire long before."""


class EngineFailed(Exception):
    """The engine cannot be kept running, or did not accept a configuration."""


class VersionDiffersError(IpcError):
    """The engine runs another version of the code than this process; they cannot communicate."""


@dataclass(frozen=True, slots=True)
class EngineHandlers:
    """Handlers of the messages that concern more than one session, by message class.

    A handler raises `IpcError` for a message that an uncompromised engine never sends; the engine
    is killed then.
    """

    notices: Mapping[type, Callable[[Any], None]] = field(default_factory=dict)
    """Called with the message."""
    requests: Mapping[type, Callable[[Any, int], None]] = field(default_factory=dict)
    """Called with the message and its request id; each is answered exactly once."""


class EngineSession:
    """The session with one engine process, from its start to its end."""

    def __init__(
        self,
        process: EngineProcess,
        source: StateSource,
        handlers: EngineHandlers,
        log: Logger,
        conduct: Conduct,
        closer: Closer | None = None,
    ) -> None:
        """Take over a started engine process.

        Args:
            process: owned from now on.
            source: the kernel's state, of which the engine is sent the current value.
            handlers: handle the messages that concern more than this session.
            log: for the session's events and the engine's own.
            conduct: counts the rules broken and the system calls refused.
            closer: closes descriptors that the engine sends; default: one of its own.
        """
        self._state = EngineState.STARTING
        self.has_run = False
        """Whether the engine has applied a configuration."""
        self.has_desired_routes = False
        """Whether the engine has sent its desired routes; it does so once it has read all state."""
        self.process = process
        self._source = source
        self._log = log
        self._output = EngineOutput(process.output_fd, self._log_output)
        self._channel = Channel(process.channel, INTERNAL_FRAME_MAX_BYTES, closer or Closer())
        self._send_queue = SendQueue(source)
        self._answer_in, self._answers = trio.open_memory_channel[ConfReady | ConfApplied](4)
        self._stopped = trio.Event()
        self._status = 0
        self._conduct = conduct
        self._refused_calls = RefusedCalls(process.pid, conduct, log, self._send_queue)
        self._prepared: Config | None = None
        self._agreed: Config | None = None
        """The configuration that the engine has applied."""
        self._unanswered = 0
        self._pulses_missed = 0
        self.other_version: str | None = None
        """The engine's version as text, if it differs from this process's."""
        self._greeted = trio.Event()
        self._relay = LogRelay(log, conduct.log_budget)
        self._requests = handlers.requests
        self._notices: dict[type, Callable[[Any], None]] = {
            **handlers.notices,
            EngineHello: self._handle_hello,
            ConfReady: self._handle_config_answer,
            ConfApplied: self._handle_config_answer,
            Pong: self._handle_pong,
            LogEvent: self._handle_log_event,
            Stopped: self._handle_stopped,
        }

    # --- messages to the engine

    def send(self, message: object, *, request_id: int = 0, descriptor: int | None = None) -> None:
        """Queue one message; its descriptor is closed once it was sent or the session ends."""
        self._send_queue.send(message, request_id, descriptor)
        if self._send_queue.is_full and not self._has_ended:
            self._conduct.violations["flood"] += 1
            self._log.emit(
                "engine-misbehaved", problem=f"{MESSAGES_MAX} messages that it has not read"
            )
            self.kill()
            self._send_queue.close()

    def mark_link(self, ifindex: int) -> None:
        """Record that a link changed; its state is read when it is sent."""
        self._send_queue.mark_link(ifindex)

    def send_link(self, ifindex: int) -> None:
        """Queue the current state of a link, in order with the other messages."""
        if (link := self._source.link(ifindex)) is not None:
            self.send(LinkChanged(link))

    def report_refusals(self) -> None:
        """Send the numbers of refused system calls and dropped messages of all engines so far."""
        if self._conduct.refusals:
            self._send_queue.report_refusals(self._conduct.refusals)
        if self._conduct.messages_dropped:
            self._send_queue.report_dropped(self._conduct.messages_dropped.total())

    def mark_imported(self) -> None:
        """Record that imported routes have changed."""
        self._send_queue.mark_imported()

    def send_log(self, lines: Iterable[LogLine]) -> None:
        """Send the lines that were logged so far; `send_line` sends nothing before that."""
        self._send_queue.send_log(lines)

    def send_line(self, line: LogLine) -> None:
        """Send a log line; if the engine does not keep up, the oldest lines are dropped."""
        self._send_queue.send_line(line)

    def mark_progress(self) -> None:
        """Record that the FIB has progress to report."""
        self._send_queue.mark_progress()

    async def prepare(
        self,
        config: Config,
        secrets: tuple[SharedSecret, ...],
        begin: Callable[[int], ConfBegin],
    ) -> None:
        """Send a configuration and let the engine check it; nothing changes yet.

        Args:
            config: the configuration.
            secrets: the secrets of its keys.
            begin: makes the opening message from the encoded size.

        Raises:
            EngineFailed: the engine rejects it, or does not answer in time.
        """
        encoded = codec.encode(pack(config, self._agreed))
        await self._await_hello()
        opening = begin(len(encoded))
        self.send(opening)
        for offset in range(0, len(encoded), CONF_ITEM_BYTES):
            self.send(ConfItem(encoded[offset : offset + CONF_ITEM_BYTES]))
        self.send(ConfSecrets(secrets))
        self.send(ConfDrain())
        answer = await self._await_answer()
        if not isinstance(answer, ConfReady) or answer.generation != opening.generation:
            raise EngineFailed(f"the engine answered {type(answer).__name__} out of turn")
        if answer.problem:
            raise EngineFailed(f"the engine refused the configuration: {answer.problem}")
        self._prepared = config

    async def commit(self) -> None:
        """Let the engine apply the prepared configuration.

        Raises:
            EngineFailed: the engine does not answer in time.
        """
        self.send(ConfDone())
        answer = await self._await_answer()
        if not isinstance(answer, ConfApplied):
            raise EngineFailed("the engine answered CONF_DONE out of turn")
        self._agreed = self._prepared

    async def _await_hello(self) -> None:
        """Wait for the hello: an engine of another version could misread any message."""
        try:
            with trio.fail_after(CONFIGURE_TIMEOUT_S):
                await self._greeted.wait()
        except trio.TooSlowError as error:
            raise EngineFailed("the engine did not send its version") from error

    async def _await_answer(self) -> ConfReady | ConfApplied:
        try:
            with trio.fail_after(CONFIGURE_TIMEOUT_S):
                return await self._answers.receive()
        except (trio.TooSlowError, trio.EndOfChannel) as error:
            raise EngineFailed("the engine did not accept the configuration") from error

    async def stop(self, *, is_restart: bool) -> None:
        """End the engine; one that runs may notify its neighbors first, for STOP_TIMEOUT_S.

        Args:
            is_restart: whether the neighbors are to keep its routes.
        """
        if self._advance(EngineEvent.STOP) is EngineAction.SEND_STOP:
            self.send(Stop(is_restart))
            with trio.move_on_after(STOP_TIMEOUT_S):
                await self._stopped.wait()
        self.kill()

    def kill(self) -> None:
        """Kill the process; no effect if that was done, or if it has ended."""
        self._advance(EngineEvent.KILL)

    # --- the process

    @property
    def has_greeted(self) -> bool:
        """Whether the engine's hello declares the same messages as this process."""
        return self._greeted.is_set()

    @property
    def final_output(self) -> list[str]:
        """Return the last lines that it printed, for the message of a daemon that cannot start."""
        return list(self._output.final_output)

    async def run(self) -> str:
        """Serve the engine until it has ended.

        Returns:
            How it ended, as text for people: `exit status 1`, `killed by SIGKILL`.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._output.relay)
                nursery.start_soon(self._send_loop)
                nursery.start_soon(self._receive_loop)
                nursery.start_soon(self._ping_engine)
                nursery.start_soon(self._refused_calls.run)
                await self._reap()
                nursery.cancel_scope.cancel()
        finally:
            self.kill()
            self._advance(EngineEvent.EXITED)
        return _describe_status(self._status)

    async def _ping_engine(self) -> None:
        """Ping a running engine periodically; kill one that does not answer."""
        while self._pulses_missed < PULSES_MISSED_MAX:
            await trio.sleep(PULSE_S)
            if self.is_running:
                if self._pulses_missed == 0:
                    self.send(Ping())  # one at a time: it stays queued while an engine is stopped
                self._pulses_missed += 1
        self._log.emit("engine-hangs", pid=self.process.pid, pings=PULSES_MISSED_MAX)
        self.kill()

    @property
    def is_running(self) -> bool:
        """Whether the engine is alive and has applied its configuration."""
        return self._state is EngineState.RUNNING

    @property
    def _has_ended(self) -> bool:
        return self._state in (EngineState.KILLED, EngineState.ENDED)

    def _advance(self, event: EngineEvent) -> EngineAction:
        """Enter the state that follows an event.

        Raises:
            IpcError: an uncompromised engine does not cause this event in this state.
        """
        before = self._state
        self._state, action = TRANSITIONS[before, event]
        match action:
            case EngineAction.REFUSE:
                raise IpcError(f"{event.value} of an engine that is {before.value}")
            case EngineAction.KILL:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.process.pidfd, signal.SIGKILL)
            case EngineAction.SEND_STATE:
                self.has_run = True
                self._send_queue.wake()
            case EngineAction.END_WAIT:
                self._stopped.set()
            case EngineAction.CLOSE:
                self._close()
        return action

    def was_killed_by(self, number: signal.Signals) -> bool:
        """Whether the process has ended by this signal."""
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == number

    async def _reap(self) -> None:
        await trio.lowlevel.wait_readable(self.process.pidfd)
        _, self._status = os.waitpid(self.process.pid, os.WNOHANG)  # noqa: ASYNC222  (it has ended)
        self._output.drain()

    def _close(self) -> None:
        self._stopped.set()
        self._channel.close()
        self._answer_in.close()
        os.close(self.process.pidfd)
        self._output.close()
        self._send_queue.close()
        self._refused_calls.close()

    async def _send_loop(self) -> None:
        try:
            while True:
                await self._send_queue.wait()
                while (item := self._send_queue.pop(is_running=self.is_running)) is not None:
                    try:
                        await self._send_item(item)
                    finally:
                        if item.descriptor is not None:
                            os.close(item.descriptor)
                    if item.request_id:
                        self._unanswered = max(self._unanswered - 1, 0)
        except ChannelClosed:
            pass  # the engine is ending: `_reap` reports how

    async def _send_item(self, item: Outgoing) -> None:
        """Send one message. One that cannot be sent is dropped, logged and counted.

        Raises:
            ChannelClosed: the engine is gone.
        """
        frames, problem = frames_or_problem(item.message, item.request_id)
        try:
            for frame in frames:
                await self._channel.send(frame, item.descriptor)
        except FrameError as error:
            problem = str(error)
        if problem:
            name = type(item.message).__name__
            self._conduct.messages_dropped[name] += 1
            self._send_queue.report_dropped(self._conduct.messages_dropped.total())
            self._log.emit("message-dropped", message=name, problem=problem)

    async def _receive_loop(self) -> None:
        try:
            while True:
                frame, descriptor = await self._channel.receive()
                has_descriptor = descriptor is not None
                if self._has_ended:
                    if descriptor is not None:
                        self._channel.discard([descriptor])
                    return
                try:
                    if not self.has_greeted:
                        self._check_hello(frame)
                    phase = PHASES[self._state]
                    message_class = check_authority(
                        frame.type, ChannelEnd.ENGINE, phase, has_descriptor=has_descriptor
                    )
                    message: object = codec.decode(message_class, frame.body)
                except IpcError:
                    if descriptor is not None:
                        self._channel.discard([descriptor])
                    raise
                if descriptor is None:
                    self._handle(message, frame.request_id)
                else:
                    self._take_listener(descriptor)
        except ChannelClosed:
            # The engine is ending, and `_reap` reports how; its final output may come later.
            await trio.sleep(CLOSED_S)
            self._conduct.violations["channel"] += 1
            self._log.emit("engine-misbehaved", problem="it has closed the channel and still runs")
            self.kill()
        except VersionDiffersError:
            # `_reap` reports the status, the supervisor the reason.
            self._advance(EngineEvent.OTHER_VERSION)
        except IpcError as error:
            self._conduct.violations["flood" if isinstance(error, FloodError) else "channel"] += 1
            self._log.emit("engine-misbehaved", problem=error)
            self.kill()

    def _check_hello(self, frame: Frame) -> None:
        """Compare the engine's declaration of all messages with our own.

        Raises:
            VersionDiffersError: they differ, or the engine is so old that it declares none.
        """
        hello = None
        if frame.type == ImsgType.ENGINE_HELLO:
            with contextlib.suppress(codec.CodecError):
                hello = codec.decode(EngineHello, frame.body)
        if hello != hello_of_this_process():
            self.other_version = "unknown" if hello is None else hello.version
            raise VersionDiffersError(f"the engine's version is {self.other_version}")

    def _handle(self, message: object, request_id: int) -> None:
        """Call the handler of a message.

        Raises:
            IpcError: the engine broke a rule.
        """
        message_class = type(message)
        handle_request = self._requests.get(message_class)
        if handle_request is not None:
            self._count_request(request_id)
            handle_request(message, request_id)
            return
        if message_class is FibUpdate:
            self.has_desired_routes = True
        self._notices[message_class](message)

    def _handle_hello(self, _hello: EngineHello) -> None:
        self._advance(EngineEvent.HELLO)
        self._greeted.set()

    def _handle_config_answer(self, answer: ConfReady | ConfApplied) -> None:
        # Before it is handed sockets on which unauthenticated senders could pass descriptors.
        self._channel.refuse_descriptors()
        # Here and not in `commit`: the next message of the engine belongs to the new phase.
        if isinstance(answer, ConfApplied):
            self._advance(EngineEvent.APPLIED)
        try:
            self._answer_in.send_nowait(answer)
        except trio.WouldBlock:
            raise FloodError("answers without a request") from None

    def _handle_pong(self, _pong: Pong) -> None:
        self._pulses_missed = 0

    def _handle_log_event(self, event: LogEvent) -> None:
        self._relay.relay(event, trio.current_time())

    def _handle_stopped(self, _stopped: Stopped) -> None:
        self._advance(EngineEvent.STOPPED)

    def _take_listener(self, descriptor: int) -> None:
        if self._refused_calls.has_listener:
            self._channel.discard([descriptor])
            raise IpcError("a second listener for refused calls")
        self._refused_calls.set_listener(descriptor)
        self._channel.refuse_descriptors()

    def _count_request(self, request_id: int) -> None:
        self._unanswered += 1
        if request_id == 0:
            raise IpcError("a request without an id")
        if self._unanswered > REQUESTS_MAX:
            raise FloodError(f"{self._unanswered} requests at once")

    def _log_output(self, line: str) -> None:
        self._log.emit("engine-output", line=line)


def _describe_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
