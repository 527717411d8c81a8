"""Names that iproute2 has for numbers of the kernel: tables, realms, interface groups.

    /etc/iproute2/rt_tables            the first of these files that exists
    /usr/share/iproute2/rt_tables
    /usr/lib/iproute2/rt_tables
    /etc/iproute2/rt_tables.d/*.conf   all of these; a file in /etc hides its namesakes in /usr
    /usr/share/iproute2/rt_tables.d/*.conf
    /usr/lib/iproute2/rt_tables.d/*.conf

A name is looked up when the configuration is read, as users and VRFs are. A name that is given to
another number later needs a reload.

Failure: a file that cannot be read, or a line that is no number and name, names nothing. A name
that stands for two numbers is refused (ValueError), because `ip` takes the one that it finds first
in a hash table.
Bounds: FILE_BYTES_MAX of each file, FILES_MAX files.

Source: lib/rt_names.c of iproute2.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["file_of", "number_of"]

FOLDERS = (Path("/etc/iproute2"), Path("/usr/share/iproute2"), Path("/usr/lib/iproute2"))
FILE_BYTES_MAX = 64 * 1024
FILES_MAX = 256

_LINE = re.compile(r"\s*(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})\s+([^\s#]+)\s*(?:#.*)?")
_SIGNATURE = tuple[tuple[str, int, int], ...]
"""The files of a kind with their sizes and times: what was read of them stays valid meanwhile."""


def number_of(kind: str, name: str) -> int | None:
    """Look up a name. Returns None if no file has it.

    Args:
        kind: name of the file, such as `rt_tables`.
        name: the name in it.

    Raises:
        ValueError: the name stands for two numbers; the text says where.

    Cost: about 20 us while the files are unchanged.
    """
    found = _read_all(tuple(_signed(_files_of(kind)))).get(name, ())
    numbers = {number for number, _ in found}
    if len(numbers) > 1:
        places = " and ".join(f"{number} in {path}" for number, path in found)
        raise ValueError(f"{name!r} stands for {places}: use the number")
    return numbers.pop() if numbers else None


def file_of(kind: str) -> str:
    """Return the path at which an administrator adds a name."""
    return str(FOLDERS[0] / kind)


def _files_of(kind: str) -> Iterator[Path]:
    for folder in FOLDERS:
        if (folder / kind).exists():
            yield folder / kind
            break
    seen: set[str] = set()
    for folder in FOLDERS:
        try:
            names = sorted(os.listdir(folder / f"{kind}.d"))
        except OSError:
            continue
        for name in names[:FILES_MAX]:
            if name.endswith(".conf") and not name.startswith(".") and name not in seen:
                seen.add(name)
                yield folder / f"{kind}.d" / name


def _signed(paths: Iterator[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        yield str(path), status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _read_all(signature: _SIGNATURE) -> dict[str, tuple[tuple[int, str], ...]]:
    """Read every file. Returns the numbers of each name, and the file of each number."""
    found: dict[str, tuple[tuple[int, str], ...]] = {}
    for path, _, _ in signature:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read(FILE_BYTES_MAX).splitlines()
        except OSError:
            continue
        for line in lines:
            if match := _LINE.fullmatch(line):
                number = int(match[1], 16 if match[1].startswith("0x") else 10)
                found[match[2]] = (*found.get(match[2], ()), (number, path))
    return found
