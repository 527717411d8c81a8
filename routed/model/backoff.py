"""The pause before something that failed is tried again."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Backoff"]

_DOUBLINGS_MAX = 32
"""Far beyond every limit in use. Without a bound the power exceeds a float after 1,024 attempts,
which a route that the kernel refuses once a minute reaches in 17 hours."""


class Backoff(NamedTuple):
    """A pause that doubles with each failed attempt, up to a limit."""

    first_s: float
    limit_s: float

    def pause_s(self, failures: int) -> float:
        """Calculate the pause after so many failed attempts in a row, at least one."""
        doublings = min(failures - 1, _DOUBLINGS_MAX)
        return min(self.first_s * float(1 << doublings), self.limit_s)
