"""Detection of another router, not on our links, that has our router id. One for each neighbor.

A neighbor on the link that has our id is refused at once. One that is further away shows only in
routes that name us as their origin. Most of those are echoes of our own routes, or remains of an
earlier boot; another router is there when

- a prefix that we do not announce is still advertised after LEFTOVER_S, when no router keeps routes
of an earlier boot any more, or
- seqnos of ours that we never issued keep coming for a prefix that we announce (`seqno_limits`), or
one that we may not exceed is still advertised after that time.

Its routes are never used here, and ours are not used there: an operator has to know.

Bounds: REMEMBERED prefixes for each neighbor.
"""

from __future__ import annotations

from collections.abc import Iterable

from routed.model.prefix import Prefix

__all__ = ["LEFTOVER_S", "REMEMBERED", "DuplicateIdDetector"]

LEFTOVER_S = 150.0
"""The longest grace (120 s), and time for updates to cross the network."""
REMEMBERED = 16


class DuplicateIdDetector:
    """Prefixes that one neighbor advertises with our router id as their origin."""

    def __init__(self) -> None:
        self.is_reported = False
        """Whether the finding has been reported."""
        self._since: dict[Prefix, float] = {}
        """Prefixes that we do not announce, or not with that seqno; oldest first."""
        self._contested: Prefix | None = None

    def record(self, prefix: Prefix, now: float) -> None:
        """Record a prefix advertised as ours that we do not announce, or not with so new a
        seqno."""
        if len(self._since) < REMEMBERED:
            self._since.setdefault(prefix, now)

    def record_contested(self, prefix: Prefix) -> None:
        """Record that another router issues seqnos for a prefix that we announce."""
        self._contested = prefix

    def clear(self, prefixes: Iterable[Prefix]) -> None:
        """Remove prefixes that are no longer advertised as ours."""
        for prefix in prefixes:
            self._since.pop(prefix, None)
            if prefix == self._contested:
                self._contested = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to clear."""
        return not self._since and self._contested is None

    def found(self, now: float) -> Prefix | None:
        """Return a prefix that proves another router with our id; None when none does."""
        if self._contested is not None:
            return self._contested
        for prefix, since in self._since.items():
            return prefix if now >= since + LEFTOVER_S else None
        return None

    def next_timer(self) -> float | None:
        """Return when `found` may have a new result; None when one was reported."""
        if self.is_reported:
            return None
        for since in self._since.values():
            return since + LEFTOVER_S
        return None
