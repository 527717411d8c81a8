"""A fuzz target, and the targets that every table of message classes gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ipc import codec
from ipc.framing import Frame, IpcError, pack_frame, unpack_frame
from tests.fakes.wired_samples import sample

__all__ = ["Target", "frame_with", "frames_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder."""

    run: Callable[[bytes], None]
    """Decodes; raises only for a finding."""
    seeds: Callable[[], Iterator[bytes]]
    """Well-formed input."""
    max_bytes: int = 4096
    """Longest input that a fuzzer tries."""


def frame_with(classes: Mapping[int, type], limit: int) -> Callable[[bytes], None]:
    """Return a run that decodes one frame as the class of its type, and encodes it again."""

    def run(data: bytes) -> None:
        try:
            frame = unpack_frame(data, limit)
            message_class = classes.get(frame.type)
            if message_class is None:
                return
            message: object = codec.decode(message_class, frame.body)
        except IpcError:
            return
        again = codec.encode(message)
        assert codec.decode(message_class, again) == message

    return run


def frames_of(classes: Mapping[int, type], limit: int) -> Callable[[], Iterator[bytes]]:
    """Return seeds: two frames of each class."""

    def seeds() -> Iterator[bytes]:
        for number, message_class in classes.items():
            for seed in range(2):
                body = codec.encode(sample(message_class, random.Random(seed)))
                yield pack_frame(Frame(number, seed, body), limit)

    return seeds
