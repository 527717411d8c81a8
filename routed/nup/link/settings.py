"""Settings of a NUP link. Pure."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
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
    """A call that violates the contract of the instance: our bug."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One link that NUP runs on: its state in the kernel and its configuration."""

    ifindex: int
    ifname: str
    cost: int
    """Cost added to the metric of every route learned on the link, 1 to METRIC_INFINITY - 1."""
    hello_interval_s: float
    """0.1 to 60 seconds."""
    multiplier: int
    """Neighbors count us as dead after this many of our hello intervals, 1 to 255."""
    mtu: int
    """Bytes."""
    local_address: Address
    """The source address: the IPv6 link-local address, or an IPv4 one on a link without IPv6."""
    addresses: tuple[InterfaceAddress, ...]
    key_ring: KeyRing | None = None
    """Keys of the link. If set, everything on the link is signed, and unsigned messages are
    refused."""
    accepts_unsigned: bool = False
    """Whether unsigned messages are accepted while ours are signed (transition mode)."""
    is_loss_based: bool = False
    """Whether the cost is multiplied by the expected transmissions."""
    rtt_cost: RttCost | None = None
    """Conversion of the round trip to an additional cost, if any."""
    unicast_neighbors: tuple[Address, ...] = ()
    """Neighbors to which messages are sent by unicast. If any, nothing is sent to the group, and
    messages of other senders are dropped."""
    max_prefixes: int = 200_000
    """The limit of reachable prefixes learned from each neighbor, at least 1."""
    damping: Damping | None = None
    """Flap damping, if it is configured: a neighbor that flaps is suppressed for a while."""

    def __post_init__(self) -> None:
        """Check the ranges that loop freedom and the wire format rest on.

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
        """Longest silence of this router before neighbors count it as dead; seconds."""
        return self.hello_interval_s * self.multiplier
