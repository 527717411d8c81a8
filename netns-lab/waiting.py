"""Waiting for a state, with a deadline: the only module of the lab that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["DeadlineExceededError", "wait_until"]

T = TypeVar("T")

_POLL_S = 0.05


class DeadlineExceededError(AssertionError):
    """The state was not reached in time; the text names it and the present state."""


def wait_until(
    check: Callable[[], T],
    deadline_s: float,
    what: str,
    *,
    explain: Callable[[], str] = str,
    poll_s: float = _POLL_S,
) -> T:
    """Call a function until it returns a true value, and return that value.

    After a check the pause is at least as long as the check took, because some checks start a
    program. With `poll_s` 0 there is no pause.

    Args:
        check: called at once, then every `poll_s`, and once more at the deadline.
        deadline_s: longest time to wait, in seconds; it should be generous, because it only matters
            on failure.
        what: the awaited state, for the message.
        explain: returns the present state, for the message.

    Raises:
        DeadlineExceededError: the value was false until the deadline.
    """
    ends_at = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        began_at = time.monotonic()
        is_last = began_at >= ends_at
        if result := check():
            return result
        if is_last:
            detail = explain()
            raise DeadlineExceededError(
                f"after {deadline_s:g} s still not: {what}" + (f"\n{detail}" if detail else "")
            )
        if poll_s:
            pause.wait(max(poll_s, time.monotonic() - began_at))
