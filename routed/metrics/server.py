"""The metrics endpoint's trio end: enough of HTTP/1.1 to be scraped, on a listener from the parent.

    GET /metrics    200, the exposition        (HEAD: without it)
    else            404, 405, 400, 403, 503; each with a line of text

One request per connection. A client gets REQUEST_TIMEOUT_S and REQUEST_MAX_BYTES for its request,
as much time for reading the answer, and there are at most CONNECTIONS_MAX of them, and as many that
are told so; who comes then is hung up on without a word. Whoever dawdles harms himself. On a Unix
socket the kernel says who asks; on a loopback port anybody on this machine may. A Unix socket can
carry descriptors, before Linux 6.16 (`ipc/fdpass.py`): a thread closes what came, and the
connection ends.

Failure: a client's doing ends its connection. An exception in `collect` is a defect, logged by the
callback, and 500 for the client.

Source: RFC 9110 and RFC 9112, the parts that a scraper uses.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

import trio

from ipc.closing import Closer
from ipc.credentials import PeerCredentials, peer_credentials
from ipc.fdpass import descriptor_space, received_descriptors
from routed.metrics.exposition import CONTENT_TYPE

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


class MetricsServer:
    """Serves one listener, which it owns."""

    def __init__(
        self,
        listener: socket.socket,
        collect: Callable[[], str],
        may_read: Callable[[PeerCredentials], bool],
        on_defect: Callable[[Exception], None],
    ) -> None:
        """Prepare; nothing is accepted before `run`.

        Args:
            listener: a listening stream socket, AF_UNIX or a loopback port.
            collect: makes the exposition.
            may_read: judges who asks on a Unix socket.
            on_defect: told of an exception of `collect`.
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
        """End `run`, and the connections with it."""
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
                # No more of our descriptors are for clients.
                self._closer.close_connection(connection)
                await trio.lowlevel.checkpoint()
                continue
            self._connections += 1
            nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S):
                status, body = self._greet(connection) or await self._answer(connection)
                self.answers[status] += 1
                await stream.send_all(_response(status, body))
                await stream.send_eof()
                await self._linger(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has hung up
        finally:
            self._connections -= 1
            trio.lowlevel.notify_closing(connection)
            self._closer.close_connection(connection)

    def _greet(self, connection: socket.socket) -> tuple[int, str] | None:
        """A refusal before a byte is read, or None."""
        if self._connections > CONNECTIONS_MAX:
            return 503, "too many connections"
        if connection.family != socket.AF_UNIX:
            return None
        caller = peer_credentials(connection)
        if self._may_read(caller):
            return None
        return 403, f"uid {caller.uid} may not: management.read in the configuration gives it"

    async def _receive(self, connection: socket.socket) -> bytes:
        """Some bytes; none when the client has said all, or has sent a descriptor.

        Raises:
            BrokenResourceError: it has hung up.
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
        """Wait for the client to hang up: closing on what it still sends would reset the
        connection, and it might never see the answer."""
        for _ in range(LINGER_READS_MAX):
            if not await self._receive(connection):
                return

    async def _answer(self, connection: socket.socket) -> tuple[int, str]:
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > REQUEST_MAX_BYTES:
                return 431, "the request is too long"
            chunk = await self._receive(connection)
            if not chunk:
                return 400, "the request is not whole"
            head += chunk
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return 400, "this is not HTTP/1.1"
        if words[0] not in ("GET", "HEAD"):
            return 405, "GET /metrics"
        if words[1].partition("?")[0] != "/metrics":
            return 404, "GET /metrics"
        try:
            body = self._collect()
        except Exception as error:  # noqa: BLE001 a defect ends its request, not the engine
            self._on_defect(error)
            return 500, "a defect; see routed's log"
        return 200, body if words[0] == "GET" else ""


def _response(status: int, body: str) -> bytes:
    content = body.encode()
    kind = CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + content
