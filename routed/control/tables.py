"""Large tables, page by page, made once for all who ask for the same at the same time. Pure.

    Table.take(after, limit) --rows--> ResultPages --encoded pages--> as many sessions as want them

A table is walked by position: what comes after a prefix. So a walk holds nothing between two pages,
survives any change of the table, and two walks of the same table at the same position want the same
bytes. The shelf keeps those for a moment: two hundred clients that dump a table together cost
little more than one.

Invariants:
    A page from the shelf is as a page made now would be, but for ages and times left, which are at
    most SHARED_S old: any change of what a table shows raises its version.
    The shelf holds at most RESULT_PAGES_BYTES.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from routed.control.rows import pack_rows
from routed.model.prefix import Prefix

__all__ = ["RESULT_PAGES_BYTES", "SHARED_S", "Page", "ResultPages", "ResultTable", "TablePage"]

SHARED_S = 1.0
RESULT_PAGES_BYTES = 2 * 1024 * 1024


class TablePage(NamedTuple):
    """Some rows of a table."""

    rows: Sequence[tuple[object, ...]]
    """Plain values, in the order of the view's columns."""
    after: Prefix | None
    """Where the next page begins; None when this was the last one."""


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A question whose answer is a part of a large table."""

    columns: tuple[str, ...]
    question: Hashable
    """What tells this part from others."""
    version: Callable[[], int]
    """Another number after any change of what is shown."""
    take: Callable[[Prefix | None, int], TablePage]
    """The rows after a prefix (None: from the beginning), looking at so many prefixes at most."""


class Page(NamedTuple):
    """A page, encoded."""

    bodies: tuple[bytes, ...]
    """Of ROWS frames."""
    after: Prefix | None


class _Shelved(NamedTuple):
    version: int
    made_at: float
    size: int
    page: Page


class ResultPages:
    """Owns the pages that somebody else may want in a moment."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Hashable, _Shelved] = OrderedDict()
        self._size = 0

    def page(self, table: ResultTable, after: Prefix | None, limit: int, now: float) -> Page:
        """A page of a table, from the shelf or made.

        Args:
            table: which.
            after: the last prefix that was seen; None to begin.
            limit: how many prefixes are looked at.
            now: seconds, monotonic.

        Cost: about 7 us a row when it is made.
        """
        key = (table.question, after, limit)
        version = table.version()
        shelved = self._pages.get(key)
        if shelved and shelved.version == version and now - shelved.made_at <= SHARED_S:
            return shelved.page
        rows, next_after = table.take(after, limit)
        page = Page(tuple(pack_rows(table.columns, rows)), next_after)
        self._put(key, _Shelved(version, now, sum(map(len, page.bodies)), page))
        return page

    def _put(self, key: Hashable, shelved: _Shelved) -> None:
        before = self._pages.pop(key, None)
        if before is not None:
            self._size -= before.size
        self._pages[key] = shelved
        self._size += shelved.size
        while self._size > RESULT_PAGES_BYTES:
            _, oldest = self._pages.popitem(last=False)
            self._size -= oldest.size
