"""The configurations worth going back to, as text, across restarts of the daemon.

    running.yaml     what is in force, confirmed
    previous.yaml    what was in force before that: where `rollback` goes
    refused.yaml     what was taken back, or is not confirmed yet: no start goes by this

All lie beside the pid file, readable by the daemon's user alone: a configuration may name keys.
`routed.state_file` writes them whole or not at all, and believes what it wrote only. A file that
cannot be believed is not used, and said; nor does it come back by `rollback`. What cannot be
written is kept in memory and said in the log; a daemon does not fail for its memory's sake.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from routed.state_file import StateFileError, read_state, write_state

__all__ = ["LastGood"]


class LastGood:
    """Owns the three files."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        """Read what an earlier life left.

        Args:
            directory: where the files are.
            complain: told in a sentence when a file cannot be read or written.
        """
        self._directory = directory
        self._complain = complain
        self.running = self._read("running.yaml")
        """The text in force, confirmed; None before the first `put_in_force`."""
        self.previous = self._read("previous.yaml")
        """The one before; None when there is none."""
        self.refused = self._read("refused.yaml")
        """What a start must not go by, although the file may say it; None when there is none."""
        self._is_running_kept = self.running is not None
        self._is_refused_kept = True

    @property
    def is_kept(self) -> bool:
        """Whether the next start goes by what is in force: all that it needs is on disk."""
        return self._is_refused_kept and self._is_running_kept

    def put_in_force(self, text: str) -> None:
        """A configuration is in force and good; what was, becomes the previous one."""
        if text == self.refused:
            self.refused = None
            self._is_refused_kept = True
            self._remove("refused.yaml")
        if text == self.running and self._is_running_kept:
            return
        if self.running not in (None, text):
            self.previous = self.running
            self._write("previous.yaml", self.running)
        self.running = text
        self._is_running_kept = self._write("running.yaml", text)

    def refuse(self, text: str) -> bool:
        """No start goes by this configuration, unless it comes in force again.

        Returns:
            Whether that holds after the end of this process: all that a start needs is on disk.
        """
        self.refused = text
        self._is_refused_kept = self._write("refused.yaml", text)
        return self.is_kept

    def restore_refused(self, text: str | None) -> None:
        """Refuse what was refused before the last `refuse`, or nothing."""
        if text == self.refused:
            return
        self.refused = text
        if text is None:
            self._is_refused_kept = True
            self._remove("refused.yaml")
        else:
            self._is_refused_kept = self._write("refused.yaml", text)

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

    def _remove(self, name: str) -> None:
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            self._complain(f"{self._directory / name}: {error.strerror}")

    def _write(self, name: str, text: str) -> bool:
        path = self._directory / name
        try:
            write_state(path, text)
        except OSError as error:
            self._complain(f"{path}: {error.strerror}")
            return False
        return True
