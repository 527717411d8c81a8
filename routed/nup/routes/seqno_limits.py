"""Limits on how far and how often other routers may make this one raise a seqno of its own. Pure.

A seqno is raised because a router needs a newer one (SEQNO_REQUEST), or because ours was received
with a seqno that we never issued. Both come from others, and each raise is an update that crosses
the network. So

- a raise goes at most LEAP beyond the first seqno of this boot, so that a router whose clock went
back by years is at once where it was. Beyond that, raises are by one, and one a second: no faster
than first seqnos grow, so that the next boot can reach any seqno that this one was driven to. A
seqno further ahead is none of ours, and what asks for it is answered when its feasibility distance
is dropped;
- of one prefix, BURST raises are made at once and one more every REFILL_S;
- a seqno of ours that we did not issue is exceeded at once the first time, as an earlier boot of
ours may have left it; the next time after FOREIGN_GAP_S, and then after twice as long each time.

With the last rule, two routers that were given one router id and announce one prefix do not drive
each other round: after a few raises each is quiet for a minute, and `is_contested` is true.

Bounds: one entry for each prefix of ours that was raised in the last QUIET_S.
"""

from __future__ import annotations

import enum
from collections import OrderedDict

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Prefix
from routed.model.seqno import next_seqno, seqno_distance

__all__ = [
    "BURST",
    "CONTESTED_RAISES",
    "FOREIGN_GAP_S",
    "LEAP",
    "Raise",
    "RaiseLimits",
]

LEAP = 1 << 27
"""A first seqno is a time in seconds: this makes up for a clock that went back by up to four years.
It is half of the reach, so a router that is driven so far stays within the reach of its
neighbors."""
BURST = 16
REFILL_S = 1.0
FOREIGN_GAP_S = 1.0
FOREIGN_GAP_MAX_S = 64.0
CONTESTED_RAISES = 3
"""Number of raises beyond seqnos that we did not issue from which another router is assumed."""
QUIET_S = 180.0
"""An entry is dropped after so long without a raise."""


class Raise(enum.Enum):
    """The outcome of a request for a newer seqno of ours."""

    GRANTED = "granted"
    BEHIND = "ours is as new"
    TOO_FAR = "too far ahead"
    TOO_SOON = "too soon after the last ones"


@dataclass(slots=True)
class _Entry:
    tokens: float
    filled_at: float
    at: float
    """Time of the last raise."""
    foreign: int = 0
    """Raises beyond seqnos that we did not issue."""
    foreign_at: float = 0.0
    """Time from which the next raise beyond a foreign seqno is allowed."""


class RaiseLimits:
    """Owner of the times of raises by prefix."""

    def __init__(self, first_seqno: int) -> None:
        """Start without raises.

        Args:
            first_seqno: of this boot.
        """
        self._first_seqno = first_seqno
        self._entries: OrderedDict[Prefix, _Entry] = OrderedDict()
        """The one that was raised last, last."""

    def admit_request(self, prefix: Prefix, own: int, wanted: int, now: float) -> Raise:
        """Decide whether to raise a seqno of ours to one that a router needs."""
        verdict = self._reach(own, wanted)
        if verdict is not Raise.GRANTED:
            return verdict
        entry = self._refreshed(prefix, now)
        is_contested = entry.foreign >= CONTESTED_RAISES and now < entry.foreign_at
        if entry.tokens < 1 or is_contested or not self._may_go_on(prefix, wanted, now):
            return Raise.TOO_SOON
        self._use(prefix, entry, now)
        return Raise.GRANTED

    def admit_foreign(self, prefix: Prefix, own: int, heard: int, now: float) -> Raise:
        """Decide whether to raise a seqno of ours beyond one that we did not issue."""
        verdict = self._reach(own, heard)
        if verdict is not Raise.GRANTED:
            return verdict
        entry = self._refreshed(prefix, now)
        if now < entry.foreign_at or not self._may_go_on(prefix, next_seqno(heard), now):
            return Raise.TOO_SOON
        gap_s = min(FOREIGN_GAP_S * 2**entry.foreign, FOREIGN_GAP_MAX_S)
        entry.foreign += 1
        entry.foreign_at = now + gap_s
        self._use(prefix, entry, now)
        return Raise.GRANTED

    def is_contested(self, prefix: Prefix, now: float) -> bool:
        """Return whether another router issues seqnos of ours for a prefix."""
        entry = self._entries.get(prefix)
        return entry is not None and entry.foreign >= CONTESTED_RAISES and now < entry.at + QUIET_S

    def _refreshed(self, prefix: Prefix, now: float) -> _Entry:
        while self._entries:
            oldest, entry = next(iter(self._entries.items()))
            if now < entry.at + QUIET_S:
                break
            del self._entries[oldest]
        known = self._entries.get(prefix)
        if known is None:
            return _Entry(float(BURST), now, now)
        known.tokens = min(BURST, known.tokens + (now - known.filled_at) / REFILL_S)
        known.filled_at = now
        return known

    def _use(self, prefix: Prefix, entry: _Entry, now: float) -> None:
        entry.tokens = max(entry.tokens - 1, 0.0)
        entry.at = now
        self._entries[prefix] = entry
        self._entries.move_to_end(prefix)

    def _reach(self, own: int, wanted: int) -> Raise:
        distance = seqno_distance(wanted, own)
        if distance == -(1 << 31):  # exactly half the ring away: neither before nor after
            return Raise.TOO_FAR
        if distance <= 0:
            return Raise.BEHIND
        is_near = distance == 1 or self._is_leap(wanted)
        return Raise.GRANTED if is_near else Raise.TOO_FAR

    def _is_leap(self, wanted: int) -> bool:
        return 0 < seqno_distance(wanted, self._first_seqno) <= LEAP

    def _may_go_on(self, prefix: Prefix, wanted: int, now: float) -> bool:
        """Return whether a prefix may be raised beyond LEAP, where there is no burst."""
        known = self._entries.get(prefix)
        return known is None or self._is_leap(wanted) or now >= known.at + REFILL_S
