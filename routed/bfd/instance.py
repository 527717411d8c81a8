"""All BFD sessions of this system: which packet is for which, and the timers of all. Pure.

    receive_datagram --> decode --> the session --> outputs
    handle_timer     --> sessions that are due  --> outputs

A packet that carries this system's discriminator belongs to the session that has it, if it comes
from that session's peer. Without one it belongs to the session that is configured for its sender,
address, link and kind (RFC 5880, section 6.8.6; RFC 5881, section 3; RFC 5883, section 4). Nothing
that a packet says makes a session, so the memory is bounded by the configuration.

While a session without a key is up, a packet without this system's discriminator must come from the
port that the peer sends from: a user of the peer's machine can send from its address, but not from
that port. A peer that was started again on another port is noticed when the detection time ends.

A session with a key gets another discriminator when the sequence numbers of its peer are forgotten
(RFC 5880, section 6.3, permits it): recorded packets name the former one, so repeating them does
not bring the session up again.

Invariants:
    Discriminators are random, unique among the sessions, and never 0.
    Each dropped packet is counted once: by its session if that was found, else here.

Bounds: timers that were replaced stay on the heap until their time; when they are more than
STALE_TIMERS_MAX and the sessions, all are removed, so packets that move a timer again and again
fill no memory.

Cost: a packet costs four dictionary look-ups, whatever the number of sessions; a timer costs one
operation on a heap.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from routed.bfd.outputs import BfdOutput
from routed.bfd.session import Session
from routed.bfd.wire import ControlPacket, DecodeError, decode
from routed.model.bfd import BfdDrop, BfdReport, BfdSettings, BfdState
from routed.model.prefix import Address

__all__ = ["BfdInstance", "Origin"]

HOP_LIMIT = 255

STALE_TIMERS_MAX = 64


class Origin(NamedTuple):
    """Where a packet came from."""

    source: Address
    destination: Address | None
    """Address of this system; None if unknown."""
    ifindex: int
    """The link on which it arrived."""
    hop_limit: int | None
    is_multihop: bool
    """Whether it came to the port of multihop sessions."""
    source_port: int = 0


class _Identity(NamedTuple):
    """What two sessions may not have in common."""

    peer: Address
    source: Address | None
    ifindex: int
    is_multihop: bool


class BfdInstance:
    """Owns the sessions."""

    def __init__(self, rng: random.Random) -> None:
        """Begin without sessions.

        Args:
            rng: for discriminators, jitter and sequence numbers; its state must be unpredictable.
        """
        self.dropped: Counter[BfdDrop] = Counter()
        """Packets dropped before their session was found."""
        self._rng = rng
        self._sessions: dict[str, Session] = {}
        self._by_discriminator: dict[int, Session] = {}
        self._by_identity: dict[_Identity, Session] = {}
        self._due: list[tuple[float, int, Session]] = []
        self._order = itertools.count()
        self._outputs: list[BfdOutput] = []

    def __len__(self) -> int:
        return len(self._sessions)

    # --- inputs

    def configure(self, wanted: Iterable[BfdSettings], now: float) -> None:
        """Have exactly these sessions. Other timers and keys keep a session; other addresses,
        another link or kind make a new one."""
        by_name = {settings.name: settings for settings in wanted}
        for name, session in list(self._sessions.items()):
            settings = by_name.get(name)
            if settings is None or _identity(settings) != _identity(session.settings):
                self._remove(session, now)
            elif settings != session.settings:
                session.reconfigure(settings, now)
                self._finish(session)
        for name, settings in by_name.items():
            if name not in self._sessions:
                self._add(settings, now)

    def stop(self, now: float) -> None:
        """Take every session down administratively, and say so to the other systems."""
        self.configure((), now)

    def receive_datagram(self, data: bytes, origin: Origin, now: float) -> None:
        """Handle one packet."""
        session = None
        try:
            packet, section = decode(data)
            session = self._find(packet, origin)
            _check_origin(session, packet, origin)
            session.receive(packet, data, section, now)
        except DecodeError as error:
            counts = self.dropped if session is None else session.dropped
            counts[error.reason] += 1
            return
        session.remote_port = origin.source_port
        self._finish(session)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= now:
            due, _, session = heapq.heappop(self._due)
            if due != session.scheduled_at:
                continue  # it was scheduled for an earlier moment meanwhile, or removed
            session.scheduled_at = float("inf")
            has_forgotten = session.handle_timer(now)
            if has_forgotten and session.settings.key is not None:
                self._renew_discriminator(session)
            self._finish(session)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called; None if never. It may be too early."""
        return self._due[0][0] if self._due else None

    def outputs(self) -> list[BfdOutput]:
        """Take the outputs so far, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def record_send_error(self, name: str) -> None:
        """Count a packet that the network did not take."""
        session = self._sessions.get(name)
        if session is not None:
            session.send_errors += 1

    # --- for display

    @property
    def timers(self) -> int:
        """The number of timers on the heap, replaced ones included."""
        return len(self._due)

    @property
    def names(self) -> list[str]:
        """The names of the sessions."""
        return list(self._sessions)

    def state(self, name: str) -> BfdState | None:
        """Return the state of a session; None if there is none of this name."""
        session = self._sessions.get(name)
        return None if session is None else session.state

    def report(self, name: str, now: float) -> BfdReport | None:
        """Describe a session; None if there is none of this name."""
        session = self._sessions.get(name)
        return None if session is None else session.report(now)

    def counts(self) -> Mapping[str, int]:
        """Return the packets dropped before their session was found, by reason."""
        return {reason.value: count for reason, count in self.dropped.items()}

    # --- sessions

    def _add(self, settings: BfdSettings, now: float) -> None:
        session = Session(settings, self._new_discriminator(), self._rng, now)
        self._sessions[settings.name] = session
        self._by_discriminator[session.discriminator] = session
        self._by_identity[_identity(settings)] = session
        self._finish(session)

    def _remove(self, session: Session, now: float) -> None:
        session.disable(now)
        self._outputs += session.drain()
        session.scheduled_at = float("nan")  # equal to no moment
        del self._sessions[session.settings.name]
        del self._by_discriminator[session.discriminator]
        del self._by_identity[_identity(session.settings)]

    def _renew_discriminator(self, session: Session) -> None:
        del self._by_discriminator[session.discriminator]
        session.discriminator = self._new_discriminator()
        self._by_discriminator[session.discriminator] = session

    def _new_discriminator(self) -> int:
        while True:
            number = self._rng.getrandbits(32)
            if number and number not in self._by_discriminator:
                return number

    def _find(self, packet: ControlPacket, origin: Origin) -> Session:
        """Return the session that a packet is for.

        Raises:
            DecodeError: there is none.
        """
        if packet.your_discriminator:
            session = self._by_discriminator.get(packet.your_discriminator)
            if session is None:
                raise DecodeError(BfdDrop.YOUR_DISCRIMINATOR)
            return session
        # The most specific session first: an address and a link that are configured are its own.
        for source, ifindex in itertools.product((origin.destination, None), (origin.ifindex, 0)):
            identity = _Identity(origin.source, source, ifindex, origin.is_multihop)
            session = self._by_identity.get(identity)
            if session is not None:
                return session
        raise DecodeError(BfdDrop.NO_SESSION)

    def _finish(self, session: Session) -> None:
        """Take a session's outputs, and schedule its next timer."""
        self._outputs += session.drain()
        due = session.next_timer()
        if due < session.scheduled_at:
            session.scheduled_at = due
            heapq.heappush(self._due, (due, next(self._order), session))
            if len(self._due) > 2 * len(self._sessions) + STALE_TIMERS_MAX:
                self._due = [each for each in self._due if each[0] == each[2].scheduled_at]
                heapq.heapify(self._due)


def _identity(settings: BfdSettings) -> _Identity:
    return _Identity(settings.peer, settings.source, settings.ifindex, settings.is_multihop)


def _fits(settings: BfdSettings, origin: Origin) -> bool:
    """Whether a packet may be for a session, by its addresses, link and port."""
    return (
        settings.peer == origin.source
        and settings.is_multihop is origin.is_multihop
        and settings.ifindex in (0, origin.ifindex)
        and (settings.source is None or origin.destination in (None, settings.source))
    )


def _check_origin(session: Session, packet: ControlPacket, origin: Origin) -> None:
    """Check what a packet's discriminator does not prove, or what its absence leaves open.

    Raises:
        DecodeError: another system, link or port; or it was forwarded by a router.
    """
    if not _fits(session.settings, origin):
        raise DecodeError(BfdDrop.SOURCE)
    if not origin.is_multihop and origin.hop_limit != HOP_LIMIT:
        raise DecodeError(BfdDrop.HOP_LIMIT)
    is_proved = packet.your_discriminator or session.settings.key is not None
    is_up = session.state is BfdState.UP
    if is_up and not is_proved and origin.source_port != session.remote_port:
        raise DecodeError(BfdDrop.SOURCE_PORT)
