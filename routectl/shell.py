"""The interactive shell: prompt, TAB, `?`, history; each line runs as a one-shot command would.

    10.255.0.1 ok> sh nei

The prompt shows the router id and the daemon's health, which are queried before each line. If the
daemon does not answer, the prompt says so, and the next line tries again. Ctrl-C at the prompt
clears the line, during a command it cancels the command; Ctrl-D, `quit` and `exit` leave.

prompt-toolkit runs in the main thread with its own event loop, and the requests are blocking: a
shell does one thing at a time. Only completion runs in a thread, over a separate connection, so
that the keyboard never waits for the daemon.

Failure: if the history cannot be saved (no home directory, the file cannot be opened, the disk is
full), it is kept in memory, and this is reported once.
"""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ipc.blocking import ControlError
from ipc.control import ShowStatus
from routectl.client import LiveValueSource
from routectl.command_line import CommandLine
from routectl.completer import GrammarCompleter
from routectl.render.health import health

__all__ = ["Shell", "history_path", "open_history", "prompt_text", "run_shell"]


def run_shell(command_line: CommandLine) -> int:
    """Read and run lines until the user leaves; returns the exit status 0."""
    return Shell(command_line).run()


class Shell:
    """One interactive session on a terminal."""

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line = command_line
        command_line.is_shell = True
        self.session: PromptSession[str] = PromptSession(
            completer=GrammarCompleter(LiveValueSource(command_line.client.socket_path)),
            complete_while_typing=False,
            complete_in_thread=True,
            history=open_history(history_path()),
            key_bindings=_key_bindings(command_line),
        )

    def run(self) -> int:
        """Read and run lines until the user leaves; returns the exit status 0."""
        while True:
            try:
                line = self.session.prompt(prompt_text(self._command_line))
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if not self._run_line(line):
                return 0

    def _run_line(self, line: str) -> bool:
        """Run one line. Returns False if it ends the shell."""
        try:
            return self._command_line.run_line(line) is not None
        except KeyboardInterrupt:
            self._command_line.interrupted()
            return True


def prompt_text(command_line: CommandLine) -> str:
    """Return `ROUTER-ID HEALTH> `, as reported by the daemon; reconnects after the daemon has
    restarted."""
    try:
        rows = list(command_line.client.ask(ShowStatus()).rows())
    except ControlError as error:
        return f"routed ({error.code})> "
    status = rows[0] if rows else {}
    return f"{status.get('router_id')} {health(status)}> "


def history_path() -> Path | None:
    """Return $XDG_STATE_HOME/routectl/history, by default below ~/.local/state; None without a
    home."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "routectl" / "history"
    try:
        home = Path.home()
    except RuntimeError:
        return None  # neither $HOME nor an entry in the password file, as in some containers
    return home / ".local" / "state" / "routectl" / "history"


class _KeptHistory(FileHistory):
    """A history file, to which writing may fail."""

    _has_failed = False

    def store_string(self, string: str) -> None:
        """Save a line; if the file cannot be written, the line is kept in memory only."""
        try:
            super().store_string(string)
        except OSError as error:
            if not self._has_failed:
                print(_no_history(str(self.filename), error.strerror))
            self._has_failed = True


def _no_history(path: str, reason: str | None) -> str:
    return f"routectl: the history is not saved: {path}: {reason}"


def open_history(path: Path | None) -> History:
    """Open the history file, readable by its owner only because commands may contain secrets."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # an existing file may have wider permissions
        finally:
            os.close(descriptor)
    except OSError as error:
        print(_no_history(str(path), error.strerror))
        return InMemoryHistory()
    return _KeptHistory(str(path))


def _key_bindings(command_line: CommandLine) -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("?")
    def show_help(event: KeyPressEvent) -> None:
        """Show the help for `?` at once, and leave the line unchanged, as routers do."""
        text = event.current_buffer.document.text_before_cursor
        lines = command_line.help_for(text)
        run_in_terminal(lambda: print("\n".join(lines)))

    return bindings
