"""Rows as JSON for programs: always one document per command.

    {"version": 1, "data": [ROW, ...]}
    {"version": 1, "error": {"code": CODE, "text": TEXT}}

The columns of a row are those of the daemon's view; columns are only added. An answer that ends
with an error after some rows is still one document, with both `data` and `error`.

The compact form has one row per line, for diff and grep; the pretty form is indented by two.
"""

from __future__ import annotations

import io
import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # too slow to import for a one-shot command
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from routectl.render.text import Form, Row

__all__ = ["JSON_VERSION", "JsonOutput"]

JSON_VERSION = 1
"""Increased when a field is removed or changes its meaning, not when a field is added."""


_encode = json.JSONEncoder(ensure_ascii=False).encode


class JsonOutput:
    """Writes answers and errors as JSON, both to standard output."""

    def __init__(self, out: TextIO, *, is_pretty: bool) -> None:
        self._out = out
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(encoding="utf-8")  # independent of the locale: RFC 8259, 8.1
        self._is_pretty = is_pretty
        self._is_open = False
        self._has_rows = False

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write each page of rows as it arrives."""
        del form  # for text only
        for page in pages:
            if self._is_pretty:
                for row in page:
                    self._write_row(row)
            elif page:
                self._write_page(page)
        self._open()
        self._close()

    @property
    def descriptor(self) -> int | None:
        """File descriptor that is written to; None if the output is not a file of the system."""
        from routectl.render.text import descriptor_of  # needed here only

        return descriptor_of(self._out)

    def stream(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they arrive, one per line, without an enclosing document."""
        del form
        for page in pages:
            for row in page:
                self._out.write(_encode(row) + "\n")
            self._out.flush()

    def report(self, lines: Iterable[str]) -> None:
        """Write the lines of a result, one per row."""
        for line in lines:
            self._write_row({"text": line})
        self._open()
        self._close()

    def fail(self, code: str, text: str) -> None:
        """Write an error, and end the document if one was begun."""
        error = {"code": code, "text": text}
        if self._is_open:
            self._close(f', "error": {_encode(error)}')
            return
        indent = 2 if self._is_pretty else None
        document = {"version": JSON_VERSION, "error": error}
        self._out.write(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")
        self._out.flush()

    def report_in_part(self, lines: Iterable[str], code: str, text: str) -> None:
        """Write the lines of a partly successful result as rows, and its error."""
        for line in lines:
            self._write_row({"text": line})
        self._open()
        self.fail(code, text)

    def write_text(self, pages: Iterable[Sequence[Row]]) -> None:
        """Write the parts of one text as rows."""
        for page in pages:
            for row in page:
                self._write_row(row)
        self._open()
        self._close()

    def note(self, text: str) -> None:
        """Write nothing: remarks are for people."""

    def progress(self, done: int, read_bytes: int, total_bytes: int) -> None:
        """Write nothing."""

    def progress_ended(self) -> None:
        """Write nothing."""

    def _open(self) -> None:
        if not self._is_open:
            break_ = "\n  " if self._is_pretty else ""
            gap = break_ or " "
            self._out.write(f'{{{break_}"version": {JSON_VERSION},{gap}"data": [')
            self._is_open, self._has_rows = True, False

    def _write_page(self, page: Sequence[Row]) -> None:
        """Write rows, one per line. A page is encoded at once, which takes half the time."""
        self._next_item()
        text = _encode(page)[1:-1]
        # The text occurs between two rows, and nowhere else if the count is right: inside a string
        # the quote would be escaped, and a map inside a row that begins with the same key increases
        # the count.
        start = f"{{{_encode(next(iter(page[0]), ''))}:"
        if text.count(f"}}, {start}") == len(page) - 1:
            self._out.write(text.replace(f"}}, {start}", f"}},\n{start}"))
        else:
            self._out.write(",\n".join(map(_encode, page)))

    def _next_item(self) -> None:
        self._open()
        self._out.write(",\n" if self._has_rows else "\n")
        self._has_rows = True

    def _write_row(self, row: Row) -> None:
        self._next_item()
        if self._is_pretty:
            text = json.dumps(row, indent=2, ensure_ascii=False)
            self._out.write("    " + text.replace("\n", "\n    "))
        else:
            self._out.write(_encode(row))

    def _close(self, tail: str = "") -> None:
        start = ("\n  " if self._is_pretty else "\n") if self._has_rows else ""
        end = "\n}\n" if self._is_pretty else "}\n"
        self._out.write(f"{start}]{tail}{end}")
        self._out.flush()
        self._is_open = False
