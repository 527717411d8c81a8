"""Rows as text for people: aligned tables, records, and a few colours.

A `TextTable` has one line for each row, a `Record` one line for each field of a single row. Their
columns are functions from a row to text, so that units, several next hops (one below the other) and
absent values look the same everywhere.

A table (`table.py`) is written in batches of BATCH_ROWS: the widths come from the first batch and
only grow, so that a table of any length needs little memory and `| head` is answered at once.

The text may change between versions; scripts use `--json` (`routectl/render/json.py`).

Plain classes are used rather than dataclasses, and imports are kept to a minimum, because the start
of a one-shot command takes longer than its output.

Invariants:
    Colour is used only if the caller sets it, which it does on a terminal without NO_COLOR.
    No text from outside can control the terminal: unprintable characters are escaped.
"""

from __future__ import annotations

import enum
import os
from itertools import zip_longest

from routectl.render.table import TableWriter
from routectl.render.values import (
    duration_text,
    ms_text,
    plain_text,
    printable,
    size_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # too slow to import for a one-shot command
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

__all__ = [
    "BATCH_ROWS",
    "Color",
    "Column",
    "Form",
    "Record",
    "Row",
    "Sections",
    "TextLines",
    "TextOutput",
    "TextTable",
    "descriptor_of",
    "duration_text",
    "ms_text",
    "plain_text",
    "printable",
    "size_text",
]

Row = dict[str, object]

BATCH_ROWS = 1000
_GAP = "  "
_BAR_WIDTH = 40


class Color(enum.Enum):
    """The meaning of a word, as the escape sequence of its colour."""

    GOOD = "\x1b[32m"
    WARN = "\x1b[33m"
    BAD = "\x1b[31m"
    TITLE = "\x1b[1m"


_RESET = "\x1b[0m"

_COLOR_OF_WORD = {
    "up": Color.GOOD,
    "ok": Color.GOOD,
    "yes": Color.GOOD,
    "no": Color.BAD,
    "installed": Color.GOOD,
    "init": Color.WARN,
    "two_way": Color.WARN,
    "loading": Color.WARN,
    "pending": Color.WARN,
    "shadowed": Color.WARN,
    "waiting": Color.WARN,
    "no_carrier": Color.WARN,
    "warning": Color.WARN,
    "down": Color.BAD,
    "failed": Color.BAD,
    "problem": Color.BAD,
}


class Column:
    """One column of a table, or one line of a record."""

    __slots__ = ("is_colored", "is_right", "text", "title")

    def __init__(
        self,
        title: str,
        text: Callable[[Row], str],
        *,
        is_right: bool = False,
        is_colored: bool = False,
    ) -> None:
        """Declare a column.

        Args:
            title: the heading.
            text: returns the cell of a row; several lines if there are several next hops.
            is_right: whether it is aligned to the right, as numbers are.
            is_colored: whether the first word of the cell is a state, shown in its colour.
        """
        self.title = title
        self.text = text
        self.is_right = is_right
        self.is_colored = is_colored


class TextTable:
    """A form with one line per row."""

    __slots__ = ("columns", "empty")

    def __init__(self, columns: tuple[Column, ...], empty: str) -> None:
        """Declare a table; `empty` is written if there are no rows."""
        self.columns = columns
        self.empty = empty


class Record:
    """A form with one line per field."""

    __slots__ = ("fields",)

    def __init__(self, fields: tuple[Column, ...]) -> None:
        self.fields = fields


class Sections:
    """Several forms, one below the other; each shows a part of every row."""

    __slots__ = ("parts",)

    def __init__(
        self, parts: tuple[tuple[str, Callable[[Row], list[Row]], TextTable | Record], ...]
    ) -> None:
        """Declare the sections: for each a heading (may be empty), a function that returns its
        rows, and its form.

        A section without rows is left out, with its heading.
        """
        self.parts = parts


class TextLines:
    """A form with one line per row, written as the row arrives."""

    __slots__ = ("empty", "text")

    def __init__(self, text: Callable[[Row], str], empty: str = "") -> None:
        """Declare the lines; `empty` is printed when there are no rows."""
        self.text = text
        self.empty = empty


Form = TextTable | Record | Sections | TextLines


class TextOutput:
    """Writes answers and errors for people."""

    def __init__(self, out: TextIO, errors: TextIO, *, has_color: bool, place: str = "") -> None:
        """Prepare; nothing is written.

        Args:
            out: stream for answers.
            errors: stream for errors.
            has_color: whether states are shown in their colours.
            place: place of the command in its file, such as `line 7`.
        """
        self._out = out
        self._errors = errors
        self._place = f"{place}: " if place else ""
        self._has_color = has_color

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows in their form."""
        match form:
            case TextTable():
                self._show_table(form, pages)
            case Record():
                for page in pages:
                    for row in page:
                        self._show_record(form, row)
            case Sections():
                for page in pages:
                    for row in page:
                        self._show_sections(form, row)
            case TextLines():
                self._show_lines(form, pages)
        self._out.flush()

    @property
    def descriptor(self) -> int | None:
        """File descriptor that is written to; None if the output is not a file of the system."""
        return descriptor_of(self._out)

    @property
    def terminal_width(self) -> int | None:
        """Columns of the terminal that is written to; None if it is not known, or no terminal."""
        columns = getattr(self._out, "terminal_columns", None)
        if columns is not None or not hasattr(self._out, "fileno"):  # a pager; a filter
            return columns
        descriptor = self.descriptor
        if descriptor is None or not self._out.isatty():
            return None
        try:
            return os.get_terminal_size(descriptor).columns or None
        except OSError:
            return None

    def stream(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they arrive, until there are no more."""
        self.show(form, pages)

    def report(self, lines: Iterable[str]) -> None:
        """Write the lines of a result."""
        for line in lines:
            self._out.write(f"{printable(line)}\n")
        self._out.flush()

    def end_lease(self, code: str, text: str) -> None:
        """Write why a session ended whose answer was written before."""
        self.fail(code, text)

    def fail(self, code: str, text: str) -> None:
        """Write an error."""
        del code  # for JSON only
        self._out.flush()
        for line in text.splitlines():
            program = self.paint("routectl:", Color.BAD)
            self._errors.write(f"{program} {self._place}{printable(line)}\n")
        self._errors.flush()

    def cancel(self) -> None:
        """Write nothing: lines need no end."""

    def report_in_part(self, lines: Iterable[str], code: str, text: str) -> None:
        """Write the lines of a partly successful result, and its error."""
        self.report(lines)
        self.fail(code, text)

    def write_text(self, pages: Iterable[Sequence[Row]]) -> None:
        """Write the `text` column of rows, the parts of one text, without changes."""
        for page in pages:
            for row in page:
                self._out.write(str(row.get("text", "")))
        self._out.flush()

    def note(self, text: str) -> None:
        """Write a remark to standard error."""
        self._out.flush()
        self._errors.write(f"routectl: {printable(text)}\n")
        self._errors.flush()

    def progress(self, done: int, read_bytes: int, total_bytes: int) -> None:
        """Draw a progress bar, on a terminal only."""
        if not self._errors.isatty():
            return
        share = read_bytes / total_bytes if total_bytes else 0.0
        bar = ("#" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, ".")
        percent = f"[{bar}] {share:4.0%}  " if total_bytes else ""
        self._errors.write(f"\r{percent}{done:,} routes")
        self._errors.flush()

    def progress_ended(self) -> None:
        """Remove the progress bar."""
        if self._errors.isatty():
            self._errors.write("\r\x1b[K")
            self._errors.flush()

    def _show_lines(self, form: TextLines, pages: Iterable[Sequence[Row]]) -> None:
        is_empty = True
        for page in pages:
            for row in page:
                is_empty = False
                self.write_line(printable(form.text(row)))
            self._out.flush()
        if is_empty and form.empty:
            self.write_aside(form.empty)

    def _show_sections(self, sections: Sections, row: Row) -> None:
        is_first = True
        for heading, select, form in sections.parts:
            rows = select(row)
            if not rows:
                continue
            if not is_first:
                self.write_line("")
            is_first = False
            if heading:
                self.write_line(self.paint(heading, Color.TITLE))
            self.show(form, [rows])

    def _show_table(self, table: TextTable, pages: Iterable[Sequence[Row]]) -> None:
        writer = TableWriter(self, table.columns)
        batch: list[Row] = []
        for page in pages:
            batch.extend(page)
            if len(batch) >= BATCH_ROWS:
                writer.write(batch)
                batch = []
        writer.write(batch)
        if not writer.has_rows:
            self.write_aside(table.empty)

    def _show_record(self, record: Record, row: Row) -> None:
        width = max(len(column.title) for column in record.fields)
        for column in record.fields:
            for title, line in zip_longest([column.title], column.text(row).split("\n")):
                label = self.paint((title or "").ljust(width), Color.TITLE)
                self.write_line(label + _GAP + self.cell(column, printable(line or ""), 0))

    def write_line(self, line: str) -> None:
        """Write one line without trailing blanks, which padding leaves."""
        self._out.write(f"{line.rstrip()}\n")

    def write_titles(self, line: str) -> None:
        """Write the titles of a table."""
        self.write_aside(self.paint(line, Color.TITLE))

    def write_block(self, lines: Sequence[str]) -> None:
        """Write the lines of one row, which a filter takes as one."""
        write = getattr(self._out, "write_block", None)
        if write is not None:
            write([line.rstrip() for line in lines])
            return
        for line in lines:
            self.write_line(line)

    def write_aside(self, line: str) -> None:
        """Write a line that is no row, which a filter does not count."""
        write = getattr(self._out, "write_aside", None)
        if write is not None:
            write(line.rstrip())
        else:
            self.write_line(line)

    def cell(self, column: Column, text: str, width: int) -> str:
        """Return a cell padded to a width, in the colour of its state."""
        padded = text.rjust(width) if column.is_right else text.ljust(width)
        word = text.partition(" ")[0].rstrip(":")
        if column.is_colored and word in _COLOR_OF_WORD:
            return self.paint(padded, _COLOR_OF_WORD[word])
        return padded

    def paint(self, text: str, color: Color) -> str:
        """Return a text in a colour, if there are colours."""
        return f"{color.value}{text}{_RESET}" if self._has_color else text


def descriptor_of(out: TextIO) -> int | None:
    """Return the descriptor of a stream; None for one in memory."""
    try:
        return out.fileno()
    except (OSError, ValueError):
        return None
