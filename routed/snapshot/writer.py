"""The single writer of the shared-memory FIB: records, next-hop sets, two tries, one memfd.

The layout and the rules for readers are in `ipc/fib_layout.py`. The writer publishes the RIB's best
path for every prefix, including kernel and connected routes.

One burst of changes is published in an order that a reader can interrupt anywhere:

    1  new records and next-hop sets, in memory that no reader reaches yet
    2  the default routes and the tries' words, each by one aligned store: now they are reachable
    3  the generation
    4  replaced memory goes to limbo; the epoch advances at most every TICK_NS, and with it the
       compaction of the tries

The code that writes the words is chosen in `parts.py`: the C extension if it is built, or Python.

The file is as large as the address width of the layout allows and sparse: memory is used as it is
touched, and an empty table costs one page. After it is mapped it is sealed: no process can shrink
or grow it, and only this mapping can write it (F_SEAL_FUTURE_WRITE; Linux 5.1). Readers receive a
descriptor opened for reading: through one opened for writing, fallocate(2) would fill the holes in
spite of the seals. The file's mode prevents reopening it for writing. Opening that descriptor needs
a file system, so `SnapshotMemory` is created before the sandbox is entered.

Failure: `ArenaFull` when a region is used up; routes published before stay valid.

Sources: memfd_create(2); kernel memory order: aligned 32-bit stores are single stores on every
machine that Linux runs on, and x86-64 keeps their order. Elsewhere the C extension puts a release
barrier where order matters; without it a reader on such a machine could in theory see a word before
the memory that it refers to.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Sequence

from ipc.extension import fence
from ipc.fib_layout import (
    ADDRESS_MASK,
    ENDIAN_MARK,
    F_SEAL_FUTURE_WRITE,
    FAMILY_WORDS,
    HEADER_BYTES,
    LAYOUT_VERSION,
    MAGIC,
    RECORD_WORDS,
    FamilyHeader,
    Header,
)
from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Family, Prefix
from routed.rib.table import BestPathChanges
from routed.snapshot.compaction import Compaction
from routed.snapshot.mirror import RecordWords, RouteMirror
from routed.snapshot.parts import (
    ROOT_BITS,
    STRIDE_BITS,
    MakeParts,
    Memory,
    Region,
    native_parts,
    python_parts,
)
from routed.snapshot.trace import TrieShape, describe

__all__ = ["FibSnapshot", "MemoryPart", "SnapshotMemory"]

TRIE_WORDS = 1 << 26
"""256 MiB, the reach of a trie word's address; a million IPv4 prefixes take about 14 MB of it."""
DATA_WORDS = 1 << 26
"""256 MiB, three quarters for records (four million routes) and one for next-hop sets."""

TICK_NS = 10_000_000
"""Least time between epochs: a reader that is interrupted for less never has to retry."""

_PAGE_WORDS = HEADER_BYTES // 4

_DEFAULT_RECORD = {
    family: Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.DEFAULT_RECORD
    for position, family in enumerate(Family)
}
_ROUTES = {
    family: Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.ROUTES
    for position, family in enumerate(Family)
}
# Plain numbers for words that every burst writes: an enum member costs as much as the store.
_EPOCH = int(Header.EPOCH)
_GENERATION = Header.GENERATION // 2
_HEARTBEAT_NS = Header.HEARTBEAT_NS // 2


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """Memory usage of one region."""

    name: str
    used_bytes: int
    items: int
    help: str


