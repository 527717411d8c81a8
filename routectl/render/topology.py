"""The network as this router knows it, as a picture: Graphviz, Mermaid, or our own SVG.

The rows are those of `topology`: the router itself, its neighbors, and the routers behind them. A
distance-vector protocol gives the distance of a router and the neighbor towards it, but not the
links in between. So a router that is not a neighbor is connected by a dashed line to each neighbor
on a way to it.

The SVG is drawn without any library: the router in the middle, neighbors on a ring around it, the
others on outer rings, each near the neighbor towards it, so that lines rarely cross. The sizes
depend on the number of routers on the fullest ring, so that labels never overlap.

Invariants:
    A picture is well formed and shows the names of interfaces, whatever characters they contain:
        each format's special characters are escaped, and so are unprintable ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from routectl.render.text import Row, printable

__all__ = ["FORMATS", "as_dot", "as_mermaid", "as_svg"]

_BOX_WIDTH, _BOX_HEIGHT = 132, 50
_RING_GAP = 235
_FLATNESS = 0.75
"""Ratio of height to width: rings are wider than high, as boxes and labels are."""
_MARGIN = 40
_ROOM = 26
"""Pixels between two boxes of one ring."""

_COLORS = {"self": "#1f4e8c", "up": "#2d7d46", "other": "#8a6d1a", "router": "#555b66"}


class _Edge(NamedTuple):
    near: str
    far: str
    label: str
    is_dashed: bool


def _name(row: Row) -> str:
    return printable(str(row.get("router_id") or row.get("address")))


def _edges(rows: Sequence[Row]) -> list[_Edge]:
    """Return the lines between known routers; a neighbor may have disappeared between two rows."""
    nodes = _nodes(rows)
    return [edge for edge in _all_edges(rows) if edge.near in nodes and edge.far in nodes]


def _all_edges(rows: Sequence[Row]) -> Iterator[_Edge]:
    center = next((_name(row) for row in rows if row.get("role") == "self"), None)
    if center is None:
        raise LookupError("no row is that of the router itself")
    for row in rows:
        if row.get("role") == "neighbor":
            label = printable(f"{row.get('interface')} cost {row.get('cost')}")
            yield _Edge(center, _name(row), label, row.get("state") != "up")
        elif row.get("role") == "router":
            via = row.get("via")
            label = printable(f"metric {row.get('metric')}")
            for near in via if isinstance(via, list) else []:
                yield _Edge(printable(str(near)), _name(row), label, is_dashed=True)


def _nodes(rows: Sequence[Row]) -> dict[str, Row]:
    """Return each router once; a neighbor on several links is represented by its first row."""
    nodes: dict[str, Row] = {}
    for row in rows:
        nodes.setdefault(_name(row), row)
    return nodes


def _second_line(row: Row) -> str:
    if row.get("role") == "self":
        return "this router"
    count = row.get("prefixes")
    prefixes = f"{count} prefix" if count == 1 else f"{count} prefixes"
    state = row.get("state")
    return printable(prefixes if state in ("up", None) else f"{state}, {prefixes}")


def as_dot(rows: Sequence[Row]) -> list[str]:
    """Return the picture for Graphviz: `dot -Tpng`, `neato -Tsvg`."""
    lines = ["graph routed {", "  node [shape=box, style=rounded];"]
    for name, row in _nodes(rows).items():
        label = f"{_dot_text(name)}\\n{_dot_text(_second_line(row))}"
        lines.append(f'  "{_dot_id(name)}" [label="{label}"];')
    for edge in _edges(rows):
        style = ", style=dashed" if edge.is_dashed else ""
        near, far, label = _dot_id(edge.near), _dot_id(edge.far), _dot_text(edge.label)
        lines.append(f'  "{near}" -- "{far}" [label="{label}"{style}];')
    return [*lines, "}"]


def _dot_id(text: str) -> str:
    """Escape text for a quoted id; only the quote and the backslash are special."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _dot_text(text: str) -> str:
    """Escape text for a label, in which `&lt;` stands for a character."""
    return _dot_id(text).replace("&", "&amp;")


def as_mermaid(rows: Sequence[Row]) -> list[str]:
    """Return the picture for Mermaid, as used in Markdown pages."""
    nodes = _nodes(rows)
    ids = {name: f"r{number}" for number, name in enumerate(nodes)}
    lines = ["graph LR"]
    for name, row in nodes.items():
        label = f"{_mermaid_text(name)}<br/>{_mermaid_text(_second_line(row))}"
        lines.append(f'  {ids[name]}["{label}"]')
    for edge in _edges(rows):
        arrow = "-.-" if edge.is_dashed else "---"
        label = _mermaid_text(edge.label)
        lines.append(f'  {ids[edge.near]} {arrow}|"{label}"| {ids[edge.far]}')
    return lines


