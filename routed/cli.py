"""The command line of the daemon.

Exit statuses:
    0    the daemon runs (background), has stopped in order (foreground), or the check passed
    1    the daemon cannot run: another one is running, a socket is in use, a privilege is missing
    2    the command line or the configuration is invalid; nothing was changed
    5    the version, the schema, the help or the import cannot be written

The status always has the result of a check, of the command line and of a start: a message that
cannot be written is lost and does not change the status.

The configuration is loaded by the same code for `--check`, a start and a reload. Only the parent
starts the program with the roles `engine`, `liveness` and `observer`; their options are not for
users.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from ipc.standard_streams import occupy_standard_streams, open_nothing, write_message
from routed import __version__

if TYPE_CHECKING:  # modules of the daemon are imported only when they are needed
    from _typeshed import SupportsWrite

    from routed.config.schema import Config
    from routed.parent.main import StartedBy

__all__ = ["main"]

DEFAULT_CONFIG = "/etc/routed/routes.yaml"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNWRITTEN = 5
"""The same as routectl's."""


class _Version(argparse.Action):
    """The action of `--version`, which imports the optional extensions."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ipc.extension import native
        from routed.fib.routes.extension import native as native_tables
        from routed.snapshot.parts import native_parts

        searched, written, kernel = (
            "Python" if half is None else "C" for half in (native, native_parts, native_tables)
        )
        fib = f"FIB: searched in {searched}, written in {written}; kernel tables in {kernel}"
        parser.exit(_print(f"routed {__version__} ({fib})\n"))


class _Parser(argparse.ArgumentParser):
    """A parser whose exit status does not depend on whether its errors can be written, and is
    EXIT_UNWRITTEN if its help cannot be written."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help and exit; argparse would ignore that it cannot be written."""
        self.exit(_print(self.format_help()))

    def error(self, message: str) -> NoReturn:
        """Print an error of the command line and exit."""
        _print_error(f"{self.format_usage()}{self.prog}: error: {message}")
        self.exit(EXIT_USAGE)


def _print(text: str) -> int:
    """Print a requested text. Returns the exit status; a closed pipe (`head`) is not an error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return EXIT_OK
        _print_error(f"routed: standard output cannot be written: {error.strerror}")
        return EXIT_UNWRITTEN
    return EXIT_OK


def _print_error(text: str) -> None:
    """Print an error on standard error, waiting until it has been written."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        _discard_output(sys.stderr)  # the exit status has the result


def _discard_output(stream: TextIO | None = None) -> None:
    """Redirect a stream to /dev/null: at exit Python flushes its buffer, and would fail again."""
    nowhere = open_nothing(takes_writes=True)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="routed",
        description="A routing daemon for Linux that keeps the kernel's routing table equal to its "
        "selection.",
        epilog="Control it with routectl. Signals: HUP reloads, TERM stops, USR1 logs a diagnosis, "
        "USR2 steps the log level.",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=DEFAULT_CONFIG,
        help=f"the configuration (default: {DEFAULT_CONFIG})",
    )  # fmt: skip
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground and log to stderr"
    )
    parser.add_argument(
        "--check", action="store_true", help="check the configuration, print all problems, and exit"
    )
    parser.add_argument(
        "--print-schema", action="store_true",
        help="print the JSON Schema of the configuration, for editors, and exit",
    )  # fmt: skip
    _add_import_options(parser)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="print the version and the implementations of the FIB, and exit",
    )
    parser.add_argument(
        "--role", choices=["engine", "liveness", "observer"], help=argparse.SUPPRESS
    )
    parser.add_argument("--ids", metavar="UID:GID", help=argparse.SUPPRESS)
    parser.add_argument("--sandbox", choices=["auto", "required", "off"], help=argparse.SUPPRESS)
    return parser


