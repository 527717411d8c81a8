"""Recordings: a replay of the inputs gives the same outputs and the same state."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import math
import random
import sys
import zlib
from typing import Any

import pytest

from routed.config import scalars
from routed.config.scalars import PrefixMatch
from routed.model.martians import MartianRules
from routed.nup.auth.guard import signed_by_another
from routed.nup.events import Datagram
from routed.nup.instance import NeighborInstance
from routed.nup.link.cost import RttCost
from routed.nup.link.damping import Damping
from routed.nup.recording import saved_state as instance_state
from routed.nup.recording.recorder import Recorder
from routed.nup.recording.replay import Replay, Step
from routed.nup.recording.saved_state import load_state, read_state, save_state
from routed.nup.recording.text import (
    INPUTS,
    NewInstance,
    RecordingError,
    read_arguments,
    write_arguments,
)
from routed.nup.routes.policy import NeighborRule, Policy, Suppression
from routed.nup.wire.message import Mac, decode
from tests.fakes import nup_keys
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings, router_id
from tests.fakes.nup_pair import IPV6, LOOPBACK, PEER, heartbeat, many_prefixes, pair

SALT = b"salt" * 4
ALL_SETTINGS = dataclasses.replace(
    link_settings(1, 3),
    key_ring=nup_keys.ring(nup_keys.key(7), nup_keys.key(8, send=(1e9, 2e9))),
    accepts_unsigned=True,
    is_loss_based=True,
    rtt_cost=RttCost(0.01, 0.1, 100),
    unicast_neighbors=(PEER,),
    max_prefixes=5,
    damping=Damping(15.0, 2000, 750, 60.0),
)
PREFIXES = [LOOPBACK, IPV6]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "link_up": (ALL_SETTINGS, 1.5),
    "link_changed": (link_settings(1, 3), 1.5),
    "link_down": (3, 1.5),
    "set_wall_clock": (1.7e9,),
    "originate_all": (PREFIXES, 3, 5, True, 1.5),
    "withdraw_all": (PREFIXES, 1.5),
    "set_martians": (MartianRules((LOOPBACK,), frozenset(PREFIXES)), 1.5),
    "set_policy": (
        Policy(
            (
                NeighborRule(
                    prefixes=(scalars.prefix_match.read("10.0.0.0/8 le 32"),), neighbor=PEER
                ),
            ),
            (NeighborRule(is_accepted=False, interface="eth*", set_tag=4),),
            (Suppression(IPV6),),
        ),
        1.5,
    ),
    "receive_burst": ([Datagram(b"\x00\xff", PEER, 3, None), Datagram(b"", PEER, 3, 255)], 1.5),
    "handle_timer": (1.5,),
    "clear_neighbor": (router_id(2), 1.5),
    "stop": (True, 1.5),
    "expect_neighbors": ([(3, PEER)], math.inf),
    "await_forwarding": (False, 1.5),
    "pop_forwarding_waits": (),
    "forwarding_updated": (PREFIXES, 1.5),
    "forwarding_alive": (1.5,),
}
BAD_WIRE = WireFaults(loss=0.1, duplication=0.05, delay_s=0.0005, jitter_s=0.003)


def eventful(wire: FakeWire, a: Node, b: Node) -> str:
    """Return a recording of b, from the middle of one boot to the middle of the next."""
    wire.run(3)
    recorder = start_recording(wire, b)
    wire.originate("a", *many_prefixes(200))
    wire.originate("b", "192.0.2.0/24")
    wire.run(2)
    wire.reconfigure(b, 1, dataclasses.replace(b.links[1][1], cost=33))
    b.instance.set_policy(Policy(imports=(NeighborRule(tag=5, is_accepted=False),)), wire.now)
    b.instance.set_wall_clock(1e9)
    wire.withdraw("b", "192.0.2.0/24")
    wire.cut(wire.segments[0])
    wire.run(1)
    wire.mend(wire.segments[0])
    wire.run(3)
    b.instance.clear_neighbor(a.instance.router_id, wire.now)
    wire.run(3)
    return recorder.text(b.instance, wire.now)


def start_recording(wire: FakeWire, node: Node, limit_bytes: int = 1 << 20) -> Recorder:
    """Record a node that is running; most tests call `text` themselves."""
    recorder = Recorder(node.instance, SALT, wire.now, limit_bytes=limit_bytes)
    node.instance.record_to(recorder)
    return recorder


def differences(text: str) -> list[Step]:
    return [step for step in Replay(text).steps() if step.differs]


def test_a_replay_gives_the_same_outputs_and_the_same_state() -> None:
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
            start_recording(wire, a)
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


def test_signatures_are_verified_as_they_were_and_secrets_are_not_recorded() -> None:
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
    recorder = start_recording(wire, b)
    wire.reconfigure(b, 1, dataclasses.replace(b.links[1][1], cost=20))
    wire.run(5)
    refused = b.instance.counters()["dropped_bad_mac"]
    text = recorder.text(b.instance, wire.now)
    replay = Replay(text)
    assert [step for step in replay.steps() if step.differs] == []
    assert replay.instance.counters()["dropped_bad_mac"] == refused > 0
    assert {row.prefix for row in replay.instance.learned()} == {LOOPBACK}
    assert stranger.learned == {}
    header = json.loads(text.splitlines()[0])
    state = json.dumps(read_state(header["start"]["state"]))
    assert '"keys.AuthKey"' in state
    for written in (text, state):
        assert secret.hex() not in written
        assert secret.decode() not in written


def test_keys_that_change_during_a_recording_are_replaced_too() -> None:
    old = nup_keys.key(1, secret=b"the secret of yesterday")
    new = nup_keys.key(2, secret=b"the secret of tomorrow", send=(0.0, math.inf))
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b", key_rings=dict.fromkeys("ab", nup_keys.ring(old)))
    wire.run(2)
    recorder = start_recording(wire, b)
    for ring in (nup_keys.ring(old), nup_keys.ring(old, new), nup_keys.ring(new), None):
        for node in (a, b):
            settings = dataclasses.replace(node.links[1][1], key_ring=ring)
            wire.reconfigure(node, 1, settings)
        wire.originate("a", str(LOOPBACK))
        wire.run(2)
    wire.cut(wire.segments[0])
    text = recorder.text(b.instance, wire.now)
    assert differences(text) == []
    assert old.secret.hex() not in text
    assert new.secret.hex() not in text
    sent = [
        bytes.fromhex(output["data"])
        for line in map(json.loads, text.splitlines())
        for output in line.get("out", ())
        if "data" in output
    ]
    keys = {old.id: old, new.id: new}
    own = b.links[1][1].local_address
    signed = [data for data in sent if isinstance(decode(data).tlvs[-1], Mac)]
    assert {decode(data).tlvs[-1].key_id for data in signed} == keys.keys()  # type: ignore[union-attr]
    for data in signed:
        assert all(signed_by_another(data, key, key, own) is None for key in keys.values())


def test_prefix_tests_of_another_room_are_named_by_the_caller() -> None:
    wire, _, b = pair()
    wire.run(1)
    recorder = start_recording(wire, b)
    test = scalars.prefix_match.read("10.0.0.0/8 le 32")
    b.instance.set_policy(
        Policy(imports=(NeighborRule(prefixes=(test,), set_metric=99),)), wire.now
    )
    text = recorder.text(b.instance, wire.now)
    with pytest.raises(RecordingError, match="PrefixMatch"):
        list(Replay(text).steps())
    assert not [step for step in Replay(text, (PrefixMatch,)).steps() if step.differs]


def test_a_recording_ends_at_its_limit_and_what_it_has_can_be_replayed() -> None:
    wire, _, b = pair()
    wire.run(1)
    recorder = start_recording(wire, b, limit_bytes=30_000)
    wire.originate("a", *many_prefixes(500))
    wire.run(1)
    assert recorder.is_full
    text = recorder.text(b.instance, wire.now)
    assert len(text) < 33_000
    *_, last = Replay(text).steps()
    assert last.text == ("the recording was full",)
    assert differences(text) == []


def test_every_method_that_changes_state_is_an_input() -> None:
    by_an_input = {"receive_datagram", "originate", "withdraw"}
    readers = {
        "adjacency_states", "counters", "is_loaded", "key_rings", "learned", "neighbor_ids",
        "next_hops_of",
        "neighbors", "neighbors_after", "next_timer", "outputs", "pending_adjacencies",
        "record_to", "waiting_for",
    }  # fmt: skip
    methods = {
        name
        for name, member in vars(NeighborInstance).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    assert methods == INPUTS | readers | by_an_input


def test_every_input_of_a_new_instance_is_text_that_a_person_can_read() -> None:
    instance = NeighborInstance(router_id(1), 7, 1000, random.Random(5))
    new = NewInstance(router_id(1), 7, 1000, 5)
    recorder = Recorder(instance, SALT, 0.0, start=new)
    instance.record_to(recorder)
    instance.link_up(link_settings(1, 1), 0.0)
    instance.receive_datagram(heartbeat(2), PEER, 1, 255, 0.5)
    instance.outputs()
    header, up, heard, out, end = map(json.loads, recorder.text(instance, 1.0).splitlines())
    assert header["start"] == {
        "new": {"router_id": "10.255.0.1", "boot_id": 7, "origin_seqno": 1000, "seed": 5}
    }
    assert up["settings"]["local_address"] == "fe80::1:1"
    assert "max_prefixes" not in up["settings"]  # it is the default
    assert heard["datagrams"] == [
        {
            "data": heartbeat(2).hex(), "source": "fe80::2:1", "ifindex": 1, "hop_limit": 255,
            "summary": "HEARTBEAT 1 Hello",
        }
    ]  # fmt: skip
    assert {each["out"] for each in out["out"]} >= {"SendDatagram", "AdjacencyChanged"}
    assert (end["state"]["neighbors"], end["state"]["routes"]) == (1, 0)
    replay = Replay(recorder.text(instance, 1.0))
    assert not [step for step in replay.steps() if step.differs]


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_the_arguments_of_each_input_are_read_as_they_were_written(name: str) -> None:
    arguments = ARGUMENTS[name]
    written = json.loads(json.dumps({"in": name, **write_arguments(name, arguments)}))
    assert read_arguments(written, (PrefixMatch,)) == (name, list(arguments))


@pytest.mark.parametrize("fault", ["missing", "unknown", "other type", "refused"])
def test_an_input_that_is_not_as_declared_is_refused(fault: str) -> None:
    line = {"in": "link_up", **write_arguments("link_up", (link_settings(1, 1), 0.0))}
    match fault:
        case "missing":
            del line["settings"]["mtu"]
        case "unknown":
            line["settings"]["__class__"] = "os"
        case "other type":
            line["settings"]["mtu"] = "1500"
        case "refused":
            line["settings"]["cost"] = 0
    with pytest.raises(RecordingError, match="link_up: settings: "):
        read_arguments(line)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ("no recording", "line 1"),
        ("[]", "not an object"),
        ('{"routed-recording": "3"}', "no recording"),
        ('{"routed-recording": 2}', "format 2, and this release reads format 3"),
        ('{"routed-recording": 4}', "format 4, and this release reads format 3"),
        ('{"routed-recording": 3}', "does not say what"),
        ('{"routed-recording": 3, "start": {"state": "%%%"}}', "damaged"),
        ('{"routed-recording": 3, "start": {"state": "AAAA"}}', "damaged"),
        ('{"routed-recording": 3, "start": {"new": {"router_id": "10.0.0.1"}}}', "boot_id"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_an_invalid_recording_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(RecordingError, match=reason):
        Replay(text)


def packed(*entries: object) -> str:
    """Return a recording with this state."""
    body = base64.b64encode(zlib.compress(json.dumps(entries).encode())).decode()
    return json.dumps({"routed-recording": 3, "start": {"state": body}})


INSTANCE = ["object", "instance.NeighborInstance", {}]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([["object", "os.system", {}]], "nothing to do with 'os.system'"),
        ([["value", "subprocess.Popen", ["true"]]], "nothing to do with"),
        ([["value", "instance.NeighborInstance", [1, 2, 3, 4]]], "no value"),
        ([["object", "prefix.Prefix", {}]], "no object"),
        ([["object", "instance.NeighborInstance", {"stop": 1}]], "no attribute"),
        ([["object", "instance.NeighborInstance", {"__class__": 1}]], "no attribute"),
        ([INSTANCE, ["method", [0], "__init__"]], "has no method"),
        ([INSTANCE, ["method", [0], "router_id"]], "has no method"),
        ([INSTANCE, ["list", []], ["method", [1], "append"]], "has no method"),
        ([INSTANCE, ["tuple", [[1]]]], "holds itself"),
        ([INSTANCE, ["list", [[7]]]], "no entry 7"),
        ([INSTANCE, ["list", [[-1]]]], "no entry -1"),
        ([INSTANCE, *(["tuple", [[number + 2]]] for number in range(50)), INSTANCE], "too deep"),
        ([INSTANCE, ["dict", [[[2], 1]]], ["list", []]], "unhashable"),
        ([INSTANCE, ["prefix", 2, 1, 8]], "host bits"),
        ([INSTANCE, ["random", [1, 2]]], "state"),
        ([INSTANCE, ["pickle", "AAAA"]], "no known kind"),
        ([["list", []]], "not that of a router"),
        ([], "state"),
    ],
)
def test_a_state_names_nothing_but_objects_of_nup(entries: list[object], reason: str) -> None:
    with pytest.raises(RecordingError, match=reason):
        Replay(packed(*entries))


def test_a_state_that_nup_is_never_in_ends_the_replay_with_the_line() -> None:
    text = packed(INSTANCE) + '\n{"in": "handle_timer", "now": 1.0}'
    with pytest.raises(RecordingError, match="line 2: handle_timer: AttributeError"):
        list(Replay(text).steps())


def test_a_state_whose_outputs_cannot_be_written_ends_the_replay_with_the_line() -> None:
    wire, _, b = pair()
    wire.run(1)
    pending: list[object] = b.instance._log._outputs  # type: ignore[assignment]
    pending.append(7)
    recorder = start_recording(wire, b)
    pending.clear()
    wire.run(2)
    with pytest.raises(RecordingError, match=r"line [0-9]+: TypeError"):
        list(Replay(recorder.text(b.instance, wire.now)).steps())


def test_a_state_unpacks_to_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_state, "STATE_BYTES_MAX", 1000)
    with pytest.raises(RecordingError, match="more than 1000 bytes"):
        Replay(packed(INSTANCE, "x" * 1_000_000))


def test_class_names_of_a_state_are_unique_and_cover_what_an_instance_holds() -> None:
    wire, _, b = pair()
    wire.run(3)
    again = load_state(save_state(b.instance, lambda key: key))
    assert save_state(again, lambda key: key) == save_state(b.instance, lambda key: key)
    modules = {cls.__module__ for cls in instance_state._known_classes().values()}
    classes = {
        cls
        for module in modules
        for cls in vars(sys.modules[module]).values()
        if isinstance(cls, type) and cls.__module__ == module
    }
    assert len(classes) == len(instance_state._known_classes())
