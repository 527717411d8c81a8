"""The observer: its start in the sandbox, and its loops.

    parent   --memory, settings--> receive loop
    programs --mapped memory-----> FlowTable <--sweep-- every SWEEP_S
                                      '--flows that have ended--> FlowExporter --> collectors
    engine   --FLOWS_ASKED-------> FlowReporter --FLOWS_ANSWERED--> engine

It decides nothing about routes, loads no program and holds none. As in the engine
(`routed.engine.main`), privileges are dropped after every import and before the first byte is read.

Failure: an exception ends the process with its traceback on stderr, which the parent logs. The
programs go on counting, and the next observer finds the flows of before. When the parent ends, this
process ends as well.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.extension import fence
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, pack_frame
from ipc.standard_streams import write_message
from routed.dataplane.activity import Activity
from routed.dataplane.flows import PARTS, FlowTable, Timeouts
from routed.dataplane.kernel import MappedArray
from routed.dataplane.layout import Sizes
from routed.imsg.dataplane import DataplaneArrayReady
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.frames import frames_of
from routed.imsg.messages import CHANNEL_FD, Ping, Pong
from routed.imsg.observer import (
    OBSERVER_CLASSES,
    CollectorSocketReady,
    ObserverConfigured,
    ObserverEnd,
    ObserverEngineReady,
    ObserverStop,
    check_observer_message,
)
from routed.model.dataplane import DataplaneArray
from routed.observer.engine_link import FlowReporter
from routed.observer.export import FlowExporter
from routed.observer.routes import FlowRoutes
from routed.sandbox.confine import ConfinementError, confine_engine
from routed.sandbox.preload import load_what_tracebacks_need
from routed.sandbox.syscalls import OBSERVER_ALLOWED

__all__ = ["SWEEP_S", "run_observer"]

SWEEP_S = 0.125
"""Time between two sweeps, each of a part of the places."""

_FLOW_ARRAYS = ("flows", "tags", "ended", "rings")


def run_observer(uid: int, gid: int, sandbox: str) -> int:
    """Run until the parent sends ObserverStop or goes away.

    Args:
        uid: of the user to run as.
        gid: its group.
        sandbox: as for the engine: `auto`, `required` or `off`.

    Returns:
        The exit status.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    (hello,) = frames_of(hello_of_this_process(), types=OBSERVER_CLASSES)
    try:
        with suppress(BrokenPipeError):  # the parent is gone, which ends this process soon
            channel.sendmsg([pack_frame(hello, INTERNAL_FRAME_MAX_BYTES)])
        trio.run(_be_observer, channel, uid, gid, sandbox)
    except ConfinementError as error:
        write_message(f"routed observer: {error}\n")
        return 1
    return 0


async def _be_observer(channel: socket.socket, uid: int, gid: int, sandbox: str) -> None:
    """Enter the sandbox within the event loop, as the engine does, and serve.

    Raises:
        ConfinementError: the sandbox cannot be entered as configured.
    """
    load_what_tracebacks_need()
    confinement = confine_engine(uid, gid, has_sandbox=sandbox != "off", allowed=OBSERVER_ALLOWED)
    if sandbox == "required" and confinement.missing:
        missing = " and ".join(confinement.missing)
        raise ConfinementError(f"`sandbox: required`, and this kernel lacks {missing}")
    async with trio.open_nursery() as nursery:
        await _Observer(channel, nursery).serve()
        nursery.cancel_scope.cancel()


class _Observer:
    """Owns the channel to the parent, and the mapped memory."""

    def __init__(self, connection: socket.socket, nursery: trio.Nursery) -> None:
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._nursery = nursery
        self._memory: dict[str, memoryview] = {}
        self._mappings: list[MappedArray] = []
        """Mapped until this process ends."""
        self._timeouts: Timeouts | None = None
        self._table: FlowTable | None = None
        self._exporter = FlowExporter()
        self._routes = FlowRoutes()
        self._link = FlowReporter(nursery, self._routes, self._exporter)

    async def serve(self) -> None:
        """Serve until the parent sends ObserverStop or goes away."""
        self._nursery.start_soon(self._sweep)
        self._nursery.start_soon(self._link.run)
        while True:
            try:
                frame, descriptor = await self._channel.receive()
            except ChannelClosed:
                return
            message_class = check_observer_message(
                frame.type, ObserverEnd.PARENT, has_descriptor=descriptor is not None
            )
            message: object = codec.decode(message_class, frame.body)
            match message:
                case ObserverStop():
                    self._end_flows()
                    return
                case Ping():
                    await self._answer_ping()
                case ObserverConfigured():
                    self._timeouts = Timeouts(message.idle_ns, message.active_ns)
                    self._exporter.configure(message.collectors)
                case CollectorSocketReady():
                    assert descriptor is not None  # the table requires it
                    self._exporter.add_socket(message.to, socket.socket(fileno=descriptor))
                case ObserverEngineReady():
                    assert descriptor is not None  # the table requires it
                    self._link.connect(socket.socket(fileno=descriptor))
                case DataplaneArrayReady():
                    assert descriptor is not None  # the table requires it
                    self._map(message, descriptor)

    async def _answer_ping(self) -> None:
        (frame,) = frames_of(Pong(), types=OBSERVER_CLASSES)
        with suppress(ChannelClosed):  # the next receive sees it, too
            await self._channel.send(frame)

    def _map(self, message: DataplaneArrayReady, descriptor: int) -> None:
        """Map memory that the programs write; the flows begin with the last array.

        Raises:
            OSError: the kernel refuses.
        """
        sizes = Sizes(message.processors, message.words, message.records, message.flow_sets)
        name = message.array.value
        try:
            mapping = MappedArray(
                descriptor,
                sizes.array_bytes[name],
                is_writable=message.array is not DataplaneArray.ACTIVITY,
            )
        finally:
            os.close(descriptor)
        self._mappings.append(mapping)
        self._memory[name] = mapping.memory
        if all(each in self._memory for each in ("activity", *_FLOW_ARRAYS)):
            arrays = {each: self._memory[each] for each in _FLOW_ARRAYS}
            activity = Activity(self._memory["activity"])
            self._table = FlowTable(arrays, sizes, activity, fence)
            self._link.table = self._table

    async def _sweep(self) -> None:
        """Look at a part of the places every SWEEP_S, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            if self._timeouts is not None:
                self._end(self._timeouts)

    def _end(self, timeouts: Timeouts) -> None:
        """Look at a part of the places, and export the flows that have ended."""
        if self._table is not None:
            ended = self._table.sweep(time.monotonic_ns(), timeouts)
            self._link.ended += len(ended)
            self._exporter.export([self._routes.record(*each) for each in ended])

    def _end_flows(self) -> None:
        """Export the flows of the present before this process ends."""
        for _ in range(2 * PARTS):
            self._end(Timeouts(0, 0))
