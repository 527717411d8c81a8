"""The commands about BFD, in the notation of `grammar`."""

from __future__ import annotations

from ipc.control import Role, ShowBfdSessions
from routectl.grammar import Ask, Branch, Invocation, Leaf, Positional, ValueKind
from routectl.render import bfd

__all__ = ["SHOW_BFD"]


def _ask(invocation: Invocation) -> ShowBfdSessions:
    return ShowBfdSessions(invocation.value("name"))


SHOW_BFD = Branch(
    "bfd",
    "Forwarding detection",
    (
        Leaf(
            "sessions",
            "The BFD sessions: state, timers, and how many next hops name each",
            "show bfd sessions",
            Role.READ,
            Ask(_ask, bfd.BFD_SESSIONS),
            (Positional("name", ValueKind.SESSION, "only this session"),),
        ),
        Leaf(
            "session",
            "One BFD session with all state variables and counters of RFC 5880",
            "show bfd session uplink1",
            Role.READ,
            Ask(_ask, bfd.BFD_SESSION),
            (Positional("name", ValueKind.SESSION, "the session", is_required=True),),
        ),
    ),
)
