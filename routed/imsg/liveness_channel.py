"""The message by which an engine gets its channel to the liveness process."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["LivenessChannelReady"]


@dataclass(frozen=True, slots=True)
class LivenessChannelReady:
    """The engine's channel to the liveness process; the message carries its descriptor. It replaces
    an earlier one."""
