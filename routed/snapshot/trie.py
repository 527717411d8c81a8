"""The LC-trie: longest-prefix match over one flat array of 32-bit words, IPv4 and IPv6 alike.

The layout, word by word, is in `ipc/fib_layout.py`, because readers in other processes search the
same words. This is the writer: in addition to the words, it keeps the prefixes of each slot, which
it needs to rebuild a part of the words.

    root directory         one slot per value of the first `root_bits` bits
      slot  <= CROWDED     one *block*: an LC subtrie over the ranges of the slot's prefixes
      slot  >  CROWDED     a child directory of `stride_bits` more bits, and so on

What is inside a block, and how it is built, is in `block.py`.

A prefix that ends inside a directory's own bits changes only `fallback` words. A longer one changes
one slot: its block is rebuilt in free memory and published by one aligned store of the slot's word;
the old block is reused two epochs later (`arena.py`). So a reader sees the slot before the change
or after it, never a mixture.

Invariants:
    Values are 1 to 2**31 - 1; 0 in a word means "nothing", so zero-filled memory is an empty trie.
    A child directory collapses into a block again when it holds at most CROWDED / 2 prefixes.
    The default route is not in the trie but in the snapshot's header.

This is the reference, and the implementation without a compiler; the C extension (`writer_trie.c`)
writes the same words, and its own tables take a quarter of the memory.

Cost of one change: O(CROWDED) for a long prefix, typically 20 to 60 us; 2^(directory depth -
length) stores for a short one, in strides at C speed where the range is uniform.

Failure: `ArenaFull` from the arena. A change allocates all its memory before it publishes anything,
but a batch may have been applied in part.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator

from ipc.extension import fence
from ipc.fib_layout import ADDRESS_MASK
from routed.snapshot.arena import Arena
from routed.snapshot.block import Entries, Entry, build_block

__all__ = ["LcTrie", "Place"]


class _Slot:
    """The prefixes of one slot, in order, and their values."""

    __slots__ = ("entries", "values")

    def __init__(self, width: int) -> None:
        self.entries: Entries = array("Q") if width == 32 else []
        self.values = array("I")

    def add(self, entry: Entry, value: int) -> None:
        """Append a prefix that comes after all others."""
        self.entries.append(entry)
        self.values.append(value)


class _Directory:
    """The writer's state of one directory."""

    __slots__ = ("address", "blocks", "count", "depth", "end", "lengths", "short", "slots")

    def __init__(self, address: int, depth: int, end: int) -> None:
        self.address = address
        self.depth = depth
        """Bits decided above it."""
        self.end = end
        """Bits decided with it."""
        self.slots: dict[int, _Directory | _Slot] = {}
        self.short: dict[Entry, int] = {}
        """Prefixes that end inside, and their values."""
        self.lengths = bytearray(1 << end - depth)
        """Per slot, 1 + how many of the directory's bits its fallback's prefix has; 0 for none."""
        self.blocks: dict[int, tuple[int, int]] = {}
        """Per slot, address and size of its block."""
        self.count = 0
        """Prefixes in it and below it."""

    @property
    def bits(self) -> int:
        return self.end - self.depth


Place = tuple[_Directory, int]
"""A slot of a directory."""


class _Batch:
    """Changes in order, the former values, and the directories that became sparse."""

    __slots__ = ("entries", "old", "shrunk", "values")

    def __init__(self, entries: Entries, values: array[int], old: array[int]) -> None:
        self.entries = entries
        self.values = values
        self.old = old
        self.shrunk: list[list[_Directory]] = []
        """Paths to directories that may collapse into a block."""


