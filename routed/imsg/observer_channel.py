"""The message by which an engine gets its channel to the observer."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["ObserverChannelReady"]


@dataclass(frozen=True, slots=True)
class ObserverChannelReady:
    """The engine's channel to the observer; the message carries its descriptor. It replaces an
    earlier one."""
