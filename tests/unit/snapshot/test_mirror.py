"""The mirror has the routes of the snapshot, and a count never moves to another prefix."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from routed.dataplane.accounts import RouteAccounts
from routed.dataplane.layout import ROOT4, ROOT6, ROUTE_BYTES
from routed.model.prefix import Address, Family, Prefix
from routed.snapshot.mirror import RouteMirror
from routed.snapshot.parts import ROOT_BITS, STRIDE_BITS
from routed.snapshot.trace import TrieShape
from routed.snapshot.writer import TICK_NS, FibSnapshot
from tests.fakes.fib_writer import NAMES, WORDS, add, drop, gathered
from tests.fakes.trie_search import lookup

RECORDS = 4096
ROUTES = [
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/25",
    "::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1/128",
]  # fmt: skip
ADDRESSES = [
    Address.parse(text)
    for text in ("10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "192.0.2.5", "198.51.100.1",
                 "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1", "2001:db9::1")
]  # fmt: skip


class Runs:
    """Runs of programs that end when a test says so."""

    def __init__(self) -> None:
        self.under_way: set[object] = set()
        self.noted: set[object] = set()

    def note(self) -> None:
        self.noted = set(self.under_way)

    def has_ended(self) -> bool:
        return not self.noted & self.under_way


class Scene:
    """A snapshot with a mirror, and programs that search and count there."""

    def __init__(self, words: int = 1 << 20) -> None:
        self.snapshot = FibSnapshot(
            Address.parse("10.255.0.1"), 1, trie_words=WORDS, data_words=WORDS
        )
        self.words = memoryview(bytearray(4 * words)).cast("I")
        self.runs = Runs()
        self.longs = memoryview(bytearray(RECORDS * ROUTE_BYTES)).cast("Q")
        self.accounts = RouteAccounts(self.longs.cast("B"), RECORDS)
        self.now = 0

    def attach(self) -> RouteMirror:
        mirror = RouteMirror(self.words, self.runs, self.accounts)
        self.snapshot.attach_mirror(mirror)
        return mirror

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += TICK_NS
            self.snapshot.heartbeat(self.now)

    def change(self, *changes: tuple[Prefix, object]) -> None:
        self.snapshot.apply(gathered(changes), NAMES.__getitem__, self.now)  # type: ignore[arg-type]

    def find(self, address: Address) -> int:
        """As the program finds a record (bpf/fib.h)."""
        family = address.family
        root = ROOT4 if family is Family.IPV4 else ROOT6
        shape = TrieShape(self.words, root, ROOT_BITS[family], STRIDE_BITS, family.width)
        default = self.words[27 if family is Family.IPV4 else 35]
        return lookup(shape, address.addr_bits) or default

    def count(self, record: int) -> None:
        self.longs[4 * record] += 1
        self.longs[4 * record + 1] += 100

    def totals(self) -> Counter[Prefix]:
        """Packets of each prefix, as `show traffic routes` adds them up."""
        found: Counter[Prefix] = Counter()
        for prefix, figures in self.accounts.accounts.items():
            found[prefix] += figures.received_packets
        for record in range(1, RECORDS):
            packets = self.accounts.counted(record).received_packets
            if packets:
                found[self.snapshot.records.prefix(record)] += packets
        return found


@pytest.fixture
def scene() -> Scene:
    return Scene()


def is_counting(mirror: RouteMirror) -> bool:
    """Whether the programs find the routes; a function, so that mypy expects changes."""
    return mirror.is_counting


def expected(routes: set[str], address: Address) -> Prefix | None:
    """The longest of some prefixes that covers an address."""
    prefixes = [Prefix.parse(text) for text in routes]
    covering = [prefix for prefix in prefixes if prefix.contains_address(address)]
    return max(covering, key=lambda prefix: prefix.prefix_len, default=None)


def check(scene: Scene, routes: set[str]) -> None:
    for address in ADDRESSES:
        record, wanted = scene.find(address), expected(routes, address)
        assert (scene.snapshot.records.prefix(record) if record else None) == wanted, address
        if wanted is not None:
            assert scene.snapshot.record_of(wanted) == record


def test_routes_of_before_and_after_are_found(scene: Scene) -> None:
    scene.change(*(add(text) for text in ROUTES[::2]))
    mirror = scene.attach()
    assert not is_counting(mirror)
    scene.tick()
    assert is_counting(mirror)
    check(scene, set(ROUTES[::2]))
    scene.change(*(add(text) for text in ROUTES[1::2]))
    check(scene, set(ROUTES))
    scene.change(*(drop(text) for text in ROUTES[::2]), add(ROUTES[1], metric=7))
    check(scene, set(ROUTES[1::2]))


def test_words_of_an_earlier_engine_are_not_written_over_while_they_are_searched(
    scene: Scene,
) -> None:
    scene.words[27] = 9  # its default route
    scene.longs[36] = 5  # which has carried something
    run = object()
    scene.runs.under_way.add(run)
    mirror = scene.attach()
    scene.change(add("0.0.0.0/0"))
    assert scene.find(ADDRESSES[0]) == 0
    scene.tick(5)
    assert not is_counting(mirror)
    scene.count(9)  # the run ends with a count for a record of the earlier engine
    scene.runs.under_way.clear()
    scene.tick()
    assert is_counting(mirror)
    assert scene.totals() == {}
    check(scene, {"0.0.0.0/0"})


def test_a_record_is_folded_only_after_the_last_run_that_found_it(scene: Scene) -> None:
    scene.change(add("10.1.0.0/16"))
    scene.attach()
    scene.tick()
    record = scene.find(ADDRESSES[0])
    scene.count(record)
    slow = object()
    scene.runs.under_way.add(slow)
    scene.tick()  # noted: the run holds the record
    scene.change(drop("10.1.0.0/16"))
    scene.tick(20)
    scene.change(*(add(f"10.9.{number}.0/24") for number in range(200)))
    assert record not in {
        scene.snapshot.record_of(Prefix.parse(f"10.9.{number}.0/24")) for number in range(200)
    }
    scene.count(record)  # at last
    scene.runs.under_way.clear()
    scene.tick(5)
    assert scene.totals() == {Prefix.parse("10.1.0.0/16"): 2}
    assert scene.accounts.counted(record).received_packets == 0
    scene.change(*(add(f"10.8.{number}.0/24") for number in range(200)))
    assert record in {
        scene.snapshot.record_of(Prefix.parse(f"10.8.{number}.0/24")) for number in range(200)
    }


def test_under_random_changes_every_count_stays_with_its_prefix(scene: Scene) -> None:
    """Runs find a record and count for it later, at any time; records are reused all the while."""
    rng = random.Random(15)
    scene.attach()
    scene.tick()
    routes: set[str] = set()
    sent: Counter[Prefix] = Counter()
    pending: list[tuple[object, int]] = []
    steps: list[Callable[[], None]] = []

    def change() -> None:
        text = rng.choice(ROUTES)
        present = text in routes and rng.random() < 0.5
        scene.change(drop(text) if present else add(text, metric=rng.randrange(1000)))
        (routes.discard if present else routes.add)(text)

    def begin() -> None:
        record = scene.find(rng.choice(ADDRESSES))
        run = object()
        scene.runs.under_way.add(run)
        pending.append((run, record))
        if record:
            sent[scene.snapshot.records.prefix(record)] += 1

    def end() -> None:
        if pending:
            run, record = pending.pop(rng.randrange(len(pending)))
            scene.count(record)
            scene.runs.under_way.discard(run)

    steps += [change, begin, end, end, scene.tick]
    for _ in range(5000):
        rng.choice(steps)()
    while pending:
        end()
    scene.tick(4)
    check(scene, routes)
    assert sent.total() > 500
    assert scene.totals() == sent


def test_a_mirror_that_is_too_small_ends_and_the_snapshot_goes_on() -> None:
    scene = Scene(words=ROOT6 + (2 << 16) + 64)
    mirror = scene.attach()
    scene.tick()
    routes = {f"10.{number // 256}.{number % 256}.0/25" for number in range(2000)}
    scene.change(*(add(text) for text in routes))
    assert mirror.problem.startswith("no-memory: no room for")
    assert not is_counting(mirror)
    assert not any(scene.words)
    scene.tick(5)
    scene.change(drop("10.0.0.0/25"), add("10.0.0.0/26"))
    assert Prefix.parse("10.0.0.0/26") in scene.snapshot
    assert scene.snapshot.record_of(Prefix.parse("10.0.0.0/25")) == 0


def test_the_roots_are_where_the_programs_look(scene: Scene) -> None:
    """`bpf/traffic.bpf.c` has the places as constants of the loaded program."""
    scene.attach()
    scene.tick()
    scene.change(add("10.0.0.0/8"), add("2001:db8::/32"))
    assert scene.find(Address.parse("10.0.0.1"))
    assert scene.find(Address.parse("2001:db8::1"))
