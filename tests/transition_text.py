"""Transition tables as text, to compare with the pages that show them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["table_text"]


_State = TypeVar("_State", bound=enum.Enum)
_Event = TypeVar("_Event", bound=enum.Enum)


def table_text(
    transitions: Mapping[tuple[_State, _Event], tuple[_State, enum.Enum]],
) -> str:
    """Format a complete table as Markdown: one line for each event, one column for each state.

    Args:
        transitions: the next state and the action, by state and event; their values are texts.
    """
    states = list(dict.fromkeys(state for state, _ in transitions))
    events = list(dict.fromkeys(event for _, event in transitions))
    lines = [
        f"| event | {' | '.join(state.value for state in states)} |",
        f"| --- {'| --- ' * len(states)}|",
    ]
    for event in events:
        cells = []
        for state in states:
            follows, action = transitions[state, event]
            move = "" if follows is state else f" → {follows.value}"
            cells.append(f"{action.value}{move}")
        lines.append(f"| {event.value} | {' | '.join(cells)} |")
    return "\n".join(lines)
