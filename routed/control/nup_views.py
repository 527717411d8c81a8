"""The view of NUP's own table; `views` explains what a view is."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Prefix

__all__ = ["NupRouteView"]


@dataclass(frozen=True, slots=True)
class NupRouteView:
    """A route as a neighbor advertises it, or as this router advertises it on an interface."""

    prefix: Prefix
    direction: str
    """`received` or `advertised`."""
    neighbor: Address | None
    """Router id of the sender; None for what is advertised, to all neighbors of the interface."""
    interface: str
    metric: int
    """As it is in the message, without the cost of the link."""
    origin: Address
    """Router id of the router whose prefix it is."""
    seqno: int
    """Of the origin; the larger, the newer."""
    distance_seqno: int | None
    """This router's feasibility distance of prefix and origin; None if it has none."""
    distance_metric: int | None
    state: str
    """`selected`; `feasible` (may be used, and another is better); `infeasible` (could close a
    loop, waits for a newer seqno of the origin); `refused` by the import policy; `advertised`."""
    tag: int
    is_external: bool
    """Whether another protocol's route was redistributed at the origin."""
    is_stale: bool
    """Whether its neighbor restarts and has not advertised it again."""
