"""Filters behind a command: `show routes | include 10.1.`, in the shell, a pipe and one-shot.

    | include WORD     lines or rows that contain the regular expression
    | exclude WORD     lines that do not
    | begin WORD       the first line that does, and all lines after it
    | count            how many there are

Several may follow one another. They work on the text form: on its lines, and in a table on whole
rows, which may have several lines. The titles of a table stay, except with `count`. Programs that
read JSON have `jq`, and the selectors of the commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from routectl.grammar import ValueKind
from routectl.parse import Choice, LiveValues, ParseError, complete, expected, match_word

__all__ = [
    "PIPE",
    "FilteredText",
    "Stage",
    "complete_line",
    "expected_after",
    "read_stages",
    "split_pipe",
]

PIPE = "|"

VERBS = {
    "include": "Only lines that match",
    "exclude": "Only lines that do not match",
    "begin": "The first line that matches, and all lines after it",
    "count": "Only the number of lines",
}


_WORD = Choice(
    ValueKind.PATTERN.value, "A regular expression, such as eth0 or ^10\\.", ValueKind.PATTERN
)


class Stage(NamedTuple):
    """One filter."""

    verb: str
    pattern: re.Pattern[str] | None
    """None for `count`."""


def split_pipe(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split words at the first `|`.

    Returns:
        The words of the command, and those of the filters; None if there is no `|`.
    """
    if PIPE not in words:
        return list(words), None
    at = words.index(PIPE)
    return list(words[:at]), list(words[at + 1 :])


def read_stages(words: Sequence[str]) -> list[Stage]:
    """Read the words of filters.

    Args:
        words: what follows the first `|`. The word after a verb is taken as it is, also `|`.

    Raises:
        ParseError: a filter is unknown, incomplete, or its regular expression is not valid.
    """
    stages = []
    rest = iter(words)
    while True:
        word = next(rest, None)
        if word is None:
            raise ParseError(f"| needs a filter after it: {', '.join(VERBS)}")
        verb = match_word(word, list(VERBS), PIPE)
        pattern = None
        if verb != "count":
            text = next(rest, None)
            if text is None:
                raise ParseError(f"| {verb} needs a WORD after it, for example: | {verb} eth0")
            pattern = _compiled(text)
        stages.append(Stage(verb, pattern))
        following = next(rest, None)
        if following is None:
            return stages
        if following != PIPE:
            raise ParseError(f"unexpected {following!r} after | {verb}; quote a WORD with blanks")


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise ParseError(f"{text!r} is not a regular expression: {error}") from None


def _choices(words: Sequence[str]) -> list[Choice]:
    """Return what may follow the words after the first `|`, all of them complete.

    Raises:
        ParseError: a word is no filter.
    """
    rest = iter(words)
    for word in rest:
        verb = match_word(word, list(VERBS), PIPE)
        if verb != "count" and next(rest, None) is None:
            return [_WORD]
        if next(rest, None) is None:
            return [Choice(PIPE, "Another filter")]
    return [Choice(verb, help_text) for verb, help_text in VERBS.items()]


def expected_after(words: Sequence[str]) -> list[Choice]:
    """Return what may follow these complete words of a command, and of filters behind it.

    Raises:
        ParseError: they are not the beginning of a command.
    """
    command, filters = split_pipe(words)
    found = expected(command)
    return found if filters is None else _choices(filters)


def complete_line(words: Sequence[str], start: str, live_values: LiveValues) -> list[Choice]:
    """Return the completions of a word that begins with `start`, as `parse.complete`, also in
    filters."""
    command, filters = split_pipe(words)
    if filters is None:
        return complete(command, start, live_values)
    try:
        found = expected_after(words)
    except ParseError:
        return []
    return [each for each in found if each.kind is None and each.text.startswith(start)]


class FilteredText:
    """A text stream that writes the lines which pass all filters to another one."""

    def __init__(self, out: TextIO, stages: Sequence[Stage]) -> None:
        """Write nothing yet.

        Args:
            out: the stream.
            stages: the filters, in order.
        """
        self._out = out
        self._passes = [_Pass(stage) for stage in stages]
        self._rest = ""
        """A line that is not complete yet."""

    def write(self, text: str) -> int:
        """Filter the lines that are complete by now."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._feed(line, 0)
        return len(text)

    def write_block(self, lines: Sequence[str]) -> None:
        """Filter the lines of one row of a table as one."""
        self._feed("\n".join(lines), 0)

    def write_aside(self, line: str) -> None:
        """Write a line that is no row: titles, or that there are no rows."""
        if all(stage.verb != "count" for stage in self._passes):
            self._out.write(f"{line}\n")

    def _feed(self, line: str, first: int) -> None:
        for stage in self._passes[first:]:
            if not stage.takes(line):
                return
        self._out.write(f"{line}\n")

    def finish(self) -> None:
        """Write what is known only at the end: a line without an end, and counts."""
        if self._rest:
            self._feed(self._rest, 0)
        for number, stage in enumerate(self._passes):
            if stage.verb == "count":
                self._feed(str(stage.count), number + 1)
        self._out.flush()

    def flush(self) -> None:
        """Write what is buffered below."""
        self._out.flush()

    def isatty(self) -> bool:
        """Return False: colours would be part of the lines."""
        return False

    def fileno(self) -> int:
        """Return the descriptor that lines are written to."""
        return self._out.fileno()


class _Pass:
    """The state of one filter."""

    def __init__(self, stage: Stage) -> None:
        self.verb = stage.verb
        self.count = 0
        """Lines that `count` has seen."""
        self._has_begun = False
        pattern = stage.pattern
        self._matches: Callable[[str], object] = (
            (lambda _line: True) if pattern is None else pattern.search
        )

    def takes(self, line: str) -> bool:
        """Return whether a line goes on to the next filter."""
        match self.verb:
            case "include":
                return bool(self._matches(line))
            case "exclude":
                return not self._matches(line)
            case "begin":
                self._has_begun = self._has_begun or bool(self._matches(line))
                return self._has_begun
        self.count += 1
        return False
