"""The form of `show nup routes`."""

from __future__ import annotations

from routectl.render.text import Column, Row, TextTable, plain_text

__all__ = ["NUP_ROUTES"]

_ARROWS = {"received": "from", "advertised": "to"}


def _peer(row: Row) -> str:
    arrow = _ARROWS.get(str(row.get("direction")), "?")
    neighbor = f"{row.get('neighbor')} on " if row.get("neighbor") else ""
    return f"{arrow} {neighbor}{plain_text(row.get('interface'))}"


def _distance(row: Row) -> str:
    if row.get("distance_seqno") is None:
        return "-"
    return f"{row['distance_seqno']}/{row.get('distance_metric')}"


def _state(row: Row) -> str:
    return plain_text(row.get("state")) + (" (stale)" if row.get("is_stale") is True else "")


NUP_ROUTES = TextTable(
    (
        Column("PREFIX", lambda row: plain_text(row.get("prefix"))),
        Column("PEER", _peer),
        Column("STATE", _state),
        Column("METRIC", lambda row: plain_text(row.get("metric")), is_right=True),
        Column("ORIGIN", lambda row: plain_text(row.get("origin"))),
        Column("SEQNO", lambda row: plain_text(row.get("seqno")), is_right=True),
        Column("DISTANCE", _distance, is_right=True),
    ),
    "no routes of NUP",
)
