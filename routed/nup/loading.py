"""The wait of an instance after its start, until it may rely on its table.

    link up, listening --> neighbors heard --> their tables received --> loaded
    after a restart also: the neighbors that the previous boot forwarded to, with complete tables

A table is complete when its sender, if it restarts as well, has received everything itself
(`lifecycle.has_complete_table`). `instance` keeps CONVERGING set on a link as long as routes that
are to be advertised there may still arrive on another link.

Bounds: `expect` sets a deadline; a link listens for LISTENING_INTERVALS; a table is awaited as long
as more of it arrives, at most LOADING_MAX_S. An instance counts as loaded BOOT_MAX_S after its
first link came up, whatever its neighbors do: no neighbor keeps the routes of the previous boot for
longer, and flapping stations would otherwise delay it without end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routed.model.prefix import Address
from routed.nup.events import AdjacencyState
from routed.nup.lifecycle import has_complete_table
from routed.nup.link.adjacency import Adjacency
from routed.nup.link.state import Link

__all__ = ["Loading"]

BOOT_MAX_S = 120.0
"""After this an instance counts as loaded (`receive.GRACE_MAX_S`)."""


class Loading:
    """Owner of what is awaited after the start; each link owns its own listening time."""

    def __init__(self, links: Mapping[int, Link]) -> None:
        """Start with these links, by index; no neighbor of a previous boot is known."""
        self.has_loaded = False
        """Whether all neighbors have once been heard, each with its table."""
        self._links = links
        self._is_restart = False
        """Whether routes of a previous boot were found."""
        self._expected: dict[int, set[Address]] = {}
        """Neighbors that our previous boot forwarded to, by link that is not up yet."""
        self._expected_until = 0.0
        self._awaits_tables = False
        """After a restart: whether neighbors that restart, too, may still lack routes."""
        self._over_at: float | None = None
        """Time at which all waiting ends; None before the first link is up."""
        self._pending: Adjacency | None = None
        """An adjacency that was forming at the last check."""

    def expect(self, neighbors: Iterable[tuple[int, Address]], until: float) -> None:
        """Record the neighbors that our previous boot forwarded to, and the deadline of the
        wait."""
        self._expected_until = until
        for ifindex, address in neighbors:
            self._expected.setdefault(ifindex, set()).add(address)
        self._is_restart = self._awaits_tables = bool(self._expected)

    def begin_link(self, link: Link, now: float) -> None:
        """Apply a link that has come up: it now waits for the neighbors that are expected there."""
        if self._over_at is None:
            self._over_at = now + BOOT_MAX_S
        if self._is_restart:
            link.expect(self._expected.pop(link.settings.ifindex, ()), now)

    def next_timer(self) -> float | None:
        """Return when waiting ends by itself; None when nothing has such a deadline."""
        times = [self._expected_until] if self._expected or self._awaits_tables else []
        if self._over_at is not None and not self.has_loaded:
            times.append(max(self._over_at, self._expected_until))
        return min(times, default=None)

    def update(self, now: float) -> None:
        """Apply the deadlines; while complete tables are awaited, touch the converging links,
        because a table from one link may be what another waits for."""
        if now >= self._expected_until:
            self._expected.clear()
        if self._awaits_tables:
            self._awaits_tables = now < self._expected_until
            for link in self._links.values():
                if link.is_converging:
                    link.touch()

    def pop_loaded(self, now: float) -> bool:
        """Return True once, when all neighbors have been heard for the first time."""
        if self.has_loaded or not self._links or self.awaits_links:
            return False
        self.has_loaded = self._has_heard_all(now)
        return self.has_loaded

    # --- how far it is

    @property
    def awaits_links(self) -> bool:
        """Whether a link with neighbors of the previous boot is not up yet."""
        return bool(self._expected)

    def is_loaded(self, now: float) -> bool:
        """Return whether all present neighbors have been heard and have sent their tables; after a
        restart, whether these were complete."""
        return self._has_heard_all(now) and self.has_whole_tables()

    def has_whole_tables(self, but_for: Link | None = None) -> bool:
        """Return whether no neighbor, those on one link aside, is itself restarting and still lacks
        routes."""
        return not self._awaits_tables or all(
            has_complete_table(neighbor.exchange)
            for link in self._links.values()
            if link is not but_for
            for neighbor in link.neighbors.values()
            if neighbor.is_present
        )

    def pending_adjacencies(self, now: float) -> int:
        """Return how many adjacencies are forming; a one-way one counts for its dead interval
        only."""
        return sum(
            _is_pending(neighbor.adjacency, now)
            for link in self._links.values()
            for neighbor in link.neighbors.values()
        )

    def _has_heard_all(self, now: float) -> bool:
        if self._over_at is not None and now >= max(self._over_at, self._expected_until):
            return True
        is_listening = any(link.listening_until is not None for link in self._links.values())
        return not is_listening and not self._is_any_pending(now)

    def _is_any_pending(self, now: float) -> bool:
        """Return whether an adjacency is forming: the last one found is checked first.

        A link may be full of unauthenticated senders that never get any further, and this is
        checked for every datagram until it is false.
        """
        last = self._pending
        if last is None or not _is_pending(last, now):
            self._pending = next(
                (
                    neighbor.adjacency
                    for link in self._links.values()
                    for neighbor in link.neighbors.values()
                    if _is_pending(neighbor.adjacency, now)
                ),
                None,
            )
        return self._pending is not None


def _is_pending(adjacency: Adjacency, now: float) -> bool:
    """Return whether an adjacency is forming and has not taken too long."""
    match adjacency.state:
        case AdjacencyState.LOADING:
            return adjacency.loading_until is not None and now < adjacency.loading_until
        case AdjacencyState.INIT | AdjacencyState.TWO_WAY:
            return now < adjacency.pending_since + adjacency.patience_s
    return False
