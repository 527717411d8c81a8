"""Pager for long output in the shell. Output that fits on the screen is written directly, as by
git.

    renderer --> PagedOut --more than a screen--> $ROUTECTL_PAGER, $PAGER, or less
                     \\------what fits, at the end--> the terminal

`q` in the pager ends the command, as `| head` would. Ctrl-C ends the command, too, but the pager
keeps what it has received: both processes get the signal, the pager handles it, and this process
waits until the pager exits.

Failure: if the pager cannot be started, output goes to the terminal.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TextIO, cast

__all__ = ["PagedOut", "pager_command", "paging"]

_LESS_OPTIONS = "FRX"
"""Options of less, unless $LESS is set: exit if the text fits, keep colours and the screen."""


def pager_command() -> list[str]:
    """Return the pager's command; empty if the user has disabled it (an empty variable, or
    `cat`)."""
    for name in ("ROUTECTL_PAGER", "PAGER"):
        if name in os.environ:
            try:
                words = shlex.split(os.environ[name])
            except ValueError:
                return []  # an unclosed quote: not a command
            return [] if words == ["cat"] else words
    return ["less"]


_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def _width_of(line: str) -> int:
    """Return the columns that a line occupies on a terminal."""
    if "\x1b" in line:
        line = _COLOR.sub("", line)
    if line.isascii():
        return len(line)
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)


class PagedOut:
    """Text for the terminal, with the methods of TextIO that the renderers use."""

    def __init__(self, out: TextIO, command: list[str], lines: int, columns: int) -> None:
        """Prepare; nothing is written.

        Args:
            out: the terminal.
            command: the pager's command.
            lines: lines of the screen.
            columns: columns of the screen.
        """
        self._out = out
        self._command = command
        self._room = lines - 1
        """Free lines of the screen; one line is reserved for the prompt."""
        self._columns = max(columns, 1)
        self._width = 0
        """Columns of the line that is not ended yet."""
        self._held: list[str] = []
        self._pager: subprocess.Popen[str] | None = None

    @property
    def terminal_columns(self) -> int | None:
        """Columns of the terminal itself, whatever $COLUMNS says; None if it is not known."""
        try:
            return os.get_terminal_size(self._out.fileno()).columns or None
        except (OSError, ValueError):
            return None

    def isatty(self) -> bool:
        """Return whether the output is a terminal."""
        return self._out.isatty()

    def write(self, text: str) -> int:
        """Write text.

        Raises:
            BrokenPipeError: the user has left the pager.
        """
        if self._command:
            self._room -= self._screen_lines(text)
            self._held.append(text)
            if self._room < 0:
                self._open_pager()
        else:
            self._sink().write(text)
        return len(text)

    def _screen_lines(self, text: str) -> int:
        """Return how many lines of the screen a text ends; a long line occupies several.

        Cost: linear in the text.
        """
        *ended, rest = text.split("\n")
        count = 0
        for line in ended:
            width, self._width = self._width + _width_of(line), 0
            count += max(1, -(-width // self._columns))
        self._width += _width_of(rest)
        return count

    def flush(self) -> None:
        """Flush, unless output is still held back: it is written when it exceeds the screen, or at
        the end."""
        if not self._command:
            self._sink().flush()

    def close(self) -> None:
        """Write what is held back, or wait until the pager exits."""
        if self._pager is None:
            self._let_go(self._out)
            self._out.flush()
            return
        while True:
            try:
                self._pager.communicate()
            except KeyboardInterrupt:
                continue  # handled by the pager
            return

    def _sink(self) -> IO[str]:
        if self._pager is None:
            return self._out
        assert self._pager.stdin is not None  # opened as a pipe
        return self._pager.stdin

    def _open_pager(self) -> None:
        try:
            self._pager = subprocess.Popen(  # noqa: S603  (the user's own choice)
                self._command,
                stdin=subprocess.PIPE,
                text=True,
                env={"LESS": _LESS_OPTIONS, **os.environ},
            )
        except OSError:
            self._pager = None
        self._command = []  # the pager is started at most once
        self._let_go(self._sink())

    def _let_go(self, sink: IO[str]) -> None:
        held, self._held = self._held, []
        sink.write("".join(held))


@contextmanager
def paging(out: TextIO) -> Iterator[TextIO]:
    """Provide the output of one command.

    On a terminal it is a `PagedOut`. Leaving the pager ends the block without an error.
    """
    command = pager_command() if out.isatty() else []
    if not command:
        yield out
        return
    size = shutil.get_terminal_size()
    paged = PagedOut(out, command, size.lines, size.columns)
    try:
        yield cast("TextIO", paged)
    except BrokenPipeError:
        pass  # the user has left the pager
    finally:
        paged.close()
