"""The interactive shell: prompt, TAB, `?`, history; each line runs as a one-shot command would.

    10.255.0.1 ok> sh nei

The prompt names the router and its health, asked of the daemon before each line; while nobody
answers it says so, and the next line tries again. Ctrl-C at the prompt clears the line, during a
command it cancels the command; Ctrl-D, `quit` and `exit` leave.

prompt-toolkit runs in the main thread with its own event loop, the requests are blocking: a shell
does one thing at a time. Completion alone runs in a thread, over its own connection, so that the
keyboard never waits for the daemon.

Failure: a history that cannot be kept is kept in memory only, and said once: there is no home, the
file cannot be opened, or the disk is full.
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
from routectl.render.views import health

__all__ = ["Shell", "history_path", "open_history", "prompt_text", "run_shell"]


def run_shell(command_line: CommandLine) -> int:
    """Read and run lines until the user leaves; returns the exit status 0."""
    return Shell(command_line).run()


class Shell:
    """One interactive session on a terminal."""

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line = command_line
        command_line.pages = True
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
        """Run one line; False when it asks to leave."""
        try:
            return self._command_line.run_line(line) is not None
        except KeyboardInterrupt:
            self._command_line.interrupted()
            return True


def prompt_text(command_line: CommandLine) -> str:
    """`ROUTER-ID HEALTH> `, from the daemon; which connects anew after it has restarted."""
    try:
        rows = list(command_line.client.ask(ShowStatus()).rows())
    except ControlError as error:
        return f"routed ({error.code})> "
    status = rows[0] if rows else {}
    return f"{status.get('router_id')} {health(status)}> "


def history_path() -> Path | None:
    """$XDG_STATE_HOME/routectl/history, by default below ~/.local/state; None without a home."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "routectl" / "history"
    try:
        home = Path.home()
    except RuntimeError:
        return None  # neither $HOME nor an entry in the password file, as in some containers
    return home / ".local" / "state" / "routectl" / "history"


class _KeptHistory(FileHistory):
    """A history file that may fail to grow."""

    _has_failed = False

    def store_string(self, string: str) -> None:
        """Keep a line; one that cannot be kept is remembered by this shell alone."""
        try:
            super().store_string(string)
        except OSError as error:
            if not self._has_failed:
                print(_no_history(str(self.filename), error.strerror))
            self._has_failed = True


def _no_history(path: str, reason: str | None) -> str:
    return f"routectl: the history is not saved: {path}: {reason}"


def open_history(path: Path | None) -> History:
    """The history file, readable by its owner alone: commands may carry secrets one day."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # one that was there already may be wider
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
        """`?` answers at once and leaves the line as it is, as on any router."""
        text = event.current_buffer.document.text_before_cursor
        lines = command_line.help_for(text)
        run_in_terminal(lambda: print("\n".join(lines)))

    return bindings
