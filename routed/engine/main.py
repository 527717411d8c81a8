"""The unprivileged process: it takes what the parent says to the rooms, and what they say to it.

    parent --configuration, links, sockets, progress--> Router (`routed.engine.router`)
           <--routes wanted, in sync, log lines-------/
    clients <--> ManagementServer <--> Reporter (views of the rooms)

Here is the life of the process: privileges are dropped after every import and before the first byte
is read; the configuration comes first, is decoded and answered for, and takes effect in one step;
then every message is checked against the authority table and carried out.

What is to be said has an order: next hops that die, answers, desired routes, log lines, "in sync".
Desired routes stay in the room that owns them until the parent has room for them.

Failure: an exception ends the process with its traceback on stderr, which the parent logs; the
kernel routes stay, and the next engine takes over. When the parent goes, so does the engine.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.control import Role as ControlRole
from ipc.fdpass import pack_descriptor
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError, pack_frame
from ipc.standard_streams import write_message
from routed.clock import MonotonicClock
from routed.config.schema import Config
from routed.config.transfer import ConfigTransfer, unpack
from routed.control.daemon import CommandOutcome
from routed.control.policy import AccessList
from routed.control.server import ManagementServer
from routed.engine.injection.journal import Journal
from routed.engine.parent_watch import ParentWatch
from routed.engine.router import Router
from routed.engine.show.daemon import LastReload, Reporter
from routed.engine.show.diagnosis import engine_facts
from routed.engine.show.memory import ProcessMemory
from routed.engine.show.metrics import Exporter
from routed.imsg.authority import ChannelEnd, EnginePhase, check_authority
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_of, frames_or_problem
from routed.imsg.messages import (
    CHANNEL_FD,
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfigState,
    ConfItem,
    ConfReady,
    ConfSecrets,
    Diagnose,
    FibCommandDone,
    FibCommanded,
    FibInSync,
    FibProgress,
    JournalReady,
    LinkChanged,
    LinkRemoved,
    LinksComplete,
    LogEvent,
    LogLevelChanged,
    LogLevelRequested,
    LogLine,
    MessagesDropped,
    NextHopsAsked,
    NextHopsReported,
    NextHopsVerified,
    Ping,
    Pong,
    RefusalsCounted,
    RefusalsWatched,
    ReloadFinished,
    ReloadRequested,
    RoutesImported,
    RuleReport,
    RulesChanged,
    SocketKind,
    SocketReady,
    Stop,
    Stopped,
)
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.metrics.server import MetricsServer
from routed.model.command import FibCommand
from routed.model.link import InterfaceAddress
from routed.model.secret import SharedSecret
from routed.sandbox.confine import Confinement, ConfinementError, confine_engine
from routed.sandbox.preload import load_what_tracebacks_need
from routed.snapshot.writer import SnapshotMemory

__all__ = ["Engine", "end_in_time", "run_engine"]

_Deed = TypeVar("_Deed", ReloadFinished, FibCommandDone, LogLevelChanged)
_Answer = TypeVar("_Answer", ReloadFinished, FibCommandDone, LogLevelChanged, NextHopsReported)

REQUEST_TIMEOUT_S = 120.0
"""How long a client waits for what the parent has to do."""

_BURST_FRAMES = 64
"""Frames of the parent taken in one turn of the event loop, at most; they are light."""

_LAST_MOMENTS_S = 2.0
"""For unwinding, and the traceback; farewells have been said before."""

_LOG_BACKLOG = 1000
"""Lines kept for a parent that does not read; the oldest go."""


def run_engine(uid: int, gid: int, sandbox: str) -> int:
    """Be the engine until the parent says stop or goes away.

    Args:
        uid: whom to become.
        gid: its group.
        sandbox: `auto` goes on where the kernel lacks something, `required` refuses, `off` has
            neither seccomp nor landlock.

    Returns:
        The exit status.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    try:
        _say_hello(channel)
        trio.run(_be_engine, channel, uid, gid, sandbox)
    except ConfinementError as error:
        write_message(f"routed engine: {error}\n")  # its only way to speak
        return 1
    return 0


def _say_hello(channel: socket.socket) -> None:
    """Say which version this is: before that the parent says nothing."""
    (frame,) = frames_of(hello_of_this_process())
    with suppress(BrokenPipeError):  # the parent is gone, which ends us in a moment
        channel.sendmsg([pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)])


