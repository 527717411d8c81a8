"""`record on` and `record off`: a recording of everything that enters NUP.

    none --start--> under way --stop--> ended --start--> under way
                                        ^   |
                                        +---+ stop: the same text again

The client may fail to write the text: to a full disk, or on a lost connection. So an ended
recording is kept until the next one begins.

Bounds: one recording, under way or ended, with the bounds of `Recorder`.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

from routed.control.daemon import EndedRecording
from routed.nup.instance import NeighborInstance
from routed.nup.recording.recorder import Recorder

__all__ = ["NupRecording"]


class NupRecording:
    """Owns the recording that is under way, or the last one."""

    def __init__(
        self, instance: NeighborInstance, rng: random.Random, now: Callable[[], float]
    ) -> None:
        """Begin without a recording.

        Args:
            instance: is recorded.
            rng: the instance's generator.
            now: seconds, monotonic.
        """
        self._nup = instance
        self._rng = rng
        self._now = now
        self._recorder: Recorder | None = None
        self._ended: tuple[str, float] | None = None
        """The text of the last recording, and when it ended."""

    @property
    def size_bytes(self) -> int:
        """The size of the recording that is under way, or of the last one."""
        if self._recorder is not None:
            return self._recorder.size_bytes
        return 0 if self._ended is None else len(self._ended[0])

    def start(self) -> bool:
        """Begin to record, and discard the last recording. Returns False if a recording is under
        way already."""
        if self._recorder is not None:
            return False
        self._ended = None
        self._recorder = Recorder(self._nup, secrets.token_bytes(32), self._now())
        self._nup.record_to(self._recorder)
        return True

    def stop(self) -> EndedRecording | None:
        """End the recording and return it. Without one that is under way, return the last one
        again; None if there is none."""
        now = self._now()
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            self._nup.record_to(None)
            self._ended = recorder.text(self._nup, now), now
            self._rng.seed(secrets.randbits(64))  # the text shows the state of the generator
        if self._ended is None:
            return None
        text, ended_at = self._ended
        return EndedRecording(text, now - ended_at)
