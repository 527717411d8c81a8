"""The management server over real sockets: a bad client harms no other client."""

from __future__ import annotations

import array
import contextlib
import math
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ipc.codec import decode, encode, encode_plain
from ipc.control import (
    PARTING_REQUEST_ID,
    PROTOCOL_VERSION,
    ClientHello,
    Configure,
    ControlType,
    Reload,
    Result,
    ResultCode,
    Role,
    ShowNeighbors,
    ShowRoutes,
    ShowStatus,
    Welcome,
)
from ipc.fdpass import DESCRIPTORS_MAX
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, pack_frame, unpack_frame
from routed.control.daemon import CommandOutcome
from routed.control.policy import AccessList
from routed.control.server import (
    EVENT_CHANGED,
    EVENT_DEFECT,
    EVENT_REFUSED,
    RESERVED_FOR_ADMIN,
    ManagementServer,
)
from routed.control.views import StatusView
from routed.parent import listeners as listener
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.management_scene import (
    ADMIN,
    DEADLINE_S,
    NOBODY,
    READER,
    Client,
    running,
    until,
)

ME = os.getuid()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as another user")


async def test_hello_has_the_identity_of_the_daemon_and_the_role_of_the_caller(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, READER) as scene:
        welcome = await (await scene.client()).greet()
    assert welcome == Welcome(PROTOCOL_VERSION, "0.1.0", "10.255.0.1", Role.READ)


async def test_a_message_before_hello_closes_that_client(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.client()
        await client.request(ShowStatus())
        assert await client.is_hung_up()
        assert "no hello" in scene.logged(EVENT_REFUSED)[0]["reason"]
        await scene.greeted()


async def test_another_protocol_version_is_answered_and_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.client()
        await client.send(Frame(ControlType.HELLO, 1, encode(ClientHello(99))))
        assert decode(Welcome, (await client.receive()).body).protocol_version == PROTOCOL_VERSION
        assert await client.is_hung_up()


async def test_a_reader_may_read_and_its_changes_are_denied_with_a_reason(tmp_path: Path) -> None:
    async with running(tmp_path, READER) as scene:
        client = await scene.greeted()
        _, result = await client.ask(Reload())
        assert result.code is ResultCode.DENIED
        assert "reload needs the role admin, which uid 12345 has" in result.lines[0]
        assert f"you (uid {ME}) have read" in result.lines[0]
        assert scene.daemon.reloads == []
        assert scene.logged(EVENT_REFUSED) == [
            {"uid": str(ME), "pid": str(os.getpid()), "reason": "reload: beyond the role read"}
        ]
        _, result = await client.ask(ShowStatus())
        assert result.code is ResultCode.OK


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (encode(Configure("diff")), "diff"),
        (encode(Configure("confirm", token="3fa9c1")), "confirm"),
        (encode(Configure("shiny")), "configure"),
        (b"\xff\xff", "configure"),
    ],
)
async def test_a_denial_names_the_command_and_not_the_message(
    tmp_path: Path, body: bytes, word: str
) -> None:
    async with running(tmp_path, READER) as scene:
        client = await scene.greeted()
        await client.send(Frame(ControlType.CONFIGURE, 2, body))
        _, result = await client.answer()
        assert result.code is ResultCode.DENIED
        assert result.lines[0].startswith(f"{word} needs the role admin")


