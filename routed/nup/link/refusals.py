"""Who was turned away on a link lately, and why: what `show neighbors` says of those not believed.

A router whose key is wrong never becomes a neighbor, and an operator who looks for it should find
it all the same. The list is short and forgets: anybody can put datagrams on a wire, from as many
addresses as there are. So addresses are ranked by how many separate seconds they were refused in,
and one that was refused in a second second goes for no newcomer:

    newcomer --> once --in another second--> again --silent for REFUSAL_S--> forgotten

Where all places are taken a newcomer has the place of the one that has been heard only once for
longest, once that has had CHANCE_S to come again. In a flood that is faster only each
ADMIT_EVERY-th newcomer gets a place: each stays long enough to be heard again, if it is there, and
a router that says hello all the time is among them soon. Whoever has repeated MAX_KEPT addresses
every few seconds since before the router came keeps it out; the row that says how many are not
shown tells of that.

Bounds: MAX_KEPT addresses for each link, MAX_SHOWN of them shown. Cost: constant for each message.
"""

from __future__ import annotations

from dataclasses import dataclass

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
"""So long after its last refused message an address is still listed."""
CHANCE_S = 2.5
"""So long a place is not another newcomer's: two hello intervals of most links."""
ADMIT_EVERY = 16
"""Of newcomers that find no place so many lead to one that gets it all the same."""


@dataclass(frozen=True, slots=True)
class RefusedSender:
    """One address, and what is wrong with what comes from it."""

    source: Address
    reason: str
    at: float
    """When its last message was refused; seconds, monotonic."""
    since: float
    """When the first one was."""
    seconds: int
    """In how many separate seconds it was refused."""


class RefusalList:
    """The refused sources of one link, those that keep coming before all others."""

    def __init__(self) -> None:
        self._once: dict[Address, RefusedSender] = {}
        """Refused in one second only, the first one first."""
        self._again: dict[Address, RefusedSender] = {}
        """Refused in several, the one that has been silent for longest first."""
        self._unplaced = 0
        """Messages of newcomers that there was no place for."""
        self._unplaced_at = 0.0

    def record(self, source: Address, reason: str, now: float) -> None:
        """Something from this address was refused."""
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
        """Whether a newcomer has a place."""
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
        """This address has been believed."""
        self._once.pop(source, None)
        self._again.pop(source, None)

    def recent(self, now: float) -> list[RefusedSender]:
        """Those that are not forgotten yet, the most persistent first: MAX_SHOWN at most. If there
        are more, the last one says so."""
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
