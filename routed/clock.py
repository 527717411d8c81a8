"""Time for edge modules: a monotonic clock that tests can replace, and jitter for periodic tasks.

Core modules receive `now` as an argument and do not import this module. Wall time is read here for
a number that must grow across restarts of the daemon (`origin_seqno`) and for the lifetimes of keys
(`wall_time`), and in `routed.log.logger` for the time of a log line.
"""

from __future__ import annotations

import random
import time

__all__ = ["JITTER", "MonotonicClock", "jitter", "origin_seqno", "wall_time"]

JITTER = 0.25
"""The fraction by which a period varies up or down, so that routers that were started together do
not stay synchronised."""


class MonotonicClock:
    """The clock CLOCK_MONOTONIC."""

    def now(self) -> float:
        """Return monotonic time in seconds; only differences have a meaning."""
        return time.monotonic()


def jitter(period_s: float, rng: random.Random) -> float:
    """Vary a period by up to JITTER up or down, with a uniform distribution."""
    return period_s * rng.uniform(1 - JITTER, 1 + JITTER)


def wall_time() -> float:
    """Return this host's wall time in seconds since 1970, which may jump."""
    return time.time()  # noqa: TID251  (lifetimes of keys are agreed on in wall time)


def origin_seqno() -> int:
    """Return a 32-bit origin seqno later than any that this router used before its restart.

    The seqno is the wall time in seconds; a running router raises its seqno far less often than
    once a second. If the clock was set back by up to four years, that costs one seqno request per
    prefix. If it was set back by more, neighbors use this router only after they have forgotten its
    former seqno (docs/nup.md, section 6).
    """
    return int(time.time()) & 0xFFFF_FFFF  # noqa: TID251  (must grow across restarts)