class SnapshotMemory:
    """Owner of a sealed memfd of a snapshot's size, its mapping, and a descriptor for readers."""

    def __init__(self, *, trie_words: int = TRIE_WORDS, data_words: int = DATA_WORDS) -> None:
        """Create the memory, filled with zeros.

        Args:
            trie_words: size for both tries, at most 2**26, the reach of a trie word's address.
            data_words: size for records and next-hop sets.

        Raises:
            OSError: no memory, no descriptor, or a kernel before 5.1.
        """
        self.trie_end = min(_PAGE_WORDS + trie_words, ADDRESS_MASK + 1)
        self.sets_first = self.trie_end + data_words * 3 // 4
        self.sets_end = self.trie_end + data_words
        total_words = -(-self.sets_end // _PAGE_WORDS) * _PAGE_WORDS
        descriptor = os.memfd_create("routed-fib", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self.mapping = _map_sealed(descriptor, 4 * total_words)
            self.descriptor = _open_for_readers(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Unmap the memory; readers' mappings stay valid."""
        self.mapping.close()
        os.close(self.descriptor)


class FibSnapshot:
    """Owner of the memfd and everything in it."""

    def __init__(
        self,
        router_id: Address,
        daemon_pid: int,
        *,
        memory: SnapshotMemory | None = None,
        trie_words: int = TRIE_WORDS,
        data_words: int = DATA_WORDS,
        make_parts: MakeParts = native_parts or python_parts,
    ) -> None:
        """Make an empty snapshot.

        Args:
            router_id: stored in the header for readers.
            daemon_pid: the same.
            memory: the snapshot takes ownership; by default it is created from the sizes below.
            trie_words: as in `SnapshotMemory`.
            data_words: as in `SnapshotMemory`.
            make_parts: creates the parts of the writer, native or in Python.

        Raises:
            OSError: as in `SnapshotMemory`.
        """
        own = memory or SnapshotMemory(trie_words=trie_words, data_words=data_words)
        self._is_closed = False
        self._memory = own
        self._words = memoryview(own.mapping).cast("I")
        self._longs = memoryview(own.mapping).cast("Q")
        self._parts = make_parts(
            Memory(self._words, _PAGE_WORDS, own.trie_end, own.sets_first, own.sets_end)
        )
        self._compaction = Compaction(self._parts.trie_region, self._parts.tries.values())
        self._ticked_at_ns = 0
        self._mirror: RouteMirror | None = None
        record_region = self._parts.record_region
        self.records = RecordWords(self._words, record_region.first - RECORD_WORDS)
        """The records by number."""
        self._write_header(router_id, daemon_pid)

    def _write_header(self, router_id: Address, daemon_pid: int) -> None:
        words = self._words
        words[Header.LAYOUT_VERSION] = LAYOUT_VERSION
        words[Header.ENDIAN_MARK] = ENDIAN_MARK
        words[Header.ROUTER_ID] = router_id.addr_bits
        words[Header.TOTAL_WORDS] = len(words)
        words[Header.DAEMON_PID] = daemon_pid
        for position, region in enumerate(self._regions):
            words[Header.TRIE_FIRST + 2 * position] = region.first
            words[Header.TRIE_END + 2 * position] = region.end
        for family in Family:
            block = _family_block(family)
            words[block + FamilyHeader.ROOT_ADDRESS] = self._parts.tries[family].root_address
            words[block + FamilyHeader.ROOT_BITS] = ROOT_BITS[family]
            words[block + FamilyHeader.STRIDE_BITS] = STRIDE_BITS
        words[Header.MAGIC] = MAGIC  # last: it makes the snapshot valid

    @property
    def _regions(self) -> tuple[Region, Region, Region]:
        return self._parts.trie_region, self._parts.record_region, self._parts.set_region

    # --- questions

    def __contains__(self, prefix: Prefix) -> bool:
        """Whether a route of exactly this prefix is published."""
        family, addr_bits, prefix_len = prefix
        if not prefix_len:
            return bool(self._words[_DEFAULT_RECORD[family]])
        return bool(self._parts.tries[family].get(addr_bits, prefix_len))

    def path(self, address: Address) -> list[str]:
        """Describe for display how a search for an address proceeds, one line a step."""
        family = address.family
        lines = describe(self._shape(family), address.addr_bits)
        default = self._words[_family_block(family) + FamilyHeader.DEFAULT_RECORD]
        return [*lines, f"default route: {f'record {default}' if default else 'none'}"]

    def _shape(self, family: Family) -> TrieShape:
        root_address = self._parts.tries[family].root_address
        return TrieShape(self._words, root_address, ROOT_BITS[family], STRIDE_BITS, family.width)

    def record_of(self, prefix: Prefix) -> int:
        """Return the record of exactly this prefix; 0 if it is not published."""
        family, addr_bits, prefix_len = prefix
        if not prefix_len:
            return self._words[_DEFAULT_RECORD[family]]
        return self._parts.tries[family].get(addr_bits, prefix_len)

    # --- publishing

    def attach_mirror(self, mirror: RouteMirror) -> None:
        """Publish all routes in a mirror, too; it replaces an earlier one."""
        self._mirror = mirror

    def apply(
        self, changes: Iterable[BestPathChanges], ifname_of: Callable[[int], str], now_ns: int
    ) -> None:
        """Publish one burst of changes; none after `close`.

        Args:
            changes: each family at most once.
            ifname_of: returns the name of a link, by ifindex.
            now_ns: CLOCK_MONOTONIC.

        Raises:
            ArenaFull: a region is used up. Replaced memory is then not reused, so everything that
                readers can still reach is unchanged; the burst is published in part.
        """
        if self._is_closed:
            return
        records = self._parts.records
        burst = [(change, records.write(change, ifname_of)) for change in changes]
        fence()  # records must be visible before the words that refer to them
        for change, numbers in burst:
            replaced = self._publish(change, numbers)
            if self._mirror is not None:
                self._mirror.publish(change.family, change.keys, numbers)
                self._mirror.hold(replaced)
            records.drop(replaced)
        self._longs[_GENERATION] += 1
        self.heartbeat(now_ns)

    def _publish(self, changes: BestPathChanges, numbers: array[int]) -> array[int]:
        """Publish the new records. Returns the numbers of the replaced ones, 0 where there was
        none."""
        family, keys, _ = changes
        trie, default = self._parts.tries[family], _DEFAULT_RECORD[family]
        if keys[:1] == [0]:  # the default route: a prefix of length 0 is the first in order
            before = self._words[default]
            self._words[default] = numbers[0]
            replaced = trie.update(keys[1:], numbers[1:])
            replaced.append(before)
        else:
            replaced = trie.update(keys, numbers)
        self._words[_ROUTES[family]] = len(trie) + bool(self._words[default])
        return replaced

    def heartbeat(self, now_ns: int) -> None:
        """Update the heartbeat, and advance the epoch if it is due; do nothing after `close`.

        Args:
            now_ns: CLOCK_MONOTONIC.
        """
        if self._is_closed:
            return
        self._longs[_HEARTBEAT_NS] = now_ns
        if now_ns - self._ticked_at_ns >= TICK_NS:
            self._ticked_at_ns = now_ns
            # First the epoch: a reader must see it advance before it can see memory reused.
            fence()
            self._words[_EPOCH] = self._words[_EPOCH] + 1 & 0xFFFF_FFFF
            fence()
            parts = self._parts
            parts.trie_region.advance()
            parts.set_region.advance()
            # A record must not be reused while a program may still count for it.
            if self._mirror is None or self._mirror.advance(self.records):
                parts.record_region.advance()
            self._compaction.step()

    # --- its life

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self._words.nbytes

    def fileno(self) -> int:
        """Return the descriptor for readers; it can be mapped for reading only."""
        return self._memory.descriptor

    def close(self) -> None:
        """Mark the snapshot closed for readers, and unmap it; their mappings stay valid."""
        if self._is_closed:
            return
        self._is_closed = True
        self._words[Header.IS_CLOSED] = 1
        del self._compaction, self._parts, self.records  # they refer to the memory
        self._mirror = None
        self._words.release()
        self._longs.release()
        self._memory.close()

    def memory(self) -> Sequence[MemoryPart]:
        """Return the memory usage of the regions, for `show memory`."""
        own = self._parts
        parts = (
            (
                "trie",
                own.trie_region,
                sum(map(len, own.tries.values())),
                "LC-tries of both families; items are prefixes (zero pages cost nothing)",
            ),
            (
                "records",
                own.record_region,
                own.record_region.live_words // RECORD_WORDS,
                "one for each selected route",
            ),
            (
                "next-hop sets",
                own.set_region,
                len(own.sets),
                "shared by the routes that have the same next hops",
            ),
        )
        return [
            MemoryPart(name, 4 * region.touched_words, items, words)
            for name, region, items, words in parts
        ]


def _map_sealed(descriptor: int, size: int) -> mmap.mmap:
    """Fix the size of a memfd, map it for writing, and forbid other writable mappings."""
    os.ftruncate(descriptor, size)
    memory = mmap.mmap(descriptor, size)
    try:
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL,
        )
    except OSError:
        memory.close()
        raise
    return memory


def _open_for_readers(descriptor: int) -> int:
    """Open a memfd again for reading only; the descriptor cannot be reopened for writing."""
    os.fchmod(descriptor, 0o400)
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.dup(descriptor)  # no /proc: the seals have to suffice


def _family_block(family: Family) -> int:
    return Header.IPV4 + (FAMILY_WORDS if family is Family.IPV6 else 0)
