"""What the liveness process sends to the parent: answers to pings, and requests for sockets.

Bounds: one answer, and one request for each probe; a newer request replaces an older one.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from ipc.channel import Channel, ChannelClosed
from routed.imsg.frames import frames_of
from routed.imsg.liveness import LIVENESS_CLASSES
from routed.imsg.liveness_probes import ProbeSocketRequest
from routed.imsg.messages import Pong

__all__ = ["ParentQueue"]


class ParentQueue:
    """Owns what waits to be sent."""

    def __init__(self, channel: Channel) -> None:
        """Begin with nothing.

        Args:
            channel: to the parent; only this queue sends on it.
        """
        self._channel = channel
        self._requests: dict[str, int] = {}
        self._has_ping = False
        self._has_something = trio.Event()

    def answer_ping(self) -> None:
        """Send a Pong."""
        self._has_ping = True
        self._has_something.set()

    def request_socket(self, probe: str, number: int) -> None:
        """Request a connecting socket for an attempt of a probe."""
        self._requests[probe] = number
        self._has_something.set()

    async def run(self) -> None:
        """Send until cancelled, or until the parent has gone: the receive loop sees that, too."""
        with suppress(ChannelClosed):
            while True:
                await self._has_something.wait()
                self._has_something = trio.Event()
                while self._has_ping or self._requests:
                    await self._send(self._next())

    def _next(self) -> object:
        if self._has_ping:
            self._has_ping = False
            return Pong()
        probe = next(iter(self._requests))
        return ProbeSocketRequest(probe, self._requests.pop(probe))

    async def _send(self, message: object) -> None:
        for frame in frames_of(message, types=LIVENESS_CLASSES):
            await self._channel.send(frame)