async def test_an_unknown_request_is_denied(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        await client.send(Frame(999, 2, b""))
        _, result = await client.answer()
        assert result.code is ResultCode.DENIED
        assert "999" in result.lines[0]


async def test_an_unprivileged_client_gets_a_reason_and_no_session(tmp_path: Path) -> None:
    async with running(tmp_path, NOBODY) as scene:
        client = await scene.client()
        frame = await client.receive()
        assert frame.request_id == PARTING_REQUEST_ID
        result = decode(Result, frame.body)
        assert result.code is ResultCode.DENIED
        assert "role read, which uid 12345 has" in result.lines[0]
        assert await client.is_hung_up()
        assert scene.server.sessions == 0


async def test_a_role_that_a_reload_revokes_is_revoked_in_open_sessions(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        scene.server.set_access(NOBODY)
        _, result = await client.ask(ShowStatus())
        assert result.code is ResultCode.DENIED


async def test_a_reload_is_carried_out_and_logged_with_the_kernels_uid_and_pid(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        _, result = await (await scene.greeted()).ask(Reload())
        assert result == Result(ResultCode.OK, ("1 static route added",))
        assert scene.daemon.reloads == [(ME, os.getpid())]
        assert scene.logged(EVENT_CHANGED) == [
            {"uid": str(ME), "pid": str(os.getpid()), "request": "reload", "outcome": "ok"}
        ]


async def test_errors_that_fill_more_than_a_frame_are_cut_and_counted(tmp_path: Path) -> None:
    lines = tuple(f"routes.yaml:{number}:1: {'x' * 100}" for number in range(2000))
    daemon = FakeDaemon(reload_outcome=CommandOutcome(False, lines))
    async with running(tmp_path, daemon=daemon) as scene:
        _, result = await (await scene.greeted()).ask(Reload())
    assert result.code is ResultCode.FAILED
    assert result.lines[:500] == lines[:500]
    shown = len(result.lines) - 1
    assert result.lines[-1] == f"... and {2000 - shown} more lines"


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xff", id="shorter than a frame"),
        pytest.param(bytes(CONTROL_FRAME_MAX_BYTES + 1), id="oversize"),
        pytest.param(struct.pack("!HHI", ControlType.SHOW_ROUTES, 7, 1), id="reserved field"),
        pytest.param(
            struct.pack("!HHI", ControlType.HELLO, 0, 1) + encode(ClientHello(1)), id="hello"
        ),
    ],
)
async def test_garbage_closes_that_session_only(tmp_path: Path, garbage: bytes) -> None:
    async with running(tmp_path) as scene:
        other = await scene.greeted()
        client = await scene.greeted()
        await client.socket.send(garbage)
        assert await client.is_hung_up()
        assert len(scene.logged(EVENT_REFUSED)) == 1
        _, result = await other.ask(ShowStatus())
        assert result.code is ResultCode.OK
        assert scene.server.sessions == 1


@pytest.mark.parametrize("count", [1, 9, DESCRIPTORS_MAX])
async def test_where_the_kernel_cannot_refuse_them_descriptors_are_closed_and_end_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Linux before 6.16."""
    monkeypatch.setattr(listener, "refuse_descriptors", lambda _: False)
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        reading, writing = os.pipe()
        descriptors = array.array("i", [writing] * count).tobytes()
        frame = pack_frame(Frame(ControlType.SHOW_STATUS, 2, encode(ShowStatus())), 65536)
        await client.socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        os.close(writing)
        assert await client.is_hung_up()
        reason = f"{count} descriptors came along, and no request carries any"
        assert scene.logged(EVENT_REFUSED)[0]["reason"] == reason
        # With the last copy of the writing end closed, reading finds the end.
        assert await trio.to_thread.run_sync(os.read, reading, 1) == b""
        os.close(reading)


@needs_root
@pytest.mark.root
async def test_a_message_written_by_another_user_closes_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        frame = pack_frame(Frame(ControlType.RELOAD, 2, encode(Reload())), 65536)
        forged = struct.pack("iII", os.getpid(), 1000, 1000)
        await client.socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged)])
        assert await client.is_hung_up()
        assert scene.logged(EVENT_REFUSED)[0]["reason"] == "uid 1000 wrote on a connection of uid 0"
        assert scene.daemon.reloads == []


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@needs_root
@pytest.mark.root
async def test_a_process_of_another_user_has_no_access(open_directory: Path) -> None:
    # It gives up root by itself: the interpreter may lie where the other user cannot read it.
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "s.connect(sys.argv[1]); sys.stdout.buffer.write(s.recv(65536))"
    )
    async with running(open_directory, AccessList()) as scene:
        done = await trio.run_process(
            [sys.executable, "-I", "-S", "-c", program, scene.path],
            capture_stdout=True,
        )
    result = decode(Result, unpack_frame(done.stdout, 65536).body)
    assert result.code is ResultCode.DENIED
    assert "role read, which root has; you (uid 65534) have none" in result.lines[0]


async def test_a_listener_without_passcred_refuses_every_message(tmp_path: Path) -> None:
    path = str(tmp_path / "bare.sock")
    daemon = FakeDaemon()
    events: list[dict[str, str]] = []
    with (
        contextlib.closing(daemon),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        trio.fail_after(DEADLINE_S),
    ):
        listener.bind(path)
        listener.listen()
        server = ManagementServer(listener, daemon, ADMIN, lambda _, fields: events.append(fields))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            client = await Client(path).connect()
            await client.send(Frame(ControlType.HELLO, 1, encode(ClientHello(PROTOCOL_VERSION))))
            assert await client.is_hung_up()
            nursery.cancel_scope.cancel()
        client.socket.close()
    assert events[0]["reason"] == "the message carries no credentials"


async def test_readers_cannot_exhaust_the_sessions_of_admins(tmp_path: Path) -> None:
    async with running(tmp_path, READER, max_sessions=RESERVED_FOR_ADMIN + 2) as scene:
        first, _second = await scene.greeted(), await scene.greeted()
        third = await scene.client()
        result = decode(Result, (await third.receive()).body)
        assert result.code is ResultCode.BUSY
        scene.server.set_access(ADMIN)
        await scene.greeted()
        first.socket.close()
        await until(lambda: scene.server.sessions == 2)


async def test_a_defect_ends_its_request_and_nothing_else(tmp_path: Path) -> None:
    def explode() -> None:
        raise RuntimeError("of all things")

    async with running(tmp_path, daemon=FakeDaemon(on_chunk=explode)) as scene:
        client = await scene.greeted()
        _, result = await client.ask(ShowRoutes())
        assert result.code is ResultCode.INTERNAL
        assert scene.logged(EVENT_DEFECT) == [
            {"where": "show routes", "error": "RuntimeError: of all things"}
        ]
        _, result = await client.ask(ShowNeighbors())
        assert result.code is ResultCode.OK


async def test_a_defect_in_the_greeting_ends_that_session_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode() -> StatusView:
        raise RuntimeError("of all things")

    async with running(tmp_path) as scene:
        with monkeypatch.context() as patch:
            patch.setattr(scene.daemon, "status", explode)
            client = await scene.client()
            await client.send(Frame(ControlType.HELLO, 1, encode(ClientHello(PROTOCOL_VERSION))))
            assert await client.is_hung_up()
        assert scene.logged(EVENT_DEFECT) == [
            {"where": "session", "error": "RuntimeError: of all things"}
        ]
        await scene.greeted()


async def test_running_out_of_descriptors_is_logged_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(24, "Too many open files")]
    accept = socket.socket.accept

    def scarce(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    monkeypatch.setattr("routed.control.server.ACCEPT_RETRY_S", 0)
    async with running(tmp_path) as scene:
        await scene.greeted()
        assert "Too many open files" in scene.logged(EVENT_DEFECT)[0]["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (encode_plain(["reload", math.nan, ""]), "a float that is not a number"),
        (encode_plain(["reload"]), "Configure has 3 fields, the message 1"),
        (b"\xc1", ""),
    ],
)
async def test_a_malformed_request_gets_a_reason_before_the_session_ends(
    tmp_path: Path, body: bytes, reason: str
) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        await client.send(Frame(ControlType.CONFIGURE, 5, body))
        _, result = await client.answer(5)
        assert result.code is ResultCode.USAGE
        assert result.lines[0].startswith("configure cannot be read: ")
        assert reason in result.lines[0]
        assert await client.is_hung_up()
        (refused,) = scene.logged(EVENT_REFUSED)
        assert reason in refused["reason"]
        assert scene.server.sessions == 0
