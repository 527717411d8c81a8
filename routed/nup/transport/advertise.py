"""What to tell whom: own prefixes, selected routes, retractions, and whole tables.

State, not messages: a change marks a prefix *dirty* on each link; when the link has not been told
something just now (COALESCE_S) and its transport has room, the dirty prefixes are looked up as they
are then and packed into as few messages as they fit. A prefix that changed ten times meanwhile is
told once, and what waits to be told is bounded by the number of prefixes, not of changes.

    own prefixes (OriginTable) ---+                        +--> dirty on a link --> multicast DATA
                                  +--> what a link is told |
    selected routes (RouteTable) -+                        +--> TableDump --------> unicast DATA

Split horizon: a route is not advertised on a link that any of its next hops is reached through.
Whoever is on that link hears the next hop itself. (A link where not everybody hears everybody needs
this switched off; it is not offered before such links are.)

A link remembers which prefixes it has told (`LinkAdvertiser.advertised`): a retraction goes only to
where the prefix was told. A retraction is *held* (`RetractionHold`) until every neighbor on every
such link has acknowledged the message that carried it; the instance says RouteHeld, then RouteLost.

A neighbor that comes to LOADING gets the table as it was then, prefix by prefix as its window
allows, each as it is when its turn comes; changes meanwhile reach it by multicast like everybody
else. END_OF_TABLE closes it.

Invariants: seqnos of an origin never go back within a life: whatever is originated after a
withdrawal or a change has a newer seqno than anything before, so neighbors find it feasible.

Sources: RFC 8966 section 3.7 (triggered updates, split horizon) and 3.5.4 (hold); RFC 4724 (end of
table).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

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
"""At least this long between two rounds of updates on a link: the first change after a quiet while
is told at once, so that news crosses many routers quickly; a burst of changes falls into one."""

_EMPTY_SENDER = Sender(Address.parse("192.0.2.1"), 0)
_FIXED_BYTES = HEADER_BYTES + len(
    encode_tlvs(_EMPTY_SENDER, (TableVersion(0), Receiver(_EMPTY_SENDER.router_id, 0)))
)
UPDATE_ROOM_BYTES = CONTENT_MAX_BYTES - _FIXED_BYTES
"""For route updates or seqno requests in one message of either stream."""


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
        """Our route to a prefix, if it is ours."""
        return self._routes.get(prefix)

    def prefixes(self) -> Iterable[Prefix]:
        """All of ours."""
        return self._routes.keys()

    def originate(
        self, prefixes: Iterable[Prefix], metric: int, tag: int, *, is_external: bool
    ) -> list[Prefix]:
        """Bring prefixes in, all alike, or change how; those of them that have changed."""
        known_as = self._routes.get
        offered = (metric, tag, is_external)
        fresh: list[Prefix] = []
        known_at: dict[int, list[Prefix]] = {}
        for prefix in prefixes:
            known = known_as(prefix)
            if known is None:
                fresh.append(prefix)
            elif (known.metric, known.tag, known.is_external) != offered:
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
        """Take a prefix out; whether it was there."""
        if self._routes.pop(prefix, None) is None:
            return False
        if self._order is not None:
            self._order.record_removed(1)
        self.highest_seqno = next_seqno(self.highest_seqno)
        return True

    def raise_seqno(self, prefix: Prefix, seqno: int, now: float) -> Raise:
        """Reach a seqno that a router needs, within the limits of `raising`."""
        known = self._routes.get(prefix)
        if known is None:
            return Raise.BEHIND
        verdict = self._limits.admit_request(prefix, known.seqno, seqno, now)
        if verdict is Raise.GRANTED:
            self._set_seqno(prefix, known, seqno)
        return verdict

    def raise_past(self, prefix: Prefix, seqno: int, now: float) -> Raise:
        """Outrun a seqno of ours that we did not issue, within the limits of `raising`."""
        known = self._routes.get(prefix)
        if known is None:
            return Raise.BEHIND
        verdict = self._limits.admit_foreign(prefix, known.seqno, seqno, now)
        if verdict is Raise.GRANTED:
            self._set_seqno(prefix, known, next_seqno(seqno))
        return verdict

    def is_contested(self, prefix: Prefix, now: float) -> bool:
        """Whether another router announces a prefix of ours with our router id."""
        return self._limits.is_contested(prefix, now)

    def _set_seqno(self, prefix: Prefix, known: OwnRoute, seqno: int) -> None:
        self._routes[prefix] = OwnRoute(known.metric, known.tag, known.is_external, seqno)
        self._record(seqno)


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """The content of one DATA message."""

    updates: tuple[RouteUpdate, ...]
    packed: bytes
    """The same, as TLVs one after the other."""
    retracted: tuple[Prefix, ...] = ()


Advertisement = Callable[[Prefix], RouteUpdate | None]
"""What a link is to be told of a prefix now; None when nothing (or that it is gone)."""


class LinkAdvertiser:
    """What one link has been told, and what it is still to be told."""

    def __init__(self) -> None:
        self.advertised: set[Prefix] = set()
        """Told as reachable to a neighbor on the link, and not retracted since."""
        self.flush_at: float | None = None
        """When the dirty prefixes may leave; None while there are none."""
        self._dirty: dict[Prefix, None] = {}
        self._advertised_at = -math.inf

    def is_pending(self, prefix: Prefix) -> bool:
        """Whether the link is still to be told of a prefix."""
        return prefix in self._dirty

    def mark(self, prefix: Prefix, now: float) -> None:
        """The link is to be told of a prefix again."""
        self._dirty[prefix] = None
        if self.flush_at is None:
            self.flush_at = max(now, self._advertised_at + COALESCE_S)

    def mark_advertised(self, prefixes: Iterable[Prefix], now: float) -> None:
        """The same for those that the link has been told: split horizon hides the others."""
        if self.advertised:
            self.mark_all([prefix for prefix in prefixes if prefix in self.advertised], now)

    def mark_all(self, prefixes: Iterable[Prefix], now: float) -> None:
        """The same for several."""
        self._dirty.update(dict.fromkeys(prefixes))
        if self.flush_at is None and self._dirty:
            self.flush_at = max(now, self._advertised_at + COALESCE_S)

    def pause(self, now: float) -> None:
        """Tell nothing for a moment: whoever begins to listen has not been told so yet, and would
        drop what overtakes BEGIN_TABLE."""
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
        """The next message's worth of dirty prefixes; None when nothing is left to say.

        Args:
            advertisement: looks a prefix up.
            own_id: our router id.
            now: seconds, monotonic.
            waiting: of these only retractions are told; they are marked again when that ends.
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
        """Nobody listens on the link any more."""
        self.advertised.clear()
        self._dirty.clear()
        self.flush_at = None


