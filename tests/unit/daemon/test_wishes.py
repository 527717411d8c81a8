"""What the engine wants: never said twice, never said in vain, and with a state at any time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routed.model.fib import FibCounters, FibFailure
from routed.model.prefix import Family, Prefix
from routed.model.route import FibRoute, RouteType
from routed.wishes import FibWishes

A = Prefix.parse("10.1.0.0/16")


def route(prefix: Prefix = A, kind: RouteType = RouteType.BLACKHOLE, table: int = 254) -> FibRoute:
    return FibRoute(table, prefix, kind)


def test_a_wish_is_pending_then_installed_or_failed() -> None:
    wishes = FibWishes()
    wishes.want(route())
    assert wishes.is_pending(A)
    batch = wishes.take_update()
    assert batch is not None
    assert wishes.is_pending(A)
    wishes.progress(batch.serial, [], [], FibCounters())
    assert not wishes.is_pending(A)
    wishes.progress(batch.serial, [FibFailure(254, A, "no")], [], FibCounters())
    assert wishes.failure_of(A) == "no"
    wishes.progress(batch.serial, [], [(254, A)], FibCounters())
    assert wishes.failure_of(A) == ""


def test_the_same_wish_again_is_not_said_again() -> None:
    wishes = FibWishes()
    wishes.want(route())
    assert wishes.take_update() is not None
    wishes.want(route())
    assert wishes.take_update() is None


def test_the_first_update_is_said_even_when_nothing_is_wanted() -> None:
    batch = FibWishes().take_first_update()
    assert (batch.serial, batch.install, batch.remove) == (1, (), ())


def test_a_move_between_tables_removes_from_the_old_one() -> None:
    wishes = FibWishes()
    wishes.want(route(table=254))
    wishes.take_update()
    wishes.want(route(table=100))
    batch = wishes.take_update()
    assert batch is not None
    assert (batch.remove, batch.install) == (((254, A),), (route(table=100),))


PREFIXES = [Prefix(Family.IPV4, number << 24, 8) for number in range(1, 5)]


class WishesMachine(RuleBasedStateMachine):
    """The parent's copy, built from updates alone, ends up as what is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.wishes = FibWishes()
        self.wanted: dict[Prefix, FibRoute] = {}
        self.parent: dict[tuple[int, Prefix], FibRoute] = {}

    @rule(
        prefix=st.sampled_from(PREFIXES),
        kind=st.sampled_from([RouteType.BLACKHOLE, RouteType.PROHIBIT]),
        table=st.sampled_from([254, 100]),
    )
    def want(self, prefix: Prefix, kind: RouteType, table: int) -> None:
        wanted = route(prefix, kind, table)
        self.wishes.want(wanted)
        self.wanted[prefix] = wanted

    @rule(prefix=st.sampled_from(PREFIXES))
    def want_no_more(self, prefix: Prefix) -> None:
        self.wishes.want_no_more(prefix)
        self.wanted.pop(prefix, None)

    @rule()
    def say_one(self) -> None:
        batch = self.wishes.take_update()
        if batch is None:
            return
        assert not set(batch.remove) & {(entry.table_id, entry.prefix) for entry in batch.install}
        for key in batch.remove:
            self.parent.pop(key, None)
        for entry in batch.install:
            self.parent[entry.table_id, entry.prefix] = entry

    @rule()
    def say_all(self) -> None:
        for _ in range(50):
            before = dict(self.parent)
            self.say_one()
            if before == self.parent and self.wishes.take_update() is None:
                break
        assert {entry.prefix: entry for entry in self.parent.values()} == self.wanted
        assert len(self.parent) == len(self.wanted)

    @invariant()
    def wishes_are_what_is_wanted(self) -> None:
        assert list(self.wishes.prefixes()) == sorted(self.wanted)
        assert all(self.wishes.route(prefix) == entry for prefix, entry in self.wanted.items())


TestWishes = WishesMachine.TestCase
