"""Requests about BFD; see `ipc.control`."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["ShowBfdSessions"]


@dataclass(frozen=True, slots=True)
class ShowBfdSessions:
    """The BFD sessions of the configuration."""

    name: str | None = None
    """Select this session."""