class LcTrie:
    """Prefixes of one width and their values, in a shared array of words."""

    def __init__(
        self,
        words: memoryview,
        arena: Arena,
        *,
        width: int,
        root_bits: int,
        stride_bits: int,
        crowded: int,
    ) -> None:
        """Make an empty trie.

        Args:
            words: the whole memory, format "I".
            arena: the part of the memory that may be used.
            width: bits of an address, 32 or 128.
            root_bits: bits of the root directory.
            stride_bits: bits of a child directory.
            crowded: a slot with more prefixes becomes a child directory.
        """
        self._words = words
        self._bytes = words.cast("B")
        self._arena = arena
        self._width = width
        self._stride_bits = stride_bits
        self._crowded = crowded
        self._root = self._new_directory(0, root_bits)

    @property
    def root_address(self) -> int:
        """The address of the root directory."""
        return self._root.address

    def __len__(self) -> int:
        return self._root.count

    # --- changing

    def update(self, entries: list[Entry], values: array[int]) -> array[int]:
        """Apply many changes; a slot that several of them touch is rebuilt and published once.

        Args:
            entries: network bits << 8 | length, in order, each once; a length is 1 to width.
            values: one for each, array("I"): 1 to 2**31 - 1 to add the prefix or to replace its
                value; 0 to remove it.

        Returns:
            The former value of each; 0 for a prefix that was absent.

        Raises:
            ArenaFull: no room; some changes are published and some are not.
        """
        batch = _Batch(
            array("Q", entries) if self._width == 32 else list(entries),
            values,
            array("I", bytes(4 * len(entries))),
        )
        self._update([self._root], batch, 0, len(entries))
        # Only now: when a directory collapses, its touched slots cease to exist.
        for path in batch.shrunk:
            self._collapse(path)
        return batch.old

    def get(self, addr_bits: int, prefix_len: int) -> int:
        """Return the value of exactly this prefix; 0 if it is absent.

        Args:
            addr_bits: the network, host bits zero.
            prefix_len: 1 to width.
        """
        entry, directory = addr_bits << 8 | prefix_len, self._root
        while prefix_len > directory.end:
            found = directory.slots.get(self._slot(directory, addr_bits))
            if found is None:
                return 0
            if isinstance(found, _Slot):
                position = bisect.bisect_left(found.entries, entry)
                is_there = position < len(found.entries) and found.entries[position] == entry
                return found.values[position] if is_there else 0
            directory = found
        return directory.short.get(entry, 0)

    def _update(self, path: list[_Directory], batch: _Batch, first: int, last: int) -> None:
        """Apply the part of a batch that lies inside a directory, slot by slot."""
        directory, entries = path[-1], batch.entries
        shift = self._width - directory.end + 8
        mask = (1 << directory.bits) - 1
        while first < last:
            entry = entries[first]
            if entry & 0xFF <= directory.end:
                batch.old[first] = self._change_short(path, entry, batch.values[first])
                if not batch.values[first]:
                    batch.shrunk.append(path)
                first += 1
                continue
            # At the slot's own address the shorter prefixes come first, so the rest is a run.
            at, slot = first, entry >> shift & mask
            first = bisect.bisect_left(entries, (entry >> shift) + 1 << shift, first, last)
            content = directory.slots.get(slot)
            if isinstance(content, _Directory):
                self._update([*path, content], batch, at, first)
            elif self._change_slot(path, slot, content, batch, at, first):
                self._rebuild(directory, slot)
                if len(path) > 1:
                    batch.shrunk.append(path)

    def _slot(self, directory: _Directory, addr_bits: int) -> int:
        return addr_bits >> self._width - directory.end & (1 << directory.bits) - 1

    def _change_slot(
        self,
        path: list[_Directory],
        slot: int,
        content: _Slot | None,
        batch: _Batch,
        first: int,
        last: int,
    ) -> bool:
        """Apply changes to a slot's list. Returns whether its block must be rebuilt."""
        if content is None:
            values = batch.values[first:last]
            if all(values):
                content = path[-1].slots[slot] = _Slot(self._width)
                content.entries = batch.entries[first:last]
                content.values = values
                self._count(path, last - first)
                return True
            content = path[-1].slots[slot] = _Slot(self._width)
        entries, values = content.entries, content.values
        count, is_changed = len(entries), False
        for index in range(first, last):
            entry, value = batch.entries[index], batch.values[index]
            position = bisect.bisect_left(entries, entry)
            if position < len(entries) and entries[position] == entry:
                old = batch.old[index] = values[position]
                if value:
                    values[position] = value
                else:
                    del entries[position], values[position]
                is_changed = is_changed or value != old
            elif value:
                entries.insert(position, entry)
                values.insert(position, value)
                is_changed = True
        self._count(path, len(entries) - count)
        return is_changed or not entries

    @staticmethod
    def _count(path: list[_Directory], step: int) -> None:
        for directory in path:
            directory.count += step

    # --- prefixes that end inside a directory

    def _change_short(self, path: list[_Directory], entry: Entry, value: int) -> int:
        """Change a prefix that ends inside a directory. Returns its former value."""
        directory = path[-1]
        addr_bits, prefix_len = entry >> 8, entry & 0xFF
        first = self._slot(directory, addr_bits)
        count = 1 << directory.end - prefix_len
        mark = prefix_len - directory.depth + 1
        old = directory.short.get(entry, 0)
        if value:
            if not old:
                self._count(path, 1)
            directory.short[entry] = value
            self._store_fallbacks(directory, first, count, value, mark, up_to=mark)
        elif old:
            del directory.short[entry]
            self._count(path, -1)
            cover_value, cover_mark = self._cover(directory, addr_bits, prefix_len)
            self._store_fallbacks(directory, first, count, cover_value, cover_mark, exactly=mark)
        return old

    def _cover(self, directory: _Directory, addr_bits: int, prefix_len: int) -> tuple[int, int]:
        """Find value and mark of the next shorter prefix in the directory; (0, 0) for none."""
        for length in range(prefix_len - 1, directory.depth - 1, -1):
            host_bits = self._width - length
            value = directory.short.get((addr_bits >> host_bits << host_bits) << 8 | length)
            if value is not None:
                return value, length - directory.depth + 1
        return 0, 0

    def _store_fallbacks(
        self,
        directory: _Directory,
        first: int,
        count: int,
        value: int,
        mark: int,
        *,
        up_to: int | None = None,
        exactly: int | None = None,
    ) -> None:
        """Write fallbacks of a range of slots, leaving those of longer prefixes alone."""
        lengths = directory.lengths
        at = directory.address + 2 * first + 1
        present = lengths[first : first + count]
        is_uniform = (
            max(present) <= up_to
            if up_to is not None
            else exactly is not None and present.count(exactly) == count
        )
        if is_uniform:
            self._words[at : at + 2 * count : 2] = array("I", [value]) * count
            lengths[first : first + count] = bytes([mark]) * count
            return
        for index, length in enumerate(present):
            if length == exactly or (up_to is not None and length <= up_to):
                lengths[first + index] = mark
                self._words[at + 2 * index] = value

    # --- slots

    def _new_directory(self, depth: int, bits: int) -> _Directory:
        size = 2 << bits
        address, is_fresh = self._arena.allocate(size)
        if not is_fresh:
            self._words[address : address + size] = array("I", bytes(4 * size))
        return _Directory(address, depth, depth + bits)

    def _rebuild(self, directory: _Directory, slot: int) -> None:
        """Rebuild the content of a slot and publish it."""
        content = directory.slots[slot]
        assert isinstance(content, _Slot)  # a batch descends into a directory
        old = directory.blocks.pop(slot, None)
        left = self._width - directory.end
        if not content.entries:
            del directory.slots[slot]
            word = 0
        elif len(content.entries) > self._crowded and left > self._stride_bits:
            child = self._split(directory, content)
            directory.slots[slot] = child
            word = child.address
        else:
            word = self._build_block(directory, slot, content, left)
        fence()  # the block must be visible before the word that refers to it
        self._words[directory.address + 2 * slot] = word
        if old is not None:
            self._arena.release(*old)

    def _build_block(self, directory: _Directory, slot: int, content: _Slot, left: int) -> int:
        word, block = build_block(content.entries, content.values, self._width, left)
        if block:
            size = len(block) >> 2
            address, _ = self._arena.allocate(size)
            self._bytes[4 * address : 4 * (address + size)] = block
            directory.blocks[slot] = address, size
            word |= address
        return word

    def _split(self, directory: _Directory, content: _Slot) -> _Directory:
        """Build a child directory with a crowded slot's prefixes; no reader reaches it yet."""
        bits = min(self._stride_bits, self._width - directory.end)
        child = self._new_directory(directory.end, bits)
        touched = set()
        for entry, value in zip(content.entries, content.values, strict=True):
            if entry & 0xFF <= child.end:
                self._change_short([child], entry, value)
                continue
            slot = self._slot(child, entry >> 8)
            inner = child.slots.get(slot)
            assert not isinstance(inner, _Directory)
            if inner is None:
                inner = child.slots[slot] = _Slot(self._width)
            inner.add(entry, value)  # they come in order
            child.count += 1
            touched.add(slot)
        for slot in touched:
            self._rebuild(child, slot)
        return child

    def _collapse(self, path: list[_Directory]) -> None:
        """Turn child directories that have become sparse into blocks again, the lowest first."""
        while len(path) > 1 and path[-1].count <= self._crowded // 2:
            child, parent = path[-1], path[-2]
            path = path[:-1]
            slot = next((slot for slot, inner in parent.slots.items() if inner is child), None)
            if slot is None:
                continue  # another change of the batch has collapsed it
            gathered = parent.slots[slot] = _Slot(self._width)
            for entry, value in sorted(self._gather(child)):
                gathered.add(entry, value)
            self._rebuild(parent, slot)
            self._release(child)

    def _gather(self, directory: _Directory) -> Iterator[tuple[Entry, int]]:
        yield from directory.short.items()
        for inner in directory.slots.values():
            if isinstance(inner, _Directory):
                yield from self._gather(inner)
            else:
                yield from zip(inner.entries, inner.values, strict=True)

    def _release(self, directory: _Directory) -> None:
        for inner in directory.slots.values():
            if isinstance(inner, _Directory):
                self._release(inner)
        for block in directory.blocks.values():
            self._arena.release(*block)
        self._arena.release(directory.address, 2 << directory.bits)
        # A path that still contains it must find nothing left to release.
        directory.slots.clear()
        directory.blocks.clear()

    # --- moving

    def places_above(self, address: int) -> list[Place]:
        """Return every slot that refers to a block or child directory at this address or above.

        Cost: a step for each slot in use.
        """
        found: list[Place] = []
        directories = [self._root]
        while directories:
            directory = directories.pop()
            for slot, (at, _) in directory.blocks.items():
                if at >= address:
                    found.append((directory, slot))
            for slot, content in directory.slots.items():
                if isinstance(content, _Directory):
                    directories.append(content)
                    if content.address >= address:
                        found.append((directory, slot))
        return found

    def move(self, place: Place, limit: int) -> bool:
        """Move a slot's block or child directory below an address. Returns whether there was room.

        A reader finds the same content at the old or the new place. Nothing happens if the slot has
        changed since `places_above` and refers to a lower address already.
        """
        directory, slot = place
        content, block = directory.slots.get(slot), directory.blocks.get(slot)
        if isinstance(content, _Directory):
            block = content.address, 2 << content.bits
        if block is None or block[0] < limit:
            return True
        old, size = block
        new = self._arena.allocate_below(size, limit)
        if new is None:
            return False
        words, at = self._words, directory.address + 2 * slot
        words[new : new + size] = words[old : old + size]
        if isinstance(content, _Directory):
            content.address = new
        else:
            directory.blocks[slot] = new, size
        fence()  # the copy must be visible before the word that refers to it
        words[at] = words[at] & ~ADDRESS_MASK | new
        self._arena.release(old, size)
        return True
