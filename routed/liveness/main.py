"""The liveness process: its start in the sandbox, and its loops.

    parent --configuration, sockets--> receive loop --> BfdNetwork <--> BfdInstance
    peers  <----------- packets ----------------------> BfdNetwork
    engine <--reports-- BfdReporter

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
from routed.imsg.messages import CHANNEL_FD, Ping, Pong
from routed.liveness.network import BfdNetwork
from routed.liveness.reports import BfdReporter
from routed.model.bfd import BfdSettings
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
        instance = BfdInstance(random.SystemRandom())
        self._network = BfdNetwork(instance, clock.now, self._mark, nursery)
        self._reporter = BfdReporter(instance, clock.now, lambda: self._network.dropped_by_kernel)
        self._sessions: list[BfdSettings] = []
        """Sessions received so far of a configuration that comes in several messages."""

    def _mark(self, name: str) -> None:
        self._reporter.mark(name)

    async def serve(self) -> None:
        """Serve until the parent sends LivenessStop or goes away."""
        self._nursery.start_soon(self._network.keep_time)
        self._nursery.start_soon(self._reporter.run)
        while True:
            try:
                frame, descriptor = await self._channel.receive()
            except ChannelClosed:
                return
            message_class = check_liveness_message(
                frame.type, LivenessEnd.PARENT, has_descriptor=descriptor is not None
            )
            message: object = codec.decode(message_class, frame.body)
            match message:
                case LivenessStop():
                    self._network.stop()
                    return
                case Ping():
                    await self._answer_ping()
                case BfdConfigured():
                    self._configure(message)
                case BfdSocketReady() | EngineChannelReady():
                    assert descriptor is not None  # the table requires it
                    self._add_socket(message, socket.socket(fileno=descriptor))

    async def _answer_ping(self) -> None:
        (frame,) = frames_of(Pong(), types=LIVENESS_CLASSES)
        with suppress(ChannelClosed):  # the next receive sees it, too
            await self._channel.send(frame)

    def _configure(self, message: BfdConfigured) -> None:
        self._sessions += message.sessions
        if not message.continues:
            sessions, self._sessions = self._sessions, []
            self._network.configure(sessions)

    def _add_socket(
        self, message: BfdSocketReady | EngineChannelReady, opened: socket.socket
    ) -> None:
        match message:
            case EngineChannelReady():
                self._reporter.connect(opened)
            case BfdSocketReady(session="", family=family, is_multihop=is_multihop):
                self._network.add_receiver(family, opened, is_multihop=is_multihop)
            case BfdSocketReady(session=name):
                self._network.add_sender(name, opened)
