"""The metrics endpoint: as much of HTTP/1.1 as a scraper needs, on a listener from the parent.

    GET /metrics    200 and the exposition    (HEAD: its length only), as OpenMetrics for a client
                    whose Accept names it, else in the older text format
    others          404, 405, 400, 403, 503; each with a line of text

A connection carries one request. A client has REQUEST_TIMEOUT_S for its request and for reading the
answer, and its request has at most REQUEST_MAX_BYTES. At most CONNECTIONS_MAX connections are
served, and as many more are answered with 503; further ones are closed at once. A slow client only
delays itself. On a Unix socket the kernel identifies the client; on a loopback port every
local user may read. A Unix socket can carry descriptors before Linux 6.16 (`ipc/fdpass.py`): a
thread closes them, and the connection ends.

Failure: a fault of the client ends its connection. An exception in `collect` is a defect: the
callback logs it, and the client gets 500.

The socket calls are made here and not by trio's stream: each of them must be allowed by the sandbox
(`routed/sandbox/syscalls.py`), for any client decides how often they are made.

Source: RFC 9110 and RFC 9112, the parts that a scraper uses.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import trio

from ipc.closing import Closer
from ipc.credentials import PeerCredentials, peer_credentials
from ipc.fdpass import descriptor_space, received_descriptors
from routed.metrics.exposition import Form, choose_form

__all__ = ["CONNECTIONS_MAX", "REQUEST_MAX_BYTES", "MetricsServer"]

CONNECTIONS_MAX = 16
REQUEST_MAX_BYTES = 8192
REQUEST_TIMEOUT_S = 5.0
LINGER_READS_MAX = 16
ACCEPT_RETRY_S = 0.1

_REASONS = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class _Answer(NamedTuple):
    """A response, before it is encoded."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"
    is_head: bool = False
    """Whether the body is left out (RFC 9110, section 9.3.2)."""


class MetricsServer:
    """Owns one listener, and serves it."""

    def __init__(
        self,
        listener: socket.socket,
        collect: Callable[[Form], str],
        may_read: Callable[[PeerCredentials], bool],
        on_defect: Callable[[Exception], None],
    ) -> None:
        """Prepare; nothing is accepted before `run`.

        Args:
            listener: a listening stream socket, AF_UNIX or a loopback port.
            collect: makes the exposition, in the format that the client accepts.
            may_read: returns whether a client of a Unix socket may read.
            on_defect: called with an exception of `collect`.
        """
        self.answers: Counter[int] = Counter()
        """Requests answered, by status."""
        self._listener = listener
        self._collect = collect
        self._may_read = may_read
        self._on_defect = on_defect
        self._connections = 0
        self._closer = Closer()
        self._scope = trio.CancelScope()

    def stop(self) -> None:
        """End `run` and all connections."""
        self._scope.cancel()

    async def run(self) -> None:
        """Serve until stopped or cancelled; closes the listener."""
        self._listener.setblocking(False)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await self._accept_loop(nursery)
        finally:
            trio.lowlevel.notify_closing(self._listener)
            self._closer.close_connection(self._listener)

    async def _accept_loop(self, nursery: trio.Nursery) -> NoReturn:
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            if not self._closer.has_room:
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            connection.setblocking(False)
            if self._connections >= 2 * CONNECTIONS_MAX:
                # Clients may use no more descriptors of this process.
                self._closer.close_connection(connection)
                await trio.lowlevel.checkpoint()
                continue
            self._connections += 1
            nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S):
                answer = self._refuse(connection) or await self._answer(connection)
                self.answers[answer.status] += 1
                await _send_all(connection, _response(answer))
                await self._linger(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has disconnected
        finally:
            self._connections -= 1
            trio.lowlevel.notify_closing(connection)
            self._closer.close_connection(connection)

    def _refuse(self, connection: socket.socket) -> _Answer | None:
        """Return a refusal before a byte is read, or None."""
        if self._connections > CONNECTIONS_MAX:
            return _Answer(503, "too many connections")
        if connection.family != socket.AF_UNIX:
            return None
        caller = peer_credentials(connection)
        if self._may_read(caller):
            return None
        text = f"uid {caller.uid} may not read: management.read in the configuration allows it"
        return _Answer(403, text)

    async def _receive(self, connection: socket.socket) -> bytes:
        """Receive some bytes; none if the client has sent everything, or has sent a descriptor.

        Raises:
            BrokenResourceError: the client has disconnected.
        """
        while True:
            await trio.lowlevel.wait_readable(connection)
            if not self._closer.has_room:
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            try:
                chunk, ancillary, _, _ = connection.recvmsg(REQUEST_MAX_BYTES, descriptor_space())
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error
            strays = received_descriptors(ancillary)
            self._closer.close(strays)
            return b"" if strays else chunk

    async def _linger(self, connection: socket.socket) -> None:
        """Wait until the client disconnects.

        To close the connection while it still sends would reset the connection, and it might never
        see the answer.
        """
        for _ in range(LINGER_READS_MAX):
            if not await self._receive(connection):
                return

    async def _answer(self, connection: socket.socket) -> _Answer:
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > REQUEST_MAX_BYTES:
                return _TOO_LONG
            chunk = await self._receive(connection)
            if not chunk:
                return _Answer(400, "the request is incomplete")
            head += chunk
        head = head.partition(b"\r\n\r\n")[0]
        if len(head) > REQUEST_MAX_BYTES:
            return _TOO_LONG
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _Answer(400, "this is not HTTP/1.1")
        if parts[0] not in ("GET", "HEAD"):
            return _Answer(405, "GET /metrics")
        return self._answer_to(parts[1], lines[1:])._replace(is_head=parts[0] == "HEAD")

    def _answer_to(self, target: str, fields: list[str]) -> _Answer:
        if _path_of(target) != "/metrics":
            return _Answer(404, "GET /metrics")
        form = choose_form(_header(fields, "accept"))
        try:
            body = self._collect(form)
        except Exception as error:  # noqa: BLE001 a defect ends its request, not the engine
            self._on_defect(error)
            return _Answer(500, "a defect; see routed's log")
        return _Answer(200, body, form.value)


_TOO_LONG = _Answer(431, "the request is too long")


def _path_of(target: str) -> str:
    """Return the path of a request target, in origin or absolute form (RFC 9112, section 3.2)."""
    scheme, is_absolute, rest = target.partition("://")
    if is_absolute and scheme.lower() == "http":
        target = f"/{rest.partition('/')[2]}"
    return target.partition("?")[0]


def _header(lines: list[str], name: str) -> str:
    """Return the values of a header field as one list (RFC 9110, section 5.3)."""
    fields = (line.partition(":") for line in lines)
    return ",".join(value.strip() for key, _, value in fields if key.lower() == name)


async def _send_all(connection: socket.socket, content: bytes) -> None:
    """Send everything, and shut down the sending direction.

    Raises:
        BrokenResourceError: the client has disconnected.
    """
    remaining = memoryview(content)
    try:
        while remaining:
            await trio.lowlevel.wait_writable(connection)
            with contextlib.suppress(BlockingIOError):
                remaining = remaining[connection.send(remaining) :]
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise trio.BrokenResourceError from error


def _response(answer: _Answer) -> bytes:
    content = answer.body.encode()
    allow = "Allow: GET, HEAD\r\n" if answer.status == 405 else ""
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(content)}\r\n"
        f"{allow}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if answer.is_head else content)
