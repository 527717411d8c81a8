"""The branch `wait` of the command tree: commands that end once the daemon has reached a state.

A condition is a function from the rows of an answer to what is still missing; the loop that asks
again is in `waiting.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipc.control import Role, ShowRoutes, ShowStatus
from routectl.grammar import Await, Branch, Fields, Invocation, Keyword, Leaf, Positional, ValueKind
from routectl.render.text import Row

__all__ = ["WAIT"]

_WITHIN = Keyword(
    "within", ValueKind.DURATION, "The longest wait; without it, that of --timeout (30 s)"
)


def _missing_sync(rows: Sequence[Row], _invocation: Invocation) -> str:
    """Every desired route is in the kernel, and nothing else of the daemon's."""
    problems = rows[0].get("problems") if rows else None
    found = [str(each) for each in problems] if isinstance(problems, list) else []
    return ", ".join(each for each in found if not each.startswith(_NOT_ABOUT_SYNC))


_NOT_ABOUT_SYNC = ("shadowed", "configuration")
"""Problems that do not pass by waiting: an operator has to act."""


def _missing_neighbors(rows: Sequence[Row], invocation: Invocation) -> str:
    count = rows[0].get("neighbors") if rows else None
    up = count if isinstance(count, int) else 0
    return "" if up >= int(invocation.value("count") or 0) else f"neighbors up: {up}"


def _missing_route(rows: Sequence[Row], invocation: Invocation) -> str:
    """The selected route is in the kernel; a connected one is the kernel's own."""
    for row in rows:
        if row.get("selected"):
            state = row.get("fib_state")
            if state in (None, "installed"):
                return ""
            return f"the route is {state}: {row.get('fib_reason') or 'not in the kernel yet'}"
    return f"no route for {invocation.value('prefix')}"


WAIT = Branch(
    "wait",
    "Wait until the daemon has reached a state, for scripts",
    (
        Leaf(
            "synced",
            "Wait until every desired route is in the kernel",
            "wait synced within 60s",
            Role.READ,
            Await(Fields(ShowStatus), _missing_sync),
            (_WITHIN,),
        ),
        Leaf(
            "neighbors",
            "Wait until at least this many adjacencies are up",
            "wait neighbors 2 within 60s",
            Role.READ,
            Await(Fields(ShowStatus), _missing_neighbors),
            (
                Positional("count", ValueKind.NUMBER, "How many", is_required=True),
                _WITHIN,
            ),
        ),
        Leaf(
            "route",
            "Wait until a route for exactly this prefix is selected and in the kernel",
            "wait route 10.0.0.0/8 within 60s",
            Role.READ,
            Await(Fields(ShowRoutes, ("@family", "prefix")), _missing_route),
            (
                Positional("prefix", ValueKind.PREFIX, "The prefix", is_required=True),
                _WITHIN,
            ),
        ),
    ),
)
