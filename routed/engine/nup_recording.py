"""`record on` and `record off`: a recording of everything that enters NUP."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

from routed.nup.instance import NeighborInstance
from routed.nup.recording.recorder import Recorder

__all__ = ["NupRecording"]


class NupRecording:
    """Owns the recording that is under way, if there is one."""

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

    def start(self) -> bool:
        """Begin to record. Returns False if a recording is under way already."""
        if self._recorder is not None:
            return False
        self._recorder = Recorder(self._nup, secrets.token_bytes(32), self._now())
        self._nup.record_to(self._recorder)
        return True

    def stop(self) -> str | None:
        """End the recording and return its text; None if there was none."""
        if self._recorder is None:
            return None
        recorder, self._recorder = self._recorder, None
        self._nup.record_to(None)
        text = recorder.text(self._nup, self._now())
        self._rng.seed(secrets.randbits(64))  # the text shows the state of the generator
        return text
