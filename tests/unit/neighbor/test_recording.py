"""Recordings: what went in is lived through again, to the same outputs and the same state."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import pickle
import zlib

import pytest

from routed.config import scalars
from routed.config.scalars import PrefixMatch
from routed.neighbor.events import UsageError
from routed.neighbor.instance import NeighborInstance
from routed.neighbor.policy import Policy, Rule
from routed.neighbor.recording import INPUTS, RecordingError, Replay, Step
from tests.fakes import nup_keys
from tests.fakes.fake_wire import FakeWire, Node, WireFaults
from tests.fakes.nup_pair import LOOPBACK, many_prefixes, pair

SALT = b"salt" * 4
BAD_WIRE = WireFaults(loss=0.1, duplication=0.05, delay_s=0.0005, jitter_s=0.003)


def eventful(wire: FakeWire, a: Node, b: Node) -> str:
    """What b lives through, from the middle of one life to the middle of the next."""
    wire.run(3)
    b.instance.start_recording(SALT, wire.now)
    wire.originate("a", *many_prefixes(200))
    wire.originate("b", "192.0.2.0/24")
    wire.run(2)
    wire.reconfigure(b, 1, dataclasses.replace(b.links[1][1], cost=33))
    b.instance.set_policy(Policy(imports=(Rule(tag=5, is_accepted=False),)), wire.now)
    b.instance.set_wall_clock(1e9)
    wire.withdraw("b", "192.0.2.0/24")
    wire.cut(wire.segments[0])
    wire.run(1)
    wire.mend(wire.segments[0])
    wire.run(3)
    b.instance.clear_neighbor(a.instance.router_id, wire.now)
    wire.run(3)
    return b.instance.stop_recording(wire.now)


def differences(text: str) -> list[Step]:
    return [step for step in Replay(text).steps() if step.differs]


def test_a_replay_says_and_knows_the_same() -> None:
    wire, a, b = pair(BAD_WIRE)
    text = eventful(wire, a, b)
    replay = Replay(text)
    steps = list(replay.steps())
    assert [step for step in steps if step.differs] == []
    assert {step.name for step in steps} >= {
        "receive_burst", "handle_timer", "originate_all", "withdraw_all", "set_policy",
        "set_wall_clock",
        "link_down", "link_up", "link_changed", "clear_neighbor", "out", "end",
    }  # fmt: skip
    assert replay.instance.learned() == b.instance.learned()
    assert LOOPBACK in {row.prefix for row in replay.instance.learned()}


def test_a_replay_can_be_repeated_and_does_not_touch_the_original() -> None:
    wire, a, b = pair(BAD_WIRE)
    text = eventful(wire, a, b)
    before = b.instance.counters(), b.instance.neighbors(wire.now)
    assert differences(text) == differences(text) == []
    assert (b.instance.counters(), b.instance.neighbors(wire.now)) == before


def test_recording_changes_nothing() -> None:
    logs = []
    for is_recorded in (False, True):
        wire, a, b = pair(BAD_WIRE)
        if is_recorded:
            a.instance.start_recording(SALT, wire.now)
        wire.originate("a", *many_prefixes(100))
        wire.run(5)
        logs.append((b.adjacency_log, b.traces, wire.nodes["a"].sent_bytes))
    assert logs[0] == logs[1]


def test_a_changed_input_is_found_out() -> None:
    wire, a, b = pair(BAD_WIRE)
    lines = eventful(wire, a, b).splitlines()
    at = next(number for number, line in enumerate(lines) if "receive_burst" in line)
    del lines[at]
    (first, *_) = differences("\n".join(lines))
    assert "then" in first.differs


def test_signatures_are_judged_as_they_were_and_secrets_stay_at_home() -> None:
    secret = b"a very secret secret that nobody has to know"
    ring = nup_keys.ring(nup_keys.key(secret=secret))
    wire = FakeWire(3, BAD_WIRE)
    wire.add_node("a")
    b = wire.add_node("b")
    stranger = wire.add_node("stranger")
    wrong = nup_keys.ring(nup_keys.key(secret=b"a guess of a stranger"))
    wire.connect("a", "b", "stranger", key_rings={"a": ring, "b": ring, "stranger": wrong})
    wire.originate("a", str(LOOPBACK))
    wire.originate("stranger", "198.51.100.0/24")
    wire.run(1)
    b.instance.start_recording(SALT, wire.now)
    wire.reconfigure(b, 1, dataclasses.replace(b.links[1][1], cost=20))
    wire.run(5)
    refused = b.instance.counters()["dropped_bad_mac"]
    text = b.instance.stop_recording(wire.now)
    replay = Replay(text)
    assert [step for step in replay.steps() if step.differs] == []
    assert replay.instance.counters()["dropped_bad_mac"] == refused > 0
    assert {row.prefix for row in replay.instance.learned()} == {LOOPBACK}
    assert stranger.learned == {}
    for line in map(json.loads, text.splitlines()):
        for word in line.values():
            assert secret not in str(word).encode()
        for name in {"state", "args"} & line.keys() - ({"state"} if "end" in line else set()):
            assert secret not in zlib.decompress(base64.b64decode(line[name]))


def test_prefix_tests_of_another_room_are_named_by_the_caller() -> None:
    wire, _, b = pair()
    wire.run(1)
    b.instance.start_recording(SALT, wire.now)
    test = scalars.prefix_match.read("10.0.0.0/8 le 32")
    b.instance.set_policy(Policy(imports=(Rule(prefixes=(test,), set_metric=99),)), wire.now)
    text = b.instance.stop_recording(wire.now)
    with pytest.raises(RecordingError, match="PrefixMatch"):
        list(Replay(text).steps())
    assert not [step for step in Replay(text, (PrefixMatch,)).steps() if step.differs]


def test_a_recording_ends_at_its_limit_and_what_it_has_can_be_replayed() -> None:
    wire, _, b = pair()
    wire.run(1)
    b.instance.start_recording(SALT, wire.now, limit_bytes=20_000)
    wire.originate("a", *many_prefixes(500))
    wire.run(1)
    recorder = b.instance.recorder
    assert recorder is not None
    assert recorder.is_full
    text = b.instance.stop_recording(wire.now)
    assert len(text) < 20_200
    *_, last = Replay(text).steps()
    assert last.says == ("the recording was full",)
    assert differences(text) == []


def test_every_method_that_changes_state_is_an_input() -> None:
    by_an_input = {"receive_datagram", "originate", "withdraw"}
    readers = {
        "counters", "is_loaded", "learned", "neighbors", "next_timer", "outputs",
        "pending_adjacencies", "start_recording", "stop_recording", "waiting_for",
    }  # fmt: skip
    methods = {
        name
        for name, member in vars(NeighborInstance).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    assert methods == INPUTS | readers | by_an_input


def test_stopping_what_was_never_started_is_the_callers_error() -> None:
    _, _, b = pair()
    with pytest.raises(UsageError):
        b.instance.stop_recording(0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no recording",
        '{"routed-recording": 3}',
        '{"routed-recording": 2}\n{"state": "%%%"}',
        '{"routed-recording": 2}\n{"state": "AAAA"}',
        '{"routed-recording": 2}\n[]',
    ],
)
def test_what_is_no_recording_is_refused_in_words(text: str) -> None:
    with pytest.raises(RecordingError):
        Replay(text)


class Evil:
    """What an attacker would like to have unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pickle.loads, ("",))


def test_a_recording_of_a_stranger_runs_nothing() -> None:
    evil = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(RecordingError, match="nothing to do with"):
        Replay(f'{{"routed-recording": 2}}\n{{"state": "{evil}"}}')
