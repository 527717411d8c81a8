"""The view of the daemon's memory."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["MemoryView"]


@dataclass(frozen=True, slots=True)
class MemoryView:
    """The memory of one part of the daemon."""

    part: str
    size_bytes: int
    items: int | None
    """Number of items that it holds; None where they cannot be counted."""
    help: str
