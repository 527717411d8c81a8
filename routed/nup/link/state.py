"""The protocol's state per link and per neighbor: its owners, and when each needs attention next.

    NeighborInstance
      +-- Link (per interface)         settings, heartbeat clock, multicast sequence, LinkAdvertiser
            +-- Neighbor (per router)  Adjacency, and its exchange of routes: Exchange

These are holders of state with a common lifetime. The decisions are in the modules that they hold,
the order of events in `instance`.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable

from ipc.lazy_dataclass import dataclass, field
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop
from routed.nup.auth.guard import LinkGuard
from routed.nup.duplicate_ids import DuplicateIdDetector
from routed.nup.events import AdjacencyState
from routed.nup.link.addresses import next_hop
from routed.nup.link.adjacency import LATE_INTERVALS, Adjacency
from routed.nup.link.damping import FlapDamper
from routed.nup.link.refusals import RefusalList
from routed.nup.link.schedule import Schedule
from routed.nup.link.settings import LinkSettings
from routed.nup.routes.table import NeighborKey, Path
from routed.nup.transport.advertise import LinkAdvertiser, TableDump
from routed.nup.transport.reliable import ReliableReceiver, ReliableSender
from routed.nup.transport.table_dumps import DumpLimits
from routed.nup.wire.message import SeqnoRequest, Stream

__all__ = ["Exchange", "Link", "LinkMemory", "Neighbor"]

PATIENCE_S = 0.02
"""The longest time that the multicast stream waits for neighbors whose windows are full, while
others have room: longer than an ACK is delayed."""
LISTENING_INTERVALS = 1.25
"""A neighbor that is there has sent a heartbeat within this many hello intervals (its jitter)."""
PATIENT_MAX_S = 120.0
"""No neighbor keeps the routes of a restarted router for longer (`receive.GRACE_MAX_S`)."""
ADDRESSES_REPEATED = 3
"""Heartbeats that name our addresses after a change: a neighbor that misses so many counts us as
dead."""
ADDRESSES_EVERY = 16
MAX_NEIGHBORS_PER_LINK = 256
TIMERS_EACH, TIMERS_SLACK = 4, 64
"""Timers kept for each neighbor and in addition; most of them have been replaced by others."""
GIVEN_UP_S = 60.0
"""Time for which `show neighbors` reports that a neighbor was given up, while it is not UP."""
LEAVING_S = 2.0
"""Time for which messages of a boot are dropped after its GOODBYE or RESTART: they may have been in
flight, or their sender may take a moment to end."""


@dataclass(slots=True)
class Exchange:
    """The exchange of one incarnation of an adjacency; replaced as a whole when that ends."""

    sender: ReliableSender
    receiver: ReliableReceiver
    dump: TableDump | None = None
    """Our table on its way; None before the exchange begins and after END_OF_TABLE was sent."""
    dump_at: float | None = None
    """Time from which the dump may begin; None once it has begun (`DumpLimits`)."""
    end_sequence: int | None = None
    """Sequence of our END_OF_TABLE on the unicast stream, once sent."""
    neighbor_end: tuple[int, int] | None = None
    """Sequence and count of the neighbor's END_OF_TABLE, once received."""
    updates_received: int = 0
    """Number of updates received on the unicast stream, to compare with that count."""
    is_table_received: bool = False
    table_request_at: float | None = None
    """Time at which to request the neighbor's table again; None if there is no reason to."""
    table_requested_at: float = -math.inf
    table_resent_at: float = -math.inf
    """Time at which our table was last sent again at the neighbor's request."""
    converged_sequence: int | None = None
    """Sequence of the multicast stream up to which a restarted neighbor has advertised all that it
    learned. None while its heartbeats are marked CONVERGING."""
    requests: dict[tuple[Prefix, Address, int], SeqnoRequest] = field(default_factory=dict)
    """Seqno requests waiting for room, by prefix, origin and seqno."""
    duplicate_ids: DuplicateIdDetector = field(default_factory=DuplicateIdDetector)
    """Prefixes that it advertises with our router id."""

    @classmethod
    def fresh(cls, rng: random.Random) -> Exchange:
        """Make one with nothing sent and nothing received."""
        return cls(ReliableSender(), ReliableReceiver(rng))

    def begin_dump(self, dump: TableDump, now: float) -> None:
        """Start a dump of our table, as soon as its rate allows."""
        self.dump, self.dump_at = dump, now

    @property
    def is_table_acknowledged(self) -> bool:
        """Whether the neighbor has all of our table."""
        return self.end_sequence is not None and self.sender.is_acknowledged(
            Stream.UNICAST, self.end_sequence
        )


