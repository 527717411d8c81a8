"""Waiting for a state, with a deadline: the only place of the lab that lets time pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["DeadlineExceededError", "wait_until"]

T = TypeVar("T")

_POLL_S = 0.05


class DeadlineExceededError(AssertionError):
    """The state did not come in time; the text says which, and what was there instead."""


def wait_until(
    check: Callable[[], T],
    deadline_s: float,
    what: str,
    *,
    explain: Callable[[], str] = str,
    poll_s: float = _POLL_S,
) -> T:
    """Call a function until it returns something true, and return that.

    A check that takes long is made less often, so that half of the time is left to what is awaited:
    some checks start a program. With `poll_s` 0 one follows the other.

    Args:
        check: asked at once, then every `poll_s`, and once more at the deadline.
        deadline_s: seconds to wait at most; be generous, a good run does not use it.
        what: the awaited state, for the message.
        explain: what is there instead, for the message.

    Raises:
        DeadlineExceededError: it stayed false.
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
