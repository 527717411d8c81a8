"""A plot of cost against size, as SVG: four log-log panels, one line per topology.

It is drawn by our own code: a plotting library for one picture would be another dependency. The
colors can be distinguished by people who do not see all of them (Okabe and Ito, 2008), and every
line has a marker of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["draw_plot"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus")

PANEL_WIDTH, PANEL_HEIGHT = 380, 260
LEFT, TOP, GAP_X, GAP_Y = 70, 50, 90, 90
LEGEND_HEIGHT = 40

PANELS = (
    ("start_s", "From switching on to the last change", "virtual seconds"),
    ("cut_s", "From a cut wire to the last change", "virtual seconds"),
    ("start_bytes", "Sent per router while starting", "bytes"),
    ("cut_bytes", "Sent per router because of the cut", "bytes"),
)


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis, from a power of ten to 1, 2 or 5 times one."""

    low: float
    high: float
    """The values at its ends."""
    start: float
    end: float
    """Pixels."""

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low = 10.0 ** math.floor(math.log10(min(values)))
        decade = 10.0 ** math.floor(math.log10(max(values)))
        high = next(step * decade for step in (1, 2, 5, 10) if max(values) <= step * decade)
        return cls(low, max(high, 10 * low), start, end)

    def at(self, value: float) -> float:
        share = math.log(value / self.low, self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """Every power of ten, and the end."""
        tick = self.low
        while tick < self.high * 0.999:
            yield tick
            tick *= 10
        yield self.high


def _number(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value / 1000:g} k" if value >= 1000 else f"{value:g}"


def _text(x: float, y: float, words: str, *, anchor: str = "middle", size: int = 12) -> str:
    style = f'font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{color}" fill="none"/>'


def _pending_updates(kind: str, x: float, y: float, color: str) -> str:
    match kind:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>'
        case "square":
            path = f"M{x - 3:.1f} {y - 3:.1f}h6v6h-6z"
        case "triangle":
            path = f"M{x:.1f} {y - 4:.1f}l4 7h-8z"
        case "diamond":
            path = f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"
        case "cross":
            return (
                f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{color}" '
                'stroke-width="2"/>'
            )
        case _:
            return (
                f'<path d="M{x - 4.5:.1f} {y:.1f}h9m-4.5 -4.5v9" stroke="{color}" '
                'stroke-width="2"/>'
            )
    return f'<path d="{path}" fill="{color}"/>'


def _panel(
    rows: Sequence[Mapping[str, Any]], field: str, title: str, unit: str, x: float, y: float
) -> Iterator[str]:
    """Draw one field against the number of routers; a logarithmic scale has no zero."""
    shown = [row for row in rows if row[field] > 0]
    if not shown:
        return
    across = _Axis.over([row["routers"] for row in shown], x, x + PANEL_WIDTH)
    upward = _Axis.over([row[field] for row in shown], y + PANEL_HEIGHT, y)
    yield _text(x + PANEL_WIDTH / 2, y - 14, title, size=14)
    for tick in across.ticks():
        yield _line(across.at(tick), y, across.at(tick), y + PANEL_HEIGHT, "#dddddd")
        yield _text(across.at(tick), y + PANEL_HEIGHT + 18, _number(tick))
    for tick in upward.ticks():
        yield _line(x, upward.at(tick), x + PANEL_WIDTH, upward.at(tick), "#dddddd")
        yield _text(x - 8, upward.at(tick) + 4, _number(tick), anchor="end")
    yield _text(x + PANEL_WIDTH / 2, y + PANEL_HEIGHT + 38, "routers")
    middle = y + PANEL_HEIGHT / 2
    yield f'<g transform="rotate(-90 {x - 52:.0f} {middle:.0f})">'
    yield _text(x - 52, middle, unit) + "</g>"
    for number, topology in enumerate(dict.fromkeys(row["topology"] for row in rows)):
        points = [
            (across.at(row["routers"]), upward.at(row[field]))
            for row in shown
            if row["topology"] == topology
        ]
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        if points:
            yield f'<path d="M{path}" stroke="{color}" stroke-width="1.5" fill="none"/>'
        yield from (_pending_updates(marker, px, py, color) for px, py in points)


def _legend(topologies: Sequence[str], width: float) -> Iterator[str]:
    step = width / (len(topologies) + 1)
    for number, topology in enumerate(topologies):
        x = step * (number + 0.6)
        color = COLORS[number % len(COLORS)]
        yield _line(x - 14, 22, x + 14, 22, color)
        yield _pending_updates(MARKERS[number % len(MARKERS)], x, 22, color)
        yield _text(x + 20, 26, topology, anchor="start", size=13)


def draw_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the picture.

    Args:
    rows: outcomes as `Outcome.to_json` returns them, by topology and size.
    """
    width = LEFT + 2 * PANEL_WIDTH + GAP_X + 30
    height = LEGEND_HEIGHT + TOP + 2 * PANEL_HEIGHT + GAP_Y + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(list(dict.fromkeys(str(row["topology"]) for row in rows)), width),
    ]
    for number, (field, title, unit) in enumerate(PANELS):
        x = LEFT + number % 2 * (PANEL_WIDTH + GAP_X)
        y = LEGEND_HEIGHT + TOP + number // 2 * (PANEL_HEIGHT + GAP_Y)
        parts += _panel(rows, field, title, unit, x, y)
    return "\n".join([*parts, "</svg>"]) + "\n"
