"""DeltaTracker: its maps are the difference of two dictionaries, whatever happened."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routed.fib.delta import DeltaTracker

KEYS = st.integers(0, 5)
VALUES = st.integers(0, 2)


class DeltaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tracker: DeltaTracker[int, int] = DeltaTracker()
        self.desired: dict[int, int] = {}
        self.kernel: dict[int, int] = {}

    @rule(key=KEYS, value=VALUES)
    def set_desired(self, key: int, value: int) -> None:
        self.tracker.set_desired(key, value)
        self.desired[key] = value

    @rule(wishes=st.lists(st.tuples(KEYS, VALUES)))
    def want_all(self, wishes: list[tuple[int, int]]) -> None:
        claimed = self.tracker.want_all([key for key, _ in wishes], [value for _, value in wishes])
        expected = 0
        for key, value in wishes:
            expected += key not in self.desired and self.kernel.get(key) == value
            self.desired[key] = value
        assert claimed == expected

    @rule(key=KEYS)
    def delete_desired(self, key: int) -> None:
        self.tracker.delete_desired(key)
        self.desired.pop(key, None)

    @rule(key=KEYS, value=VALUES)
    def set_kernel(self, key: int, value: int) -> None:
        self.tracker.set_kernel(key, value)
        self.kernel[key] = value

    @rule(values=st.dictionaries(KEYS, VALUES))
    def set_kernel_all(self, values: dict[int, int]) -> None:
        self.tracker.set_kernel_all(values)
        self.kernel.update(values)

    @rule(key=KEYS)
    def delete_kernel(self, key: int) -> None:
        self.tracker.delete_kernel(key)
        self.kernel.pop(key, None)

    @rule(key=KEYS)
    def hold(self, key: int) -> None:
        was_wanted = key in self.tracker.wanted
        self.tracker.hold(key)
        assert (key in self.tracker.held) >= was_wanted
        assert key not in self.tracker.wanted

    @rule(key=KEYS)
    def release(self, key: int) -> None:
        was_held = key in self.tracker.held
        self.tracker.release(key)
        assert (key in self.tracker.wanted) >= was_held
        assert key not in self.tracker.held

    @rule()
    def write_what_is_wanted(self) -> None:
        wishes = dict(self.tracker.wanted)
        self.tracker.written(list(wishes), wishes.values())
        self.kernel.update(wishes)

    @rule()
    def remove_what_is_not(self) -> None:
        keys = list(self.tracker.unwanted)
        self.tracker.removed(keys)
        for key in keys:
            del self.kernel[key]

    @invariant()
    def the_maps_are_the_difference(self) -> None:
        tracker = self.tracker
        everything = self.desired.keys() | self.kernel.keys()
        assert set(tracker.desired_keys()) == self.desired.keys()
        assert set(tracker.kernel_keys()) == self.kernel.keys()
        assert tracker.desired_count == len(self.desired) == len(tracker.desired_keys())
        assert tracker.kernel_count == len(self.kernel) == len(tracker.kernel_keys())
        for key in everything:
            assert tracker.desired(key) == self.desired.get(key)
            assert tracker.kernel(key) == self.kernel.get(key)
        different = {
            key: value for key, value in self.desired.items() if self.kernel.get(key) != value
        }
        assert {**tracker.wanted, **tracker.held} == different
        assert not tracker.wanted.keys() & tracker.held.keys()
        assert set(tracker.unwanted) == self.kernel.keys() - self.desired.keys()


TestDeltaTracker = DeltaMachine.TestCase
