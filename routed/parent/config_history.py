"""The history of configurations, as text, across restarts of the daemon.

    routed.pid.running.yaml     the configuration in force, confirmed
    routed.pid.previous.yaml    the one that was in force before it, to which `rollback` returns
    routed.pid.refused.yaml     one that was reverted or is not confirmed yet; no start uses it

The files are in the directory of the pid file, and their names begin with its name
(`routed.config.state_names`), because each daemon has a pid file of its own. Only the daemon's user
can read them: a configuration may name keys. `routed.parent.state_file` writes each file completely
or not at all, and accepts only files that it wrote. A file that is not accepted is reported and not
used, not even by `rollback`. A text that cannot be written is kept in memory, reported in the log,
and written by a later `keep`; the daemon goes on.

Earlier releases wrote files without the name of the pid file, although several daemons might share
the directory. A daemon without a running.yaml of its own uses those files if the configuration in
that running.yaml names its pid file. It removes them once it has written its own files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from routed.config.load import ConfigError, load_text
from routed.config.state_names import PREVIOUS, REFUSED, RUNNING, state_path
from routed.parent.state_file import StateFileError, read_state, remove_state, write_state

__all__ = ["ConfigHistory", "refusal_of"]


def refusal_of(path: str) -> str:
    """Return the message for a SIGHUP that is not carried out because the text is refused."""
    return (
        f"{path} was reverted or never confirmed: SIGHUP does not load it; "
        "edit it, or run `routectl reload` to load it as it is"
    )


class ConfigHistory:
    """The owner of the three files and of their texts."""

    def __init__(self, pid_file: str, complain: Callable[[str], None]) -> None:
        """Read the files of earlier starts.

        Args:
            pid_file: path of the daemon's pid file, in whose directory the files are.
            complain: is called with a sentence if a file cannot be used, and by
                `report_problems`.
        """
        self._pid_file = pid_file
        self._complain = complain
        self._problems: dict[str, str] = {}
        """The error of each file that could not be written, by kind."""
        self._reported: dict[str, str] = {}
        self._unnamed = self._read_unnamed()
        """Texts of an earlier release, by kind, until they are written under the present names."""
        self.running = self._read(RUNNING)
        """The text in force, confirmed; None before the first `put_in_force`."""
        self.previous = self._read(PREVIOUS)
        """The text that was in force before it; None if there is none."""
        self.refused = self._read(REFUSED)
        """The text that no start may use, even if routes.yaml contains it; None if there is
        none."""
        self._on_disk: dict[str, str | None] = {
            RUNNING: self.running, PREVIOUS: self.previous, REFUSED: self.refused,
        }  # fmt: skip
        """The text of each file, by kind; has no entry while the file is being changed."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that are known: those in force, previous and refused."""
        known = (self.running, self.previous, self.refused)
        return tuple(text for text in known if text is not None)

    @property
    def is_kept(self) -> bool:
        """Whether the next start will use the text in force: the files are as they should be."""
        return self._has_on_disk(RUNNING, self.running) and self._has_on_disk(REFUSED, self.refused)

    def put_in_force(self, text: str) -> None:
        """Record a confirmed text as the one in force; the former one becomes the previous one.

        Like `refuse` it changes memory only; `keep` writes the files.
        """
        if text == self.refused:
            self.refused = None
        if text != self.running:
            if self.running is not None:
                self.previous = self.running
            self.running = text

    def refuse(self, text: str | None) -> None:
        """Let no start use this text, unless it is in force again; None: let a start use any."""
        self.refused = text

    def keep(self) -> None:
        """Write the texts that are not on disk yet, including those of earlier failed calls.

        A refused text is on disk only while the text that a start would use instead is, too. May
        run in another thread, one call at a time: it writes the texts as they are when it begins.
        """
        running, previous, refused = self.running, self.previous, self.refused
        is_renaming = bool(self._unnamed)
        if refused is None or is_renaming:  # instead a start uses the former running.yaml
            self._put(REFUSED, refused)
        if previous is not None:
            self._put(PREVIOUS, previous)
        if self._put(RUNNING, running):
            self._put(REFUSED, refused)
        elif not self._has_on_disk(REFUSED, refused):
            self._put(REFUSED, None)
        if is_renaming and not self._unnamed:
            self._remove_unnamed()

    def report_problems(self) -> None:
        """Report the files that `keep` could not write, each error once until it changes."""
        problems = dict(self._problems)
        for name, problem in problems.items():
            if self._reported.get(name) != problem:
                self._complain(problem)
        self._reported = problems

    def next_start(self, text: str) -> str:
        """Return the text that a new daemon would use now, if routes.yaml contained `text`."""
        running = self._on_disk.get(RUNNING)
        return running if running is not None and self._has_on_disk(REFUSED, text) else text

    def instead_of(self, text: str) -> str | None:
        """Return the text to start with if `text` is refused; None if `text` may be used."""
        return self.running if text == self.refused else None

    @property
    def directory(self) -> str:
        """The directory of the files."""
        return str(self._path(RUNNING).parent)

    @property
    def running_path(self) -> str:
        """The path of the file of `running`, for error messages."""
        return str(self._path(RUNNING))

    @property
    def previous_path(self) -> str:
        """The path of the file of `previous`, for error messages."""
        return str(self._path(PREVIOUS))

    def _read(self, name: str) -> str | None:
        path = self._path(name)
        try:
            text = read_state(path)
        except StateFileError as error:
            self._complain(f"{path} is not used: {error}")
        except OSError as error:
            self._complain(f"{path}: {error.strerror}")
        except UnicodeDecodeError as error:
            self._complain(f"{path}: {error}")
        else:
            return self._unnamed.get(name) if text is None else text
        return None

    def _path(self, name: str) -> Path:
        return Path(state_path(self._pid_file, name))

    def _unnamed_path(self, name: str) -> Path:
        return Path(self._pid_file).with_name(name)

    def _read_unnamed(self) -> dict[str, str]:
        """Read the texts of an earlier release, by kind, if they belong to this daemon.

        A file that is not accepted is ignored without a report: it may be another daemon's.
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
        """Remove the files of the earlier release, which no start reads any more."""
        for name in (RUNNING, PREVIOUS, REFUSED):
            with contextlib.suppress(OSError):
                remove_state(self._unnamed_path(name))

    def _has_on_disk(self, name: str, text: str | None) -> bool:
        return name in self._on_disk and self._on_disk[name] == text

    def _put(self, name: str, text: str | None) -> bool:
        """Write a text to a file, or remove the file (None). Returns whether that succeeded."""
        if self._has_on_disk(name, text) and name not in self._unnamed:
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

        return self._try_change(name, remove)

    def _write(self, name: str, text: str) -> bool:
        return self._try_change(name, lambda: write_state(self._path(name), text))

    def _try_change(self, name: str, change: Callable[[], None]) -> bool:
        try:
            change()
        except OSError as error:
            self._problems[name] = f"{self._path(name)}: {error.strerror}"
            return False
        self._problems.pop(name, None)
        return True
