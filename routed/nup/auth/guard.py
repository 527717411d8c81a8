"""Authentication: which senders are accepted on a link, and whether a datagram is new.

    sent      payload | REPLAY_COUNTER (index, counter) | MAC (key id, digest)
    received  digest right? --> index proven? --> counter new? --> to the protocol
                   |                 |                 |
               BAD_MAC etc.       CHALLENGED          REPLAY         each counted

The digest is keyed, over the source address and the whole datagram except itself: a datagram of a
sender without the secret, changed in transit, or forwarded from another address is dropped. It does
not distinguish old datagrams from new ones. For that each sender numbers its datagrams on a link,
in one *index*: random, and replaced whenever the numbers start again. The receiver accepts an index
only when its owner has proved to be present: it sends a CHALLENGE_REQUEST with a nonce, and a
CHALLENGE_REPLY with the same nonce proves the index that it carries. Within an index a sliding
window accepts every counter once, in any order of arrival.

So no recorded datagram is accepted a second time: not within an index (the window), not from an
earlier one (not proven), not on another link (an index belongs to one link), not from another
address (the digest), and not sent back to its author (which knows its own router id).

Keys have lifetimes, for sending and for accepting, by the wall clock; the youngest key that is
valid for sending is used, and every key that is valid for accepting is accepted. Rotation: give all
routers the new key, to be accepted at once and used for sending a moment later; the old one ends
after that. When the last key for sending ends, nothing is sent on the link, rather than unsigned
datagrams.

The transition mode (`accept_unsigned`) accepts datagrams without a digest, and only those: a wrong
digest is refused in this mode too, so that an error in a key is detected before the mode is
switched off. Routers without keys skip the TLVs, which are optional for them.

A challenge that is not answered is repeated with the same nonce: otherwise a sender that repeats an
old datagram again and again would have each nonce replaced before a distant neighbor could answer
it. Only after NONCE_S there is another one, and the one before still counts.

A challenge that was answered is not answered again: a sender that repeats old ones cannot delay the
answer to a neighbor's present one. For each address the indices that were answered are remembered,
each with the counter of the last request and a separate rate.

Invariants: at most MAX_PEERS indices are remembered per link, and only of senders that know a key;
one that was never proven is dropped first, then the one heard longest ago. A forged datagram
changes only counters and the short list of refusals for `show neighbors`. Secrets are in no output,
representation or message of this package.

Sources: RFC 8967 (MAC authentication for Babel: packet counters, index, challenge), RFC 9467
(reordering), RFC 4303 section 3.4.3 (window), RFC 2104 and 7693 (HMAC, BLAKE2s), RFC 8177 (key
lifetimes).
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Family
from routed.nup.auth.keys import Algorithm, AuthKey, KeyRing
from routed.nup.events import TraceCode
from routed.nup.wire.message import (
    CHECKSUM_BYTES_AT,
    HEADER_BYTES,
    MAC_ROOM_BYTES,
    ChallengeReply,
    ChallengeRequest,
    HeaderFlag,
    Mac,
    Message,
    MessageType,
    ReplayCounter,
    Tlv,
    checksum,
    seal,
    tlv_bytes,
)

__all__ = ["MAX_PEERS", "Admission", "LinkGuard"]

MAX_PEERS = 512
REPLAY_WINDOW = 2048
"""Counters below the highest one that are still accepted: twice the transport's window."""
CHALLENGE_INTERVAL_S = 0.3
"""One address is challenged at most this often (RFC 8967 section 4.3.1.1)."""
NONCE_S = 10.0
"""Time for which a challenge is repeated with one nonce; the next one counts alongside it."""
ANSWER_INTERVAL_S = 0.1
"""The interval at which challenges under one index are answered; they come at
CHALLENGE_INTERVAL_S."""
ANSWERED_MAX = 64
"""Indices of one address whose answered challenges are remembered: so many earlier boots of a
neighbor have to be recorded before one of their requests is answered a second time."""
ANSWER_GAP_S = 0.001
"""The least time between two answers to one address, whatever the indices."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The guard's verdict on a message."""

    refusal: TraceCode | None = None
    """Reason why the message is dropped; None if it is admitted."""
    detail: str = ""
    answer: Tlv | None = None
    """Answer to send back, in a separate CONTROL."""
    is_proven_now: bool = False
    """Whether an index has just been proven: the neighbor's earlier messages were dropped, so send
    a heartbeat soon."""


_ADMITTED = Admission()


@dataclass(slots=True)
class _Answered:
    """The last challenge under an index that was answered."""

    counter: int
    at: float


