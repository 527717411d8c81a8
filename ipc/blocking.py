"""A plain blocking client of routed's management socket, for routectl and for scripts.

    with ControlClient("/run/routed/routed.sock") as client:
        for neighbor in client.ask(ShowNeighbors()).rows():
            print(neighbor["router_id"], neighbor["state"])

One request is in flight at a time. The client connects when a connection is first needed, and again
after the daemon has ended. A request is sent at most once: it is repeated on a new connection
only if the kernel did not accept it on the old one, so nothing is executed twice. If an answer is
not read to its end, the connection is closed (the daemon then stops the dump), and the next request
opens another.

Failure: `ControlError` and its two subclasses, each with the exit status that routectl documents
and a sentence for the user. Nothing else escapes, except KeyboardInterrupt.

Why no thread and no event loop: importing trio alone takes longer than a whole `routectl show
neighbors`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NoReturn, Self

from ipc.codec import CodecError, encode
from ipc.control import (
    PARTING_REQUEST_ID,
    PROTOCOL_VERSION,
    REQUEST_TYPES,
    ClientHello,
    ControlType,
    LastRows,
    Request,
    Result,
    ResultCode,
    Rows,
    SnapshotOpen,
    Welcome,
)
from ipc.conversation import (
    ALL_WELL,
    ControlError,
    DaemonUnreachable,
    Denied,
    ExitStatus,
    Row,
    as_rows,
    check_welcome,
    connection_ended,
    decode_answer,
    encode_request,
    no_answer,
    protocol_mismatch,
    raise_unless_ok,
    request_is_too_long,
    why_unreachable,
)
from ipc.fdpass import close_descriptors, descriptor_space, take_descriptors
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    Frame,
    FrameError,
    pack_frame,
    unpack_frame,
)

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "Answer",
    "ControlClient",
    "ControlError",
    "DaemonUnreachable",
    "Denied",
    "ExitStatus",
    "Row",
    "why_unreachable",
]

DEFAULT_TIMEOUT_S = 30.0
"""Longest wait for a message of the daemon, in seconds. A reload reads a file and waits for the
kernel, so this is generous; everything else answers within milliseconds."""

PIPELINE_DEPTH = 2
"""Requests in flight in `exchange`. Two keep both sides busy; more would only fill the socket, and
both ends could then block on writing at the same time."""

_TIMEVAL = struct.Struct("ll")


class _NotTaken(Exception):
    """The kernel did not accept the request: the daemon had already closed this connection."""


class Answer:
    """The daemon's answer to one request: pages of rows, then a result."""

    def __init__(self, client: ControlClient, request_id: int) -> None:
        self._client = client
        self._request_id = request_id
        self._result: Result | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the result has come."""
        return self._result is not None

    def pages(self) -> Iterator[list[dict[str, object]]]:
        """Yield the rows page by page, as lists of column -> value.

        Raises:
            ControlError: the request failed, before the first row or after some.
        """
        while self._result is None:
            message, descriptor = self._client._receive(self._request_id)  # noqa: SLF001 its own other half
            if descriptor is not None:
                close_descriptors([descriptor])
            if isinstance(message, Result):
                self._result = message
                raise_unless_ok(message)
                return
            rows = as_rows(message)
            if isinstance(message, LastRows):
                self._result = ALL_WELL
            yield rows

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the rows one by one.

        Raises:
            ControlError: as `pages`.
        """
        for page in self.pages():
            yield from page

    def row(self) -> dict[str, object]:
        """Return the only row of an answer that has one.

        Raises:
            ControlError: as `pages`; or there is no row, which is a defect of the daemon.
        """
        rows = list(self.rows())
        if not rows:
            raise DaemonUnreachable("routed sent an answer without a row")
        return rows[0]

    def result(self) -> Result:
        """Return the result; unread rows are read and discarded.

        Raises:
            ControlError: as `pages`.
        """
        for _ in self.pages():
            pass
        assert self._result is not None  # pages() ends only with one
        return self._result