class TableDump:
    """A whole table on its way to one neighbor."""

    def __init__(self, prefixes: Sequence[Prefix], told: int = 0) -> None:
        """Args:
        prefixes: to tell; what is added at their end meanwhile is not.
        told: updates that were told before, and count with these.
        """
        self._prefixes = prefixes
        self._next, self._end = 0, len(prefixes)
        self.count = told
        """Updates told so far."""

    @property
    def is_sent(self) -> bool:
        """Whether nothing but END_OF_TABLE is left to send."""
        return self._next == self._end

    def pop_batch(
        self, advertisement: Advertisement, waiting: Container[Prefix] = ()
    ) -> UpdateBatch | None:
        """The next message's worth; prefixes that have gone meanwhile are passed over.

        It ends before the first prefix that is `waiting`; when that is the very next, with None.
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
    """Unreachable prefixes that some neighbor may still believe in."""

    _waiting: dict[Prefix, dict[int, int | None]] = field(default_factory=dict)
    """Per prefix and link: the version of the retraction, None until it has been sent."""
    _by_link: dict[int, dict[Prefix, None]] = field(default_factory=dict)
    """The same prefixes by link; no empty dictionary."""

    def hold(self, prefix: Prefix, ifindexes: Iterable[int]) -> None:
        """Wait until these links have been told and have acknowledged."""
        self.release((prefix,))
        self._waiting[prefix] = dict.fromkeys(ifindexes)
        for ifindex in self._waiting[prefix]:
            self._by_link.setdefault(ifindex, {})[prefix] = None

    def is_held(self, prefix: Prefix) -> bool:
        """Whether some neighbor may still believe in a prefix."""
        return prefix in self._waiting

    def release(self, prefixes: Iterable[Prefix]) -> None:
        """These prefixes are reachable again: nothing to wait for."""
        if self._waiting:
            for prefix in prefixes:
                for ifindex in self._waiting.pop(prefix, ()):
                    self._forget(ifindex, prefix)

    def record_sent(self, prefixes: Iterable[Prefix], ifindex: int, version: int) -> None:
        """A message with these retractions has left on a link."""
        for prefix in prefixes:
            links = self._waiting.get(prefix)
            if links is not None and ifindex in links:
                links[ifindex] = version

    def record_delivered(
        self, prefixes: Iterable[Prefix], ifindex: int, version: int
    ) -> list[Prefix]:
        """Every neighbor on a link has acknowledged a message; which prefixes that settles."""
        released: list[Prefix] = []
        for prefix in prefixes:
            links = self._waiting.get(prefix)
            if links is not None and links.get(ifindex) == version:
                del links[ifindex]
                self._forget(ifindex, prefix)
                self._release_acknowledged(prefix, released)
        return released

    def record_link_empty(self, ifindex: int) -> list[Prefix]:
        """Nobody is left on a link who could believe anything; which prefixes that settles.

        Cost: linear in what waits for this link, whatever waits for others.
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
