"""Which interface has which counters: the table that the programs look an interface up in. Pure.

Open addressing by ifindex, as `find_place` in `bpf/traffic.bpf.c` searches it: a program looks at
PROBES places from the ifindex on, whatever they hold, so a place can be freed at any time.

The ifindex of a place is written last, by one aligned store: a program sees all of it or nothing.
"""

from __future__ import annotations

from routed.dataplane.layout import LINKS_MAX, PLACE_BYTES, PLACES, PROBES

__all__ = ["Places"]

_WORDS = PLACE_BYTES // 4


class Places:
    """Owner of the table, and of the slots of counters."""

    def __init__(self, memory: memoryview) -> None:
        """Args:
        memory: the array `places`, format "B"; all zero.
        """
        self._words = memory.cast("I")
        self._place_of: dict[int, int] = {}
        self._slot_of: dict[int, int] = {}

    def slot(self, ifindex: int) -> int | None:
        """Return the slot of an interface; None if it has none."""
        return self._slot_of.get(ifindex)

    def free_slot(self) -> int | None:
        """Return the lowest slot that no interface has; None if there is none."""
        used = set(self._slot_of.values())
        return next((slot for slot in range(LINKS_MAX) if slot not in used), None)

    def add(self, ifindex: int, slot: int, header_bytes: int) -> bool:
        """Give an interface the counters of a slot.

        Args:
            ifindex: of an interface that has none.
            slot: a free one.
            header_bytes: before the network header of its frames.

        Returns:
            Whether there was a place for it.
        """
        taken = set(self._place_of.values())
        near = ((ifindex + probe) % PLACES for probe in range(PROBES))
        place = next((place for place in near if place not in taken), None)
        if place is None:
            return False
        self._place_of[ifindex], self._slot_of[ifindex] = place, slot
        self._words[_WORDS * place + 1] = slot | header_bytes << 16
        self._words[_WORDS * place] = ifindex
        return True

    def remove(self, ifindex: int) -> None:
        """Take the counters of an interface away; no effect if it has none."""
        place = self._place_of.pop(ifindex, None)
        if place is not None:
            del self._slot_of[ifindex]
            self._words[_WORDS * place] = 0
