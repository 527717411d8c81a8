"""The state that the parts of one instance share: each piece has one owner class.

`NeighborInstance` makes it once and hands it whole to the parts that act on it (`receive`,
`heartbeats`, `lifecycle`, `transmit`, `route_changes`, `seqno_relay`, `pending_updates`).
"""

from __future__ import annotations

import random

from ipc.lazy_dataclass import dataclass
from routed.nup.link.schedule import Schedule
from routed.nup.link.state import Link
from routed.nup.link_policy import LinkPolicy
from routed.nup.outputs import OutputLog
from routed.nup.routes.table import RouteTable
from routed.nup.transport.advertise import OriginTable, RetractionHold
from routed.nup.transport.forwarding_wait import ForwardingWait
from routed.nup.transport.table_dumps import TableOrder
from routed.nup.wire.message import Sender

__all__ = ["SharedState", "make_shared_state"]


@dataclass(frozen=True, slots=True)
class SharedState:
    """References to the owners of an instance's state."""

    own: Sender
    """Our router id and boot id."""
    rng: random.Random
    log: OutputLog
    links: dict[int, Link]
    """Links that are up, by index."""
    schedule: Schedule
    policy: LinkPolicy
    order: TableOrder
    table: RouteTable
    """Routes learned from neighbors, and the selected ones."""
    origins: OriginTable
    """Our own prefixes."""
    hold: RetractionHold
    wait: ForwardingWait


def make_shared_state(own: Sender, origin_seqno: int, rng: random.Random) -> SharedState:
    """Make the state of a new instance.

    Args:
        own: our router id and boot id.
        origin_seqno: later than any that an earlier boot of this router used; 32 bits, serial.
        rng: source of jitter and session numbers.
    """
    links: dict[int, Link] = {}
    policy, order = LinkPolicy(links), TableOrder()
    return SharedState(
        own=own,
        rng=rng,
        log=OutputLog(),
        links=links,
        schedule=Schedule(links),
        policy=policy,
        order=order,
        table=RouteTable(own.router_id, policy.apply_import, order),
        origins=OriginTable(origin_seqno, order),
        hold=RetractionHold(),
        wait=ForwardingWait(),
    )