async def _be_engine(channel: socket.socket, uid: int, gid: int, sandbox: str) -> None:
    """Enter the sandbox, and serve.

    Within the event loop: to make one, Python asks for the status of a descriptor, which C
    libraries do by a call that could as well ask for a path's. No thread exists yet.

    Raises:
        ConfinementError: it cannot be entered as configured.
    """
    load_what_tracebacks_need()
    memory = ProcessMemory()
    snapshot_memory = SnapshotMemory()
    confinement = confine_engine(
        uid, gid, has_sandbox=sandbox != "off", tells_refusals=sandbox != "off"
    )
    if sandbox == "required" and confinement.missing:
        raise ConfinementError(
            f"`sandbox: required`, and this kernel lacks {' and '.join(confinement.missing)}"
        )
    if confinement.listener is not None:
        _hand_over_listener(channel, confinement.listener)
    await Engine(channel, confinement, memory, snapshot_memory).run()


def _hand_over_listener(channel: socket.socket, listener: int) -> None:
    """Let the parent hear of refused system calls; nobody here may hold on to that.

    At once: until then a refused call would wait for an answer for ever.
    """
    (frame,) = frames_of(RefusalsWatched())
    message = pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
    with suppress(BrokenPipeError):  # the parent is gone, which ends us in a moment
        channel.sendmsg([message], pack_descriptor(listener))
    os.close(listener)


class _ParentSink:
    """Log records on their way to the parent, bounded."""

    def __init__(self, wake: trio.Event) -> None:
        self.records: deque[LogRecord] = deque(maxlen=_LOG_BACKLOG)
        self.wake = wake

    def write(self, record: LogRecord) -> None:
        """Queue one record."""
        self.records.append(record)
        self.wake.set()

    def close(self) -> None:
        """The channel is the engine's to close."""


