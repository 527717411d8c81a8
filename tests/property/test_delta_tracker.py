"""Both trackers: their maps are the difference of two dictionaries after any operations."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routed.fib.routes.delta import DeltaTracker
from routed.fib.routes.extension import native
from routed.fib.routes.native_tracker import NativeTracker
from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.pending import Pending
from routed.fib.routes.tracker import RouteTracker
from routed.model.columns import KeyColumn, ValueColumn
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteType

VALUES = st.sampled_from([RouteValue(kind, ()) for kind in RouteType])
NUMBERS = st.integers(0, 1000)
"""The index of a key among those of a machine."""


class TrackerMachine(RuleBasedStateMachine):
    """Any operations on a tracker, and the same on two dictionaries."""

    family = Family.IPV4
    keys = tuple(Prefix.parse(f"10.{number}.0.0/16").as_int for number in range(6))

    def new_tracker(self) -> RouteTracker:
        return DeltaTracker()

    def __init__(self) -> None:
        super().__init__()
        self.tracker = self.new_tracker()
        self.desired: dict[int, RouteValue] = {}
        self.kernel: dict[int, RouteValue] = {}

    def key(self, number: int) -> int:
        return self.keys[number % len(self.keys)]

    @rule(number=NUMBERS, value=VALUES)
    def set_desired(self, number: int, value: RouteValue) -> None:
        self.tracker.set_desired(self.key(number), value)
        self.desired[self.key(number)] = value

    @rule(desired=st.lists(st.tuples(NUMBERS, VALUES)), as_columns=st.booleans())
    def set_all_desired(self, desired: list[tuple[int, RouteValue]], as_columns: bool) -> None:
        keys, values = [self.key(number) for number, _ in desired], [value for _, value in desired]
        expected = 0
        for key, value in zip(keys, values, strict=True):
            expected += key not in self.desired and self.kernel.get(key) == value
            self.desired[key] = value
        if as_columns:
            columns = KeyColumn.of(self.family, keys), ValueColumn.of(values)
            assert self.tracker.set_all_desired(*columns) == expected
        else:
            assert self.tracker.set_all_desired(keys, values) == expected

    @rule(start=NUMBERS, count=st.integers(0, 200), value=VALUES)
    def set_desired_run(self, start: int, count: int, value: RouteValue) -> None:
        keys = list(dict.fromkeys(self.key(start + number) for number in range(count)))
        self.tracker.set_all_desired(keys, ValueColumn.repeated(value, len(keys)))
        self.desired.update(dict.fromkeys(keys, value))

    @rule(number=NUMBERS)
    def delete_desired(self, number: int) -> None:
        self.tracker.delete_desired(self.key(number))
        self.desired.pop(self.key(number), None)

    @rule(start=NUMBERS, count=st.integers(0, 200))
    def withdraw_a_run(self, start: int, count: int) -> None:
        keys = list(dict.fromkeys(self.key(start + number) for number in range(count)))
        unwanted = self.tracker.withdraw_all(keys)
        for key in keys:
            self.desired.pop(key, None)
        assert set(unwanted) == self.kernel.keys() & keys

    @rule(number=NUMBERS, value=VALUES)
    def set_kernel(self, number: int, value: RouteValue) -> None:
        self.tracker.set_kernel(self.key(number), value)
        self.kernel[self.key(number)] = value

    @rule(numbers=st.lists(NUMBERS), value=VALUES)
    def set_kernel_all(self, numbers: list[int], value: RouteValue) -> None:
        keys = [self.key(number) for number in numbers]
        self.tracker.set_kernel_all(keys, value)
        self.kernel.update(dict.fromkeys(keys, value))

    @rule(number=NUMBERS)
    def delete_kernel(self, number: int) -> None:
        self.tracker.delete_kernel(self.key(number))
        self.kernel.pop(self.key(number), None)

    @rule(number=NUMBERS)
    def hold(self, number: int) -> None:
        key = self.key(number)
        was_desired = key in self.tracker.to_install
        self.tracker.hold(key)
        assert (key in self.tracker.held) >= was_desired
        assert key not in self.tracker.to_install

    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        key = self.key(number)
        was_held = key in self.tracker.held
        self.tracker.release(key)
        assert (key in self.tracker.to_install) >= was_held
        assert key not in self.tracker.held

    def check_taken(
        self, pending: Pending[int, RouteValue], limit: int, side: dict[int, RouteValue]
    ) -> None:
        keys, values, there = pending
        assert len(keys) == len(set(keys)) <= limit
        assert bool(keys) == bool(side and limit)
        assert len(keys) == len(values)
        assert dict(zip(keys, values, strict=True)).items() <= side.items()
        if there is not None:
            assert list(there) == [self.kernel.get(key) for key in keys]

    @rule(limit=st.integers(1, 250), is_done=st.booleans())
    def write(self, limit: int, is_done: bool) -> None:
        wanted = dict(self.tracker.to_install)
        pending = self.tracker.pop_to_install(limit)
        self.check_taken(pending, limit, wanted)
        assert pending.there is not None or not any(key in self.kernel for key in pending.keys)
        if is_done:  # otherwise the attempt failed as a whole
            self.tracker.written(pending.keys, pending.values)
            self.kernel.update(zip(pending.keys, pending.values, strict=True))

    @rule(limit=st.integers(1, 250), is_done=st.booleans())
    def remove(self, limit: int, is_done: bool) -> None:
        unwanted = dict(self.tracker.to_remove)
        pending = self.tracker.pop_to_remove(limit)
        self.check_taken(pending, limit, unwanted)
        if is_done:
            assert self.tracker.removed(pending.keys) == len(pending.keys)
            for key in pending.keys:
                del self.kernel[key]

    @rule()
    def every_key_is_planned(self) -> None:
        for _ in range(2 * len(self.keys) + 2):
            pending = self.tracker.pop_to_install(1)
            self.tracker.written(pending.keys, pending.values)
            self.kernel.update(zip(pending.keys, pending.values, strict=True))
        assert not self.tracker.to_install

    @rule(numbers=st.lists(NUMBERS))
    def remove_what_may_be_removed(self, numbers: list[int]) -> None:
        keys = list(dict.fromkeys(self.key(number) for number in numbers))
        gone = [
            key
            for key in keys
            if key in self.kernel and self.desired.get(key) != self.kernel.get(key)
        ]
        removed = self.tracker.removed(keys)
        assert removed == sum(key not in self.desired for key in gone)
        for key in gone:
            del self.kernel[key]

    @rule(numbers=st.lists(NUMBERS), value=VALUES)
    def compare_with_a_dump(self, numbers: list[int], value: RouteValue) -> None:
        tracker = self.tracker
        keys = list(dict.fromkeys(self.key(number) for number in numbers))
        as_desired = [key for key in keys if self.desired.get(key) == value == self.kernel.get(key)]
        assert set(tracker.differing(keys, value)) == set(keys) - set(as_desired)
        assert tracker.kernel_count_of(keys) == len(self.kernel.keys() & keys)
        tracker.clear_marks()
        tracker.mark(keys)
        assert set(tracker.unmarked()) == self.kernel.keys() - set(keys)

    @invariant()
    def the_maps_are_the_difference(self) -> None:
        tracker = self.tracker
        desired_keys, desired_values = tracker.desired_rows()
        assert dict(zip(desired_keys, desired_values, strict=True)) == self.desired
        assert set(tracker.kernel_keys()) == self.kernel.keys()
        assert tracker.desired_count == len(self.desired) == len(desired_keys)
        assert tracker.kernel_count == len(self.kernel) == len(tracker.kernel_keys())
        used = {*self.desired.values(), *self.kernel.values()}
        assert set(tracker.values_in_use()) == used
        assert set(tracker.kernel_values()) == set(self.kernel.values())
        different = {
            key: value for key, value in self.desired.items() if self.kernel.get(key) != value
        }
        assert {**tracker.to_install, **tracker.held} == different
        assert not tracker.to_install.keys() & tracker.held.keys()
        assert dict(tracker.replaced) == {
            key: self.kernel[key] for key in different if key in self.kernel
        }
        assert set(tracker.to_remove) == self.kernel.keys() - self.desired.keys()
        assert tracker.same == {
            key: value for key, value in self.desired.items() if self.kernel.get(key) == value
        }

    @rule(number=NUMBERS)
    def one_key_agrees_with_the_maps(self, number: int) -> None:
        key = self.key(number)
        assert self.tracker.desired(key) == self.desired.get(key)
        assert self.tracker.kernel(key) == self.kernel.get(key)


class NativeMachine(TrackerMachine):
    def new_tracker(self) -> RouteTracker:
        return NativeTracker(self.family)


class LargeNativeMachine(NativeMachine):
    """So many keys that tables grow, and probes collide."""

    family = Family.IPV6
    keys = tuple(
        Prefix.parse(f"2001:db8:{number:x}::/{48 + number % 3}").as_int for number in range(400)
    )


TestDeltaTracker = TrackerMachine.TestCase
if native is not None:
    TestNativeTracker = NativeMachine.TestCase
    TestLargeNativeTracker = LargeNativeMachine.TestCase


@pytest.mark.skipif(native is None, reason="the C extension is not built")
def test_a_key_that_was_not_desired_cannot_have_been_written() -> None:
    tracker = NativeTracker(Family.IPV4)
    (key,) = KeyColumn.of(Family.IPV4, [Prefix.parse("10.0.0.0/8").as_int])
    with pytest.raises(KeyError, match="1 of the keys"):
        tracker.written([key], [])


@pytest.mark.skipif(native is None, reason="the C extension is not built")
def test_columns_of_different_lengths_are_refused_and_change_nothing() -> None:
    assert native is not None
    table = native.RouteTable(4, 1, 2)
    key = bytes(8)
    for keys, values, indices, error in (
        (key[1:], [1], bytes(4), ValueError),
        (key, [1], bytes(3), ValueError),
        (key, [1], bytes(8), ValueError),
        (key, [1], b"\0\0\0\1", IndexError),
        (key, [], bytes(4), IndexError),
        (key, [[]], bytes(4), TypeError),
    ):
        with pytest.raises(error):
            table.set_desired(keys, values, indices)
        assert table.counts() == (0, 0, 0, 0, 0)
        assert table.values() == []
