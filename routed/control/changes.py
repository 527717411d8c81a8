"""Changes for `monitor`: recorded as they occur, without ever waiting for those who watch.

    router --record--> ChangeHub: one log for each topic, with its last CHANGES_MAX changes
                           ^
    ChangeFeed (one for each client: a cursor for each topic) --pop_rows--> server

All feeds read the same logs, so a change is kept once and converted to a row once, however many
feeds there are; a feed costs its cursors. A feed that is read more slowly than the log turns over
loses the oldest changes, and its next row has their number.

Changes are converted to rows when the first feed reads them, so a million routes that change
together cost CHANGES_MAX entries and a number.

Invariants:
    Nothing waits for a feed. While there are no feeds, nothing is kept or computed.
    A feed has the changes of its topics in the order in which they were recorded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from ipc.lazy_dataclass import dataclass, field
from routed.control.rows import to_row
from routed.control.views import NextHopView
from routed.model.route import RouteSource, RouteType

__all__ = [
    "CHANGES_MAX",
    "ROWS_MAX",
    "WATCHES_PER_USER",
    "ChangeFeed",
    "ChangeHub",
    "ChangeView",
    "MakeView",
    "Topic",
]

CHANGES_MAX = 10_000
"""Changes of one topic that are kept for all feeds together; some megabytes."""

ROWS_MAX = 500
"""Rows returned at once: a few milliseconds for the first feed that reads them."""

WATCHES_PER_USER = 32
"""Feeds of one uid at the same time."""


class Topic(enum.Enum):
    """The kinds of changes that can be watched."""

    ROUTES = "routes"
    NEIGHBORS = "neighbors"
    LINKS = "links"


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change; fields that do not apply to its kind are None or empty."""

    kind: str
    """route, neighbor, link, or lost."""
    change: str
    """add, change or delete; of a neighbor its new state, of a link also up or down."""
    subject: str
    """The prefix, the router id, or the interface."""
    source: RouteSource | None = None
    metric: int | None = None
    type: RouteType | None = None
    next_hops: tuple[NextHopView, ...] = ()
    owner: str = ""
    interface: str = ""
    """The interface of a neighbor; else empty."""
    reason: str = ""
    lost: int = 0
    """Number of changes that were not kept; kind `lost`."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Kernel attributes of the route, by the words of ip-route(8)."""


MakeView = Callable[[], ChangeView]
Row = tuple[object, ...]
"""A change as plain values, in the order of the columns of `ChangeView`."""


class _Change:
    """One change in a log: its number among all changes, and its row once a feed has read it."""

    __slots__ = ("_make", "_row", "number")

    def __init__(self, number: int, make: MakeView) -> None:
        self.number = number
        self._make: MakeView | None = make
        self._row: Row = ()

    def row(self) -> Row:
        """Return the row, which is made by the first call."""
        if self._make is not None:
            self._row, self._make = to_row(self._make()), None
        return self._row


class _Log:
    """The last CHANGES_MAX changes of one topic, at ascending positions."""

    def __init__(self) -> None:
        self.end = 0
        """Position after the newest change: the number of all changes so far."""
        self._kept = 0
        self._ring: list[_Change] = []
        """Position p is at index p modulo its length, which is 0 while there are no feeds."""

    @property
    def start(self) -> int:
        """Position of the oldest change that is kept."""
        return self.end - self._kept

    def append(self, change: _Change) -> None:
        """Keep one change."""
        if not self._ring:
            self._ring = [change] * CHANGES_MAX
        self._ring[self.end % CHANGES_MAX] = change
        self._kept = min(self._kept + 1, CHANGES_MAX)
        self.end += 1

    def skip(self, count: int) -> None:
        """Count changes that are not kept, and drop those before them."""
        self._kept = 0
        self.end += count

    def clear(self) -> None:
        """Drop all changes."""
        self._kept = 0
        self._ring = []

    def __getitem__(self, position: int) -> _Change:
        """Return the change at a position, from `start` to before `end`."""
        return self._ring[position % CHANGES_MAX]


class ChangeFeed:
    """The changes that one client has not received yet."""

    def __init__(
        self, uid: int, logs: dict[Topic, _Log], on_close: Callable[[ChangeFeed], None]
    ) -> None:
        """Begin at the end of the logs.

        Args:
            uid: of the client.
            logs: of the topics that it watches.
            on_close: called when the feed is closed.
        """
        self.uid = uid
        self.topics = frozenset(logs)
        self._on_change: Callable[[], None] = lambda: None
        self._logs = logs
        self._cursors = {topic: log.end for topic, log in logs.items()}
        self._on_close = on_close

    def pop_rows(self) -> list[Row]:
        """Take the rows of the next changes, oldest first; none if there are none.

        The number of changes that were dropped before this feed was read has a row, which is first.

        Cost: ROWS_MAX steps at most; the row of a change is made by the first feed that reads it.
        """
        lost = 0
        for topic, log in self._logs.items():
            missed = max(log.start - self._cursors[topic], 0)
            self._cursors[topic] += missed
            lost += missed
        rows = [to_row(ChangeView("lost", "lost", "", lost=lost))] if lost else []
        while len(rows) < ROWS_MAX and (change := self._next()) is not None:
            rows.append(change.row())
        return rows

    def _next(self) -> _Change | None:
        """Take the oldest change that was not read; None if there is none."""
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

    def set_on_change(self, on_change: Callable[[], None]) -> None:
        """Have a function called whenever there are changes to read."""
        self._on_change = on_change

    def notify(self) -> None:
        """Report that there are changes to read."""
        self._on_change()

    def close(self) -> None:
        """End the feed."""
        self._on_close(self)


class ChangeHub:
    """Owns the logs and the feeds."""

    def __init__(self) -> None:
        self._logs = {topic: _Log() for topic in Topic}
        self._feeds: list[ChangeFeed] = []
        self._recorded = 0

    def watch(self, topics: frozenset[Topic], uid: int) -> ChangeFeed | None:
        """Begin a feed, which the caller closes.

        Args:
            topics: the topics to watch.
            uid: of the client.

        Returns:
            The feed; None if this user has WATCHES_PER_USER feeds already.
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
        """Return whether `record` would keep anything."""
        return any(topic in feed.topics for feed in self._feeds)

    def record(self, topic: Topic, changes: Iterable[MakeView], skipped: int = 0) -> None:
        """Keep changes if the topic is watched, and wake its feeds.

        Args:
            topic: of the changes.
            changes: oldest first.
            skipped: number of changes before these; not zero only if there are CHANGES_MAX of
                these.
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
                feed.notify()
