"""NUP as one object without I/O: inputs in, outputs out, time passed in.

    receive_datagram --+                                  +--> SendDatagram
    link_up, _down     |     Adjacency (table)            |    AdjacencyChanged
    originate,         +--> ReliableSender / Receiver  ---+--> RoutesLearned, RouteHeld, RouteLost
      withdraw         |     RouteTable (feasibility)     |    Trace
    handle_timer ------+     LinkAdvertiser               +

Each input runs to completion: it changes state, then `_finish_input` carries out the consequences
in a fixed order: expired state, seqno requests that are due, changed selections (reported, and
marked dirty on the links), and last what each link has to send. The last step cannot change a
selection, so one pass is enough. Only links and neighbors that an input or a timer concerns are
visited (`schedule`, `Link.queue_service`, `Link.pop_timers`).

The caller drains `outputs()` after every input and calls `handle_timer` at `next_timer()`. `now` is
a float of seconds on one monotonic clock and never goes back.

The caller's promise: a prefix is originated here only while this router's own forwarding of it does
not rest on a route learned here (otherwise two routers could each advertise the other's route).

Failure: no datagram from the network raises. It is dropped with a `Trace` whose code is counted. A
misuse by the caller raises `UsageError`.

Bounds: MAX_NEIGHBORS_PER_LINK neighbors per link; the others as stated in `transport/reliable` and
`routes/table`.

Graceful restart. When a neighbor comes back with a new boot id, or has announced that it will, its
routes stay in use, marked stale, while the adjacency forms again. END_OF_TABLE removes those that
were not advertised again, and the end of the grace removes all stale routes. While it restarts, it
forwards by its old table, so nothing changes along the paths through it; `routes/table` says why
that is free of loops. A router that itself restarts must not change its kernel table before
`is_loaded`: only the complete tables of its neighbors distinguish its true successors from
neighbors that were reached through it.

When several neighbors restart together, each may have to learn from the others what it advertises.
So CONVERGING stays set on a link until the tables of all other links are complete: routes learned
on the link itself are not advertised there, and in a network without circles of restarting routers
no router waits for itself. In such a circle the dead interval ends the wait.

Sources: the sans-IO form of h11 and aioquic; RFC 4724 and RFC 3623 for the restart.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Mapping

from routed.model.martians import MartianRules
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup import views
from routed.nup.auth.guard import LinkGuard
from routed.nup.auth.keys import KeyRing
from routed.nup.events import (
    AdjacencyReason,
    AdjacencyState,
    Datagram,
    InputRecorder,
    LearnedRow,
    NeighborRow,
    Output,
    TraceCode,
)
from routed.nup.lifecycle import Lifecycle
from routed.nup.link.adjacency import (
    AdjacencyEvent,
)
from routed.nup.link.settings import LinkSettings, UsageError
from routed.nup.link.state import MAX_NEIGHBORS_PER_LINK, Link, LinkMemory
from routed.nup.loading import Loading
from routed.nup.pending_updates import PendingUpdates
from routed.nup.receive import MessageHandler
from routed.nup.route_changes import RouteReporter
from routed.nup.route_rows import RouteRows
from routed.nup.routes.policy import Policy
from routed.nup.routes.table import NeighborKey
from routed.nup.seqno_relay import RequestRelay
from routed.nup.shared_state import make_shared_state
from routed.nup.transmit import Transmitter
from routed.nup.wire.message import (
    Goodbye,
    RestartNotice,
    Sender,
    Tlv,
)
from routed.nup.wire.tlv_fields import is_router_id

__all__ = ["MAX_NEIGHBORS_PER_LINK", "NeighborInstance"]

OWN_GRACE_S = 30.0
"""The grace that we ask for when we announce a restart."""
MAX_LINKS_REMEMBERED = 256
"""Links that are down and may come back. The counters of a link that has been forgotten start
again: neighbors that still know them drop our messages there until they count us as dead."""


class NeighborInstance:
    """One router's side of NUP on all its links."""

    def __init__(
        self, router_id: Address, boot_id: int, origin_seqno: int, rng: random.Random
    ) -> None:
        """Start one boot of the protocol.

        Args:
            router_id: an IPv4 address, unique in the network.
            boot_id: random, 32 bits, new for each boot.
            origin_seqno: later than any that an earlier boot of this router used; 32 bits, serial.
            rng: source of jitter and session numbers; seed it to repeat a run.

        Raises:
            UsageError: the router id is not a unicast IPv4 address.
        """
        if router_id.family is not Family.IPV4 or not is_router_id(router_id.addr_bits):
            raise UsageError(f"{router_id} is not a router id: it must be a unicast IPv4 address")
        self.router_id = router_id
        self.boot_id = boot_id
        state = make_shared_state(Sender(router_id, boot_id), origin_seqno, rng)
        self._rng = rng
        self._log = state.log
        self._links = state.links
        self._schedule = state.schedule
        self._policy = state.policy
        self._table = state.table
        self._origins = state.origins
        self._wait = state.wait
        self.route_rows = RouteRows(state)
        """Routes for display, with those that are not used."""
        self._reporter = RouteReporter(state)
        self._pending_updates = PendingUpdates(state)
        self._transmitter = Transmitter(state)
        self._lifecycle = Lifecycle(state, self._reporter, self._transmitter)
        self._relay = RequestRelay(state, self._pending_updates)
        self._handler = MessageHandler(
            state,
            self._reporter,
            self._transmitter,
            self._lifecycle,
            self._relay,
            self._pending_updates,
        )
        self._loading = Loading(self._links)
        self._memories: dict[int, LinkMemory] = {}
        """State of links that are down, in the order in which they went down."""
        self._wall_offset_s = 0.0
        self._is_stopped = False
        self._recorder: InputRecorder | None = None

    # Inputs: links

    def link_up(self, settings: LinkSettings, now: float) -> None:
        """Start NUP on a link that carries traffic; for a known link, the same as
        `link_changed`."""
        if self._is_stopped:
            return
        self._record_input("link_up", settings, now)
        if settings.ifindex in self._links:
            self._change_link(settings, now)
            return
        link = Link(
            settings,
            LinkGuard(self._rng, self._wall_offset),
            self._memories.pop(settings.ifindex, LinkMemory()),
            self._schedule,
            now,
            is_converging=not self._loading.has_loaded,
        )
        self._table.distances.extend_for_dead_interval(settings.dead_interval_s)
        self._loading.begin_link(link, now)
        self._links[settings.ifindex] = link
        self._schedule.add(settings.ifindex)
        self._finish_input(now)

    def expect_neighbors(self, addresses: Iterable[tuple[int, Address]], until: float) -> None:
        """Record the neighbors that our previous boot forwarded to, before the links come up.

        Until they have been heard and have sent complete tables, or the dead interval has passed,
        this router is not loaded, and says so to its neighbors (CONVERGING): they keep the routes
        of our previous boot. It does not wait for other neighbors: no route of the previous boot
        rests on them.

        Args:
            addresses: of next hops, with their links.
            until: deadline of the wait; seconds, monotonic.
        """
        known = sorted(set(addresses))
        self._record_input("expect_neighbors", known, until)
        self._loading.expect(known, until)

    def link_changed(self, settings: LinkSettings, now: float) -> None:
        """Apply new settings or addresses of a link; no adjacency is dropped for it.

        Raises:
            UsageError: the link was never brought up.
        """
        if self._is_stopped:
            return
        if settings.ifindex not in self._links:
            raise UsageError(f"link {settings.ifindex} is not up")
        self._record_input("link_changed", settings, now)
        self._change_link(settings, now)

    def _change_link(self, settings: LinkSettings, now: float) -> None:
        link = self._links[settings.ifindex]
        if link.settings == settings:
            return
        link.set_settings(settings)
        self._table.distances.extend_for_dead_interval(settings.dead_interval_s)
        for neighbor in link.neighbors.values():
            self._lifecycle.refresh_path(link, neighbor, now)
        self._transmitter.hasten_heartbeat(link, now)
        self._finish_input(now)

    def link_down(self, ifindex: int, now: float) -> None:
        """Stop NUP on a link: it lost its carrier, or is no longer configured. Ignores unknown
        links."""
        link = self._links.get(ifindex)
        if link is None or self._is_stopped:
            return
        self._record_input("link_down", ifindex, now)
        for neighbor in list(link.neighbors.values()):
            self._lifecycle.fire(
                link, neighbor, AdjacencyEvent.LINK_LOST, AdjacencyReason.LINK_DOWN, now
            )
        while len(self._memories) >= MAX_LINKS_REMEMBERED:
            del self._memories[next(iter(self._memories))]
        self._memories[ifindex] = link.remember(now)
        del self._links[ifindex]
        self._schedule.drop(ifindex)
        self._finish_input(now)

    def set_wall_clock(self, wall_offset_s: float) -> None:
        """Set the wall clock: seconds since 1970, less `now`. The lifetimes of keys depend on
        it."""
        self._record_input("set_wall_clock", wall_offset_s)
        self._wall_offset_s = wall_offset_s

    # Inputs: routes

    def originate(
        self, prefix: Prefix, metric: int, tag: int, is_external: bool, now: float
    ) -> None:
        """Originate a prefix; see `originate_all`."""
        self.originate_all([prefix], metric, tag, is_external, now)

    def originate_all(
        self, prefixes: Iterable[Prefix], metric: int, tag: int, is_external: bool, now: float
    ) -> None:
        """Originate prefixes, all with the same attributes, or change their attributes.

        Args:
            prefixes: not learned here, as far as this router's forwarding goes (module docstring).
            metric: 0 to METRIC_INFINITY - 1.
            tag: 0 to 2**32 - 1.
            is_external: redistributed from another source.
            now: seconds, monotonic.

        Raises:
            UsageError: the metric is infinite.
        """
        if metric >= METRIC_INFINITY:
            raise UsageError("an originated prefix has a finite metric")
        if self._is_stopped:
            return
        known = list(prefixes)
        self._record_input("originate_all", known, metric, tag, is_external, now)
        changed = self._origins.originate(known, metric, tag, is_external=is_external)
        self._reporter.cancel_hold(changed)
        self._wait.add(changed, now)
        self._pending_updates.mark_all(changed, now)  # a timer sends them; nothing else follows

    def withdraw(self, prefix: Prefix, now: float) -> None:
        """Withdraw a prefix; see `withdraw_all`."""
        self.withdraw_all([prefix], now)

    def withdraw_all(self, prefixes: Iterable[Prefix], now: float) -> None:
        """Withdraw prefixes of our own; unknown ones are ignored."""
        if self._is_stopped:
            return
        known = list(prefixes)
        self._record_input("withdraw_all", known, now)
        self._pending_updates.mark_all(
            [each for each in known if self._origins.withdraw(each)], now
        )

    def set_policy(self, policy: Policy, now: float) -> None:
        """Put other filters in force: re-evaluate the known routes, and advertise the
        differences."""
        if self._is_stopped or policy == self._policy.current:
            return
        self._record_input("set_policy", policy, now)
        self._policy.replace(policy)
        self._table.imports_by_prefix = policy.imports_by_prefix
        self._table.reapply_policy(now)
        self._pending_updates.mark_all([*self._origins.prefixes(), *self._table.selections()], now)
        self._finish_input(now)

    def set_martians(self, martians: MartianRules, now: float) -> None:
        """Put other martian rules in force: forget the routes that they refuse, and ask neighbors
        again for those that were refused before."""
        if self._is_stopped or martians == self._table.martians:
            return
        self._record_input("set_martians", martians, now)
        self._table.follow_martians(martians, now)
        for link in self._links.values():
            for neighbor in link.neighbors.values():
                self._lifecycle.plan_request_if_room(neighbor, now)
                link.queue_service(neighbor)
        self._finish_input(now)

    # Inputs: forwarding

    def await_forwarding(self, is_on: bool, now: float) -> None:
        """Switch the forwarding wait on or off: whether better routes are advertised only after
        `forwarding_updated`.

        It is off at first: for a router that forwards at once by what was reported last.
        """
        if self._is_stopped or is_on is self._wait.is_on:
            return
        self._record_input("await_forwarding", is_on, now)
        self._wait.is_on = is_on
        if not is_on:
            self._pending_updates.mark_forwarded(self._wait.end_all(), now)
            self._finish_input(now)

    def pop_forwarding_waits(self) -> list[Prefix]:
        """Return the prefixes that have begun to wait since the last call. Their routes are in the
        outputs drained before."""
        awaited = self._wait.pop_new()
        if awaited:
            self._record_input("pop_forwarding_waits")
        return awaited

    def forwarding_updated(self, prefixes: Iterable[Prefix], now: float) -> None:
        """End the wait of prefixes.

        This router forwards by what was reported of them before their last `pop_forwarding_waits`,
        or by another route.
        """
        if self._is_stopped:
            return
        followed = self._wait.end(prefixes)
        if followed:
            self._record_input("forwarding_updated", followed, now)
            self._pending_updates.mark_forwarded(followed, now)
            self._finish_input(now)

    def forwarding_alive(self, now: float) -> bool:
        """Record that the process that writes the kernel is alive now.

        After the first call, a wait that has lasted too long ends only if another call has come
        since: no update is advertised on behalf of a process that hangs.

        Returns:
            Whether `handle_timer` has something to do.
        """
        if self._is_stopped or (not self._wait and math.isfinite(self._wait.driver_alive_at)):
            return False
        self._record_input("forwarding_alive", now)
        self._wait.driver_alive_at = now
        due = self._wait.next_timer()
        return due is not None and due <= now

    # Inputs: the network and the clock

    def receive_datagram(
        self, data: bytes, source: Address, ifindex: int, hop_limit: int | None, now: float
    ) -> None:
        """Handle one datagram, whatever is in it.

        Args:
            data: the UDP payload.
            source: the address it came from.
            ifindex: the link it arrived on, as the kernel says.
            hop_limit: its hop limit or TTL on arrival; None (unknown) is refused, because Linux
                does not enforce a minimum for UDP.
            now: seconds, monotonic.
        """
        self.receive_burst([Datagram(data, source, ifindex, hop_limit)], now)

    def receive_burst(self, datagrams: Iterable[Datagram], now: float) -> None:
        """Handle all datagrams that have arrived, before any timer.

        A process that was kept from running finds its timers overdue and its buffers full. One by
        one, the first datagram would cause the death of neighbors whose heartbeats are next in the
        buffer.

        Args:
            datagrams: in the order of arrival on each link.
            now: seconds, monotonic.
        """
        if self._is_stopped:
            return
        burst = list(datagrams)
        self._record_input("receive_burst", burst, now)
        for datagram in burst:
            self._handler.receive_datagram(datagram, now)
        self._expire_neighbors(now)
        self._finish_input(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due; a call that is too early or too late is harmless."""
        if not self._is_stopped:
            self._record_input("handle_timer", now)
            self._expire_neighbors(now)
            self._finish_input(now)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` should be called next, on the clock of `now`; None for
        never."""
        if self._is_stopped:
            return None
        timed = (self._schedule, self._table, self._wait, self._loading)
        times = [each.next_timer() for each in timed]
        return min((moment for moment in times if moment is not None), default=None)

    def outputs(self) -> list[Output]:
        """Drain the outputs, in order."""
        drained = self._log.drain()
        if self._recorder is not None:
            self._recorder.record_outputs(drained)
        return drained

    def clear_neighbor(self, router_id: Address, now: float) -> bool:
        """Restart every adjacency with a router (operator). Returns whether there was one."""
        self._record_input("clear_neighbor", router_id, now)
        found = [
            (link, neighbor)
            for link in self._links.values()
            for neighbor in link.neighbors_of(router_id)
        ]
        for link, neighbor in found:
            link.memory.damper.clear_damping(router_id)
            self._lifecycle.fire(
                link, neighbor, AdjacencyEvent.CLEARED, AdjacencyReason.CLEARED, now
            )
            self._transmitter.hasten_heartbeat(link, now)
        self._finish_input(now)
        return bool(found)

    def stop(self, is_restart: bool, now: float) -> None:
        """Send GOODBYE, or RESTART when this router goes on forwarding and comes back; then stop.

        Nothing is reported for routes and adjacencies; drain the outputs once more, then drop the
        instance.
        """
        if self._is_stopped:
            return
        self._record_input("stop", is_restart, now)
        notice: Tlv = RestartNotice(int(OWN_GRACE_S * 1000)) if is_restart else Goodbye()
        for link in self._links.values():
            self._transmitter.send_control(link, notice, now)
        self._is_stopped = True

    # Recording

    def record_to(self, recorder: InputRecorder | None) -> None:
        """Have a recorder write every input and output from now on; None ends that."""
        self._recorder = recorder

    def _record_input(self, name: str, *arguments: object) -> None:
        if self._recorder is not None:
            self._recorder.record_input(name, arguments)

    def key_rings(self) -> dict[int, KeyRing]:
        """Return the keys of each authenticated link, by its index."""
        rings = {ifindex: link.settings.key_ring for ifindex, link in self._links.items()}
        return {ifindex: ring for ifindex, ring in rings.items() if ring is not None}

    def _wall_offset(self) -> float:
        return self._wall_offset_s

    # Views

    def neighbors(self, now: float) -> list[NeighborRow]:
        """Return every adjacency and every refused sender, by link, address and router id."""
        return self.neighbors_after(None, sys.maxsize, now)

    def neighbors_after(
        self, after: views.NeighborPosition | None, limit: int, now: float
    ) -> list[NeighborRow]:
        """Return the next of `neighbors` after a position, `limit` at most.

        Args:
            after: the position of the last one seen; None to begin.
            limit: how many.
            now: seconds, monotonic.

        Cost: linear in the entries of the links that are shown, and 20 us a row.
        """
        return views.neighbor_rows(self._links, self._table, after, limit, now)

    def adjacency_states(self) -> list[tuple[int, AdjacencyState]]:
        """Return the link and the state of every adjacency."""
        return [
            (ifindex, neighbor.adjacency.state)
            for ifindex, link in self._links.items()
            for neighbor in link.neighbors.values()
        ]

    def neighbor_ids(self) -> set[Address]:
        """Return the router ids of all adjacencies."""
        return views.neighbor_ids(self._links)

    def next_hops_of(self, address: Address) -> set[tuple[Address | None, int]]:
        """Return the gateways and links of the neighbors with a router id or an address."""
        return views.next_hops_of(self._links, address)

    def learned(self) -> list[LearnedRow]:
        """Return every learned route, by prefix and neighbor."""
        return views.learned_rows(self._table)

    def waiting_for(self, address: Address) -> list[LearnedRow]:
        """Return the learned routes to an address that wait for a newer seqno, the longest prefix
        first.

        Cost: a dictionary look-up for each prefix length of the family.
        """
        return views.waiting_rows(self._table, address)

    def counters(self) -> Mapping[str, int]:
        """Return how often each `TraceCode` has happened, by its value; every code is present."""
        return self._log.counters()

    def pending_adjacencies(self, now: float) -> int:
        """Return how many adjacencies are forming; a one-way one counts for its dead interval
        only."""
        return self._loading.pending_adjacencies(now)

    def is_loaded(self, now: float) -> bool:
        """Return whether all present neighbors have been heard and have sent their tables; after a
        restart, whether these were complete."""
        return self._loading.is_loaded(now)

    @property
    def awaits_links(self) -> bool:
        """Whether a link with neighbors of the previous boot is not up yet."""
        return self._loading.awaits_links

    def _expire_neighbors(self, now: float) -> None:
        """Expire silent neighbors; only after all datagrams that have arrived were read
        (`network`)."""
        for ifindex in self._schedule.due(now):
            link = self._links[ifindex]
            for neighbor in link.pop_timers(now):
                link.queue_service(neighbor)
                self._lifecycle.expire(link, neighbor, now)

    # The consequences of an input

    def _finish_input(self, now: float) -> None:
        """Carry out everything that is due, in an order in which one pass is enough."""
        self._loading.update(now)
        self._table.collect(now, self._pending_updates.is_pending, self._has_gap)
        self._relay.send_due(now)
        changes = self._table.pop_changes()
        if changes:
            better = self._table.pop_improvements()
            self._pending_updates.mark_reported(
                self._reporter.report_all(changes, better, now), now
            )
        late = self._wait.expire(now)
        if late:
            self._log.count(TraceCode.FORWARDING_LATE, len(late))
            self._pending_updates.mark_forwarded(late, now)
        self._gather_heartbeats(now)
        for ifindex in self._schedule.pop_due(now):
            self._serve_link(self._links[ifindex], now)
            self._schedule.arm(ifindex)
        if self._loading.pop_loaded(now):
            self._schedule.touch_all()  # each ends CONVERGING when it has sent everything

    def _has_gap(self, key: NeighborKey) -> bool:
        """Return whether messages of a neighbor are missing that later ones have overtaken."""
        link = self._links.get(key.ifindex)
        neighbor = None if link is None else link.neighbors.get(key)
        return neighbor is not None and neighbor.exchange.receiver.has_gap

    def _gather_heartbeats(self, now: float) -> None:
        """Send the heartbeats of other links together with one that is due, as far as they may
        leave already.

        Waking a process costs more than a heartbeat. The time of the first of them is random, as
        that of each would be, so routers do not fall into step.
        """
        if all(self._links[ifindex].heartbeat_due > now for ifindex in self._schedule.due(now)):
            return
        for link in self._links.values():
            if link.heartbeat_open_at <= now < link.heartbeat_due:
                link.heartbeat_due = now
                link.touch()

    def _serve_link(self, link: Link, now: float) -> None:
        """Send what one link has to send, and end CONVERGING on it when its time has come."""
        if link.listening_until is not None and now >= link.listening_until:
            link.listening_until = None
        self._transmitter.serve_link(link, now)
        has_advertised = self._loading.has_loaded and link.has_sent_all and not self._wait
        if not (link.is_converging and has_advertised):
            return
        if self._loading.has_whole_tables(but_for=link):  # its own routes are not advertised there
            link.is_converging = False
            self._transmitter.hasten_heartbeat(link, now)
