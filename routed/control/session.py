"""One client's connection: frames whose sender the kernel identifies.

    Session.receive <-- frame of the user who connected      Session.send --> frame, as fast as the
                                                                              client reads

A message is read when the kernel reports one, which lets other tasks run first. An answer is sent
at once while the client has room for it, and waits otherwise.

Failure: `ClientGone` when the client has disconnected; `CredentialsError`, `FrameError` and
`Misuse` for faults of the client. All of them end the session, which the server then closes.
"""

from __future__ import annotations

import select
import socket

import trio

from ipc.closing import Closer
from ipc.codec import encode
from ipc.control import (
    PARTING_REQUEST_ID,
    RESULT_LINE_BYTES_MAX,
    ControlType,
    Result,
    ResultCode,
)
from ipc.credentials import CredentialsError, PeerCredentials, credentials_space, message_uid
from ipc.fdpass import (
    AncillaryMessage,
    descriptor_space,
    pack_descriptor,
    received_descriptors,
)
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    Frame,
    IpcError,
    pack_frame,
    unpack_frame,
)
from ipc.texts import clip_lines

__all__ = ["ClientGone", "Misuse", "Session", "pack_result"]

CLOSER_RETRY_S = 0.1
"""Pause while descriptors that clients have sent fill the queue of those to be closed."""

_ANCILLARY_SPACE = credentials_space() + descriptor_space()


class ClientGone(Exception):
    """The client has disconnected."""


class Misuse(IpcError):
    """The client has sent something that it may not send now."""


class Session:
    """Owns the connection of one client."""

    def __init__(
        self,
        connection: socket.socket,
        credentials: PeerCredentials,
        number: int,
        now: float,
        closer: Closer,
    ) -> None:
        """Begin with a connection, which becomes the session's.

        Args:
            connection: of the client; not blocking.
            credentials: of the process that connected.
            number: of the session.
            now: trio's clock.
            closer: closes the connection, and received descriptors.
        """
        self.credentials = credentials
        self.number = number
        """Unique in this engine."""
        self.scope = trio.CancelScope()
        self.idle_since = now
        """Since when no request is being answered; infinite while one is."""
        self.holds_lease = False
        """Whether routes were leased for the session."""
        self._connection = connection
        self._closer = closer

    def set_idle(self, now: float) -> None:
        """Record that no request is being answered."""
        self.idle_since = now

    def set_busy(self) -> None:
        """Record that a request is being answered."""
        self.idle_since = float("inf")

    def set_holds_lease(self) -> None:
        """Record that routes were leased for the session."""
        self.holds_lease = True

    def end(self, parting: Result) -> None:
        """Send the reason if the client has room for it, and end the session."""
        try:
            self._connection.send(pack_result(PARTING_REQUEST_ID, parting))
        except OSError:
            pass  # it does not read, or has disconnected
        self.scope.cancel()

    def close(self) -> None:
        """Close the connection."""
        trio.lowlevel.notify_closing(self._connection)
        self._closer.close_connection(self._connection)

    def check_client(self) -> None:
        """Check that the client is still connected, before work for the next send.

        Raises:
            ClientGone: the client has disconnected.
        """
        poll = select.poll()
        poll.register(self._connection, 0)  # POLLHUP is reported without being requested
        if poll.poll(0):
            raise ClientGone

    async def receive(self) -> Frame:
        """Receive the next frame.

        Raises:
            ClientGone: the client has disconnected.
            CredentialsError: the message was not written by the user who connected.
            FrameError: the message is not a frame, or too long.
            Misuse: a descriptor was received, which kernels before Linux 6.16 cannot refuse.
        """
        message, ancillary, flags = await self._receive_message()
        strays = received_descriptors(ancillary)
        if strays:
            self._closer.close(strays)
            raise Misuse(f"{len(strays)} descriptors came along, and no request carries any")
        if not message:
            raise ClientGone
        uid = message_uid(ancillary, flags)
        if uid != self.credentials.uid:
            raise CredentialsError(f"uid {uid} wrote on a connection of uid {self.credentials.uid}")
        return unpack_frame(message, CONTROL_FRAME_MAX_BYTES)

    async def _receive_message(self) -> tuple[bytes, list[AncillaryMessage], int]:
        # To read at once would fail nearly always: the client has had no time to send again.
        while True:
            await trio.lowlevel.wait_readable(self._connection)
            if not self._closer.has_room:
                await trio.sleep(CLOSER_RETRY_S)
                continue
            try:
                message, ancillary, flags, _ = self._connection.recvmsg(
                    CONTROL_FRAME_MAX_BYTES + 1, _ANCILLARY_SPACE
                )
            except BlockingIOError:
                continue
            except ConnectionResetError:
                raise ClientGone from None
            return message, ancillary, flags

    async def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """Send one frame, and wait until the client has room for it.

        Raises:
            ClientGone: the client has disconnected.
        """
        await self._send_packed(pack_frame(frame, CONTROL_FRAME_MAX_BYTES), descriptor)

    async def send_result(
        self, request_id: int, result: Result, descriptor: int | None = None
    ) -> None:
        """End an answer; raises as `send`."""
        await self._send_packed(pack_result(request_id, result), descriptor)

    async def _send_packed(self, message: bytes, descriptor: int | None) -> None:
        ancillary = pack_descriptor(descriptor)
        try:
            while True:
                try:
                    self._connection.sendmsg([message], ancillary)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._connection)
                else:
                    return
        except (BrokenPipeError, ConnectionResetError):
            raise ClientGone from None


_RESULT_BYTES_MAX = CONTROL_FRAME_MAX_BYTES - 256
"""Bytes for the lines of a result; the rest of the frame is for its header and the code."""

_PLAIN_OK_BODY = encode(Result(ResultCode.OK))
"""The most frequent result, encoded once."""


def pack_result(request_id: int, result: Result) -> bytes:
    """Encode a RESULT frame.

    Lines that are too long are cut; lines beyond the frame limit are left out and counted.
    """
    if result.code is ResultCode.OK and not result.lines:
        body = _PLAIN_OK_BODY
    else:
        lines = clip_lines(result.lines, _RESULT_BYTES_MAX, RESULT_LINE_BYTES_MAX)
        body = encode(Result(result.code, lines))
    return pack_frame(Frame(ControlType.RESULT, request_id, body), CONTROL_FRAME_MAX_BYTES)
