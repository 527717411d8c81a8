"""Status of kernel programming, sent by the parent and shown by the engine."""

from __future__ import annotations

from typing import Annotated

from ipc.lazy_dataclass import dataclass, field
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
"""The kernel's message, or the fault of a route or a rule, as text for people."""


@dataclass(frozen=True, slots=True)
class FibFailure:
    """A desired route that is not in the kernel."""

    table_id: int
    prefix: Prefix
    reason: Reason
    """The kernel's message, as text for people."""
    is_waiting: bool = False
    """Whether it waits for an address of this host (its source), and nothing is wrong with it."""


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
        """Why our route is not used, as text for people."""
        whose = f"protocol {self.protocol}, priority {self.priority}"
        if self.is_beside:
            return f"foreign route of the same priority, and the kernel uses either: {whose}"
        return f"preferred foreign route: {whose}"


@dataclass(frozen=True, slots=True)
class FibCounters:
    """Counters of kernel programming since the daemon started."""

    desired: int = 0
    installed: int = 0
    failed: int = 0
    pending: int = 0
    stale: int = 0
    """Our routes in the kernel that are no longer desired and are to be removed."""
    adopted: int = 0
    """Routes that an earlier daemon left, equal to desired ones, and that were kept."""
    swept: int = 0
    """Routes that an earlier daemon left, not desired, and that were removed."""
    repaired: int = 0
    """Our routes that were deleted or changed from outside and were restored."""
    shadowed: int = 0
    """Our routes to which the kernel was found to prefer a foreign route."""
    shadowed_now: int = 0
    """Our routes to which the kernel prefers a foreign route now; also counted elsewhere."""
    resyncs: int = 0
    overruns: int = 0
    """Times the kernel dropped notifications (ENOBUFS)."""
    kernel_writes: int = 0
    nexthop_objects: int = 0
    """Kernel nexthop objects of ours."""
    nexthops: Reason = ""
    """Whether routes go through nexthop objects, as text for people."""
    is_coupled: bool = True
    """Whether desired routes are written to the kernel (`fib decouple`)."""
    errors: Annotated[dict[Annotated[str, TextBytes(32)], int], Items(200)] = field(
        default_factory=dict
    )
    """Requests that the kernel refused or that failed, by the name of the errno."""
    refused: int = 0
    """Desired routes of the engine that were not admitted: another table, an impossible next
    hop."""

    @property
    def text(self) -> str:
        """One line for people: `3 of 4 routes in the kernel, 1 failed`."""
        words = f"{self.installed} of {self.desired} routes in the kernel"
        if self.failed:
            words += f", {self.failed} failed"
        if self.shadowed_now:
            words += f", {self.shadowed_now} shadowed"
        return words if self.is_coupled else f"decoupled: {words}"