def _add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import-kernel", action="store_true",
        help="print a configuration with the static routes and the rules of this machine, and exit",
    )  # fmt: skip
    parser.add_argument(
        "--protocols", metavar="NAMES",
        help="with --import-kernel: protocols of the routes, by commas (default: boot,static)",
    )  # fmt: skip
    parser.add_argument(
        "--table", metavar="TABLE",
        help="with --import-kernel: the table that the configuration manages (default: main)",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE",
        help="with --import-kernel: write a new file in place of standard output",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    occupy_standard_streams()
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.import_kernel and (arguments.protocols or arguments.table or arguments.output):
        parser.error("--protocols, --table and --output need --import-kernel")
    gc.disable()  # until everything is imported
    try:
        if arguments.role is not None:
            return _run_role(arguments.role, arguments.ids, arguments.sandbox)
        if arguments.print_schema:
            return _print_schema()
        if arguments.import_kernel:
            return _import_kernel(arguments)
        return _run_daemon(arguments)
    finally:
        gc.enable()


def _run_role(role: str, ids: str, sandbox: str) -> int:
    from routed.parent import signals

    signals.ignore()  # the parent handles them
    if role == "engine":
        from routed.engine.main import run_engine as run
    elif role == "observer":
        from routed.observer.main import run_observer as run
    else:
        from routed.liveness.main import run_liveness as run

    _tune_collector()
    uid_text, _, gid_text = ids.partition(":")
    return run(int(uid_text), int(gid_text), sandbox)


def _tune_collector() -> None:
    """Let the cyclic garbage collector run rarely, and never on the code and the configuration.

    A table of a million routes has millions of objects and no cycles: with the default thresholds
    half of the time of a load was spent on traversing them (measured with 86,000 routes). The
    objects are frozen before the fork, so that their pages stay shared. The collector was off
    during imports; the garbage of imports (2,200 objects) is kept, because to find it would take a
    tenth of the time of the start.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    gc.enable()


def _choose_start(config: Config, text: str, path: str) -> StartedBy:
    """Choose the configuration to start with: that of the file, unless it was reverted or never
    confirmed; then the last confirmed one."""
    from routed.config.load import ConfigError, load_text
    from routed.parent.config_history import ConfigHistory
    from routed.parent.main import StartedBy

    def complain(problem: str) -> None:
        write_message(f"routed: {problem}\n")  # the log has it as well, once there is one

    last_good = ConfigHistory(config.pid_file, complain)
    instead = last_good.instead_of(text)
    if instead is None:
        if text == last_good.refused:
            complain(
                f"{path} was reverted or never confirmed, and there is no "
                f"{last_good.running_path} to use instead: starting with it"
            )
        return StartedBy(config, text, path)
    try:
        good = load_text(instead, last_good.running_path)
    except ConfigError as error:
        complain(
            f"{error}\n{path} was reverted or never confirmed, but this cannot be used instead: "
            "starting with it"
        )
        return StartedBy(config, text, path)
    complain(
        f"{path} was reverted or never confirmed: starting with {last_good.running_path} instead. "
        "Correct the file, or run `routectl reload` to use it as it is"
    )
    return StartedBy(good, instead, path, is_instead=True)


def _print_schema() -> int:
    from routed.config.json_schema import json_schema

    return _print(json.dumps(json_schema(), indent=2) + "\n")


def _import_kernel(arguments: argparse.Namespace) -> int:
    """Write a configuration from what the kernel holds. Returns the exit status."""
    from routed.kernel_import.command import DEFAULT_PROTOCOLS, import_kernel, read_choice
    from routed.netlink.message import NetlinkDecodeError
    from routed.netlink.socket import NetlinkError

    try:
        choice = read_choice(arguments.protocols or DEFAULT_PROTOCOLS, arguments.table or "main")
    except ValueError as error:
        _print_error(f"routed: --import-kernel: {error}")
        return EXIT_USAGE
    try:
        text = import_kernel(choice)
    except (NetlinkError, NetlinkDecodeError, OSError) as error:
        _print_error(f"routed: the kernel's routes cannot be read: {error}")
        return EXIT_FAILED
    if arguments.output is None:
        return _print(text)
    try:
        # Never over a file that exists: it may be the configuration of this daemon.
        with open(arguments.output, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        _print_error(f"routed: {arguments.output}: {error.strerror}")
        return EXIT_UNWRITTEN
    return EXIT_OK


def _full_path(name: str) -> str:
    """Return the absolute path of a file that the command line names.

    Raises:
        ValueError: there is none, or it cannot be shown.
    """
    try:
        path = os.path.abspath(name)
    except FileNotFoundError:
        raise ValueError(
            f"{name}: the working directory was removed; name the file by its full path"
        ) from None
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!a}: the path is not valid UTF-8") from None
    return path


def _run_daemon(arguments: argparse.Namespace) -> int:
    from routed.config.files import check_files
    from routed.config.load import ConfigError, load_text, read_text
    from routed.config.secrets import KeyFileError, read_secrets
    from routed.parent import signals

    signals.restore_child_signal()
    if arguments.check:
        signals.unblock()  # a check handles none; their default action ends it
    else:
        signals.block(*signals.HANDLED - signals.END)
    try:
        path = _full_path(arguments.config)
    except ValueError as error:
        write_message(f"routed: {error}\n")
        return EXIT_USAGE
    try:
        # A pipe is accepted as well: no task runs yet, and the user can interrupt the command.
        text = read_text(path, is_from_terminal=True)
        config = load_text(text, path)
        check_files(config, path)
    except ConfigError as error:
        # A check waits until its result has been written; a start must not wait for a reader.
        if arguments.check:
            _print_error(str(error))
        else:
            write_message(f"{error}\n")
        return EXIT_USAGE
    if not arguments.check:
        return _start_daemon(config, text, path, is_foreground=arguments.foreground)
    try:
        read_secrets(config, path)
    except KeyFileError as error:
        _print_error(str(error))
        return EXIT_USAGE
    _print(f"{path}: ok\n")
    return EXIT_OK


def _start_daemon(config: Config, text: str, path: str, *, is_foreground: bool) -> int:
    # Imported before the fork, so that the terminal shows the error of a broken installation. No
    # thread and no event loop exists until `run_parent`.
    from routed.parent import signals
    from routed.parent.daemonize import daemonize, provide_open_files, stay_in_foreground
    from routed.parent.main import run_parent

    try:
        provide_open_files()
    except ValueError as error:
        write_message(f"routed: {error}\n")
        return EXIT_FAILED
    start = _choose_start(config, text, path)
    _tune_collector()
    signals.block(*signals.HANDLED)
    ready = stay_in_foreground() if is_foreground else daemonize()
    return run_parent(start, ready, is_foreground=is_foreground)
