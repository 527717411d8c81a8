r"""The liveness process: its start in the sandbox, and its loops.

    parent --configuration, sockets--> receive loop --> BfdNetwork <----> BfdInstance
                                                    \-> ProbeNetwork <--> ProbeInstance
    peers  <----------- packets ----------------------> BfdNetwork, ProbeNetwork
    engine <--reports-- StateReporter (one for BFD, one for probes)
    parent <--pongs, requests for sockets-- ParentQueue

It decides nothing about routes: it reports what it measures, and the engine decides. As in the
engine (`routed.engine.main`), privileges are dropped after every import and before the first byte
is read.

Failure: an exception ends the process with its traceback on stderr, which the parent logs. No route
changes, and the parent starts the next process. When the parent ends, this process ends as well.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, pack_frame
from ipc.standard_streams import write_message
from routed.bfd.instance import BfdInstance
from routed.clock import MonotonicClock
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_of
from routed.imsg.liveness import (
    LIVENESS_CLASSES,
    BfdConfigured,
    BfdSocketReady,
    EngineChannelReady,
    LivenessEnd,
    LivenessStop,
    check_liveness_message,
)
from routed.imsg.liveness_probes import (
    ProbeObserved,
    ProbesConfigured,
    ProbeSocketFailed,
    ProbeSocketReady,
)
from routed.imsg.messages import CHANNEL_FD, Ping
from routed.liveness.network import BfdNetwork
from routed.liveness.parent_queue import ParentQueue
from routed.liveness.probe_network import ProbeNetwork
from routed.liveness.reports import BfdReports, EngineLink, ProbeReports, StateReporter
from routed.model.bfd import BfdSettings, BfdState
from routed.model.probe import ProbeKind, ProbeSettings
from routed.probe.instance import ProbeInstance
from routed.sandbox.confine import ConfinementError, confine_engine
from routed.sandbox.preload import load_what_tracebacks_need
from routed.sandbox.priority import raise_priority
from routed.sandbox.syscalls import LIVENESS_ALLOWED

__all__ = ["run_liveness"]


def run_liveness(uid: int, gid: int, sandbox: str) -> int:
    """Run until the parent sends LivenessStop or goes away.

    Args:
        uid: of the user to run as.
        gid: its group.
        sandbox: as for the engine: `auto`, `required` or `off`.

    Returns:
        The exit status.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    (hello,) = frames_of(hello_of_this_process(), types=LIVENESS_CLASSES)
    try:
        with suppress(BrokenPipeError):  # the parent is gone, which ends this process soon
            channel.sendmsg([pack_frame(hello, INTERNAL_FRAME_MAX_BYTES)])
        trio.run(_be_liveness, channel, uid, gid, sandbox)
    except ConfinementError as error:
        write_message(f"routed liveness: {error}\n")
        return 1
    return 0


async def _be_liveness(channel: socket.socket, uid: int, gid: int, sandbox: str) -> None:
    """Enter the sandbox within the event loop, as the engine does, and serve.

    Raises:
        ConfinementError: the sandbox cannot be entered as configured.
    """
    load_what_tracebacks_need()
    raise_priority()  # where it is not permitted, deadlines are missed under load
    confinement = confine_engine(uid, gid, has_sandbox=sandbox != "off", allowed=LIVENESS_ALLOWED)
    if sandbox == "required" and confinement.missing:
        missing = " and ".join(confinement.missing)
        raise ConfinementError(f"`sandbox: required`, and this kernel lacks {missing}")
    async with trio.open_nursery() as nursery:
        await _Liveness(channel, nursery).serve()
        nursery.cancel_scope.cancel()


