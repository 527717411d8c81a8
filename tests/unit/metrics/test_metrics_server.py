"""The endpoint against good and bad clients, over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ipc.credentials import PeerCredentials
from routed.metrics.exposition import Form
from routed.metrics.server import CONNECTIONS_MAX, REQUEST_MAX_BYTES, MetricsServer
from routed.parent.listeners import ListenerError, close_listener, open_metrics_listener

BODY = "# EOF\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
DEADLINE_S = 60.0


def anybody(_caller: PeerCredentials) -> bool:
    return True


@asynccontextmanager
async def serving(
    path: Path,
    collect: Callable[[Form], str] = lambda form: BODY,
    may_read: Callable[[PeerCredentials], bool] = anybody,
    on_defect: Callable[[Exception], None] = lambda error: None,
) -> AsyncIterator[MetricsServer]:
    listener = open_metrics_listener(str(path), "", 0)
    server = MetricsServer(listener.dup(), collect, may_read, on_defect)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield server
            server.stop()
    close_listener(listener)


async def ask(path: Path, request: bytes) -> tuple[bytes, bytes]:
    """Return the status line with headers, and the body."""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(request)
        answer = b""
        async for chunk in stream:
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.sock"


async def test_a_scraper_gets_the_exposition(path: Path) -> None:
    async with serving(path) as server:
        head, body = await ask(path, GET)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"Content-Type: {Form.TEXT.value}".encode() in head
        assert f"Content-Length: {len(BODY)}".encode() in head
        assert body == BODY.encode()
        head, body = await ask(path, GET.replace(b"GET", b"HEAD"))
        assert (head.split()[1], body) == (b"200", b"")
        assert f"Content-Length: {len(BODY)}\r\n".encode() in head, "that of GET"
        assert server.answers == {200: 2}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://127.0.0.1:9705/metrics", b"200"),
        (b"HTTP://x/metrics?name=a", b"200"),
        (b"/metrics?name=http://x", b"200"),
        (b"http://x", b"404"),
        (b"http:///metrics/", b"404"),
        (b"ftp://x/metrics", b"404"),
    ],
)
async def test_the_target_may_be_in_absolute_form(path: Path, target: bytes, status: bytes) -> None:
    async with serving(path):
        head, _ = await ask(path, b"GET " + target + b" HTTP/1.1\r\n\r\n")
        assert head.split()[1] == status


@pytest.mark.parametrize("length", [REQUEST_MAX_BYTES, REQUEST_MAX_BYTES + 1])
async def test_a_request_has_as_many_bytes_as_is_said(path: Path, length: int) -> None:
    start = b"GET /metrics HTTP/1.1\r\nX: "
    async with serving(path):
        request = start.ljust(length, b"0") + b"\r\n\r\n"
        head, _ = await ask(path, request)
        assert head.split()[1] == (b"200" if length == REQUEST_MAX_BYTES else b"431")


async def test_a_refused_head_has_no_body_and_other_methods_learn_the_allowed_ones(
    path: Path,
) -> None:
    async with serving(path):
        head, body = await ask(path, b"HEAD /nothing HTTP/1.1\r\n\r\n")
        assert (head.split()[1], body) == (b"404", b"")
        head, _ = await ask(path, b"POST /metrics HTTP/1.1\r\n\r\n")
        assert b"\r\nAllow: GET, HEAD\r\n" in head


async def test_the_accept_header_decides_the_form(path: Path) -> None:
    async with serving(path, collect=lambda form: form.name):
        for accept, form in (
            (b"Accept: application/openmetrics-text;version=1.0.0", Form.OPENMETRICS),
            (b"accept: text/html\r\nACCEPT: application/openmetrics-text", Form.OPENMETRICS),
            (b"Accept: */*", Form.TEXT),
            (b"X-Accept: application/openmetrics-text", Form.TEXT),
        ):
            head, body = await ask(path, b"GET /metrics HTTP/1.1\r\n" + accept + b"\r\n\r\n")
            assert body.decode() == form.name
            assert f"Content-Type: {form.value}\r\n".encode() in head


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\xfe\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + b"x" * REQUEST_MAX_BYTES * 2, b"431"),
    ],
)
async def test_other_requests_are_refused_with_a_text(
    path: Path, request_bytes: bytes, status: bytes
) -> None:
    async with serving(path):
        head, body = await ask(path, request_bytes)
        assert head.split()[1] == status
        assert body
        assert (await ask(path, GET))[0].split()[1] == b"200", "the next one is served"


async def test_a_client_without_access_is_refused_by_uid(path: Path) -> None:
    async with serving(path, may_read=lambda caller: caller.uid != os.getuid()):
        head, body = await ask(path, GET)
        assert head.split()[1] == b"403"
        assert f"uid {os.getuid()}".encode() in body


async def test_a_defect_is_reported_and_ends_one_request(path: Path) -> None:
    defects: list[Exception] = []

    def collect(form: Form) -> str:
        raise LookupError("broken")

    async with serving(path, collect=collect, on_defect=defects.append):
        head, body = await ask(path, GET)
        assert head.split()[1] == b"500"
        assert b"broken" not in body
        assert [str(error) for error in defects] == ["broken"]


async def test_idle_connections_do_not_add_up(path: Path, autojump_clock: object) -> None:
    async with serving(path):
        idle = [await trio.open_unix_socket(str(path)) for _ in range(CONNECTIONS_MAX)]
        await trio.testing.wait_all_tasks_blocked()
        head, _ = await ask(path, GET)
        assert head.split()[1] == b"503"
        for stream in idle:
            assert await stream.receive_some() == b"", "its time is over"
            await stream.aclose()
        assert (await ask(path, GET))[0].split()[1] == b"200"


async def test_many_clients_get_a_bounded_number_of_descriptors(
    path: Path, autojump_clock: object
) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with serving(path):
        before = descriptors()
        clients = []
        for _ in range(4 * CONNECTIONS_MAX):
            clients.append(await trio.open_unix_socket(str(path)))
            await trio.testing.wait_all_tasks_blocked()
        ours = descriptors() - before - len(clients)
        assert ours <= 2 * CONNECTIONS_MAX
        for client in clients:
            await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(path, GET))[0].split()[1] == b"200"


def test_a_port_on_loopback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listener = open_metrics_listener("", "127.0.0.1", port)
    with pytest.raises(ListenerError, match=f"metrics at 127.0.0.1 port {port}: Address already"):
        open_metrics_listener("", "127.0.0.1", port)
    close_listener(listener)


def test_the_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    first = open_metrics_listener(str(path), "", 0)
    first.close()
    second = open_metrics_listener(str(path), "", 0)
    close_listener(second)
    assert not path.exists()
