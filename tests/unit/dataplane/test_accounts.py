"""Counters of records become accounts of prefixes, and no figure is lost or moves."""

from __future__ import annotations

from collections.abc import Generator

from routed.dataplane.accounts import RouteAccounts
from routed.dataplane.activity import Activity
from routed.dataplane.figures import Figures
from routed.dataplane.layout import ACTIVITY_BYTES, ROUTE_BYTES
from routed.model.prefix import Prefix

ONE, TWO, THREE = (Prefix.parse(f"10.{number}.0.0/16") for number in (1, 2, 3))
RECORDS = 100_000


def accounts_of(records: int = 16, accounts_max: int = 100) -> tuple[RouteAccounts, memoryview]:
    memory = memoryview(bytearray(records * ROUTE_BYTES))
    return RouteAccounts(memory, records, accounts_max), memory.cast("Q")


def result_of(steps: Generator[None, None, list[int]]) -> tuple[int, list[int]]:
    """How many steps a search takes, and what it finds."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return count, list(end.value)
        count += 1


def test_a_fold_moves_figures_to_the_prefix_and_leaves_zeros() -> None:
    accounts, longs = accounts_of()
    longs[4 * 3 : 4 * 4] = memoryview(bytearray(32)).cast("Q")
    longs[12], longs[13], longs[14], longs[15] = 5, 500, 7, 700
    accounts.fold(3, lambda record: {3: ONE}[record])
    assert accounts.accounts == {ONE: Figures(5, 500, 7, 700)}
    assert accounts.counted(3) == Figures(0, 0, 0, 0)
    longs[12] = 1
    accounts.fold(3, lambda _: ONE)
    assert accounts.accounts == {ONE: Figures(6, 500, 7, 700)}


def test_a_record_that_has_carried_nothing_gets_no_account() -> None:
    accounts, _ = accounts_of()
    accounts.fold(3, lambda _: ONE)
    assert accounts.accounts == {}


def test_a_record_beyond_the_counters_has_none() -> None:
    accounts, _ = accounts_of(records=4)
    assert accounts.counted(4) == Figures(0, 0, 0, 0)
    accounts.fold(4, lambda _: ONE)
    assert accounts.accounts == {}


def test_the_account_that_rested_longest_is_given_up_and_its_figures_are_kept() -> None:
    accounts, longs = accounts_of(accounts_max=2)
    for record, prefix in enumerate((ONE, TWO, ONE, THREE), 1):
        longs[4 * record] = 10
        accounts.fold(record, {record: prefix}.__getitem__)
    assert set(accounts.accounts) == {ONE, THREE}
    assert accounts.accounts[ONE].received_packets == 20
    assert accounts.given_up == Figures(10, 0, 0, 0)


def test_the_largest_records_are_found_in_steps() -> None:
    accounts, longs = accounts_of(records=RECORDS)
    longs[0 + 1] = 1 << 40  # record 0 is none
    for record, received, sent in ((99_999, 10, 20), (1, 31, 0), (50_000, 0, 29), (7, 0, 0)):
        longs[4 * record + 1], longs[4 * record + 3] = received, sent
    assert result_of(accounts.largest(2)) == (4, [1, 99_999])
    assert result_of(accounts.largest(10)) == (4, [1, 99_999, 50_000])


def test_clearing_leaves_nothing() -> None:
    accounts, longs = accounts_of()
    longs[5] = longs[63] = 1
    accounts.clear()
    assert not any(longs)


def test_runs_have_settled_when_each_that_had_begun_has_ended() -> None:
    memory = memoryview(bytearray(2 * ACTIVITY_BYTES))
    longs, step = memory.cast("Q"), ACTIVITY_BYTES // 8
    activity = Activity(memory)
    assert activity.has_ended()
    longs[0] = 1  # one begins on processor 0
    activity.note()
    assert not activity.has_ended()
    longs[step] = longs[step + 1] = 9  # others, on processor 1
    assert not activity.has_ended()
    longs[0] = 2  # another begins before the first ends: they nest
    longs[1] = 1
    assert activity.has_ended()
    activity.note()
    assert not activity.has_ended()
    longs[1] = 2
    assert activity.has_ended()
