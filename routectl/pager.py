"""Long output in the shell goes through a pager, as git's does: what fits on the screen does not.

    renderer --> PagedOut --more than a screen--> $ROUTECTL_PAGER, $PAGER, or less
                     \\------what fits, at the end--> the terminal

`q` in the pager ends the command, as `| head` would. Ctrl-C ends the command, too, but leaves the
pager with what it has: both get the signal, the pager knows what to do with it, and this process
waits for it whatever is pressed.

Failure: a pager that cannot be started is done without.
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
"""Unless the user has $LESS: leave when it fits, colours as they are, the screen as it was."""


def pager_command() -> list[str]:
    """The pager's words; none when the user wants none (an empty variable, or `cat`)."""
    for name in ("ROUTECTL_PAGER", "PAGER"):
        if name in os.environ:
            try:
                words = shlex.split(os.environ[name])
            except ValueError:
                return []  # an open quote: nothing that could be started
            return [] if words == ["cat"] else words
    return ["less"]


_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def _width_of(line: str) -> int:
    """The columns that a line takes on a terminal."""
    if "\x1b" in line:
        line = _COLOR.sub("", line)
    if line.isascii():
        return len(line)
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)


class PagedOut:
    """Text on its way to the terminal; a TextIO as far as the renderers look."""

    def __init__(self, out: TextIO, command: list[str], lines: int, columns: int) -> None:
        """Write nothing yet.

        Args:
            out: the terminal.
            command: the pager's words.
            lines: how many the screen has.
            columns: how many a line of the screen has.
        """
        self._out = out
        self._command = command
        self._room = lines - 1
        """A line is for the prompt that follows."""
        self._columns = max(columns, 1)
        self._width = 0
        """Of the line that is not ended yet."""
        self._held: list[str] = []
        self._pager: subprocess.Popen[str] | None = None

    def isatty(self) -> bool:
        """Whether a person sees it in the end."""
        return self._out.isatty()

    def write(self, text: str) -> int:
        """Write text.

        Raises:
            BrokenPipeError: the pager was left.
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
        """How many lines of the screen a text ends: a long one takes several.

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
        """What is held is held until it is too much, or the end; what is not, goes."""
        if not self._command:
            self._sink().flush()

    def close(self) -> None:
        """Write what is held, or wait until the pager is left."""
        if self._pager is None:
            self._let_go(self._out)
            self._out.flush()
            return
        while True:
            try:
                self._pager.communicate()
            except KeyboardInterrupt:
                continue  # it is the pager's to end
            return

    def _sink(self) -> IO[str]:
        if self._pager is None:
            return self._out
        assert self._pager.stdin is not None  # a pipe
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
        self._command = []  # decided
        self._let_go(self._sink())

    def _let_go(self, sink: IO[str]) -> None:
        held, self._held = self._held, []
        sink.write("".join(held))


@contextmanager
def paging(out: TextIO) -> Iterator[TextIO]:
    """A place to write to for the length of a command.

    On a terminal it is a `PagedOut`. Leaving the pager ends the block in silence.
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
        pass  # seen enough
    finally:
        paged.close()
