"""Authentication: accepted senders, recorded datagrams, rotation of keys."""

from __future__ import annotations

import dataclasses
import random

import pytest

from routed.model.prefix import Address, Prefix
from routed.nup.auth.guard import (
    ANSWERED_MAX,
    CHALLENGE_INTERVAL_S,
    MAX_PEERS,
    NONCE_S,
    REPLAY_WINDOW,
    Admission,
    LinkGuard,
)
from routed.nup.auth.keys import Algorithm, KeyRing
from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.wire.message import (
    ChallengeReply,
    ChallengeRequest,
    Goodbye,
    HeaderFlag,
    MessageType,
    ReplayCounter,
    Sender,
    Tlv,
    decode,
    encode_tlvs,
)
from tests.fakes.fake_wire import FakeWire, Node, WireFaults
from tests.fakes.nup_keys import SECRET, key, ring
from tests.fakes.nup_vectors import load_vectors

A, B = Address.parse("fe80::1"), Address.parse("fe80::2")
SENDERS = {A: Sender(Address.parse("10.255.0.1"), 1), B: Sender(Address.parse("10.255.0.2"), 2)}
LOOPBACK = Prefix.parse("10.255.0.1/32")


class Station:
    """One end of a simulated link: a guard and the address that it signs for."""

    def __init__(self, address: Address, keys: KeyRing | None = None, seed: int = 1) -> None:
        self.address = address
        self.guard = LinkGuard(random.Random(f"{address} {seed}"), lambda: 0.0)
        self.guard.ring = keys or ring()

    def seal(self, *tlvs: Tlv, now: float = 0.0) -> bytes:
        payload = encode_tlvs(SENDERS[self.address], tlvs or (Goodbye(),))
        data = self.guard.seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload, self.address, now)
        assert data is not None
        return data

    def admit(self, data: bytes, source: Address, now: float = 0.0) -> Admission:
        return self.guard.admit(data, decode(data), source, now)

    def verify(self, other: Station) -> None:
        """Send a challenge to another station and accept its answer."""
        asked = self.admit(other.seal(), other.address)
        assert isinstance(asked.answer, ChallengeRequest)
        answer = other.admit(self.seal(asked.answer), self.address)
        assert isinstance(answer.answer, ChallengeReply)
        assert self.admit(other.seal(answer.answer), other.address).is_proven_now


def verified_pair(algorithm: Algorithm = Algorithm.HMAC_SHA256) -> tuple[Station, Station]:
    keys = ring(key(algorithm=algorithm))
    a, b = Station(A, keys), Station(B, keys)
    a.verify(b)
    return a, b


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_proven_sender_is_accepted_once_per_datagram(algorithm: Algorithm) -> None:
    a, b = verified_pair(algorithm)
    data = b.seal()
    assert a.admit(data, B).refusal is None
    assert a.admit(data, B).refusal is TraceCode.DROPPED_REPLAY


def test_datagrams_may_overtake_each_other_within_the_window() -> None:
    a, b = verified_pair()
    sent = [b.seal() for _ in range(REPLAY_WINDOW + 1)]
    assert a.admit(sent[-1], B).refusal is None
    assert a.admit(sent[1], B).refusal is None
    assert a.admit(sent[0], B).refusal is TraceCode.DROPPED_REPLAY  # below the window


def test_datagrams_sent_before_the_proof_are_not_accepted() -> None:
    keys = ring()
    a, b = Station(A, keys), Station(B, keys)
    early = b.seal()
    a.verify(b)
    assert a.admit(early, B).refusal is TraceCode.DROPPED_REPLAY


def test_a_new_boot_has_to_prove_itself_and_the_old_one_is_not_accepted_again() -> None:
    a, b = verified_pair()
    recorded = b.seal()
    reborn = Station(B, seed=2)
    assert a.admit(reborn.seal(), B).refusal is TraceCode.DROPPED_UNPROVEN
    later = Station(B, seed=2)
    a.admit(recorded, B)
    asked = a.admit(later.seal(), B, now=1.0)
    assert asked.answer is not None
    answer = later.admit(a.seal(asked.answer), A).answer
    assert answer is not None
    assert a.admit(later.seal(answer), B, now=1.0).is_proven_now
    assert a.admit(recorded, B, now=1.0).refusal is TraceCode.DROPPED_UNPROVEN


def test_a_recorded_answer_proves_nothing() -> None:
    keys = ring()
    a, b = Station(A, keys), Station(B, keys)
    asked = a.admit(b.seal(), B)
    assert asked.answer is not None
    answer = b.admit(a.seal(asked.answer), A).answer
    assert answer is not None
    recorded = b.seal(answer)
    assert a.admit(recorded, B).is_proven_now
    fresh = Station(A, keys, seed=9)
    fresh.admit(b.seal(), B)
    assert fresh.admit(recorded, B).refusal is TraceCode.DROPPED_UNPROVEN


