"""What a request is answered with, as a value: the server sends it at the client's pace.

Final     a result and no rows
Views     rows that are at hand, and the result
Dump      rows that are made in chunks while they are sent; a session holds one chunk
Table     rows of a large table, by position (`routed/control/tables.py`)
Stream    rows as they come, until the client hangs up
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ipc.control import Result, ResultCode
from routed.control.changes import ChangeFeed
from routed.control.tables import ResultTable

__all__ = ["Answer", "Chunks", "Dump", "Final", "RowStream", "Views"]


@dataclass(frozen=True, slots=True)
class Final:
    """A result and no rows."""

    result: Result = field(default_factory=lambda: Result(ResultCode.OK))
    descriptor: int | None = None
    """Sent along; a copy reaches the client and the daemon keeps its own."""


@dataclass(frozen=True, slots=True)
class Views:
    """Rows that are at hand, and then the result."""

    view_class: type
    views: Sequence[object]
    result: Result = field(default_factory=lambda: Result(ResultCode.OK))


Chunks: TypeAlias = Generator[Sequence[object], None, None] | AsyncGenerator[Sequence[object], None]
"""Rows in chunks, each 2 ms of work at most; a chunk may be empty. Closed when the client has gone.
An asynchronous one waits for somebody else between two chunks."""


@dataclass(frozen=True, slots=True)
class Dump:
    """Rows, in chunks that are made when their turn comes."""

    view_class: type
    chunks: Chunks
    result_if_empty: Result = field(default_factory=lambda: Result(ResultCode.OK))


@dataclass(frozen=True, slots=True)
class RowStream:
    """Rows as they come, until the client hangs up."""

    view_class: type
    feed: ChangeFeed
    """Closed by the server."""


Answer = Final | Views | Dump | ResultTable | RowStream
