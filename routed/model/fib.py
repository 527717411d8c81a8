"""How the kernel side fares, as the parent tells the engine and the engine tells people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Prefix

__all__ = [
    "PROGRESS_ROUTES_MAX",
    "REASON_BYTES_MAX",
    "FibCounters",
    "FibFailure",
    "PreferredRoute",
    "Reason",
]

PROGRESS_ROUTES_MAX = 300
"""Routes in one message about failed routes, and as many about recovered ones."""
REASON_BYTES_MAX = 200
Word = Annotated[str, TextBytes(32)]
Reason = Annotated[str, TextBytes(REASON_BYTES_MAX)]
"""What the kernel said, or what is wrong with a route or a rule, for people."""


@dataclass(frozen=True, slots=True)
class FibFailure:
    """A wanted route that the kernel does not hold."""

    table_id: int
    prefix: Prefix
    reason: Reason
    """For people: what the kernel said."""


@dataclass(frozen=True, slots=True)
class PreferredRoute:
    """A foreign route that the kernel prefers to one of ours for the same prefix."""

    table_id: int
    prefix: Prefix
    protocol: Word
    """Its rtm_protocol by name, or by number."""
    priority: int
    is_beside: bool = False
    """IPv6: it has the priority of ours, and the kernel uses either."""

    @property
    def reason(self) -> str:
        """Why ours is not used, in words for people."""
        whose = f"protocol {self.protocol}, priority {self.priority}"
        if self.is_beside:
            return f"foreign route of the same priority, and the kernel uses either: {whose}"
        return f"preferred foreign route: {whose}"


@dataclass(frozen=True, slots=True)
class FibCounters:
    """How the kernel side has fared since the daemon started."""

    desired: int = 0
    installed: int = 0
    failed: int = 0
    pending: int = 0
    stale: int = 0
    """Routes of ours in the kernel that nobody wants (any more), on their way out."""
    adopted: int = 0
    """Leftovers of an earlier life that were equal and were kept."""
    swept: int = 0
    """Leftovers that nobody wanted."""
    repaired: int = 0
    """Routes that somebody else deleted or changed, put back."""
    shadowed: int = 0
    """Routes of ours that were found to lose against somebody else's with a better priority."""
    shadowed_now: int = 0
    """Routes of ours that lose so at the moment; they are in the kernel, or failed, too."""
    resyncs: int = 0
    overruns: int = 0
    """Times the kernel dropped notifications (ENOBUFS)."""
    kernel_writes: int = 0
    nexthop_objects: int = 0
    """Kernel nexthop objects of ours."""
    nexthops: Reason = ""
    """Whether routes go through nexthop objects, in words."""
    is_coupled: bool = True
    """Whether what is wanted belongs in the kernel (`fib decouple`)."""
    errors: Annotated[dict[Annotated[str, TextBytes(32)], int], Items(200)] = field(
        default_factory=dict
    )
    """What the kernel refused or failed, by the name of the errno."""
    refused: int = 0
    """Desired routes of the engine that it had no right to: another table, a next hop that cannot
    be."""

    @property
    def text(self) -> str:
        """For people, in one line: `3 of 4 routes in the kernel, 1 failed`."""
        words = f"{self.installed} of {self.desired} routes in the kernel"
        if self.failed:
            words += f", {self.failed} failed"
        if self.shadowed_now:
            words += f", {self.shadowed_now} shadowed"
        return words if self.is_coupled else f"decoupled: {words}"
