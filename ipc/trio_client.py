"""`ipc.client.Client` for trio: the same methods, awaited.

    async with TrioClient() as routed:
        await routed.replace("192.0.2.1/32", dev="lo", lease="session")
        await trio.sleep_forever()

Several tasks may share one client; their requests are serialised. A cancelled request closes the
connection, because its answer would stay unread, and so removes routes leased for the session; the
next request connects again.

Failure: as in `ipc.client`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack, cast

import trio

from ipc.blocking import DEFAULT_TIMEOUT_S
from ipc.channel import Channel, ChannelClosed
from ipc.control import (
    DEFAULT_SOCKET,
    PARTING_REQUEST_ID,
    PROTOCOL_VERSION,
    REQUEST_TYPES,
    ClientHello,
    ControlType,
    LastRows,
    Request,
    Result,
    RouteOperation,
    RouteRenew,
    Rows,
    ShowNeighbors,
    ShowRoute,
    ShowRoutes,
    ShowStatus,
    Welcome,
)
from ipc.conversation import (
    ControlError,
    DaemonUnreachable,
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
from ipc.fdpass import close_descriptors
from ipc.framing import CONTROL_FRAME_MAX_BYTES, FRAME_HEADER_BYTES, Frame, IpcError
from ipc.requests import (
    LeaseTerm,
    Route,
    RouteOptions,
    change_requests,
    change_route,
    delete_route,
)

if TYPE_CHECKING:
    from ipc.rows import NeighborRow, RouteRow, StatusRow

__all__ = ["TrioClient"]


class TrioClient:
    """One program's connection to routed; see `ipc.client.Client` for what the methods do."""

    def __init__(
        self,
        socket_path: str = DEFAULT_SOCKET,
        *,
        owner: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Prepare; nothing is opened. The arguments are those of `ipc.client.Client`.

        The caller can limit the time of a whole call (`trio.fail_after`).
        """
        self._socket_path = socket_path
        self._owner = owner
        self._timeout_s = timeout_s
        self._channel: Channel | None = None
        self._turn = trio.Lock()
        self._request_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection: routes leased for the session are removed."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # --- injected routes

    async def add(self, prefix: str, **route: Unpack[RouteOptions]) -> None:
        """Inject a route that this owner does not have yet."""
        await self.ask(change_route(RouteOperation.ADD, prefix, self._owner, route))

    async def replace(self, prefix: str, **route: Unpack[RouteOptions]) -> None:
        """Inject a route, replacing the owner's route of this prefix, and renew its lease."""
        await self.ask(change_route(RouteOperation.REPLACE, prefix, self._owner, route))

    async def delete(self, prefix: str) -> None:
        """Delete a route that this program injected."""
        await self.ask(delete_route(prefix, self._owner))

    async def replace_many(self, routes: Iterable[Route], *, lease: LeaseTerm = None) -> int:
        """Inject many routes, some thousands at a time; returns how many.

        Raises:
            ControlError: a batch was refused. The batches before it are applied.
            ValueError: a route is wrong, or has the prefix of an earlier one. The batches before
                it are applied.
        """
        done = 0
        batches = change_requests(RouteOperation.REPLACE, routes, lease, self._owner)
        for request, positions in batches:
            await self.ask(request)
            done += len(positions)
        return done

    async def renew(self, lease_s: float) -> None:
        """Renew every timed lease of this owner."""
        await self.ask(RouteRenew(lease_s, self._owner))

    # --- queries

    async def status(self) -> StatusRow:
        """Return the state of the daemon as a whole."""
        return cast("StatusRow", (await self.ask(ShowStatus()))[0])

    async def neighbors(self) -> list[NeighborRow]:
        """Return the neighbors."""
        return cast("list[NeighborRow]", await self.ask(ShowNeighbors()))

    async def routes(
        self, prefix: str | None = None, *, is_longer: bool = False, source: str | None = None
    ) -> list[RouteRow]:
        """Return candidates, in prefix order."""
        found = await self.ask(ShowRoutes(None, prefix, is_longer, source))
        return cast("list[RouteRow]", found)

    async def route(self, address: str) -> list[RouteRow]:
        """Return the candidates of the longest prefix that covers an address."""
        return cast("list[RouteRow]", await self.ask(ShowRoute(address)))

    # --- the conversation

    async def ask(self, request: Request) -> list[Row]:
        """Send any request of `ipc.control`. Returns its rows.

        Raises:
            ControlError: the request failed.
        """
        rows: list[Row] = []
        async with self._turn, self._connection() as channel:
            request_id = await self._send(channel, REQUEST_TYPES[type(request)], request)
            while True:
                message = await self._receive(channel, request_id)
                if isinstance(message, Result):
                    break
                rows += as_rows(message)
                if isinstance(message, LastRows):
                    return rows
        raise_unless_ok(message)
        return rows

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Channel]:
        """Lend the connection to one request; close it unless the request completes."""
        try:
            if self._channel is None:
                self._channel = await self._connect()
            yield self._channel
        except ChannelClosed:
            self.close()
            raise connection_ended(self._socket_path) from None
        except IpcError as error:
            self.close()
            if isinstance(error, ControlError):
                raise
            raise protocol_mismatch(self._socket_path, str(error)) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Limit the wait for a message of the daemon.

        Raises:
            DaemonUnreachable: it was silent for longer.
        """
        try:
            with trio.fail_after(self._timeout_s):
                yield
        except trio.TooSlowError:
            raise no_answer(self._socket_path, self._timeout_s) from None

    async def _connect(self) -> Channel:
        opened = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with self._patience():
                await opened.connect(self._socket_path)
        except OSError as error:
            opened.close()
            raise DaemonUnreachable(why_unreachable(self._socket_path, error)) from error
        except BaseException:
            opened.close()
            raise
        channel = Channel(socket.socket(fileno=opened.detach()), CONTROL_FRAME_MAX_BYTES)
        try:
            await self._greet(channel)
        except BaseException:
            channel.close()
            raise
        return channel

    async def _greet(self, channel: Channel) -> None:
        request_id = await self._send(channel, ControlType.HELLO, ClientHello(PROTOCOL_VERSION))
        message = await self._receive(channel, request_id)
        check_welcome(message, self._socket_path)

    async def _send(
        self, channel: Channel, frame_type: ControlType, message: Request | ClientHello
    ) -> int:
        self._request_id += 1
        body = encode_request(message)
        if len(body) > CONTROL_FRAME_MAX_BYTES - FRAME_HEADER_BYTES:
            raise request_is_too_long(len(body))
        with self._patience():
            await channel.send(Frame(frame_type, self._request_id, body))
        return self._request_id

    async def _receive(self, channel: Channel, request_id: int) -> Welcome | Rows | Result:
        with self._patience():
            frame, descriptor = await channel.receive()
        if descriptor is not None:
            close_descriptors([descriptor])
        if frame.request_id not in (request_id, PARTING_REQUEST_ID):
            raise protocol_mismatch(
                self._socket_path, f"it answers request {frame.request_id}, not {request_id}"
            )
        return decode_answer(frame)
