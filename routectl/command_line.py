"""A command line of routectl: its options, its words, and the execution of one line.

All three modes of the program (one command, commands from standard input, the shell) use one
`CommandLine` and pass their lines to it. The options of the program and the options of one line are
read by two parsers with the same table: the options of a line are added to those of the program.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from ipc.blocking import DEFAULT_TIMEOUT_S, ControlClient, ExitStatus
from ipc.control import DEFAULT_SOCKET, AddressFamily
from ipc.texts import clip_text
from routectl.commands import TREE
from routectl.execute import Output, execute, hold
from routectl.grammar import (
    Check,
    Import,
    Invocation,
    Local,
    LocalAction,
    Positional,
    Watch,
    lease_of,
    leaves,
)
from routectl.parse import ParseError, aligned, describe, parse
from routectl.render.text import TextOutput, descriptor_of

if TYPE_CHECKING:
    from routectl.filters import Stage

__all__ = [
    "SOCKET_VARIABLE",
    "CommandLine",
    "asks_for_json",
    "command_line_for",
    "open_output",
    "program_parser",
]

SOCKET_VARIABLE = "ROUTECTL_SOCKET"
TIMEOUT_MAX_S = 86_400.0


_SHOWN_BYTES = 60
"""Most bytes of a line that an error message quotes."""


class CommandLine:
    """Runs command lines with their options, over one client. Used by all three modes."""

    def __init__(
        self, options: argparse.Namespace, client: ControlClient, out: TextIO, errors: TextIO
    ) -> None:
        self.client = client
        self.options = options
        """Options of the program; a line may add to them."""
        self._out = out
        self._errors = errors
        self.is_shell = False
        """Whether the lines come from the shell: long output goes through a pager, and `?` is
        always a question."""
        self.reads_input = False
        """Whether the commands come from standard input, so that no command may read it."""
        self.holds_leases = False
        """Whether a command with a session lease keeps its connection open until it is interrupted.
        True for one-shot commands: their session, and the lease with it, would end at once."""

    def run_line(self, line: str) -> ExitStatus | None:
        """Run one line as typed: words, options, and `?` at the end for help.

        Returns:
            The exit status, or None if the line ends the shell.
        """
        try:
            words = _split_line(_without_comment(line))
        except ValueError as error:
            return self._usage(f"{clip_text(line.strip(), _SHOWN_BYTES)}: {str(error).lower()}")
        return self.run(words) if words else ExitStatus.DONE

    def run(self, arguments: Sequence[str]) -> ExitStatus | None:
        """Run words and options; returns as `run_line`."""
        inherited = {name: value for name, value in vars(self.options).items() if name != "words"}
        try:
            options = _line_parser().parse_intermixed_args(
                _without_dashes(arguments), argparse.Namespace(**inherited)
            )
        except ParseError as error:
            return self._usage(str(error), is_json=asks_for_json(arguments))
        return self.run_words(options.words, options)

    def run_words(self, words: Sequence[str], options: argparse.Namespace) -> ExitStatus | None:
        """Run words whose options have been parsed already; returns as `run_line`."""
        output = open_output(options, self._out, self._errors)
        try:
            if options.help:
                output.report(describe(words))
                return ExitStatus.DONE
            if _has_question(words) and (self.is_shell or not _takes_value(words[:-1])):
                output.report(_next_words(words[:-1], words[-1][:-1]))
                return ExitStatus.DONE
            command, stages = _split_filters(words, options)
            invocation = parse(command, _family(options))
            if self.reads_input:
                _check_input(invocation)
        except ParseError as error:
            _report_usage(words, output, str(error))
            return ExitStatus.USAGE
        if invocation.leaf.action == Local(LocalAction.QUIT):
            return None
        status = ExitStatus.DONE
        with self._out_for(invocation) as out, _filtered(out, stages) as filtered:
            status = execute(invocation, self.client, open_output(options, filtered, self._errors))
        if status is ExitStatus.DONE and self.holds_leases and lease_of(invocation).is_session:
            return hold(invocation, self.client, output)
        return status

    def _out_for(self, invocation: Invocation) -> AbstractContextManager[TextIO]:
        """Return the stream for the answer: a pager in the shell, except for live output."""
        action = invocation.leaf.action
        is_live = isinstance(action, (Watch, Import)) or action == Local(LocalAction.TOP)
        if not self.is_shell or is_live:
            return nullcontext(self._out)
        from routectl.pager import paging  # needed by the shell only

        return paging(self._out)

    def help_for(self, line: str) -> list[str]:
        """Return lines with the words or values that may follow the text before the cursor."""
        words = line.split()
        start = "" if not words or line[-1:].isspace() else words.pop()
        try:
            return _next_words(words, start)
        except ParseError as error:
            return [str(error)]

    def interrupted(self) -> None:
        """Report that Ctrl-C cancelled a command; a JSON answer says so itself. Closes the
        connection, which also ends the request."""
        self.client.close()
        if not (self.options.json or self.options.pretty):
            open_output(self.options, self._out, self._errors).fail("cancelled", "cancelled")

    def _usage(self, text: str, *, is_json: bool = False) -> ExitStatus:
        options = argparse.Namespace(**vars(self.options))
        options.json |= is_json
        open_output(options, self._out, self._errors).fail("usage", text)
        return ExitStatus.USAGE


def _split_line(line: str) -> list[str]:
    """Split a line into words as a shell does; a `|` outside quotes is a word of its own.

    Raises:
        ValueError: a quote is not closed.
    """
    import shlex  # not needed by a one-shot command

    splitter = shlex.shlex(line, posix=True, punctuation_chars="|")
    splitter.whitespace_split = True
    splitter.commenters = ""
    return list(splitter)


def _split_filters(
    words: Sequence[str], options: argparse.Namespace
) -> tuple[Sequence[str], list[Stage]]:
    """Split off the filters after a `|`.

    Raises:
        ParseError: a filter is not valid, or the answer is to be JSON.
    """
    if "|" not in words:
        return words, []
    from routectl.filters import read_stages, split_pipe  # needed after a `|` only

    command, filters = split_pipe(words)
    stages = read_stages(filters or ())
    if options.json or options.pretty:
        raise ParseError("a filter after | is for text; with --json use the command's own, or jq")
    return command, stages


@contextmanager
def _filtered(out: TextIO, stages: list[Stage]) -> Iterator[TextIO]:
    """Give a stream whose lines pass the filters before they reach `out`."""
    if not stages:
        yield out
        return
    from routectl.filters import FilteredText

    filtered = FilteredText(out, stages)
    yield cast("TextIO", filtered)
    filtered.finish()


def _without_comment(line: str) -> str:
    """Return the part of a line before a comment: a `#` outside quotes, at the start of the line or
    after a blank. `shlex` would also accept one within a word (`dev eth0#1`)."""
    quote, before, characters = "", " ", iter(enumerate(line))
    for at, character in characters:
        if character == "\\" and quote != "'":
            next(characters, None)
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and before.isspace():
            return line[:at]
        before = character
    return line


@contextmanager
def command_line_for(
    arguments: Sequence[str], out: TextIO, errors: TextIO
) -> Iterator[CommandLine]:
    """Provide a command line with the program's options until the block ends.

    Args:
        arguments: options of the program; words among them are ignored.
        out: stream for answers.
        errors: stream for errors.

    Raises:
        ParseError: the options are invalid.
    """
    options = program_parser().parse_intermixed_args(_without_dashes(arguments))
    with ControlClient(options.socket, timeout_s=options.timeout) as client:
        yield CommandLine(options, client, out, errors)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ParseError, so that errors can be shown as text or as JSON."""

    def error(self, message: str) -> NoReturn:
        raise ParseError(message)


