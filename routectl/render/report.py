"""`report`: the daemon's state as one self-contained HTML page.

Tables use the same forms as the terminal output, so a column is declared once.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from routectl.render import views
from routectl.render.text import Column, Form, Record, Row, TextTable, printable
from routectl.render.topology import as_svg

__all__ = ["ROUTES_SHOWN", "html_report"]

ROUTES_SHOWN = 1000
"""Most rows of the table of routes; a note on the page says that there are more."""

_STYLE = """
body { font: 15px/1.45 sans-serif; color: #222a35; margin: 2em auto; max-width: 1100px }
h1 { font-size: 1.5em; color: #1f4e8c } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100% }
th { text-align: left; border-bottom: 2px solid #c9d1de; padding: .25em .7em .25em 0 }
td { border-bottom: 1px solid #e6eaf1; padding: .25em .7em .25em 0; vertical-align: top;
     font-family: monospace; font-size: .92em }
td.right, th.right { text-align: right } svg { max-width: 100%; height: auto }
p.note { color: #6a7383 }
"""

Section = tuple[str, Form, Sequence[Row], str]
"""A heading, the form, its rows, and a note below the table."""


def html_report(
    status: Row, topology: Sequence[Row], sections: Sequence[Section], made_at: str
) -> list[str]:
    """Return the page, line by line: no element of the list contains a line break.

    Args:
        status: the row of `show status`.
        topology: the rows of `topology`.
        sections: tables, in order.
        made_at: date and time, as text.
    """
    name = escape(printable(str(status.get("router_id"))))
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>routed {name}</title>',
        "<style>",
        *_STYLE.strip().splitlines(),
        "</style></head><body>",
        f"<h1>routed {name}</h1>",
        f'<p class="note">{escape(made_at)}</p>',
        *_table(views.STATUS, [status]),
        "<h2>Topology</h2>",
        *as_svg(topology),
    ]
    for heading, form, rows, note in sections:
        lines += [f"<h2>{escape(heading)}</h2>", *_table(form, rows)]
        if note:
            lines.append(f'<p class="note">{escape(note)}</p>')
    return [*lines, "</body></html>"]


def _table(form: Form, rows: Sequence[Row]) -> list[str]:
    match form:
        case Record(fields=fields):
            body = [
                f"<tr><th>{escape(column.title)}</th><td>{_cell(column, row)}</td></tr>"
                for row in rows
                for column in fields
            ]
            return ["<table>", *body, "</table>"]
        case TextTable(columns=columns, empty=empty):
            if not rows:
                return [f'<p class="note">{escape(empty)}</p>']
            heads = "".join(
                f"<th{_class(column.is_right)}>{escape(column.title)}</th>" for column in columns
            )
            body = [
                "<tr>"
                + "".join(
                    f"<td{_class(column.is_right)}>{_cell(column, row)}</td>" for column in columns
                )
                + "</tr>"
                for row in rows
            ]
            return ["<table>", f"<tr>{heads}</tr>", *body, "</table>"]
    raise TypeError(f"a report cannot show a {type(form).__name__}")


def _cell(column: Column, row: Row) -> str:
    """Return a cell, which may have several lines: one for each next hop or address."""
    return "<br>".join(escape(printable(line)) for line in column.text(row).split("\n"))


def _class(is_right: bool) -> str:
    return ' class="right"' if is_right else ""
