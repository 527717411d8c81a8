"""The configurations worth going back to, as text, across restarts of the daemon.

    running.yaml     what is in force, confirmed
    previous.yaml    what was in force before that: where `rollback` goes
    refused.yaml     what was taken back, or is not confirmed yet: no start goes by this

All lie beside the pid file, readable by the daemon's user alone: a configuration may name keys.
`routed.parent.state_file` writes them whole or not at all, and believes what it wrote only. A file
that cannot be believed is not used, and said; nor does it come back by `rollback`. What cannot be
written is kept in memory, said in the log and written by a later `keep`; a daemon does not fail for
its memory's sake.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from routed.parent.state_file import StateFileError, read_state, write_state

__all__ = ["LastGood"]


_RUNNING, _PREVIOUS, _REFUSED = "running.yaml", "previous.yaml", "refused.yaml"


class LastGood:
    """Owns the three files."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        """Read what an earlier life left.

        Args:
            directory: where the files are.
            complain: told in a sentence when a file cannot be read, and by `report_problems`.
        """
        self._directory = directory
        self._complain = complain
        self._problems: dict[str, str] = {}
        """Of each file that could not be written: why."""
        self._reported: dict[str, str] = {}
        self.running = self._read(_RUNNING)
        """The text in force, confirmed; None before the first `put_in_force`."""
        self.previous = self._read(_PREVIOUS)
        """The one before; None when there is none."""
        self.refused = self._read(_REFUSED)
        """What a start must not go by, although the file may say it; None when there is none."""
        self._on_disk: dict[str, str | None] = {
            _RUNNING: self.running, _PREVIOUS: self.previous, _REFUSED: self.refused,
        }  # fmt: skip
        """Without a file while it is being changed: whoever looks meanwhile does not know."""

    @property
    def is_kept(self) -> bool:
        """Whether the next start goes by what is in force: all that it needs is on disk."""
        return self._says(_RUNNING, self.running) and self._says(_REFUSED, self.refused)

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
        if refused is None:
            self._put(_REFUSED, None)
        if previous is not None:
            self._put(_PREVIOUS, previous)
        if self._put(_RUNNING, running):
            self._put(_REFUSED, refused)
        elif not self._says(_REFUSED, refused):
            self._put(_REFUSED, None)

    def report_problems(self) -> None:
        """Complain of what `keep` could not write; not again while it is the same."""
        problems = dict(self._problems)
        for name, problem in problems.items():
            if self._reported.get(name) != problem:
                self._complain(problem)
        self._reported = problems

    def next_start(self, text: str) -> str:
        """What a new daemon would start by now, if that was what the file says."""
        running = self._on_disk.get(_RUNNING)
        return running if running is not None and self._says(_REFUSED, text) else text

    def instead_of(self, text: str) -> str | None:
        """What to start by, when the file says something that was refused; else None."""
        return self.running if text == self.refused else None

    @property
    def directory(self) -> str:
        """Where the files are."""
        return str(self._directory)

    @property
    def running_path(self) -> str:
        """What `running` is called in error messages."""
        return str(self._directory / "running.yaml")

    @property
    def previous_path(self) -> str:
        """What `previous` is called in error messages."""
        return str(self._directory / "previous.yaml")

    def _read(self, name: str) -> str | None:
        path = self._directory / name
        try:
            return read_state(path)
        except StateFileError as error:
            self._complain(f"{path} is not used: {error}")
        except (OSError, UnicodeDecodeError) as error:
            self._complain(f"{path}: {error}")
        return None

    def _says(self, name: str, text: str | None) -> bool:
        return name in self._on_disk and self._on_disk[name] == text

    def _put(self, name: str, text: str | None) -> bool:
        """Have a file say a text, or not be there; whether it does."""
        if self._says(name, text):
            return True
        before = self._on_disk.pop(name, None)
        is_done = self._remove(name) if text is None else self._write(name, text)
        self._on_disk[name] = text if is_done else before
        return is_done

    def _remove(self, name: str) -> bool:
        return self._is_done(name, lambda: (self._directory / name).unlink(missing_ok=True))

    def _write(self, name: str, text: str) -> bool:
        return self._is_done(name, lambda: write_state(self._directory / name, text))

    def _is_done(self, name: str, change: Callable[[], None]) -> bool:
        try:
            change()
        except OSError as error:
            self._problems[name] = f"{self._directory / name}: {error.strerror}"
            return False
        self._problems.pop(name, None)
        return True
