"""The quality of a link to a neighbor: its expected transmissions, from the heartbeats that arrive.

Heartbeats of a link are numbered one by one, so a gap in the numbers is a lost datagram; no timer
is needed, and heartbeats that leave early count like all others. Each side counts those that it
hears and sends the count, as long as any is missing (`Reception`). Both then know the share of
datagrams that arrives in each direction, and so how often one has to be sent until it has arrived
and been answered:

    ETX = 1 / (share that arrives there * share that arrives here)

On a link with `metric: loss` the cost is multiplied by it. The factor changes only when it is off
by more than an eighth, so that one lost datagram in a long time moves no route; it returns to 1 as
soon as a whole window has arrived both ways.

Sources: De Couto et al., A high-throughput path metric for multi-hop wireless routing, MobiCom 2003
(ETX); RFC 8966 appendix A.2 (history of hellos, ETX for distance vectors).
"""

from __future__ import annotations

from routed.model.seqno import seqno_distance

__all__ = ["ETX_MAX", "WINDOW", "HeartbeatHistory", "loss_factor"]

WINDOW = 32
"""Heartbeats that are remembered: one lost is 3 %."""
EXPECTED_LEAST = 8
"""Fewer heartbeats allow no conclusion."""
ETX_MAX = 16.0
"""A quarter arriving each way; a worse link is no better than down."""
HYSTERESIS = 1 / 8
_MASK = (1 << WINDOW) - 1


class HeartbeatHistory:
    """Record of which of the last heartbeats of one neighbor have arrived."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._arrived = 0
        """Bit n: the number n before the newest."""
        self.expected = 0
        """0 to WINDOW."""

    def record(self, sequence: int) -> None:
        """Record a heartbeat, perhaps a late one. Cost: O(1)."""
        ahead = WINDOW if self._newest is None else seqno_distance(sequence, self._newest)
        if ahead >= WINDOW:
            # The first one, or its counter has jumped: nothing is known of what lies between.
            self._newest, self._arrived, self.expected = sequence, 1, 1
        elif ahead > 0:
            self._newest = sequence
            self._arrived = (self._arrived << ahead | 1) & _MASK
            self.expected = min(self.expected + ahead, WINDOW)
        elif -ahead < self.expected:
            self._arrived |= 1 << -ahead

    @property
    def received(self) -> int:
        """Number of the `expected` heartbeats that have arrived."""
        return self._arrived.bit_count()

    @property
    def is_conclusive(self) -> bool:
        """Whether the history is long enough for a conclusion."""
        return self.expected >= EXPECTED_LEAST

    @property
    def share(self) -> float:
        """The share that arrives, above 0 to 1; 1 while it is unknown."""
        return self.received / self.expected if self.is_conclusive else 1.0


def loss_factor(share_here: float, share_there: float, current: float) -> float:
    """Return the factor by which the cost of a link is to be multiplied now.

    Args:
        share_here: of the neighbor's datagrams that arrives, 0 to 1.
        share_there: of ours that arrives, as the neighbor says, 0 to 1.
        current: the factor at present.

    Returns:
        1 to ETX_MAX.
    """
    both = share_here * share_there
    wanted = ETX_MAX if both * ETX_MAX < 1 else 1 / both
    is_far_off = abs(wanted - current) > current * HYSTERESIS
    return wanted if is_far_off or wanted == 1.0 else current
