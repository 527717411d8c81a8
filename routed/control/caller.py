"""The caller of a request: what a handler may know of the client."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Caller"]


class Caller(NamedTuple):
    """The process that connected, as identified by the kernel, and its session."""

    uid: int
    pid: int
    """Pid of the process, for people only: it may be reused."""
    session: int = 0
    """Counts sessions of this engine from 1; never reused."""
