"""Handling of heartbeats: new neighbors, their timers and addresses, and their entries about us.

A heartbeat introduces a neighbor, repeats its timers and addresses, and lists the routers that its
sender hears. From the entry that names us follow the state of the adjacency, the round trip, and
the loss of our own heartbeats.
"""

from __future__ import annotations

from routed.model.prefix import Address
from routed.model.seqno import is_newer
from routed.nup.events import AdjacencyReason, AdjacencyState, TraceCode
from routed.nup.lifecycle import Lifecycle
from routed.nup.link.addresses import unusable_reason
from routed.nup.link.adjacency import Adjacency, AdjacencyEvent
from routed.nup.link.quality import loss_factor
from routed.nup.link.state import MAX_NEIGHBORS_PER_LINK, Exchange, Link, Neighbor
from routed.nup.routes.entries import NeighborKey
from routed.nup.shared_state import SharedState
from routed.nup.transmit import MAX_LISTED_ADDRESSES, Transmitter
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    LinkAddress,
    Mac,
    Message,
    NeighborHeard,
    Reception,
)

__all__ = ["MAX_NEIGHBORS_PER_LINK", "HeartbeatHandler"]

MAX_LINKS_PER_ROUTER = 8
"""The links to one wire by which a router may be a neighbor; further ones are ignored."""