@dataclass(slots=True)
class Neighbor:
    """One router on one link."""

    key: NeighborKey
    adjacency: Adjacency
    exchange: Exchange
    retained_until: float | None = None
    """Time until which its stale routes are kept, unless its new table is complete earlier."""
    timer_at: float | None = None
    """The earliest of the link's timers for it."""
    _next_hops: tuple[LinkSettings, tuple[Address, ...], dict[Family, NextHop | None]] | None = None
    """Its next hops, with the settings and addresses from which they were computed."""

    @property
    def exchanges_routes(self) -> bool:
        """Whether DATA flows."""
        return self.adjacency.state.exchanges_routes

    @property
    def is_present(self) -> bool:
        """Whether it was heard within its dead interval, or is awaited after a restart."""
        return self.adjacency.state is not AdjacencyState.DOWN or self.retained_until is not None

    def next_hop(self, settings: LinkSettings, family: Family) -> NextHop | None:
        """Return the next hop to it for one family over a link with these settings.

        Cost: computed once for as long as neither side's addresses change; with many equal paths
        each changed route asks for all of them.
        """
        addresses = self.adjacency.addresses
        if (
            self._next_hops is None
            or self._next_hops[0] is not settings
            or self._next_hops[1] is not addresses
        ):
            hops = {family: next_hop(settings, self.adjacency, family) for family in Family}
            self._next_hops = settings, addresses, hops
        return self._next_hops[2][family]

    def path(self, settings: LinkSettings) -> Path:
        """Return the cost of its routes and the families that it has a next hop for."""
        families = frozenset(
            family for family in Family if self.next_hop(settings, family) is not None
        )
        return Path(self.adjacency.cost(settings.cost), families)

    def next_timer(self) -> float | None:
        """Return when this neighbor needs attention by itself."""
        adjacency = self.adjacency
        times: list[float | None] = [self.retained_until]
        if adjacency.state is not AdjacencyState.DOWN:
            times.append(adjacency.dead_at)
        if self.exchanges_routes:
            times += [
                adjacency.unconfirmed_at,
                adjacency.ask_at,
                adjacency.loading_until,
                self.exchange.table_request_at,
                self.exchange.dump_at,
                self.exchange.duplicate_ids.next_timer(),
                self.exchange.sender.next_timer(),
                self.exchange.receiver.ack_due_at,
            ]
        return min((moment for moment in times if moment is not None), default=None)


@dataclass(slots=True)
class LinkMemory:
    """The state of a link that outlives its going down."""

    multicast_sequence: int = 0
    control_sequence: int = 0
    """Messages of the next incarnation must be newer than those still in flight."""
    damper: FlapDamper = field(default_factory=FlapDamper)
    dump_limits: DumpLimits = field(default_factory=DumpLimits)


