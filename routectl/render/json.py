"""Rows as JSON for programs: always one document per command.

    {"version": 1, "data": [ROW, ...]}
    {"version": 1, "error": {"code": CODE, "text": TEXT}}

The columns of a row are those of the daemon's view; columns are only added. An answer that ends
with an error after some rows is still one document, with both `data` and `error`; so is one that
Ctrl-C ended, because Ctrl-C is held back while a part of a document is written.

The compact form has one row per line, for diff and grep; the pretty form is indented by two.
"""

from __future__ import annotations

import io
import json

from routectl.interrupts import INTERRUPTS

TYPE_CHECKING = False
if TYPE_CHECKING:  # too slow to import for a one-shot command
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from routectl.render.text import Form, Row

__all__ = ["JSON_VERSION", "JsonOutput"]

JSON_VERSION = 1
"""Increased when a field is removed or changes its meaning, not when a field is added."""


_COMPACT = json.JSONEncoder(ensure_ascii=False)
_PRETTY = json.JSONEncoder(ensure_ascii=False, indent=2)


def _encode(value: object, encoder: json.JSONEncoder = _COMPACT) -> str:
    r"""Return a value as JSON that UTF-8 can carry: a byte of an argument that is no text, which
    Python holds as a surrogate, becomes an escape (`\udcff`)."""
    text = encoder.encode(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class JsonOutput:
    """Writes answers and errors as JSON, both to standard output."""

    def __init__(self, out: TextIO, *, is_pretty: bool) -> None:
        self._out = out
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(encoding="utf-8")  # independent of the locale: RFC 8259, 8.1
        self._is_pretty = is_pretty
        self._is_open = False
        self._has_rows = False
        self._is_whole = False
        """Whether a document has been written to its end."""

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write each page of rows as it arrives."""
        del form  # for text only
        for page in pages:
            with INTERRUPTS.held():
                if self._is_pretty:
                    for row in page:
                        self._write_row(row)
                elif page:
                    self._write_page(page)
        self._end()

    @property
    def descriptor(self) -> int | None:
        """File descriptor that is written to; None if the output is not a file of the system."""
        from routectl.render.text import descriptor_of  # needed here only

        return descriptor_of(self._out)

    def stream(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they arrive, one per line, without an enclosing document."""
        del form
        self._is_whole = True  # each line is a document
        for page in pages:
            with INTERRUPTS.held():
                for row in page:
                    self._out.write(_encode(row) + "\n")
                self._out.flush()

    def report(self, lines: Iterable[str]) -> None:
        """Write the lines of a result, one per row."""
        with INTERRUPTS.held():
            for line in lines:
                self._write_row({"text": line})
            self._end()

    def fail(self, code: str, text: str) -> None:
        """Write an error, and end the document if one was begun."""
        error = {"code": code, "text": text}
        with INTERRUPTS.held():
            if self._is_open:
                self._close(f', "error": {_encode(error)}')
                return
            document = {"version": JSON_VERSION, "error": error}
            self._out.write(_encode(document, _PRETTY if self._is_pretty else _COMPACT) + "\n")
            self._out.flush()
            self._is_whole = True

    def end_lease(self, code: str, text: str) -> None:
        """Write nothing: the document is whole, and the exit status says the rest."""

    def cancel(self) -> None:
        """Write the error `cancelled` and end the document, unless it is whole already."""
        if not self._is_whole:
            self.fail("cancelled", "cancelled")

    def report_in_part(self, lines: Iterable[str], code: str, text: str) -> None:
        """Write the lines of a partly successful result as rows, and its error."""
        with INTERRUPTS.held():
            for line in lines:
                self._write_row({"text": line})
            self._open()
            self.fail(code, text)

    def write_text(self, pages: Iterable[Sequence[Row]]) -> None:
        """Write the parts of one text as rows."""
        for page in pages:
            with INTERRUPTS.held():
                for row in page:
                    self._write_row(row)
        self._end()

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
            self._out.write("    " + _encode(row, _PRETTY).replace("\n", "\n    "))
        else:
            self._out.write(_encode(row))

    def _end(self) -> None:
        with INTERRUPTS.held():
            self._open()
            self._close()

    def _close(self, tail: str = "") -> None:
        start = ("\n  " if self._is_pretty else "\n") if self._has_rows else ""
        end = "\n}\n" if self._is_pretty else "}\n"
        self._out.write(f"{start}]{tail}{end}")
        self._out.flush()
        self._is_open, self._is_whole = False, True