class HeartbeatHandler:
    """Applies heartbeats to neighbors and adjacencies; owns no state."""

    def __init__(self, state: SharedState, lifecycle: Lifecycle, transmitter: Transmitter) -> None:
        self._own = state.own
        self._rng = state.rng
        self._log = state.log
        self._links = state.links
        self._lifecycle = lifecycle
        self._transmitter = transmitter

    def receive(self, link: Link, source: Address, message: Message, now: float) -> Neighbor | None:
        """Apply a heartbeat. Returns its sender, or None when it was dropped.

        Args:
            link: where it arrived.
            source: the address that it came from, which may be a neighbor's.
            message: decoded, and admitted by the link's guard.
            now: seconds, monotonic.
        """
        neighbor = self._heartbeat_sender(link, source, message, now)
        if neighbor is None:
            return None
        link.queue_service(neighbor)
        adjacency = neighbor.adjacency
        newest = adjacency.heartbeat_sequence
        if newest is not None and not is_newer(message.sequence, newest):
            adjacency.history.record(message.sequence)  # late is not lost
            self._log.trace(TraceCode.DROPPED_OLD_SEQUENCE, link.settings.ifindex, source)
            return None
        hello = next(tlv for tlv in message.tlvs if isinstance(tlv, Hello))
        self._trace_mtu_mismatch(link, adjacency, hello)
        adjacency.record_hello(hello, message.sequence, message.timestamp, now)
        adjacency.is_signing = isinstance(message.tlvs[-1], Mac)
        self._update_addresses(link, neighbor, message, now)
        link.record_heard((source, *adjacency.addresses), now)
        self._process_heard_list(link, neighbor, message, now)
        if neighbor.exchanges_routes:
            neighbor.exchange.receiver.record_multicast_sequence(hello.multicast_sequence, now)
            if (
                not message.flags & HeaderFlag.CONVERGING
                and neighbor.exchange.converged_sequence is None
            ):
                neighbor.exchange.converged_sequence = hello.multicast_sequence
        self._lifecycle.check_exchanged(link, neighbor, now)
        return neighbor

    def _update_addresses(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        """Apply the addresses that a heartbeat names; one that names none repeats the last ones."""
        adjacency = neighbor.adjacency
        listed = [tlv.address for tlv in message.tlvs if isinstance(tlv, LinkAddress)]
        named = tuple(listed[:MAX_LISTED_ADDRESSES])
        if not named or named == adjacency.named:
            return
        adjacency.named = named
        own = {entry.address for each in self._links.values() for entry in each.settings.addresses}
        reasons = {address: unusable_reason(link.settings, address, own) for address in named}
        refused = [f"{address} {reason}" for address, reason in reasons.items() if reason]
        adjacency.addresses = tuple(address for address in named if not reasons[address])
        adjacency.address_problem = f"its address {refused[0]}" if refused else ""
        for detail in refused:
            self._log.trace(
                TraceCode.REFUSED_ADDRESS, link.settings.ifindex, adjacency.address, detail
            )
        self._lifecycle.refresh_path(link, neighbor, now)

    def _heartbeat_sender(
        self, link: Link, source: Address, message: Message, now: float
    ) -> Neighbor | None:
        """Return the sender of a heartbeat: a known neighbor, a new or moved one, or one that
        restarted."""
        ifindex, sender = link.settings.ifindex, message.sender
        key = NeighborKey(ifindex, sender.router_id, source)
        neighbor = link.neighbors.get(key)
        if neighbor is None:
            if not self._has_place(link, source, message, now):
                return None
            neighbor = Neighbor(
                key,
                Adjacency(sender.router_id, source, sender.boot_id, now),
                Exchange.fresh(self._rng),
            )
            link.add_neighbor(neighbor)
        elif neighbor.adjacency.boot_id != sender.boot_id:
            reason = AdjacencyReason.NEIGHBOR_RESTARTED
            self._lifecycle.fire(link, neighbor, AdjacencyEvent.NEIGHBOR_RESTARTED, reason, now)
            neighbor.adjacency.begin_boot(sender.boot_id)
        return neighbor

    def _has_place(self, link: Link, source: Address, message: Message, now: float) -> bool:
        """Return whether an unknown sender may become a neighbor.

        A router that is known by another address has moved, if it lists us with the session that it
        has with us there; otherwise it has two links to the wire. The same router id with another
        boot id belongs to another router, as long as the first one is alive.
        """
        ifindex, sender = link.settings.ifindex, message.sender
        same_router = link.neighbors_of(sender.router_id)
        sessions = {entry.session for entry in self._entries_of_us(message)}
        for other in same_router:
            adjacency = other.adjacency
            is_same_life = adjacency.boot_id == sender.boot_id
            if not is_same_life and adjacency.state is not AdjacencyState.DOWN:
                detail = f"{sender.router_id}, heard from {adjacency.address} as well"
                self._log.trace(TraceCode.DUPLICATE_NEIGHBOR_ID, ifindex, source, detail)
                link.refusals.record(source, f"has the router id {detail}", now)
                return False
            if not is_same_life or (
                adjacency.neighbor_session and adjacency.neighbor_session in sessions
            ):
                reason = AdjacencyReason.ADDRESS_CHANGED
                self._lifecycle.fire(link, other, AdjacencyEvent.CLEARED, reason, now)
        is_full = len(link.neighbors) >= MAX_NEIGHBORS_PER_LINK
        is_crowd = len(link.neighbors_of(sender.router_id)) >= MAX_LINKS_PER_ROUTER
        if is_crowd or (is_full and not self._displace(link, now)):
            self._log.trace(TraceCode.DROPPED_TOO_MANY_NEIGHBORS, ifindex, source)
            return False
        return True

    def _displace(self, link: Link, now: float) -> bool:
        """Remove the newcomer that has waited longest; a neighbor heard both ways is never
        removed."""
        key = next(iter(link.newcomers), None)
        if key is None:
            return False
        self._log.count(TraceCode.NEWCOMER_DISPLACED)
        displaced = link.neighbors[key]
        reason = AdjacencyReason.DISPLACED
        self._lifecycle.fire(link, displaced, AdjacencyEvent.CLEARED, reason, now)
        return True

    def _entries_of_us(self, message: Message) -> list[NeighborHeard]:
        """Return the entries about us in a heartbeat: one for each of our links that its sender
        hears."""
        return [
            tlv
            for tlv in message.tlvs
            if isinstance(tlv, NeighborHeard)
            and (tlv.router_id, tlv.boot_id) == (self._own.router_id, self._own.boot_id)
        ]

    def _trace_mtu_mismatch(self, link: Link, adjacency: Adjacency, hello: Hello) -> None:
        has_changed = adjacency.hello is None or adjacency.hello.mtu != hello.mtu
        if has_changed and hello.mtu != link.settings.mtu:
            detail = f"theirs {hello.mtu}, ours {link.settings.mtu}"
            self._log.trace(
                TraceCode.MTU_MISMATCH, link.settings.ifindex, adjacency.address, detail
            )

    def _process_heard_list(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        """Apply what a heartbeat says about us.

        Where we or the sender have several links to the wire, several entries list us; the one for
        this link has our session here.
        """
        adjacency = neighbor.adjacency
        entries = self._entries_of_us(message)
        matching = [entry for entry in entries if entry.heard_session == adjacency.session]
        entry = matching[0] if matching else entries[0] if len(entries) == 1 else None
        adjacency.is_unlisted = not entries and not message.flags & HeaderFlag.PARTIAL_LIST
        if entries and entry is None:
            self._guess_entry(link, neighbor, entries, now)
            return
        if entry is None:
            is_proof = not message.flags & HeaderFlag.PARTIAL_LIST
            event = AdjacencyEvent.HELLO_ONE_WAY if is_proof else AdjacencyEvent.HELLO_HEARD
            reason = (
                AdjacencyReason.HEARD
                if adjacency.state is AdjacencyState.DOWN
                else AdjacencyReason.ONE_WAY
            )
            self._lifecycle.fire(link, neighbor, event, reason, now)
            return
        if adjacency.neighbor_session not in (0, entry.session):
            reason = AdjacencyReason.NEIGHBOR_RESET
            self._lifecycle.fire(link, neighbor, AdjacencyEvent.NEIGHBOR_RESET, reason, now)
        if adjacency.state is AdjacencyState.DOWN:
            self._lifecycle.fire(
                link, neighbor, AdjacencyEvent.HELLO_HEARD, AdjacencyReason.HEARD, now
            )
        adjacency.neighbor_session = entry.session
        adjacency.measure_rtt(entry, now)
        self._update_reception(adjacency, message, entry)
        self._update_cost(link, neighbor, now)
        if entry.heard_session == adjacency.session:
            self._lifecycle.confirm_two_way(link, neighbor, now)
        else:
            self._transmitter.hasten_heartbeat(
                link, now
            )  # our heartbeats crossed: it lacks our session

    def _guess_entry(
        self, link: Link, neighbor: Neighbor, entries: list[NeighborHeard], now: float
    ) -> None:
        """Handle several entries without our session: the neighbor does not know it yet.

        One of them is for this link, and nothing says which. While the adjacency forms, one of
        them is answered. If the neighbor finds its own session in that answer, it learns ours from
        it; otherwise another entry is answered.
        """
        adjacency = neighbor.adjacency
        if adjacency.state is AdjacencyState.DOWN:
            reason = AdjacencyReason.HEARD
            self._lifecycle.fire(link, neighbor, AdjacencyEvent.HELLO_HEARD, reason, now)
        if not adjacency.state.exchanges_routes:
            adjacency.guessed_session = self._rng.choice(entries).session
        self._transmitter.hasten_heartbeat(link, now)

    def _update_reception(
        self, adjacency: Adjacency, message: Message, entry: NeighborHeard
    ) -> None:
        """Record how many of our heartbeats arrive, as the sender says; without RECEPTION all do.

        RECEPTION follows the entry that it belongs to.
        """
        following = message.tlvs[message.tlvs.index(entry) + 1 :]
        adjacency.share_there = 1.0
        for tlv in following:
            if isinstance(tlv, NeighborHeard):
                return
            if isinstance(tlv, Reception) and tlv.router_id == self._own.router_id:
                adjacency.share_there = tlv.received / tlv.expected
                return

    def _update_cost(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Recompute the cost from the round trip and the loss, where the link is configured for
        it."""
        adjacency, settings = neighbor.adjacency, link.settings
        before = adjacency.extra_cost, adjacency.loss_factor
        adjacency.extra_cost = (
            0
            if settings.rtt_cost is None
            else settings.rtt_cost.surcharge(adjacency.rtt_s, adjacency.extra_cost)
        )
        adjacency.loss_factor = (
            loss_factor(adjacency.history.share, adjacency.share_there, adjacency.loss_factor)
            if settings.is_loss_based
            else 1.0
        )
        if (adjacency.extra_cost, adjacency.loss_factor) != before:
            self._lifecycle.refresh_path(link, neighbor, now)
