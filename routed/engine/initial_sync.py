"""The first time that this router is in sync after a start.

Nothing of an earlier engine is removed from the kernel before this router has sent that it desires
nothing more: links are complete, and every neighbor that can be expected has sent its table. An
expected neighbor is heard within its dead interval. So the router is in sync once that has passed
and NUP is loaded, at the latest SYNC_LIMIT_S after it has passed.

Routes that NUP learns may be deferred after a restart (`FibProgramming.defers_learned`). They are
released once NUP is loaded, at the latest when the dead interval has passed.
"""

from __future__ import annotations

from routed.engine.fib.programming import FibProgramming
from routed.nup.instance import NeighborInstance
from routed.rib.table import Rib

__all__ = ["SYNC_LIMIT_S", "InitialSync"]

SYNC_LIMIT_S = 30.0
"""Longest wait for neighbors that were heard and are still loading."""

_POLL_S = 0.05


class InitialSync:
    """Owns the deadline, and whether the router is in sync."""

    def __init__(self, neighbors: NeighborInstance, programming: FibProgramming, rib: Rib) -> None:
        """Begin out of sync.

        Args:
            neighbors: reports when it is loaded.
            programming: is notified when learned routes may be installed, and of the end.
            rib: holds the learned routes.
        """
        self.are_links_complete = False
        self._neighbors = neighbors
        self._programming = programming
        self._rib = rib
        self.is_in_sync = False
        """Whether removals are allowed: links and neighbors are known."""
        self._in_sync_at = 0.0

    def links_complete(self, in_sync_at: float) -> None:
        """Begin to wait for neighbors.

        Args:
            in_sync_at: when every neighbor that is there has been heard.
        """
        self.are_links_complete = True
        self._in_sync_at = in_sync_at

    def seconds_to_check(self, now: float) -> float:
        """Return after how many seconds to check again, although nothing has changed."""
        if self._programming.defers_learned:
            return _POLL_S
        if self.is_in_sync or not self.are_links_complete:
            return float("inf")
        # Adjacencies wake the decision task when they change; here only time matters.
        return max(self._in_sync_at - now, _POLL_S)

    def release_learned(self, now: float) -> None:
        """Let learned routes into the kernel, once NUP has all of them."""
        if not self._programming.defers_learned:
            return
        is_loaded = self._neighbors.is_loaded(now) and not self._neighbors.awaits_links
        if not is_loaded and now < self._in_sync_at:
            return
        self._neighbors.await_forwarding(True, now)
        self._programming.release_learned(self._rib.choices())

    def check(self, now: float) -> None:
        """Find out whether the router is in sync now."""
        if self.is_in_sync or not self.are_links_complete or now < self._in_sync_at:
            return
        if now >= self._in_sync_at + SYNC_LIMIT_S or self._neighbors.is_loaded(now):
            self.is_in_sync = True
            self._programming.set_in_sync()
