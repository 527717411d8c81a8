"""An invocation -> what it says, on an output, and the exit status. The same for one-shot commands,
commands from a pipe, and the shell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ipc.blocking import ControlClient, ControlError, ExitStatus
from routectl.client import look_up
from routectl.grammar import Ask, Command, Invocation, Local, LocalAction, Lookup
from routectl.parse import ParseError, describe
from routectl.render.text import Form, Row

__all__ = ["Output", "execute"]


class Output(Protocol):
    """Where an answer goes: text for people or JSON for programs."""

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows."""

    def report(self, lines: Iterable[str]) -> None:
        """Write what was done."""

    def fail(self, code: str, text: str) -> None:
        """Write what went wrong."""


def execute(invocation: Invocation, client: ControlClient, output: Output) -> ExitStatus:
    """Carry out one command; what goes wrong is written to the output, too.

    Raises:
        BrokenPipeError: whoever reads the output has gone.
        KeyboardInterrupt: cancelled; the client's connection recovers by itself.
    """
    try:
        return _carry_out(invocation, client, output)
    except ControlError as error:
        output.fail(error.code, error.text)
        return error.exit_status
    except ParseError as error:
        output.fail("usage", str(error))
        return ExitStatus.USAGE


def _carry_out(invocation: Invocation, client: ControlClient, output: Output) -> ExitStatus:
    match invocation.leaf.action:
        case Ask(build, form):
            output.show(form, client.ask(build(invocation)).pages())
        case Command(build):
            output.report(client.ask(build(invocation)).result().lines)
        case Lookup(form):
            rows = look_up(client, invocation.values["addresses"])
            output.show(form, [rows])
            if any(row["prefix"] is None for row in rows):
                return ExitStatus.REFUSED
        case Local(LocalAction.HELP):
            output.report(describe(invocation.values.get("command", ())))
        case Local(LocalAction.QUIT):
            pass  # the shell looks for it; anywhere else there is nothing to leave
    return ExitStatus.DONE
