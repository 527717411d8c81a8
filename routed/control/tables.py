"""Large tables, page by page; a page is made once for all clients that ask at the same time. Pure.

    ResultTable.read(after, limit) --rows--> ResultPages --encoded pages--> sessions

A table is walked by position: the prefixes after a prefix. So a walk holds nothing between two
pages and survives any change of the table, and two walks of the same table at the same position
need the same bytes. `ResultPages` keeps these for a moment: two hundred clients that dump a table
together cost little more than one.

Invariants:
    A kept page is as a page made now would be, except for ages and times left, which are at most
    SHARED_S old: any change of what a table shows raises its version.
    At most RESULT_PAGES_BYTES are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from ipc.lazy_dataclass import dataclass
from routed.control.rows import pack_rows
from routed.model.prefix import Prefix

__all__ = [
    "RESULT_PAGES_BYTES",
    "SHARED_S",
    "Page",
    "Position",
    "ResultPages",
    "ResultTable",
    "TablePage",
    "TablePosition",
]

SHARED_S = 1.0
RESULT_PAGES_BYTES = 2 * 1024 * 1024


class TablePosition(NamedTuple):
    """A place in a walk over the tables of several kernel tables."""

    number: int
    """How many kernel tables were walked over completely."""
    after: Prefix | None
    """The last prefix of the next one that was looked at; None to begin."""


Position = Prefix | TablePosition
"""A place in a table: after a prefix."""


class TablePage(NamedTuple):
    """Some rows of a table."""

    rows: Sequence[tuple[object, ...]]
    """Plain values, in the order of the view's columns."""
    after: Position | None
    """The last prefix that was looked at, to continue; None after the last page."""


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A part of a large table, as a client has selected it."""

    columns: tuple[str, ...]
    question: Hashable
    """Identifies the part."""
    version: Callable[[], int]
    """Returns a number that changes with any change of what is shown."""
    read: Callable[[Position | None, int], TablePage]
    """Returns the rows after a prefix (None: from the beginning), looking at a limited number of
    prefixes."""


class Page(NamedTuple):
    """An encoded page."""

    bodies: tuple[bytes, ...]
    """Bodies of ROWS frames."""
    after: Position | None


class _KeptPage(NamedTuple):
    """A page and what decides whether it may still be used."""

    version: int
    made_at: float
    size: int
    page: Page


class ResultPages:
    """Owns the pages that another session may need soon."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Hashable, _KeptPage] = OrderedDict()
        self._size = 0

    def page(self, table: ResultTable, after: Position | None, limit: int, now: float) -> Page:
        """Return a page of a table, kept or made now.

        Args:
            table: the table.
            after: the last prefix that was looked at; None to begin.
            limit: how many prefixes are looked at.
            now: seconds, monotonic.

        Cost: about 7 us for each row if it is made.
        """
        key = (table.question, after, limit)
        version = table.version()
        kept = self._pages.get(key)
        if kept and kept.version == version and now - kept.made_at <= SHARED_S:
            return kept.page
        rows, next_after = table.read(after, limit)
        page = Page(tuple(pack_rows(table.columns, rows)), next_after)
        self._put(key, _KeptPage(version, now, sum(map(len, page.bodies)), page))
        return page

    def _put(self, key: Hashable, kept: _KeptPage) -> None:
        before = self._pages.pop(key, None)
        if before is not None:
            self._size -= before.size
        self._pages[key] = kept
        self._size += kept.size
        while self._size > RESULT_PAGES_BYTES:
            _, oldest = self._pages.popitem(last=False)
            self._size -= oldest.size
