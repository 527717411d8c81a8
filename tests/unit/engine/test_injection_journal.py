"""Injected routes outlive the engine that received them, whatever happens in between."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.engine.injection import journal as injection_journal
from routed.engine.injection.journal import (
    Journal,
    Kept,
    Record,
    Removed,
    Renewed,
)
from routed.engine.injection.leases import InjectedRoutes
from routed.imsg.columns import pack_keys
from routed.model.injection import InjectedAttributes
from routed.model.kernel_attributes import attributes_of
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import Gateway, RouteColumn, RouteType
from routed.rib.table import Rib

PREFIXES = [Prefix(Family.IPV4, (10 << 24) + (number << 16), 16) for number in range(6)]
OWNERS = ("uid0", "uid1000/web")
ATTRIBUTES = (
    InjectedAttributes(RouteType.BLACKHOLE, (), 0, 0),
    InjectedAttributes(
        RouteType.UNICAST, (Gateway(Address.parse("192.0.2.1"), "eth0"),), 7, 9,
        attributes_of((("src", "192.0.2.9"), ("mtu", "lock 1400"), ("tos", "0x10"))),
    ),
)  # fmt: skip

Held = dict[tuple[str, str], tuple[RouteType, int, float | None]]


class Files:
    """The two files, as the parent holds them."""

    def __init__(self) -> None:
        self.descriptors = [os.memfd_create("journal") for _ in range(2)]
        for descriptor in self.descriptors:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)

    def contents(self) -> list[bytes]:
        return [os.pread(fd, 1 << 24, 0) for fd in self.descriptors]

    def cut(self, number: int, size: int) -> None:
        os.ftruncate(self.descriptors[number], size)

    def copies(self) -> list[int]:
        return [os.dup(descriptor) for descriptor in self.descriptors]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.fixture
def files() -> Iterator[Files]:
    files = Files()
    yield files
    files.close()


class Engine:
    """One engine: its injected routes and their journal."""

    def __init__(self, files: Files, now: float = 0.0) -> None:
        self.complaints: list[str] = []
        self.rib = Rib(lambda: 0.0)
        self.injected = InjectedRoutes(self.rib)
        self.journal = Journal(files.copies(), self.complaints.append)
        for kept in self.journal.restore(now):
            left = None if kept.until is None else kept.until - now
            self._put(kept.owner, kept.column(), kept.attributes, left, now)

    def _put(
        self,
        owner: str,
        column: RouteColumn,
        attributes: tuple[InjectedAttributes, ...],
        lease_s: float | None,
        now: float,
    ) -> None:
        problems = self.injected.put(
            owner, [column], attributes, is_replace=True, lease_s=lease_s, session=None, now=now
        )
        assert not problems

    def put(
        self, owner: str, prefixes: list[Prefix], number: int, lease_s: float | None, now: float
    ) -> None:
        keys = [prefix.as_int for prefix in prefixes]
        column = RouteColumn(Family.IPV4, keys, [number] * len(keys))
        self._put(owner, column, ATTRIBUTES, lease_s, now)
        until = None if lease_s is None else now + lease_s
        self.journal.append(Kept.of(owner, column, ATTRIBUTES, until), now)

    def delete(self, owner: str, prefixes: list[Prefix], now: float) -> None:
        def told(whose: str, family: Family, keys: list[int]) -> None:
            self.journal.append(Removed(whose, family, pack_keys(family, keys)), now)

        keys = [prefix.as_int for prefix in prefixes]
        self.injected.delete((owner,), [RouteColumn(Family.IPV4, keys, [])], told)

    def renew(self, owner: str, lease_s: float, now: float) -> None:
        self.injected.renew(owner, lease_s, now)
        self.journal.append(Renewed(owner, now, now + lease_s), now)

    def held(self, now: float) -> Held:
        self.injected.expire(now)
        return {
            (str(prefix), candidate.route.owner): (
                candidate.route.type,
                candidate.route.metric,
                self.injected.remaining_s(prefix, candidate.route.owner, now),
            )
            for prefix in self.rib.prefixes_after(None, 100)
            for candidate in self.rib.candidates(prefix)
        }

    def die(self) -> None:
        self.journal.close()


owners = st.sampled_from(OWNERS)
some_prefixes = st.lists(st.sampled_from(PREFIXES), min_size=1, unique=True)
leases = st.none() | st.integers(1, 20).map(float)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), owners, some_prefixes, st.integers(0, 1), leases),
        st.tuples(st.just("delete"), owners, some_prefixes),
        st.tuples(st.just("renew"), owners, st.integers(1, 20).map(float)),
        st.tuples(st.just("wait"), st.integers(1, 15).map(float)),
        st.tuples(st.just("die")),
    ),
    max_size=25,
)


@given(steps)
def test_an_engine_that_dies_leaves_everything_to_the_next(
    history: list[tuple[Any, ...]],
) -> None:
    files, now = Files(), 100.0
    engine = Engine(files, now)
    for step in history:
        before = engine.held(now)
        match step:
            case ("put", owner, prefixes, number, lease_s):
                engine.put(owner, prefixes, number, lease_s, now)
            case ("delete", owner, prefixes):
                engine.delete(owner, prefixes, now)
            case ("renew", owner, lease_s):
                engine.renew(owner, lease_s, now)
            case ("wait", seconds):
                now += seconds
            case ("die",):
                engine.die()
                engine = Engine(files, now)
                assert engine.held(now) == before
    left = engine.held(now)
    engine.die()
    assert Engine(files, now).held(now) == left
    files.close()


def test_only_a_truncated_change_is_lost(files: Files) -> None:
    engine = Engine(files)
    engine.put("uid0", PREFIXES[:1], 0, None, 0.0)
    sizes = [len(content) for content in files.contents()]
    engine.put("uid0", PREFIXES[1:2], 0, None, 0.0)
    engine.die()
    grown = next(n for n in (0, 1) if len(files.contents()[n]) > sizes[n])
    whole = len(files.contents()[grown])
    for size in range(sizes[grown], whole):
        copy = Files()
        for number, content in enumerate(files.contents()):
            os.write(copy.descriptors[number], content[:size] if number == grown else content)
        assert [prefix for prefix, _ in Engine(copy).held(0.0)] == ["10.0.0.0/16"]
        copy.close()


def test_a_file_that_was_being_rewritten_does_not_count(files: Files) -> None:
    engine = Engine(files)
    engine.put("uid0", PREFIXES[:3], 0, None, 0.0)
    engine.die()
    before = files.contents()
    Engine(files).die()  # writes the other file
    after = files.contents()
    fresh = next(n for n in (0, 1) if before[n] != after[n])
    for size in range(len(after[fresh])):
        copy = Files()
        for number in (0, 1):
            os.write(copy.descriptors[number], after[number][: size if number == fresh else None])
        assert len(Engine(copy).held(0.0)) == 3
        copy.close()


def test_a_damaged_file_is_reported_or_ends_where_the_damage_is(files: Files) -> None:
    os.write(files.descriptors[0], os.urandom(1000))
    engine = Engine(files)
    assert engine.held(0.0) == {}
    engine.put("uid0", PREFIXES[:1], 0, None, 0.0)
    engine.die()
    assert len(Engine(files).held(0.0)) == 1


LATE = Gateway(Address.parse("192.0.2.1"), None)


@pytest.mark.parametrize(
    ("attributes", "changed"),
    [
        (InjectedAttributes(RouteType.UNICAST, (LATE,), 1 << 40, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (LATE,), -5, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (LATE,), 0, 1 << 40), {}),
        (InjectedAttributes(RouteType.UNICAST, (LATE._replace(weight=0),), 0, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (LATE._replace(weight=10**6),), 0, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (LATE,) * 4000, 0, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (), 0, 0), {}),
        (InjectedAttributes(RouteType.UNICAST, (Gateway(None, "x" * 100),), 0, 0), {}),
        (InjectedAttributes(RouteType.BLACKHOLE, (LATE,), 0, 0), {}),
        (ATTRIBUTES[1], {"family": Family.IPV6, "keys": b"\0" * 17}),
        (ATTRIBUTES[0], {"owner": "root\n" * 1000}),
        (ATTRIBUTES[0], {"until": 1e9}),
    ],
)  # fmt: skip
def test_a_record_that_no_request_can_have_led_to_is_not_restored(
    files: Files, attributes: InjectedAttributes, changed: dict[str, Any]
) -> None:
    """A compromised engine left a route that ended each later engine when it became the best."""
    engine = Engine(files)
    right = Kept.of(
        "uid0", RouteColumn(Family.IPV4, [PREFIXES[0].as_int], [0]), (attributes,), None
    )
    engine.journal.append(dataclasses.replace(right, **changed), 0.0)
    engine.die()
    after = Engine(files)
    assert after.held(0.0) == {}
    assert "the journal of an earlier engine is damaged" in after.complaints[0]


def test_a_renewal_that_goes_back_in_time_is_not_restored(files: Files) -> None:
    engine = Engine(files)
    engine.put("uid0", PREFIXES[:1], 0, 20.0, 0.0)
    for at in (5.0, 4.0):
        engine.journal.append(Renewed("uid0", at, at + 20.0), at)
    engine.die()
    assert "damaged" in Engine(files, 6.0).complaints[0]


def steps_of_fold(count: int) -> int:
    """Count executed lines for a number of leased routes, and as many renewals of all of them."""
    keys = [(0x0A000000 + (number << 8)) << 8 | 24 for number in range(count)]
    column = RouteColumn(Family.IPV4, keys, [0] * count)
    records: list[Record] = [
        Kept.of("uid0", column, ATTRIBUTES, 50.0),
        *(Renewed("uid0", float(at), at + 50.0) for at in range(count)),
    ]
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        (kept,) = injection_journal.fold(records, float(count))
    finally:
        sys.settrace(before)
    assert (len(kept.column().keys), kept.until) == (count, count - 1 + 50.0)
    return lines


def test_the_cost_of_a_journal_is_linear_in_its_bytes() -> None:
    """A hundred thousand routes, renewed two hundred thousand times, took minutes to read."""
    assert steps_of_fold(400) < 3 * steps_of_fold(200)


def test_the_journal_of_frequent_changes_stays_bounded(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injection_journal, "REWRITE_BYTES", 10_000)
    engine = Engine(files)
    for number in range(1000):
        engine.put("uid0", PREFIXES, number % 2, 30.0, 0.0)
        assert max(map(len, files.contents())) < 20_000
    engine.put("uid0", PREFIXES, 1, 30.0, 0.0)
    for _ in range(500):
        engine.renew("uid0", 30.0, 1.0)
        assert max(map(len, files.contents())) < 20_000
    left = engine.held(2.0)
    engine.die()
    assert Engine(files, 2.0).held(2.0) == left
    assert len(left) == 6


def test_new_routes_are_not_written_twice_unless_they_are_deleted(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injection_journal, "REWRITE_BYTES", 1000)
    journal = Journal(files.copies(), lambda _: None)
    journal.restore(0.0)

    def kept(first: int) -> Kept:
        keys = [(0x0A000000 + (number << 8)) << 8 | 24 for number in range(first, first + 50)]
        return Kept.of("uid0", RouteColumn(Family.IPV4, keys, [0] * 50), ATTRIBUTES, None)

    for first in range(0, 5000, 50):
        journal.append(kept(first), 0.0, is_new=True)
    sizes = sorted(map(len, files.contents()))
    assert sizes[0] < 1000 < 40_000 < sizes[1], "no copy of what is all still there"
    for _ in range(1000):
        journal.append(kept(10_000), 0.0, is_new=True)
        gone = kept(10_000)
        journal.append(Removed(gone.owner, gone.family, gone.keys), 0.0)
        assert max(map(len, files.contents())) < 3 * sizes[1]
    journal.close()


def test_a_full_memory_is_reported_once_and_survived(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injection_journal, "JOURNAL_BYTES_MAX", 500)
    engine = Engine(files)
    for _ in range(20):
        engine.put("uid0", PREFIXES, 0, None, 0.0)
    assert len(engine.held(0.0)) == 6
    assert engine.complaints == ["injected routes will not outlive this engine: over 500 bytes"]
