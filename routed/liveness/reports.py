"""Reports of sessions to the engine: at once when a state changes, and all of them in turn.

A report of a session whose state has changed goes before all others. The others follow one by one,
spread over REFRESH_S, so that counters are fresh and no burst delays a packet. A new engine gets
all of them at once.

Bounds: what waits is a set of names. An engine that does not read gets newer reports later.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError
from routed.bfd.instance import BfdInstance
from routed.imsg.frames import frames_of
from routed.imsg.liveness import BFD_REPORTS_MAX, LIVENESS_CLASSES, BfdReported

__all__ = ["REFRESH_S", "BfdReporter"]

REFRESH_S = 1.0
"""Time in which every session is reported once."""


class BfdReporter:
    """Owns the channel to the engine."""

    def __init__(
        self,
        instance: BfdInstance,
        clock: Callable[[], float],
        dropped_by_kernel: Callable[[], int],
    ) -> None:
        """Begin without an engine.

        Args:
            instance: has the sessions.
            clock: seconds, monotonic.
            dropped_by_kernel: packets that never reached this process.
        """
        self._instance = instance
        self._clock = clock
        self._dropped_by_kernel = dropped_by_kernel
        self._channel: Channel | None = None
        self._changed: dict[str, None] = {}
        self._has_changed = trio.Event()
        self._turn = 0
        self._is_complete = False
        """Whether the engine has been sent every session."""

    def connect(self, connection: socket.socket) -> None:
        """Report to an engine from now on, in place of an earlier one."""
        if self._channel is not None:
            self._channel.close()
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._is_complete = False
        self._changed = dict.fromkeys(self._instance.names)
        self._has_changed.set()

    def mark(self, name: str) -> None:
        """Report a session as soon as possible."""
        self._changed[name] = None
        self._has_changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            names = self._instance.names
            with trio.move_on_after(REFRESH_S / max(len(names), 1)):
                await self._has_changed.wait()
            self._has_changed = trio.Event()
            if self._channel is None:
                self._changed.clear()
            elif self._changed or not self._is_complete:
                await self._report_changed(self._channel)
            elif names:
                self._turn = (self._turn + 1) % len(names)
                await self._report(self._channel, [names[self._turn]])

    async def _report_changed(self, channel: Channel) -> None:
        while channel is self._channel and (self._changed or not self._is_complete):
            names = list(self._changed)[:BFD_REPORTS_MAX]
            for name in names:
                del self._changed[name]
            self._is_complete |= not self._changed
            await self._report(channel, names)

    async def _report(self, channel: Channel, names: list[str]) -> None:
        now = self._clock()
        found = [(name, self._instance.report(name, now)) for name in names]
        dropped = {**self._instance.counts(), "by_kernel": self._dropped_by_kernel()}
        message = BfdReported(
            reports=tuple(report for _, report in found if report is not None),
            ended=tuple(name for name, report in found if report is None),
            dropped=dropped,
            is_complete=self._is_complete,
        )
        try:
            for frame in frames_of(message, types=LIVENESS_CLASSES):
                await channel.send(frame)
        except (ChannelClosed, FrameError):
            # The engine is gone. The parent sends the channel of the next one.
            channel.close()
            if self._channel is channel:
                self._channel = None
