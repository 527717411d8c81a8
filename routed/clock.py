"""Time for the edges: a monotonic clock that can be replaced, and jitter for everything periodic.

Cores take `now` as an argument and never come here. Wall time is read here only: where a number has
to grow across lives of the daemon (`origin_seqno`), and for the lifetimes of keys (`wall_time`).
"""

from __future__ import annotations

import random
import time
from typing import Protocol

__all__ = ["JITTER", "Clock", "MonotonicClock", "jitter", "origin_seqno", "wall_time"]

JITTER = 0.25
"""Share by which a period varies either way, so that routers started together drift apart."""


class Clock(Protocol):
    """What a room needs of time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()


def jitter(period_s: float, rng: random.Random) -> float:
    """A period varied by up to a quarter either way, evenly."""
    return period_s * rng.uniform(1 - JITTER, 1 + JITTER)


def wall_time() -> float:
    """Seconds since 1970, as this host believes; it may jump."""
    return time.time()  # noqa: TID251  (lifetimes of keys are agreed on in wall time)


def origin_seqno() -> int:
    """A 32-bit origin seqno later than any that an earlier life of this router used.

    Seconds since 1970 grow by one each second; a life that raises its seqno does so far more
    seldom. A clock that was set back by up to four years costs one seqno request per prefix; by
    more, and neighbors use this router when they have forgotten its earlier life (docs/nup.md,
    section 6).
    """
    return int(time.time()) & 0xFFFF_FFFF  # noqa: TID251  (must grow across restarts)
