"""The writer of the shared-memory FIB: what it takes, gives back, and lets nobody else touch."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from routed.model.prefix import Prefix
from routed.snapshot.compaction import SLACK_WORDS
from tests.fakes.fib_writer import NAMES, PARTS, Writer, add, best_path, drop, hop


@pytest.fixture(params=list(PARTS.values()), ids=list(PARTS))
def writer(request: pytest.FixtureRequest) -> Iterator[Writer]:
    writer = Writer(request.param)
    yield writer
    writer.snapshot.close()


def test_memory_is_given_back_when_everything_is_removed(writer: Writer) -> None:
    routes = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(2000)]
    own = writer.snapshot
    empty = [region.live_words for region in own._regions]
    for _ in range(3):
        writer.apply(
            *[add(text, hop(f"192.0.2.{index % 8 + 1}")) for index, text in enumerate(routes)]
        )
        assert len(own._parts.sets) == 8, "equal next hops are shared"
        writer.apply(*map(drop, routes))
    assert [region.live_words for region in own._regions] == empty


def test_a_selection_of_both_families_is_of_each(writer: Writer) -> None:
    shared = best_path(metric=7)
    prefixes = ["10.0.0.0/8", "2001:db8::/32", "10.1.0.0/16"]
    for text in prefixes:
        writer.apply((Prefix.parse(text), shared))
    with writer.reader() as reader:
        assert sorted(route.prefix for route in reader.routes()) == sorted(prefixes)
        for text in prefixes:
            found = reader.lookup(text.partition("/")[0])
            assert found is not None
            assert (found.prefix, found.metric) == (text, 7)


def test_links_that_are_renamed_are_named_anew(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = add("10.0.0.0/8", hop("192.0.2.1"))
    writer.apply(route)
    monkeypatch.setitem(NAMES, 2, "renamed")
    writer.apply(route)
    with writer.reader() as reader:
        found = reader.lookup("10.0.0.1")
        assert found is not None
        assert [each.dev for each in found.next_hops] == ["renamed"]


def test_a_table_that_was_large_comes_together_again(writer: Writer) -> None:
    """Every eighth block stays, so that all along the memory something is in use."""
    routes = [f"{10 + (n >> 14)}.{n >> 6 & 255}.{(n & 63) << 2}.0/24" for n in range(1 << 15)]
    sparse = [text for number, text in enumerate(routes) if number % 512 < 64]
    writer.apply(*[add(text, metric=1) for text in routes])
    arena = writer.snapshot._parts.trie_region
    kept = set(sparse)
    writer.apply(*[drop(text) for text in routes if text not in kept])
    reached = arena.reached_words
    assert reached - arena.live_words > SLACK_WORDS, "there is something to do"
    with writer.reader() as reader:
        for text in sparse[:200]:
            writer.apply()
            found = reader.lookup(text.partition("/")[0])
            assert found is not None
            assert found.metric == 1
        assert arena.reached_words - arena.live_words <= SLACK_WORDS
        for text in routes[::7]:
            assert (reader.lookup(text.partition("/")[0]) is not None) == (text in kept)
    writer.apply(*[add(text) for text in routes if text not in kept])
    assert arena.touched_words <= reached * 5 // 4, "what was given up is used again"


def test_nobody_can_write_shrink_or_grow_it(writer: Writer) -> None:
    descriptor = writer.snapshot.fileno()
    for_writing = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)  # its owner can, or root
    for number in (descriptor, for_writing):
        with pytest.raises(PermissionError):
            mmap.mmap(number, 4096, prot=mmap.PROT_WRITE, flags=mmap.MAP_SHARED)
        with pytest.raises(OSError, match=r"not permitted|Invalid argument"):
            os.ftruncate(number, 4096)
        with pytest.raises(OSError, match=r"not permitted|Invalid argument"):
            os.ftruncate(number, 1 << 30)
        with pytest.raises(OSError, match=r"not permitted|Bad file"):
            os.write(number, b"x")
        with pytest.raises(PermissionError):
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(for_writing)


def test_a_reader_cannot_fill_its_holes(writer: Writer) -> None:
    descriptor = writer.snapshot.fileno()
    before = os.fstat(descriptor).st_blocks
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    assert os.fstat(descriptor).st_blocks == before
    assert os.fstat(descriptor).st_mode & 0o777 == 0o400, "others cannot open it for writing"
