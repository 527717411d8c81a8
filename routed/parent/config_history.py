"""The configurations worth going back to, as text, across restarts of the daemon.

    routed.pid.running.yaml     what is in force, confirmed
    routed.pid.previous.yaml    what was in force before that: where `rollback` goes
    routed.pid.refused.yaml     what was taken back, or is not confirmed yet: no start goes by this

All lie beside the pid file and have its name (`routed.config.state_names`), as there is one of it
for each daemon. They are readable by the daemon's user alone: a configuration may name keys.
`routed.parent.state_file` writes them whole or not at all, and believes what it wrote only. A file
that cannot be believed is not used, and said; nor does it come back by `rollback`. What cannot be
written is kept in memory, said in the log and written by a later `keep`; a daemon does not fail for
its memory's sake.

Files without the pid file's name are of an earlier release, and of one daemon although several may
have shared the directory. A daemon that has no running.yaml with its name yet uses them if the pid
file that this running.yaml names is its own, and removes them once they are written anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from routed.config.load import ConfigError, load_text
from routed.config.state_names import PREVIOUS, REFUSED, RUNNING, state_path
from routed.parent.state_file import StateFileError, read_state, remove_state, write_state

__all__ = ["LastGood"]


class LastGood:
    """Owns the three files."""

    def __init__(self, pid_file: str, complain: Callable[[str], None]) -> None:
        """Read what an earlier life left.

        Args:
            pid_file: the daemon's, beside which the files are.
            complain: told in a sentence when a file cannot be read, and by `report_problems`.
        """
        self._pid_file = pid_file
        self._complain = complain
        self._problems: dict[str, str] = {}
        """Of each file that could not be written: why."""
        self._reported: dict[str, str] = {}
        self._unnamed = self._read_unnamed()
        """By kind: what an earlier release left to this daemon, until it is written anew."""
        self.running = self._read(RUNNING)
        """The text in force, confirmed; None before the first `put_in_force`."""
        self.previous = self._read(PREVIOUS)
        """The one before; None when there is none."""
        self.refused = self._read(REFUSED)
        """What a start must not go by, although the file may say it; None when there is none."""
        self._on_disk: dict[str, str | None] = {
            RUNNING: self.running, PREVIOUS: self.previous, REFUSED: self.refused,
        }  # fmt: skip
        """Without a file while it is being changed: whoever looks meanwhile does not know."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that this daemon has gone by, as far as it is known."""
        known = (self.running, self.previous, self.refused)
        return tuple(text for text in known if text is not None)

    @property
    def is_kept(self) -> bool:
        """Whether the next start goes by what is in force: all that it needs is on disk."""
        return self._says(RUNNING, self.running) and self._says(REFUSED, self.refused)

    def put_in_force(self, text: str) -> None:
        """A configuration is in force and good; what was, becomes the previous one.

        In memory, as `refuse`; `keep` writes it.
        """
        if text == self.refused:
            self.refused = None
        if text != self.running:
            if self.running is not None:
                self.previous = self.running
            self.running = text

    def refuse(self, text: str | None) -> None:
        """No start goes by this configuration, unless it comes in force again; None: by any."""
        self.refused = text

    def keep(self) -> None:
        """Write what is not on disk yet, also what an earlier call could not write.

        Nothing is refused on disk while what a start would go by instead is not there. May be
        called in another thread, one at a time: it goes by what is to be kept as it is called.
        """
        running, previous, refused = self.running, self.previous, self.refused
        is_renaming = bool(self._unnamed)
        if refused is None or is_renaming:  # a start goes by the former running.yaml instead
            self._put(REFUSED, refused)
        if previous is not None:
            self._put(PREVIOUS, previous)
        if self._put(RUNNING, running):
            self._put(REFUSED, refused)
        elif not self._says(REFUSED, refused):
            self._put(REFUSED, None)
        if is_renaming and not self._unnamed:
            self._remove_unnamed()

    def report_problems(self) -> None:
        """Complain of what `keep` could not write; not again while it is the same."""
        problems = dict(self._problems)
        for name, problem in problems.items():
            if self._reported.get(name) != problem:
                self._complain(problem)
        self._reported = problems

    def next_start(self, text: str) -> str:
        """What a new daemon would start by now, if that was what the file says."""
        running = self._on_disk.get(RUNNING)
        return running if running is not None and self._says(REFUSED, text) else text

    def instead_of(self, text: str) -> str | None:
        """What to start by, when the file says something that was refused; else None."""
        return self.running if text == self.refused else None

    @property
    def directory(self) -> str:
        """Where the files are."""
        return str(self._path(RUNNING).parent)

    @property
    def running_path(self) -> str:
        """What `running` is called in error messages."""
        return str(self._path(RUNNING))

    @property
    def previous_path(self) -> str:
        """What `previous` is called in error messages."""
        return str(self._path(PREVIOUS))

    def _read(self, name: str) -> str | None:
        path = self._path(name)
        try:
            text = read_state(path)
        except StateFileError as error:
            self._complain(f"{path} is not used: {error}")
        except (OSError, UnicodeDecodeError) as error:
            self._complain(f"{path}: {error}")
        else:
            return self._unnamed.get(name) if text is None else text
        return None

    def _path(self, name: str) -> Path:
        return Path(state_path(self._pid_file, name))

    def _unnamed_path(self, name: str) -> Path:
        return Path(self._pid_file).with_name(name)

    def _read_unnamed(self) -> dict[str, str]:
        """By kind: what an earlier release left here, if it is of this pid file's daemon.

        What is not whole is nobody's, and passed over: it may be another daemon's.
        """
        found: dict[str, str] = {}
        if os.path.lexists(self._path(RUNNING)):
            return found
        for name in (RUNNING, PREVIOUS, REFUSED):
            with contextlib.suppress(StateFileError, OSError, UnicodeDecodeError):
                text = read_state(self._unnamed_path(name))
                if text is not None:
                    found[name] = text
        ours = {name: text for name, text in found.items() if self._is_ours(text)}
        return ours if RUNNING in ours else {}

    def _is_ours(self, text: str) -> bool:
        try:
            return load_text(text, "running.yaml").pid_file == self._pid_file
        except ConfigError:
            return False

    def _remove_unnamed(self) -> None:
        """Remove what has been written anew; no start looks at it any more."""
        for name in (RUNNING, PREVIOUS, REFUSED):
            with contextlib.suppress(OSError):
                remove_state(self._unnamed_path(name))

    def _says(self, name: str, text: str | None) -> bool:
        return name in self._on_disk and self._on_disk[name] == text

    def _put(self, name: str, text: str | None) -> bool:
        """Have a file say a text, or not be there; whether it does."""
        if self._says(name, text) and name not in self._unnamed:
            return True
        before = self._on_disk.pop(name, None)
        is_done = self._remove(name) if text is None else self._write(name, text)
        self._on_disk[name] = text if is_done else before
        if is_done:
            self._unnamed.pop(name, None)
        return is_done

    def _remove(self, name: str) -> bool:
        def remove() -> None:
            if name in self._unnamed:
                remove_state(self._unnamed_path(name))
            remove_state(self._path(name))

        return self._is_done(name, remove)

    def _write(self, name: str, text: str) -> bool:
        return self._is_done(name, lambda: write_state(self._path(name), text))

    def _is_done(self, name: str, change: Callable[[], None]) -> bool:
        try:
            change()
        except OSError as error:
            self._problems[name] = f"{self._path(name)}: {error.strerror}"
            return False
        self._problems.pop(name, None)
        return True