class ControlClient:
    """A connection to the daemon, made on demand."""

    def __init__(self, socket_path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Prepare; nothing is opened.

        Args:
            socket_path: path of the daemon's socket.
            timeout_s: longest wait for a message, in seconds, above 0.
        """
        self.socket_path = socket_path
        self.timeout_s = timeout_s
        self._connection: socket.socket | None = None
        self._welcome: Welcome | None = None
        self._request_id = 0
        self._answer: Answer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self) -> Welcome:
        """Connect and exchange hellos, unless connected. Returns the daemon's hello.

        Raises:
            ControlError: nothing listens, access is denied, or the protocol versions differ.
        """
        if self._welcome is not None:
            return self._welcome
        self._connection = self._open()
        try:
            self._welcome = self._greet()
        except BaseException:
            self.close()
            raise
        return self._welcome

    def close(self) -> None:
        """Close the connection; the next request connects again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._welcome = self._answer = None

    def ask(self, request: Request) -> Answer:
        """Send one request.

        Raises:
            ControlError: it could not be sent; the returned answer reports the daemon's errors.
        """
        if self._answer is not None and not self._answer.is_complete:
            self.close()
        was_connected = self._welcome is not None
        self.connect()
        try:
            self._send(REQUEST_TYPES[type(request)], encode_request(request))
        except _NotTaken:
            self.close()
            if not was_connected:
                raise connection_ended(self.socket_path) from None
            return self.ask(request)
        self._answer = Answer(self, self._request_id)
        return self._answer

    def exchange(self, requests: Iterable[Request]) -> Iterator[tuple[Result, list[Row]]]:
        """Send requests one after another, without waiting for each answer before the next.

        While the daemon works on one, the next one is made and waits in the socket; PIPELINE_DEPTH
        bounds how many.

        Yields:
            The result of each answer and its rows, in order; the caller handles a result that is
            not `ok`.

        Raises:
            ControlError: the connection broke; requests in flight may have been executed or not.
        """
        if self._answer is not None and not self._answer.is_complete:
            self.close()
        self.connect()
        self._answer = None
        waiting: deque[int] = deque()
        for request in requests:
            try:
                self._send(REQUEST_TYPES[type(request)], encode_request(request))
            except _NotTaken:
                self.close()
                raise connection_ended(self.socket_path) from None
            waiting.append(self._request_id)
            if len(waiting) >= PIPELINE_DEPTH:
                yield self._receive_whole(waiting.popleft())
        while waiting:
            yield self._receive_whole(waiting.popleft())

    def _receive_whole(self, request_id: int) -> tuple[Result, list[Row]]:
        rows: list[Row] = []
        while True:
            message, descriptor = self._receive(request_id)
            if descriptor is not None:
                close_descriptors([descriptor])
            if isinstance(message, Result):
                return message, rows
            rows += as_rows(message)
            if isinstance(message, LastRows):
                return ALL_WELL, rows

    def watch(self, request: Request, *, output: int | None = None) -> Iterator[list[Row]]:
        """Send a request whose rows arrive for as long as the caller reads them.

        The connection is used for this alone; closing the iterator closes it, which ends the watch.

        Args:
            request: one whose answer does not end, such as `Monitor`.
            output: the descriptor that the caller writes rows to, if any: when the reader of a pipe
                closes it, the watch ends at once, not at the next change.

        Raises:
            ControlError: the request failed, or the daemon has ended.
            BrokenPipeError: the reader of the output has closed it.
        """
        self.close()
        answer = self.ask(request)
        assert self._connection is not None  # `ask` makes one
        _limit_waiting(self._connection, None)
        pages = answer.pages()
        try:
            while True:
                if output is not None and self._connection is not None:
                    _await_rows(self._connection, output)
                page = next(pages, None)
                if page is None:
                    return
                yield page
        finally:
            self.close()

    def wait_for_end(self) -> NoReturn:
        """Keep the connection, and with it all routes leased for the session, until it ends.

        Raises:
            ControlError: the connection has ended; the text has the reason.
        """
        self.connect()
        assert self._connection is not None  # connect() makes one
        _limit_waiting(self._connection, None)
        try:
            message, _ = self._receive(PARTING_REQUEST_ID)
        finally:
            self.close()
        if isinstance(message, Result):
            raise_unless_ok(message)
        raise protocol_mismatch(self.socket_path, "it sent an answer without a request")

    def open_snapshot(self) -> int:
        """Request the FIB snapshot. Returns its descriptor, which the caller owns.

        Raises:
            ControlError: the request failed.
        """
        self._answer = self.ask(SnapshotOpen())
        message, descriptor = self._receive(self._request_id)
        self._answer = None
        if isinstance(message, Result):
            raise_unless_ok(message)
        if descriptor is None:
            self.close()
            raise ControlError(
                ResultCode.INTERNAL.value, "routed sent no snapshot", ExitStatus.REFUSED
            )
        return descriptor

    def _open(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # Python's own timeout makes the socket non-blocking, and connect(2) on a Unix socket
            # then fails at once when the backlog is full; the kernel's timeout waits (unix(7)).
            # It also spares a poll(2) before each message.
            _limit_waiting(connection, self.timeout_s)
            connection.connect(self.socket_path)
        except OSError as error:
            connection.close()
            raise DaemonUnreachable(why_unreachable(self.socket_path, error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _greet(self) -> Welcome:
        try:
            self._send(ControlType.HELLO, encode(ClientHello(PROTOCOL_VERSION)))
        except _NotTaken:
            # The daemon rejected the connection before the hello; its reason can still be read.
            pass
        message, descriptor = self._receive(self._request_id)
        if descriptor is not None:
            close_descriptors([descriptor])
        return check_welcome(message, self.socket_path)

    def _send(self, frame_type: ControlType, body: bytes) -> None:
        assert self._connection is not None  # ours: connect() came before
        self._request_id += 1
        try:
            message = pack_frame(Frame(frame_type, self._request_id, body), CONTROL_FRAME_MAX_BYTES)
        except FrameError:
            raise request_is_too_long(len(body)) from None
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise _NotTaken from None
        except BlockingIOError:
            self.close()
            raise no_answer(self.socket_path, self.timeout_s) from None

    def _receive(self, request_id: int) -> tuple[Welcome | Rows | Result, int | None]:
        """Receive the next message of one answer, and the descriptor that came with it."""
        try:
            frame, descriptor = self._receive_frame()
        except ControlError:
            self.close()
            raise
        try:
            if frame.request_id not in (request_id, PARTING_REQUEST_ID):
                raise FrameError(f"it answers request {frame.request_id}, not {request_id}")
            return decode_answer(frame), descriptor
        except (FrameError, CodecError) as error:
            self.close()
            if descriptor is not None:
                close_descriptors([descriptor])
            raise protocol_mismatch(self.socket_path, str(error)) from error

    def _receive_frame(self) -> tuple[Frame, int | None]:
        connection = self._connection
        if connection is None:
            raise connection_ended(self.socket_path)
        try:
            message, ancillary, _flags, _ = self._recvmsg(connection)
        except BlockingIOError:
            raise no_answer(self.socket_path, self.timeout_s) from None
        except OSError as error:
            raise connection_ended(self.socket_path) from error
        descriptors = take_descriptors(ancillary)
        if not message:
            close_descriptors(descriptors)
            raise connection_ended(self.socket_path)
        try:
            frame = unpack_frame(message, CONTROL_FRAME_MAX_BYTES)
        except FrameError as error:
            close_descriptors(descriptors)
            raise protocol_mismatch(self.socket_path, str(error)) from error
        return frame, descriptors[0] if descriptors else None

    @staticmethod
    def _recvmsg(
        connection: socket.socket,
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        space = descriptor_space()
        try:
            return connection.recvmsg(CONTROL_FRAME_MAX_BYTES + 1, space)
        except ConnectionResetError:
            # A peer that closes with unread data resets the connection, and the kernel reports
            # that before the peer's last message; the second read gets that message, or the end.
            return connection.recvmsg(CONTROL_FRAME_MAX_BYTES + 1, space)


def _await_rows(connection: socket.socket, output: int) -> None:
    """Wait until a message of the daemon can be read.

    Raises:
        BrokenPipeError: the reader of the output closes it before.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.register(output, 0)  # errors and hang-up are always reported
    if any(descriptor == output for descriptor, _ in waiting.poll()):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _limit_waiting(connection: socket.socket, timeout_s: float | None) -> None:
    """Set how long the kernel waits for the daemon before EAGAIN; None: without limit."""
    # The kernel takes zero as no limit, so the shortest limit is its unit.
    microseconds = 0 if timeout_s is None else max(int(timeout_s * 1e6), 1)
    limit = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)
