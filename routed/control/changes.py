"""What `monitor` shows: changes as they happen, to whoever watches, without ever waiting for them.

    rooms --note--> ChangeHub --> ChangeFeed (one for each watcher, bounded) --take--> server

A feed that is not emptied fast enough loses the newest changes, counts them, and says so in its
next row: a watcher may miss something, but never without knowing it.

Changes are kept as they come and made into views when they are taken, so a million routes that
change at once cost a watcher FEED_MAX entries and a number.

Invariants:
    Nobody who watches is ever waited for; with nobody watching nothing is kept or computed.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from routed.control.views import NextHopView
from routed.model.route import RouteSource, RouteType

__all__ = ["FEED_MAX", "ChangeFeed", "ChangeHub", "ChangeView", "Topic"]

FEED_MAX = 10_000
"""Changes kept for one watcher that is slow; some megabytes."""

TAKE_MAX = 500
"""Changes made into views at once: a few milliseconds."""


class Topic(enum.Enum):
    """What can be watched."""

    ROUTES = "routes"
    NEIGHBORS = "neighbors"
    LINKS = "links"


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change; what does not apply to its kind is None or empty."""

    kind: str
    """route, neighbor, link, or lost."""
    change: str
    """add, change or delete; of a neighbor its new state, of a link up or down."""
    subject: str
    """The prefix, the router id, the interface."""
    source: RouteSource | None = None
    metric: int | None = None
    type: RouteType | None = None
    next_hops: tuple[NextHopView, ...] = ()
    owner: str = ""
    interface: str = ""
    """Of a neighbor."""
    reason: str = ""
    lost: int = 0
    """How many changes were not kept; kind `lost`."""


MakeView = Callable[[], ChangeView]


class ChangeFeed:
    """What one watcher has not seen yet."""

    def __init__(self, topics: frozenset[Topic], leave: Callable[[ChangeFeed], None]) -> None:
        self.topics = topics
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to take."""
        self._leave = leave
        self._waiting: deque[MakeView] = deque()
        self._lost = 0

    def note(self, changes: Sequence[MakeView] | Iterable[MakeView], count: int) -> None:
        """Keep as many of these changes as there is room for.

        Args:
            changes: oldest first; not all of them are looked at.
            count: how many there are.
        """
        room = max(FEED_MAX - len(self._waiting), 0) if not self._lost else 0
        for _, change in zip(range(room), changes, strict=False):
            self._waiting.append(change)
        self._lost += max(count - room, 0)
        self.on_change()

    def take(self) -> list[ChangeView]:
        """The next changes, oldest first; empty when there are none."""
        taken = [self._waiting.popleft()() for _ in range(min(len(self._waiting), TAKE_MAX))]
        if not self._waiting and self._lost:
            taken.append(ChangeView("lost", "lost", "", lost=self._lost))
            self._lost = 0
        return taken

    def close(self) -> None:
        """Watch no more."""
        self._leave(self)


class ChangeHub:
    """Owns the feeds."""

    def __init__(self) -> None:
        self._feeds: list[ChangeFeed] = []

    def watch(self, topics: frozenset[Topic]) -> ChangeFeed:
        """A new feed; to be closed by whoever reads it."""
        feed = ChangeFeed(topics, self._feeds.remove)
        self._feeds.append(feed)
        return feed

    def is_watched(self, topic: Topic) -> bool:
        """Whether `note` would keep anything."""
        return any(topic in feed.topics for feed in self._feeds)

    def note(self, topic: Topic, changes: Callable[[], Iterable[MakeView]], count: int) -> None:
        """Tell every watcher of a topic.

        Args:
            topic: what the changes are of.
            changes: makes them, oldest first, anew for each watcher.
            count: how many.
        """
        for feed in self._feeds:
            if topic in feed.topics:
                feed.note(changes(), count)
