"""What prefixes have carried in a window: held against a log of every packet."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator
from typing import TypeVar

import pytest

from routed.dataplane import accounts as module
from routed.dataplane import windows
from routed.dataplane.accounts import RouteAccounts
from routed.dataplane.figures import Figures
from routed.dataplane.layout import ROUTE_BYTES
from routed.dataplane.windows import RouteWindow
from routed.model.prefix import Prefix

PREFIXES = [Prefix.parse(f"10.{number}.0.0/16") for number in range(6)]
RECORDS = 400
SIZE = 100

_Result = TypeVar("_Result")


def result_of(steps: Generator[None, None, _Result]) -> _Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


class Router:
    """Records that move between prefixes, packets, and a log of them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.memory = memoryview(bytearray(RECORDS * ROUTE_BYTES))
        self.longs = self.memory.cast("Q")
        self.accounts = RouteAccounts(self.memory, RECORDS)
        self.owner: dict[int, Prefix] = {}
        self.record: dict[Prefix, int] = {}
        self.log: list[tuple[float, Prefix | None]] = []
        self.now = 0.0
        for prefix in PREFIXES:
            self.replace(prefix)

    def replace(self, prefix: Prefix) -> None:
        """Give a prefix another record; any prefix may have had it before."""
        former = self.record.get(prefix)
        if former is not None:
            self.accounts.fold(former, self.owner.__getitem__)
            del self.owner[former]
        record = self.rng.choice([n for n in range(1, RECORDS) if n not in self.owner])
        self.owner[record], self.record[prefix] = prefix, record

    def send(self) -> None:
        prefix = self.rng.choice([*PREFIXES, None])
        record = self.record[prefix] if prefix is not None else 0
        self.longs[4 * record] += 1
        self.longs[4 * record + 1] += SIZE
        self.log.append((self.now, prefix))

    def turn(self) -> None:
        for _ in range(self.rng.randrange(12)):
            if self.rng.randrange(3):
                self.send()
            else:
                self.replace(self.rng.choice(PREFIXES))
        self.now += self.rng.random()

    def sent_since(self, moment: float) -> dict[Prefix | None, Figures]:
        counts = Counter(prefix for sent_at, prefix in self.log if sent_at >= moment)
        return {prefix: Figures(n, SIZE * n, 0, 0) for prefix, n in counts.items()}

    def carried_since(self, moment: float) -> RouteWindow:
        found = result_of(self.accounts.carried_since(moment, self.owner.__getitem__))
        assert found is not None
        return found


@pytest.mark.parametrize("seed", range(20))
def test_each_packet_is_in_the_window_of_its_prefix(seed: int) -> None:
    router = Router(random.Random(seed))
    for _ in range(100):
        router.accounts.sample(router.now)
        router.turn()
        found = router.carried_since(router.now - router.rng.random() * 20)
        assert found.carried == router.sent_since(found.began)
    for prefix in PREFIXES:
        rates = router.accounts.rates_of(prefix, router.record[prefix])
        seconds = sum(length for length, _ in rates)
        newest = router.carried_since(router.now)
        packets = sum(figures.packets for _, figures in rates)
        began = newest.began - seconds
        wanted = [
            at for at, sent in router.log if sent == prefix and began - 1e-6 <= at < newest.began
        ]
        assert packets == len(wanted)
        assert all(length > 0 for length, _ in rates)


@pytest.mark.parametrize("seed", range(10))
def test_what_happens_between_two_steps_changes_no_answer(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are folded and used for other prefixes meanwhile, and counters are kept again."""
    monkeypatch.setattr(windows, "_STEP", 1)
    router = Router(random.Random(seed))
    pauses = 0
    for _ in range(100):
        router.accounts.sample(router.now)
        router.turn()
        steps = router.accounts.carried_since(router.now - 5, router.owner.__getitem__)
        wanted = {began: router.sent_since(began) for began in moments(router)}
        found: RouteWindow | None = None
        while found is None:
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
                continue
            pauses += 1
            router.turn()
            router.accounts.sample(router.now)
        assert found.carried == wanted[found.began]
    assert pauses > 100


def moments(router: Router) -> list[float]:
    return [moment for moment, _ in router.accounts._history.values_of(0, ROUTE_BYTES)]


def test_a_window_does_not_begin_before_the_first_fold_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FOLDS_MAX", 3)
    router = Router(random.Random(2))
    for step in range(6):
        router.accounts.sample(float(step))
        router.longs[4 * router.record[PREFIXES[0]]] += 1
        router.replace(PREFIXES[0])
    found = router.carried_since(0.0)
    assert found.began == 3.0
    assert found.carried == {PREFIXES[0]: Figures(3, 0, 0, 0)}


def test_there_is_no_window_before_the_first_sample() -> None:
    router = Router(random.Random(3))
    assert result_of(router.accounts.carried_since(0.0, router.owner.__getitem__)) is None
    assert router.accounts.rates_of(PREFIXES[0], 1) == []


def test_what_was_counted_before_a_new_beginning_is_nowhere() -> None:
    router = Router(random.Random(4))
    router.accounts.sample(0.0)
    router.longs[4 * router.record[PREFIXES[0]]] += 1
    router.replace(PREFIXES[0])
    router.longs[4 * router.record[PREFIXES[1]]] += 1
    router.accounts.begin_again()
    assert router.accounts.accounts == {}
    assert not any(router.longs)
    router.accounts.sample(1.0)
    assert router.carried_since(0.0).carried == {}
