"""One client's frames, each vouched for by the kernel; what a session is made of.

    Session.receive <-- frame of the user who connected        Session.send --> frame, at his pace

Waiting is for both ends of the conversation: a message is read when the kernel says that one is
there, which lets everybody else run first; an answer is sent at once while the client has room for
it, and waits for him when not.

Failure: `ClientGone` when the client has hung up; `CredentialsError` and `FrameError` for what he
did wrong. All three end the session, which the server then closes.
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
"""Pause while descriptors of strangers fill the queue of those to be closed."""

_ANCILLARY_SPACE = credentials_space() + descriptor_space()


class ClientGone(Exception):
    """The client has hung up."""


class Misuse(IpcError):
    """The client said what it may not say now."""


class Session:
    """One client's frames, each vouched for by the kernel. Owns the connection."""

    def __init__(
        self,
        connection: socket.socket,
        credentials: PeerCredentials,
        number: int,
        now: float,
        closer: Closer,
    ) -> None:
        """Take over a connection.

        Args:
            connection: of the client; not blocking.
            credentials: who connected.
            number: of the session.
            now: when.
            closer: closes the connection and what came along.
        """
        self.credentials = credentials
        self.number = number
        """Of this engine's life; never reused."""
        self.scope = trio.CancelScope()
        self.idle_since = now
        """Since when nothing is asked; infinite while something is answered."""
        self.holds_lease = False
        """Whether routes were leased for it."""
        self._connection = connection
        self._closer = closer

    def end(self, parting: Result) -> None:
        """Say why if the client has room for it, and have the conversation end."""
        try:
            self._connection.send(pack_result(PARTING_REQUEST_ID, parting))
        except OSError:
            pass  # it does not read, or has gone: it will see the end
        self.scope.cancel()

    def close(self) -> None:
        """Hang up."""
        trio.lowlevel.notify_closing(self._connection)
        self._closer.close_connection(self._connection)

    def check_client(self) -> None:
        """Look whether the client is still there, for whoever has work to do before the next send.

        Raises:
            Goodbye: the client has hung up.
        """
        poll = select.poll()
        poll.register(self._connection, 0)  # a hang-up is told without being asked for
        if poll.poll(0):
            raise ClientGone

    async def receive(self) -> Frame:
        """The next frame.

        Raises:
            Goodbye: the client has hung up.
            CredentialsError: the message was not written by the user who connected.
            FrameError: no frame, or over the limit.
            Misuse: a descriptor came along, which the kernel could not refuse (before Linux 6.16).
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
        # Trying first would fail nearly always: a client that asks again has not had the time.
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
        """Send one frame, however long the client takes to make room for it.

        Raises:
            Goodbye: the client has hung up.
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
"""For the lines of a result; the rest of the frame is for its head and the code."""

_PLAIN_OK_BODY = encode(Result(ResultCode.OK))
"""How nearly every answer without rows ends."""


def pack_result(request_id: int, result: Result) -> bytes:
    """A RESULT frame. Lines that are too long are cut; those beyond the frame limit are left out
    and counted."""
    if result.code is ResultCode.OK and not result.lines:
        body = _PLAIN_OK_BODY
    else:
        lines = clip_lines(result.lines, _RESULT_BYTES_MAX, RESULT_LINE_BYTES_MAX)
        body = encode(Result(result.code, lines))
    return pack_frame(Frame(ControlType.RESULT, request_id, body), CONTROL_FRAME_MAX_BYTES)
