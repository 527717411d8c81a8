"""Reads the small text files of /proc, /sys and /etc that facts come from.

The directory that stands for / can be given, so that tests have a host of their own. A file that is
missing, unreadable or not of the expected form is None: the caller reports that it is not known.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from routectl.doctor.facts import NeighborTable, NetworkdFacts

__all__ = ["Files", "cpu_list"]

_FILE_BYTES_MAX = 1024 * 1024
"""/proc/interrupts of a machine with 256 processors has 700 kB."""
_NETWORKD_FOLDERS = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
"""From the lowest precedence to the highest (networkd.conf(5))."""


class Files:
    """The files of this host."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Use a host.

        Args:
            root: the directory that stands for /.
        """
        self._root = root

    def text(self, path: str) -> str | None:
        """Return the text of a file, up to _FILE_BYTES_MAX, without blanks at its ends."""
        try:
            with (self._root / path).open("rb") as file:
                return file.read(_FILE_BYTES_MAX).decode("utf-8", "replace").strip()
        except (OSError, ValueError):
            return None

    def number(self, path: str) -> int | None:
        """Return the number in a file."""
        text = self.text(path) or ""
        return int(text) if text.isascii() and text.lstrip("-").isdigit() else None

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory; none if it cannot be read."""
        try:
            return sorted(os.listdir(self._root / path))
        except OSError:
            return []

    def inode(self, path: str) -> int | None:
        """Return the inode that a path leads to."""
        try:
            return os.stat(self._root / path).st_ino
        except OSError:
            return None

    def sysctls(self, paths: list[str]) -> dict[str, str]:
        """Return the values of sysctls that are shown, by path below /proc/sys."""
        found = ((path, self.text(f"proc/sys/{path}")) for path in paths)
        return {path: value for path, value in found if value}

    def cpus(self) -> frozenset[int]:
        """Return the numbers of the processors that are online."""
        online = self.text("sys/devices/system/cpu/online")
        return cpu_list(online) or frozenset(range(os.cpu_count() or 1))

    def backlog_drops(self) -> int | None:
        """Return the packets that processors have dropped from their backlog since boot.

        Source: net/core/net-procfs.c, softnet_seq_show: the second column, hexadecimal.
        """
        text = self.text("proc/net/softnet_stat")
        try:
            return sum(int(line.split()[1], 16) for line in text.splitlines()) if text else None
        except (IndexError, ValueError):
            return None

    def neighbor_tables(self) -> dict[str, NeighborTable]:
        """Return the tables of link-layer addresses by family.

        Source: net/core/neighbour.c, neigh_stat_seq_show: one line for each processor, hexadecimal;
        `entries` is that of the whole table in each line.
        """
        found = {}
        for family, name in (("ipv4", "arp_cache"), ("ipv6", "ndisc_cache")):
            titles, *lines = (self.text(f"proc/net/stat/{name}") or "").splitlines() or [""]
            try:
                columns = [
                    dict(
                        zip(titles.split(), (int(word, 16) for word in line.split()), strict=False)
                    )
                    for line in lines
                ]
                found[family] = NeighborTable(
                    columns[0]["entries"], sum(each.get("table_fulls", 0) for each in columns)
                )
            except (IndexError, KeyError, ValueError):
                continue  # the caller reports a table that is not there as not known
        return found

    def interrupts(self) -> set[int]:
        """Return the numbers of the interrupts that have occurred."""
        titles, *lines = (self.text("proc/interrupts") or "").splitlines() or [""]
        count = len(titles.split())
        found = set()
        for line in lines:
            number, _, rest = line.partition(":")
            counts = [word for word in rest.split()[:count] if word.isdigit()]
            if number.strip().isdigit() and any(map(int, counts)):
                found.add(int(number))
        return found

    def programs(self) -> dict[str, tuple[int, ...]] | None:
        """Return the process ids of the programs by name.

        A program that is seen to be in another network namespace is left out. Of other users'
        processes the namespace is not shown, unless root asks.
        """
        pids = [name for name in self.names("proc") if name.isdigit()]
        if not pids:
            return None
        own = self.inode("proc/self/ns/net")
        found: dict[str, tuple[int, ...]] = {}
        for pid in sorted(pids, key=int):
            name = self.text(f"proc/{pid}/comm")
            if name and self.inode(f"proc/{pid}/ns/net") in (None, own):
                found[name] = (*found.get(name, ()), int(pid))
        return found

    def networkd(self) -> NetworkdFacts:
        """Return the `ManageForeign...` options of systemd-networkd's configuration files."""
        texts = [self.text(f"{folder}/networkd.conf") or "" for folder in _NETWORKD_FOLDERS]
        # The drop-in files of all folders are read in the order of their names, after the file.
        # Of several files of the same name, only that of the folder with precedence is read.
        drop_ins = {
            name: f"{folder}/networkd.conf.d/{name}"
            for folder in _NETWORKD_FOLDERS
            for name in self.names(f"{folder}/networkd.conf.d")
            if name.endswith(".conf")
        }
        texts = [*texts, *(self.text(drop_ins[name]) or "" for name in sorted(drop_ins))]
        found: dict[str, str] = {}
        for text in texts:
            found |= _foreign_options(text)
        return NetworkdFacts(found)


def _foreign_options(text: str) -> Mapping[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith(("#", ";")))
    return {
        name.strip(): value.strip() for name, _, value in pairs if name.startswith("ManageForeign")
    }


def cpu_list(text: str | None) -> frozenset[int]:
    """Parse a list of processors such as `0-3,8`. Returns none if it is not one."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)
