"""The daemon's health in words, and as the exit status of `routectl health`.

The daemon gives the verdict (`health` and `problems` of `show status`); a daemon that does not
answer has failed.
"""

from __future__ import annotations

from routectl.render.text import plain_text

TYPE_CHECKING = False
if TYPE_CHECKING:  # a one-shot command has no time for `typing`
    from collections.abc import Sequence

    from routectl.render.text import Row

__all__ = ["failed_row", "health", "health_row", "health_status", "verdict"]

_COLUMNS = ("health", "problems", "config_in_sync", "config_state", "confirm_left_s")


def health(status: Row) -> str:
    """Return the state in a few words: ok, syncing 12, failed 3, parent silent for 20s."""
    problems = status.get("problems")
    if isinstance(problems, list) and problems:
        return ", ".join(map(str, problems))
    return plain_text(status.get("health"))


def verdict(status: Row) -> str:
    """Return the line that `health` prints: `ok`, or `degraded: failed 3, shadowed 1`."""
    state, words = plain_text(status.get("health")), health(status)
    return state if words == state else f"{state}: {words}"


def health_row(status: Row) -> Row:
    """Return the columns of `health`, of a row of `show status`."""
    return {name: status.get(name) for name in _COLUMNS}


def failed_row(problem: str) -> Row:
    """Return the row of `health` of a daemon that does not answer."""
    return {**dict.fromkeys(_COLUMNS), "health": "failed", "problems": [problem]}


def health_status(rows: Sequence[Row]) -> int:
    """Return the exit status of `health`: 0 ok, 1 degraded, 2 failed or not known."""
    state = rows[0].get("health") if rows else None
    return {"ok": 0, "degraded": 1}.get(str(state), 2)