def _line_parser() -> _Parser:
    """Return a parser for the options of one line, without defaults: absent options keep their
    value."""
    parser = _Parser(prog="routectl", add_help=False, argument_default=argparse.SUPPRESS)
    _add_line_options(parser)
    return parser


def _add_line_options(parser: argparse.ArgumentParser) -> None:
    switches = (
        (
            "-h",
            "--help",
            "help",
            "show what a command does and its syntax; without a command: this text",
        ),
        ("-j", "--json", "json", "print JSON, one document for each command"),
        ("-p", "--pretty", "pretty", "indent the JSON (implies --json)"),
        ("-4", "--ipv4", "ipv4", "only IPv4"),
        ("-6", "--ipv6", "ipv6", "only IPv6"),
    )
    for short, long, name, help_text in switches:
        parser.add_argument(short, long, dest=name, action="store_true", help=help_text)
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")
    parser.add_argument("words", nargs="*", default=[], metavar="COMMAND", help="see below")


def program_parser() -> _Parser:
    listing = "\n".join(aligned([(" ".join(words), leaf.help) for words, leaf in leaves(TREE)]))
    parser = _Parser(
        prog="routectl",
        description="Inspect and control a running routed. Without a command: the shell, or "
        "commands from standard input if that is not a terminal.",
        epilog="commands (unique abbreviations are accepted; in scripts, spell them in full):\n"
        f"{listing}"
        "\n\nexit status: 0 done, 1 request rejected, 2 usage error, 3 daemon unreachable, "
        "4 permission denied, 5 the answer cannot be written",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "-s",
        "--socket",
        default=os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET,
        help=f"the daemon's socket (default: ${SOCKET_VARIABLE}, else {DEFAULT_SOCKET})",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long to wait for the daemon (default: {DEFAULT_TIMEOUT_S:g})",
    )
    _add_line_options(parser)
    parser.add_argument("--complete", metavar="LINE", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_MAX_S:
        raise argparse.ArgumentTypeError(
            f"expected a number of seconds above 0, up to {TIMEOUT_MAX_S:g}; got {text!r}"
        )
    return seconds


def _without_dashes(arguments: Sequence[str]) -> list[str]:
    """Turn modifiers that are written as options into words: `reload --confirm 60s`."""
    words = {
        f"--{argument.name}": argument.name
        for _, leaf in leaves(TREE)
        for argument in leaf.arguments
        if not isinstance(argument, Positional)
    }
    return [words.get(argument, argument) for argument in arguments]


def _next_words(words: Sequence[str], start: str) -> list[str]:
    """Return the lines of `?`: what may follow the words, or complete the word that was begun.

    Raises:
        ParseError: the words are not the beginning of a command.
    """
    from routectl.filters import expected_after  # for help only

    choices = expected_after(words)
    fitting = [
        choice for choice in choices if choice.kind is not None or choice.text.startswith(start)
    ]
    if not fitting:
        return describe([*words, start] if start else words)
    return aligned([(choice.text, choice.help) for choice in fitting])


def _has_question(words: Sequence[str]) -> bool:
    return bool(words) and words[-1].endswith("?")


def _takes_value(words: Sequence[str]) -> bool:
    """Return whether a value may follow the words. Outside the shell, `?` is such a value: it may
    have been quoted there.

    Raises:
        ParseError: the words are not the beginning of a command.
    """
    from routectl.filters import expected_after  # for help only

    return any(choice.kind is not None for choice in expected_after(words))


def _report_usage(words: Sequence[str], output: Output, text: str) -> None:
    """Write a usage error; for a `?` that is not a valid value also what may follow."""
    lines: list[str] = []
    if _has_question(words):
        with suppress(ParseError):  # the words before it are wrong, which is the error
            lines = _next_words(words[:-1], words[-1][:-1])
    if lines:
        output.report_in_part(lines, "usage", text)
    else:
        output.fail("usage", text)


def _check_input(invocation: Invocation) -> None:
    """Refuse a command that would read the commands after it as its file.

    Raises:
        ParseError: the file is standard input.
    """
    action, path = invocation.leaf.action, invocation.value("file")
    if path is None or not isinstance(action, (Check, Import)):
        return
    if (path == "-" and isinstance(action, Import)) or _is_standard_input(path):
        raise ParseError(f"{path} is standard input, where the commands come from; name a file")


def _is_standard_input(path: str) -> bool:
    """Return whether a path leads to standard input, as /dev/stdin does."""
    descriptor = descriptor_of(sys.stdin)
    try:
        return descriptor is not None and os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (OSError, ValueError):
        return False  # reported when it is opened


def open_output(options: argparse.Namespace, out: TextIO, errors: TextIO) -> Output:
    if options.json or options.pretty:
        from routectl.render.json import JsonOutput

        return JsonOutput(out, is_pretty=options.pretty)
    place = getattr(options, "place", "")
    return TextOutput(out, errors, has_color=_has_color(options, out), place=place)


def _has_color(options: argparse.Namespace, out: TextIO) -> bool:
    """Return whether to use colour: on a terminal, unless declined (no-color.org)."""
    if options.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return out.isatty()


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether JSON is requested, for options that could not all be parsed."""
    return bool({"-j", "--json", "-p", "--pretty"} & set(arguments))


def _family(options: argparse.Namespace) -> AddressFamily | None:
    """Return the family if exactly one option is set; with both or neither, None for both
    families."""
    if options.ipv4 == options.ipv6:
        return None
    return AddressFamily.IPV4 if options.ipv4 else AddressFamily.IPV6