def test_a_sender_is_not_challenged_more_often_than_every_interval() -> None:
    keys = ring()
    a, b = Station(A, keys), Station(B, keys)
    asked = [a.admit(b.seal(), B, now=number / 100).answer for number in range(100)]
    assert sum(answer is not None for answer in asked) == 4


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (ring(key(secret=b"another secret!!")), TraceCode.DROPPED_BAD_MAC),
        (ring(key(2)), TraceCode.DROPPED_UNKNOWN_KEY),
        (ring(key(algorithm=Algorithm.BLAKE2S)), TraceCode.DROPPED_BAD_MAC),
    ],
    ids=["secret", "id", "algorithm"],
)
def test_another_key_is_not_accepted(keys: KeyRing, code: TraceCode) -> None:
    a, b = Station(A), Station(B, keys)
    assert a.admit(b.seal(), B).refusal is code


def test_the_source_address_is_signed() -> None:
    a, b = verified_pair()
    assert a.admit(b.seal(), Address.parse("fe80::3")).refusal is TraceCode.DROPPED_BAD_MAC


def test_unsigned_messages_are_accepted_in_the_transition_mode_only() -> None:
    a, b = Station(A), Station(B)
    b.guard.ring = None
    assert a.admit(b.seal(), B).refusal is TraceCode.DROPPED_UNSIGNED
    a.guard.accepts_unsigned = True
    assert a.admit(b.seal(), B).refusal is None
    assert a.admit(b.seal(ChallengeReply(1)), B).refusal is TraceCode.DROPPED_UNSIGNED
    wrong = Station(B, ring(key(secret=b"another secret!!")))
    assert a.admit(wrong.seal(), B).refusal is TraceCode.DROPPED_BAD_MAC


def test_the_youngest_key_is_sent_with_and_each_is_accepted_in_its_time() -> None:
    keys = ring(
        key(1, send=(0, 100), accept=(0, 120)),
        key(2, secret=b"the second secret", send=(100, 200), accept=(80, 220)),
    )
    assert [getattr(keys.key_to_send(now), "id", None) for now in (0, 99, 100, 199, 200)] == [
        1,
        1,
        2,
        2,
        None,
    ]
    accepted = [
        [key_id for key_id in (1, 2) if keys.key_to_accept(key_id, now)]
        for now in (79, 80, 119, 120, 219, 220)
    ]
    assert accepted == [[1], [1, 2], [1, 2], [2], [2], []]


def test_when_the_last_key_has_ended_nothing_is_sent() -> None:
    a = Station(A, ring(key(send=(0, 10))))
    a.seal(now=9)
    payload = encode_tlvs(SENDERS[A], (Goodbye(),))
    assert a.guard.seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload, A, 10.0) is None
    assert a.guard.silenced == 1


def test_what_is_remembered_of_stations_is_bounded() -> None:
    a, b = Station(A), Station(B)
    payload = encode_tlvs(SENDERS[B], (Goodbye(),))
    for number in range(MAX_PEERS + 50):
        source = Address(A.family, A.addr_bits + 100 + number)
        data = b.guard.seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload, source, 0.0)
        assert data is not None
        a.admit(data, source)
    assert len(a.guard._proven) + len(a.guard._unproven) == MAX_PEERS


def test_a_proven_neighbor_is_not_forgotten_for_addresses_that_were_never_proven() -> None:
    a, b = verified_pair()
    stranger = Station(B, seed=3)
    payload = encode_tlvs(SENDERS[B], (Goodbye(),))
    for number in range(2 * MAX_PEERS):
        source = Address(A.family, A.addr_bits + 100 + number)
        data = stranger.guard.seal(MessageType.CONTROL, HeaderFlag(0), 1, 0, payload, source, 0.0)
        assert data is not None
        assert a.admit(data, source).refusal is TraceCode.DROPPED_UNPROVEN
    assert a.admit(b.seal(), B).refusal is None


def proving_time(round_trip_s: float, replay_every_s: float) -> float | None:
    """Return when a distant neighbor is proven while an outsider repeats one of its old
    datagrams."""
    keys = ring()
    a, b = Station(A, keys), Station(B, keys, seed=2)
    recorded = Station(B, keys).seal()
    under_way: list[tuple[float, bytes]] = []
    for step in range(int(20 / replay_every_s)):
        now = step * replay_every_s
        heard = [recorded, *(data for moment, data in under_way if moment <= now)]
        under_way = [(moment, data) for moment, data in under_way if moment > now]
        for data in heard:
            said = a.admit(data, B, now=now)
            if said.is_proven_now:
                return now
            if isinstance(said.answer, ChallengeRequest):
                reply = b.admit(a.seal(said.answer, now=now), A, now=now + round_trip_s / 2).answer
                if reply is not None:
                    under_way.append((now + round_trip_s, b.seal(reply)))
    return None


