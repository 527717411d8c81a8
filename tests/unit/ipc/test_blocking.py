"""The blocking client: against the real server, and against one that misbehaves."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ipc.blocking import ControlClient, ControlError, DaemonUnreachable, Denied, ExitStatus
from ipc.codec import encode
from ipc.control import (
    PARTING_REQUEST_ID,
    ControlType,
    Reload,
    Result,
    ResultCode,
    Role,
    Rows,
    ShowInterfaces,
    ShowNeighbors,
    ShowRoute,
    ShowRoutes,
    ShowStatus,
    Welcome,
)
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, pack_frame
from routed.control.daemon import CommandOutcome
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import many_routes

ME = os.getuid()
ADMIN = AccessList(admin_uids=frozenset({ME}))
WELCOME = encode(Welcome(1, "0.1.0", "10.255.0.1", Role.ADMIN))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routed.sock"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


def test_it_greets_and_asks_on_one_connection(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        assert client.connect() == Welcome(1, "0.1.0", "10.255.0.1", Role.ADMIN)
        assert [row["router_id"] for row in client.ask(ShowNeighbors()).rows()] == [
            "10.255.0.2",
            None,
        ]
        assert client.ask(Reload()).result().lines == ("1 static route added",)


def test_pages_come_as_they_are_and_rows_one_by_one(path: Path, daemon: FakeDaemon) -> None:
    daemon.route_views = many_routes(300)
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        assert sum(len(page) for page in client.ask(ShowRoutes()).pages()) == 300
        answer = client.ask(ShowRoutes())
        assert not answer.is_complete
        assert len(list(answer.rows())) == 300
        assert answer.is_complete


def test_an_answer_that_is_not_read_to_its_end_does_not_mix_with_the_next(
    path: Path, daemon: FakeDaemon
) -> None:
    daemon.route_views = many_routes(5000)
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        next(client.ask(ShowRoutes()).rows())
        assert [row["interface"] for row in client.ask(ShowInterfaces()).rows()] == ["eth0", "eth1"]


def test_it_connects_again_after_the_daemon_has_restarted(path: Path, daemon: FakeDaemon) -> None:
    with ControlClient(str(path)) as client:
        with serving(path, daemon, ADMIN):
            client.ask(ShowStatus()).result()
        with serving(path, daemon, ADMIN):
            assert len(list(client.ask(ShowStatus()).rows())) == 1


def test_the_snapshot_is_a_descriptor_of_the_callers_own(path: Path, daemon: FakeDaemon) -> None:
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        with os.fdopen(client.open_snapshot(), "rb") as snapshot:
            assert os.pread(snapshot.fileno(), 8, 0) == b"snapshot"
        assert len(list(client.ask(ShowStatus()).rows())) == 1


@pytest.mark.parametrize(
    ("code", "exit_status"),
    [(ResultCode.NOT_FOUND, ExitStatus.REFUSED), (ResultCode.USAGE, ExitStatus.USAGE)],
)
def test_a_refusal_carries_code_text_and_exit_status(
    path: Path, daemon: FakeDaemon, code: ResultCode, exit_status: ExitStatus
) -> None:
    address = "203.0.113.1" if code is ResultCode.NOT_FOUND else "nonsense"
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        with pytest.raises(ControlError, match=address) as caught:
            client.ask(ShowRoute(address)).result()
        assert (caught.value.code, caught.value.exit_status) == (code.value, exit_status)
        assert len(list(client.ask(ShowStatus()).rows())) == 1


def test_a_failed_reload_has_every_line(path: Path, daemon: FakeDaemon) -> None:
    daemon.reload_outcome = CommandOutcome(False, ("routes.yaml:1:1: no", "routes.yaml:2:1: no"))
    with serving(path, daemon, ADMIN), ControlClient(str(path)) as client:
        with pytest.raises(ControlError, match=r"1:1: no\nroutes\.yaml:2:1: no") as caught:
            client.ask(Reload()).result()
        assert caught.value.exit_status is ExitStatus.REFUSED


def test_a_denied_request_names_the_role_and_its_users(path: Path, daemon: FakeDaemon) -> None:
    reader = AccessList(
        read_uids=frozenset({ME}), admin_gids=frozenset({4242}), admin_uids=frozenset()
    )
    with serving(path, daemon, reader), ControlClient(str(path)) as client:
        with pytest.raises(Denied, match="needs the role admin, which gid 4242 has") as caught:
            client.ask(Reload()).result()
        assert caught.value.exit_status is ExitStatus.DENIED


def test_an_unprivileged_client_gets_the_reason_of_its_refusal(
    path: Path, daemon: FakeDaemon
) -> None:
    with (
        serving(path, daemon, AccessList(admin_uids=frozenset({4242}))),
        ControlClient(str(path)) as client,
    ):
        for _ in range(20):  # the parting word may come before or after our hello
            with pytest.raises(Denied, match="needs the role read, which uid 4242 has"):
                client.connect()


def test_a_missing_socket_is_reported_with_how_to_start_the_daemon(path: Path) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        ControlClient(str(path)).connect()
    assert caught.value.exit_status is ExitStatus.UNREACHABLE
    assert f"there is no socket {path}" in caught.value.text
    assert "routed -c routes.yaml" in caught.value.text


def test_a_socket_without_a_listener_is_reported(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonUnreachable, match="no process listens at"):
        ControlClient(str(path)).connect()


def test_the_socket_of_another_program_is_reported(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(DaemonUnreachable, match="of another program"):
            ControlClient(str(path)).connect()


def test_a_path_that_is_too_long_is_reported() -> None:
    with pytest.raises(DaemonUnreachable, match="path too long"):
        ControlClient("/tmp/" + "x" * 200).connect()


Script = Callable[[socket.socket], None]


@contextmanager
def scripted(path: Path, *scripts: Script) -> Iterator[None]:
    """Run a server that follows one script for each connection and then closes it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for script in scripts:
            connection, _ = listener.accept()
            with connection:
                script(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def say(connection: socket.socket, frame_type: int, request_id: int, body: bytes) -> None:
    connection.send(pack_frame(Frame(frame_type, request_id, body), CONTROL_FRAME_MAX_BYTES))


def greet(connection: socket.socket) -> None:
    connection.recv(65536)
    say(connection, ControlType.HELLO, 1, WELCOME)


def test_a_daemon_of_another_version_is_named(path: Path) -> None:
    def newer(connection: socket.socket) -> None:
        connection.recv(65536)
        say(connection, ControlType.HELLO, 1, encode(Welcome(2, "9.0", "10.0.0.1", Role.READ)))

    with (
        scripted(path, newer),
        pytest.raises(ControlError, match=r"routed 9\.0 speaks version 2 .* this client version 1"),
    ):
        ControlClient(str(path)).connect()


@pytest.mark.parametrize(
    ("frame_type", "request_id", "body"),
    [
        pytest.param(ControlType.ROWS, 2, b"\xc1", id="no msgpack"),
        pytest.param(ControlType.ROWS, 7, encode(Rows((), ())), id="an answer to something else"),
        pytest.param(ControlType.ROWS, 2, encode(Rows(("a", "b"), ((1,),))), id="a short row"),
        pytest.param(
            ControlType.LAST_ROWS, 2, encode(Rows(("a", "b"), ((1,),))), id="a short last row"
        ),
        pytest.param(ControlType.HELLO, 2, WELCOME, id="a greeting"),
        pytest.param(99, 2, b"", id="an unknown type"),
    ],
)
def test_nonsense_is_an_error_and_not_a_crash(
    path: Path, frame_type: int, request_id: int, body: bytes
) -> None:
    def talk(connection: socket.socket) -> None:
        greet(connection)
        connection.recv(65536)
        say(connection, frame_type, request_id, body)

    with (
        scripted(path, talk),
        ControlClient(str(path)) as client,
        pytest.raises(DaemonUnreachable),
    ):
        client.ask(ShowStatus()).result()


def test_a_daemon_that_dies_in_an_answer_is_reported_and_nothing_is_sent_twice(path: Path) -> None:
    def die(connection: socket.socket) -> None:
        greet(connection)
        connection.recv(65536)
        say(connection, ControlType.ROWS, 2, encode(Rows(("name",), (("x",),))))

    with scripted(path, die), ControlClient(str(path)) as client:
        answer = client.ask(Reload())
        with pytest.raises(DaemonUnreachable, match="has closed the connection"):
            answer.result()


def test_a_parting_word_in_place_of_an_answer_is_heard(path: Path) -> None:
    def part(connection: socket.socket) -> None:
        greet(connection)
        connection.recv(65536)
        parting = Result(ResultCode.BUSY, ("too many",))
        say(connection, ControlType.RESULT, PARTING_REQUEST_ID, encode(parting))

    with (
        scripted(path, part),
        ControlClient(str(path)) as client,
        pytest.raises(ControlError, match="too many"),
    ):
        client.ask(ShowStatus()).result()


@pytest.mark.parametrize("timeout_s", [0.05, 1e-9])
def test_silence_ends_with_a_timeout(path: Path, timeout_s: float) -> None:
    """The shortest one, too: to the kernel a limit of zero is none."""
    released = threading.Event()

    def wait(connection: socket.socket) -> None:
        greet(connection)
        released.wait(10)

    with scripted(path, wait):
        with (
            ControlClient(str(path), timeout_s=timeout_s) as client,
            pytest.raises(DaemonUnreachable, match=rf"has not answered for {timeout_s:g} s"),
        ):
            client.ask(ShowStatus()).result()
        released.set()


def test_a_result_without_its_snapshot_is_reported(path: Path) -> None:
    def empty_handed(connection: socket.socket) -> None:
        greet(connection)
        connection.recv(65536)
        say(connection, ControlType.RESULT, 2, encode(Result(ResultCode.OK)))

    with (
        scripted(path, empty_handed),
        ControlClient(str(path)) as client,
        pytest.raises(ControlError, match="sent no snapshot"),
    ):
        client.open_snapshot()
