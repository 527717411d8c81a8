"""From the pending difference to the operations that close it, in the order that hurts least.

New and changed routes first, removals last: a destination that moves from one prefix to another
keeps a path all the while. Replacing in place leaves no moment without a route, so it is used
wherever the kernel does it reliably:

    IPv4    RTM_NEWROUTE with NLM_F_REPLACE replaces the one route of that key
    IPv6    it replaces only between routes of one kind (through gateways of their own or not: the
            kernel's `rt6_qualify_for_ecmp`; one through a nexthop object is of the other kind);
            across kinds it may leave both, so that is remove + install, next to each other in one
            buffer

Operations are columns: one kind, one space, keys and values side by side, because what is done to a
million routes is done to columns (`fib/bulk.py`).

Source: fib6_add_rt2node of Linux (net/ipv6/ip6_fib.c).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from routed.fib.delta import DeltaTracker
from routed.fib.ownership import RouteSpace, RouteValue
from routed.model.prefix import Family

__all__ = [
    "FibBatch",
    "OpKind",
    "Outcome",
    "PendingQueue",
    "Refusals",
    "plan_removals",
    "plan_writes",
]


class OpKind(enum.Enum):
    """What is asked of the kernel."""

    INSTALL = "install"
    """Must not exist yet (NLM_F_CREATE | NLM_F_EXCL): never overwrites somebody else's route."""
    REPLACE = "replace"
    """Must exist, and is ours as far as we know (NLM_F_REPLACE)."""
    REMOVE = "remove"


class FibBatch(NamedTuple):
    """The same thing done to many routes of one space."""

    kind: OpKind
    space: RouteSpace
    keys: Sequence[int]
    """`Prefix.as_int` of each."""
    values: Sequence[RouteValue]
    """What to install, side by side with `keys`; for a removal what is there now."""


class Outcome(NamedTuple):
    """Why the kernel refused one operation."""

    errno: int
    detail: str
    """The kernel's own words (extended acknowledgement), or empty."""

    @property
    def words(self) -> str:
        """For people."""
        words = os.strerror(self.errno)
        return f"{self.detail} ({words})" if self.detail else words


Refusals = dict[int, Outcome]
"""What a batch was refused, by position; all others were carried out."""


class PendingQueue:
    """The order in which pending keys have their turn.

    A dictionary whose oldest entries are deleted one after the other is slow to find its first (it
    looks at every hole), so keys are taken from a list of those that were pending a while ago, and
    the list is made anew when it is used up.
    """

    def __init__(self, *, is_scattered: bool) -> None:
        """Args:
        is_scattered: let keys that came next to each other have their turns far apart: the
            kernel takes a sorted million out three times slower than a shuffled one (measured,
            peers.md section 1). Otherwise the oldest comes first.
        """
        self._is_scattered = is_scattered
        self._keys: list[int] = []

    def take(self, pending: Mapping[int, RouteValue], limit: int) -> list[int]:
        """The next keys, at most `limit`; none only when nothing is pending."""
        while pending:
            if not self._keys:
                self._keys = self._scattered(list(pending)) if self._is_scattered else list(pending)
                self._keys.reverse()
            taken = self._keys[: -limit - 1 : -1]
            del self._keys[-limit:]
            keys = [key for key in taken if key in pending]
            if keys:
                return keys
        self._keys.clear()
        return []

    @staticmethod
    def _scattered(keys: list[int]) -> list[int]:
        return [key for start in range(_SCATTER) for key in keys[start::_SCATTER]]


_SCATTER = 256


def plan_writes(
    space: RouteSpace, tracker: DeltaTracker[int, RouteValue], keys: Sequence[int]
) -> list[FibBatch]:
    """What to do about these keys of `wanted`."""
    if not keys:
        return []
    if not tracker.replaced:
        values = [tracker.wanted[key] for key in keys]
        return [FibBatch(OpKind.INSTALL, space, keys, values)]
    installs, replaces, removals = _Columns(), _Columns(), _Columns()
    for key in keys:
        wanted, there = tracker.wanted[key], tracker.replaced.get(key)
        if there is not None and is_replaceable(space.family, there, wanted):
            replaces.add(key, wanted)
            continue
        if there is not None:
            removals.add(key, there)
        installs.add(key, wanted)
    batches = [
        replaces.batch(OpKind.REPLACE, space),
        removals.batch(OpKind.REMOVE, space),
        installs.batch(OpKind.INSTALL, space),
    ]
    return [batch for batch in batches if batch.keys]


def plan_removals(
    space: RouteSpace, tracker: DeltaTracker[int, RouteValue], keys: Sequence[int]
) -> list[FibBatch]:
    """What to do about these keys of `unwanted`."""
    if not keys:
        return []
    return [FibBatch(OpKind.REMOVE, space, keys, [tracker.unwanted[key] for key in keys])]


class _Columns:
    def __init__(self) -> None:
        self._keys: list[int] = []
        self._values: list[RouteValue] = []

    def add(self, key: int, value: RouteValue) -> None:
        self._keys.append(key)
        self._values.append(value)

    def batch(self, kind: OpKind, space: RouteSpace) -> FibBatch:
        return FibBatch(kind, space, self._keys, self._values)


def is_replaceable(family: Family, there: RouteValue, wanted: RouteValue) -> bool:
    """Whether the kernel changes `there` into `wanted` by one replace."""
    if family is Family.IPV4:
        return True
    if there.nexthop_id and wanted.nexthop_id:
        return True
    return _is_gatewayed(there) and _is_gatewayed(wanted)


def _is_gatewayed(value: RouteValue) -> bool:
    return bool(value.next_hops) and all(hop.via is not None for hop in value.next_hops)
