"""Each command of routectl that a page shows is one that routectl understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from routectl.command_line import _without_dashes, program_parser
from routectl.filters import read_stages, split_pipe
from routectl.parse import ParseError, parse

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PLACEHOLDER = re.compile(r"\.\.\.|[A-Z]{3,}|\[|\bN\b|/dev/|\$\(")
"""What marks a command as a pattern rather than a command."""


def commands_of(page: Path) -> Iterator[str]:
    """Each command in backquotes, up to a redirection or another program."""
    for quoted in re.findall(r"`(routectl [^`]+)`", page.read_text(encoding="utf-8")):
        command = " ".join(re.split(r" (?:[<>]|&&|\|\|) ?|; ?", quoted)[0].split())
        if not PLACEHOLDER.search(command):
            yield command


COMMANDS = sorted({(page.name, command) for page in PAGES for command in commands_of(page)})


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 30
    assert sum(name == "troubleshooting.md" for name, _ in COMMANDS) > 15


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_page_is_understood(page: str, command: str) -> None:
    words = shlex.split(command)[1:]
    options = program_parser().parse_intermixed_args(_without_dashes(words))
    if options.help or options.version or not options.words:
        return
    plain, filters = split_pipe(options.words)
    if filters is not None:
        read_stages(filters)
    try:
        parse(plain)
    except ParseError as error:
        # A page may name a command without its arguments, as "`routectl lookup` answers ...".
        if f"{' '.join(plain)} needs " not in str(error):
            raise
