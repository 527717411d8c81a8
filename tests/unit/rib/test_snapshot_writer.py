"""The shared-memory FIB: written here, read by the public reader at any moment, also damaged."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import shutil
import socket
import struct
import subprocess
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import snapshot as layout
from ipc.snapshot import FibReader, FoundNextHop, FoundRoute, Header, SnapshotError
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, Route, RouteSource, RouteType
from routed.rib.snapshot import TICK_NS, FibSnapshot
from routed.rib.table import BestChange, Selection
from tests.fakes.lpm_oracle import LpmOracle

ROOT = Path(__file__).resolve().parents[3]
WORDS = 1 << 20
NAMES = {2: "eth0", 3: "a-name-of-15-ch"}


def selection(prefix: Prefix, *hops: NextHop, metric: int = 0, tag: int = 0) -> Selection:
    kind = RouteType.UNICAST if hops else RouteType.BLACKHOLE
    route = Route(prefix, RouteSource.STATIC, 1, metric, tag, kind, next_hops=hops)
    return Selection(route, hops)


def add(text: str, *hops: NextHop, metric: int = 0, tag: int = 0) -> BestChange:
    prefix = Prefix.parse(text)
    return BestChange(prefix, selection(prefix, *hops, metric=metric, tag=tag))


def drop(text: str) -> BestChange:
    return BestChange(Prefix.parse(text), None)


def hop(via: str | None, ifindex: int = 2, weight: int = 1) -> NextHop:
    return NextHop(Address.parse(via) if via else None, ifindex, weight)


class Writer:
    """A snapshot and a clock that lets every burst move the epoch on."""

    def __init__(self) -> None:
        self.snapshot = FibSnapshot(
            Address.parse("10.255.0.1"), 4711, trie_words=WORDS, data_words=WORDS
        )
        self.now_ns = 10**9

    def apply(self, *changes: BestChange) -> None:
        self.now_ns += TICK_NS
        self.snapshot.apply(changes, lambda index: NAMES.get(index, f"if{index}"), self.now_ns)

    def reader(self) -> FibReader:
        return FibReader.from_fd(os.dup(self.snapshot.fileno()))


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.snapshot.close()


def test_a_reader_finds_the_longest_match_with_everything_about_it(writer: Writer) -> None:
    writer.apply(
        add("0.0.0.0/0", hop("192.0.2.1")),
        add("10.0.0.0/8"),
        add("10.1.0.0/16", hop("192.0.2.2", 2, 3), hop("fe80::2", 3, 1), metric=7, tag=9),
        add("2001:db8::/32", hop(None, 3)),
    )
    with writer.reader() as reader:
        found = reader.lookup("10.1.2.3")
        assert found is not None
        assert (found.prefix, found.type, found.source) == ("10.1.0.0/16", "unicast", "static")
        assert (found.distance, found.metric, found.tag) == (1, 7, 9)
        assert found.next_hops == (
            FoundNextHop("192.0.2.2", "eth0", 2, 3, False),
            FoundNextHop("fe80::2", "a-name-of-15-ch", 3, 1, False),
        )
        ten, default = reader.lookup("10.2.0.0"), reader.lookup("192.0.2.77")
        assert ten is not None
        assert default is not None
        assert (ten.prefix, ten.type, ten.next_hops) == ("10.0.0.0/8", "blackhole", ())
        assert default.prefix == "0.0.0.0/0"
        six = reader.lookup(socket.inet_pton(socket.AF_INET6, "2001:db8::1"))
        assert six is not None
        assert six.next_hops == (FoundNextHop(None, "a-name-of-15-ch", 3, 1, False),)
        assert reader.lookup("2001:db9::1") is None
        assert len(reader) == 4
        assert reader.daemon_pid == 4711


def test_changes_reach_a_reader_that_is_mapped_already(writer: Writer) -> None:
    with writer.reader() as reader:
        assert reader.lookup("10.1.2.3") is None
        before = reader.generation
        writer.apply(add("10.0.0.0/8"), add("::/0"))
        assert reader.lookup("10.1.2.3") is not None
        assert reader.lookup("2001:db8::1") is not None
        writer.apply(drop("10.0.0.0/8"), drop("::/0"))
        assert reader.lookup("10.1.2.3") is None
        assert reader.lookup("2001:db8::1") is None
        assert reader.generation == before + 2
        assert len(reader) == 0


def test_age_and_end_can_be_told(writer: Writer) -> None:
    writer.snapshot.heartbeat(5 * 10**9)
    other = Writer()
    with writer.reader() as reader, other.reader() as orphan:
        assert reader.age_s(8 * 10**9) == 3
        assert not reader.is_closed
        other.apply(add("10.0.0.0/8"))
        other.snapshot.close()
        assert orphan.is_closed
        assert orphan.lookup("10.0.0.1") is not None, "what was there stays"


def test_memory_is_given_back_when_everything_is_removed(writer: Writer) -> None:
    routes = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(2000)]
    own = writer.snapshot
    arenas = (own._trie_arena, own._record_arena, own._set_arena)
    empty = [arena.live_words for arena in arenas]
    for _ in range(3):
        writer.apply(
            *[add(text, hop(f"192.0.2.{index % 8 + 1}")) for index, text in enumerate(routes)]
        )
        assert len(writer.snapshot._sets) == 8, "equal next hops are shared"
        writer.apply(*map(drop, routes))
    after = [arena.live_words for arena in arenas]
    assert after == empty


def test_nobody_can_write_shrink_or_grow_it(writer: Writer) -> None:
    descriptor = writer.snapshot.fileno()
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, 4096, prot=mmap.PROT_WRITE, flags=mmap.MAP_SHARED)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 4096)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1 << 30)
    with pytest.raises(PermissionError):
        os.write(descriptor, b"x")
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW])
def test_a_reader_trusts_only_what_is_sealed(seals: int) -> None:
    descriptor = os.memfd_create("fake", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 8192)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(SnapshotError, match="sealed"):
        FibReader.from_fd(descriptor)


def test_a_reader_refuses_what_is_no_snapshot(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(SnapshotError, match="memfd"):
        FibReader.from_fd(os.dup(file.fileno()))
    with pytest.raises(SnapshotError, match="magic"):
        FibReader(mmap.mmap(-1, 8192))


def table(rng: random.Random, count: int) -> dict[Prefix, int]:
    """Random prefixes of both families that nest, and a value each."""
    found: dict[Prefix, int] = {}
    for number in range(count):
        family = rng.choice(list(Family))
        top = rng.choice([0x0A, 0x20, 0xC0]) << family.width - 8
        bits = top | rng.getrandbits(family.width - 8)
        if rng.random() < 0.5:
            bits = top | rng.getrandbits(12) << family.width - 20
        length = rng.choice([0, 4, 8, 12, 16, 17, 20, 24, 28, 32, 48, 64, 96, 127, 128])
        found[Prefix.masked(family, bits, min(length, family.width))] = number + 1
    return found


def oracles(content: dict[Prefix, int]) -> dict[Family, LpmOracle]:
    by_family = {family: LpmOracle(family.width) for family in Family}
    for prefix, value in content.items():
        by_family[prefix.family].put(prefix.addr_bits, prefix.prefix_len, value)
    return by_family


@pytest.mark.parametrize("seed", range(5))
def test_the_reader_agrees_with_a_linear_search(writer: Writer, seed: int) -> None:
    content = table(random.Random(seed), 300)
    writer.apply(*[add(str(prefix), metric=value) for prefix, value in content.items()])
    with writer.reader() as reader:
        for family, oracle in oracles(content).items():
            for addr_bits in oracle.interesting_addresses():
                found = reader.lookup(Address(family, addr_bits).packed)
                assert (found.metric if found else 0) == oracle.lookup(addr_bits)


class WatchedWords:
    """Words that let something happen before each one is read."""

    def __init__(self, words: memoryview, step: Callable[[], None]) -> None:
        self._words, self._step = words, step

    def __getitem__(self, index: int | slice) -> object:
        self._step()
        return self._words[index]

    def __len__(self) -> int:
        return len(self._words)

    def release(self) -> None:
        self._words.release()


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_is_old_or_new_whatever_happens_in_between(writer: Writer, seed: int) -> None:
    rng = random.Random(seed)
    prefixes = [
        Prefix.masked(
            Family.IPV4,
            0x0A000000 | rng.getrandbits(14) << 8,
            rng.choice([14, 18, 20, 24, 28]),
        )
        for _ in range(40)
    ]
    oracle = LpmOracle(32)
    address = 0x0A000000 | rng.getrandbits(22)
    history: list[int] = []

    def change() -> None:
        prefix, value = rng.choice(prefixes), rng.randrange(1, 1000)
        if rng.random() < 0.4:
            if oracle.prefixes.pop((prefix.addr_bits, prefix.prefix_len), None):
                writer.apply(BestChange(prefix, None))
        else:
            oracle.put(prefix.addr_bits, prefix.prefix_len, value)
            writer.apply(BestChange(prefix, selection(prefix, metric=value)))
        history.append(oracle.lookup(address))

    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if rng.random() < 0.3:
            change()

    with writer.reader() as reader:
        reader._words = WatchedWords(reader._words, step)  # type: ignore[assignment]
        for _ in range(300):
            address = rng.choice(prefixes).addr_bits | rng.getrandbits(10)
            history[:] = [oracle.lookup(address)]
            found = reader.lookup(Address(Family.IPV4, address).packed)
            assert (found.metric if found else 0) in history
    assert steps > 1000


@given(
    st.lists(st.tuples(st.integers(0, WORDS - 1), st.integers(0, 2**32 - 1)), max_size=30),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_snapshot_gives_an_answer_or_an_error(
    damage: list[tuple[int, int]], address: int
) -> None:
    memory = _damageable()
    words = memoryview(memory).cast("I")
    saved: dict[int, int] = {}
    live = [index for index in range(len(words)) if words[index]]
    for place, value in damage:
        index = live[place % len(live)]
        saved.setdefault(index, words[index])
        words[index] = value
    try:
        _try_everything(memory, address)
    finally:
        for index, value in saved.items():
            words[index] = value
        words.release()


def _try_everything(memory: mmap.mmap, address: int) -> None:
    copy = mmap.mmap(-1, len(memory))
    copy[:] = memory[:]
    try:
        reader = FibReader(copy)
    except SnapshotError:
        return
    with reader:
        for packed in (struct.pack("!I", address), struct.pack("!I", 0x0A010203), bytes(16)):
            try:
                reader.lookup(packed)
            except SnapshotError:
                pass


_DAMAGEABLE: list[mmap.mmap] = []


def _damageable() -> mmap.mmap:
    """A small snapshot in private memory, made once."""
    if not _DAMAGEABLE:
        writer = FibSnapshot(Address.parse("10.255.0.1"), 1, trie_words=800_000, data_words=8000)
        content = table(random.Random(7), 120)
        changes = [
            add(str(prefix), hop("192.0.2.1"), metric=value) for prefix, value in content.items()
        ]
        writer.apply(changes, lambda index: "eth0", 10**9)
        memory = mmap.mmap(-1, os.fstat(writer.fileno()).st_size)
        memory[:] = writer._memory[:]
        writer.close()
        _DAMAGEABLE.append(memory)
    return _DAMAGEABLE[0]


C_EXAMPLE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "fib_snapshot.h"

int main(int argc, char **argv)
{
    int fd = argc > 1 ? atoi(argv[1]) : 0;
    struct stat st;
    struct rfib fib;
    struct rfib_record record;
    struct rfib_next_hop hop;
    uint32_t query[5];
    if (fstat(fd, &st) < 0)
        return 2;
    void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED || rfib_init(&fib, base, (size_t)st.st_size) < 0)
        return 3;
    while (fread(query, sizeof query, 1, stdin) == 1) {
        int status = query[0] == 4 ? rfib_lookup4(&fib, query[4], &record, &hop, 1)
                                   : rfib_lookup6(&fib, query + 1, &record, &hop, 1);
        if (status < 0)
            return 4;
        if (status == RFIB_FOUND)
            printf("%u/%u %u %.16s\n", rfib_family(&record), rfib_prefix_len(&record),
                   record.metric, hop.ifname);
        else
            puts("none");
    }
    return 0;
}
"""