@pytest.mark.parametrize("round_trip_s", [0.1, 0.4, 1.0, 3.0, 9.0])
def test_an_outsider_that_repeats_a_datagram_cannot_keep_a_far_neighbor_away(
    round_trip_s: float,
) -> None:
    """Each repetition had the nonce replaced after 0.3 s, and the answer came too late."""
    proven_at = proving_time(round_trip_s, 0.05)
    assert proven_at is not None
    assert proven_at <= round_trip_s + 0.1


def test_a_challenge_that_is_not_answered_changes_its_nonce_and_accepts_the_last_two() -> None:
    keys = ring()
    a, b = Station(A, keys), Station(B, keys)
    asked: list[int] = []
    for step in range(100):
        answer = a.admit(b.seal(), B, now=step * 0.31).answer
        assert isinstance(answer, ChallengeRequest)
        asked.append(answer.nonce)
    nonces = list(dict.fromkeys(asked))
    assert 3 <= len(nonces) <= 100 * 0.31 / NONCE_S + 1
    now = 100 * 0.31
    assert a.admit(b.seal(ChallengeReply(nonces[-3])), B, now=now).refusal is not TraceCode.PROVEN
    assert a.admit(b.seal(ChallengeReply(nonces[-2])), B, now=now).refusal is TraceCode.PROVEN
    assert a.admit(b.seal(ChallengeReply(nonces[-1])), B, now=now).refusal is not TraceCode.PROVEN


def test_a_challenge_under_a_proven_index_is_answered_once() -> None:
    a, b = verified_pair()
    request = b.seal(ChallengeRequest(7))
    assert isinstance(a.admit(request, B, now=1.0).answer, ChallengeReply)
    assert a.admit(request, B, now=2.0).refusal is TraceCode.DROPPED_REPLAY


def recorded_challenges(lives: int, each: int = 1) -> list[bytes]:
    """Return challenges of B's earlier boots to A, as an outsider has recorded them, each with its
    own nonce."""
    recorded = []
    for life in range(lives):
        former = Station(B, seed=100 + life)
        recorded += [former.seal(ChallengeRequest(life << 16 | number)) for number in range(each)]
    return recorded


