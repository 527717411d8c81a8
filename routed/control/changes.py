"""What `monitor` shows: changes as they happen, to whoever watches, without ever waiting for them.

    router --record--> ChangeHub: one log for each topic, the last CHANGES_MAX changes of it
                           ^
    ChangeFeed (one for each watcher: a cursor for each topic) --take--> server

All watchers read the same logs, so a change is kept once and made into a row once, however many
watch; a watcher costs its cursors. One that is slower than the log turns over loses the oldest
changes, and its next row says how many.

Changes are kept as they come and made into rows when the first watcher takes them, so a million
routes that change at once cost CHANGES_MAX entries and a number.

Invariants:
    A watcher is never waited for; while nobody watches nothing is kept or computed.
    A feed shows the changes of its topics in the order in which they were recorded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from routed.control.rows import to_row
from routed.control.views import NextHopView
from routed.model.route import RouteSource, RouteType

__all__ = [
    "CHANGES_MAX",
    "TAKE_MAX",
    "WATCHES_PER_USER",
    "ChangeFeed",
    "ChangeHub",
    "ChangeView",
    "MakeView",
    "Topic",
]

CHANGES_MAX = 10_000
"""Changes of one topic that are kept for all watchers together; some megabytes."""

TAKE_MAX = 500
"""Changes taken at once: a few milliseconds for whoever takes them first."""

WATCHES_PER_USER = 32
"""Monitors of one uid at a time."""


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
Row = tuple[object, ...]
"""A change as plain values, in the order of the columns of `ChangeView`."""


class _Change:
    """One change in a log: its number among all changes, and its row once somebody has taken it."""

    __slots__ = ("_make", "_row", "number")

    def __init__(self, number: int, make: MakeView) -> None:
        self.number = number
        self._make: MakeView | None = make
        self._row: Row = ()

    def row(self) -> Row:
        if self._make is not None:
            self._row, self._make = to_row(self._make()), None
        return self._row


class _Log:
    """The last CHANGES_MAX changes of one topic, at positions that only grow."""

    def __init__(self) -> None:
        self.end = 0
        """Position after the newest change: how many there ever were."""
        self._kept = 0
        self._ring: list[_Change] = []
        """Position p is at p modulo its length, which is 0 while nobody watches."""

    @property
    def start(self) -> int:
        """Position of the oldest change that is kept."""
        return self.end - self._kept

    def append(self, change: _Change) -> None:
        if not self._ring:
            self._ring = [change] * CHANGES_MAX
        self._ring[self.end % CHANGES_MAX] = change
        self._kept = min(self._kept + 1, CHANGES_MAX)
        self.end += 1

    def skip(self, count: int) -> None:
        """Count changes that are not kept; neither is what came before them."""
        self._kept = 0
        self.end += count

    def clear(self) -> None:
        self._kept = 0
        self._ring = []

    def __getitem__(self, position: int) -> _Change:
        """The change at a position from `start` to before `end`."""
        return self._ring[position % CHANGES_MAX]


class ChangeFeed:
    """What one watcher has not seen yet."""

    def __init__(
        self, uid: int, logs: dict[Topic, _Log], leave: Callable[[ChangeFeed], None]
    ) -> None:
        """Begin at the end of the logs.

        Args:
            uid: of the watcher.
            logs: of the topics that it watches.
            leave: called when it watches no more.
        """
        self.uid = uid
        self.topics = frozenset(logs)
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to take."""
        self._logs = logs
        self._cursors = {topic: log.end for topic, log in logs.items()}
        self._leave = leave

    def take(self) -> list[Row]:
        """The next changes, oldest first; empty when there are none.

        What was dropped before this watcher has seen it is counted in a row of its own, first.

        Cost: TAKE_MAX steps at most; a change's row is made by the first feed that takes it.
        """
        lost = 0
        for topic, log in self._logs.items():
            missed = max(log.start - self._cursors[topic], 0)
            self._cursors[topic] += missed
            lost += missed
        rows = [to_row(ChangeView("lost", "lost", "", lost=lost))] if lost else []
        while len(rows) < TAKE_MAX and (change := self._next()) is not None:
            rows.append(change.row())
        return rows

    def _next(self) -> _Change | None:
        """The oldest change that this watcher has not seen."""
        waiting = [
            (log[position].number, topic)
            for topic, log in self._logs.items()
            if (position := self._cursors[topic]) < log.end
        ]
        if not waiting:
            return None
        _, topic = min(waiting, key=lambda pair: pair[0])
        self._cursors[topic] += 1
        return self._logs[topic][self._cursors[topic] - 1]

    def close(self) -> None:
        """Watch no more."""
        self._leave(self)


class ChangeHub:
    """Owns the logs and the feeds."""

    def __init__(self) -> None:
        self._logs = {topic: _Log() for topic in Topic}
        self._feeds: list[ChangeFeed] = []
        self._recorded = 0

    def watch(self, topics: frozenset[Topic], uid: int) -> ChangeFeed | None:
        """A new feed, to be closed by whoever reads it.

        Args:
            topics: what is watched.
            uid: who watches.

        Returns:
            None when this user has WATCHES_PER_USER feeds already.
        """
        if sum(feed.uid == uid for feed in self._feeds) >= WATCHES_PER_USER:
            return None
        feed = ChangeFeed(uid, {topic: self._logs[topic] for topic in topics}, self._close)
        self._feeds.append(feed)
        return feed

    def _close(self, feed: ChangeFeed) -> None:
        self._feeds.remove(feed)
        for topic, log in self._logs.items():
            if not self.is_watched(topic):
                log.clear()

    def is_watched(self, topic: Topic) -> bool:
        """Whether `record` would keep anything."""
        return any(topic in feed.topics for feed in self._feeds)

    def record(self, topic: Topic, changes: Iterable[MakeView], skipped: int = 0) -> None:
        """Keep changes for whoever watches the topic, and wake them.

        Args:
            topic: what the changes are of.
            changes: oldest first.
            skipped: how many more there were before these; not zero only where there are
                CHANGES_MAX of these.
        """
        if not self.is_watched(topic):
            return
        log = self._logs[topic]
        if skipped:
            log.skip(skipped)
        for make in changes:
            self._recorded += 1
            log.append(_Change(self._recorded, make))
        for feed in self._feeds:
            if topic in feed.topics:
                feed.on_change()
