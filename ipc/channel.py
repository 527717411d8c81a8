"""The trio end of a frame stream over SOCK_SEQPACKET: send a frame, receive a frame, pass one
descriptor along.

One task receives and one sends. The kernel accepts a frame entirely or not at all, which SEQPACKET
guarantees even for a cancelled send, so cancellation leaves the channel usable.

Back-pressure is the socket's own: `send` waits while the peer's buffer is full. Owners keep *state*
to send (a dirty set), never an unbounded queue of messages.

Failure: `ChannelClosed` if the peer has closed, `FrameError` for a message that is not a frame.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import NamedTuple

import trio

from ipc.closing import Closer
from ipc.fdpass import (
    close_descriptors,
    descriptor_space,
    pack_descriptor,
    received_descriptors,
    refuse_descriptors,
)
from ipc.framing import Frame, FrameError, IpcError, pack_frame, unpack_frame

__all__ = ["Channel", "ChannelClosed", "Received"]


class ChannelClosed(IpcError):
    """The other end has closed the connection."""


class Received(NamedTuple):
    """One frame and the descriptor that came with it, which the receiver owns."""

    frame: Frame
    descriptor: int | None


class Channel:
    """A frame stream over one connected SOCK_SEQPACKET socket, which it owns."""

    def __init__(
        self, connection: socket.socket, max_frame_bytes: int, closer: Closer | None = None
    ) -> None:
        """Take over a connection.

        Args:
            connection: connected, SOCK_SEQPACKET.
            max_frame_bytes: in both directions.
            closer: closes what the other end sends, where that is not to be trusted.
        """
        connection.setblocking(False)
        self._closer = closer
        self._connection = connection
        self._socket = trio.socket.from_stdlib_socket(connection)
        self._max_frame_bytes = max_frame_bytes

    async def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """Send one frame, and a copy of one descriptor if given (the caller keeps its own).

        Raises:
            ChannelClosed: the peer has closed the connection.
            FrameError: the frame is over the channel's limit, or the kernel does not take it (too
                long for the socket's buffer, too many descriptors in flight); it was not sent.
        """
        message = pack_frame(frame, self._max_frame_bytes)
        try:
            await self._socket.sendmsg([message], pack_descriptor(descriptor))
        except (BrokenPipeError, ConnectionResetError, trio.ClosedResourceError) as error:
            raise ChannelClosed("the other end has gone") from error
        except OSError as error:
            raise FrameError(f"the kernel did not take the message: {error}") from error

    async def receive(self) -> Received:
        """Receive one frame.

        Raises:
            ChannelClosed: the peer has closed the connection.
            FrameError: a message that is no frame, or over the limit.
            IpcError: more than one descriptor was received; all are closed.
        """
        try:
            message, ancillary, flags, _ = await self._socket.recvmsg(
                self._max_frame_bytes + 1, descriptor_space()
            )
        except (ConnectionResetError, trio.ClosedResourceError) as error:
            raise ChannelClosed("the other end has gone") from error
        return self._unpack(message, ancillary, flags)

    async def receive_burst(self, limit: int) -> list[Received]:
        """Receive one frame, and those that are there already, up to a limit: they cost one turn of
        the event loop together.

        Raises:
            ChannelClosed, FrameError, IpcError: as `receive`; frames before a bad one are lost.
        """
        burst = [await self.receive()]
        while len(burst) < limit:
            try:
                message, ancillary, flags, _ = self._connection.recvmsg(
                    self._max_frame_bytes + 1, descriptor_space()
                )
            except OSError:  # no data yet, or the end, which the next call reports
                break
            if not message:
                break
            burst.append(self._unpack(message, ancillary, flags))
        return burst

    def _unpack(
        self, message: bytes, ancillary: list[tuple[int, int, bytes]], flags: int
    ) -> Received:
        descriptors = received_descriptors(ancillary)
        if not message:
            self.discard(descriptors)
            raise ChannelClosed("the other end has closed the channel")
        try:
            if flags & socket.MSG_CTRUNC:
                raise IpcError("ancillary data was truncated")
            if len(descriptors) > 1:
                raise IpcError(f"{len(descriptors)} descriptors in one message")
            frame = unpack_frame(message, self._max_frame_bytes)
        except IpcError:
            self.discard(descriptors)
            raise
        return Received(frame, descriptors[0] if descriptors else None)

    def refuse_descriptors(self) -> None:
        """Make later sends of descriptors by the other end fail, if the kernel supports that."""
        refuse_descriptors(self._connection)

    def discard(self, descriptors: Iterable[int]) -> None:
        """Close descriptors that came from the other end."""
        if self._closer is None:
            close_descriptors(descriptors)
        else:
            self._closer.close(descriptors)

    def close(self) -> None:
        """Close the socket; a task waiting in send or receive gets ChannelClosed."""
        if self._closer is None or self._connection.fileno() == -1:
            self._socket.close()
        else:
            trio.lowlevel.notify_closing(self._connection)
            self._closer.close_connection(self._connection)