class _Peer:
    """One address that knows a key: its proven index, and the counters seen under it."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.nonces: tuple[int, ...] = ()
        """Nonces of the challenge under way: the present one, and the one before it."""
        self.nonce_at = float("-inf")
        """Time at which the present nonce was first used."""
        self.challenged_at = float("-inf")
        self.answered_at = float("-inf")
        self._answered: dict[int, _Answered] = {}
        """Answered challenges by index; those answered longest ago first."""
        self._highest = 0
        self._seen = 0
        """Bit n: the counter `_highest - n` has been seen."""

    def prove(self, index: int, counter: int) -> None:
        """Accept an index from this counter on."""
        self.index = index
        self.nonces = ()
        self._highest = counter
        # Datagrams sent before the proof may have been recorded before it: they are not accepted.
        self._seen = (1 << REPLAY_WINDOW) - 1

    def accept(self, counter: int) -> bool:
        """Return whether a counter occurs for the first time, and record it."""
        ahead = counter - self._highest
        if ahead > 0:
            mask = (1 << REPLAY_WINDOW) - 1
            self._seen = ((self._seen << min(ahead, REPLAY_WINDOW)) | 1) & mask
            self._highest = counter
            return True
        bit = 1 << -ahead
        if -ahead >= REPLAY_WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True

    def may_answer(self, counter: ReplayCounter, now: float) -> bool:
        """Return whether a challenge is new and an answer is due; records the answer."""
        last = self._answered.get(counter.index)
        if last is not None and (
            counter.counter <= last.counter or now < last.at + ANSWER_INTERVAL_S
        ):
            return False
        if now < self.answered_at + ANSWER_GAP_S:
            return False
        self.answered_at = now
        self._answered.pop(counter.index, None)
        if len(self._answered) >= ANSWERED_MAX:
            del self._answered[next(iter(self._answered))]
        self._answered[counter.index] = _Answered(counter.counter, now)
        return True


class LinkGuard:
    """Signs the datagrams that leave on one link and verifies those that arrive."""

    def __init__(self, rng: random.Random, wall_offset: Callable[[], float]) -> None:
        """Start with a random index.

        Args:
            rng: source of the index and of the key of the nonces.
            wall_offset: seconds to add to `now` to get wall time, for the lifetimes of keys.
        """
        self.ring: KeyRing | None = None
        """Keys of the link; None if the link is not authenticated."""
        self.accepts_unsigned = False
        self.silenced = 0
        """Datagrams that were not sent because no key was valid for sending."""
        self._wall_offset = wall_offset
        self._index = rng.getrandbits(64)
        self._counter = 0
        self._nonce_key = rng.randbytes(32)
        self._nonces = 0
        self._proven: dict[Address, _Peer] = {}
        """Peers with a proven index; those heard longest ago first."""
        self._unproven: dict[Address, _Peer] = {}
        """Peers without a proven index, in the order in which they were first heard."""

    def seal(
        self,
        message_type: MessageType,
        flags: HeaderFlag,
        sequence: int,
        timestamp: int,
        payload: bytes,
        source: Address,
        now: float,
    ) -> bytes | None:
        """Make a datagram, signed when the link has keys; None when no key is valid for sending
        now."""
        if self.ring is None:
            return seal(message_type, flags, sequence, timestamp, payload)
        key = self.ring.key_to_send(now + self._wall_offset())
        if key is None:
            self.silenced += 1
            return None
        self._counter += 1
        payload += tlv_bytes(ReplayCounter(self._index, self._counter))
        blank = tlv_bytes(Mac(key.id, bytes(_DIGEST_BYTES[key.algorithm])))
        digest_bytes = _DIGEST_BYTES[key.algorithm]
        unsigned = seal(message_type, flags, sequence, timestamp, payload + blank)
        digest = key.digest(_covered(unsigned, digest_bytes, source))
        signed = payload + blank[:-digest_bytes] + digest
        return seal(message_type, flags, sequence, timestamp, signed)

    def admit(self, data: bytes, message: Message, source: Address, now: float) -> Admission:
        """Verify a message.

        Args:
            data: the datagram as it was received.
            message: the same, decoded.
            source: the address that it came from.
            now: seconds, monotonic.

        Cost: one digest of the datagram; no state is kept of a sender without a key.
        """
        if self.ring is None:
            return _ADMITTED
        mac = message.tlvs[-1] if message.tlvs else None
        if not isinstance(mac, Mac):
            if self.accepts_unsigned and not _is_challenge(message):
                return _ADMITTED
            return Admission(TraceCode.DROPPED_UNSIGNED, "no signature; this link requires one")
        key = self.ring.key_to_accept(mac.key_id, now + self._wall_offset())
        if key is None:
            detail = f"key {mac.key_id} is not in {self.ring.name!r}, or not valid now"
            return Admission(TraceCode.DROPPED_UNKNOWN_KEY, detail)
        covered = _covered(data, len(mac.digest), source)
        if not hmac.compare_digest(key.digest(covered), mac.digest):
            detail = f"the signature is not by our key {key.id} of {self.ring.name!r}"
            return Admission(TraceCode.DROPPED_BAD_MAC, detail)
        counter = next((tlv for tlv in message.tlvs if isinstance(tlv, ReplayCounter)), None)
        if counter is None:
            return Admission(TraceCode.DROPPED_REPLAY, "signed, but without a counter")
        return self._check_counter(message, counter, source, now)

    def _check_counter(
        self, message: Message, counter: ReplayCounter, source: Address, now: float
    ) -> Admission:
        """Verify that a validly signed message is not a replay."""
        peer = self._peer(source)
        reply = next((tlv for tlv in message.tlvs if isinstance(tlv, ChallengeReply)), None)
        is_known = counter.index == peer.index
        is_answer = reply is not None and reply.nonce in peer.nonces
        if is_answer and not is_known:
            peer.prove(counter.index, counter.counter)
            self._unproven.pop(source, None)
            self._record_heard(source, peer)
            return Admission(TraceCode.PROVEN, is_proven_now=True)
        if is_known and not peer.accept(counter.counter):
            return Admission(TraceCode.DROPPED_REPLAY, f"counter {counter.counter} has been used")
        if is_known:
            self._record_heard(source, peer)
        request = next((tlv for tlv in message.tlvs if isinstance(tlv, ChallengeRequest)), None)
        if request is not None:
            return self._answer(peer, request, counter, now)
        if is_known:
            # A reply to a challenge that was overtaken is spent.
            return _ADMITTED if reply is None else Admission(TraceCode.DROPPED_STALE_CHALLENGE)
        return self._challenge(peer, now)

    def _answer(
        self, peer: _Peer, request: ChallengeRequest, counter: ReplayCounter, now: float
    ) -> Admission:
        """Answer a challenge; also of a sender whose own index is not proven yet."""
        if not peer.may_answer(counter, now):
            return Admission(TraceCode.DROPPED_STALE_CHALLENGE)
        return Admission(TraceCode.CHALLENGE_ANSWERED, answer=ChallengeReply(request.nonce))

    def _challenge(self, peer: _Peer, now: float) -> Admission:
        refusal, detail = TraceCode.DROPPED_UNPROVEN, "waits for the answer to a challenge"
        if now < peer.challenged_at + CHALLENGE_INTERVAL_S:
            return Admission(refusal, detail)
        peer.challenged_at = now
        if not peer.nonces or now >= peer.nonce_at + NONCE_S:
            peer.nonces = (self._new_nonce(), *peer.nonces[:1])
            peer.nonce_at = now
        return Admission(refusal, detail, answer=ChallengeRequest(peer.nonces[0]))

    def _new_nonce(self) -> int:
        """Return a number that cannot be predicted and was never used before."""
        self._nonces += 1
        digest = hashlib.blake2s(
            self._nonces.to_bytes(8, "big"), key=self._nonce_key, digest_size=8
        )
        return int.from_bytes(digest.digest(), "big")

    def _peer(self, source: Address) -> _Peer:
        peer = self._proven.get(source) or self._unproven.get(source)
        if peer is None:
            if len(self._proven) + len(self._unproven) >= MAX_PEERS:
                expendable = self._unproven or self._proven
                del expendable[next(iter(expendable))]
            peer = self._unproven[source] = _Peer()
        return peer

    def _record_heard(self, source: Address, peer: _Peer) -> None:
        """Record a new datagram under a proven index."""
        self._proven.pop(source, None)
        self._proven[source] = peer


_DIGEST_BYTES = {algorithm: len(algorithm.digest(b"0", b"")) for algorithm in Algorithm}
assert (
    len(tlv_bytes(ReplayCounter(0, 0))) + len(tlv_bytes(Mac(0, bytes(max(_DIGEST_BYTES.values())))))
    <= MAC_ROOM_BYTES
)


def _covered(data: bytes, digest_bytes: int, source: Address) -> bytes:
    """Return the bytes that a digest covers: source address, datagram without checksum and
    digest."""
    mapped = source.packed
    if source.family is Family.IPV4:
        mapped = bytes(10) + b"\xff\xff" + mapped
    end = len(data) - digest_bytes
    return mapped + data[:CHECKSUM_BYTES_AT] + data[CHECKSUM_BYTES_AT + 2 : end]


def signed_by_another(data: bytes, key: AuthKey, other: AuthKey, source: Address) -> bytes | None:
    """Return a datagram signed by another secret of the same key; None if this key did not sign
    it."""
    digest_bytes = _DIGEST_BYTES[key.algorithm]
    at = len(data) - digest_bytes
    if at < HEADER_BYTES or data[at - 1] != key.id:
        return None
    covered = _covered(data, digest_bytes, source)
    if not hmac.compare_digest(key.digest(covered), data[at:]):
        return None
    signed = bytearray(data[:at] + other.digest(covered))
    signed[CHECKSUM_BYTES_AT : CHECKSUM_BYTES_AT + 2] = bytes(2)
    signed[CHECKSUM_BYTES_AT : CHECKSUM_BYTES_AT + 2] = checksum(bytes(signed)).to_bytes(2, "big")
    return bytes(signed)


def _is_challenge(message: Message) -> bool:
    return any(isinstance(tlv, (ChallengeRequest, ChallengeReply)) for tlv in message.tlvs)
