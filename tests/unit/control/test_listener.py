"""The listeners: a fresh socket at each start, one daemon for a path, no descriptors from
others."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from ipc.fdpass import may_carry_descriptors
from routed.config.scalars import ListenAddress
from routed.parent.listeners import (
    ListenerError,
    Listeners,
    close_listener,
    open_management_listener,
    open_metrics_listener,
)


def test_every_user_can_connect_and_credentials_are_passed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "routed.sock"
    with open_management_listener(str(path)) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1
        assert listener.type == socket.SOCK_SEQPACKET
        assert not os.get_inheritable(listener.fileno())


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    before = os.umask(0o077)
    try:
        open_management_listener(str(path), 0o660).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "routed.sock")
    open_management_listener(path).close()
    assert os.path.exists(path)
    with (
        open_management_listener(path),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        client.connect(path)


def hold(path: Path) -> tuple[socket.socket, socket.socket]:
    """Return a listener that another process keeps, and a client that waits in its queue."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held.bind(str(path))
    held.listen(0)
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting.connect(str(path))
    return held, waiting


def client_of(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(path))
    return client


def test_a_socket_that_outlives_its_daemon_keeps_no_start_away(tmp_path: Path) -> None:
    """S12: a compromised engine passed its listener on, and the daemon was killed."""
    path = tmp_path / "routed.sock"
    held, waiting = hold(path)
    fresh = open_management_listener(str(path))
    with held, waiting, fresh, client_of(path) as client:
        accepted, _ = fresh.accept()
        accepted.send(b"from the daemon")
        accepted.close()
        assert client.recv(100) == b"from the daemon"
    assert [each.name for each in tmp_path.iterdir()] == ["routed.sock"]


def test_one_path_has_one_daemon(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    first = Listeners(str(path), None)
    with pytest.raises(ListenerError, match=f"in use; .*pid {os.getpid()} holds {path}.lock"):
        Listeners(str(path), None)
    with client_of(path):
        pass
    first.close()
    assert list(tmp_path.iterdir()) == []
    Listeners(str(path), None).close()


def test_no_other_user_can_take_the_lock_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    listeners = Listeners(str(path), None)
    assert stat.S_IMODE((tmp_path / "routed.sock.lock").stat().st_mode) == 0o600
    listeners.close()


def test_what_a_start_that_was_killed_left_half_made_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as half_made:
        half_made.bind(str(tmp_path / "routed.sock.new"))
    with (
        open_management_listener(str(tmp_path / "routed.sock")),
        client_of(tmp_path / "routed.sock"),
    ):
        assert [each.name for each in tmp_path.iterdir()] == ["routed.sock"]


def test_a_copy_that_a_dead_engine_gave_away_listens_no_more(tmp_path: Path) -> None:
    """S12: it could answer administrators in the next engine's place."""
    path = tmp_path / "routed.sock"
    metrics = ListenAddress(str(tmp_path / "metrics.sock"), "", 0)
    listeners = Listeners(str(path), metrics)
    copies = [listeners.copy_management(), listeners.copy_metrics()]
    given_away = [socket.socket(fileno=copy) for copy in copies if copy is not None]
    assert len(given_away) == 2
    assert listeners.renew() == []
    for copy in given_away:
        with pytest.raises(OSError, match="Invalid argument"):
            copy.accept()
        copy.close()
    with client_of(path), socket.socket(fileno=listeners.copy_management()) as next_engines:
        next_engines.accept()[0].close()
    listeners.close()
    assert list(tmp_path.iterdir()) == []


def test_a_port_gets_a_fresh_listener_although_a_process_holds_the_old_one(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listeners = Listeners(str(tmp_path / "routed.sock"), ListenAddress("", "127.0.0.1", port))
    copy = listeners.copy_metrics()
    assert copy is not None
    with socket.socket(fileno=copy) as given_away:
        assert listeners.renew() == []
        with pytest.raises(OSError, match="Invalid argument"):
            given_away.accept()
        renewed = listeners.copy_metrics()
        assert renewed is not None
        with socket.create_connection(("127.0.0.1", port)), socket.socket(fileno=renewed) as fresh:
            fresh.accept()[0].close()
    listeners.close()


def test_a_socket_that_cannot_be_renewed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "routed.sock"
    listeners = Listeners(str(path), None)
    monkeypatch.setattr(os, "rename", refuse)
    assert listeners.renew() == [f"management socket {path}: Read-only file system"]
    monkeypatch.undo()
    with client_of(path), socket.socket(fileno=listeners.copy_management()) as same:
        same.accept()[0].close()
    listeners.close()


def refuse(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("is_metrics", [False, True])
def test_descriptors_are_refused_on_what_connects(tmp_path: Path, *, is_metrics: bool) -> None:
    """S3: closing a descriptor from an unprivileged client may block for as long as it chooses."""
    path = str(tmp_path / "routed.sock")
    opened = open_metrics_listener(path, "", 0) if is_metrics else open_management_listener(path)
    with opened, socket.socket(socket.AF_UNIX, opened.type) as client:
        if may_carry_descriptors(opened):
            pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
        client.connect(path)
        with pytest.raises(PermissionError):  # before it is accepted
            socket.send_fds(client, [b"x"], [0])
        accepted, _ = opened.accept()
        with accepted, pytest.raises(PermissionError):
            socket.send_fds(client, [b"x"], [0])


def test_a_file_that_is_not_a_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    path.write_text("precious")
    with pytest.raises(ListenerError, match="a file of that name exists and is not a socket"):
        open_management_listener(str(path))
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ListenerError, match="No such file or directory"):
        open_management_listener(str(tmp_path / "a" / "b" / "routed.sock"))


def test_closing_removes_the_socket_also_when_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    close_listener(open_management_listener(str(path)))
    assert not path.exists()
    listener = open_management_listener(str(path))
    path.unlink()
    close_listener(listener)
