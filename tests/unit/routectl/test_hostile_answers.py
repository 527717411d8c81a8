"""Rows that only a faulty daemon sends: one error, in one document, and never a traceback."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ipc.codec import encode
from ipc.control import PROTOCOL_VERSION, ControlType, Role, Welcome
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, pack_frame, unpack_frame
from routectl.quick import main
from routectl.render.text import Row
from routectl.render.topology import FORMATS

WELCOME = encode(Welcome(PROTOCOL_VERSION, "0", "10.255.0.1", Role.ADMIN))


@contextlib.contextmanager
def server(path: Path, columns: list[str], row: list[Any]) -> Iterator[None]:
    """Run a server that answers each request with one row."""
    body = msgpack.packb([columns, [row]])

    def serve(connection: socket.socket) -> None:
        with connection:
            while message := connection.recv(CONTROL_FRAME_MAX_BYTES + 1):
                asked = unpack_frame(message, CONTROL_FRAME_MAX_BYTES)
                is_hello = asked.type == ControlType.HELLO
                kind = ControlType.HELLO if is_hello else ControlType.LAST_ROWS
                frame = Frame(kind, asked.request_id, WELCOME if is_hello else body)
                with contextlib.suppress(BrokenPipeError):  # it has seen enough
                    connection.send(pack_frame(frame, CONTROL_FRAME_MAX_BYTES))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


ROUTE = {"prefix": "10.1.0.0/16", "source": "static", "metric": 0, "next_hops": []}
OBJECT = {"id": 1, "next_hops": [], "state": "ok"}
STRANGER = {"role": "router", "router_id": "10.255.0.9", "metric": 1, "via": []}


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ("show routes", ROUTE | {"metric": b"bytes"}),
        ("show routes", ROUTE | {"next_hops": [{"via": b"x"}]}),
        ("show routes", ROUTE | {"metric": math.nan}),
        ("show routes", ROUTE | {"next_hops": [{"via": math.inf}]}),
        ("show nexthops", OBJECT | {"next_hops": [["a"]]}),
        ("show nexthops", OBJECT | {"next_hops": 7}),
        ("topology format dot", STRANGER),
        ("topology format svg", STRANGER),
        ("topology format mermaid", {"role": []}),
        ("report", STRANGER),
        ("explain 10.0.0.1", {"address": "nowhere"}),
    ],
)
def test_a_value_that_cannot_be_displayed_is_reported(
    words: str, row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    with server(path, list(row), list(row.values())):
        arguments = ["-s", str(path), *words.split()]
        status = main(arguments)
        shown = capsys.readouterr()
        assert (status == 0) is (shown.err == "")
        json_status = main([*arguments, "--json"])
    document = json.loads(
        capsys.readouterr().out, parse_constant=lambda constant: pytest.fail(constant)
    )
    assert (json_status == 0) is ("error" not in document)


@pytest.mark.parametrize("value", [b"x", math.nan, -math.inf, [[b"x"]], {"a": [math.inf]}, {1: 2}])
def test_a_value_that_no_json_has_is_refused(
    value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    with server(path, ["prefix", "value"], ["10.1.0.0/16", value]):
        assert main(["-s", str(path), "show", "routes", "--json"]) == 3
    assert "error" in json.loads(capsys.readouterr().out)


def test_a_row_without_columns_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    with server(path, [], []):
        assert main(["-s", str(path), "show", "routes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == [{}]


def test_a_picture_shows_routers_whose_neighbor_has_gone_meanwhile() -> None:
    row: Row = {"role": "self", "router_id": "10.255.0.1"}
    away: Row = {"role": "router", "router_id": "10.255.0.9", "via": ["10.255.0.7"], "metric": 5}
    for name, draw in FORMATS.items():
        assert "10.255.0.9" in "\n".join(draw([row, away])), name


def test_large_numbers_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They begin with the same bytes as a NaN."""
    row = ROUTE | {"metric": 0xCB7F_FFFF, "tag": 0xCBFF_0000, "age_s": 1e300}
    path = tmp_path / "socket"
    with server(path, list(row), list(row.values())):
        assert main(["-s", str(path), "show", "routes", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["data"]
    assert shown == row
