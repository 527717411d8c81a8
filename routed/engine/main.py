"""The unprivileged process: its start in the sandbox, and its loops.

    parent --messages--> receive loop --> ConfigReceiver, Components, ParentClient
           <--messages-- send loop <----- SendQueue
    clients <--> ManagementServer <--> Reporter (views of the components)

Privileges are dropped after every import and before the first byte is read. The configuration comes
first: it is decoded, answered, and takes effect in one step. Every message is checked against the
authority table before it is decoded.

Failure: an exception ends the process with its traceback on stderr, which the parent logs. The
kernel routes stay, and the next engine takes over. When the parent ends, the engine ends as well.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.fdpass import pack_descriptor
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, pack_frame
from ipc.standard_streams import write_message
from routed.clock import MonotonicClock
from routed.engine.components import Components, ProcessResources, build_components
from routed.engine.config_receiver import ConfigMessage, ConfigReceiver, ReceivedConfig
from routed.engine.parent_channel import ParentChannel
from routed.engine.parent_client import ParentClient
from routed.engine.parent_watch import ParentWatch
from routed.engine.send_queue import SendQueue
from routed.engine.show.memory import ProcessMemory
from routed.imsg.authority import ChannelEnd, EnginePhase, check_authority
from routed.imsg.dataplane import ProgramsReported
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_of
from routed.imsg.messages import (
    CHANNEL_FD,
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfItem,
    ConfReady,
    ConfSecrets,
    FibCommandDone,
    LogLevelChanged,
    NextHopsReported,
    Ping,
    Pong,
    RefusalsWatched,
    ReloadFinished,
    Stop,
    Stopped,
)
from routed.log.events import Level
from routed.sandbox.confine import ConfinementError, confine_engine
from routed.sandbox.preload import load_what_tracebacks_need
from routed.snapshot.writer import SnapshotMemory

__all__ = ["Engine", "end_in_time", "run_engine"]

_BURST_FRAMES = 64
"""Most frames handled in one turn of the event loop; they are light."""

_LAST_MOMENTS_S = 2.0
"""Time for unwinding and the traceback; the goodbyes have been sent before."""


def run_engine(uid: int, gid: int, sandbox: str) -> int:
    """Run the engine until the parent sends Stop or exits.

    Args:
        uid: of the user to run as.
        gid: its group.
        sandbox: `auto` continues if the kernel lacks a feature, `required` does not, `off` uses
            neither seccomp nor landlock.

    Returns:
        The exit status.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    try:
        _send_hello(channel)
        trio.run(_be_engine, channel, uid, gid, sandbox)
    except ConfinementError as error:
        write_message(f"routed engine: {error}\n")  # the channel is not in use yet
        return 1
    return 0


def _send_hello(channel: socket.socket) -> None:
    """Send the version of this process; the parent waits for it before it sends anything."""
    (frame,) = frames_of(hello_of_this_process())
    with suppress(BrokenPipeError):  # the parent has exited, which ends this process soon
        channel.sendmsg([pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)])


async def _be_engine(channel: socket.socket, uid: int, gid: int, sandbox: str) -> None:
    """Enter the sandbox, and serve.

    The sandbox is entered within the event loop: to create one, Python asks for the status of a
    descriptor, for which C libraries use a system call that could as well ask for a path's. No
    thread exists yet.

    Raises:
        ConfinementError: the sandbox cannot be entered as configured.
    """
    load_what_tracebacks_need()
    memory, snapshot_memory = ProcessMemory(), SnapshotMemory()
    namespace = _network_namespace()
    confinement = confine_engine(
        uid, gid, has_sandbox=sandbox != "off", reports_refusals=sandbox != "off"
    )
    if sandbox == "required" and confinement.missing:
        raise ConfinementError(
            f"`sandbox: required`, and this kernel lacks {' and '.join(confinement.missing)}"
        )
    if confinement.listener is not None:
        _hand_over_listener(channel, confinement.listener)
    resources = ProcessResources(confinement, memory, snapshot_memory, namespace)
    await Engine(channel, resources).run()


