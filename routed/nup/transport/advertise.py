"""Advertisement: own prefixes, selected routes, retractions, and whole tables.

State, not messages: a change marks a prefix *dirty* on each link. When the link has sent no update
just now (COALESCE_S) and its transport has room, the dirty prefixes are looked up as they are then
and packed into as few messages as possible. A prefix that changed ten times meanwhile is sent once,
and the pending updates are bounded by the number of prefixes, not of changes.

    own prefixes (OriginTable) ---+                        +--> dirty on a link --> multicast DATA
                                  +--> advertisement ------|
    selected routes (RouteTable) -+                        +--> TableDump --------> unicast DATA

Split horizon: a route is not advertised on a link that any of its next hops is reached through. The
other routers on that link hear the next hop itself. (A link where not every router hears every
other needs this switched off; routed has no option for that.)

A link remembers which prefixes it has advertised (`LinkAdvertiser.advertised`): a retraction is
sent only where the prefix was advertised. A retraction is *held* (`RetractionHold`) until every
neighbor on every such link has acknowledged the message that carried it; the instance reports
RouteHeld, then RouteLost.

A neighbor that enters LOADING gets the table as it was then, prefix by prefix as its window allows,
each as it is when its turn comes; changes meanwhile reach it by multicast like all others.
END_OF_TABLE closes it.

Invariants: seqnos of an origin never go back within a boot: a prefix that is originated after a
withdrawal or a change has a newer seqno than anything before, so neighbors find it feasible.

Sources: RFC 8966 section 3.7 (triggered updates, split horizon) and 3.5.4 (hold); RFC 4724 (end of
table).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence

from ipc.lazy_dataclass import dataclass, field
from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import is_newer, next_seqno
from routed.nup.routes.seqno_limits import Raise, RaiseLimits
from routed.nup.transport.table_dumps import TableOrder
from routed.nup.wire.message import (
    CONTENT_MAX_BYTES,
    HEADER_BYTES,
    Receiver,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    TableVersion,
    encode_tlvs,
    tlv_bytes,
)

__all__ = [
    "COALESCE_S",
    "LinkAdvertiser",
    "OriginTable",
    "OwnRoute",
    "RetractionHold",
    "TableDump",
    "UpdateBatch",
    "pop_fitting",
]

COALESCE_S = 0.001
"""The least time between two rounds of updates on a link: the first change after a quiet time is
sent at once, so that updates cross many routers quickly; a burst of changes is sent together."""

_EMPTY_SENDER = Sender(Address.parse("192.0.2.1"), 0)
_FIXED_BYTES = HEADER_BYTES + len(
    encode_tlvs(_EMPTY_SENDER, (TableVersion(0), Receiver(_EMPTY_SENDER.router_id, 0)))
)
UPDATE_ROOM_BYTES = CONTENT_MAX_BYTES - _FIXED_BYTES
"""Bytes for route updates or seqno requests in one message of either stream."""


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """A prefix that this router brings into the network."""

    metric: int
    tag: int
    is_external: bool
    seqno: int


class OriginTable:
    """Our own prefixes and their seqnos."""

    def __init__(self, first_seqno: int, order: TableOrder | None = None) -> None:
        """Start without prefixes.

        Args:
            first_seqno: of all prefixes; later than any that an earlier boot used.
            order: counts added and removed prefixes for table dumps.
        """
        self._order = order
        self._routes: dict[Prefix, OwnRoute] = {}
        self._limits = RaiseLimits(first_seqno)
        self.highest_seqno = first_seqno
        """No prefix of ours has ever had a newer one."""

    def __contains__(self, prefix: Prefix) -> bool:
        return prefix in self._routes

    def get(self, prefix: Prefix) -> OwnRoute | None:
        """Return our route to a prefix; None if it is not ours."""
        return self._routes.get(prefix)

    def prefixes(self) -> Iterable[Prefix]:
        """Return all of ours."""
        return self._routes.keys()

    def originate(
        self, prefixes: Iterable[Prefix], metric: int, tag: int, *, is_external: bool
    ) -> list[Prefix]:
        """Originate prefixes with the same attributes, or change them. Returns those that have
        changed."""
        known_as = self._routes.get
        attributes = (metric, tag, is_external)
        fresh: list[Prefix] = []
        known_at: dict[int, list[Prefix]] = {}
        for prefix in prefixes:
            known = known_as(prefix)
            if known is None:
                fresh.append(prefix)
            elif (known.metric, known.tag, known.is_external) != attributes:
                known_at.setdefault(known.seqno, []).append(prefix)
        route = OwnRoute(metric, tag, is_external, self.highest_seqno)
        self._routes.update(dict.fromkeys(fresh, route))
        if self._order is not None:
            self._order.record_added(fresh)
        for seqno, changed in known_at.items():  # one step each, whatever others were driven to
            self._record(next_seqno(seqno))
            route = OwnRoute(metric, tag, is_external, next_seqno(seqno))
            self._routes.update(dict.fromkeys(changed, route))
            fresh += changed
        return fresh

    def _record(self, seqno: int) -> None:
        if is_newer(seqno, self.highest_seqno):
            self.highest_seqno = seqno

    def withdraw(self, prefix: Prefix) -> bool:
        """Withdraw a prefix. Returns whether it was there."""
        if self._routes.pop(prefix, None) is None:
            return False
        if self._order is not None:
            self._order.record_removed(1)
        self.highest_seqno = next_seqno(self.highest_seqno)
        return True

    def raise_seqno(self, prefix: Prefix, seqno: int, now: float) -> Raise:
        """Raise a seqno to one that a router needs, within the limits of `seqno_limits`."""
        known = self._routes.get(prefix)
        if known is None:
            return Raise.BEHIND
        verdict = self._limits.admit_request(prefix, known.seqno, seqno, now)
        if verdict is Raise.GRANTED:
            self._set_seqno(prefix, known, seqno)
        return verdict

    def raise_past(self, prefix: Prefix, seqno: int, now: float) -> Raise:
        """Raise a seqno beyond one of ours that we did not issue, within the limits of
        `seqno_limits`."""
        known = self._routes.get(prefix)
        if known is None:
            return Raise.BEHIND
        verdict = self._limits.admit_foreign(prefix, known.seqno, seqno, now)
        if verdict is Raise.GRANTED:
            self._set_seqno(prefix, known, next_seqno(seqno))
        return verdict

    def is_contested(self, prefix: Prefix, now: float) -> bool:
        """Return whether another router announces a prefix of ours with our router id."""
        return self._limits.is_contested(prefix, now)

    def _set_seqno(self, prefix: Prefix, known: OwnRoute, seqno: int) -> None:
        self._routes[prefix] = OwnRoute(known.metric, known.tag, known.is_external, seqno)
        self._record(seqno)


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """The content of one DATA message."""

    updates: tuple[RouteUpdate, ...]
    packed: bytes
    """The updates as TLVs, one after the other."""
    retracted: tuple[Prefix, ...] = ()


Advertisement = Callable[[Prefix], RouteUpdate | None]
"""Look up what a link may be advertised of a prefix now; None if it is not advertised."""


class LinkAdvertiser:
    """The prefixes that one link has advertised, and its dirty ones."""

    def __init__(self) -> None:
        self.advertised: set[Prefix] = set()
        """Advertised as reachable to a neighbor on the link, and not retracted since."""
        self.flush_at: float | None = None
        """Time from which the dirty prefixes may be sent; None while there are none."""
        self._dirty: dict[Prefix, None] = {}
        self._advertised_at = -math.inf

    def is_pending(self, prefix: Prefix) -> bool:
        """Return whether a prefix is dirty on the link."""
        return prefix in self._dirty

    def mark(self, prefix: Prefix, now: float) -> None:
        """Mark a prefix dirty."""
        self._dirty[prefix] = None
        if self.flush_at is None:
            self.flush_at = max(now, self._advertised_at + COALESCE_S)

    def mark_advertised(self, prefixes: Iterable[Prefix], now: float) -> None:
        """Mark those prefixes dirty that were advertised on the link: split horizon hides the
        others."""
        if self.advertised:
            self.mark_all([prefix for prefix in prefixes if prefix in self.advertised], now)

    def mark_all(self, prefixes: Iterable[Prefix], now: float) -> None:
        """Mark several prefixes dirty."""
        self._dirty.update(dict.fromkeys(prefixes))
        if self.flush_at is None and self._dirty:
            self.flush_at = max(now, self._advertised_at + COALESCE_S)

    def pause(self, now: float) -> None:
        """Send no update for a moment: a new listener would drop one that overtakes BEGIN_TABLE."""
        self._advertised_at = now
        if self.flush_at is not None:
            self.flush_at = max(self.flush_at, now + COALESCE_S)

    def pop_batch(
        self,
        advertisement: Advertisement,
        own_id: Address,
        now: float,
        waiting: Container[Prefix] = (),
    ) -> UpdateBatch | None:
        """Return one message's worth of dirty prefixes; None when no update is left.

        Args:
            advertisement: looks a prefix up.
            own_id: our router id.
            now: seconds, monotonic.
            waiting: only retractions of these are sent; they are marked again when their wait ends.
        """
        updates: list[RouteUpdate] = []
        packed: list[bytes] = []
        retracted: list[Prefix] = []
        room_bytes = UPDATE_ROOM_BYTES
        handled: list[Prefix] = []
        for prefix in self._dirty:
            update = advertisement(prefix)
            if update is None and prefix in self.advertised:
                update = RouteUpdate(prefix, METRIC_INFINITY, 0, False, own_id, 0)
            elif update is not None and prefix in waiting:
                update = None
            if update is not None:
                tlv = update.pack_tlv()
                room_bytes -= len(tlv)
                if room_bytes < 0:
                    break
                updates.append(update)
                packed.append(tlv)
                if update.metric == METRIC_INFINITY:
                    self.advertised.discard(prefix)
                    retracted.append(prefix)
                else:
                    self.advertised.add(prefix)
            handled.append(prefix)
        for prefix in handled:  # together: finding a dictionary's first key skips deleted ones
            del self._dirty[prefix]
        if not self._dirty:
            self.flush_at = None
            self._advertised_at = now
        if not updates:
            return None
        return UpdateBatch(tuple(updates), b"".join(packed), tuple(retracted))

    def reset(self) -> None:
        """Drop all state: the link has no listener any more."""
        self.advertised.clear()
        self._dirty.clear()
        self.flush_at = None


class TableDump:
    """A whole table on its way to one neighbor."""

    def __init__(self, prefixes: Sequence[Prefix], sent_before: int = 0) -> None:
        """Start at the first prefix.

        Args:
            prefixes: to send; prefixes that are appended later are not.
            sent_before: updates of an earlier dump that count with these.
        """
        self._prefixes = prefixes
        self._next, self._end = 0, len(prefixes)
        self.count = sent_before
        """Updates sent so far."""

    @property
    def is_sent(self) -> bool:
        """Whether only END_OF_TABLE is left to send."""
        return self._next == self._end

    def pop_batch(
        self, advertisement: Advertisement, waiting: Container[Prefix] = ()
    ) -> UpdateBatch | None:
        """Return one message's worth of updates; prefixes withdrawn meanwhile are skipped.

        It ends before the first prefix that is `waiting`; None when that is the very next one.
        """
        updates: list[RouteUpdate] = []
        packed: list[bytes] = []
        room_bytes = UPDATE_ROOM_BYTES
        while self._next < self._end:
            prefix = self._prefixes[self._next]
            if prefix in waiting:
                break
            update = advertisement(prefix)
            if update is not None:
                tlv = update.pack_tlv()
                room_bytes -= len(tlv)
                if room_bytes < 0:
                    break
                updates.append(update)
                packed.append(tlv)
            self._next += 1
        self.count += len(updates)
        return UpdateBatch(tuple(updates), b"".join(packed)) if updates else None


@dataclass(slots=True)
class RetractionHold:
    """Unreachable prefixes for which some neighbor may still use us."""

    _waiting: dict[Prefix, dict[int, int | None]] = field(default_factory=dict)
    """Version of the retraction by prefix and link; None until it has been sent."""
    _by_link: dict[int, dict[Prefix, None]] = field(default_factory=dict)
    """The same prefixes by link; no dictionary is empty."""

    def hold(self, prefix: Prefix, ifindexes: Iterable[int]) -> None:
        """Hold a prefix until the neighbors on these links have acknowledged its retraction."""
        self.release((prefix,))
        self._waiting[prefix] = dict.fromkeys(ifindexes)
        for ifindex in self._waiting[prefix]:
            self._by_link.setdefault(ifindex, {})[prefix] = None

    def is_held(self, prefix: Prefix) -> bool:
        """Return whether a prefix is held."""
        return prefix in self._waiting

    def release(self, prefixes: Iterable[Prefix]) -> None:
        """End the hold of prefixes that are reachable again."""
        if self._waiting:
            for prefix in prefixes:
                for ifindex in self._waiting.pop(prefix, ()):
                    self._forget(ifindex, prefix)

    def record_sent(self, prefixes: Iterable[Prefix], ifindex: int, version: int) -> None:
        """Record that a message with these retractions has left on a link."""
        for prefix in prefixes:
            links = self._waiting.get(prefix)
            if links is not None and ifindex in links:
                links[ifindex] = version

    def record_delivered(
        self, prefixes: Iterable[Prefix], ifindex: int, version: int
    ) -> list[Prefix]:
        """Record that every neighbor on a link has acknowledged a message. Returns the prefixes
        whose hold ends."""
        released: list[Prefix] = []
        for prefix in prefixes:
            links = self._waiting.get(prefix)
            if links is not None and links.get(ifindex) == version:
                del links[ifindex]
                self._forget(ifindex, prefix)
                self._release_acknowledged(prefix, released)
        return released

    def record_link_empty(self, ifindex: int) -> list[Prefix]:
        """Record that a link has no listener any more. Returns the prefixes whose hold ends.

        Cost: linear in the prefixes held for this link.
        """
        released: list[Prefix] = []
        for prefix in self._by_link.pop(ifindex, ()):
            del self._waiting[prefix][ifindex]
            self._release_acknowledged(prefix, released)
        return released

    def _forget(self, ifindex: int, prefix: Prefix) -> None:
        of_link = self._by_link[ifindex]
        del of_link[prefix]
        if not of_link:
            del self._by_link[ifindex]

    def _release_acknowledged(self, prefix: Prefix, released: list[Prefix]) -> None:
        if not self._waiting[prefix]:
            del self._waiting[prefix]
            released.append(prefix)


def pop_fitting(requests: dict[tuple[Prefix, Address, int], SeqnoRequest]) -> list[SeqnoRequest]:
    """Remove and return as many waiting requests as fit one message, oldest first."""
    taken: list[SeqnoRequest] = []
    room_bytes = UPDATE_ROOM_BYTES
    for request in requests.values():
        room_bytes -= len(tlv_bytes(request))
        if room_bytes < 0:
            break
        taken.append(request)
    for request in taken:
        del requests[request.prefix, request.origin, request.seqno]
    return taken