_MERMAID_SPECIAL = re.compile(r"[^\w .:,@/+-]")


def _mermaid_text(text: str) -> str:
    """Escape text for a quoted label: every character that may be syntax or HTML, by its number."""
    return _MERMAID_SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)


def as_svg(rows: Sequence[Row]) -> list[str]:
    """Return the picture as SVG, for a browser or a page."""
    nodes, edges = _nodes(rows), _edges(rows)
    places, radius = _places(nodes, edges)
    half_width = radius + _BOX_WIDTH / 2 + _MARGIN
    half_height = _FLATNESS * radius + _BOX_HEIGHT / 2 + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * half_width:.0f}" '
        f'height="{2 * half_height:.0f}" viewBox="{-half_width:.0f} {-half_height:.0f} '
        f'{2 * half_width:.0f} {2 * half_height:.0f}" font-family="sans-serif">',
        f'<rect x="{-half_width:.0f}" y="{-half_height:.0f}" width="100%" height="100%" '
        'fill="#ffffff"/>',
    ]
    lines += [_svg_line(edge, places) for edge in edges]
    for edge in edges:
        lines += _svg_label(edge, places)
    for name, row in nodes.items():
        lines += _svg_box(name, row, places[name])
    if any(edge.is_dashed for edge in edges):
        lines.append(
            f'<text x="0" y="{half_height - _MARGIN / 3:.1f}" font-size="11" text-anchor="middle" '
            f'fill="#444b57">{_LEGEND}</text>'
        )
    return [*lines, "</svg>"]


_LEGEND = "solid: a neighbor, and what the link costs - dashed: reached through it, at which metric"


def _places(
    nodes: dict[str, Row], edges: Sequence[_Edge]
) -> tuple[dict[str, tuple[float, float]], float]:
    """Return the position of each router, and the radius of the last ring."""
    leads = {edge.far: edge.near for edge in reversed(edges)}
    rings: list[list[str]] = [[], [], []]
    for name, row in nodes.items():
        rings[{"self": 0, "neighbor": 1}.get(str(row.get("role")), 2)].append(name)
    order = {name: position for position, name in enumerate(rings[1])}
    rings[2].sort(key=lambda name: (order.get(leads.get(name, ""), len(order)), name))
    places = dict.fromkeys(rings[0], (0.0, 0.0))
    angles: dict[str, float] = {}
    radius = 0.0
    for ring in rings[1:]:
        if not ring:
            continue
        needed = len(ring) * (_BOX_WIDTH + _ROOM) / (2 * math.pi)
        radius = max(radius + _RING_GAP, needed)
        # Begin at the angle of the neighbor of the first router, so that the rings are aligned.
        start = angles.get(leads.get(ring[0], ""), -math.pi / 2)
        for position, name in enumerate(ring):
            angle = angles[name] = start + 2 * math.pi * position / len(ring)
            places[name] = (radius * math.cos(angle), _FLATNESS * radius * math.sin(angle))
    return places, radius


def _svg_line(edge: _Edge, places: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[edge.near], places[edge.far]
    dash = ' stroke-dasharray="6 5"' if edge.is_dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="#9aa3b2" stroke-width="2"{dash}/>'
    )


def _svg_label(edge: _Edge, places: dict[str, tuple[float, float]]) -> list[str]:
    (x1, y1), (x2, y2) = places[edge.near], places[edge.far]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    width = 6.2 * len(edge.label) + 8
    return [
        f'<rect x="{x - width / 2:.1f}" y="{y - 8:.1f}" width="{width:.1f}" height="16" '
        'fill="#ffffff"/>',
        f'<text x="{x:.1f}" y="{y + 4:.1f}" font-size="11" text-anchor="middle" fill="#444b57">'
        f"{escape(edge.label)}</text>",
    ]


def _svg_box(name: str, row: Row, place: tuple[float, float]) -> list[str]:
    role = str(row.get("role"))
    key = role if role in _COLORS else "up" if row.get("state") == "up" else "other"
    x, y = place
    return [
        f'<rect x="{x - _BOX_WIDTH / 2:.1f}" y="{y - _BOX_HEIGHT / 2:.1f}" width="{_BOX_WIDTH}" '
        f'height="{_BOX_HEIGHT}" rx="8" fill="#ffffff" stroke="{_COLORS[key]}" stroke-width="2"/>',
        f'<text x="{x:.1f}" y="{y - 3:.1f}" font-size="14" font-weight="bold" '
        f'text-anchor="middle" fill="{_COLORS[key]}">{escape(name)}</text>',
        f'<text x="{x:.1f}" y="{y + 15:.1f}" font-size="11" text-anchor="middle" fill="#444b57">'
        f"{escape(_second_line(row))}</text>",
    ]


FORMATS = {"dot": as_dot, "mermaid": as_mermaid, "svg": as_svg}
