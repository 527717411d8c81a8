"""Interpretation of the daemon's messages by clients: rows, error texts, exit statuses. Pure.

Shared by the blocking client (`ipc/blocking.py`) and the trio one (`ipc/trio_client.py`), so that
both decode the same messages and report the same errors.
"""

from __future__ import annotations

import enum
import errno
import math

from ipc.codec import CodecError, decode, encode
from ipc.control import (
    PROTOCOL_VERSION,
    ClientHello,
    ControlType,
    LastRows,
    Request,
    Result,
    ResultCode,
    Rows,
    Welcome,
)
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, FrameError, IpcError

__all__ = [
    "ALL_WELL",
    "ControlError",
    "DaemonUnreachable",
    "Denied",
    "ExitStatus",
    "Row",
    "as_rows",
    "check_welcome",
    "connection_ended",
    "decode_answer",
    "encode_request",
    "no_answer",
    "protocol_mismatch",
    "raise_unless_ok",
    "request_is_too_long",
    "why_unreachable",
]

Row = dict[str, object]
"""Column -> plain value."""


class ExitStatus(enum.IntEnum):
    """Exit statuses of routectl; scripts may rely on them."""

    DONE = 0
    REFUSED = 1
    """The daemon rejected the request."""
    DEGRADED = REFUSED
    """Exit status of `routectl health` for the state degraded."""
    USAGE = 2
    FAILED = USAGE
    """Exit status of `routectl health` for the state failed, and for a daemon that cannot be
    reached."""
    UNREACHABLE = 3
    DENIED = 4
    UNWRITTEN = 5
    """The answer could not be written."""


ALL_WELL = Result(ResultCode.OK)
"""The result that LAST_ROWS implies."""

_EXIT_STATUS = {
    ResultCode.OK: ExitStatus.DONE,
    ResultCode.DENIED: ExitStatus.DENIED,
    ResultCode.USAGE: ExitStatus.USAGE,
}


class ControlError(IpcError):
    """A request that failed."""

    TEXT_BYTES_MAX = CONTROL_FRAME_MAX_BYTES  # the whole text of a result

    def __init__(self, code: str, text: str, exit_status: ExitStatus) -> None:
        super().__init__(text)
        self.code = code
        """Take a `ResultCode` value, or a code of the client's own: unreachable, no_route."""
        self.text = text
        self.exit_status = exit_status

    @classmethod
    def of_result(cls, result: Result) -> ControlError:
        """Make the error for a result that is not `ok`."""
        text = "\n".join(result.lines) or result.code.value
        if result.code is ResultCode.DENIED:
            return Denied(text)
        return ControlError(
            result.code.value, text, _EXIT_STATUS.get(result.code, ExitStatus.REFUSED)
        )


class Denied(ControlError):
    """The caller's role is insufficient; the text names the required role and who has it."""

    def __init__(self, text: str) -> None:
        super().__init__(ResultCode.DENIED.value, text, ExitStatus.DENIED)


class DaemonUnreachable(ControlError):
    """No daemon answers at the socket; the text names the socket and a remedy."""

    def __init__(self, text: str) -> None:
        super().__init__("unreachable", text, ExitStatus.UNREACHABLE)


def why_unreachable(socket_path: str, error: OSError) -> str:
    """Describe for the user why connect(2) failed, and a remedy."""
    match error.errno:
        case errno.ENOENT:
            why = f"routed is not running: there is no socket {socket_path}"
        case errno.ECONNREFUSED:
            why = f"routed is not running: no process listens at {socket_path}"
        case errno.EACCES:
            return f"{socket_path} cannot be reached: a directory on the way is closed to you"
        case errno.EPROTOTYPE:
            return f"{socket_path} is the socket of another program, not of routed"
        case errno.EAGAIN:
            return f"routed at {socket_path} is too busy to answer; try again"
        case _:
            return f"{socket_path}: {error.strerror or error}"
    return (
        f"{why}. Start it with `routed -c routes.yaml` (or `systemctl start routed`), or name its "
        "socket with --socket or $ROUTECTL_SOCKET."
    )


