"""routectl: one command, commands from a pipe, or the shell.

    routectl show neighbors          one command
    routectl < commands              standard input is not a terminal: one command per line
    routectl                         the shell

Exit status: 0 done, 1 request rejected (or an address has no route), 2 usage error, 3 the daemon
cannot be reached, 4 permission denied, 5 the answer cannot be written. From a pipe it is the status
of the first command that failed.

A one-shot command imports argparse, socket and msgpack and little else. A test checks the list,
because one unnecessary import can take longer than the whole command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from ipc.blocking import ExitStatus
from routectl.command_line import (
    CommandLine,
    asks_for_json,
    command_line_for,
    open_output,
    program_parser,
)
from routectl.ending import prepare_streams, run_to_end
from routectl.interrupts import INTERRUPTS
from routectl.parse import ParseError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit status."""
    prepare_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_to_end(lambda: _main(given))


def _main(arguments: list[str]) -> int:
    try:
        with command_line_for(arguments, sys.stdout, sys.stderr) as command_line:
            return _run(command_line)
    except ParseError as error:
        options = argparse.Namespace(json=asks_for_json(arguments), pretty=False, no_color=False)
        open_output(options, sys.stdout, sys.stderr).fail("usage", str(error))
        return ExitStatus.USAGE


def _run(command_line: CommandLine) -> int:
    options = command_line.options
    output = open_output(options, sys.stdout, sys.stderr)
    if options.complete is not None:
        from routectl.client import LiveValueSource
        from routectl.completion import candidates

        with INTERRUPTS.allowed():
            for line in candidates(
                options.complete, lambda path: LiveValueSource(path or options.socket)
            ):
                print(line)
        return ExitStatus.DONE
    if options.help and not options.words:
        output.report(program_parser().format_help().splitlines())
        return ExitStatus.DONE
    if options.version:
        output.report([f"routectl {_version()}"])
        return ExitStatus.DONE
    if options.words:
        command_line.holds_leases = True
        return command_line.run_words(options.words, options) or ExitStatus.DONE
    if sys.stdin.isatty():
        from routectl.shell import run_shell  # imports prompt-toolkit: 200 ms

        with INTERRUPTS.allowed():
            return run_shell(command_line)
    command_line.reads_input = True
    return _run_lines(command_line, sys.stdin)


def _run_lines(command_line: CommandLine, lines: Iterable[str]) -> ExitStatus:
    """Run one command per line. Returns the status of the first failure; later lines are run
    anyway."""
    first_failure = ExitStatus.DONE
    for number, line in enumerate(_read(lines), 1):
        command_line.options.place = f"line {number}"
        status = command_line.run_line(line)
        if status is None:
            break
        first_failure = first_failure or status
        if status is ExitStatus.UNREACHABLE:
            break  # every further line would fail in the same way
    return first_failure


def _read(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines; Ctrl-C takes effect while the next one is awaited."""
    source = iter(lines)
    while True:
        with INTERRUPTS.allowed():
            line = next(source, None)
        if line is None:
            return
        yield line


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow; for --version only

    try:
        return version("routed")
    except PackageNotFoundError:
        return "(not installed)"
