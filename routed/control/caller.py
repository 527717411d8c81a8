"""Who asks: what a handler may know of the client."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Caller"]


class Caller(NamedTuple):
    """The process that connected, by the kernel's word, and its session."""

    uid: int
    pid: int
    """For people only: a pid can be reused."""
    session: int = 0
    """Counts sessions of this engine from 1; never reused."""
