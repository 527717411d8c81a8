"""One SOCK_SEQPACKET message is one frame: a type, a request id and a body.

    0               2               4                               8
    +---------------+---------------+-------------------------------+----------
    |  type u16     |  reserved u16 |  request id u32               |  body ...
    +---------------+---------------+-------------------------------+----------

Network byte order. `reserved` must be zero, so that it can get a meaning later. The requester
chooses the request id, and every frame of the answer repeats it; it is 0 in an unsolicited message.
The kernel keeps message boundaries, so there is no length field that could be wrong.

Failure: anything malformed raises `FrameError`; the owner of the channel then closes it.
"""

from __future__ import annotations

import struct
from typing import ClassVar, NamedTuple

from ipc.texts import clip_text

__all__ = [
    "CONTROL_FRAME_MAX_BYTES",
    "FRAME_HEADER_BYTES",
    "INTERNAL_FRAME_MAX_BYTES",
    "IPC_ERROR_BYTES_MAX",
    "FloodError",
    "Frame",
    "FrameError",
    "IpcError",
    "pack_frame",
    "unpack_frame",
]

_HEADER = struct.Struct("!HHI")
FRAME_HEADER_BYTES = _HEADER.size

INTERNAL_FRAME_MAX_BYTES = 128 * 1024
"""Parent and engine. Below the default socket buffer of 208 KiB, which bounds one message."""

CONTROL_FRAME_MAX_BYTES = 64 * 1024
"""routed and its clients, both ways; longer answers are paged."""


IPC_ERROR_BYTES_MAX = 500
"""The longest text of an error. It may quote what another process has sent."""


class IpcError(Exception):
    """A process boundary was misused or broke; the message says how, in TEXT_BYTES_MAX."""

    TEXT_BYTES_MAX: ClassVar[int] = IPC_ERROR_BYTES_MAX

    def __init__(self, text: str = "") -> None:
        super().__init__(clip_text(text, self.TEXT_BYTES_MAX))


class FloodError(IpcError):
    """The peer sent more at once than the protocol allows."""


class FrameError(IpcError):
    """A message that is no frame, or one over the limit."""


class Frame(NamedTuple):
    """One message, its body still encoded."""

    type: int
    request_id: int
    body: bytes


def pack_frame(frame: Frame, max_bytes: int) -> bytes:
    """Lay a frame out as one message.

    Raises:
        FrameError: longer than max_bytes (the sender's bug: it should have paged).
    """
    size = _HEADER.size + len(frame.body)
    if size > max_bytes:
        raise FrameError(f"a frame of {size} bytes is over the limit of {max_bytes}")
    return _HEADER.pack(frame.type, 0, frame.request_id) + frame.body


def unpack_frame(message: bytes, max_bytes: int) -> Frame:
    """Read one message.

    Raises:
        FrameError: too short, too long, or the reserved field is used.
    """
    if len(message) < _HEADER.size:
        raise FrameError(f"a frame has at least {_HEADER.size} bytes, this one {len(message)}")
    if len(message) > max_bytes:
        raise FrameError(f"a frame of over {max_bytes} bytes")
    frame_type, reserved, request_id = _HEADER.unpack_from(message)
    if reserved:
        raise FrameError(f"the reserved field is {reserved:#x}")
    return Frame(frame_type, request_id, message[_HEADER.size :])
