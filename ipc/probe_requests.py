"""Requests about probes; see `ipc.control`."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["ShowProbes"]


@dataclass(frozen=True, slots=True)
class ShowProbes:
    """The probes of the configuration."""

    name: str | None = None
    """Select this probe."""
