"""The branch `show nup` of the command tree."""

from __future__ import annotations

from ipc.control import Role
from ipc.nup_requests import ShowNupRoutes
from routectl.grammar import Ask, Branch, Flag, Invocation, Keyword, Leaf, Positional, ValueKind
from routectl.render.nup import NUP_ROUTES

__all__ = ["SHOW_NUP"]

_DIRECTIONS = ("received", "advertised")


def _ask(invocation: Invocation) -> ShowNupRoutes:
    given = [direction for direction in _DIRECTIONS if direction in invocation.values]
    direction = given[0] if len(given) == 1 else None
    return ShowNupRoutes(invocation.value("prefix"), invocation.value("neighbor"), direction)


SHOW_NUP = Branch(
    "nup",
    "The neighbor protocol",
    (
        Leaf(
            "routes",
            "The routes that neighbors advertise, infeasible ones included, and what routed "
            "advertises",
            "show nup routes 10.0.0.0/8 neighbor 10.255.0.2 received",
            Role.READ,
            Ask(_ask, NUP_ROUTES),
            (
                Positional("prefix", ValueKind.PREFIX, "Only this prefix"),
                Keyword(
                    "neighbor",
                    ValueKind.NEIGHBOR,
                    "Only from this neighbor, and what is advertised on its links",
                ),
                Flag("received", "Only what neighbors advertise"),
                Flag("advertised", "Only what routed advertises"),
            ),
        ),
    ),
)
