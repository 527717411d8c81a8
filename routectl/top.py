"""`top`: the state of the daemon on a full screen, refreshed every second.

    10.255.0.1  health ok  up 1h02m  neighbors 2  prefixes 5
    fib  4 desired, 4 installed, 0 failed, 0 pending   12/s kernel writes
    nup  8/s received, 6/s sent

    ROUTER ID   INTERFACE  ADDRESS  STATE  UPTIME  DEAD IN  RTT  COST  RETRANS  PREFIXES
    ...
    s sort (router_id, up)   r reverse   q quit

Rates are differences of counters between two samples. The text of the screen is made by pure
functions from two samples; prompt-toolkit only displays it.

Failure: while the daemon does not answer, the screen says so, and sampling continues.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from io import StringIO
from typing import NamedTuple

from prompt_toolkit.application import Application, get_app
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl

from ipc.blocking import ControlClient, ControlError
from ipc.control import ShowCounters, ShowNeighbors, ShowStatus
from routectl.render.health import health
from routectl.render.text import Row, TextOutput, duration_text, printable
from routectl.render.views import NEIGHBORS, fib_counts

__all__ = ["SORT_COLUMNS", "Sample", "Screen", "rates", "run_top", "take_sample"]

REFRESH_S = 1.0

SORT_COLUMNS = (
    "router_id", "interface", "state", "uptime_s", "rtt_ms", "cost", "retransmissions", "prefixes",
)  # fmt: skip


class Sample(NamedTuple):
    """The state of the daemon at one time."""

    at: float
    """Monotonic time in seconds."""
    status: Row
    neighbors: list[Row]
    counters: dict[str, int]


def take_sample(client: ControlClient) -> Sample:
    """Query the daemon once.

    Raises:
        ControlError: the daemon does not answer.
    """
    status = client.ask(ShowStatus()).row()
    neighbors = list(client.ask(ShowNeighbors()).rows())
    counters = {
        str(row.get("name")): value
        for row in client.ask(ShowCounters()).rows()
        if isinstance(value := row.get("value"), int)
    }
    return Sample(time.monotonic(), status, neighbors, counters)


def rates(before: Sample | None, now: Sample) -> dict[str, float]:
    """Return each counter's growth per second; empty before the second sample. A counter that has
    decreased, because the engine restarted, is left out."""
    if before is None or now.at <= before.at:
        return {}
    span = now.at - before.at
    return {
        name: (value - before.counters[name]) / span
        for name, value in now.counters.items()
        if value >= before.counters.get(name, value + 1)
    }


class Screen:
    """The content of the screen and its sort order. Owns the last two samples."""

    def __init__(self) -> None:
        self._before: Sample | None = None
        self._now: Sample | None = None
        self._problem = ""
        self._sort = 0
        self._is_reversed = False

    def is_due(self, now: float) -> bool:
        """Return whether a new sample is due; the screen is also drawn after each key."""
        return self._now is None or now - self._now.at >= 0.9 * REFRESH_S

    def take(self, sample: Sample) -> None:
        """Set the newest sample."""
        self._before, self._now, self._problem = self._now, sample, ""

    def fail(self, problem: str) -> None:
        """Set an error to show below the last sample."""
        self._problem = problem

    def sort_next(self) -> None:
        """Sort by the next column."""
        self._sort = (self._sort + 1) % len(SORT_COLUMNS)

    def turn_round(self) -> None:
        """Reverse the sort order."""
        self._is_reversed = not self._is_reversed

    def text(self, size: tuple[int, int] | None = None) -> str:
        """Return the whole screen, with colours.

        Args:
            size: lines and columns of the terminal; None if all fits. What does not fit is said in
                the last line.
        """
        out = StringIO()
        if self._now is not None:
            self._write_head(out, self._now)
            TextOutput(out, out, has_color=True).show(NEIGHBORS, [self._sorted(self._now)])
        if self._problem:
            out.write(f"\n\x1b[31m{printable(self._problem)}\x1b[0m\n")
        order = "down" if self._is_reversed else "up"
        keys = f"s sort ({SORT_COLUMNS[self._sort]}, {order})   r reverse   q quit"
        lines = out.getvalue().splitlines()
        cut = "" if size is None else _cut(lines, *size)
        return "\n".join([*lines, "", f"\x1b[2m{cut}{keys}\x1b[0m"])

    def _write_head(self, out: StringIO, now: Sample) -> None:
        status = now.status
        per_second = rates(self._before, now)
        fib = status.get("fib")
        totals = fib if isinstance(fib, dict) else {}
        head = (
            f"health {health(status)}  "
            f"up {duration_text(status.get('uptime_s'))}  neighbors {status.get('neighbors')}  "
            f"prefixes {status.get('routes')}"
        )
        name = printable(str(status.get("router_id")))
        out.write(f"\x1b[1m{name}\x1b[0m  {printable(head)}\n")
        counts = printable(fib_counts(totals))
        out.write(f"fib  {counts}   {_rate(per_second, 'fib_kernel_writes')} kernel writes\n")
        out.write(
            f"nup  {_rate(per_second, 'nup_received')} received, "
            f"{_rate(per_second, 'nup_sent')} sent\n\n"
        )

    def _sorted(self, now: Sample) -> Sequence[Row]:
        column = SORT_COLUMNS[self._sort]

        def key(row: Row) -> tuple[bool, bool, object, str]:
            value = row.get(column)
            is_number = isinstance(value, (int, float))
            # Missing values come last; the interface makes the order total.
            return (
                value is None,
                not is_number,
                value if is_number else str(value),
                str(row.get("interface")),
            )

        return sorted(now.neighbors, key=key, reverse=self._is_reversed)


_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def _cut(lines: list[str], rows: int, columns: int) -> str:
    """Remove the lines that do not fit above the line of keys, and say what is cut off."""
    most = max(rows - 2, 1)
    hidden = max(len(lines) - most, 0)
    del lines[most:]
    widest = max((len(_ESCAPE.sub("", line)) for line in lines), default=0)
    words = [f"{hidden} more lines"] if hidden else []
    if widest > columns:
        words.append(f"{widest - columns} more columns")
    return f"[{', '.join(words)}] " if words else ""


def _rate(per_second: dict[str, float], name: str) -> str:
    return f"{per_second[name]:.0f}/s" if name in per_second else "-"


def run_top(client: ControlClient) -> None:
    """Show the screen until the user leaves."""
    screen = Screen()

    def look() -> ANSI:
        if screen.is_due(time.monotonic()):
            try:
                screen.take(take_sample(client))
            except ControlError as error:
                screen.fail(error.text)
        size = get_app().output.get_size()
        return ANSI(screen.text((size.rows, size.columns)))

    Application[None](
        layout=Layout(Window(FormattedTextControl(look, focusable=True), wrap_lines=False)),
        key_bindings=_keys(screen),
        full_screen=True,
        refresh_interval=REFRESH_S,
    ).run()


def _keys(screen: Screen) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("q")
    @keys.add("c-c")
    @keys.add("c-d")
    def leave(event: KeyPressEvent) -> None:
        event.app.exit()

    @keys.add("s")
    def sort(event: KeyPressEvent) -> None:
        screen.sort_next()
        event.app.invalidate()

    @keys.add("r")
    def turn(event: KeyPressEvent) -> None:
        screen.turn_round()
        event.app.invalidate()

    return keys
