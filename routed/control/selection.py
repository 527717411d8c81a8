"""Selections: what the requests `show routes`, `show fib` and `show log` ask for, validated."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Mapping, Sequence

from ipc.control import AddressFamily, ShowFib, ShowLog, ShowRoutes
from ipc.lazy_dataclass import dataclass
from ipc.route_rules import quoted
from ipc.texts import clip_text
from routed.control.views import FibState, LogView
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource
from routed.model.tables import ALL_TABLES, MAIN_TABLE

__all__ = [
    "LOG_LEVELS",
    "RouteSelector",
    "fib_selector",
    "log_lines",
    "no_level",
    "route_selector",
    "table_named",
]

LOG_LEVELS = ("debug", "info", "warning", "error")

TABLES_SHOWN = 20
"""Names of tables in the error for a table that does not exist."""

_EVENT_BYTES = 60
"""Bytes of a name that are compared with names of events: the cost grows with the length."""


@dataclass(frozen=True, slots=True)
class NupRouteSelector:
    """A selection of rows of NUP's own table; the default selects all."""

    prefix: Prefix | None = None
    neighbor: Address | None = None
    """Router id or address."""
    direction: str | None = None
    """`received` or `advertised`."""


@dataclass(frozen=True, slots=True)
class RouteSelector:
    """A selection of candidates; the default selects all."""

    family: Family | None = None
    prefix: Prefix | None = None
    is_longer: bool = False
    """With `prefix`: everything inside it, instead of exactly it."""
    source: RouteSource | None = None
    is_selected_only: bool = False
    neighbor: Address | None = None
    """Only candidates with a next hop that is the neighbor with this router id or address."""
    interface: str | None = None
    """Only candidates with a next hop on this interface."""
    via: Address | None = None
    """Only candidates with this gateway."""
    state: FibState | None = None
    """Only selected candidates, or desired routes, in this state."""
    table: str = MAIN_TABLE
    """The name of a table, or ALL_TABLES."""

    @property
    def selects_by_next_hop(self) -> bool:
        """Whether the next hops of a candidate have to be looked at."""
        return (self.neighbor, self.interface, self.via) != (None, None, None)

    def matches_prefix(self, prefix: Prefix) -> bool:
        """Return whether candidates of a prefix may be selected."""
        if self.family is not None and prefix.family != self.family:
            return False
        if self.prefix is None:
            return True
        return self.prefix.covers(prefix) if self.is_longer else prefix == self.prefix


def route_selector(request: ShowRoutes, tables: Mapping[str, int]) -> RouteSelector:
    """Return the candidates that a request selects.

    Args:
        request: of the client.
        tables: the number of each table, by its name.

    Raises:
        ValueError: no such prefix, source or table; the text is for the client.
    """
    return RouteSelector(
        _family(request.family),
        _prefix(request.prefix),
        request.is_longer,
        None if request.source is None else _source(request.source),
        request.is_selected_only,
        None if request.neighbor is None else Address.parse(request.neighbor),
        request.interface,
        None if request.via is None else Address.parse(request.via),
        None if request.state is None else _state(request.state),
        table_named(request.table, tables, may_be_all=True),
    )


def fib_selector(request: ShowFib, tables: Mapping[str, int]) -> RouteSelector:
    """Return the desired routes that a request selects; raises as `route_selector`."""
    return RouteSelector(
        _family(request.family),
        _prefix(request.prefix),
        request.is_longer,
        state=None if request.state is None else _state(request.state),
        table=table_named(request.table, tables, may_be_all=True),
    )


def table_named(name: str | None, tables: Mapping[str, int], *, may_be_all: bool = False) -> str:
    """Return the name of the table that a client has named.

    Args:
        name: a name or a number; None for the main table.
        tables: the number of each table, by its name.
        may_be_all: whether ALL_TABLES may stand for every table.

    Raises:
        ValueError: there is no such table; the text is for the client.
    """
    if name is None:
        return MAIN_TABLE
    if name in tables or (may_be_all and name == ALL_TABLES):
        return name
    found = next((known for known, table_id in tables.items() if str(table_id) == name), None)
    if found is None:
        shown = [*itertools.islice(tables, TABLES_SHOWN), *(["..."] * (len(tables) > TABLES_SHOWN))]
        raise ValueError(f"{quoted(name)} is no table of this daemon: {', '.join(shown)}")
    return found


def _prefix(text: str | None) -> Prefix | None:
    return None if text is None else Prefix.parse(text)


def _family(family: AddressFamily | None) -> Family | None:
    return None if family is None else Family[family.name]


def _state(name: str) -> FibState:
    try:
        return FibState(name)
    except ValueError:
        known = ", ".join(state.value for state in FibState)
        raise ValueError(f"{name!r} is no FIB state: {known}") from None


def _source(name: str) -> RouteSource:
    labels = {source.label: source for source in RouteSource}
    if name not in labels:
        raise ValueError(f"{name!r} is no route source: {', '.join(labels)}")
    return labels[name]


def log_lines(request: ShowLog, lines: Sequence[LogView], events: Collection[str]) -> list[LogView]:
    """Return the lines of the log that a request selects.

    Args:
        request: a level, an event, both or none.
        lines: all lines.
        events: the names of all events.

    Raises:
        ValueError: no such level or event; the text is for the client.
    """
    if request.level not in (None, *LOG_LEVELS):
        raise ValueError(no_level(request.level))
    if request.event is not None and request.event not in events:
        raise ValueError(_no_event(request.event, events))
    least = 0 if request.level is None else LOG_LEVELS.index(request.level)
    return [
        line
        for line in lines
        if LOG_LEVELS.index(line.level) >= least and request.event in (None, line.event)
    ]


def no_level(name: str | None) -> str:
    """Return the error for a level that does not exist."""
    return f"{name!r} is no log level: {', '.join(LOG_LEVELS)}"


def _no_event(name: str, events: Collection[str]) -> str:
    near = difflib.get_close_matches(clip_text(name, _EVENT_BYTES), events, 1)
    hint = f"; did you mean {near[0]}?" if near else ": the first word of a line is one"
    return f"{quoted(name)} is no event of the log{hint}"
