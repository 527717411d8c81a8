"""Hints for people that supplement the kernel's messages where those are not sufficient. Pure."""

from __future__ import annotations

import errno

from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.plan import FibBatch, KernelRefusal, OpKind, Refusals
from routed.model.prefix import Family

__all__ = ["LINKS_ALONE", "NO_IPV6", "add_hints", "is_waiting"]

LINKS_ALONE = (
    "several next hops without a gateway: Linux takes them for IPv6 as nexthop objects only"
    " (`nexthop_objects: auto`)"
)


NO_IPV6 = "this kernel has no IPv6"


_NO_SUCH_SOURCE = ("Invalid prefsrc address", "Invalid source address")
"""The kernel's messages for IPv4 (fib_valid_prefsrc) and IPv6 (ip6_route_info_create)."""
_WAITS = "waits for its source "
_NO_SUCH_CONGCTL = "Unknown tcp congestion algorithm"


def is_waiting(reason: str) -> bool:
    """Whether the reason of a failure is that the source is no address of this host yet."""
    return reason.startswith(_WAITS)


def add_hints(batch: FibBatch, refused: Refusals) -> None:
    """Add hints to the refusals of one batch.

    Cost: linear in the refusals.
    """
    if batch.kind is OpKind.REMOVE:
        return
    for position, outcome in refused.items():
        detail = _hint(batch.table_key.family, batch.values[position], outcome)
        if detail != outcome.detail:
            refused[position] = KernelRefusal(outcome.errno, detail)


def _hint(family: Family, value: RouteValue, outcome: KernelRefusal) -> str:
    """Return the detail of a refusal, better than the kernel's where that is possible."""
    hops, attributes = value.next_hops, value.attributes
    if attributes is not None and outcome.detail.rstrip(".") in _NO_SUCH_SOURCE:
        return f"{_WAITS}{attributes.src}, which is no address of this host"
    if attributes is not None and outcome.detail.startswith(_NO_SUCH_CONGCTL):
        return f"this kernel has no TCP congestion control {attributes.congctl!r}"
    if family is Family.IPV4:
        return outcome.detail
    if outcome.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        return outcome.detail or NO_IPV6
    if outcome.errno == errno.EINVAL and len(hops) > 1 and any(hop.via is None for hop in hops):
        return LINKS_ALONE
    return outcome.detail
