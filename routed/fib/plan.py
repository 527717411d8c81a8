"""From the pending difference to the operations that close it, in the order that hurts least.

New and changed routes first, removals last: a destination that moves from one prefix to another
keeps a path all the while. Replacing in place leaves no moment without a route, so it is used
wherever the kernel does it reliably:

    IPv4    RTM_NEWROUTE with NLM_F_REPLACE replaces the one route of that key
    IPv6    it replaces only between routes of one kind (through gateways or not: the kernel's
            `rt6_qualify_for_ecmp`); across kinds it may leave both, so that is remove + install,
            next to each other in one buffer

Source: fib6_add_rt2node of Linux (net/ipv6/ip6_fib.c).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

from routed.fib.delta import DeltaTracker
from routed.fib.ownership import RouteKey, RouteValue
from routed.model.prefix import Family

__all__ = ["FibOp", "OpKind", "plan"]


class OpKind(enum.Enum):
    """What is asked of the kernel."""

    INSTALL = "install"
    """Must not exist yet (NLM_F_CREATE | NLM_F_EXCL): never overwrites somebody else's route."""
    REPLACE = "replace"
    """Must exist, and is ours as far as we know (NLM_F_REPLACE)."""
    REMOVE = "remove"


class FibOp(NamedTuple):
    """One operation on one kernel route."""

    kind: OpKind
    key: RouteKey
    value: RouteValue
    """What to install; for a removal what is there now."""


def plan(
    tracker: DeltaTracker[RouteKey, RouteValue],
    *,
    may_remove: bool,
    is_held: Callable[[RouteKey], bool],
    limit: int,
) -> list[FibOp]:
    """Choose the next operations.

    Args:
        tracker: desired and kernel; not changed.
        may_remove: whether the gate is open (the engine has said that it is in sync).
        is_held: whether a key must wait (it failed a moment ago, or somebody else holds it).
        limit: at most about this many operations, so that one batch stays short.

    Returns:
        Operations in the order to send them; empty when there is nothing to do now.
    """
    operations: list[FibOp] = []
    for operation in _all_operations(tracker, may_remove=may_remove, is_held=is_held):
        # A removal and the install that completes it must not be parted.
        if len(operations) >= limit and operation.kind is not OpKind.INSTALL:
            break
        operations.append(operation)
        if len(operations) > limit:
            break
    return operations


def _all_operations(
    tracker: DeltaTracker[RouteKey, RouteValue],
    *,
    may_remove: bool,
    is_held: Callable[[RouteKey], bool],
) -> Iterator[FibOp]:
    for key in tracker.updates:
        if is_held(key):
            continue
        wanted, there = tracker.desired[key], tracker.kernel.get(key)
        if there is None:
            yield FibOp(OpKind.INSTALL, key, wanted)
        elif is_replaceable(key, there, wanted):
            yield FibOp(OpKind.REPLACE, key, wanted)
        else:
            yield FibOp(OpKind.REMOVE, key, there)
            yield FibOp(OpKind.INSTALL, key, wanted)
    if may_remove:
        for key in tracker.removals:
            if not is_held(key):
                yield FibOp(OpKind.REMOVE, key, tracker.kernel[key])


def is_replaceable(key: RouteKey, there: RouteValue, wanted: RouteValue) -> bool:
    """Whether the kernel changes `there` into `wanted` by one replace."""
    if key.prefix.family is Family.IPV4:
        return True
    return _is_gatewayed(there) and _is_gatewayed(wanted)


def _is_gatewayed(value: RouteValue) -> bool:
    return bool(value.next_hops) and all(hop.via is not None for hop in value.next_hops)