def decode_answer(frame: Frame) -> Welcome | Rows | Result:
    """Decode a message of the daemon.

    Raises:
        FrameError: the type is not one that the daemon sends.
        CodecError: the body does not match the message class.
    """
    match frame.type:
        case ControlType.HELLO:
            return decode(Welcome, frame.body)
        case ControlType.ROWS:
            return decode(Rows, frame.body)
        case ControlType.LAST_ROWS:
            return decode(LastRows, frame.body)
        case ControlType.RESULT:
            return decode(Result, frame.body)
    raise FrameError(f"it sends a message of type {frame.type}")


def as_rows(message: Welcome | Rows) -> list[Row]:
    """Return the rows of a page.

    Raises:
        DaemonUnreachable: the message is not a page, or is malformed.
    """
    if isinstance(message, Welcome):
        raise DaemonUnreachable("routed greets in the middle of an answer")
    columns = message.columns
    if not all(map(_is_showable, message.values)):
        raise DaemonUnreachable("routed sent a value that no JSON has")
    try:
        return [dict(zip(columns, values, strict=True)) for values in message.values]
    except ValueError:
        raise DaemonUnreachable("routed sent a row that does not fit its columns") from None


_ALWAYS_SHOWABLE = frozenset({type(None), bool, int, str})


def _is_showable(value: object) -> bool:
    """Return whether a value can be written as JSON: no bytes, no NaN or infinity."""
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case list() | tuple():
            return _ALWAYS_SHOWABLE.issuperset(map(type, value)) or all(map(_is_showable, value))
        case dict():
            return all(type(key) is str for key in value) and _is_showable([*value.values()])
    return False


def raise_unless_ok(result: Result) -> None:
    """Raise the error of a result that is not `ok`.

    Raises:
        ControlError: the daemon rejected the request.
    """
    if result.code is ResultCode.OK:
        return
    raise ControlError.of_result(result)


def check_welcome(message: Welcome | Rows | Result, socket_path: str) -> Welcome:
    """Return the daemon's hello, if the message is one and has our version.

    Raises:
        ControlError: the connection was rejected, there was no hello, or the versions differ.
    """
    if isinstance(message, Result):
        raise_unless_ok(message)
    if not isinstance(message, Welcome):
        raise protocol_mismatch(socket_path, "it sends no hello")
    if message.protocol_version != PROTOCOL_VERSION:
        raise ControlError(
            ResultCode.USAGE.value,
            f"routed {message.routed_version} speaks version {message.protocol_version} of the "
            f"management protocol, this client version {PROTOCOL_VERSION}: use the client that "
            "came with it",
            ExitStatus.USAGE,
        )
    return message


def connection_ended(socket_path: str) -> DaemonUnreachable:
    """Make the error for a connection that has ended."""
    return DaemonUnreachable(f"routed at {socket_path} has closed the connection; try again")


def no_answer(socket_path: str, timeout_s: float) -> DaemonUnreachable:
    """Make the error for a daemon that sent nothing within the timeout."""
    return DaemonUnreachable(f"routed at {socket_path} has not answered for {timeout_s:g} s")


def encode_request(request: Request | ClientHello) -> bytes:
    """Encode the body of a request's frame.

    Raises:
        ControlError: a value cannot be sent, such as a number of more than 64 bits.
    """
    try:
        return encode(request)
    except CodecError as error:
        text = f"the request cannot be sent: {error}"
        raise ControlError(ResultCode.USAGE.value, text, ExitStatus.USAGE) from error


def request_is_too_long(size: int) -> ControlError:
    """Make the error for a request that does not fit a frame and is not sent."""
    text = f"the request is too long: {size} bytes, at most {CONTROL_FRAME_MAX_BYTES} are possible"
    return ControlError(ResultCode.USAGE.value, text, ExitStatus.USAGE)


def protocol_mismatch(socket_path: str, why: str) -> DaemonUnreachable:
    """Make the error for a peer that answers, but not with routed's protocol."""
    return DaemonUnreachable(f"{socket_path} does not use the protocol of routed: {why}")
