"""What an instance waits for after its start, before it may rely on its table.

    link up, listening --> neighbors heard --> their tables received --> loaded
    after a restart also: the neighbors that the previous boot forwarded to, with complete tables

A table is complete when its sender, if it restarts as well, has received everything itself
(`lifecycle.has_complete_table`). `instance` keeps CONVERGING set on a link as long as routes that
are to be advertised there may still arrive on another link.

Bounds: `expect` sets a deadline; a link listens for LISTENING_INTERVALS; a table is waited for as
long as more of it arrives, at most LOADING_MAX_S. An instance counts as loaded BOOT_MAX_S after its
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
"""After this a life counts as loaded (`handler.GRACE_MAX_S`)."""


class Loading:
    """Owns what is expected of the first seconds; the links' own listening is theirs."""

    def __init__(self, links: Mapping[int, Link]) -> None:
        """Begin a life with these links, by index; none of an earlier one is known."""
        self.has_loaded = False
        """Whether all neighbors were once heard, each with its table."""
        self._links = links
        self._is_restart = False
        """Whether routes of an earlier life were found."""
        self._expected: dict[int, set[Address]] = {}
        """Per link that is not up yet: whom our earlier life was forwarding to."""
        self._expected_until = 0.0
        self._awaits_tables = False
        """After a restart: neighbors that restart, too, have not been told everything yet."""
        self._over_at: float | None = None
        """When nothing is waited for any more; None before the first link is up."""
        self._pending: Adjacency | None = None
        """One that was forming when we last looked."""

    def expect(self, neighbors: Iterable[tuple[int, Address]], until: float) -> None:
        """Learn whom our earlier life was forwarding to; `until` when they are waited for."""
        self._expected_until = until
        for ifindex, address in neighbors:
            self._expected.setdefault(ifindex, set()).add(address)
        self._is_restart = self._awaits_tables = bool(self._expected)

    def begin_link(self, link: Link, now: float) -> None:
        """A link has come up: those that are expected there are expected of it."""
        if self._over_at is None:
            self._over_at = now + BOOT_MAX_S
        if self._is_restart:
            link.expect(self._expected.pop(link.settings.ifindex, ()), now)

    def next_timer(self) -> float | None:
        """When waiting ends by itself; None when nothing is waited for that long."""
        times = [self._expected_until] if self._expected or self._awaits_tables else []
        if self._over_at is not None and not self.has_loaded:
            times.append(max(self._over_at, self._expected_until))
        return min(times, default=None)

    def update(self, now: float) -> None:
        """While whole tables are awaited, what comes by one link may be what another waits for."""
        if now >= self._expected_until:
            self._expected.clear()
        if self._awaits_tables:
            self._awaits_tables = now < self._expected_until
            for link in self._links.values():
                if link.is_converging:
                    link.touch()

    def pop_loaded(self, now: float) -> bool:
        """Whether everybody has now been heard for the first time."""
        if self.has_loaded or not self._links or self.awaits_links:
            return False
        self.has_loaded = self._has_heard_all(now)
        return self.has_loaded

    # --- how far it is

    @property
    def awaits_links(self) -> bool:
        """Whether a link is not up yet that an earlier life had neighbors on."""
        return bool(self._expected)

    def is_loaded(self, now: float) -> bool:
        """Whether all neighbors that are there have been heard and have told their tables; after a
        restart, whether these were whole."""
        return self._has_heard_all(now) and self.has_whole_tables()

    def has_whole_tables(self, but_for: Link | None = None) -> bool:
        """Whether no neighbor, those on one link aside, restarts as we do and has yet to learn."""
        return not self._awaits_tables or all(
            has_complete_table(neighbor.exchange)
            for link in self._links.values()
            if link is not but_for
            for neighbor in link.neighbors.values()
            if neighbor.is_present
        )

    def pending_adjacencies(self, now: float) -> int:
        """How many adjacencies are forming; a one-way one counts for its dead interval only."""
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
        """Whether an adjacency is forming: the one that last was is asked first.

        A link may be full of strangers that never get any further, and this is asked with every
        datagram until it is false.
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
    """Whether an adjacency is on its way to UP and has not been for too long."""
    match adjacency.state:
        case AdjacencyState.LOADING:
            return adjacency.loading_until is not None and now < adjacency.loading_until
        case AdjacencyState.INIT | AdjacencyState.TWO_WAY:
            return now < adjacency.pending_since + adjacency.patience_s
    return False
