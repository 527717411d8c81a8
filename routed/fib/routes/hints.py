"""Hints for people that supplement the kernel's messages where those are not sufficient. Pure."""

from __future__ import annotations

import errno

from routed.fib.routes.plan import FibBatch, KernelRefusal, OpKind, Refusals
from routed.model.prefix import Family

__all__ = ["LINKS_ALONE", "NO_IPV6", "add_hints"]

LINKS_ALONE = (
    "several next hops without a gateway: Linux takes them for IPv6 as nexthop objects only"
    " (`nexthop_objects: auto`)"
)


NO_IPV6 = "this kernel has no IPv6"


def add_hints(batch: FibBatch, refused: Refusals) -> None:
    """Add hints to the refusals of one batch.

    Cost: linear in the refusals.
    """
    if batch.table_key.family is not Family.IPV6 or batch.kind is OpKind.REMOVE:
        return
    for position, outcome in refused.items():
        hops = batch.values[position].next_hops
        if outcome.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            refused[position] = KernelRefusal(outcome.errno, outcome.detail or NO_IPV6)
        if outcome.errno == errno.EINVAL and len(hops) > 1 and any(hop.via is None for hop in hops):
            refused[position] = KernelRefusal(outcome.errno, LINKS_ALONE)
