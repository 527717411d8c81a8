"""The engine's channel to the observer: requests about flows, and the counters that it reports.

    clients --ask--> ObserverClient --FLOWS_ASKED--> observer
                         ^---- FLOWS_ANSWERED, FLOWS_COUNTED --'

Each request has its own id, which the answer repeats. When the observer dies, the request that
waits is answered with None; the parent sends the channel of the next one.

Failure: an observer that breaks the rules of the channel is no longer listened to, as if it had
died.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError, IpcError
from routed.imsg.frames import frames_of
from routed.imsg.observer import (
    FLOW_ROWS_MAX,
    OBSERVER_CLASSES,
    CollectorReport,
    CollectorsReported,
    FlowRow,
    FlowsAnswered,
    FlowsAsked,
    FlowsCounted,
    ObserverEnd,
    SnapshotReady,
    check_observer_message,
)
from routed.log.logger import Logger
from routed.snapshot.writer import FibSnapshot

__all__ = ["ANSWER_TIMEOUT_S", "ObserverClient"]

ANSWER_TIMEOUT_S = 10.0


class _Pending:
    """A request, and the rows that have come so far."""

    def __init__(self) -> None:
        self.rows: list[FlowRow] = []
        self.is_complete = False
        self.ended = trio.Event()


class ObserverClient:
    """Owns the channel, and the requests that wait for an answer."""

    def __init__(self, log: Logger, snapshot: FibSnapshot) -> None:
        """Begin without an observer.

        Args:
            log: for an observer that breaks the rules of the channel.
            snapshot: which each observer receives.
        """
        self._snapshot = snapshot
        self.collectors: tuple[CollectorReport, ...] = ()
        """As of the last report."""
        self.counted: FlowsCounted | None = None
        """The last report; None without an observer."""
        self._log = log
        self._channel: Channel | None = None
        self._has_channel = trio.Event()
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._turn = trio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether there is an observer."""
        return self._channel is not None

    def connect(self, connection: socket.socket) -> None:
        """Speak with an observer from now on, in place of an earlier one."""
        if self._channel is not None:
            self._channel.close()
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._has_channel.set()

    async def ask(self, request: FlowsAsked) -> list[FlowRow] | None:
        """Ask for flows. Returns None if no answer comes: the observer is gone, or too slow."""
        async with self._turn:  # so that clients cost the observer one answer at a time
            channel = self._channel
            if channel is None:
                return None
            self._last_id += 1
            request_id, pending = self._last_id, _Pending()
            self._pending[request_id] = pending
            try:
                with trio.move_on_after(ANSWER_TIMEOUT_S):
                    for frame in frames_of(request, request_id, OBSERVER_CLASSES):
                        await channel.send(frame)
                    await pending.ended.wait()
            except (ChannelClosed, FrameError):
                return None
            finally:
                del self._pending[request_id]
            return pending.rows if pending.is_complete else None

    async def run(self) -> None:
        """Listen to each observer, until cancelled."""
        while True:
            await self._has_channel.wait()
            self._has_channel = trio.Event()
            if self._channel is not None:
                await self._serve(self._channel)

    async def _serve(self, channel: Channel) -> None:
        """Speak with one observer until its channel ends."""
        try:
            await self._send_snapshot(channel)
            await self._listen(channel)
        finally:
            channel.close()
            if channel is self._channel:
                self._channel = self.counted = None
                self.collectors = ()
            for pending in self._pending.values():
                pending.ended.set()

    async def _send_snapshot(self, channel: Channel) -> None:
        message = SnapshotReady(self._snapshot.size_bytes)
        (frame,) = frames_of(message, types=OBSERVER_CLASSES)
        with suppress(ChannelClosed, FrameError):  # `_listen` sees the end; it knows no routes then
            await channel.send(frame, self._snapshot.fileno())

    async def _listen(self, channel: Channel) -> None:
        """Handle messages until the channel ends."""
        try:
            while True:
                frame, descriptor = await channel.receive()
                if descriptor is not None:
                    channel.discard([descriptor])
                message_class = check_observer_message(
                    frame.type, ObserverEnd.REPORTER, has_descriptor=descriptor is not None
                )
                message: object = codec.decode(message_class, frame.body)
                match message:
                    case FlowsCounted():
                        self.counted = message
                    case CollectorsReported(collectors=collectors):
                        self.collectors = collectors
                    case FlowsAnswered():
                        self._receive(frame.request_id, message)
        except ChannelClosed:
            return
        except IpcError as error:
            self._log.emit("internal-error", where="observer channel", error=error)

    def _receive(self, request_id: int, message: FlowsAnswered) -> None:
        pending = self._pending.get(request_id)
        if pending is None:
            return
        pending.rows += message.rows
        if len(pending.rows) > FLOW_ROWS_MAX:
            raise IpcError(f"more than {FLOW_ROWS_MAX} rows")
        if not message.continues:
            pending.is_complete = True
            pending.ended.set()