@pytest.mark.parametrize(("lives", "each"), [(1, 1), (1, 300), (ANSWERED_MAX - 1, 2)])
@pytest.mark.parametrize("phase", range(5))
def test_repeated_challenges_of_an_attacker_cost_a_starting_neighbor_no_answer(
    lives: int, each: int, phase: int
) -> None:
    """C1: each new request had to hit the moment between an answer's 10 ms and the next repeat."""
    a, b = Station(A), Station(B, seed=1)
    recorded = recorded_challenges(lives, each)
    for number in range(70, 100):  # they are repeated before b starts
        for data in recorded:
            a.admit(data, B, now=number * 0.2 + phase * 0.002)
    start = 30.0
    for number, data in enumerate(recorded * (600 // len(recorded) + 1)):
        a.admit(data, B, now=start - 0.2 + number * 0.0002)
    asked = a.admit(b.seal(ChallengeRequest(7)), B, now=start)
    assert asked.answer == ChallengeReply(7)


def test_a_repeated_challenge_is_answered_once() -> None:
    a = Station(A)
    recorded = recorded_challenges(ANSWERED_MAX, 3)
    answers = [
        a.admit(data, B, now=round_ * 10.0 + number * 0.01).answer
        for round_ in range(20)
        for number, data in enumerate(recorded)
    ]
    assert sum(answer is not None for answer in answers) <= len(recorded)


def test_answers_to_an_address_have_a_rate() -> None:
    a = Station(A)
    recorded = recorded_challenges(2 * ANSWERED_MAX)
    answers = [
        a.admit(data, B, now=(round_ * len(recorded) + number) / 10_000).answer
        for round_ in range(10)
        for number, data in enumerate(recorded)
    ]
    assert sum(answer is not None for answer in answers) <= len(answers) / 10 + 1


def test_a_repeated_request_is_answered_again() -> None:
    a, b = Station(A), Station(B)
    for number in range(10):
        asked = a.admit(b.seal(ChallengeRequest(7)), B, now=number * CHALLENGE_INTERVAL_S)
        assert asked.answer == ChallengeReply(7)


def test_a_counter_without_a_signature_is_no_signature() -> None:
    a = Station(A)
    bare = Station(B)
    bare.guard.ring = None
    assert a.admit(bare.seal(ReplayCounter(1, 1)), B).refusal is TraceCode.DROPPED_UNSIGNED


def test_no_representation_shows_a_secret() -> None:
    assert SECRET.decode() not in repr(ring())
    assert "b'" not in repr(key())


@pytest.mark.parametrize("name", ["signed-goodbye", "signed-challenge", "signed-reply"])
def test_the_signed_vectors_are_signed(name: str) -> None:
    vector = next(vector for vector in load_vectors("nup_messages.json") if vector["name"] == name)
    data = bytes.fromhex(vector["hex"])
    reader = Station(A, ring(key(1), key(2, algorithm=Algorithm.BLAKE2S)))
    source = A if name == "signed-challenge" else B
    admitted = reader.admit(data, source)
    assert admitted.refusal in (TraceCode.DROPPED_UNPROVEN, TraceCode.CHALLENGE_ANSWERED)
    other = Address.parse("fe80::9")
    assert reader.admit(data, other).refusal is TraceCode.DROPPED_BAD_MAC


# Whole instances


def keyed_pair(
    a_keys: KeyRing | None, b_keys: KeyRing | None, *, is_transition: bool = False
) -> tuple[FakeWire, Node, Node]:
    wire = FakeWire(1, WireFaults())
    a, b = wire.add_node("a"), wire.add_node("b")
    rings = {name: keys for name, keys in (("a", a_keys), ("b", b_keys)) if keys is not None}
    wire.connect("a", "b", key_rings=rings, accepts_unsigned=is_transition)
    wire.originate("a", str(LOOPBACK))
    return wire, a, b


def test_neighbors_with_one_key_come_up_in_milliseconds() -> None:
    wire, _, b = keyed_pair(ring(), ring())
    assert wire.run_until(wire.all_up, limit_s=1) < 0.1
    assert LOOPBACK in b.learned
    assert b.instance.counters()[TraceCode.PROVEN.value] == 1


@pytest.mark.parametrize(
    ("a_keys", "problem"),
    [
        (None, "no signature; this link requires one"),
        (ring(key(secret=b"another secret!!")), "the signature is not by our key 1 of 'core'"),
        (ring(key(7)), "key 7 is not in 'core', or not valid now"),
    ],
    ids=["unsigned", "wrong secret", "unknown key"],
)
def test_without_the_right_key_nothing_comes_up_and_the_neighbors_say_why(
    a_keys: KeyRing | None, problem: str
) -> None:
    wire, a, b = keyed_pair(a_keys, ring())
    wire.run(10)
    assert b.adjacency_log == []
    assert all(change.new is AdjacencyState.INIT for change in a.adjacency_log)
    assert b.learned == {}
    (row,) = b.instance.neighbors(wire.now)
    assert (row.router_id, row.state, row.problem) == (None, AdjacencyState.DOWN, problem)


def test_in_the_transition_mode_routers_with_and_without_keys_are_neighbors() -> None:
    wire, _, b = keyed_pair(None, ring(), is_transition=True)
    wire.run(1)
    assert wire.all_up()
    assert LOOPBACK in b.learned


def test_a_rotation_loses_no_adjacency() -> None:
    start = 1000.0
    keys = ring(
        key(1, send=(0, start + 20), accept=(0, start + 40)),
        key(2, secret=b"the second secret", send=(start + 20, 1e9), accept=(start, 1e9)),
    )
    wire, a, b = keyed_pair(keys, keys)
    wire.run(2)
    changes = len(a.adjacency_log) + len(b.adjacency_log)
    wire.run(60)
    assert wire.all_up()
    assert len(a.adjacency_log) + len(b.adjacency_log) == changes


def test_keys_can_be_exchanged_on_a_running_link() -> None:
    wire, a, b = keyed_pair(ring(), ring())
    wire.run(1)
    for node in (a, b):
        changed = dataclasses.replace(node.links[1][1], key_ring=ring(key(9)))
        wire.reconfigure(node, 1, changed)
    wire.run(1)
    assert wire.all_up()
    assert all(change.new is not AdjacencyState.DOWN for change in a.adjacency_log)


def test_a_router_that_restarts_is_accepted_again_and_keeps_its_routes() -> None:
    wire, _, b = keyed_pair(ring(), ring())
    wire.run(2)
    wire.crash("a")
    wire.run(1)
    wire.revive("a")
    wire.run(5)
    assert wire.all_up()
    assert LOOPBACK in b.learned
    assert all(change.new is not AdjacencyState.DOWN for change in b.adjacency_log)
