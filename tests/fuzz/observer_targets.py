"""Fuzz targets of the observer: the messages of its two channels."""

from __future__ import annotations

import contextlib

from ipc.framing import INTERNAL_FRAME_MAX_BYTES, IpcError, unpack_frame
from routed.imsg.observer import OBSERVER_MESSAGES, ObserverEnd, check_observer_message
from tests.fuzz.target import Target, frame_with, frames_of

__all__ = ["OBSERVER_TARGETS"]

_CLASSES = {int(number): rule.message for number, rule in OBSERVER_MESSAGES.items()}


def _authority(data: bytes) -> None:
    """Check frames from each end, with and without a descriptor: they are accepted or refused
    before a body is decoded.
    """
    for end in ObserverEnd:
        for has_descriptor in (False, True):
            with contextlib.suppress(IpcError):
                frame = unpack_frame(data, INTERNAL_FRAME_MAX_BYTES)
                message_class = check_observer_message(
                    frame.type, end, has_descriptor=has_descriptor
                )
                rule = next(
                    rule for rule in OBSERVER_MESSAGES.values() if rule.message is message_class
                )
                assert (rule.sender, rule.carries_descriptor) == (end, has_descriptor)


_FRAMES = frames_of(_CLASSES, INTERNAL_FRAME_MAX_BYTES)

OBSERVER_TARGETS: dict[str, Target] = {
    "observer_frame": Target(frame_with(_CLASSES, INTERNAL_FRAME_MAX_BYTES), _FRAMES),
    "observer_authority": Target(_authority, _FRAMES),
}
"""By name: that of the folder in the corpus."""
