"""Receipt of datagrams and messages: DATA, ACKs and CONTROL; heartbeats are in `heartbeats`.

A message is trusted as far as its sender can be identified: a heartbeat may introduce a neighbor;
anything else must come from a known neighbor, from its address and with its present boot id.

Failure: no content of a message raises; it is dropped with a counted reason (`TraceCode`).
"""

from __future__ import annotations

from routed.model.prefix import Address
from routed.model.seqno import is_newer, next_seqno
from routed.nup.events import AdjacencyReason, Datagram, TraceCode
from routed.nup.heartbeats import HeartbeatHandler
from routed.nup.lifecycle import Lifecycle
from routed.nup.link.addresses import is_heard, off_link_reason, unusable_reason
from routed.nup.link.adjacency import AdjacencyEvent
from routed.nup.link.state import Link, Neighbor
from routed.nup.pending_updates import PendingUpdates
from routed.nup.route_changes import RouteReporter
from routed.nup.route_updates import UpdateReceiver
from routed.nup.routes.entries import NeighborKey
from routed.nup.seqno_relay import RequestRelay
from routed.nup.shared_state import SharedState
from routed.nup.transmit import Transmitter
from routed.nup.transport.reliable import ReceiveVerdict
from routed.nup.wire.message import (
    Ack,
    BeginTable,
    ChallengeReply,
    ChallengeRequest,
    DecodeError,
    EndOfTable,
    Goodbye,
    HeartbeatRequest,
    Message,
    MessageType,
    Receiver,
    RestartNotice,
    RouteUpdate,
    SeqnoRequest,
    Stream,
    TableRequest,
    TableVersion,
    decode,
)

__all__ = ["REQUIRED_HOP_LIMIT", "MessageHandler"]

REQUIRED_HOP_LIMIT = 255
"""No datagram that was forwarded even once still has it (RFC 5082)."""
GRACE_MAX_S = 120.0

_VERDICT_CODES = {
    ReceiveVerdict.DUPLICATE: TraceCode.DROPPED_DUPLICATE,
    ReceiveVerdict.OUT_OF_WINDOW: TraceCode.DROPPED_OUT_OF_WINDOW,
    ReceiveVerdict.NOT_READY: TraceCode.DROPPED_NOT_READY,
}
_NAMED_REFUSALS = frozenset(
    {TraceCode.DROPPED_UNSIGNED, TraceCode.DROPPED_UNKNOWN_KEY, TraceCode.DROPPED_BAD_MAC}
)
"""Refusals that an operator has to repair; replays and challenges end by themselves."""


class MessageHandler:
    """Dispatches datagrams and messages to the parts that they concern; owns no state."""

    def __init__(
        self,
        state: SharedState,
        reporter: RouteReporter,
        transmitter: Transmitter,
        lifecycle: Lifecycle,
        relay: RequestRelay,
        pending_updates: PendingUpdates,
    ) -> None:
        self._own = state.own
        self._log = state.log
        self._links = state.links
        self._reporter = reporter
        self._transmitter = transmitter
        self._lifecycle = lifecycle
        self._relay = relay
        self._updates = UpdateReceiver(state, lifecycle, pending_updates)
        self._heartbeats = HeartbeatHandler(state, lifecycle, transmitter)

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        """Check where a datagram comes from, decode it, and handle its message."""
        data, source, ifindex, hop_limit = datagram
        link = self._links.get(ifindex)
        if link is None:
            self._log.trace(TraceCode.DROPPED_UNKNOWN_LINK, ifindex, source)
        elif hop_limit != REQUIRED_HOP_LIMIT:
            self._log.trace(TraceCode.DROPPED_HOP_LIMIT, ifindex, source, f"hop limit {hop_limit}")
            link.refusals.record(
                source,
                f"hop limit {hop_limit}, not {REQUIRED_HOP_LIMIT}: it is not on the link",
                now,
            )
        elif not is_heard(link.settings, source):
            self._log.trace(TraceCode.DROPPED_SOURCE_OFF_LINK, ifindex, source)
            link.refusals.record(source, off_link_reason(link.settings, source), now)
        else:
            try:
                message = decode(data)
            except DecodeError as error:
                code = TraceCode[f"DROPPED_{error.reason.name}"]
                self._log.trace(code, ifindex, source, str(error))
            else:
                self._receive(link, source, data, message, now)

    def _receive(
        self, link: Link, source: Address, data: bytes, message: Message, now: float
    ) -> None:
        """Handle one message.

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
            neighbor = self._heartbeats.receive(link, source, message, now)
            if neighbor is not None:
                self._receive_acks(link, neighbor, message, now)
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
        """Return whether the link's guard admits a message; sends the answer that the guard asks
        for."""
        admission = link.guard.admit(data, message, source, now)
        if admission.answer is not None:
            self._transmitter.send_control(link, admission.answer, now, source)
        if admission.is_proven_now:
            link.refusals.clear(source)
        if admission.is_proven_now or isinstance(admission.answer, ChallengeReply):
            # Earlier heartbeats of a sender that is now proven were dropped: both send new ones.
            self._transmitter.hasten_heartbeat(link, now)
        if admission.refusal is None:
            return True
        self._log.trace(admission.refusal, link.settings.ifindex, source, admission.detail)
        if admission.refusal in _NAMED_REFUSALS:
            link.refusals.record(source, admission.detail, now)
        return False

    def _known_sender(self, link: Link, source: Address, message: Message) -> Neighbor | None:
        """Return the neighbor that sent a message other than a heartbeat; None when it is
        unknown."""
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
        """Return whether a unicast DATA belongs to this incarnation; if so, the neighbor hears
        us."""
        receiver = next(tlv for tlv in message.tlvs if isinstance(tlv, Receiver))
        adjacency = neighbor.adjacency
        if receiver.router_id != self._own.router_id:
            code = TraceCode.DROPPED_NOT_FOR_US
        elif receiver.session != adjacency.session or not adjacency.neighbor_session:
            code = TraceCode.DROPPED_STALE_SESSION
        else:
            self._lifecycle.confirm_two_way(link, neighbor, now)
            return True
        self._log.trace(code, link.settings.ifindex, adjacency.address)
        return False

    def _receive_acks(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> None:
        """Apply the ACK TLVs of an ACK message or a heartbeat.

        Only the first one of each stream counts, and none that names an unsent message.
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
        """Return whether an ACK names a message that has not been sent."""
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
            return  # only for a guard with keys; its sequence does not count
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
        if Goodbye in notices:  # it overrides any other notice in the message
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
