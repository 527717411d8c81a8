"""The observer's channel to the engine: answers about flows, and counters once a second.

A request is answered before the next one is read. An engine that does not read its answers is not
waited for by anything but this channel.
"""

from __future__ import annotations

import socket
import time

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError, IpcError
from ipc.standard_streams import write_message
from routed.dataplane.flows import FlowTable
from routed.imsg.frames import frames_of
from routed.imsg.observer import (
    OBSERVER_CLASSES,
    CollectorsReported,
    FlowRow,
    FlowsAnswered,
    FlowsAsked,
    FlowsCounted,
    ObserverEnd,
    SnapshotReady,
    check_observer_message,
)
from routed.observer.export import FlowExporter
from routed.observer.routes import FlowRoutes
from routed.observer.rows import Ranking

__all__ = ["REPORT_S", "FlowReporter"]

REPORT_S = 1.0


class FlowReporter:
    """Owns the channel to the engine."""

    def __init__(self, nursery: trio.Nursery, routes: FlowRoutes, exporter: FlowExporter) -> None:
        """Begin without an engine.

        Args:
            nursery: listens to each engine.
            routes: is given the snapshot of each engine.
            exporter: whose collectors are reported.
        """
        self._routes = routes
        self._exporter = exporter
        self.table: FlowTable | None = None
        """None until the memory is there."""
        self.ended = 0
        """Flows that have ended."""
        self._nursery = nursery
        self._channel: Channel | None = None

    def connect(self, connection: socket.socket) -> None:
        """Serve an engine from now on, in place of an earlier one."""
        if self._channel is not None:
            self._channel.close()
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._nursery.start_soon(self._listen, self._channel)

    async def run(self) -> None:
        """Report the counters every REPORT_S, until cancelled."""
        while True:
            await trio.sleep(REPORT_S)
            table, channel = self.table, self._channel
            if table is not None and channel is not None:
                message = FlowsCounted(
                    table.active, table.counts.begun, self.ended, *table.counts[1:]
                )
                await self._send(channel, message)
                await self._send(channel, CollectorsReported(self._exporter.reports()))

    async def _listen(self, channel: Channel) -> None:
        """Answer requests until the channel ends."""
        try:
            while True:
                frame, descriptor = await channel.receive()
                message_class = check_observer_message(
                    frame.type, ObserverEnd.ENGINE, has_descriptor=descriptor is not None
                )
                message: object = codec.decode(message_class, frame.body)
                if descriptor is not None:
                    assert isinstance(message, SnapshotReady)  # by the table
                    self._open_snapshot(descriptor, message.size_bytes)
                    continue
                assert isinstance(message, FlowsAsked)
                await self._send(
                    channel, FlowsAnswered(await self._rows(message)), frame.request_id
                )
        except ChannelClosed:
            pass  # the parent sends the channel of the next engine
        except IpcError as error:
            write_message(f"engine channel: {error}\n")
        channel.close()
        if self._channel is channel:
            self._channel = None

    def _open_snapshot(self, descriptor: int, size_bytes: int) -> None:
        try:
            self._routes.open(descriptor, size_bytes)
        except (OSError, ValueError) as error:
            write_message(f"snapshot: {error}\n")

    async def _rows(self, request: FlowsAsked) -> tuple[FlowRow, ...]:
        if self.table is None:
            return ()
        ranking = Ranking(request, time.monotonic_ns())
        for flows in self.table.current():
            ranking.add(flows)
            await trio.lowlevel.checkpoint()
        return ranking.rows()

    async def _send(self, channel: Channel, message: object, request_id: int = 0) -> None:
        try:
            for frame in frames_of(message, request_id, OBSERVER_CLASSES):
                await channel.send(frame)
        except (ChannelClosed, FrameError):
            channel.close()  # the engine is gone; `_listen` ends
