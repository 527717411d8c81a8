"""What each kind of message does: heartbeats, DATA, ACKs, CONTROL.

A message that comes here has been decoded, and its source and hop limit have been judged. It is
believed as far as its sender can be identified: a heartbeat may introduce a neighbor, anything else
must come from one that is known, from its address and in its present life.

Failure: nothing that a message says raises; it is dropped with a counted reason (`TraceCode`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from routed.model.prefix import Address, Prefix
from routed.model.seqno import is_newer, next_seqno
from routed.nup.events import AdjacencyReason, AdjacencyState, TraceCode
from routed.nup.lifecycle import Lifecycle
from routed.nup.link.addresses import unusable_reason
from routed.nup.link.adjacency import Adjacency, AdjacencyEvent
from routed.nup.link.quality import loss_factor
from routed.nup.link.state import MAX_NEIGHBORS_PER_LINK, Exchange, Link, Neighbor
from routed.nup.outputs import OutputLog
from routed.nup.route_changes import RouteReporter
from routed.nup.routes.learning import UpdateReceiver
from routed.nup.routes.table import NeighborKey, RouteTable
from routed.nup.seqno_relay import RequestRelay
from routed.nup.transmit import MAX_LISTED_ADDRESSES, Transmitter
from routed.nup.transport.advertise import OriginTable
from routed.nup.transport.reliable import ReceiveVerdict
from routed.nup.wire.message import (
    Ack,
    BeginTable,
    ChallengeReply,
    ChallengeRequest,
    EndOfTable,
    Goodbye,
    HeaderFlag,
    HeartbeatRequest,
    Hello,
    LinkAddress,
    Mac,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    Reception,
    RestartNotice,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    Stream,
    TableRequest,
    TableVersion,
)

__all__ = ["MAX_NEIGHBORS_PER_LINK", "MessageHandler"]

MAX_LINKS_PER_ROUTER = 8
"""A router with more links than these to one wire is no neighbor by the others."""
GRACE_MAX_S = 120.0

_VERDICT_CODES = {
    ReceiveVerdict.DUPLICATE: TraceCode.DROPPED_DUPLICATE,
    ReceiveVerdict.OUT_OF_WINDOW: TraceCode.DROPPED_OUT_OF_WINDOW,
    ReceiveVerdict.NOT_READY: TraceCode.DROPPED_NOT_READY,
}
_NAMED_REFUSALS = frozenset(
    {TraceCode.DROPPED_UNSIGNED, TraceCode.DROPPED_UNKNOWN_KEY, TraceCode.DROPPED_BAD_MAC}
)
"""What an operator has to mend; replays and challenges mend themselves."""


class MessageHandler:
    """Takes messages in; owns nothing, moves what the others own."""

    def __init__(
        self,
        own: Sender,
        rng: random.Random,
        log: OutputLog,
        table: RouteTable,
        origins: OriginTable,
        reporter: RouteReporter,
        transmitter: Transmitter,
        lifecycle: Lifecycle,
        relay: RequestRelay,
        mark_dirty: Callable[[Prefix, float], None],
        links: Mapping[int, Link],
    ) -> None:
        self._own = own
        self._links = links
        self._rng = rng
        self._log = log
        self._table = table
        self._reporter = reporter
        self._transmitter = transmitter
        self._lifecycle = lifecycle
        self._relay = relay
        self._updates = UpdateReceiver(log, table, origins, lifecycle, mark_dirty)

    def receive(
        self, link: Link, source: Address, data: bytes, message: Message, now: float
    ) -> None:
        """Take in one message.

        Args:
            link: where it arrived.
            source: the address that it came from.
            data: the datagram, for its signature.
            message: the same, decoded.
            now: seconds, monotonic.
        """
        ifindex = link.settings.ifindex
        if message.sender == self._own:
            self._log.trace(TraceCode.DROPPED_OWN_MESSAGE, ifindex, source)
            return
        if not self._is_admitted(link, source, data, message, now):
            return
        sender = message.sender
        if (
            link.has_departed(sender.router_id, sender.boot_id, source, now)
            and Goodbye() not in message.tlvs
        ):  # that may follow a RESTART
            self._log.trace(TraceCode.DROPPED_AFTER_LEAVING, ifindex, source)
        elif reason := unusable_reason(link.settings, source):
            self._log.trace(TraceCode.REFUSED_ADDRESS, ifindex, source, f"{source} {reason}")
            link.refusals.record(source, f"its address {reason}", now)
        elif sender.router_id == self._own.router_id:
            self._log.trace(
                TraceCode.DUPLICATE_ROUTER_ID, ifindex, source, str(self._own.router_id)
            )
            link.refusals.record(source, f"has our router id {self._own.router_id}", now)
        elif message.type is MessageType.HEARTBEAT:
            self._receive_heartbeat(link, source, message, now)
        else:
            neighbor = self._known_sender(link, source, message)
            if neighbor is None:
                return
            link.queue_service(neighbor)
            match message.type:
                case MessageType.DATA:
                    self._receive_data(link, neighbor, message, now)
                case MessageType.ACK:
                    self._receive_acks(link, neighbor, message, now)
                case MessageType.CONTROL:
                    self._receive_control(link, neighbor, message, now)

    def _is_admitted(
        self, link: Link, source: Address, data: bytes, message: Message, now: float
    ) -> bool:
        """Whether the link's guard lets a message pass; carries out what it asks for."""
        admission = link.guard.admit(data, message, source, now)
        if admission.answer is not None:
            self._transmitter.send_control(link, admission.answer, now, source)
        if admission.is_proven_now:
            link.refusals.clear(source)
        if admission.is_proven_now or isinstance(admission.answer, ChallengeReply):
            # Whoever proves itself has been heard in vain until now: both say hello again.
            self._transmitter.hasten_heartbeat(link, now)
        if admission.refusal is None:
            return True
        self._log.trace(admission.refusal, link.settings.ifindex, source, admission.detail)
        if admission.refusal in _NAMED_REFUSALS:
            link.refusals.record(source, admission.detail, now)
        return False

    def _known_sender(self, link: Link, source: Address, message: Message) -> Neighbor | None:
        """The neighbor that a message other than a heartbeat comes from, if it is one."""
        ifindex = link.settings.ifindex
        router_id = message.sender.router_id
        neighbor = link.neighbors.get(NeighborKey(ifindex, router_id, source))
        if neighbor is None:
            is_elsewhere = bool(link.neighbors_of(router_id))
            code = (
                TraceCode.DROPPED_WRONG_SOURCE
                if is_elsewhere
                else TraceCode.DROPPED_UNKNOWN_NEIGHBOR
            )
            self._log.trace(code, ifindex, source)
            return None
        if neighbor.adjacency.boot_id != message.sender.boot_id:
            self._log.trace(TraceCode.DROPPED_OTHER_BOOT, ifindex, source)
            return None
        return neighbor

    def _receive_heartbeat(self, link: Link, source: Address, message: Message, now: float) -> None:
        neighbor = self._heartbeat_sender(link, source, message, now)
        if neighbor is None:
            return
        link.queue_service(neighbor)
        adjacency = neighbor.adjacency
        newest = adjacency.heartbeat_sequence
        if newest is not None and not is_newer(message.sequence, newest):
            adjacency.history.record(message.sequence)  # late is not lost
            self._log.trace(TraceCode.DROPPED_OLD_SEQUENCE, link.settings.ifindex, source)
            return
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
        self._receive_acks(link, neighbor, message, now)

    def _update_addresses(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        """Take in the addresses that a heartbeat names; one that names none repeats the last."""
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
        """The neighbor that a heartbeat comes from: known, new, moved, or living anew."""
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
        """Whether somebody who is heard for the first time may become a neighbor.

        A router that is known by another address has moved, if it lists us with the session that it
        has with us there; without that it has two links to the wire. Its id in another life is
        another router's, as long as the first one is alive.
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
        """Make room by the newcomer that has waited longest; nobody heard both ways ever goes."""
        key = next(iter(link.newcomers), None)
        if key is None:
            return False
        self._log.count(TraceCode.NEWCOMER_DISPLACED)
        displaced = link.neighbors[key]
        reason = AdjacencyReason.DISPLACED
        self._lifecycle.fire(link, displaced, AdjacencyEvent.CLEARED, reason, now)
        return True

    def _entries_of_us(self, message: Message) -> list[NeighborHeard]:
        """What a heartbeat says about us: an entry for each of our links that its sender hears."""
        return [
            tlv
            for tlv in message.tlvs
            if isinstance(tlv, NeighborHeard)
            and (tlv.router_id, tlv.boot_id) == (self._own.router_id, self._own.boot_id)
        ]

    def _trace_mtu_mismatch(self, link: Link, adjacency: Adjacency, hello: Hello) -> None:
        is_news = adjacency.hello is None or adjacency.hello.mtu != hello.mtu
        if is_news and hello.mtu != link.settings.mtu:
            detail = f"theirs {hello.mtu}, ours {link.settings.mtu}"
            self._log.trace(
                TraceCode.MTU_MISMATCH, link.settings.ifindex, adjacency.address, detail
            )

    def _process_heard_list(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        """What a heartbeat says about us.

        Where we or the sender have several links to the wire we are listed several times, and the
        entry for this link is the one with our session here.
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
            self._confirm_two_way(link, neighbor, now)
        else:
            self._transmitter.hasten_heartbeat(
                link, now
            )  # our heartbeats crossed: it lacks our session

    def _guess_entry(
        self, link: Link, neighbor: Neighbor, entries: list[NeighborHeard], now: float
    ) -> None:
        """None of several entries has our session: the neighbor does not know it yet.

        One of them is for this link all the same. While the adjacency forms we answer to any of
        them; when the neighbor finds its own session in that answer it takes ours from it, and
        otherwise we answer to another one.
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
        """What a heartbeat that lists us says of how ours arrive; nothing means all of them.

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
        """Have the cost follow the round trip and the loss, where the link is told to."""
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

    def _confirm_two_way(self, link: Link, neighbor: Neighbor, now: float) -> None:
        neighbor.adjacency.confirm(now)
        reason = AdjacencyReason.HEARD_BOTH_WAYS
        self._lifecycle.fire(link, neighbor, AdjacencyEvent.HELLO_TWO_WAY, reason, now)

    def _receive_data(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> None:
        ifindex, address = link.settings.ifindex, neighbor.adjacency.address
        stream = message.stream
        if stream is Stream.UNICAST and not self._is_for_us(link, neighbor, message, now):
            return
        if not neighbor.exchanges_routes:
            self._log.trace(TraceCode.DROPPED_NOT_READY, ifindex, address)
            return
        neighbor.adjacency.heard_at = now
        exchange = neighbor.exchange
        verdict = exchange.receiver.accept(stream, message.sequence, now)
        if verdict is not ReceiveVerdict.NEW:
            self._log.trace(_VERDICT_CODES[verdict], ifindex, address)
            return
        version = next(tlv.version for tlv in message.tlvs if isinstance(tlv, TableVersion))
        updates: list[RouteUpdate] = []
        for tlv in message.tlvs:
            match tlv:
                case RouteUpdate():
                    updates.append(tlv)
                case SeqnoRequest():
                    self._relay.receive(link, neighbor, tlv, now)
                case BeginTable():
                    exchange.receiver.start_multicast(tlv.multicast_base, now)
                case TableRequest():
                    self._lifecycle.resend_table(neighbor, now)
                case EndOfTable():
                    exchange.neighbor_end = (message.sequence, tlv.count)
                case _:
                    pass  # RECEIVER and TABLE_VERSION have been read
        if stream is Stream.UNICAST:
            exchange.updates_received += len(updates)
            if not exchange.is_table_received:
                neighbor.adjacency.record_progress(now)
        self._updates.receive(link, neighbor, updates, version, now)
        self._lifecycle.check_exchanged(link, neighbor, now)

    def _is_for_us(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> bool:
        """Whether a unicast DATA belongs to this incarnation; if so, the neighbor hears us."""
        receiver = next(tlv for tlv in message.tlvs if isinstance(tlv, Receiver))
        adjacency = neighbor.adjacency
        if receiver.router_id != self._own.router_id:
            code = TraceCode.DROPPED_NOT_FOR_US
        elif receiver.session != adjacency.session or not adjacency.neighbor_session:
            code = TraceCode.DROPPED_STALE_SESSION
        else:
            self._confirm_two_way(link, neighbor, now)
            return True
        self._log.trace(code, link.settings.ifindex, adjacency.address)
        return False

    def _receive_acks(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> None:
        """Take in the ACK TLVs of a message, standing alone or riding on a heartbeat.

        Of each stream one, the first; and none that names what was never sent.
        """
        seen: set[Stream] = set()
        for tlv in message.tlvs:
            if not isinstance(tlv, Ack) or tlv.router_id != self._own.router_id:
                continue
            if tlv.session != neighbor.adjacency.session or not neighbor.exchanges_routes:
                # Not traced: with two links to the wire, half of them are for the other one.
                self._log.count(TraceCode.DROPPED_STALE_SESSION)
                continue
            if tlv.stream in seen or self._is_of_the_future(link, neighbor, tlv):
                self._log.count(TraceCode.IGNORED_ACK)
                continue
            seen.add(tlv.stream)
            neighbor.adjacency.confirm(now)
            for delivered in neighbor.exchange.sender.acknowledge(tlv, now):
                self._reporter.record_delivered(link.settings.ifindex, delivered)
            self._lifecycle.check_exchanged(link, neighbor, now)

    def _is_of_the_future(self, link: Link, neighbor: Neighbor, ack: Ack) -> bool:
        """Whether an ACK names a message that has not been sent."""
        last_sent = (
            neighbor.exchange.sender.last_unicast_sequence
            if ack.stream is Stream.UNICAST
            else link.multicast_sequence
        )
        span = sum(run.missing + run.received for run in ack.ranges)
        return is_newer(next_seqno(ack.cumulative, span), last_sent)

    def _receive_control(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        adjacency = neighbor.adjacency
        if any(isinstance(tlv, (ChallengeRequest, ChallengeReply)) for tlv in message.tlvs):
            return  # for a guard with keys; it says nothing else, and does not count
        if any(isinstance(tlv, HeartbeatRequest) for tlv in message.tlvs):
            if neighbor.exchanges_routes:
                self._transmitter.answer_heartbeat_request(link, now)
            else:
                self._log.count(TraceCode.IGNORED_HEARTBEAT_REQUEST)
            return  # it went to us alone: its sequence was that of the last one to the group
        newest = adjacency.heartbeat_sequence
        if newest is not None and not is_newer(message.sequence, newest):
            self._log.trace(
                TraceCode.DROPPED_OLD_SEQUENCE, link.settings.ifindex, adjacency.address
            )
            return
        adjacency.heartbeat_sequence = message.sequence
        notices = {type(tlv): tlv for tlv in message.tlvs}
        if Goodbye in notices:  # the stronger word, whatever stands beside it
            link.record_departure(neighbor, now)
            event, reason = AdjacencyEvent.GOODBYE_HEARD, AdjacencyReason.GOODBYE
            self._lifecycle.fire(link, neighbor, event, reason, now)
            return
        match notices.get(RestartNotice):
            case RestartNotice(grace_ms):
                link.record_departure(neighbor, now)
                grace_s = min(grace_ms / 1000, GRACE_MAX_S)
                event, reason = AdjacencyEvent.RESTART_ANNOUNCED, AdjacencyReason.RESTART_ANNOUNCED
                self._lifecycle.fire(link, neighbor, event, reason, now, grace_s=grace_s)
