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

from collections.abc import Iterator
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


def frames_of(message: object, request_id: int = 0) -> list[Frame]:
    """Encode a message as frames, in order.

    Args:
        message: of a class in the authority table.
        request_id: id of the request that it is or answers; 0 for none.

    Raises:
        CodecError: the message is of no such class, does not match its declaration, or is too long
            and cannot be divided.
    """
    number = MESSAGE_CLASSES.get(type(message))
    if number is None:
        raise CodecError(f"{type(message).__name__} is no message")
    return [Frame(number, request_id, body) for body in _bodies(message)]


def frames_or_problem(message: object, request_id: int = 0) -> tuple[list[Frame], str]:
    """Do the same as `frames_of`, but return no frames and the problem instead of raising."""
    try:
        return frames_of(message, request_id), ""
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
