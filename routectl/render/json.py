"""Rows as JSON for programs: one document for each command, always.

    {"version": 1, "data": [ROW, ...]}
    {"version": 1, "error": {"code": CODE, "text": TEXT}}

The columns of a row are those of the daemon's view; they only grow. An answer that breaks off after
some rows is still one document, with both `data` and `error`.

Compact form puts a row on a line, which diff and grep like; pretty form indents by two.
"""

from __future__ import annotations

import io
import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # a one-shot command has no time for `typing`
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from routectl.render.text import Form, Row

__all__ = ["JSON_VERSION", "JsonOutput"]

JSON_VERSION = 1
"""Raised when a field goes away or changes its meaning; a new field does not raise it."""


_encode = json.JSONEncoder(ensure_ascii=False).encode


class JsonOutput:
    """Writes answers and errors as JSON, both to standard output."""

    def __init__(self, out: TextIO, *, is_pretty: bool) -> None:
        self._out = out
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(encoding="utf-8")  # whatever the terminal has: RFC 8259, 8.1
        self._is_pretty = is_pretty
        self._is_open = False
        self._has_rows = False

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they come: nothing is held back, however many there are."""
        del form  # for people
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
        """What is written to, when it is a file of the system."""
        from routectl.render.text import descriptor_of  # only `monitor` pays for it

        return descriptor_of(self._out)

    def stream(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they come, for as long as they do: a document a line, without a frame."""
        del form
        for page in pages:
            for row in page:
                self._out.write(_encode(row) + "\n")
            self._out.flush()

    def report(self, lines: Iterable[str]) -> None:
        """Write what was done, a line a row."""
        for line in lines:
            self._write_row({"text": line})
        self._open()
        self._close()

    def fail(self, code: str, text: str) -> None:
        """Write what went wrong, ending the document that was begun, if any."""
        error = {"code": code, "text": text}
        if self._is_open:
            self._close(f', "error": {_encode(error)}')
            return
        indent = 2 if self._is_pretty else None
        document = {"version": JSON_VERSION, "error": error}
        self._out.write(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")
        self._out.flush()

    def report_in_part(self, lines: Iterable[str], code: str, text: str) -> None:
        """Write what was done as rows, and what went wrong beside it as the error."""
        for line in lines:
            self._write_row({"text": line})
        self._open()
        self.fail(code, text)

    def write_text(self, pages: Iterable[Sequence[Row]]) -> None:
        """Write the pieces of one text as rows."""
        for page in pages:
            for row in page:
                self._write_row(row)
        self._open()
        self._close()

    def note(self, text: str) -> None:
        """Nothing: a document has no margin."""

    def progress(self, done: int, read_bytes: int, total_bytes: int) -> None:
        """Nothing."""

    def progress_ended(self) -> None:
        """Nothing."""

    def _open(self) -> None:
        if not self._is_open:
            break_ = "\n  " if self._is_pretty else ""
            gap = break_ or " "
            self._out.write(f'{{{break_}"version": {JSON_VERSION},{gap}"data": [')
            self._is_open, self._has_rows = True, False

    def _write_page(self, page: Sequence[Row]) -> None:
        """Write rows, each on a line; a page is encoded at once, which halves the time."""
        self._next_item()
        text = _encode(page)[1:-1]
        # Between two rows, and nowhere else if the count is right: inside a string the quote would
        # be escaped, and a map inside a row may begin with the same key, but then there are more.
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