class _Liveness:
    """Owns the channel to the parent."""

    def __init__(self, connection: socket.socket, nursery: trio.Nursery) -> None:
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._nursery = nursery
        clock = MonotonicClock()
        # Not seeded: discriminators, jitter and sequence numbers must not be predictable.
        rng = random.SystemRandom()
        self._sessions = BfdInstance(rng)
        self._network = BfdNetwork(self._sessions, clock.now, self._session_changed, nursery)
        self._queue = ParentQueue(self._channel)
        probes = ProbeInstance(rng)
        self._probe_network = ProbeNetwork(
            probes, clock.now, self._probe_changed, self._queue.request_socket, nursery
        )
        self._link = EngineLink()
        bfd = BfdReports(self._sessions, clock.now, lambda: self._network.dropped_by_kernel)
        self._reporter = StateReporter(bfd, self._link)
        self._probe_reporter = StateReporter(ProbeReports(probes, clock.now), self._link)
        self._new_sessions: list[BfdSettings] = []
        """Sessions received so far of a configuration that comes in several messages."""
        self._new_probes: list[ProbeSettings] = []
        self._watched: dict[str, list[str]] = {}
        """The probes that look at each BFD session."""

    def _session_changed(self, name: str) -> None:
        self._reporter.mark(name)
        self._observe_session(name)

    def _probe_changed(self, name: str) -> None:
        self._probe_reporter.mark(name)

    async def serve(self) -> None:
        """Serve until the parent sends LivenessStop or goes away."""
        for task in (
            self._network.keep_time,
            self._probe_network.keep_time,
            self._reporter.run,
            self._probe_reporter.run,
            self._queue.run,
        ):
            self._nursery.start_soon(task)
        while True:
            try:
                frame, descriptor = await self._channel.receive()
            except ChannelClosed:
                return
            message_class = check_liveness_message(
                frame.type, LivenessEnd.PARENT, has_descriptor=descriptor is not None
            )
            message: object = codec.decode(message_class, frame.body)
            if isinstance(message, LivenessStop):
                self._network.stop()
                return
            if descriptor is None:
                self._handle(message)
            else:
                self._add_socket(message, socket.socket(fileno=descriptor))

    def _handle(self, message: object) -> None:
        match message:
            case Ping():
                self._queue.answer_ping()
            case BfdConfigured():
                self._configure_sessions(message)
            case ProbesConfigured():
                self._configure_probes(message)
            case ProbeObserved(probe=name, is_up=is_up, reason=reason):
                self._probe_network.observe(name, is_up, reason)
            case ProbeSocketFailed():
                self._probe_network.socket_failed(message)

    def _configure_sessions(self, message: BfdConfigured) -> None:
        self._new_sessions += message.sessions
        if not message.continues:
            sessions, self._new_sessions = self._new_sessions, []
            self._network.configure(sessions)

    def _configure_probes(self, message: ProbesConfigured) -> None:
        self._new_probes += message.probes
        if message.continues:
            return
        probes, self._new_probes = self._new_probes, []
        self._watched = {}
        for probe in probes:
            if probe.kind is ProbeKind.BFD:
                self._watched.setdefault(probe.session, []).append(probe.name)
        self._probe_network.configure(probes)
        for session in self._watched:
            self._observe_session(session)

    def _observe_session(self, session: str) -> None:
        """Have the probes that look at a BFD session see its state."""
        for probe in self._watched.get(session, ()):
            state = self._sessions.state(session)
            if state is None:
                self._probe_network.observe(probe, None, f"BFD session {session} does not run")
            else:
                reason = f"BFD session {session} is {state.label}"
                self._probe_network.observe(probe, state is BfdState.UP, reason)

    def _add_socket(self, message: object, opened: socket.socket) -> None:
        match message:
            case EngineChannelReady():
                self._link.connect(opened)
            case BfdSocketReady(session="", family=family, is_multihop=is_multihop):
                self._network.add_receiver(family, opened, is_multihop=is_multihop)
            case BfdSocketReady(session=name):
                self._network.add_sender(name, opened)
            case ProbeSocketReady():
                self._probe_network.add_socket(message, opened)
