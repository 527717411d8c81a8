"""Execution of a parsed command: writes its answer to an output and returns the exit status.
One-shot commands, commands from a pipe, and the shell all use it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ipc.blocking import ControlClient, ControlError, DaemonUnreachable, ExitStatus
from ipc.control import (
    Configure,
    Request,
    RouteChange,
    ShowCounters,
    ShowInterfaces,
    ShowMemory,
    ShowNeighbors,
    ShowRoutes,
    ShowStatus,
    Topology,
)
from routectl.client import look_up
from routectl.ending import CANNOT_BE_SHOWN, cannot_be_shown
from routectl.grammar import (
    Ask,
    Assess,
    Await,
    Check,
    Command,
    Draw,
    ExplainAddress,
    Import,
    Invocation,
    Local,
    LocalAction,
    Lookup,
    Save,
    Watch,
)
from routectl.interrupts import INTERRUPTS
from routectl.parse import ParseError, describe
from routectl.render.text import Form, Row

__all__ = ["Output", "execute", "hold"]


class Output(Protocol):
    """Destination of an answer: text for people or JSON for programs."""

    @property
    def descriptor(self) -> int | None:
        """File descriptor that is written to; None if the output is not a file of the system."""

    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows."""

    def stream(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows as they arrive, until there are no more."""

    def report(self, lines: Iterable[str]) -> None:
        """Write the lines of a successful result."""

    def fail(self, code: str, text: str) -> None:
        """Write an error."""

    def end_lease(self, code: str, text: str) -> None:
        """Write why a lease of a session ended, after the answer."""

    def cancel(self) -> None:
        """End an answer that Ctrl-C has cancelled."""

    def report_in_part(self, lines: Iterable[str], code: str, text: str) -> None:
        """Write the lines of a partly successful result, and its error."""

    def write_text(self, pages: Iterable[Sequence[Row]]) -> None:
        """Write the `text` column of rows, the parts of one text, without changes."""

    def note(self, text: str) -> None:
        """Write a remark in addition to the answer, for people only."""

    def progress(self, done: int, read_bytes: int, total_bytes: int) -> None:
        """Show the progress of a long command, for people at a terminal only."""

    def progress_ended(self) -> None:
        """Remove the last progress from the screen."""


def execute(invocation: Invocation, client: ControlClient, output: Output) -> ExitStatus:
    """Execute one command. Errors are written to the output and give the exit status.

    Raises:
        BrokenPipeError: the reader of the output has closed it.
        KeyboardInterrupt: cancelled, and the answer is ended; the client reconnects for the
            next request.
    """
    try:
        with INTERRUPTS.allowed():
            return _carry_out(invocation, client, output)
    except KeyboardInterrupt:
        output.cancel()
        raise
    except ControlError as error:
        output.fail(error.code, error.text)
        return error.exit_status
    except ParseError as error:
        output.fail("usage", str(error))
        return ExitStatus.USAGE
    except CANNOT_BE_SHOWN as error:
        output.fail("failed", cannot_be_shown(error))
        return ExitStatus.REFUSED


def hold(invocation: Invocation, client: ControlClient, output: Output) -> ExitStatus:
    """Stay connected after a command with a session lease, until Ctrl-C or the daemon's end.

    Raises:
        KeyboardInterrupt: Ctrl-C; the routes are withdrawn when the connection is closed.
    """
    del invocation
    output.note("the lease lasts as long as this command runs: press Ctrl-C to end it")
    try:
        with INTERRUPTS.allowed():
            client.wait_for_end()
    except ControlError as error:
        output.end_lease(error.code, error.text)
        return error.exit_status


def _import(
    request: Request, invocation: Invocation, client: ControlClient, output: Output
) -> ExitStatus:
    from routectl.importing import import_routes, open_routes, size_of  # needed here only

    assert isinstance(request, RouteChange)  # guaranteed by the grammar
    with open_routes(invocation.value("file") or "") as source:
        total = size_of(source)
        outcome = import_routes(
            client,
            source,
            request.operation,
            request.lease,
            request.owner,
            request.table,
            progress=lambda routes, read: output.progress(routes, read, total),
        )
    output.progress_ended()
    done = [f"{_routes(outcome.done)} imported"]
    if outcome.passed_over:
        done.append(f"{_routes(outcome.passed_over)} of the kernel's own skipped")
    if not outcome.refused:
        output.report(done)
        return ExitStatus.DONE
    lines = list(outcome.errors)
    if outcome.refused > len(lines):
        lines.append(f"and {outcome.refused - len(lines)} more lines")
    if outcome.left_out:
        verb = "was" if outcome.left_out == 1 else "were"
        lines.append(
            f"{_routes(outcome.left_out)} {verb} left out, in a batch with those: "
            "correct the lines and import again, with `replace`"
        )
    output.report_in_part(done, "failed", "\n".join(lines))
    return ExitStatus.REFUSED


def _routes(count: int) -> str:
    return "1 route" if count == 1 else f"{count} routes"


def _explained(pages: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Add the kernel's answer to rows of `explain`."""
    from routectl.kernel import KernelError, agreement, ask_kernel, check_namespace

    for page in pages:
        for row in page:
            if (table := row.get("table", "main")) != "main":
                words = f"the kernel is not asked: its policy rules decide who uses table {table}"
                yield [{**row, "kernel": None, "kernel_error": words, "agrees": None}]
                continue
            try:
                check_namespace(row.get("network_namespace"))
                kernel = ask_kernel(str(row.get("address")))
            except KernelError as error:
                yield [{**row, "kernel": None, "kernel_error": str(error), "agrees": None}]
                continue
            agrees, words = agreement(row, kernel)
            yield [{**row, "kernel": kernel, "agrees": agrees, "agreement": words}]


def _draw(
    invocation: Invocation, form: Form, pages: Iterable[Sequence[Row]], output: Output
) -> None:
    picture = invocation.value("format") or "table"
    if picture == "table":
        output.show(form, pages)
        return
    from routectl.render.topology import FORMATS  # needed here only

    output.report(FORMATS[picture]([row for page in pages for row in page]))


def _report(client: ControlClient) -> list[str]:
    from datetime import datetime
    from itertools import islice

    from routectl.render import views
    from routectl.render.report import ROUTES_SHOWN, html_report

    status = next(client.ask(ShowStatus()).rows(), {})
    topology = list(client.ask(Topology()).rows())
    routes = list(islice(client.ask(ShowRoutes()).rows(), ROUTES_SHOWN + 1))
    note = f"only the first {ROUTES_SHOWN} are shown" if len(routes) > ROUTES_SHOWN else ""
    sections = [
        ("Neighbors", views.NEIGHBORS, list(client.ask(ShowNeighbors()).rows()), ""),
        ("Interfaces", views.INTERFACES, list(client.ask(ShowInterfaces()).rows()), ""),
        ("Routes", views.ROUTES, routes[:ROUTES_SHOWN], note),
        ("Counters", views.COUNTERS, list(client.ask(ShowCounters()).rows()), ""),
        ("Memory", views.MEMORY, list(client.ask(ShowMemory()).rows()), ""),
    ]
    made_at = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return html_report(status, topology, sections, made_at)


def _stamped(pages: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Add the time of arrival to rows, as ISO 8601 text."""
    from datetime import datetime  # needed here only

    for page in pages:
        at = datetime.now().astimezone().isoformat(timespec="milliseconds")
        yield [{"at": at, **row} for row in page]


def _require_terminal(command: str, instead: str) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ControlError("usage", f"{command} needs a terminal; {instead}", ExitStatus.USAGE)


def _carry_out(invocation: Invocation, client: ControlClient, output: Output) -> ExitStatus:
    match invocation.leaf.action:
        case Ask(build, form):
            output.show(form, client.ask(build(invocation)).pages())
        case Command(build):
            _command(client, build(invocation), output)
        case Check(build):
            output.report(_check(build, invocation, client))
        case ExplainAddress(build, form):
            output.show(form, _explained(client.ask(build(invocation)).pages()))
        case Draw(build, form):
            _draw(invocation, form, client.ask(build(invocation)).pages(), output)
        case Assess(build, form):
            return _assess(form, client, build(invocation), output)
        case Await() as action:
            from routectl.waiting import wait_until_reached  # loaded late

            output.report(wait_until_reached(action, invocation, client))
        case Local(LocalAction.DOCTOR):
            from routectl.doctor.command import examine_host  # needed here only

            return examine_host(client, output, has_all="all" in invocation.values)
        case Local(local_action):
            _carry_out_here(local_action, invocation, client, output)
        case Watch(build, form):
            changes = client.watch(build(invocation), output=output.descriptor)
            output.stream(form, _stamped(changes))
        case Save(build):
            _save(invocation, client, build(invocation), output)
        case Import(build):
            return _import(build(invocation), invocation, client, output)
        case Lookup(form):
            rows = look_up(client, invocation.values["addresses"])
            output.show(form, [rows])
            if any(row["prefix"] is None for row in rows):
                return ExitStatus.REFUSED
    return ExitStatus.DONE


def _carry_out_here(
    action: LocalAction, invocation: Invocation, client: ControlClient, output: Output
) -> None:
    """Carry out a command of routectl itself."""
    match action:
        case LocalAction.COMPLETION:
            from routectl.completion import script

            output.report(script(invocation.value("shell") or "bash"))
        case LocalAction.REPORT:
            output.report(_report(client))
        case LocalAction.TOP:
            _require_terminal("top", "`show status` and `show neighbors` print the same once")
            from routectl.top import run_top  # imports prompt-toolkit

            run_top(client)
        case LocalAction.HELP:
            output.report(describe(invocation.values.get("command", ())))
        case LocalAction.QUIT:
            pass  # ends the shell, which checks for it; there is nothing to end elsewhere


def _check(
    build: Callable[[Invocation], Request], invocation: Invocation, client: ControlClient
) -> Iterable[str]:
    path, base = invocation.value("file"), invocation.value("base")
    if path is not None:
        from routectl.checking import check_file  # imports YAML

        return check_file(path, base)
    if base is not None:
        raise ParseError("`base` belongs to a file: check FILE base DIR")
    return client.ask(build(invocation)).result().lines


def _command(client: ControlClient, request: Request, output: Output) -> None:
    """Execute a request that changes something, or show what a reload would change."""
    answer = client.ask(request)
    if isinstance(request, Configure) and request.action == "plan":
        from routectl.render.views import PLAN

        output.show(PLAN, answer.pages())
    else:
        output.report(answer.result().lines)


def _save(invocation: Invocation, client: ControlClient, request: Request, output: Output) -> None:
    from routectl.saving import STANDARD_OUTPUT, age_of, save  # needed here only

    path = invocation.value("file") or ""
    if path == STANDARD_OUTPUT:
        pages = iter(client.ask(request).pages())
        first = next(pages, [])
        for age in filter(None, map(age_of, first[:1])):
            output.note(age)
        output.write_text(itertools.chain([first], pages))
    else:
        output.report(save(client, request, path))


def _assess(form: Form, client: ControlClient, request: Request, output: Output) -> ExitStatus:
    """Show the daemon's health; a daemon that does not answer has failed."""
    from routectl.render.health import failed_row, health_row, health_status

    try:
        rows = [health_row(row) for row in client.ask(request).rows()]
    except DaemonUnreachable as error:
        rows = [failed_row(error.text)]
    output.show(form, [rows])
    return ExitStatus(health_status(rows))
