"""The logs that all feeds share: order, dropped changes, and the cost of many feeds."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pytest

from routed.control import changes
from routed.control.changes import (
    ROWS_MAX,
    WATCHES_PER_USER,
    ChangeFeed,
    ChangeHub,
    ChangeView,
    MakeView,
    Topic,
)
from routed.control.rows import columns_of
from routed.engine.show.changes import ChangeObserver
from routed.model.prefix import Family, Prefix
from routed.model.route import PathAttributes, RouteSource
from routed.rib.table import BestPath, BestPathChanges

SUBJECT = columns_of(ChangeView).index("subject")
LOST = columns_of(ChangeView).index("lost")
EVERYTHING = frozenset(Topic)


class Views:
    """Makes views and counts how many were made."""

    def __init__(self) -> None:
        self.made = 0

    def of(self, subjects: Iterable[str]) -> list[MakeView]:
        return [functools.partial(self._make, subject) for subject in subjects]

    def _make(self, subject: str) -> ChangeView:
        self.made += 1
        return ChangeView("route", "add", subject)


@pytest.fixture
def hub() -> ChangeHub:
    return ChangeHub()


@pytest.fixture
def views() -> Views:
    return Views()


def watching(hub: ChangeHub, *topics: Topic, uid: int = 1000) -> ChangeFeed:
    feed = hub.watch(frozenset(topics) or EVERYTHING, uid)
    assert feed is not None
    return feed


def subjects(feed: ChangeFeed) -> list[object]:
    """Read all rows of a feed."""
    found = []
    while rows := feed.pop_rows():
        assert len(rows) <= ROWS_MAX
        found += [row[SUBJECT] for row in rows]
    return found


def test_topics_are_merged_in_the_order_of_their_changes(hub: ChangeHub, views: Views) -> None:
    feed, of_links = watching(hub), watching(hub, Topic.LINKS)
    hub.record(Topic.ROUTES, views.of("ab"))
    hub.record(Topic.LINKS, views.of("c"))
    hub.record(Topic.NEIGHBORS, views.of("d"))
    hub.record(Topic.ROUTES, views.of("e"))
    assert subjects(feed) == [*"abcde"]
    assert subjects(of_links) == ["c"]
    assert subjects(feed) == []


def test_a_feed_begins_when_it_is_opened(hub: ChangeHub, views: Views) -> None:
    early = watching(hub)
    hub.record(Topic.ROUTES, views.of("a"))
    late = watching(hub)
    hub.record(Topic.ROUTES, views.of("b"))
    assert subjects(early) == ["a", "b"]
    assert subjects(late) == ["b"]


def test_a_change_is_converted_to_a_row_once_for_all_feeds(hub: ChangeHub, views: Views) -> None:
    crowd = [watching(hub, uid=uid) for uid in range(200)]
    hub.record(Topic.ROUTES, views.of(map(str, range(1000))))
    assert views.made == 0, "nobody has taken any"
    assert all(len(subjects(feed)) == 1000 for feed in crowd)
    assert views.made == 1000


def test_feeds_that_are_not_read_keep_one_log(
    hub: ChangeHub, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_MAX", 10)
    crowd = [watching(hub, uid=uid) for uid in range(200)]
    for start in range(0, 1000, 5):
        hub.record(Topic.ROUTES, views.of(map(str, range(start, start + 5))))
    kept = [log._kept for log in hub._logs.values()]
    assert sum(kept) == 10
    for feed in crowd:
        lost, *rows = feed.pop_rows()
        assert lost[LOST] == 990
        assert [row[SUBJECT] for row in rows] == [str(number) for number in range(990, 1000)]
    assert views.made == 10


@pytest.mark.parametrize("first", [0, 3, 10, 17])
def test_a_burst_larger_than_the_log_leaves_its_newest(
    first: int, hub: ChangeHub, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_MAX", 10)
    feed = watching(hub)
    hub.record(Topic.ROUTES, views.of("x" * first))
    hub.record(Topic.ROUTES, views.of("0123456789"), skipped=1_000_000)
    lost, *rows = feed.pop_rows()
    assert lost[LOST] == 1_000_000 + first
    assert [row[SUBJECT] for row in rows] == [*"0123456789"]


def test_routes_do_not_displace_changes_of_links(
    hub: ChangeHub, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_MAX", 10)
    feed, other = watching(hub, Topic.LINKS), watching(hub, Topic.ROUTES)
    hub.record(Topic.LINKS, views.of("a"))
    hub.record(Topic.ROUTES, views.of(map(str, range(100))))
    assert subjects(feed) == ["a"]
    assert len(subjects(other)) == 11


def test_nothing_is_kept_without_feeds(hub: ChangeHub, views: Views) -> None:
    hub.record(Topic.ROUTES, views.of("a"))
    feed = watching(hub, Topic.ROUTES)
    hub.record(Topic.LINKS, views.of("b"))
    hub.record(Topic.ROUTES, views.of("c"))
    feed.close()
    assert not hub.is_watched(Topic.ROUTES)
    assert [len(log._ring) for log in hub._logs.values()] == [0, 0, 0]
    again = watching(hub)
    assert subjects(again) == []
    hub.record(Topic.ROUTES, views.of("d"))
    assert subjects(again) == ["d"]


def test_the_number_of_monitors_is_bounded_for_each_user(hub: ChangeHub) -> None:
    feeds = [watching(hub, uid=1000) for _ in range(WATCHES_PER_USER)]
    assert hub.watch(EVERYTHING, 1000) is None
    watching(hub, uid=1001)
    feeds[0].close()
    watching(hub, uid=1000)


def test_of_a_million_routes_the_observer_records_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full table costs the length of the log, not a lookup of every route."""

    looks: list[Prefix] = []

    def had_route(prefix: Prefix) -> bool:
        looks.append(prefix)
        return len(looks) == 1

    monkeypatch.setattr("routed.engine.show.changes.CHANGES_MAX", 10)
    hub = ChangeHub()
    observer = ChangeObserver(hub, str)
    feed = hub.watch(EVERYTHING, 0)
    assert feed is not None
    best = BestPath(PathAttributes(1, 0, RouteSource.STATIC, ""), ())
    keys = [Prefix(Family.IPV4, number << 8, 24).as_int for number in range(1000)]
    observer.routes_changed(BestPathChanges(Family.IPV4, keys, [best] * 1000), had_route)
    assert len(looks) == 10
    change = columns_of(ChangeView).index("change")
    assert [row[change] for row in feed.pop_rows()] == ["lost", "change", *["add"] * 9]
