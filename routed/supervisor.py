"""The parent's side of the engine: start it, feed it, judge what it says, bury it, start the next.

    Supervisor --start_engine--> EngineSession (one life)
                                   sender    what it should know  -->  engine
                                   receiver  what it wants        <--  (authority table first)
                                   output    its last words       <--  (stdout and stderr)
                                   watcher   pidfd: it has ended

What the engine should know is state (dirty links, progress not yet told) plus a few messages that
are bounded by nature (one configuration, one socket per link, one answer per reload), so a slow
engine costs the parent nothing.

The engine faces the network, so its word is a stranger's. What it may say is bounded in kind (the
authority table), in meaning (the host judges each wish) and in amount: log lines beyond a rate are
dropped and counted, reload requests beyond REQUESTS_MAX unanswered ones break the rules, and one
message is taken per turn of the event loop, so that a flood slows nothing but itself.

An engine that breaks the rules of the channel is ended at once, like one that died by itself: the
kernel routes stay, and a new one starts after a back-off that doubles. RESTARTS_MAX deaths within
RESTART_WINDOW_S are one too many: the daemon gives up, with its routes left in the kernel.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, Frame, IpcError
from ipc.internal import (
    CONF_ITEM_BYTES,
    MESSAGE_CLASSES,
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfItem,
    ConfReady,
    ConfSecrets,
    FibCommanded,
    FibInSync,
    FibProgress,
    FibUpdate,
    LinkChanged,
    LinkRemoved,
    LogEvent,
    LogLine,
    Phase,
    Ping,
    Pong,
    ReloadRequested,
    Role,
    RoutesLearned,
    SharedSecret,
    Stop,
    Stopped,
    check_authority,
)
from routed.config.scalars import EngineUser
from routed.config.schema import Config, SandboxMode
from routed.log import EVENTS, Logger, TokenBucket
from routed.model.link import Interface
from routed.privsep import EngineProcess, start_engine

__all__ = ["CONFIGURE_TIMEOUT_S", "EngineFailed", "EngineHost", "EngineSession", "Supervisor"]

CONFIGURE_TIMEOUT_S = 30.0
"""An engine that has not taken its configuration by then is ended."""

STOP_TIMEOUT_S = 2.0
"""How long goodbyes may take."""

RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
_RESTART_FIRST_S = 0.05
_RESTART_LIMIT_S = 5.0

REQUESTS_MAX = 512
"""Reload requests of one engine that wait for their answer: twice the management sessions."""
LOG_LINES_PER_S = 200.0
LOG_LINES_BURST = 5000
"""A table's worth of adjacency lines at once; debug lines beyond the rate are lost, and counted."""

PULSE_S = 5.0
PULSES_MISSED_MAX = 12
"""An engine that answers none of so many pings, for a minute, hangs, and is ended. Pings and not
seconds are counted, so that a parent that was stopped itself blames nobody. Longer than any work
that an engine does in one piece, by far; neighbors have given it up long before."""
LOG_LINES_KEPT = 500
"""For `show log`; at info and above."""

_CHANNEL_BUFFER_BYTES = 1024 * 1024
_OUTPUT_LINE_MAX = 1000
_OUTPUT_LINES_KEPT = 20
_FIELD_MAX = 1000
"""Characters of a log field that are kept."""
_LOGGERS_OWN_FIELDS = {"suppressed", "lines_lost"}


class EngineFailed(Exception):
    """The engine cannot be kept running, or did not take a configuration."""


class EngineHost(Protocol):
    """What the parent does for its engine; each is called with what the engine said."""

    def link(self, ifindex: int) -> Interface | None:
        """A link as it is now; None when it is gone."""
        ...

    def take_progress(self) -> FibProgress | None:
        """What the engine should be told of the FIB; None when it knows."""
        ...

    def take_learned(self) -> RoutesLearned | None:
        """What the engine should be told of others' routes; None when it knows."""
        ...

    def fib_update(self, update: FibUpdate) -> None:
        """Wishes."""
        ...

    def fib_in_sync(self) -> None:
        """The gate opens."""
        ...

    def fib_commanded(self, request_id: int, request: FibCommanded) -> None:
        """A client asks for something to be done to the kernel FIB."""
        ...

    def reload_requested(self, request_id: int, request: ReloadRequested) -> None:
        """A client asks for a reload."""
        ...


