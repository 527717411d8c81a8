"""The management listener: takes over what is stale, leaves alone what lives."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from routed.listener import (
    ListenerError,
    close_listener,
    open_management_listener,
)


def test_it_listens_for_everybody_and_passes_credentials(tmp_path: Path) -> None:
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


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "routed.sock")
    open_management_listener(path).close()
    assert os.path.exists(path)
    with (
        open_management_listener(path),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        client.connect(path)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_a_socket_that_somebody_listens_on_is_left_alone(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    path = str(tmp_path / "routed.sock")
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(ListenerError, match="in use; is another routed running"):
            open_management_listener(path)
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(path)


def test_a_listener_whose_backlog_is_full_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "routed.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(path)
        other.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            with pytest.raises(ListenerError, match="in use"):
                open_management_listener(path)


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    path.write_text("precious")
    with pytest.raises(ListenerError, match="something else of that name"):
        open_management_listener(str(path))
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(ListenerError, match="No such file or directory"):
        open_management_listener(str(tmp_path / "a" / "b" / "routed.sock"))


def test_closing_removes_the_socket_also_when_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    close_listener(open_management_listener(str(path)))
    assert not path.exists()
    listener = open_management_listener(str(path))
    path.unlink()
    close_listener(listener)
