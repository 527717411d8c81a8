"""Hints for syntax errors in routes.yaml: the likely cause of an error, and its remedy.

libyaml reports which of its own rules was violated ("found character that cannot start any token"),
but not what to write instead. Pure: the input is the text and the position of the error, the output
a sentence. An error without a hint keeps the message of libyaml.

Cost: `syntax_hint` searches the text for the line of the error; `odd_space` and `foreign_file`
examine at most GUESSED_CHARACTERS.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

__all__ = ["foreign_file", "odd_space", "pieces", "syntax_hint", "unprintable_characters"]

GUESSED_CHARACTERS = 64 * 1024
_PIECE_CHARACTERS = 64 * 1024

_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # fmt: skip
"""A character that YAML 1.1 allows nowhere (5.1, c-printable)."""

_ODD_SPACE = re.compile(
    "(?m)(?:^|(?<=[ :,\\[{-]))([\xa0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff])"
)
"""A Unicode space, or a character without width, in a place where a space would separate; YAML
treats it as part of a word."""

_FOREIGN_FILES = (
    (
        re.compile(r"(?m)^\s*(?:router id \S+;|protocol \w+.*\{|filter \w+|define \w+ *=.*;)"),
        "BIRD",
    ),
    (
        re.compile(
            r"(?m)^(?:frr (?:version|defaults)|hostname \S+$|router (?:ospf|bgp|isis|rip|babel)|"
            r"ip(?:v6)? route \S+|interface \S+$|line vty|!$)"
        ),
        "FRR",
    ),
    (re.compile(r"(?m)^\s*(?:\[[A-Za-z]+\]|[A-Z][A-Za-z]+ *=)"), "systemd"),
)
_TEMPLATE = re.compile(r"\{\{|\{%")


def pieces(text: str, *, overlap: int = 0) -> Iterator[tuple[int, int]]:
    """Yield start and end of consecutive pieces of a text.

    A search in one piece blocks other threads only briefly; a search in the whole text would block
    them until its end.

    Args:
        text: the text, of any length.
        overlap: how many characters before its start each piece includes.
    """
    for start in range(0, max(len(text), 1), _PIECE_CHARACTERS):
        yield max(start - overlap, 0), start + _PIECE_CHARACTERS


def unprintable_characters(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield each character that YAML does not allow: line and column, from 1, and a message.

    Cost: linear in the text.
    """
    line, line_start, counted = 1, 0, 0
    places = (_UNPRINTABLE.finditer(text, start, end) for start, end in pieces(text))
    for found in itertools.chain.from_iterable(places):
        at = found.start()
        breaks = text.count("\n", counted, at)
        if breaks:
            line += breaks
            line_start = text.rindex("\n", counted, at) + 1
        counted = at
        yield (
            line,
            at - line_start + 1,
            f"the control character U+{ord(found[0]):04X} is not allowed in YAML",
        )


def odd_space(text: str, line: int) -> tuple[int, int, str] | None:
    """Find the last character that only looks like a space, up to the line of an error.

    Args:
        text: the content of the file.
        line: the line at which the parser stopped, from 0.

    Returns:
        Line and column of the character, from 0, and a message; None if there is none.
    """
    end = _start_of(text, line + 1)
    begin = max(end - GUESSED_CHARACTERS, 0)
    found = list(_ODD_SPACE.finditer(text, begin, end))
    if not found:
        return None
    last = found[-1]
    at = last.start(1)
    words = f"U+{ord(last[1]):04X} looks like a space but is not one: replace it by a space"
    return text.count("\n", 0, at), at - text.rfind("\n", 0, at) - 1, words


def foreign_file(text: str) -> str:
    """Recognise the configuration of another program. Returns a message, or an empty text."""
    start = text[:GUESSED_CHARACTERS]
    for pattern, program in _FOREIGN_FILES:
        if pattern.search(start):
            return f"this looks like a configuration of {program}; routes.yaml is YAML (key: value)"
    return ""


def syntax_hint(text: str, line: int, column: int, problem: str) -> str:
    """Explain a syntax error. Returns a message, or an empty text if the cause is unknown.

    Args:
        text: the content of the file.
        line: the line at which the parser stopped, from 0.
        column: the column at which it stopped, from 0.
        problem: the message of the parser.
    """
    words = _line_of(text, line)
    here = words[column : column + 1]
    if "\t" in (here, *words[: len(words) - len(words.lstrip())]):
        return "a tab; YAML allows only spaces for indentation and before a value"
    if _TEMPLATE.search(words):
        return _TEMPLATE_LEFT
    if "expected a single document" in problem:
        return "a second document begins here (`---`); routes.yaml must be a single document"
    if "undefined alias" in problem and (alias := _ALIAS.match(words, column)):
        name = alias[1]
        return (
            f"no anchor &{name} before *{name} (a text that begins with * needs quotes: '*{name}')"
        )
    if "alias" in problem and (star := words.rfind("*", 0, column + 1)) >= 0:
        return _needs_quotes(words[star:])
    if here == ":" and "node content" in problem:
        return _needs_quotes(words[column:])
    if here and "cannot start any token" in problem:
        return _needs_quotes(words[column:])
    return ""


_ALIAS = re.compile(r"\*([^\s,\]}]+)")
_TEMPLATE_LEFT = "{{ }} or {% %} is left over from a template: render the file first"


def _needs_quotes(rest: str) -> str:
    word = re.match(r"[^\s,\]}]+", rest)
    value = word[0] if word else rest.strip()
    if len(value) > 1:
        value = value.removesuffix(":")
    return f"a value that begins with {value[:1]} needs quotes: '{value}'"


def _line_of(text: str, line: int) -> str:
    start = _start_of(text, line)
    end = text.find("\n", start)
    return text[start:] if end < 0 else text[start:end]


def _start_of(text: str, line: int) -> int:
    """Return the index at which a line begins; the length of the text if there is no such line."""
    start = 0
    for _ in range(line):
        start = text.find("\n", start) + 1
        if not start:
            return len(text)
    return start
