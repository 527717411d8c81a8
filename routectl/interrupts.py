"""Ctrl-C: held back while a part of an answer is written, so that a JSON document is always whole.

    start   held         imports, parsing
    run     allowed      waiting for the daemon, reading a file or the next command
    write   held         a page of rows, the end of a document
    end     ignored

A Ctrl-C that was held back raises KeyboardInterrupt where the held part ends. A second one ends the
program at once, so a reader that has stopped cannot keep it.

Without `take_over`, as in tests, Python's own handler is left in place and raises at any time.

Imports almost nothing: until `take_over`, Ctrl-C prints a traceback.
"""

from __future__ import annotations

import os
import signal

__all__ = ["INTERRUPTED", "INTERRUPTS", "Interrupts"]

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells report it."""


class Interrupts:
    """When Ctrl-C takes effect. Owns the handler of SIGINT, one per process."""

    def __init__(self) -> None:
        self._is_held = False
        self._is_waiting = False
        """Whether a Ctrl-C has arrived that was held back."""

    def take_over(self) -> None:
        """Install the handler, and hold Ctrl-C back until `allowed`. A SIGINT that the parent has
        set to be ignored, as for a job in the background, stays ignored."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._is_held = True
            signal.signal(signal.SIGINT, self._arrived)

    def held(self) -> _Block:
        """Hold Ctrl-C back within a `with` block; the end of the outermost one may raise
        KeyboardInterrupt."""
        return _Block(self, is_held=True)

    def allowed(self) -> _Block:
        """Let Ctrl-C take effect within a `with` block; one that has arrived raises
        KeyboardInterrupt at its start."""
        return _Block(self, is_held=False)

    def change(self, *, is_held: bool) -> bool:
        """Change whether Ctrl-C is held back, and return whether it was."""
        before, self._is_held = self._is_held, is_held
        if self._is_waiting and not is_held:
            self._is_held, self._is_waiting = before, False
            raise KeyboardInterrupt
        return before

    def end(self) -> None:
        """Ignore Ctrl-C: the program is done, and its exit status is decided."""
        if signal.getsignal(signal.SIGINT) == self._arrived:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _arrived(self, _number: int, _frame: object) -> None:
        if not self._is_held:
            raise KeyboardInterrupt
        if self._is_waiting:
            os._exit(INTERRUPTED)
        self._is_waiting = True


class _Block:
    """A part of the program in which Ctrl-C is held back, or is not."""

    def __init__(self, interrupts: Interrupts, *, is_held: bool) -> None:
        self._interrupts = interrupts
        self._is_held = is_held
        self._before = False

    def __enter__(self) -> None:
        self._before = self._interrupts.change(is_held=self._is_held)

    def __exit__(self, *_error: object) -> None:
        self._interrupts.change(is_held=self._before)


INTERRUPTS = Interrupts()
"""The one of this process: signals belong to processes."""