def _network_namespace() -> int | None:
    """Return the inode of the network namespace; None without /proc."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return None


def _hand_over_listener(channel: socket.socket, listener: int) -> None:
    """Send the seccomp listener, which reports refused system calls, to the parent and close it.

    This is done at once: until then a refused call would block forever.
    """
    (frame,) = frames_of(RefusalsWatched())
    message = pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
    with suppress(BrokenPipeError):  # the parent has exited, which ends this process soon
        channel.sendmsg([message], pack_descriptor(listener))
    os.close(listener)


class Engine:
    """Owns the channel to the parent and the phase of this process."""

    def __init__(self, connection: socket.socket, resources: ProcessResources) -> None:
        """Prepare; nothing is read before `run`.

        Args:
            connection: to the parent.
            resources: acquired before the process was confined.
        """
        self.components: Components | None = None
        """The components; None until the first configuration takes effect."""
        self._resources = resources
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._clock = MonotonicClock()
        self._phase = EnginePhase.CONFIGURING
        queue = SendQueue(self._channel)
        watch = ParentWatch(self._clock.now, queue.log)
        self._parent = ParentChannel(queue, ParentClient(queue.send), watch)
        self._config_receiver = ConfigReceiver()

    async def run(self) -> None:
        """Serve the parent until it sends Stop or goes away."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_in_time)
            nursery.start_soon(self._parent.queue.run)
            nursery.start_soon(self._parent.watch.run)
            await self._receive_loop(nursery)
            nursery.cancel_scope.cancel()

    async def _receive_loop(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                # A turn of the event loop may be long, and the parent must not wait for as many
                # turns as it has messages.
                burst = await self._channel.receive_burst(_BURST_FRAMES)
            except ChannelClosed:
                return  # the parent has exited
            for frame, descriptor in burst:
                message_class = check_authority(
                    frame.type,
                    ChannelEnd.PARENT,
                    self._phase,
                    has_descriptor=descriptor is not None,
                )
                message: object = codec.decode(message_class, frame.body)
                if isinstance(message, Stop):
                    await self._stop(message)
                    return
                self._handle(message, frame.request_id, descriptor, nursery)
            self._parent.watch.record_message()
            if self.components is not None:
                self.components.router.record_parent_alive()

    def _handle(
        self, message: object, request_id: int, descriptor: int | None, nursery: trio.Nursery
    ) -> None:
        match message:
            case ConfBegin() | ConfItem() | ConfSecrets() | ConfDrain() | ConfDone():
                self._handle_config(message, nursery)
            case Ping():
                self._parent.queue.send(Pong())
            case LogLevelChanged(level=level):
                self._parent.queue.log.level = Level[level.upper()]
                self._parent.client.receive_answer(request_id, message)
            case FibCommandDone() | NextHopsReported() | ProgramsReported():
                self._parent.client.receive_answer(request_id, message)
            case _:
                assert self.components is not None  # phase RUNNING, by the authority table
                self.components.handle(message, descriptor, self._clock.now())
                if isinstance(message, ReloadFinished):
                    self._parent.client.receive_answer(request_id, message)

    def _handle_config(self, message: ConfigMessage, nursery: trio.Nursery) -> None:
        running = None if self.components is None else self.components.router.config
        match self._config_receiver.receive(message, running):
            case ConfReady() as answer:
                self._parent.queue.send(answer)
            case ReceivedConfig() as received:
                if self.components is None:
                    self.components = build_components(
                        received, self._resources, self._parent, nursery
                    )
                self.components.apply(received)
                self._phase = EnginePhase.RUNNING
                self._parent.queue.send(ConfApplied(received.begin.generation))

    async def _stop(self, stop: Stop) -> None:
        """Send goodbye to neighbors, and everything that waits to the parent."""
        self._phase = EnginePhase.STOPPING
        if self.components is not None:
            self.components.router.stop(is_restart=stop.is_restart)
        self._parent.queue.send(Stopped())
        with suppress(ChannelClosed):  # the parent did not wait
            await self._parent.queue.send_all()


async def end_in_time() -> None:
    """Arm a timer of the kernel when this engine begins to end, for whatever reason.

    If memory is exhausted, the event loop may lose a task while it unwinds and wait for it forever.
    Then the default action of SIGALRM ends the process, and the parent starts the next engine.
    """
    try:
        await trio.sleep_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, _LAST_MOMENTS_S)
