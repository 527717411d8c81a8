"""The form of the findings of `doctor`: what is seen, why it matters, the command that changes it,
one below the other."""

from __future__ import annotations

import textwrap

from routectl.render.text import Column, Row, TextTable, plain_text

__all__ = ["DOCTOR"]

_WIDTH = 52
"""Columns of a finding, so that a line has 80. A command is not wrapped: it is to be copied."""


def _finding(row: Row) -> str:
    lines = textwrap.wrap(f"{row.get('object')}: {row.get('seen')}", _WIDTH)
    lines += textwrap.wrap(f"why: {row.get('why')}", _WIDTH, subsequent_indent="     ")
    if row.get("command"):
        lines.append(f"$ {row['command']}")
    return "\n".join(lines)


DOCTOR = TextTable(
    (
        Column("STATE", lambda row: plain_text(row.get("state")), is_colored=True),
        Column("CHECK", lambda row: plain_text(row.get("check"))),
        Column("FINDING", _finding),
    ),
    "nothing to change",
)
