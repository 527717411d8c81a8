"""The program after its start: a plain `show` with few imports, else the full program.

    routectl show neighbors eth0 --json
        |
        +-- words and options as in `quick_table.py`: send the request, write the rows, exit
        |
        +-- anything else: help, errors, the shell ... `routectl/cli.py`

Importing the whole grammar takes 50 ms, most of it for creating classes; this module takes ten. The
table is generated from the grammar (`python -m routectl.generate`), so a command is still declared
in one place. Output is written by the same renderers.

Invariants:
    The result is the same as that of the full program. Where it might differ, this module gives up
    and runs the full program: only before anything is written, and only for requests that change
    nothing.
"""

from __future__ import annotations

import os
import sys

from ipc.quick import DEFAULT_TIMEOUT_S, NoAnswer, NotQuick, pages
from routectl.ending import CANNOT_BE_SHOWN, cannot_be_shown, prepare_streams, run_to_end
from routectl.interrupts import INTERRUPTS
from routectl.quick_table import BRANCHES, COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from routectl.render.json import JsonOutput
    from routectl.render.text import Row, TextOutput

__all__ = ["main"]

SOCKET_VARIABLE = "ROUTECTL_SOCKET"
DEFAULT_SOCKET = "/run/routed/routed.sock"
_FAMILIES = {"-4": 4, "--ipv4": 4, "-6": 6, "--ipv6": 6}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit status."""
    prepare_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_to_end(lambda: _main(given))


def _main(arguments: list[str]) -> int:
    status = _quick_status(arguments)
    if status is not None:
        return status
    from routectl.cli import main as full_main

    return full_main(arguments)


_TIMEOUT_DIGITS = 5
"""Digits of 86400. Python refuses to convert a number of several thousand digits."""


class _Options:
    """Options of a plain command."""

    def __init__(self) -> None:
        self.socket = os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
        self.is_json = False
        self.has_color = not (os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")
        self.family: int | None = None
        self.timeout_s = DEFAULT_TIMEOUT_S


def _quick_status(arguments: list[str]) -> int | None:
    """Run a plain command. Returns the exit status, or None if nothing was written and the full
    program must run."""
    options = _Options()
    words = _words(arguments, options)
    if words is None:
        return None
    words = _in_full(words)
    command = COMMANDS.get(tuple(words[:2])) or COMMANDS.get(tuple(words[:1]))
    if command is None:
        return None
    length, request_type, sources, positionals, keywords, flags, form_name = command
    values = _values(words[length:], positionals, keywords, flags)
    if values is None:
        return None
    values["@family"] = options.family
    fields = [
        source[:-1] in values if source.endswith("?") else values.get(source) for source in sources
    ]
    answer = pages(options.socket, request_type, fields, options.timeout_s)
    output = _output(options)
    try:
        with INTERRUPTS.allowed():
            return _answer(form_name, answer, options, output)
    except KeyboardInterrupt:
        output.cancel()
        raise


def _answer(
    form_name: str,
    answer: Iterator[list[Row]],
    options: _Options,
    output: TextOutput | JsonOutput,
) -> int | None:
    """Write the answer. Returns as `_quick_status`."""
    try:
        first = next(answer, [])
    except NotQuick:
        return None
    except NoAnswer:
        return _fail_silent(options, output, form_name)
    return _show(form_name, first, answer, options, output)


def _show(
    form_name: str,
    first: list[Row],
    rest: Iterator[list[Row]],
    options: _Options,
    output: TextOutput | JsonOutput,
) -> int:
    from routectl.render import views
    from routectl.render.health import health_row, health_status

    form = getattr(views, form_name)
    if form is views.HEALTH:
        first = [health_row(row) for row in first]
    try:
        output.show(form, _chained(first, rest))
    except NotQuick:
        # Rows have been written, so the full program cannot run the command again.
        output.fail("failed", "the answer ended early; try again")
        return 1
    except NoAnswer:
        return _fail_silent(options, output, form_name)
    except CANNOT_BE_SHOWN as error:
        output.fail("failed", cannot_be_shown(error))
        return 1
    return health_status(first) if form is views.HEALTH else 0


def _fail_silent(options: _Options, output: TextOutput | JsonOutput, form_name: str) -> int:
    from ipc.conversation import no_answer  # loaded late: the time no longer matters

    error = no_answer(options.socket, options.timeout_s)
    if form_name == "HEALTH":
        from routectl.render.health import failed_row, health_status
        from routectl.render.views import HEALTH

        rows = [failed_row(error.text)]
        output.show(HEALTH, [rows])
        return health_status(rows)
    output.fail(error.code, error.text)
    return error.exit_status


def _words(arguments: list[str], options: _Options) -> list[str] | None:
    """Return the words among the arguments; None if an option needs the full program."""
    words = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "|":
            return None  # a filter
        if not argument.startswith("-"):
            words.append(argument)
        elif argument in ("-s", "--socket"):
            value = next(rest, None)
            if value is None:
                return None
            options.socket = value
        elif argument in ("-t", "--timeout"):
            value = next(rest, "")
            is_number = value.isascii() and value.isdigit() and len(value) <= _TIMEOUT_DIGITS
            if not is_number or not 0 < int(value) <= 86_400:
                return None  # a fraction, or not a number
            options.timeout_s = float(value)
        elif argument in ("-j", "--json"):
            options.is_json = True
        elif argument == "--no-color":
            options.has_color = False
        elif argument in _FAMILIES and options.family is None:
            options.family = _FAMILIES[argument]
        else:
            return None
    return words


def _in_full(words: list[str]) -> list[str]:
    """Return the words with unique abbreviations of the command spelled out."""
    spelled: tuple[str, ...] = ()
    for word in words:
        choices = BRANCHES.get(spelled, ())
        found = [word] if word in choices else [each for each in choices if each.startswith(word)]
        if len(found) != 1:
            break
        spelled += (found[0],)
    return [*spelled, *words[len(spelled) :]]


def _values(
    words: list[str],
    positionals: tuple[str, ...],
    keywords: tuple[str, ...],
    flags: tuple[str, ...],
) -> dict[str, object] | None:
    """Return the values by argument; None if a word is ambiguous."""
    values: dict[str, object] = {}
    rest = iter(words)
    open_positionals = list(positionals)
    for word in rest:
        if word in values or word.endswith("?"):
            return None
        if word in flags:
            values[word] = True
        elif word in keywords:
            value = next(rest, None)
            if value is None or value.endswith("?"):
                return None
            values[word] = value
        elif open_positionals and not any(name.startswith(word) for name in (*keywords, *flags)):
            values[open_positionals.pop(0)] = word
        else:
            return None
    return values


def _output(options: _Options) -> TextOutput | JsonOutput:
    if options.is_json:
        from routectl.render.json import JsonOutput

        return JsonOutput(sys.stdout, is_pretty=False)
    from routectl.render.text import TextOutput

    return TextOutput(sys.stdout, sys.stderr, has_color=options.has_color and sys.stdout.isatty())


def _chained(first: list[Row], rest: Iterator[list[Row]]) -> Iterator[list[Row]]:
    yield first
    yield from rest
