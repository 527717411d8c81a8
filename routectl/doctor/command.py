"""The command `doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ipc.blocking import ControlClient, ExitStatus
from routectl.doctor.checks import CHECKS
from routectl.doctor.files import Files
from routectl.doctor.findings import Grade, examine, exit_status
from routectl.doctor.gather import gather
from routectl.render.doctor import DOCTOR
from routectl.render.text import Form, Row

__all__ = ["examine_host"]


class _Output(Protocol):
    def show(self, form: Form, pages: Iterable[Sequence[Row]]) -> None:
        """Write rows."""

    def note(self, text: str) -> None:
        """Write a remark in addition to the answer, for people only."""


def examine_host(client: ControlClient, output: _Output, *, has_all: bool) -> ExitStatus:
    """Examine this host and show the findings.

    Args:
        client: connected or not.
        output: for the rows.
        has_all: whether to show what needs no change, too.

    Returns:
        The most serious finding: 0 none, 1 a warning, 2 a problem.
    """
    rows = examine(CHECKS, gather(client, Files()))
    hidden = () if has_all else (Grade.OK.value, Grade.UNKNOWN.value)
    output.show(DOCTOR, [[row for row in rows if row["state"] not in hidden]])
    if not has_all:
        fine = sum(row["state"] == Grade.OK.value for row in rows)
        unknown = sum(row["state"] == Grade.UNKNOWN.value for row in rows)
        output.note(f"{fine} more are ok, {unknown} cannot be examined here: `doctor all`")
    return ExitStatus(exit_status(rows))
