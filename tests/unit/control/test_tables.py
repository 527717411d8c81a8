"""Pages of large tables, made once for all clients that ask for the same."""

from __future__ import annotations

from ipc.codec import decode
from ipc.control import Rows
from routed.control.tables import (
    RESULT_PAGES_BYTES,
    SHARED_S,
    Position,
    ResultPages,
    ResultTable,
    TablePage,
    TablePosition,
)
from routed.model.prefix import Family, Prefix


class Numbers:
    """A table of a hundred rows; counts how often it is read."""

    def __init__(self, width: int = 1) -> None:
        self.version = 0
        self.asked = 0
        self._filler = "x" * width

    def take(self, after: Position | None, limit: int) -> TablePage:
        self.asked += 1
        assert not isinstance(after, TablePosition)
        start = 0 if after is None else after.addr_bits + 1
        rows = [(number, self._filler) for number in range(start, min(start + limit, 100))]
        is_over = start + limit >= 100
        return TablePage(rows, None if is_over else Prefix(Family.IPV4, start + limit - 1, 32))

    def table(self, question: str = "all") -> ResultTable:
        return ResultTable(("number", "filler"), question, lambda: self.version, self.take)


def test_a_walk_sees_every_row_once() -> None:
    numbers, result_pages = Numbers(), ResultPages()
    seen: list[object] = []
    after = None
    while True:
        page = result_pages.page(numbers.table(), after, 16, 0.0)
        seen += [row[0] for body in page.bodies for row in decode(Rows, body).values]
        after = page.after
        if after is None:
            break
    assert seen == list(range(100))


def test_the_same_page_is_made_once_until_something_changes_or_time_passes() -> None:
    numbers, result_pages = Numbers(), ResultPages()
    first = result_pages.page(numbers.table(), None, 16, 0.0)
    assert result_pages.page(numbers.table(), None, 16, SHARED_S) is first
    assert numbers.asked == 1
    result_pages.page(numbers.table("others"), None, 16, 0.0)
    result_pages.page(numbers.table(), first.after, 16, 0.0)
    result_pages.page(numbers.table(), None, 64, 0.0)
    assert numbers.asked == 4
    result_pages.page(numbers.table(), None, 16, SHARED_S + 0.1)
    assert numbers.asked == 5
    numbers.version += 1
    result_pages.page(numbers.table(), None, 16, SHARED_S + 0.1)
    assert numbers.asked == 6


def test_kept_pages_are_bounded_and_the_oldest_is_dropped() -> None:
    numbers, result_pages = Numbers(width=20_000), ResultPages()
    for question in range(20):
        result_pages.page(numbers.table(str(question)), None, 16, 0.0)
        assert result_pages._size <= RESULT_PAGES_BYTES
        assert result_pages._size == sum(shelved.size for shelved in result_pages._pages.values())
    asked = numbers.asked
    result_pages.page(numbers.table("19"), None, 16, 0.0)
    assert numbers.asked == asked
    result_pages.page(numbers.table("0"), None, 16, 0.0)
    assert numbers.asked == asked + 1