class Engine:
    """Owns the channel and the configuration in force; the rooms are the router's."""

    def __init__(
        self,
        connection: socket.socket,
        confinement: Confinement,
        memory: ProcessMemory,
        snapshot_memory: SnapshotMemory,
    ) -> None:
        self._confinement = confinement
        self._memory = memory
        self._snapshot_memory = snapshot_memory
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._clock = MonotonicClock()
        self._phase = EnginePhase.CONFIGURING
        self._to_send = trio.Event()
        self._answers: deque[tuple[object, int]] = deque()
        self._log_sink = _ParentSink(self._to_send)
        self._log = Logger(self._log_sink, "engine", Level.DEBUG)

        self._parent_watch = ParentWatch(self._clock.now, self._log)

        self._begin: ConfBegin | None = None
        self._pieces: list[bytes] = []
        self._secrets: tuple[SharedSecret, ...] = ()
        self._prepared: Config | None = None
        self._rooms: _Components | None = None
        """There from the first configuration on."""
        self._server: ManagementServer | None = None
        self._metrics: MetricsServer | None = None
        self._reloads: dict[int, trio.MemorySendChannel[ReloadFinished]] = {}
        self._fib_commands: dict[int, trio.MemorySendChannel[FibCommandDone]] = {}
        self._log_levels: dict[int, trio.MemorySendChannel[LogLevelChanged]] = {}
        self._nexthops: dict[int, trio.MemorySendChannel[NextHopsReported]] = {}
        self._next_request_id = 1
        self._addresses: list[InterfaceAddress] = []
        """Of a link that takes several messages; the same for the rules."""
        self._rule_reports: list[RuleReport] = []
        self._messages_dropped = 0
        """Messages to the parent that could not be sent: a defect."""
        self._journals: list[int] = []

    # --- life

    async def run(self) -> None:
        """Serve the parent until it says stop or goes away."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(end_in_time)
            nursery.start_soon(self._send_loop)
            nursery.start_soon(self._parent_watch.run)
            await self._receive_loop()
            nursery.cancel_scope.cancel()

    async def _receive_loop(self) -> None:
        while True:
            try:
                # A turn of the loop may be long, and the parent must not wait for as many turns as
                # it has things to say.
                burst = await self._channel.receive_burst(_BURST_FRAMES)
            except ChannelClosed:
                return  # the parent is gone, and we with it
            for frame, descriptor in burst:
                message_class = check_authority(
                    frame.type,
                    ChannelEnd.PARENT,
                    self._phase,
                    has_descriptor=descriptor is not None,
                )
                message: object = codec.decode(message_class, frame.body)
                if isinstance(message, Stop):
                    self._phase = EnginePhase.STOPPING
                    await self._say_goodbye(message)
                    return
                self._take(message, frame.request_id, descriptor)
            self._parent_watch.heard()
            if self._rooms is not None:
                self._rooms.router.parent_heard()

    def _take(self, message: object, request_id: int, descriptor: int | None) -> None:
        match message:
            case ConfBegin() | ConfItem() | ConfSecrets() | ConfDrain() | ConfDone():
                self._take_configuration(message)
            case LinkChanged():
                self._take_link(message)
            case LinkRemoved(ifindex=ifindex):
                self._running.router.link_removed(ifindex)
            case LinksComplete(former_next_hops=legs):
                self._running.router.links_complete(legs)
            case SocketReady():
                assert descriptor is not None  # the authority table says so
                self._take_socket(message, socket.socket(fileno=descriptor))
            case JournalReady():
                assert descriptor is not None  # the authority table says so
                self._take_journal(descriptor)
            case FibProgress():
                self._running.router.progressed(message)
                self._wake_sender()  # there is room for more desired routes
            case RoutesImported():
                self._running.router.kernel_routes_changed(message.install, message.remove)
            case RulesChanged(rules=rules, continues=continues):
                self._rule_reports += rules
                if not continues:
                    self._running.reporter.rule_reports = tuple(self._rule_reports)
                    self._rule_reports = []
            case ConfigState():
                self._running.reporter.config_state_changed(message, self._clock.now())
            case RefusalsCounted(calls=calls):
                self._running.reporter.refused_calls = calls
            case MessagesDropped(count=count):
                self._running.reporter.parent_messages_dropped = count
            case FibCommandDone():
                _hand_over(self._fib_commands, request_id, message)
            case NextHopsReported():
                _hand_over(self._nexthops, request_id, message)
            case LogLevelChanged(level=level):
                self._log.level = Level[level.upper()]
                _hand_over(self._log_levels, request_id, message)
            case Diagnose():
                for what, value in engine_facts(self._running.reporter):
                    self._log.emit("diagnostic", what=what, value=value)
            case Ping():
                self._say(Pong())
            case LogLine():
                self._running.reporter.lines.append(message)
            case ReloadFinished():
                self._reload_finished(request_id, message)

    @property
    def _running(self) -> _Components:
        assert self._rooms is not None  # phase RUNNING, says the authority table
        return self._rooms

    def _take_link(self, message: LinkChanged) -> None:
        """Take a link, once all of its addresses are there."""
        link = message.link
        if message.continues or self._addresses:
            self._addresses += link.addresses
        if message.continues:
            return
        if self._addresses:
            link = dataclasses.replace(link, addresses=tuple(self._addresses))
            self._addresses = []
        self._running.router.link_changed(link)

    def _take_socket(self, message: SocketReady, opened: socket.socket) -> None:
        match message:
            case SocketReady(kind=SocketKind.MANAGEMENT):
                rooms = self._running
                self._server = ManagementServer(
                    opened, rooms.reporter, _access_list(rooms.config), self._log_management
                )
                self._nursery.start_soon(self._server.run)
            case SocketReady(kind=SocketKind.METRICS):
                self._serve_metrics(opened)
            case SocketReady(ifindex=ifindex, family=family):
                assert family is not None  # kind NEIGHBOR
                self._running.router.take_socket(ifindex, family, opened)

    def _take_journal(self, descriptor: int) -> None:
        """With both files there, go on where the engine before this one ended."""
        self._journals.append(descriptor)
        if len(self._journals) == 2:
            complain = lambda problem: self._log.emit(  # noqa: E731
                "internal-error", where="injected routes", error=problem
            )
            self._running.router.injected.keep(Journal(self._journals, complain))

    def _serve_metrics(self, listener: socket.socket) -> None:
        rooms = self._running
        self._stop_metrics()
        exporter = Exporter(rooms.reporter, rooms.router, self._client_refusals())
        self._metrics = MetricsServer(
            listener,
            exporter.collect,
            may_read=lambda caller: _access_list(rooms.config).role_of(caller) >= ControlRole.READ,
            on_defect=lambda error: self._log.emit("internal-error", where="metrics", error=error),
        )
        self._nursery.start_soon(self._metrics.run)

    def _client_refusals(self) -> Mapping[str, int]:
        return {} if self._server is None else self._server.refusals

    def _stop_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.stop()
            self._metrics = None

    # --- what the parent is told

    def _say(self, message: object, request_id: int = 0) -> None:
        self._answers.append((message, request_id))
        self._to_send.set()

    def _wake_sender(self) -> None:
        self._to_send.set()

    async def _send_loop(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send = self._log_sink.wake = trio.Event()
            try:
                await self._send_all()
            except ChannelClosed:
                return  # the receiver will see it, too, and end the process

    async def _send_all(self) -> None:
        while (item := self._next_message()) is not None:
            await self._send_message(*item)

    async def _send_message(self, message: object, request_id: int) -> None:
        """Send one message. One that cannot be sent is dropped, logged and counted.

        Raises:
            ChannelClosed: the parent is gone.
        """
        frames, problem = frames_or_problem(message, request_id)
        try:
            for frame in frames:
                await self._channel.send(frame)
        except FrameError as error:
            problem = str(error)
        if problem:
            self._messages_dropped += 1
            if self._rooms is not None:
                self._rooms.reporter.messages_dropped = self._messages_dropped
            self._log.emit("message-dropped", message=type(message).__name__, problem=problem)

    def _next_message(self) -> tuple[object, int] | None:
        """What to say next: dying next hops, answers, desired routes, log lines, then what ends
        them."""
        suspects = None if self._rooms is None else self._rooms.router.fib.pop_next_hops_to_verify()
        if suspects is not None:
            return suspects, 0
        if self._answers:
            return self._answers.popleft()
        # Desired routes come before log lines. Their window is small, so the lines get a turn, and
        # clients that fill the log do not hold up the kernel.
        update = None if self._rooms is None else self._rooms.router.next_update()
        if update is not None:
            return update, 0
        if self._log_sink.records:
            record = self._log_sink.records.popleft()
            return LogEvent(record.event, dict(record.fields)), 0
        if self._rooms is None:
            return None
        if self._rooms.router.fib.pop_next_hops_verified():
            return NextHopsVerified(), 0
        return (FibInSync(0), 0) if self._rooms.router.receive_in_sync() else None

    async def _say_goodbye(self, stop: Stop) -> None:
        if self._rooms is not None:
            self._rooms.router.stop(is_restart=stop.is_restart)
        self._say(Stopped())
        try:
            await self._send_all()
        except ChannelClosed:
            return  # the parent did not wait

    # --- configuration

    def _take_configuration(
        self, message: ConfBegin | ConfItem | ConfSecrets | ConfDrain | ConfDone
    ) -> None:
        match message:
            case ConfBegin():
                self._begin, self._pieces, self._prepared = message, [], None
                self._secrets = ()
            case ConfItem(piece=piece):
                self._pieces.append(piece)
            case ConfSecrets(secrets=secrets):
                self._secrets += secrets
            case ConfDrain():
                assert self._begin is not None  # the parent is trusted with the order
                self._say(ConfReady(self._begin.generation, self._prepare(self._begin)))
            case ConfDone():
                assert self._begin is not None
                assert self._prepared is not None
                self._apply(self._begin, self._prepared)
                self._phase = EnginePhase.RUNNING
                self._say(ConfApplied(self._begin.generation))

    def _prepare(self, begin: ConfBegin) -> str:
        """Decode the configuration; returns what is wrong with it."""
        encoded = b"".join(self._pieces)
        self._pieces = []
        if len(encoded) != begin.total_bytes:
            return f"{len(encoded)} bytes came of {begin.total_bytes}"
        try:
            known = None if self._rooms is None else self._rooms.config
            self._prepared = unpack(codec.decode(ConfigTransfer, encoded), known)
        except (codec.CodecError, ValueError) as error:
            return str(error)
        return ""

    def _apply(self, begin: ConfBegin, config: Config) -> None:
        """Switch to a configuration in one step."""
        if self._rooms is None:
            self._rooms = self._build_rooms(begin, config)
        if self._rooms.config.log != config.log:
            self._log.level = Level[config.log.level.name]
        self._rooms.config = self._rooms.reporter.config = config
        self._rooms.router.apply(config, self._secrets)
        if self._server is not None:
            self._server.access = _access_list(config)
        if config.metrics.listen is None:
            self._stop_metrics()

    def _build_rooms(self, begin: ConfBegin, config: Config) -> _Components:
        """Once, when the first configuration takes effect."""
        self._report_confinement(begin)
        router = Router(
            config,
            daemon_pid=begin.daemon_pid,
            origin_seqno=begin.origin_seqno,
            log=self._log,
            on_change=self._wake_sender,
            snapshot_memory=self._snapshot_memory,
        )
        self._nursery.start_soon(router.run)
        reporter = Reporter(
            begin,
            config,
            router,
            sandbox=str(self._confinement),
            counts_refusals=self._confinement.listener is not None,
            configure=self._configure,
            command_fib=self._command_fib,
            ask_nexthops=self._ask_nexthops,
            set_log_level=self._set_log_level,
            memory=self._memory,
            parent_silent_since=lambda: self._parent_watch.silent_since,
        )
        return _Components(config, router, reporter)

    def _report_confinement(self, begin: ConfBegin) -> None:
        """Say once in a daemon's life what the sandbox lacks; every engine says what it has.

        An older landlock is information: a distribution's kernel is as it is, at each start.
        """
        self._log.emit("sandboxed", by=self._confinement)
        if not self._confinement.missing or begin.engine_restarts:
            return
        event = "sandbox-degraded" if self._confinement.is_degraded else "sandbox-limited"
        self._log.emit(event, missing=", ".join(self._confinement.missing))

    # --- management

    async def _configure(self, request: ReloadRequested) -> CommandOutcome:
        return await self._ask_parent(request, self._reloads)

    async def _command_fib(self, command: FibCommand, uid: int, pid: int) -> CommandOutcome:
        return await self._ask_parent(FibCommanded(command, uid, pid), self._fib_commands)

    async def _set_log_level(self, level: str) -> CommandOutcome:
        return await self._ask_parent(LogLevelRequested(level), self._log_levels)

    async def _ask_nexthops(self, after_id: int) -> NextHopsReported | None:
        """The next kernel nexthop objects, as the parent knows them; None when it does not
        answer."""
        return await self._ask(NextHopsAsked(after_id), self._nexthops)

    async def _ask_parent(
        self, request: object, waiting: dict[int, trio.MemorySendChannel[_Deed]]
    ) -> CommandOutcome:
        """Have something done on behalf of a client; how that went."""
        answer = await self._ask(request, waiting)
        if answer is None:
            return CommandOutcome(False, (f"no answer within {REQUEST_TIMEOUT_S:g} s",))
        return CommandOutcome(answer.is_ok, answer.lines)

    async def _ask(
        self, request: object, waiting: dict[int, trio.MemorySendChannel[_Answer]]
    ) -> _Answer | None:
        """Send a request and wait for its answer; None when none came in time."""
        request_id = self._next_request_id
        self._next_request_id += 1
        answers_in, answers = trio.open_memory_channel[_Answer](1)
        waiting[request_id] = answers_in
        self._say(request, request_id)
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S):
                return await answers.receive()
            return None
        finally:
            del waiting[request_id]

    def _reload_finished(self, request_id: int, answer: ReloadFinished) -> None:
        if answer.changes_state:
            self._running.reporter.reloads["done" if answer.is_ok else "failed"] += 1
            self._running.reporter.last_reload = LastReload(
                answer.is_ok, self._clock.now(), answer.lines[0] if answer.lines else ""
            )
        _hand_over(self._reloads, request_id, answer)

    def _log_management(self, event: str, fields: dict[str, str]) -> None:
        self._log.write(event, fields, "engine")


async def end_in_time() -> None:
    """Once this engine begins to end, for whatever reason, the kernel sees to it that it does.

    Out of memory, the event loop itself may lose a task while it unwinds, and wait for it for ever:
    then the default action of SIGALRM is the end, and the next engine begins.
    """
    try:
        await trio.sleep_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, _LAST_MOMENTS_S)


def _hand_over(
    waiting: dict[int, trio.MemorySendChannel[_Answer]], request_id: int, answer: _Answer
) -> None:
    """Wake the client that waits for this answer, if it still does."""
    asked = waiting.get(request_id)
    if asked is not None:
        with suppress(trio.WouldBlock):  # it has an answer already, and takes no second one
            asked.send_nowait(answer)


@dataclass(slots=True)
class _Components:
    """What there is once a configuration is in force."""

    config: Config
    router: Router
    reporter: Reporter


def _access_list(config: Config) -> AccessList:
    management = config.management
    return AccessList.from_principals(
        [(principal.kind.value, principal.id) for principal in management.read],
        [(principal.kind.value, principal.id) for principal in management.admin],
    )
