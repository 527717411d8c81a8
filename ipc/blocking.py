"""A plain blocking client of routed's management socket, for routectl and for scripts.

    with ControlClient("/run/routed/routed.sock") as client:
        for neighbor in client.ask(ShowNeighbors()).rows():
            print(neighbor["router_id"], neighbor["state"])

One request at a time. The connection is made when it is first needed and made again after the
daemon has gone away. A request is sent at most once: it is repeated on a new connection only when
the kernel refused to take it on the old one, so nothing is ever done twice. An answer that is
not read to its end costs the connection (the daemon stops a dump when its client hangs up), and the
next request opens another.

Failure: `ControlError` and its two special cases, each with the exit status that routectl
documents; the text is a sentence for the person at the keyboard. Nothing else escapes, but for
KeyboardInterrupt.

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
    decode_answer,
    encode_request,
    raise_unless_ok,
    request_is_too_long,
    speaks_nonsense,
    stays_silent,
    went_away,
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
"""How long the daemon may be silent. A reload reads a file and waits for the kernel, so this is
generous; everything else answers within milliseconds."""

PIPELINE_DEPTH = 2
"""Requests under way in `exchange`. Two keep both sides busy; more would only fill the socket, and
could let both ends wait for room to write at once."""

_TIMEVAL = struct.Struct("ll")


class _NotTaken(Exception):
    """The kernel did not take the request: the daemon had closed this connection before."""


class Answer:
    """What the daemon says to one request: pages of rows, then a result."""

    def __init__(self, client: ControlClient, request_id: int) -> None:
        self._client = client
        self._request_id = request_id
        self._result: Result | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the result has come."""
        return self._result is not None

    def pages(self) -> Iterator[list[dict[str, object]]]:
        """The rows as the daemon pages them: lists of column -> value.

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
        """The rows one by one.

        Raises:
            ControlError: as `pages`.
        """
        for page in self.pages():
            yield from page

    def row(self) -> dict[str, object]:
        """The only row of an answer that has one.

        Raises:
            ControlError: as `pages`; or there is none, as no daemon in order would answer.
        """
        rows = list(self.rows())
        if not rows:
            raise DaemonUnreachable("routed sent an answer without a row")
        return rows[0]

    def result(self) -> Result:
        """The result; rows that were not read yet are read and dropped.

        Raises:
            ControlError: as `pages`.
        """
        for _ in self.pages():
            pass
        assert self._result is not None  # pages() ends only with one
        return self._result


class ControlClient:
    """One caller's connection to the daemon, made on demand."""

    def __init__(self, socket_path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Nothing is opened yet.

        Args:
            socket_path: where the daemon listens.
            timeout_s: how long it may be silent, in seconds, above 0.
        """
        self.socket_path = socket_path
        self._timeout_s = timeout_s
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
        """Connect and greet, unless that was done; who the daemon is and what we may do there.

        Raises:
            ControlError: nobody listens, we may not talk to it, or it speaks another version.
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
        """Hang up; the next request connects again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._welcome = self._answer = None

    def ask(self, request: Request) -> Answer:
        """Send one request.

        Raises:
            ControlError: it could not be sent; what the daemon says to it comes from the answer.
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
                raise went_away(self.socket_path) from None
            return self.ask(request)
        self._answer = Answer(self, self._request_id)
        return self._answer

    def exchange(self, requests: Iterable[Request]) -> Iterator[tuple[Result, list[Row]]]:
        """Send requests one behind another, without waiting for each answer before the next.

        While the daemon works on one, the next one is made and waits in the socket; PIPELINE_DEPTH
        bounds how many.

        Yields:
            The end of each answer and its rows, in order; a result that is not `ok` is for the
            caller to judge.

        Raises:
            ControlError: the connection broke; what had been sent may or may not have been done.
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
                raise went_away(self.socket_path) from None
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
        """Send a request whose rows come for as long as the caller reads them.

        The connection is for this alone; stopping to read closes it, which ends it at the daemon.

        Args:
            request: such a one.
            output: where the caller writes the rows, if that is a descriptor: a pipe whose reader
                leaves ends the watch at once, not at the next change.

        Raises:
            ControlError: the request failed, or the daemon has gone.
            BrokenPipeError: whoever reads the output has left.
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
        """Keep the connection, and with it whatever was leased for the session, until it ends.

        Raises:
            ControlError: it has ended; the text says how.
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
        raise speaks_nonsense(self.socket_path, "it answers what nobody asked")

    def open_snapshot(self) -> int:
        """The FIB snapshot's descriptor, which the caller owns.

        Raises:
            ControlError: it could not be had.
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
            _limit_waiting(connection, self._timeout_s)
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
            # Turned away before we spoke: what it said is waiting to be read.
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
            raise stays_silent(self.socket_path, self._timeout_s) from None

    def _receive(self, request_id: int) -> tuple[Welcome | Rows | Result, int | None]:
        """The next message of one answer, and the descriptor that came along."""
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
            raise speaks_nonsense(self.socket_path, str(error)) from error

    def _receive_frame(self) -> tuple[Frame, int | None]:
        connection = self._connection
        if connection is None:
            raise went_away(self.socket_path)
        try:
            message, ancillary, _flags, _ = self._recvmsg(connection)
        except BlockingIOError:
            raise stays_silent(self.socket_path, self._timeout_s) from None
        except OSError as error:
            raise went_away(self.socket_path) from error
        descriptors = take_descriptors(ancillary)
        if not message:
            close_descriptors(descriptors)
            raise went_away(self.socket_path)
        try:
            frame = unpack_frame(message, CONTROL_FRAME_MAX_BYTES)
        except FrameError as error:
            close_descriptors(descriptors)
            raise speaks_nonsense(self.socket_path, str(error)) from error
        return frame, descriptors[0] if descriptors else None

    @staticmethod
    def _recvmsg(
        connection: socket.socket,
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        space = descriptor_space()
        try:
            return connection.recvmsg(CONTROL_FRAME_MAX_BYTES + 1, space)
        except ConnectionResetError:
            # A peer that closes with our words unread resets us, and the kernel reports that
            # before what it had said; the second read gets the parting word, or the end.
            return connection.recvmsg(CONTROL_FRAME_MAX_BYTES + 1, space)


def _await_rows(connection: socket.socket, output: int) -> None:
    """Wait for what the daemon says.

    Raises:
        BrokenPipeError: whoever reads the output leaves before.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.register(output, 0)  # an error and a hang-up are always told
    if any(descriptor == output for descriptor, _ in waiting.poll()):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _limit_waiting(connection: socket.socket, timeout_s: float | None) -> None:
    """How long the kernel waits for the daemon before it says EAGAIN; None: for ever."""
    # Zero means for ever to the kernel, so the shortest limit is its unit.
    microseconds = 0 if timeout_s is None else max(int(timeout_s * 1e6), 1)
    limit = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)
