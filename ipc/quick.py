"""Minimal client for one request and its rows, for one-shot commands.

The same protocol as `ipc/blocking.py`, whose message classes cost more to declare than a whole
`routectl show` takes. Here a request is its type and its fields in order, as `ipc/codec.py` would
encode them; the hello and the request are sent together, so that there is one wait.

This client reports no error details: anything but success raises `NotQuick`, and the caller repeats
the request with `ipc/blocking.py` to get the error. So only read-only requests may be sent here. A
daemon that stays silent raises `NoAnswer`: a second attempt would only double the wait.

Invariants:
    The numbers below are those of `ipc/control.py`; a test compares them.
"""

from __future__ import annotations

import socket
import struct

import msgpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["DEFAULT_TIMEOUT_S", "NoAnswer", "NotQuick", "pages"]

HELLO = 1
ROWS = 2
RESULT = 3
LAST_ROWS = 4
PROTOCOL_VERSION = 1
CONTROL_FRAME_MAX_BYTES = 64 * 1024
OK = "ok"

_HEADER = struct.Struct("!HHI")
_HELLO_ID = 1
_REQUEST_ID = 2
DEFAULT_TIMEOUT_S = 30.0
_TIMEVAL = struct.Struct("ll")


class NotQuick(Exception):
    """The request failed; nothing has changed, and `ipc/blocking.py` will report the reason."""


class NoAnswer(Exception):
    """The daemon has not answered in time."""


def pages(
    socket_path: str,
    request_type: int,
    fields: list[object],
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Iterator[list[dict[str, object]]]:
    """Send one request and yield its rows page by page.

    Args:
        socket_path: where the daemon listens.
        request_type: the `ControlType` number of a read-only request.
        fields: the fields of the request class, in order, as plain values.
        timeout_s: longest wait for a message, in seconds, above 0.

    Raises:
        NotQuick: before the first page or after some.
        NoAnswer: the same.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            # The kernel's own limit, so that connect(2) waits for room in the backlog, and no
            # longer (see `ipc.blocking`).
            limit = _TIMEVAL.pack(*divmod(max(int(timeout_s * 1e6), 1), 1_000_000))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.connect(socket_path)
            connection.send(_HEADER.pack(HELLO, 0, _HELLO_ID) + msgpack.packb([PROTOCOL_VERSION]))
            connection.send(_HEADER.pack(request_type, 0, _REQUEST_ID) + msgpack.packb(fields))
            frame_type, message = _receive(connection, _HELLO_ID)
            if frame_type != HELLO or message[0] != PROTOCOL_VERSION:
                raise NotQuick
            while True:
                frame_type, message = _receive(connection, _REQUEST_ID)
                if frame_type == RESULT and message[0] == OK:
                    return
                if frame_type not in (ROWS, LAST_ROWS):
                    raise NotQuick
                columns, rows = message
                yield [dict(zip(columns, row, strict=True)) for row in rows]
                if frame_type == LAST_ROWS:
                    return
    except BlockingIOError as error:
        raise NoAnswer from error
    except BrokenPipeError:
        raise NotQuick from None  # this socket was closed; the pipe of the rows is another one
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        raise NotQuick from error


def _receive(connection: socket.socket, request_id: int) -> tuple[int, Any]:
    message = connection.recv(CONTROL_FRAME_MAX_BYTES + 1)
    frame_type, _, answered = _HEADER.unpack_from(message)
    if answered != request_id:
        raise NotQuick
    content = msgpack.unpackb(message[_HEADER.size :], max_bin_len=0)
    if any(mark in message for mark in _MARKS_OF_NO_NUMBER) and not _is_finite(content):
        raise NotQuick  # the other client reports the reason
    return frame_type, content


_MARKS_OF_NO_NUMBER = (b"\xca\x7f", b"\xca\xff", b"\xcb\x7f", b"\xcb\xff")
"""First bytes of NaN and the infinities in msgpack; a few valid values begin so, too."""


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return abs(value) < float("inf")  # which NaN is not either
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))
