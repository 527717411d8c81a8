"""The operations that write the pending difference, in the order with the least disruption.

Routes without a gateway come first, because gateways of other routes may resolve over them
(`FibTable.plan_link_routes`), then new and changed routes, removals last: a destination that moves
from one prefix to another always has a path. A replacement in place leaves no time without a route,
so it is used wherever the kernel does it reliably:

    IPv4    RTM_NEWROUTE with NLM_F_REPLACE replaces the one route of that key
    IPv6    it replaces only between routes of one kind (through gateways of their own or not: the
            kernel's `rt6_qualify_for_ecmp`; one through a nexthop object is of the other kind);
            across kinds it may leave both, so that is remove + install, next to each other in one
            buffer

Where one key may have several routes (`ownership.SEVERAL`) a replace would change the first of
them, which may be foreign: that is remove + install, too.

Operations are columns: one kind, one table key, keys and values side by side, because a million
routes are encoded by column (`routes/bulk.py`).

Source: fib6_add_rt2node of Linux (net/ipv6/ip6_fib.c).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from typing import NamedTuple

from routed.fib.routes.ownership import RouteValue, TableKey
from routed.fib.routes.pending import Pending
from routed.fib.routes.tracker import RouteTracker
from routed.model.prefix import Family

__all__ = [
    "FibBatch",
    "KernelRefusal",
    "OpKind",
    "Refusals",
    "plan_pending",
    "plan_removals",
]


class OpKind(enum.Enum):
    """The kind of an operation on routes."""

    INSTALL = "install"
    """The route must not exist yet (NLM_F_CREATE | NLM_F_EXCL): no foreign route is overwritten."""
    REPLACE = "replace"
    """The route must exist, and is ours as far as is known (NLM_F_REPLACE)."""
    REMOVE = "remove"


class FibBatch(NamedTuple):
    """One kind of operation on many routes of one table key."""

    kind: OpKind
    table_key: TableKey
    keys: Sequence[int]
    """`Prefix.as_int` of each."""
    values: Sequence[RouteValue]
    """The values to install, side by side with `keys`; for a removal those in the kernel."""


class KernelRefusal(NamedTuple):
    """Why the kernel refused one operation."""

    errno: int
    detail: str
    """The kernel's message (extended acknowledgement), or empty."""

    @property
    def text(self) -> str:
        """Describe the refusal for people."""
        reason = os.strerror(self.errno)
        return f"{self.detail} ({reason})" if self.detail else reason


Refusals = dict[int, KernelRefusal]
"""Refused operations of a batch, by position; all others were carried out."""


def plan_pending(table_key: TableKey, pending: Pending[int, RouteValue]) -> list[FibBatch]:
    """Plan the writes of these desired routes."""
    keys, values, there = pending
    if not keys:
        return []
    if there is None:
        return [FibBatch(OpKind.INSTALL, table_key, keys, values)]
    ways = [
        _way(table_key.family, before, desired)
        for before, desired in zip(there, values, strict=True)
    ]
    if all(way is OpKind.REPLACE for way in ways):
        return [FibBatch(OpKind.REPLACE, table_key, keys, values)]
    installs, replaces, removals = _Columns(), _Columns(), _Columns()
    for key, desired, before, way in zip(keys, values, there, ways, strict=True):
        if way is OpKind.REPLACE:
            replaces.add(key, desired)
            continue
        if before is not None:
            removals.add(key, before)
        installs.add(key, desired)
    batches = [
        replaces.batch(OpKind.REPLACE, table_key),
        removals.batch(OpKind.REMOVE, table_key),
        installs.batch(OpKind.INSTALL, table_key),
    ]
    return [batch for batch in batches if batch.keys]


def _way(family: Family, there: RouteValue | None, desired: RouteValue) -> OpKind:
    """Select a replace or an install for a desired route; an install may need a removal before."""
    if there is not None and is_replaceable(family, there, desired):
        return OpKind.REPLACE
    return OpKind.INSTALL


def plan_removals(table_key: TableKey, tracker: RouteTracker, limit: int) -> list[FibBatch]:
    """Plan the removal of the next keys of `to_remove`, at most `limit`."""
    keys, values, _ = tracker.pop_to_remove(limit)
    return [FibBatch(OpKind.REMOVE, table_key, keys, values)] if keys else []


class _Columns:
    def __init__(self) -> None:
        self._keys: list[int] = []
        self._values: list[RouteValue] = []

    def add(self, key: int, value: RouteValue) -> None:
        self._keys.append(key)
        self._values.append(value)

    def batch(self, kind: OpKind, table_key: TableKey) -> FibBatch:
        return FibBatch(kind, table_key, self._keys, self._values)


def is_replaceable(family: Family, there: RouteValue, desired: RouteValue) -> bool:
    """Whether the kernel changes `there` into `desired` by one replace."""
    if there.is_several:
        return False
    if family is Family.IPV4:
        return True
    if there.nexthop_id and desired.nexthop_id:
        return True
    return _is_gatewayed(there) and _is_gatewayed(desired)


def _is_gatewayed(value: RouteValue) -> bool:
    return bool(value.next_hops) and all(hop.via is not None for hop in value.next_hops)
