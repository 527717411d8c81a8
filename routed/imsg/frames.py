"""Encoding of a parent-engine message into frames: the only place where a message that is too long
is split. Pure.

    message --encode--> fits? --yes--> one frame
       ^                  |
       +---- halves <-no--+

A message that is too long, or that has more items than its class declares, is halved by its own
method until each part fits. All parts are encoded before the first is sent, so a message is sent
completely or not at all.

Failure: `CodecError` for a message that cannot be encoded (a defect of its sender). A sending loop
uses `frames_or_problem`, which raises nothing: such a message is skipped, logged and counted, and
the loop continues.

Cost: encoding a message that needs n frames costs log2(n) times as much as one that needs no
halving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from ipc.codec import CodecError, encode
from ipc.framing import FRAME_HEADER_BYTES, INTERNAL_FRAME_MAX_BYTES, Frame
from routed.imsg.authority import MESSAGE_CLASSES

__all__ = ["BODY_BYTES_MAX", "Divisible", "frames_of", "frames_or_problem"]

BODY_BYTES_MAX = INTERNAL_FRAME_MAX_BYTES - FRAME_HEADER_BYTES


@runtime_checkable
class Divisible(Protocol):
    """A message that can be split into several messages."""

    def halves(self) -> tuple[object, ...]:
        """Return messages equivalent to this one; none if it cannot be divided."""
        ...


def frames_of(
    message: object, request_id: int = 0, types: Mapping[type, int] = MESSAGE_CLASSES
) -> list[Frame]:
    """Encode a message as frames, in order.

    Args:
        message: of a class in the table of types.
        request_id: id of the request that it is or answers; 0 for none.
        types: the frame types of the channel; default: parent and engine.

    Raises:
        CodecError: the message is of no such class, does not match its declaration, or is too long
            and cannot be divided.
    """
    number = types.get(type(message))
    if number is None:
        raise CodecError(f"{type(message).__name__} is no message")
    return [Frame(number, request_id, body) for body in _bodies(message)]


def frames_or_problem(
    message: object, request_id: int = 0, types: Mapping[type, int] = MESSAGE_CLASSES
) -> tuple[list[Frame], str]:
    """Do the same as `frames_of`, but return no frames and the problem instead of raising."""
    try:
        return frames_of(message, request_id, types), ""
    except CodecError as error:
        return [], str(error)


def _bodies(message: object) -> Iterator[bytes]:
    try:
        body = encode(message)
        if len(body) <= BODY_BYTES_MAX:
            yield body
            return
        problem = CodecError(f"{type(message).__name__}: {len(body)} bytes are too many")
    except CodecError as error:
        problem = error
    parts = message.halves() if isinstance(message, Divisible) else ()
    if not parts:
        raise problem
    for part in parts:
        yield from _bodies(part)
