"""Addresses whose messages were refused on a link recently, and the reasons, for `show neighbors`.

A router whose key is wrong never becomes a neighbor, but an operator must be able to find it. Any
station can send datagrams from any number of addresses, so the list is bounded and its entries
expire. An address that was refused in two different seconds is not replaced by a new address:

    new --> refused once --in another second--> refused again --silent for REFUSAL_S--> removed

If all places are taken, a new address replaces the oldest one that was refused in one second only,
once that one has been listed for CHANCE_S. In a faster flood only each
ADMIT_EVERY-th newcomer gets a place: each stays long enough to be heard again, and a router that
sends heartbeats all the time is among them soon. A sender that has repeated MAX_KEPT addresses
every few seconds since before the router came keeps it out; the row with the number of hidden
addresses shows that.

Bounds: MAX_KEPT addresses for each link, MAX_SHOWN of them shown. Cost: constant for each message.
"""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address

__all__ = [
    "ADMIT_EVERY",
    "CHANCE_S",
    "MAX_KEPT",
    "MAX_SHOWN",
    "REFUSAL_S",
    "RefusalList",
    "RefusedSender",
]

MAX_SHOWN = 16
MAX_KEPT = 256
REFUSAL_S = 30.0
"""Time for which an address is listed after its last refused message."""
CHANCE_S = 2.5
"""Time for which a place is kept from other newcomers: two hello intervals of most links."""
ADMIT_EVERY = 16
"""Of this many newcomers that find no free place, one gets a place all the same."""


@dataclass(frozen=True, slots=True)
class RefusedSender:
    """One address, and the reason why its messages are refused."""

    source: Address
    reason: str
    at: float
    """Time of its last refused message; seconds, monotonic."""
    since: float
    """Time of its first refused message."""
    seconds: int
    """Number of separate seconds in which it was refused."""


class RefusalList:
    """The refused sources of one link, the most persistent first."""

    def __init__(self) -> None:
        self._once: dict[Address, RefusedSender] = {}
        """Addresses refused in one second only, the first one first."""
        self._again: dict[Address, RefusedSender] = {}
        """Addresses refused in several seconds, the one silent longest first."""
        self._unplaced = 0
        """Messages of newcomers without a place."""
        self._unplaced_at = 0.0

    def record(self, source: Address, reason: str, now: float) -> None:
        """Record a refused message from an address."""
        known = self._again.pop(source, None) or self._once.get(source)
        if known is None:
            if self._make_room(now):
                self._once[source] = RefusedSender(source, reason, now, now, 1)
            return
        if int(known.at) == int(now):
            refusal = RefusedSender(source, reason, now, known.since, known.seconds)
        else:
            refusal = RefusedSender(source, reason, now, known.since, known.seconds + 1)
        if refusal.seconds > 1:
            self._once.pop(source, None)
            self._again[source] = refusal
        else:
            self._once[source] = refusal

    def _make_room(self, now: float) -> bool:
        """Return whether a newcomer gets a place, and free one if needed."""
        if len(self._once) + len(self._again) < MAX_KEPT:
            return True
        silent = next(iter(self._again.values()), None)
        if silent is not None and now >= silent.at + REFUSAL_S:
            del self._again[silent.source]
            return True
        first = next(iter(self._once.values()), None)
        if first is not None and now >= first.since + CHANCE_S:
            del self._once[first.source]
            return True
        if now >= self._unplaced_at + REFUSAL_S:
            self._unplaced = 0
        self._unplaced += 1
        self._unplaced_at = now
        if first is None or self._unplaced % ADMIT_EVERY:
            return False
        del self._once[first.source]
        return True

    def clear(self, source: Address) -> None:
        """Remove an address that has been accepted."""
        self._once.pop(source, None)
        self._again.pop(source, None)

    def recent(self, now: float) -> list[RefusedSender]:
        """Return the listed addresses, the most persistent first, MAX_SHOWN at most. If there are
        more, the last row says so."""
        kept = [
            refusal
            for refusals in (self._again, self._once)
            for refusal in refusals.values()
            if now < refusal.at + REFUSAL_S
        ]
        kept.sort(key=lambda refusal: (-refusal.seconds, refusal.since))
        shown, hidden = kept[:MAX_SHOWN], len(kept) - MAX_SHOWN
        if hidden > 0:
            is_more = self._unplaced and now < self._unplaced_at + REFUSAL_S
            count = f"{hidden} or more" if is_more else str(hidden)
            last = shown.pop()
            reason = f"{last.reason} ({count} other addresses are refused and not shown)"
            shown.append(RefusedSender(last.source, reason, last.at, last.since, last.seconds))
        return shown
