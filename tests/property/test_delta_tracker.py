"""DeltaTracker: the pending sets are the dictionary difference, whatever happened."""

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

    @rule(key=KEYS)
    def delete_desired(self, key: int) -> None:
        self.tracker.delete_desired(key)
        self.desired.pop(key, None)

    @rule(key=KEYS, value=VALUES)
    def set_kernel(self, key: int, value: int) -> None:
        self.tracker.set_kernel(key, value)
        self.kernel[key] = value

    @rule(key=KEYS)
    def delete_kernel(self, key: int) -> None:
        self.tracker.delete_kernel(key)
        self.kernel.pop(key, None)

    @rule(dump=st.dictionaries(KEYS, VALUES))
    def replace_kernel(self, dump: dict[int, int]) -> None:
        changed = self.tracker.replace_kernel(dump)
        expected = {
            key for key in self.kernel.keys() | dump.keys() if self.kernel.get(key) != dump.get(key)
        }
        assert set(changed) == expected
        self.kernel = dict(dump)

    @invariant()
    def pending_is_the_difference(self) -> None:
        assert dict(self.tracker.desired) == self.desired
        assert dict(self.tracker.kernel) == self.kernel
        updates = {key for key, value in self.desired.items() if self.kernel.get(key) != value}
        assert set(self.tracker.updates) == updates
        assert set(self.tracker.removals) == self.kernel.keys() - self.desired.keys()


TestDeltaTracker = DeltaMachine.TestCase