class EngineSession:
    """One life of an engine, from its start to its end."""

    def __init__(
        self, process: EngineProcess, host: EngineHost, log: Logger, violations: Counter[str]
    ) -> None:
        """Serve a started engine.

        Args:
            process: owned from now on.
            host: asked for what the engine should know, told what it says.
            log: for the session's events and the engine's own.
            violations: rules broken, by kind; counted up here.
        """
        self.phase = Phase.CONFIGURING
        self.process = process
        self.last_words: deque[str] = deque(maxlen=_OUTPUT_LINES_KEPT)
        """What it printed last, for the message of a daemon that could not start."""
        self._host = host
        self._log = log
        self._channel = Channel(process.channel, INTERNAL_FRAME_MAX_BYTES)
        self._wake = trio.Event()
        self._messages: deque[tuple[object, int, int | None]] = deque()
        self._links: dict[int, None] = {}
        self._has_progress = False
        self._has_learned = False
        self._log_lines: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        self._answer_in, self._answers = trio.open_memory_channel[ConfReady | ConfApplied](4)
        self._stopped = trio.Event()
        self._status = 0
        self._is_over = False
        self._violations = violations
        self._unanswered = 0
        self._pulses_missed = 0
        self._lines = TokenBucket(LOG_LINES_PER_S, LOG_LINES_BURST, trio.current_time())

    # --- what the engine should know

    def send(self, message: object, *, request_id: int = 0, descriptor: int | None = None) -> None:
        """Queue one message; a descriptor is closed once it was sent, or the session ends."""
        if request_id:
            self._unanswered = max(self._unanswered - 1, 0)
        self._messages.append((message, request_id, descriptor))
        self._wake.set()

    def mark_link(self, ifindex: int) -> None:
        """A link changed: its state when its turn comes is what is sent."""
        self._links[ifindex] = None
        self._wake.set()

    def send_link(self, ifindex: int) -> None:
        """Queue a link as it is now, in order with the other messages."""
        link = self._host.link(ifindex)
        if link is not None:
            self.send(LinkChanged(link))

    def mark_learned(self) -> None:
        """Routes of others have changed."""
        self._has_learned = True
        self._wake.set()

    def send_line(self, line: LogLine) -> None:
        """Tell a line of the log; when the engine does not follow, the oldest are left out."""
        self._log_lines.append(line)
        self._wake.set()

    def mark_progress(self) -> None:
        """The FIB has news."""
        self._has_progress = True
        self._wake.set()

    async def prepare(
        self,
        config: Config,
        secrets: tuple[SharedSecret, ...],
        begin: Callable[[int], ConfBegin],
    ) -> None:
        """Hand over a configuration and have it checked; nothing changes yet.

        Args:
            config: the configuration.
            secrets: of its keys.
            begin: makes the opening message from the encoded size.

        Raises:
            EngineFailed: it says no, or nothing in time.
        """
        encoded = codec.encode(config)
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

    async def commit(self) -> None:
        """Have the prepared configuration take effect.

        Raises:
            EngineFailed: nothing in time.
        """
        self.send(ConfDone())
        answer = await self._await_answer()
        if not isinstance(answer, ConfApplied):
            raise EngineFailed("the engine answered CONF_DONE out of turn")

    async def _await_answer(self) -> ConfReady | ConfApplied:
        try:
            with trio.fail_after(CONFIGURE_TIMEOUT_S):
                return await self._answers.receive()
        except (trio.TooSlowError, trio.EndOfChannel) as error:
            raise EngineFailed("the engine did not take the configuration") from error

    async def stop(self, *, is_restart: bool) -> None:
        """Let it say goodbye; returns when it has, or when it took too long."""
        self.phase = Phase.STOPPING
        self.send(Stop(is_restart))
        with trio.move_on_after(STOP_TIMEOUT_S):
            await self._stopped.wait()

    def kill(self) -> None:
        """End the process now; no matter if it has ended."""
        if self._is_over:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process.pidfd, signal.SIGKILL)

    # --- its life

    async def run(self) -> str:
        """Serve the engine until it has ended.

        Returns:
            How it ended, for people: `exit status 1`, `killed by SIGKILL`.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._relay_output)
                nursery.start_soon(self._send_loop)
                nursery.start_soon(self._receive_loop)
                nursery.start_soon(self._feel_pulse)
                await self._reap()
                nursery.cancel_scope.cancel()
        finally:
            self.kill()
            self._close()
        return _describe_status(self._status)

    async def _feel_pulse(self) -> None:
        """Ping a running engine now and then; end one that does not answer."""
        while self._pulses_missed < PULSES_MISSED_MAX:
            await trio.sleep(PULSE_S)
            if self.phase is Phase.RUNNING:
                if self._pulses_missed == 0:
                    self.send(Ping())  # one at a time: it waits for an engine that comes back
                self._pulses_missed += 1
        self._log.emit("engine-hangs", pid=self.process.pid, pings=PULSES_MISSED_MAX)
        self.kill()

    def was_killed_by(self, number: signal.Signals) -> bool:
        """Whether the process has ended by this signal."""
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == number

    async def _reap(self) -> None:
        await trio.lowlevel.wait_readable(self.process.pidfd)
        _, self._status = os.waitpid(self.process.pid, os.WNOHANG)  # noqa: ASYNC222  (it has ended)
        self._drain_output()

    def _close(self) -> None:
        self._is_over = True
        self._stopped.set()
        self._channel.close()
        self._answer_in.close()
        os.close(self.process.pidfd)
        os.close(self.process.output_fd)
        for _, _, descriptor in self._messages:
            if descriptor is not None:
                os.close(descriptor)
        self._messages.clear()

    async def _send_loop(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while (item := self._next_message()) is not None:
                    message, request_id, descriptor = item
                    frame = Frame(MESSAGE_CLASSES[type(message)], request_id, codec.encode(message))
                    try:
                        await self._channel.send(frame, descriptor)
                    finally:
                        if descriptor is not None:
                            os.close(descriptor)
        except ChannelClosed:
            pass  # it is dying: `_reap` will tell how

    def _next_message(self) -> tuple[object, int, int | None] | None:
        if self._messages:
            return self._messages.popleft()
        if self.phase is not Phase.RUNNING:
            return None
        if self._links:
            ifindex = next(iter(self._links))
            del self._links[ifindex]
            link = self._host.link(ifindex)
            return (LinkRemoved(ifindex) if link is None else LinkChanged(link)), 0, None
        if self._has_progress:
            progress = self._host.take_progress()
            self._has_progress = progress is not None
            if progress is not None:
                return progress, 0, None
        if self._has_learned:
            learned = self._host.take_learned()
            self._has_learned = learned is not None
            if learned is not None:
                return learned, 0, None
        if self._log_lines:
            return self._log_lines.popleft(), 0, None
        return None

    async def _receive_loop(self) -> None:
        try:
            while True:
                received = await self._channel.receive()
                frame = received.frame
                if received.descriptor is not None:
                    os.close(received.descriptor)  # nothing that an engine may send carries one
                message_class = check_authority(
                    frame.type,
                    Role.ENGINE,
                    self.phase,
                    has_descriptor=received.descriptor is not None,
                )
                self._take(codec.decode(message_class, frame.body), frame.request_id)
        except ChannelClosed:
            pass  # it is dying: `_reap` will tell how
        except IpcError as error:
            self._violations["channel"] += 1
            self._log.emit("engine-misbehaved", problem=error)
            self.kill()

    def _take(self, message: object, request_id: int) -> None:
        match message:
            case FibUpdate():
                self._host.fib_update(message)
            case FibInSync():
                self._host.fib_in_sync()
            case ConfReady() | ConfApplied():
                # Here and not in `commit`: what the engine says next belongs to the new phase.
                if self.phase is Phase.CONFIGURING and isinstance(message, ConfApplied):
                    self.phase = Phase.RUNNING
                    self._wake.set()
                try:
                    self._answer_in.send_nowait(message)
                except trio.WouldBlock:
                    raise IpcError("answers that nobody asked for") from None
            case ReloadRequested():
                self._count_request(request_id)
                self._host.reload_requested(request_id, message)
            case FibCommanded():
                self._count_request(request_id)
                self._host.fib_commanded(request_id, message)
            case Pong():
                self._pulses_missed = 0
            case LogEvent():
                self._relay_line(message)
            case Stopped():
                self._stopped.set()

    def _count_request(self, request_id: int) -> None:
        self._unanswered += 1
        if request_id == 0 or self._unanswered > REQUESTS_MAX:
            raise IpcError(f"{self._unanswered} requests at once")

    def _relay_line(self, line: LogEvent) -> None:
        """Log a declared event with its declared fields, or count it when there are too many."""
        if line.event not in EVENTS:
            raise IpcError(f"log event {line.event!r} does not exist")
        if line.fields.keys() - _LOGGERS_OWN_FIELDS != set(EVENTS[line.event].fields):
            raise IpcError(f"log event {line.event} with the fields {', '.join(line.fields)}")
        dropped = self._lines.take(trio.current_time())
        if dropped is None:
            return
        if dropped:
            self._log.emit("engine-lines-dropped", lines=dropped)
        fields = {name: value[:_FIELD_MAX] for name, value in line.fields.items()}
        self._log.write(line.event, fields, "engine")

    async def _relay_output(self) -> None:
        """Log what it prints: normally nothing, a traceback when it dies of a defect."""
        os.set_blocking(self.process.output_fd, False)
        while self._drain_output():
            await trio.lowlevel.wait_readable(self.process.output_fd)

    def _drain_output(self) -> bool:
        """Log what has been printed so far; False at the end of the stream."""
        while True:
            try:
                chunk = os.read(self.process.output_fd, 65_536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            for line in chunk.decode("utf-8", "backslashreplace").splitlines():
                self.last_words.append(line[:_OUTPUT_LINE_MAX])
                self._log.emit("engine-output", line=line[:_OUTPUT_LINE_MAX])


class Supervisor:
    """Keeps one engine running."""

    def __init__(self, host: EngineHost, log: Logger) -> None:
        self.session: EngineSession | None = None
        self.restarts = 0
        """Engines that have died in this daemon's life."""
        self.violations: Counter[str] = Counter()
        """Rules that engines have broken: of the `channel`, or a fatal `syscall`."""
        self._host = host
        self._log = log
        self._deaths: deque[float] = deque(maxlen=RESTARTS_MAX)

    async def run(
        self,
        user: EngineUser,
        sandbox: SandboxMode,
        settle: Callable[[EngineSession], Awaitable[None]],
    ) -> None:
        """Run engines, one after another; returns when one was stopped on purpose.

        Args:
            user: whom they become.
            sandbox: how they are held.
            settle: configures a new engine and tells it everything; EngineFailed ends that engine.

        Raises:
            EngineFailed: too many died too quickly.
        """
        while True:
            process = await self._start(user, sandbox)
            session = EngineSession(process, self._host, self._log, self.violations)
            self.session = session
            self._log.emit(
                "engine-started", pid=process.pid, user=user.name, restarts=self.restarts
            )
            problem = ""

            async def introduce(session: EngineSession = session) -> None:
                nonlocal problem
                try:
                    await settle(session)
                except EngineFailed as error:
                    problem = str(error)
                    session.kill()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(introduce)
                status = await session.run()
                nursery.cancel_scope.cancel()
            if session.phase is Phase.STOPPING:
                return
            self.restarts += 1
            self._bury(session, problem or status)
            await trio.sleep(self._delay())

    async def _start(self, user: EngineUser, sandbox: SandboxMode) -> EngineProcess:
        """Start an engine; where the system has no process or descriptor to spare, try on.

        Raises:
            EngineFailed: the daemon's first engine cannot be started at all.
        """
        while True:
            try:
                return start_engine(user.uid, user.gid, sandbox.value, _CHANNEL_BUFFER_BYTES)
            except OSError as error:
                if self.session is None:
                    raise EngineFailed(f"the engine cannot be started: {error}") from error
                self._log.emit("engine-not-started", error=error)
                await trio.sleep(_RESTART_LIMIT_S)

    def _bury(self, session: EngineSession, status: str) -> None:
        now = trio.current_time()
        self._deaths.append(now)
        if session.was_killed_by(signal.SIGSYS):
            self.violations["syscall"] += 1
            self._log.emit("sandbox-violated", pid=session.process.pid)
        words = _last_sentence(session.last_words) or status
        if self.restarts == 1 and session.phase is Phase.CONFIGURING:
            # It has never worked here: say why at once, instead of trying again.
            raise EngineFailed(f"the engine cannot start: {words}")
        if len(self._deaths) == RESTARTS_MAX and now - self._deaths[0] < RESTART_WINDOW_S:
            self._log.emit("engine-given-up", deaths=RESTARTS_MAX, within_s=int(RESTART_WINDOW_S))
            raise EngineFailed(f"the engine died {RESTARTS_MAX} times, the last time: {words}")
        self._log.emit(
            "engine-died",
            pid=session.process.pid,
            status=status,
            restart_in_ms=round(self._delay() * 1000),
        )

    def _delay(self) -> float:
        now = trio.current_time()
        recent = sum(now - death < RESTART_WINDOW_S for death in self._deaths)
        doublings = max(recent - 1, 0)
        return min(_RESTART_FIRST_S * float(1 << doublings), _RESTART_LIMIT_S)


def _last_sentence(lines: Iterable[str]) -> str:
    """The last line that says something: the frame that Python draws around an exception group is
    no reason."""
    said = [line.strip("|+- ") for line in lines]
    return next((line for line in reversed(said) if line), "")


def _describe_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