def test_the_c_header_gives_the_same_answers(writer: Writer, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on this machine")
    (tmp_path / "example.c").write_text(C_EXAMPLE)
    subprocess.run(
        [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'ipc'}",
         "-o", tmp_path / "example", tmp_path / "example.c"],
        check=True,
    )  # fmt: skip
    content = table(random.Random(11), 400)
    writer.apply(
        *[
            add(str(prefix), hop("192.0.2.1", 2 + value % 2), metric=value)
            for prefix, value in content.items()
        ]
    )
    queries, expected = array("I"), []
    with writer.reader() as reader:
        for family, oracle in oracles(content).items():
            for addr_bits in sorted(oracle.interesting_addresses()):
                version = 4 if family is Family.IPV4 else 6
                words = [addr_bits >> shift & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]
                queries.extend([version, *words])
                found = reader.lookup(Address(family, addr_bits).packed)
                expected.append(_c_line(version, found) if found else "none")
    descriptor = writer.snapshot.fileno()
    done = subprocess.run(
        [tmp_path / "example", str(descriptor)],
        input=queries.tobytes(),
        capture_output=True,
        pass_fds=[descriptor],
        check=True,
    )
    assert done.stdout.decode().splitlines() == expected


def _c_line(version: int, found: FoundRoute) -> str:
    length = found.prefix.partition("/")[2]
    return f"{version}/{length} {found.metric} {found.next_hops[0].dev}"


def test_the_c_header_has_the_same_numbers() -> None:
    text = (ROOT / "ipc" / "fib_snapshot.h").read_text(encoding="utf-8")
    for entry in Header:
        name = "IPV4" if entry is Header.IPV4 else entry.name
        assert f"RFIB_W_{name} = {entry.value}" in text
    for field in layout.FamilyHeader:
        assert f"RFIB_F_{field.name} = {field.value}" in text
    assert f"RFIB_W_IPV6 = {Header.IPV4 + layout.FAMILY_WORDS}" in text
    for name in ("RECORD_WORDS", "NEXT_HOP_WORDS", "NEXT_HOPS_MAX", "DIRECTORY_BITS_MAX"):
        assert f"RFIB_{name} = {getattr(layout, name)}" in text
    assert f"RFIB_MAGIC {layout.MAGIC:#010x}u" in text
