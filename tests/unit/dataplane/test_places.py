"""The table that a program looks an interface up in."""

from __future__ import annotations

from routed.dataplane.layout import LINKS_MAX, PLACE_BYTES, PLACES, PROBES
from routed.dataplane.places import Places


def find(memory: bytearray, ifindex: int) -> tuple[int, int] | None:
    """Slot and header bytes, as `find_place` in bpf/traffic.bpf.c finds them."""
    for probe in range(PROBES):
        at = PLACE_BYTES * ((ifindex + probe) % PLACES)
        if int.from_bytes(memory[at : at + 4], "little") == ifindex:
            return memory[at + 4] | memory[at + 5] << 8, memory[at + 6]
    return None


def test_every_interface_is_found_where_a_program_looks() -> None:
    memory = bytearray(PLACES * PLACE_BYTES)
    places = Places(memoryview(memory))
    for number in range(LINKS_MAX):
        slot = places.free_slot()
        assert slot == number
        assert places.add(1 + number * 37, slot, 14 if number % 2 else 0)
    assert places.free_slot() is None
    for number in range(LINKS_MAX):
        assert find(memory, 1 + number * 37) == (number, 14 if number % 2 else 0)


def test_one_that_is_removed_is_not_found_and_those_behind_it_are() -> None:
    memory = bytearray(PLACES * PLACE_BYTES)
    places = Places(memoryview(memory))
    for slot, ifindex in enumerate((5, 5 + PLACES, 5 + 2 * PLACES)):
        assert places.add(ifindex, slot, 14)
    places.remove(5)
    places.remove(99)
    assert find(memory, 5) is None
    assert places.slot(5) is None
    assert find(memory, 5 + 2 * PLACES) == (2, 14)
    assert places.free_slot() == 0


def test_there_is_no_place_beyond_those_that_are_looked_at() -> None:
    places = Places(memoryview(bytearray(PLACES * PLACE_BYTES)))
    for slot in range(PROBES):
        assert places.add(7 + slot * PLACES, slot, 14)
    assert not places.add(7 + PROBES * PLACES, PROBES, 14)
    assert places.slot(7 + PROBES * PLACES) is None
