"""The rows of one table as aligned columns, or as one line for each value where these do not fit.

The second form is for short tables on a terminal that is narrower than their rows; a long table is
easier to read as one, and what reads a file or a pipe relies on rows.
"""

from __future__ import annotations

from itertools import zip_longest

from routectl.render.values import printable

TYPE_CHECKING = False
if TYPE_CHECKING:  # too slow to import for a one-shot command
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol

    Row = dict[str, object]

    class TableColumn(Protocol):
        """What a table needs of a column (`text.Column`)."""

        title: str
        is_right: bool

        @property
        def text(self) -> Callable[[Row], str]:
            """Returns the cell of a row."""

    class TableOutput(Protocol):
        """What a table needs of its output (`text.TextOutput`)."""

        @property
        def terminal_width(self) -> int | None:
            """Columns of the terminal; None if there is none."""

        def cell(self, column: Any, text: str, width: int) -> str:
            """Return a padded cell."""

        def write_titles(self, line: str) -> None:
            """Write the titles."""

        def write_block(self, lines: Sequence[str]) -> None:
            """Write the lines of one row."""

        def write_aside(self, line: str) -> None:
            """Write a line that is no row."""


__all__ = ["VERTICAL_ROWS_MAX", "TableWriter"]

_GAP = "  "
VERTICAL_ROWS_MAX = 20
"""Most rows that are written with a line for each value."""


class TableWriter:
    """Formats one table, batch by batch."""

    def __init__(self, output: TableOutput, columns: Sequence[TableColumn]) -> None:
        self._output = output
        self._columns = columns
        self._widths = [len(column.title) for column in columns]
        self._is_vertical = False
        """Whether each cell has a line of its own, because a row is wider than the terminal."""
        self.has_rows = False

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows, the first time with the titles."""
        if not rows:
            return
        blocks = [self._lines(row) for row in rows]
        lines = [line for block in blocks for line in block]
        self._widths = [
            max(width, *map(len, cells))
            for width, cells in zip(self._widths, zip(*lines, strict=True), strict=True)
        ]
        if not self.has_rows:
            width = sum(self._widths) + len(_GAP) * (len(self._widths) - 1)
            is_wide = width > (self._output.terminal_width or width)
            self._is_vertical = is_wide and len(rows) <= VERTICAL_ROWS_MAX
            if not self._is_vertical:
                self._write_titles()
        for block in blocks:
            if self._is_vertical and self.has_rows:
                self._output.write_aside("")
            self.has_rows = True
            self._output.write_block(
                self._stacked(block)
                if self._is_vertical
                else [self._laid_out(line) for line in block]
            )
        for row in rows:
            for note in _left_out(row):
                self._output.write_aside(note)

    def _laid_out(self, line: tuple[str, ...]) -> str:
        return _GAP.join(
            self._output.cell(column, text, width)
            for column, text, width in zip(self._columns, line, self._widths, strict=True)
        )

    def _stacked(self, block: list[tuple[str, ...]]) -> list[str]:
        """Return the lines of a row with a line for each cell that has a value."""
        width = max(len(column.title) for column in self._columns)
        lines = []
        for column, *cell in zip(self._columns, *block, strict=True):
            texts = [text for text in cell if text not in ("", "-")]
            label = column.title or "MARK"
            for title, text in zip_longest([label][: len(texts)], texts, fillvalue=""):
                shown = self._output.cell(column, text, 0)
                lines.append(f"{title.ljust(width)}{_GAP}{shown}")
        return lines

    def _write_titles(self) -> None:
        titles = [
            column.title.rjust(width) if column.is_right else column.title.ljust(width)
            for column, width in zip(self._columns, self._widths, strict=True)
        ]
        self._output.write_titles(_GAP.join(titles))

    def _lines(self, row: Row) -> list[tuple[str, ...]]:
        """Return the text lines of one row: as many as its tallest cell has."""
        cells = [column.text(row).split("\n") for column in self._columns]
        return [
            tuple(printable(text) for text in line) for line in zip_longest(*cells, fillvalue="")
        ]


_LEFT_OUT = "left_out"
"""`ipc.control.LEFT_OUT`, copied because a quick `show` does not load that module."""


def _left_out(row: Row) -> Iterable[str]:
    """Yield a line for each column that the daemon shortened because the row exceeds one
    message."""
    left_out = row.get(_LEFT_OUT)
    if isinstance(left_out, dict):
        first = next(iter(row.values()))
        for column, count in left_out.items():
            yield printable(f"... {first}: {count} more of {column} are left out")
