"""Settings of a NUP link. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address
from routed.nup.auth.keys import KeyRing
from routed.nup.link.cost import RttCost
from routed.nup.link.damping import Damping

__all__ = [
    "LinkSettings",
    "UsageError",
]


class UsageError(Exception):
    """The instance was called in a way that its contract rules out: our bug."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One link that NUP runs on: what the kernel says and what the configuration says of it."""

    ifindex: int
    ifname: str
    cost: int
    """Added to the metric of every route heard on the link, 1 to METRIC_INFINITY - 1."""
    hello_interval_s: float
    """0.1 to 60 seconds."""
    multiplier: int
    """We are dead to our neighbors after this many of our hello intervals, 1 to 255."""
    mtu: int
    """Bytes."""
    local_address: Address
    """What we send from: the IPv6 link-local address, or an IPv4 one on a link without IPv6."""
    addresses: tuple[InterfaceAddress, ...]
    key_ring: KeyRing | None = None
    """With it, everything on the link is signed, and nothing unsigned is believed."""
    accepts_unsigned: bool = False
    """The transition: sign, and believe those who do not sign yet."""
    is_loss_based: bool = False
    """Whether the cost is multiplied by how often a datagram has to be sent to arrive."""
    rtt_cost: RttCost | None = None
    """With it, the round trip adds to the cost."""
    unicast_neighbors: tuple[Address, ...] = ()
    """With them, nothing goes to the group, and nobody else is heard."""
    max_prefixes: int = 200_000
    """So many reachable prefixes are learned from each neighbor, at least 1."""
    damping: Damping | None = None
    """With it, a neighbor that comes and goes is kept away for a while."""

    def __post_init__(self) -> None:
        """Hold the caller to the ranges that loop freedom and the wire rest on.

        Raises:
            UsageError: a field is outside its range.
        """
        if self.max_prefixes < 1:
            raise UsageError("at least one prefix may be learned from a neighbor")
        if self.cost < 1:
            raise UsageError("a link cost is at least 1: metrics must grow along a path")
        if not (0.01 <= self.hello_interval_s <= 60 and 1 <= self.multiplier <= 255):
            raise UsageError("hello interval or multiplier out of range")

    @property
    def dead_interval_s(self) -> float:
        """How long we may be silent before we count as dead; seconds."""
        return self.hello_interval_s * self.multiplier
