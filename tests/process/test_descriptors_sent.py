"""Descriptors sent by clients whose close(2) does not end: no other client waits for them.

Each client sends a TCP socket with SO_LINGER whose peer does not read. The process that closes its
last copy waits for as long as the client chooses. On Linux 6.16 the kernel refuses to send it; on
older kernels threads close it. (Findings S3, S3b, S3c.)
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ipc.closing import CLOSING_THREADS_MAX
from routed.control.policy import AccessList
from routed.metrics.server import MetricsServer
from routed.parent import listeners as listener
from routed.parent.listeners import close_listener, open_metrics_listener
from tests.fakes.fake_daemon import FakeDaemon, ServerThread

DEADLINE_S = 60.0
LINGER_S = 20_000
CHUNK = bytes(1 << 16)


@pytest.fixture(params=["this kernel", "an older kernel"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "an older kernel":
        monkeypatch.setattr(listener, "refuse_descriptors", lambda _: False)


class LingeringSocket:
    """A TCP connection whose close waits until its peer has gone."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._sent = socket.create_connection(server.getsockname())
            self._peer, _ = server.accept()
        self._sent.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sent.send(CHUNK)
        self._set_linger(LINGER_S)

    def send_to(self, connection: socket.socket, message: bytes) -> None:
        """Send the socket with a message, and keep no copy; the receiver must not have
        read it yet.
        """
        try:
            socket.send_fds(connection, [message], [self._sent.fileno()])
        except PermissionError:  # the receiver accepts no descriptor
            self._set_linger(0)
            connection.send(message)
        self._sent.close()

    def end(self) -> None:
        """Let the close end."""
        self._peer.close()

    def _set_linger(self, seconds: int) -> None:
        onoff = struct.pack("ii", seconds > 0, seconds)
        self._sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, onoff)


@pytest.fixture
def clients() -> Iterator[list[LingeringSocket]]:
    """More clients than there are threads that close."""
    them = [LingeringSocket() for _ in range(CLOSING_THREADS_MAX + 2)]
    yield them
    for client in them:
        client.end()


@pytest.mark.parametrize("role", ["none", "read"])
def test_the_management_server_does_not_wait_for_the_close_of_a_client_s_descriptor(
    tmp_path: Path, clients: list[LingeringSocket], role: str
) -> None:
    path = tmp_path / "routed.sock"
    readers = frozenset({os.getuid()} if role == "read" else ())
    access = AccessList(read_uids=readers, admin_uids=frozenset())
    daemon = FakeDaemon()
    server = ServerThread(path, daemon, access)
    connections = []
    for client in clients:  # before the server reads, so that the server's copy is the last one
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(path))
        client.send_to(connection, b"x" * 20)
        connections.append(connection)
    server.start()
    try:
        for connection in connections:
            connection.settimeout(DEADLINE_S)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1 << 17):
                    pass
        server.wait_until(lambda: True)  # the server's loop runs
    finally:
        for client in clients:
            client.end()
        server.stop()
        daemon.close()
        for connection in connections:
            connection.close()


def test_the_metrics_server_does_not_wait_for_the_close_of_a_client_s_descriptor(
    tmp_path: Path, clients: list[LingeringSocket]
) -> None:
    path = str(tmp_path / "metrics.sock")
    opened = open_metrics_listener(path, "", 0)
    connections = []
    for client in clients:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        client.send_to(connection, b"x")
        connections.append(connection)
    server = MetricsServer(opened.dup(), lambda _: "up 1\n", lambda _: True, lambda _: None)
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        await server.run()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as scraper:
            scraper.settimeout(DEADLINE_S)
            scraper.connect(path)
            scraper.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert scraper.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        for client in clients:
            client.end()
        tokens[0].run_sync_soon(server.stop)
        thread.join(DEADLINE_S)
        close_listener(opened)
        for connection in connections:
            connection.close()
