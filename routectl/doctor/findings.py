"""A finding of `doctor`, and its row."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

from routectl.doctor.facts import Facts
from routectl.render.text import Row

__all__ = ["Finding", "Grade", "HostCheck", "examine", "exit_status", "set_sysctl", "sysctl_name"]


class Grade(enum.Enum):
    """How serious a finding is."""

    PROBLEM = "problem"
    """Packets are lost, or routes are removed."""
    WARNING = "warning"
    """A limit is near, or some packets are lost or slow under some conditions."""
    NOTE = "note"
    """A choice that another purpose of the router may need."""
    UNKNOWN = "unknown"
    """It cannot be examined here."""
    OK = "ok"


class Finding(NamedTuple):
    """The result of a check for one object."""

    object: str
    """An interface, sysctl or program."""
    grade: Grade
    seen: str
    """The present state."""
    why: str
    """Why it matters."""
    command: str = ""
    """The shell command that changes it; empty if nothing is to be changed."""


class HostCheck(NamedTuple):
    """A check and its name."""

    name: str
    examine: Callable[[Facts], Iterator[Finding]]


def examine(checks: tuple[HostCheck, ...], facts: Facts) -> list[Row]:
    """Return the rows of all findings, in the order of the checks."""
    return [
        {
            "check": check.name,
            "object": finding.object,
            "state": finding.grade.value,
            "seen": finding.seen,
            "why": finding.why,
            "command": finding.command or None,
        }
        for check in checks
        for finding in check.examine(facts)
    ]


def exit_status(rows: list[Row]) -> int:
    """Return 2 if there is a problem, 1 if there is a warning, else 0."""
    states = {row["state"] for row in rows}
    if Grade.PROBLEM.value in states:
        return 2
    return int(Grade.WARNING.value in states)


def sysctl_name(path: str) -> str:
    """Return the name of a sysctl as sysctl(8) accepts it: with dots, unless an interface's name
    has a dot itself."""
    return path if "." in path else path.replace("/", ".")


def set_sysctl(path: str, value: int) -> str:
    """Return the command that sets a sysctl until the next boot."""
    return f"sysctl -w {sysctl_name(path)}={value}"
