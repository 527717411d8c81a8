"""The neighbor protocol as one object without I/O: inputs in, outputs out, time passed in.

    receive_datagram --+                                  +--> SendDatagram
    link_up, _down     |     Adjacency (table)            |    AdjacencyChanged
    originate,         +--> ReliableSender / Receiver  ---+--> RouteLearned, RouteHeld, RouteLost
      withdraw         |     RouteTable (feasibility)     |    Trace
    handle_timer ------+     LinkAdvertiser               +

Each input runs to completion: it changes state, then `_settle` carries the consequences out in a
fixed order: what has expired, which seqno requests are due, which selections changed (reported, and
marked dirty on the links), and last what each link has to send. Nothing in the last step can change
a selection, so one pass is enough.

The caller drains `outputs()` after every input and calls `handle_timer` when `next_timer()` has
come. `now` is a float of seconds on one monotonic clock and never goes back.

What the caller promises: a prefix is originated here only while this router's own forwarding of it
does not rest on a route learned here (otherwise two routers could each advertise the other's).

Failure: nothing that arrives from the network raises. It is dropped with a `Trace` whose code is
counted. A misuse by the caller raises `UsageError`.

Bounds: MAX_NEIGHBORS_PER_LINK neighbors per link, whoever claims to be there; the rest as stated
in `reliable` and `feasibility`.

Graceful restart. When a neighbor comes back with a new boot id, or announced that it would, its
routes stay in use, marked stale, while the adjacency forms anew; END_OF_TABLE sweeps what was not
told again, and the end of the grace sweeps all. While it restarts, it forwards by its old table, so
nothing changes along the paths through it; `feasibility` says why that is free of loops. A router
that itself restarts must not touch its kernel table before `is_loaded`: only the whole of its
neighbors' tables tells its true successors from the neighbors that were reached through it.

Sources: the sans-IO form of h11 and aioquic; RFC 4724 and RFC 3623 for the restart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import is_newer
from routed.neighbor.adjacency import (
    TRANSITIONS,
    Adjacency,
    AdjacencyAction,
    AdjacencyEvent,
)
from routed.neighbor.advertise import (
    OriginTable,
    RetractionHold,
    TableDump,
)
from routed.neighbor.events import (
    AdjacencyChanged,
    AdjacencyReason,
    AdjacencyState,
    LearnedRow,
    LinkSettings,
    NeighborRow,
    Output,
    TraceCode,
    UsageError,
)
from routed.neighbor.feasibility import NeighborKey, RouteTable, UpdateVerdict
from routed.neighbor.links import Exchange, Link, Neighbor, is_on_link, path_to
from routed.neighbor.outputs import OutputLog
from routed.neighbor.reliable import ReceiveVerdict
from routed.neighbor.report import RouteReporter
from routed.neighbor.transmit import MAX_LISTED_ADDRESSES, Transmitter
from routed.neighbor.views import learned_rows, neighbor_row
from routed.neighbor.wire import (
    Ack,
    BeginTable,
    DecodeError,
    EndOfTable,
    Flag,
    Goodbye,
    Hello,
    LinkAddress,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    RestartNotice,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    Stream,
    TableVersion,
    Tlv,
    decode,
)

__all__ = ["NeighborInstance"]

REQUIRED_HOP_LIMIT = 255
"""Nothing that was forwarded even once still has it (RFC 5082)."""
MAX_NEIGHBORS_PER_LINK = 256
GRACE_MIN_S = 10.0
"""A neighbor that came back unannounced has this long, or its dead interval, to tell its table."""
GRACE_MAX_S = 120.0
OWN_GRACE_S = 30.0
"""What we ask for when we announce a restart."""
FORWARD_SUPPRESS_S = 0.3
"""The same seqno request is not passed on twice within this time (RFC 8966 section 3.8.1.2)."""
MAX_FORWARDED = 4096

_VERDICT_CODES = {
    ReceiveVerdict.DUPLICATE: TraceCode.DROPPED_DUPLICATE,
    ReceiveVerdict.OUT_OF_WINDOW: TraceCode.DROPPED_OUT_OF_WINDOW,
    ReceiveVerdict.NOT_READY: TraceCode.DROPPED_NOT_READY,
}
_UPDATE_CODES = {
    UpdateVerdict.UNFEASIBLE: TraceCode.UNFEASIBLE_UPDATE,
    UpdateVerdict.OLD_VERSION: TraceCode.IGNORED_OLD_VERSION,
    UpdateVerdict.OWN_ORIGIN: TraceCode.IGNORED_OWN_ORIGIN,
    UpdateVerdict.TABLE_FULL: TraceCode.IGNORED_TABLE_FULL,
}


class NeighborInstance:
    """One router's side of NUP on all its links."""

    def __init__(
        self, router_id: Address, boot_id: int, origin_seqno: int, rng: random.Random
    ) -> None:
        """Begin a life of the protocol.

        Args:
            router_id: an IPv4 address, unique in the network.
            boot_id: random, 32 bits, new for each life.
            origin_seqno: later than any that an earlier life of this router used; 32 bits, serial.
            rng: jitter and session numbers come from it; seed it to repeat a run.

        Raises:
            UsageError: the router id is no IPv4 address.
        """
        if router_id.family is not Family.IPV4:
            raise UsageError("a router id is written as an IPv4 address")
        self.router_id = router_id
        self.boot_id = boot_id
        self._rng = rng
        self._links: dict[int, Link] = {}
        self._table = RouteTable(router_id)
        self._origins = OriginTable(origin_seqno)
        self._hold = RetractionHold()
        self._forwarded: dict[tuple[Prefix, Address], tuple[int, float]] = {}
        self._log = OutputLog()
        self._reporter = RouteReporter(
            self._log, self._table, self._origins, self._hold, self._links
        )
        self._transmitter = Transmitter(
            Sender(router_id, boot_id), rng, self._log, self._hold, self._advertisement
        )

        self._multicast_floor = 0
        self._session = rng.getrandbits(32)
        self._has_loaded = False
        self._is_stopped = False

    # Inputs: links

    def link_up(self, settings: LinkSettings, now: float) -> None:
        """Start on a link that carries traffic; for a link that is known, the same as a change."""
        if self._is_stopped:
            return
        if settings.ifindex in self._links:
            self.link_changed(settings, now)
            return
        self._links[settings.ifindex] = Link(
            settings, self._multicast_floor, now, is_converging=not self._has_loaded
        )
        self._settle(now)

    def link_changed(self, settings: LinkSettings, now: float) -> None:
        """Take on new settings or addresses of a link; no adjacency is dropped for it.

        Raises:
            UsageError: the link was never brought up.
        """
        if self._is_stopped:
            return
        link = self._links.get(settings.ifindex)
        if link is None:
            raise UsageError(f"link {settings.ifindex} is not up")
        if link.settings == settings:
            return
        link.settings = settings
        for neighbor in link.neighbors.values():
            self._refresh_path(link, neighbor, now)
        self._transmitter.hasten_heartbeat(link, now)
        self._settle(now)

    def link_down(self, ifindex: int, now: float) -> None:
        """The link lost its carrier, or NUP no longer runs on it; unknown links are ignored."""
        link = self._links.get(ifindex)
        if link is None or self._is_stopped:
            return
        for neighbor in list(link.neighbors.values()):
            self._fire(link, neighbor, AdjacencyEvent.LINK_LOST, AdjacencyReason.LINK_DOWN, now)
        if is_newer(link.multicast_sequence, self._multicast_floor):
            # The next incarnation of the stream must not repeat sequences still on the wire.
            self._multicast_floor = link.multicast_sequence
        del self._links[ifindex]
        self._settle(now)

    # Inputs: routes

    def originate(
        self, prefix: Prefix, metric: int, tag: int, is_external: bool, now: float
    ) -> None:
        """Bring a prefix into the network, or change how it is brought in.

        Args:
            prefix: not learned here, as far as this router's forwarding goes (module docstring).
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
        if self._origins.originate(prefix, metric, tag, is_external=is_external):
            self._reporter.cancel_hold(prefix)
            self._mark_dirty(prefix, now)
        self._settle(now)

    def withdraw(self, prefix: Prefix, now: float) -> None:
        """Take a prefix out of the network; unknown ones are ignored."""
        if not self._is_stopped and self._origins.withdraw(prefix):
            self._mark_dirty(prefix, now)
            self._settle(now)

    # Inputs: the network and the clock

    def receive_datagram(
        self, data: bytes, source: Address, ifindex: int, hop_limit: int | None, now: float
    ) -> None:
        """Take in one datagram, whatever is in it.

        Args:
            data: the UDP payload.
            source: the address it came from.
            ifindex: the link it arrived on, as the kernel says.
            hop_limit: its hop limit or TTL on arrival; None (unknown) is refused, because Linux
                does not enforce a minimum for UDP.
            now: seconds, monotonic.
        """
        if self._is_stopped:
            return
        link = self._links.get(ifindex)
        if link is None:
            self._log.trace(TraceCode.DROPPED_UNKNOWN_LINK, ifindex, source)
        elif hop_limit != REQUIRED_HOP_LIMIT:
            self._log.trace(TraceCode.DROPPED_HOP_LIMIT, ifindex, source, f"hop limit {hop_limit}")
        elif not is_on_link(link.settings, source):
            self._log.trace(TraceCode.DROPPED_SOURCE_OFF_LINK, ifindex, source)
        else:
            try:
                message = decode(data)
            except DecodeError as error:
                code = TraceCode[f"DROPPED_{error.reason.name}"]
                self._log.trace(code, ifindex, source, str(error))
            else:
                self._receive_message(link, source, message, now)
                self._settle(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due; too early or too late is harmless."""
        if not self._is_stopped:
            self._settle(now)

    def next_timer(self) -> float | None:
        """When `handle_timer` should be called next, on the clock of `now`; None for never."""
        if self._is_stopped:
            return None
        times = [link.next_timer() for link in self._links.values()]
        table_timer = self._table.next_timer()
        if table_timer is not None:
            times.append(table_timer)
        return min(times, default=None)

    def outputs(self) -> list[Output]:
        """Drain what has accumulated, in order."""
        return self._log.drain()

    def clear_neighbor(self, router_id: Address, now: float) -> bool:
        """Start every adjacency with a router afresh (operator); whether there was one."""
        found = [
            (link, link.neighbors[router_id])
            for link in self._links.values()
            if router_id in link.neighbors
        ]
        for link, neighbor in found:
            self._fire(link, neighbor, AdjacencyEvent.CLEARED, AdjacencyReason.CLEARED, now)
            self._transmitter.hasten_heartbeat(link, now)
        self._settle(now)
        return bool(found)

    def stop(self, is_restart: bool, now: float) -> None:
        """Leave: GOODBYE, or RESTART when this router goes on forwarding and comes back.

        Nothing is reported for routes and adjacencies; drain the outputs once more, then drop the
        instance.
        """
        if self._is_stopped:
            return
        notice: Tlv = RestartNotice(int(OWN_GRACE_S * 1000)) if is_restart else Goodbye()
        for link in self._links.values():
            self._transmitter.send_control(link, notice, now)
        self._is_stopped = True

    # Views

    def neighbors(self, now: float) -> list[NeighborRow]:
        """Every adjacency, by link and router id. Cost: proportional to the routes learned."""
        rows = [
            neighbor_row(link, neighbor, self._table.reachable_count(neighbor.key), now)
            for link in self._links.values()
            for neighbor in link.neighbors.values()
        ]
        return sorted(rows, key=lambda row: (row.ifindex, row.router_id))

    def learned(self) -> list[LearnedRow]:
        """Every route as every neighbor tells it, by prefix and neighbor."""
        return learned_rows(self._table)

    def counters(self) -> Mapping[str, int]:
        """How often each `TraceCode` has happened, by its value; every code is present."""
        return self._log.counters()

    @property
    def highest_origin_seqno(self) -> int:
        """The newest seqno used for any prefix of ours: the next life must start later."""
        return self._origins.highest_seqno

    def pending_adjacencies(self, now: float) -> int:
        """How many adjacencies are forming; a one-way one counts for its dead interval only."""
        return sum(
            1
            for link in self._links.values()
            for neighbor in link.neighbors.values()
            if _is_pending(neighbor.adjacency, now)
        )

    def is_loaded(self, now: float) -> bool:
        """Whether all neighbors that are there have been heard and have told their tables."""
        is_listening = any(link.listening_until is not None for link in self._links.values())
        return not is_listening and self.pending_adjacencies(now) == 0

    # Receiving

    def _receive_message(self, link: Link, source: Address, message: Message, now: float) -> None:
        if message.sender.router_id == self.router_id:
            is_own = message.sender.boot_id == self.boot_id
            code = TraceCode.DROPPED_OWN_MESSAGE if is_own else TraceCode.DUPLICATE_ROUTER_ID
            self._log.trace(code, link.settings.ifindex, source, str(self.router_id))
        elif message.type is MessageType.HEARTBEAT:
            self._receive_heartbeat(link, source, message, now)
        else:
            neighbor = self._known_sender(link, source, message)
            if neighbor is None:
                return
            match message.type:
                case MessageType.DATA:
                    self._receive_data(link, neighbor, message, now)
                case MessageType.ACK:
                    self._receive_acks(link, neighbor, message, now)
                case MessageType.CONTROL:
                    self._receive_control(link, neighbor, message, now)

    def _known_sender(self, link: Link, source: Address, message: Message) -> Neighbor | None:
        """The neighbor that a message other than a heartbeat comes from, if it is one."""
        ifindex = link.settings.ifindex
        neighbor = link.neighbors.get(message.sender.router_id)
        if neighbor is None:
            self._log.trace(TraceCode.DROPPED_UNKNOWN_NEIGHBOR, ifindex, source)
            return None
        if neighbor.adjacency.address != source:
            self._log.trace(TraceCode.DROPPED_WRONG_SOURCE, ifindex, source)
            return None
        if neighbor.adjacency.boot_id != message.sender.boot_id:
            self._log.trace(TraceCode.DROPPED_OTHER_BOOT, ifindex, source)
            return None
        return neighbor

    def _receive_heartbeat(self, link: Link, source: Address, message: Message, now: float) -> None:
        neighbor = self._heartbeat_sender(link, source, message, now)
        if neighbor is None:
            return
        adjacency = neighbor.adjacency
        newest = adjacency.heartbeat_sequence
        if newest is not None and not is_newer(message.sequence, newest):
            self._log.trace(TraceCode.DROPPED_OLD_SEQUENCE, link.settings.ifindex, source)
            return
        hello = next(tlv for tlv in message.tlvs if isinstance(tlv, Hello))
        self._note_mtu(link, adjacency, hello)
        adjacency.note_hello(hello, message.sequence, message.timestamp, now)
        listed = [tlv.address for tlv in message.tlvs if isinstance(tlv, LinkAddress)]
        addresses = tuple(listed[:MAX_LISTED_ADDRESSES])
        if addresses != adjacency.addresses:
            adjacency.addresses = addresses
            self._refresh_path(link, neighbor, now)
        self._judge_heard_list(link, neighbor, message, now)
        if neighbor.exchanges_routes:
            neighbor.exchange.receiver.note_multicast_sequence(hello.multicast_sequence, now)
            if not message.flags & Flag.CONVERGING and neighbor.exchange.settled_sequence is None:
                neighbor.exchange.settled_sequence = hello.multicast_sequence
        self._check_exchanged(link, neighbor, now)
        self._receive_acks(link, neighbor, message, now)

    def _heartbeat_sender(
        self, link: Link, source: Address, message: Message, now: float
    ) -> Neighbor | None:
        """The neighbor that a heartbeat comes from: known, new, moved, or living anew."""
        ifindex, sender = link.settings.ifindex, message.sender
        neighbor = link.neighbors.get(sender.router_id)
        if neighbor is not None and neighbor.adjacency.address != source:
            is_same_life = neighbor.adjacency.boot_id == sender.boot_id
            if not is_same_life and neighbor.adjacency.state is not AdjacencyState.DOWN:
                self._log.trace(
                    TraceCode.DUPLICATE_NEIGHBOR_ID, ifindex, source, str(sender.router_id)
                )
                return None
            reason = AdjacencyReason.ADDRESS_CHANGED
            self._fire(link, neighbor, AdjacencyEvent.CLEARED, reason, now)
            neighbor = None
        if neighbor is None:
            if len(link.neighbors) >= MAX_NEIGHBORS_PER_LINK:
                self._log.trace(TraceCode.DROPPED_TOO_MANY_NEIGHBORS, ifindex, source)
                return None
            neighbor = Neighbor(
                NeighborKey(ifindex, sender.router_id),
                Adjacency(sender.router_id, source, sender.boot_id, now),
                Exchange.fresh(self._rng),
            )
            link.neighbors[sender.router_id] = neighbor
        elif neighbor.adjacency.boot_id != sender.boot_id:
            reason = AdjacencyReason.NEIGHBOR_RESTARTED
            self._fire(link, neighbor, AdjacencyEvent.NEIGHBOR_RESTARTED, reason, now)
            neighbor.adjacency.note_boot(sender.boot_id)
        return neighbor

    def _note_mtu(self, link: Link, adjacency: Adjacency, hello: Hello) -> None:
        is_news = adjacency.hello is None or adjacency.hello.mtu != hello.mtu
        if is_news and hello.mtu != link.settings.mtu:
            detail = f"theirs {hello.mtu}, ours {link.settings.mtu}"
            self._log.trace(
                TraceCode.MTU_MISMATCH, link.settings.ifindex, adjacency.address, detail
            )

    def _judge_heard_list(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        """What a heartbeat says about us."""
        entry = next(
            (
                tlv
                for tlv in message.tlvs
                if isinstance(tlv, NeighborHeard)
                and (tlv.router_id, tlv.boot_id) == (self.router_id, self.boot_id)
            ),
            None,
        )
        adjacency = neighbor.adjacency
        if entry is None:
            is_proof = not message.flags & Flag.PARTIAL_LIST
            event = AdjacencyEvent.HELLO_ONE_WAY if is_proof else AdjacencyEvent.HELLO_HEARD
            reason = (
                AdjacencyReason.HEARD
                if adjacency.state is AdjacencyState.DOWN
                else AdjacencyReason.ONE_WAY
            )
            self._fire(link, neighbor, event, reason, now)
            return
        if adjacency.neighbor_session not in (0, entry.session):
            reason = AdjacencyReason.NEIGHBOR_RESET
            self._fire(link, neighbor, AdjacencyEvent.NEIGHBOR_RESET, reason, now)
        if adjacency.state is AdjacencyState.DOWN:
            self._fire(link, neighbor, AdjacencyEvent.HELLO_HEARD, AdjacencyReason.HEARD, now)
        adjacency.neighbor_session = entry.session
        adjacency.note_echo(entry, now)
        if entry.heard_session == adjacency.session:
            self._note_heard_both_ways(link, neighbor, now)
        else:
            self._transmitter.hasten_heartbeat(
                link, now
            )  # our heartbeats crossed: it lacks our session

    def _note_heard_both_ways(self, link: Link, neighbor: Neighbor, now: float) -> None:
        neighbor.adjacency.note_confirmed(now)
        reason = AdjacencyReason.HEARD_BOTH_WAYS
        self._fire(link, neighbor, AdjacencyEvent.HELLO_TWO_WAY, reason, now)

    def _receive_data(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> None:
        ifindex, address = link.settings.ifindex, neighbor.adjacency.address
        if message.stream is Stream.UNICAST and not self._is_for_us(link, neighbor, message, now):
            return
        if not neighbor.exchanges_routes:
            self._log.trace(TraceCode.DROPPED_NOT_READY, ifindex, address)
            return
        neighbor.adjacency.heard_at = now
        exchange = neighbor.exchange
        verdict = exchange.receiver.accept(message.stream, message.sequence, now)
        if verdict is not ReceiveVerdict.NEW:
            self._log.trace(_VERDICT_CODES[verdict], ifindex, address)
            return
        version = next(tlv.version for tlv in message.tlvs if isinstance(tlv, TableVersion))
        for tlv in message.tlvs:
            match tlv:
                case RouteUpdate():
                    exchange.updates_received += message.stream is Stream.UNICAST
                    self._receive_update(neighbor, tlv, version, now)
                case SeqnoRequest():
                    self._receive_request(link, neighbor, tlv, now)
                case BeginTable():
                    exchange.receiver.start_multicast(tlv.multicast_base, now)
                case EndOfTable():
                    exchange.neighbor_end = (message.sequence, tlv.count)
                case _:
                    pass  # RECEIVER and TABLE_VERSION have been read
        self._check_exchanged(link, neighbor, now)

    def _is_for_us(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> bool:
        """Whether a unicast DATA belongs to this incarnation; if so, the neighbor hears us."""
        receiver = next(tlv for tlv in message.tlvs if isinstance(tlv, Receiver))
        adjacency = neighbor.adjacency
        if receiver.router_id != self.router_id:
            code = TraceCode.DROPPED_NOT_FOR_US
        elif receiver.session != adjacency.session or not adjacency.neighbor_session:
            code = TraceCode.DROPPED_STALE_SESSION
        else:
            self._note_heard_both_ways(link, neighbor, now)
            return True
        self._log.trace(code, link.settings.ifindex, adjacency.address)
        return False

    def _receive_update(
        self, neighbor: Neighbor, update: RouteUpdate, version: int, now: float
    ) -> None:
        verdict = self._table.accept_update(neighbor.key, update, version, now)
        code = _UPDATE_CODES.get(verdict)
        if code is not None:
            self._log.count(code)
        if verdict is UpdateVerdict.OWN_ORIGIN and self._origins.raise_past(
            update.prefix, update.seqno
        ):
            # An earlier life's route is newer than ours: outrun it, or nobody would believe ours.
            self._log.count(TraceCode.SEQNO_RAISED)
            self._mark_dirty(update.prefix, now)

    def _receive_request(
        self, link: Link, neighbor: Neighbor, request: SeqnoRequest, now: float
    ) -> None:
        """Grant a seqno request, or pass it on towards the origin (RFC 8966 section 3.8.1.2)."""
        prefix = request.prefix
        own = self._origins.get(prefix)
        if own is not None:
            if request.origin == self.router_id and self._origins.raise_seqno(
                prefix, request.seqno
            ):
                self._log.count(TraceCode.SEQNO_RAISED)
                self._mark_dirty(prefix, now)
            else:
                link.advertiser.mark(prefix, now)
            return
        selection = self._table.selection(prefix)
        if selection is not None and (
            selection.origin != request.origin or not is_newer(request.seqno, selection.seqno)
        ):
            link.advertiser.mark(prefix, now)
        elif request.hop_count > 1 and self._may_forward(request, now):
            passed_on = SeqnoRequest(prefix, request.origin, request.seqno, request.hop_count - 1)
            for key in self._table.forwarders(request, neighbor.key):
                self._log.count(TraceCode.SEQNO_REQUEST_FORWARDED)
                self._queue_request(key, passed_on)

    def _may_forward(self, request: SeqnoRequest, now: float) -> bool:
        """Whether this request has not just been passed on; notes that it now is."""
        key = (request.prefix, request.origin)
        seqno, until = self._forwarded.pop(key, (0, 0.0))
        if now < until and not is_newer(request.seqno, seqno):
            self._forwarded[key] = (seqno, until)
            return False
        while len(self._forwarded) >= MAX_FORWARDED:
            del self._forwarded[next(iter(self._forwarded))]
        self._forwarded[key] = (request.seqno, now + FORWARD_SUPPRESS_S)
        return True

    def _queue_request(self, key: NeighborKey, request: SeqnoRequest) -> None:
        """Send a request when the neighbor's window has room; a newer one replaces it."""
        link = self._links.get(key.ifindex)
        neighbor = link.neighbors.get(key.router_id) if link is not None else None
        if neighbor is not None and neighbor.exchanges_routes:
            neighbor.exchange.requests[request.prefix, request.origin] = request

    def _receive_acks(self, link: Link, neighbor: Neighbor, message: Message, now: float) -> None:
        """Take in the ACK TLVs of a message, standing alone or riding on a heartbeat."""
        for tlv in message.tlvs:
            if not isinstance(tlv, Ack) or tlv.router_id != self.router_id:
                continue
            if tlv.session != neighbor.adjacency.session or not neighbor.exchanges_routes:
                self._log.trace(
                    TraceCode.DROPPED_STALE_SESSION,
                    link.settings.ifindex,
                    neighbor.adjacency.address,
                )
                continue
            neighbor.adjacency.note_confirmed(now)
            for delivered in neighbor.exchange.sender.acknowledge(tlv, now):
                self._reporter.note_delivered(link.settings.ifindex, delivered)
            self._check_exchanged(link, neighbor, now)

    def _receive_control(
        self, link: Link, neighbor: Neighbor, message: Message, now: float
    ) -> None:
        adjacency = neighbor.adjacency
        newest = adjacency.heartbeat_sequence
        if newest is not None and not is_newer(message.sequence, newest):
            self._log.trace(
                TraceCode.DROPPED_OLD_SEQUENCE, link.settings.ifindex, adjacency.address
            )
            return
        adjacency.heartbeat_sequence = message.sequence
        for tlv in message.tlvs:
            match tlv:
                case Goodbye():
                    event, reason = AdjacencyEvent.GOODBYE_HEARD, AdjacencyReason.GOODBYE
                    self._fire(link, neighbor, event, reason, now)
                    return
                case RestartNotice(grace_ms):
                    grace_s = min(grace_ms / 1000, GRACE_MAX_S)
                    event = AdjacencyEvent.RESTART_ANNOUNCED
                    reason = AdjacencyReason.RESTART_ANNOUNCED
                    self._fire(link, neighbor, event, reason, now, grace_s=grace_s)
                case _:
                    pass

    # The adjacency

    def _fire(
        self,
        link: Link,
        neighbor: Neighbor,
        event: AdjacencyEvent,
        reason: AdjacencyReason,
        now: float,
        *,
        grace_s: float | None = None,
    ) -> None:
        """Look an event up in the table, change the state, carry out the action."""
        adjacency = neighbor.adjacency
        old = adjacency.state
        transition = TRANSITIONS[old, event]
        adjacency.state = transition.state
        if transition.state is not old:
            self._log.emit(
                AdjacencyChanged(
                    adjacency.router_id,
                    link.settings.ifindex,
                    adjacency.address,
                    old,
                    transition.state,
                    reason,
                )
            )
        match transition.action:
            case AdjacencyAction.IGNORE:
                pass
            case AdjacencyAction.GREET:
                self._open_session(link, neighbor, now)
            case AdjacencyAction.BEGIN_EXCHANGE:
                self._transmitter.hasten_heartbeat(link, now)
                self._begin_exchange(link, neighbor, now)
            case AdjacencyAction.ESTABLISH:
                adjacency.up_since = now
            case AdjacencyAction.FALL_BACK:
                self._end_exchange(link, neighbor)
                self._table.remove_neighbor(neighbor.key, now)
                neighbor.retained_until = None
                self._open_session(link, neighbor, now)
            case AdjacencyAction.RETAIN:
                self._end_exchange(link, neighbor)
                self._retain_routes(neighbor, grace_s, now)
                self._open_session(link, neighbor, now)
            case AdjacencyAction.EXPIRE:
                self._end_exchange(link, neighbor)
                if neighbor.retained_until is None or neighbor.retained_until <= now:
                    self._drop_neighbor(link, neighbor, now)
            case AdjacencyAction.FORGET:
                self._end_exchange(link, neighbor)
                self._drop_neighbor(link, neighbor, now)

    def _open_session(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Number the new incarnation and let the neighbor know soon."""
        self._session = self._session % 0xFFFF_FFFF + 1  # never 0, which means unknown
        neighbor.adjacency.open_session(self._session, now)
        self._transmitter.hasten_heartbeat(link, now)

    def _begin_exchange(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Tell a neighbor our table; from here on the multicast stream is for it too."""
        reason = AdjacencyReason.TABLES_BEGUN
        self._fire(link, neighbor, AdjacencyEvent.EXCHANGE_BEGUN, reason, now)
        self._table.set_path(neighbor.key, path_to(link.settings, neighbor.adjacency), now)
        ours = set(self._origins.prefixes()) | self._table.selections().keys()
        neighbor.exchange.dump = TableDump(sorted(ours))
        self._transmitter.send_unicast(link, neighbor, (BeginTable(link.multicast_sequence),), now)

    def _end_exchange(self, link: Link, neighbor: Neighbor) -> None:
        """Nothing of this incarnation counts any more."""
        for delivered in neighbor.exchange.sender.abandon():
            self._reporter.note_delivered(link.settings.ifindex, delivered)
        neighbor.exchange = Exchange.fresh(self._rng)
        if not link.listeners():
            link.advertiser.reset()
            self._reporter.note_link_empty(link.settings.ifindex)

    def _retain_routes(self, neighbor: Neighbor, grace_s: float | None, now: float) -> None:
        """Keep a restarting neighbor's routes for its grace; a second restart adds none."""
        self._table.mark_stale(neighbor.key, now)
        if neighbor.retained_until is None:
            unannounced_s = max(neighbor.adjacency.dead_interval_s, GRACE_MIN_S)
            neighbor.retained_until = now + (unannounced_s if grace_s is None else grace_s)

    def _drop_neighbor(self, link: Link, neighbor: Neighbor, now: float) -> None:
        self._table.remove_neighbor(neighbor.key, now)
        del link.neighbors[neighbor.key.router_id]

    def _check_exchanged(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """Sweep when the neighbor's table is whole; come UP when ours is acknowledged too."""
        exchange = neighbor.exchange
        if exchange.neighbor_end is not None and not exchange.is_table_received:
            end_sequence, count = exchange.neighbor_end
            cumulative = exchange.receiver.streams[Stream.UNICAST].cumulative
            if cumulative is not None and not is_newer(end_sequence, cumulative):
                exchange.is_table_received = True
                self._check_count(link, neighbor, count)
        if neighbor.retained_until is not None and _has_settled(exchange):
            self._table.sweep_stale(neighbor.key, now)
            neighbor.retained_until = None
        if exchange.is_table_received and exchange.is_table_acknowledged:
            reason = AdjacencyReason.TABLES_EXCHANGED
            self._fire(link, neighbor, AdjacencyEvent.TABLES_EXCHANGED, reason, now)

    def _check_count(self, link: Link, neighbor: Neighbor, count: int) -> None:
        received = neighbor.exchange.updates_received
        if received != count:
            self._log.trace(
                TraceCode.TABLE_COUNT_MISMATCH,
                link.settings.ifindex,
                neighbor.adjacency.address,
                f"{received} of {count} updates",
            )

    # Settling: what follows from an input

    def _settle(self, now: float) -> None:
        """Carry out everything that is due, in an order in which one pass is enough."""
        for link in self._links.values():
            for neighbor in list(link.neighbors.values()):
                self._expire_neighbor(link, neighbor, now)
        self._table.collect(now)
        for key, request in self._table.take_requests(now):
            self._log.count(TraceCode.SEQNO_REQUEST_SENT)
            self._queue_request(key, request)
        for prefix in self._table.take_changes():
            self._reporter.report(prefix)
            self._mark_dirty(prefix, now)
        for link in self._links.values():
            self._serve_link(link, now)
        if not self._has_loaded and self._links:
            self._has_loaded = self.is_loaded(now)

    def _expire_neighbor(self, link: Link, neighbor: Neighbor, now: float) -> None:
        adjacency = neighbor.adjacency
        if adjacency.state is not AdjacencyState.DOWN and now >= adjacency.dead_at:
            event, reason = AdjacencyEvent.DEAD_TIMER, AdjacencyReason.DEAD_INTERVAL
            self._fire(link, neighbor, event, reason, now)
        elif neighbor.exchanges_routes:
            if now >= adjacency.unconfirmed_at:
                event, reason = AdjacencyEvent.HELLO_ONE_WAY, AdjacencyReason.ONE_WAY
                self._fire(link, neighbor, event, reason, now)
            elif neighbor.exchange.sender.has_given_up(now, adjacency.dead_interval_s):
                event, reason = AdjacencyEvent.GIVEN_UP, AdjacencyReason.UNACKNOWLEDGED
                self._fire(link, neighbor, event, reason, now)
        if neighbor.retained_until is not None and now >= neighbor.retained_until:
            neighbor.retained_until = None
            self._table.sweep_stale(neighbor.key, now)
            if adjacency.state is AdjacencyState.DOWN and self._is_held(link, neighbor):
                self._drop_neighbor(link, neighbor, now)

    def _is_held(self, link: Link, neighbor: Neighbor) -> bool:
        return link.neighbors.get(neighbor.key.router_id) is neighbor

    def _serve_link(self, link: Link, now: float) -> None:
        """Send what one link has to send, and note how far it has come."""
        if link.listening_until is not None and now >= link.listening_until:
            link.listening_until = None
        self._transmitter.serve_link(link, now)
        if link.is_converging and self._has_loaded and link.has_told_all:
            link.is_converging = False
            self._transmitter.hasten_heartbeat(link, now)

    def _advertisement(self, prefix: Prefix, ifindex: int) -> RouteUpdate | None:
        """What a link may be told of a prefix: ours, or selected and not reached through it."""
        own = self._origins.get(prefix)
        if own is not None:
            return RouteUpdate(
                prefix, own.metric, own.tag, own.is_external, self.router_id, own.seqno
            )
        selection = self._table.selection(prefix)
        if selection is None or any(key.ifindex == ifindex for key in selection.neighbors):
            return None
        return RouteUpdate(
            prefix,
            selection.metric,
            selection.tag,
            selection.is_external,
            selection.origin,
            selection.seqno,
        )

    def _mark_dirty(self, prefix: Prefix, now: float) -> None:
        for link in self._links.values():
            if link.listeners():
                link.advertiser.mark(prefix, now)

    def _refresh_path(self, link: Link, neighbor: Neighbor, now: float) -> None:
        """The link's cost or somebody's addresses changed: choose again, name next hops again."""
        if not neighbor.exchanges_routes and neighbor.retained_until is None:
            return
        through = self._table.prefixes_through(neighbor.key)
        self._table.set_path(neighbor.key, path_to(link.settings, neighbor.adjacency), now)
        for prefix in through:
            self._reporter.report(prefix)


def _is_pending(adjacency: Adjacency, now: float) -> bool:
    """Whether an adjacency is on its way to UP and has not been for too long."""
    match adjacency.state:
        case AdjacencyState.LOADING:
            return True
        case AdjacencyState.INIT | AdjacencyState.TWO_WAY:
            return now < adjacency.pending_since + adjacency.dead_interval_s
    return False


def _has_settled(exchange: Exchange) -> bool:
    """Whether a neighbor's new life has told everything, and all of it has arrived."""
    cumulative = exchange.receiver.streams[Stream.MULTICAST].cumulative
    return (
        exchange.is_table_received
        and exchange.settled_sequence is not None
        and cumulative is not None
        and not is_newer(exchange.settled_sequence, cumulative)
    )
