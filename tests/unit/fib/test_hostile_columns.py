"""Columns that are well formed and that no honest engine sends: the books stay sound.

The engine may be an intruder's. Keys are checked one by one (`routed.parent.route_admission`); that
each comes once is not, so the books must not count on it.
"""

from __future__ import annotations

import random

from routed.fib.routes.ownership import Ownership
from routed.fib.routes.tables import FibTables
from routed.imsg.columns import pack_indices, pack_keys
from routed.imsg.messages import FibColumns, FibUpdate, FibValue
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteType
from routed.parent.route_admission import validate_update
from tests.fakes.fake_kernel import FakeKernel

OURS = Ownership(protocol=205, priority=205, tables=frozenset({254}))
TYPES = (RouteType.BLACKHOLE, RouteType.UNREACHABLE, RouteType.PROHIBIT)
VALUES = tuple(FibValue(kind, ()) for kind in TYPES)


def prefixes(family: Family, count: int) -> list[int]:
    base = 10 << 24 if family is Family.IPV4 else 0x2001_0DB8 << 96
    step, length = (1 << 8, 24) if family is Family.IPV4 else (1 << 64, 64)
    return [Prefix(family, base + number * step, length).as_int for number in range(count)]


class Victim:
    """The parent's books and a kernel."""

    def __init__(self) -> None:
        self.fib_tables = FibTables(OURS)
        self.kernel = FakeKernel()
        self.serial = 0

    def update(
        self, family: Family, install: list[int], indices: list[int], remove: list[int]
    ) -> None:
        self.serial += 1
        message = FibUpdate(
            self.serial,
            VALUES,
            (FibColumns(254, family, pack_keys(family, install), pack_indices(indices)),),
            (FibColumns(254, family, pack_keys(family, remove), b""),),
        )
        update, refused = validate_update(message, OURS)
        assert not refused
        for removals in update.remove:
            self.fib_tables.withdraw(*removals)
        for rows in update.install:
            self.fib_tables.set_desired(*rows)

    def reconcile(self) -> None:
        now = 100.0
        for _ in range(20):
            now += 1
            batches = self.fib_tables.plan(now)
            if not batches:
                return
            assert self.fib_tables.record(batches, self.kernel.apply(batches), now)
        raise AssertionError("the FIB tables never equal the kernel")

    def installed(self) -> dict[int, RouteType]:
        return {key.prefix.as_int: value.type for key, value in self.kernel.ours().items()}


def test_a_prefix_that_comes_twice_counts_once_and_the_last_word_holds() -> None:
    for family in Family:
        victim = Victim()
        one, two = prefixes(family, 2)
        victim.update(family, [one, two, one, one], [0, 1, 1, 2], [])
        assert victim.fib_tables.totals[0] == 2
        victim.reconcile()
        assert victim.fib_tables.totals[:2] == (2, 2)
        assert victim.installed() == {one: TYPES[2], two: TYPES[1]}
        victim.update(family, [], [], [one, one, two, one])
        victim.reconcile()
        assert victim.fib_tables.totals[:2] == (0, 0)


def test_removals_of_what_was_never_wanted_leave_nothing_behind() -> None:
    for family in Family:
        victim = Victim()
        victim.update(family, [], [], prefixes(family, 5000) * 2)
        assert victim.fib_tables.totals == (0, 0, 0, 0)
        assert victim.fib_tables.kernel_count == 0
        assert not victim.fib_tables.plan(100.0)


def test_random_columns_end_as_the_last_words_say() -> None:
    rng = random.Random(1)
    for family in Family:
        victim = Victim()
        known = prefixes(family, 40)
        wanted: dict[int, int] = {}
        for _ in range(200):
            install = rng.choices(known, k=rng.randrange(30))
            indices = [rng.randrange(len(VALUES)) for _ in install]
            remove = rng.choices(known, k=rng.randrange(30))
            victim.update(family, install, indices, remove)
            for key in remove:
                wanted.pop(key, None)
            wanted.update(zip(install, indices, strict=True))
            assert victim.fib_tables.totals[0] == len(wanted)
            if rng.random() < 0.3:
                victim.reconcile()
        victim.fib_tables.open_gate()
        victim.reconcile()
        assert victim.fib_tables.totals == (len(wanted), len(wanted), 0, 0)
        assert victim.installed() == {key: TYPES[index] for key, index in wanted.items()}
