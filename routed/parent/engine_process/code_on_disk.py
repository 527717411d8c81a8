"""Whether the program's files are still those that this process was started from.

The parent asks when an engine could not even say which version it is: a half-written upgrade ends
each engine before its first message.

Cost: a stat of each file, about two milliseconds in all.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CodeOnDisk"]

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ("ipc", "routed")
_SUFFIXES = (".py", ".so")


class CodeOnDisk:
    """Remembers how the files were when it was made."""

    def __init__(self, root: Path = _ROOT) -> None:
        """Look at the files.

        Args:
            root: the directory that holds the packages.
        """
        self._root = root
        self._before = self._look()

    def has_changed(self) -> bool:
        """Whether a file is another one, is new, or is gone."""
        return self._look() != self._before

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for package in _PACKAGES:
            for directory, _, names in os.walk(self._root / package):
                for name in names:
                    if name.endswith(_SUFFIXES):
                        path = os.path.join(directory, name)
                        try:
                            status = os.stat(path)
                        except OSError:
                            continue  # gone meanwhile: a change
                        found[path] = status.st_mtime_ns, status.st_size
        return found
