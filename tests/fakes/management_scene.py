"""A running management server, and clients that send exactly the bytes of a test."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from ipc.codec import decode, encode
from ipc.control import (
    PROTOCOL_VERSION,
    REQUEST_TYPES,
    ClientHello,
    ControlType,
    Request,
    Result,
    Rows,
    Welcome,
)
from ipc.conversation import ALL_WELL
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, pack_frame, unpack_frame
from routed.control.policy import AccessList
from routed.control.server import (
    ManagementServer,
)
from routed.log.events import EVENTS
from routed.parent.listeners import open_management_listener
from tests.fakes.fake_daemon import FakeDaemon

ME = os.getuid()
ADMIN = AccessList(admin_uids=frozenset({ME}))
READER = AccessList(read_uids=frozenset({ME}), admin_uids=frozenset({12345}))
NOBODY = AccessList(admin_uids=frozenset({12345}))
DEADLINE_S = 60.0


class Client:
    """A client that sends exactly the bytes of a test."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def connect(self) -> Client:
        await self.socket.connect(self.path)
        return self

    async def greet(self) -> Welcome:
        await self.send(Frame(ControlType.HELLO, 1, encode(ClientHello(PROTOCOL_VERSION))))
        frame = await self.receive()
        assert frame.type == ControlType.HELLO, frame
        return decode(Welcome, frame.body)

    async def send(self, frame: Frame) -> None:
        await self.socket.send(pack_frame(frame, CONTROL_FRAME_MAX_BYTES))

    async def request(self, request: Request, request_id: int = 2) -> None:
        await self.send(Frame(REQUEST_TYPES[type(request)], request_id, encode(request)))

    async def receive(self) -> Frame:
        message = await self.socket.recv(CONTROL_FRAME_MAX_BYTES + 1)
        assert message, "the server has hung up"
        return unpack_frame(message, CONTROL_FRAME_MAX_BYTES)

    async def answer(self, request_id: int = 2) -> tuple[list[Rows], Result]:
        pages: list[Rows] = []
        while True:
            frame = await self.receive()
            assert frame.request_id == request_id
            if frame.type == ControlType.RESULT:
                return pages, decode(Result, frame.body)
            assert frame.type in (ControlType.ROWS, ControlType.LAST_ROWS)
            pages.append(decode(Rows, frame.body))
            if frame.type == ControlType.LAST_ROWS:
                return pages, ALL_WELL

    async def ask(self, request: Request) -> tuple[list[Rows], Result]:
        await self.request(request)
        return await self.answer()

    async def is_hung_up(self) -> bool:
        """Wait until the server sends nothing more; unread data may turn the end into a reset."""
        try:
            return await self.socket.recv(CONTROL_FRAME_MAX_BYTES + 1) == b""
        except ConnectionResetError:
            return await self.socket.recv(CONTROL_FRAME_MAX_BYTES + 1) == b""


@dataclass
class Scene:
    """A running server and its log."""

    path: str
    daemon: FakeDaemon
    server: ManagementServer
    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """Return a connection that has not sent a hello."""
        client = await Client(self.path).connect()
        self.clients.append(client)
        return client

    async def greeted(self) -> Client:
        client = await self.client()
        await client.greet()
        return client

    def logged(self, event: str) -> list[dict[str, str]]:
        return [fields for name, fields in self.events if name == event]


@asynccontextmanager
async def running(
    directory: Path,
    access: AccessList = ADMIN,
    daemon: FakeDaemon | None = None,
    max_sessions: int = 256,
) -> AsyncIterator[Scene]:
    path = str(directory / "routed.sock")
    daemon = daemon or FakeDaemon()
    with open_management_listener(path) as listener, contextlib.closing(daemon):
        events: list[tuple[str, dict[str, str]]] = []
        server = ManagementServer(
            listener,
            daemon,
            access,
            lambda event, fields: events.append((event, fields)),
            max_sessions=max_sessions,
        )
        scene = Scene(path, daemon, server, events)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                yield scene
                for client in scene.clients:
                    client.socket.close()
                nursery.cancel_scope.cancel()
    for event, fields in events:
        assert set(fields) == set(EVENTS[event].fields), (
            f"{event} is not as routed/log/logger.py says"
        )


async def until(condition: Callable[[], bool]) -> None:
    """Let the server run until something holds; `running` sets the deadline."""
    while not condition():  # noqa: ASYNC110  (many states, and none of them tells)
        await trio.sleep(0.001)
