"""Answers to requests, as values, which the server sends as fast as the client reads.

Final        a result without rows
Views        rows that exist already, and the result
Dump         rows that are made in chunks while they are sent; a session holds one chunk
ResultTable  rows of a large table, by position (`routed/control/tables.py`)
RowStream    rows as they occur, until the client disconnects
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TypeAlias

from ipc.control import Result, ResultCode
from ipc.lazy_dataclass import dataclass, field
from routed.control.changes import ChangeFeed
from routed.control.tables import ResultTable

__all__ = ["Answer", "Chunks", "Dump", "Final", "RowStream", "Views"]


@dataclass(frozen=True, slots=True)
class Final:
    """A result without rows."""

    result: Result = field(default_factory=lambda: Result(ResultCode.OK))
    descriptor: int | None = None
    """Descriptor sent with the result. The client receives a copy; the daemon keeps its own."""


@dataclass(frozen=True, slots=True)
class Views:
    """Rows that exist already, and then the result."""

    view_class: type
    views: Sequence[object]
    result: Result = field(default_factory=lambda: Result(ResultCode.OK))


Chunks: TypeAlias = Generator[Sequence[object], None, None] | AsyncGenerator[Sequence[object], None]
"""Rows in chunks, each at most 2 ms of work; a chunk may be empty. Closed when the client has
disconnected. An asynchronous generator waits for another process between two chunks."""


@dataclass(frozen=True, slots=True)
class Dump:
    """Rows in chunks that are made when their turn comes."""

    view_class: type
    chunks: Chunks
    result_if_empty: Result = field(default_factory=lambda: Result(ResultCode.OK))


@dataclass(frozen=True, slots=True)
class RowStream:
    """Rows as they occur, until the client disconnects."""

    view_class: type
    feed: ChangeFeed
    """Closed by the server."""


Answer = Final | Views | Dump | ResultTable | RowStream
