"""Who was turned away on a link lately, and why: what `show neighbors` says of those not believed.

A router whose key is wrong never becomes a neighbor, and an operator who looks for it should find
it all the same. The list is short and forgets: anybody can put datagrams on a wire.
"""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.prefix import Address

__all__ = ["MAX_REFUSALS", "REFUSAL_S", "Refusal", "RefusalList"]

MAX_REFUSALS = 16
REFUSAL_S = 30.0
"""So long after its last refused message an address is still listed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One address, and what is wrong with what comes from it."""

    source: Address
    reason: str
    at: float
    """When its last message was refused; seconds, monotonic."""


class RefusalList:
    """The last refused sources of one link."""

    def __init__(self) -> None:
        self._refusals: dict[Address, Refusal] = {}
        """Oldest first."""

    def note(self, source: Address, reason: str, now: float) -> None:
        """Something from this address was refused."""
        self._refusals.pop(source, None)
        if len(self._refusals) >= MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[source] = Refusal(source, reason, now)

    def forgive(self, source: Address) -> None:
        """This address has been believed."""
        self._refusals.pop(source, None)

    def recent(self, now: float) -> list[Refusal]:
        """Those that are not forgotten yet."""
        return [refusal for refusal in self._refusals.values() if now < refusal.at + REFUSAL_S]