class Link:
    """One interface that NUP runs on."""

    def __init__(
        self,
        settings: LinkSettings,
        guard: LinkGuard,
        memory: LinkMemory,
        schedule: Schedule,
        now: float,
        *,
        is_converging: bool,
    ) -> None:
        self.guard = guard
        self._schedule = schedule
        self.refusals = RefusalList()
        self.set_settings(settings)
        self.is_converging = is_converging
        """Whether our neighbors on the link should wait for more before they remove stale
        routes."""
        self.advertiser = LinkAdvertiser()
        self.neighbors: dict[NeighborKey, Neighbor] = {}
        self._by_router: dict[Address, dict[NeighborKey, Neighbor]] = {}
        self.newcomers: dict[NeighborKey, None] = {}
        """Neighbors that were never heard both ways, the first one first."""
        self._departed: dict[tuple[Address, Address], tuple[int, float]] = {}
        """Boot id of neighbors that left recently, and the time until which its messages are
        dropped, by router id and address. At most MAX_NEIGHBORS_PER_LINK."""
        self._given_up: dict[NeighborKey, float] = {}
        """Times at which neighbors were given up, in order. At most MAX_NEIGHBORS_PER_LINK."""
        self.memory = memory
        self.multicast_sequence = memory.multicast_sequence
        """Sequence of the last DATA on the link's multicast stream."""
        self.control_sequence = memory.control_sequence
        """Sequence of the last HEARTBEAT or CONTROL on the link; gaps in it are losses."""
        self.addresses_due = ADDRESSES_REPEATED
        """Heartbeats that still carry our addresses; all do while a neighbor is not UP."""
        self._timers: list[tuple[float, NeighborKey]] = []
        """A heap: when neighbors may need attention, never later than they do."""
        self._service_queue: dict[NeighborKey, Neighbor] = {}
        self._stalled_since: float | None = None
        """Time at which the multicast stream first found a window full, since all were open."""
        self.heartbeat_due = now
        self.heartbeat_open_at = now
        """The earliest time at which the next one may leave together with those of other links."""
        self.heartbeat_at: float | None = None
        """Time at which the last heartbeat was sent."""
        self.is_hastened = False
        """Whether the next one leaves before its time."""
        self.hastened_until = 0.0
        """Time until which the allowance for early heartbeats is used up."""
        self.answer_open_at = -math.inf
        """Time from which the next HEARTBEAT_REQUEST may be answered."""
        self._missing: set[Address] = set()
        """Neighbors of our previous boot that have not been heard in this one."""
        self.listening_until: float | None = now + LISTENING_INTERVALS * settings.hello_interval_s
        """Time until which an unheard neighbor may exist; None afterwards."""

    def set_settings(self, settings: LinkSettings) -> None:
        """Apply the configuration; the guard's index and the senders it has proven stay."""
        self.settings = settings
        self.addresses_due = ADDRESSES_REPEATED
        self.guard.ring = settings.key_ring
        self.guard.accepts_unsigned = settings.accepts_unsigned

    def expect(self, addresses: Iterable[Address], now: float) -> None:
        """Expect these neighbors of our previous boot, perhaps none, on the link: we restart.

        A neighbor that is not heard restarts as we do: it goes on forwarding, and all other routers
        wait for it until it is dead. So do we.
        """
        self._missing.update(addresses)
        patience_s = min(self.settings.dead_interval_s, PATIENT_MAX_S) if self._missing else 0.0
        self.listening_until = now + patience_s

    def record_heard(self, addresses: Iterable[Address], now: float) -> None:
        """Record that a neighbor with these addresses was heard."""
        if not self._missing:
            return
        self._missing.difference_update(addresses)
        if not self._missing and self.listening_until is not None:
            self.listening_until = now

    def add_neighbor(self, neighbor: Neighbor) -> None:
        """Add a neighbor that was heard for the first time."""
        key = neighbor.key
        self.neighbors[key] = neighbor
        self._by_router.setdefault(key.router_id, {})[key] = neighbor
        self.newcomers[key] = None

    def remove_neighbor(self, neighbor: Neighbor) -> None:
        """Remove a neighbor."""
        key = neighbor.key
        del self.neighbors[key]
        same_router = self._by_router[key.router_id]
        del same_router[key]
        if not same_router:
            del self._by_router[key.router_id]
        self.newcomers.pop(key, None)

    def neighbors_of(self, router_id: Address) -> list[Neighbor]:
        """Return the neighbors with one router id: one for each of its links to the wire."""
        return list(self._by_router.get(router_id, {}).values())

    def record_departure(self, neighbor: Neighbor, now: float) -> None:
        """Record that a neighbor has sent GOODBYE or RESTART."""
        adjacency = neighbor.adjacency
        sender = adjacency.router_id, adjacency.address
        self._departed.pop(sender, None)
        if len(self._departed) >= MAX_NEIGHBORS_PER_LINK:
            del self._departed[next(iter(self._departed))]
        self._departed[sender] = adjacency.boot_id, now + LEAVING_S

    def record_given_up(self, neighbor: Neighbor, now: float) -> None:
        """Record that a neighbor has left DATA unacknowledged for too long."""
        self._given_up.pop(neighbor.key, None)
        if len(self._given_up) >= MAX_NEIGHBORS_PER_LINK:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[neighbor.key] = now

    def was_given_up(self, neighbor: Neighbor, now: float) -> bool:
        """Return whether a neighbor was given up lately."""
        given_up_at = self._given_up.get(neighbor.key)
        return given_up_at is not None and now < given_up_at + GIVEN_UP_S

    def has_departed(self, router_id: Address, boot_id: int, source: Address, now: float) -> bool:
        """Return whether this boot of a neighbor has just announced its end."""
        departed = self._departed.get((router_id, source))
        return departed is not None and departed[0] == boot_id and now < departed[1]

    def listeners(self) -> list[Neighbor]:
        """Return the neighbors that the multicast stream is for."""
        return [neighbor for neighbor in self.neighbors.values() if neighbor.exchanges_routes]

    def lists_addresses(self) -> bool:
        """Return whether the next heartbeat is to carry our addresses, which are most of its bytes;
        counts the heartbeat.

        Neighbors that are about to use us need them, and all neighbors when they change. They are
        repeated from time to time for a neighbor that missed them.
        """
        neighbors = self.neighbors.values()
        if any(neighbor.adjacency.state is not AdjacencyState.UP for neighbor in neighbors):
            self.addresses_due = ADDRESSES_REPEATED
        is_due = self.addresses_due > 0 or self.control_sequence % ADDRESSES_EVERY == 0
        self.addresses_due = max(self.addresses_due - 1, 0)
        return is_due or not neighbors

    @property
    def is_at_rest(self) -> bool:
        """Whether every neighbor on the link is UP and nothing is measured: half the heartbeats
        suffice.

        A neighbor that misses one asks for it (`Adjacency.ask_at`), so no death is noticed later or
        with less evidence.
        """
        settings = self.settings
        return (
            settings.multiplier > LATE_INTERVALS
            and not (settings.is_loss_based or settings.rtt_cost is not None)
            and self.addresses_due == 0
            and self.listening_until is None
            and not self.is_converging
            and bool(self.neighbors)
            and all(
                neighbor.adjacency.state is AdjacencyState.UP and neighbor.retained_until is None
                for neighbor in self.neighbors.values()
            )
        )

    def suppressed_for(self, neighbor: Neighbor, now: float) -> float:
        """Return how much longer a neighbor is suppressed for its flaps; seconds, 0 when it is
        not."""
        damping = self.settings.damping
        if damping is None:
            return 0.0
        return self.memory.damper.suppressed_for(neighbor.key.router_id, damping, now)

    def record_flap(self, neighbor: Neighbor, now: float) -> bool:
        """Record that a neighbor is no longer UP. Returns whether it is suppressed for that."""
        damping = self.settings.damping
        if damping is None:
            return False
        return self.memory.damper.record_flap(neighbor.key.router_id, damping, now)

    def remember(self, now: float) -> LinkMemory:
        """Return the state that the next incarnation of the link needs: it goes down."""
        self.memory.multicast_sequence = self.multicast_sequence
        self.memory.control_sequence = self.control_sequence
        self.memory.damper.clean(self.settings.damping, now)
        return self.memory

    @property
    def has_listeners(self) -> bool:
        """Whether the multicast stream has any listener."""
        return any(neighbor.exchanges_routes for neighbor in self.neighbors.values())

    @property
    def has_sent_all(self) -> bool:
        """Whether no update and no table is left to send on the link."""
        return self.advertiser.flush_at is None and all(
            neighbor.exchange.dump is None for neighbor in self.neighbors.values()
        )

    def has_room(self, now: float) -> bool:
        """Return whether the multicast stream may continue.

        It may while every neighbor's window is open. Once some are full it waits, but not for long
        while others are open; then it continues without waiting until all have caught up.
        """
        rooms = {neighbor.exchange.sender.has_room for neighbor in self.listeners()}
        if False not in rooms:
            self._stalled_since = None
            return True
        if self._stalled_since is None:
            self._stalled_since = now
        return True in rooms and now >= self._stalled_since + PATIENCE_S

    def _flush_due(self) -> float | None:
        """Return when dirty prefixes may be sent, as far as that depends on time."""
        flush_at = self.advertiser.flush_at
        if flush_at is None or self._stalled_since is None:
            return flush_at
        rooms = {neighbor.exchange.sender.has_room for neighbor in self.listeners()}
        if False not in rooms:
            return flush_at  # the last one has caught up meanwhile
        if True not in rooms:
            return None  # an ACK will touch the link
        return max(flush_at, self._stalled_since + PATIENCE_S)

    def next_timer(self) -> float:
        """Return when this link needs attention by itself."""
        times = [self.heartbeat_due]
        if self.listening_until is not None:
            times.append(self.listening_until)
        flush_due = self._flush_due()
        if flush_due is not None:
            times.append(flush_due)
        if self._timers:
            times.append(self._timers[0][0])
        return min(times)

    # Service queue and timers: a LAN has many neighbors, and few of them need service at a time

    def queue_service(self, neighbor: Neighbor) -> None:
        """Have a neighbor served before the input ends."""
        self._service_queue[neighbor.key] = neighbor
        self._schedule.touch(neighbor.key.ifindex)

    def touch(self) -> None:
        """Have the link served before the input ends."""
        self._schedule.touch(self.settings.ifindex)

    def pop_service_queue(self) -> list[Neighbor]:
        """Return the neighbors to serve, each once, without removed ones."""
        if not self._service_queue:
            return []
        waiting, self._service_queue = self._service_queue, {}
        return [
            neighbor for key, neighbor in waiting.items() if self.neighbors.get(key) is neighbor
        ]

    def pop_timers(self, now: float) -> list[Neighbor]:
        """Return the neighbors whose time may have come. Cost: O(log n) for each."""
        expired = []
        while self._timers and self._timers[0][0] <= now:
            moment, key = heapq.heappop(self._timers)
            neighbor = self.neighbors.get(key)
            if neighbor is None or neighbor.timer_at != moment:
                continue  # it was removed, or an earlier timer has replaced this one
            neighbor.timer_at = None
            expired.append(neighbor)
        return expired

    def set_timer(self, neighbor: Neighbor) -> None:
        """Set the timer of a neighbor; a later time than the present one is left to the next
        call."""
        moment = neighbor.next_timer()
        if moment is None or (neighbor.timer_at is not None and neighbor.timer_at <= moment):
            return
        neighbor.timer_at = moment
        heapq.heappush(self._timers, (moment, neighbor.key))
        if len(self._timers) > TIMERS_EACH * len(self.neighbors) + TIMERS_SLACK:
            self._drop_stale_timers()

    def _drop_stale_timers(self) -> None:
        """Drop timers that were replaced, or whose neighbors were removed.

        Each would be skipped when its time comes; but newcomers may be added and removed faster.
        """
        self._timers = [
            timer
            for timer in self._timers
            if (neighbor := self.neighbors.get(timer[1])) is not None
            and neighbor.timer_at == timer[0]
        ]
        heapq.heapify(self._timers)
