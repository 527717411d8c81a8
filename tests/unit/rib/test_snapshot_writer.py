"""The writer of the shared-memory FIB: what it takes, gives back, and lets nobody else touch."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from tests.fakes.fib_writer import Writer, add, drop, hop


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.snapshot.close()


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
