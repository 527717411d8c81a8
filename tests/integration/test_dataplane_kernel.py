"""The programs in the real kernel: what they count, and that no frame changes their verdict."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from routed.config.schema import DataplaneConfig
from routed.dataplane.activity import Activity
from routed.dataplane.counters import LinkCounters
from routed.dataplane.flows import PARTS, EndReason, Flow, FlowTable, Timeouts
from routed.dataplane.kernel import AttachType, Kernel, MappedArray, VerifierError
from routed.dataplane.layout import (
    DIRECTIONS,
    KINDS,
    RING,
    RING_BYTES,
    ROOT4,
    Sizes,
    sizes_for,
)
from routed.dataplane.loader import LoadedPrograms, load_programs, possible_processors
from routed.dataplane.places import Places
from routed.dataplane.programs import LICENSE, PROGRAMS
from routed.model.dataplane import DataplaneReason
from routed.model.prefix import Family
from routed.parent.dataplane import load_dataplane
from routed.sandbox.capabilities import Capability, keep_only
from routed.snapshot.parts import make_tries
from tests.fakes.fake_bpf import FakeBpf
from tests.fakes.frames import CASES, frame, ipv4, ipv6
from tests.fakes.kernels import Namespace
from tests.fakes.lpm_oracle import LpmOracle

pytestmark = pytest.mark.root

PASS = -1
"""TCX_NEXT: the next program, and then the kernel, handle the packet."""

LOOPBACK = 1
RETURN_NO_ADDRESS = bytes([0xBF, 0x10]) + bytes(6) + bytes([0x95]) + bytes(7)
"""`r0 = r1; exit`: the program returns the address of its context, which the verifier refuses."""


class Scene:
    """Programs that are loaded and not attached; frames are passed to them directly."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        self.kernel = Kernel()
        self.sizes = sizes or sizes_for(possible_processors(), 0)
        self.loaded: LoadedPrograms = load_programs(
            self.kernel, self.sizes, PROGRAMS, LICENSE, has_statistics=False
        )
        array_bytes = self.sizes.array_bytes
        arrays = self.loaded.arrays
        self.mapped = [
            MappedArray(arrays[name], array_bytes[name], is_writable=True)
            for name in ("places", "links")
        ]
        self.places = Places(self.mapped[0].memory)
        self.counters = LinkCounters(self.mapped[1].memory, self.sizes.processors)
        assert self.places.add(LOOPBACK, 3, 14)

    def close(self) -> None:
        self.loaded.close()

    def run(self, name: str, content: bytes) -> tuple[int, bytes]:
        result = self.kernel.test_run(self.loaded.programs[name], content)
        return result.verdict, result.frame


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with closing(Scene()) as built:
        yield built


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("direction", range(len(DIRECTIONS)))
def test_a_frame_is_counted_once_by_its_protocol_and_size(
    scene: Scene, name: str, direction: int
) -> None:
    content, family, kind = CASES[name]
    scene.counters.clear(3)
    assert scene.run(DIRECTIONS[direction], content) == (PASS, content)
    ((found_family, found_kind, count),) = scene.counters.protocols(3, direction)
    assert (found_family, found_kind) == (family, kind)
    assert count == (1, len(content))
    assert sum(packets for _, packets in scene.counters.sizes(3, direction)) == 1
    assert scene.counters.total(3, 1 - direction) == (0, 0)


@pytest.mark.parametrize("name", CASES)
def test_every_truncation_passes_and_is_counted_once(scene: Scene, name: str) -> None:
    content, _, _ = CASES[name]
    scene.counters.clear(3)
    lengths = range(15, len(content) + 1)
    run = []
    for length in lengths:
        try:
            assert scene.run("received", content[:length]) == (PASS, content[:length])
            run.append(length)
        except OSError as error:  # the kernel creates no frame that ends inside a network header
            if error.errno != errno.EINVAL or length >= _SHORTEST:
                raise
    assert run[-1] == len(content)
    assert scene.counters.total(3, 0) == (len(run), sum(run))


def test_frames_of_every_length_are_counted_on_a_real_link(
    scene: Scene, namespace: Namespace
) -> None:
    """These include the frames that a test run of the kernel refuses: a raw socket sends them."""
    frames = [
        content[:length]
        for content, _, _ in CASES.values()
        for length in range(14, len(content) + 1)
    ]
    scene.counters.clear(4)
    with namespace.there.inside(), closing(_raw_socket("w0")) as sender:
        ifindex = socket.if_nametoindex("w0")
        assert scene.places.add(ifindex, 4, 14)
        link = scene.kernel.attach(scene.loaded.programs["sent"], ifindex, AttachType.TCX_EGRESS)
        try:
            for content in frames:
                sender.send(content)
            # The link's own neighbor discovery adds a few frames.
            assert scene.counters.total(4, 1).packets >= len(frames)
            seen = {(family, kind) for family, kind, _ in scene.counters.protocols(4, 1)}
            assert seen >= {(family, kind) for _, family, kind in CASES.values()}
        finally:
            scene.kernel.detach(link)
            scene.places.remove(ifindex)


_SHORTEST = 14 + 40


def _raw_socket(ifname: str) -> socket.socket:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind((ifname, 0))
    return sender


def test_random_and_mutated_frames_pass_unchanged(scene: Scene) -> None:
    rng = random.Random(15)
    samples = [content for content, _, _ in CASES.values()]
    scene.counters.clear(3)
    for _ in range(3000):
        content = bytearray(rng.choice(samples))
        for _ in range(rng.randrange(1, 9)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        assert scene.run("sent", bytes(content)) == (PASS, bytes(content))
    assert scene.counters.total(3, 1).packets == 3000


@pytest.mark.parametrize(
    ("size", "position"),
    [(64, 0), (65, 1), (127, 1), (128, 2), (256, 3), (1023, 4), (1024, 5), (1518, 5), (1519, 6),
     (3000, 6)],
)  # fmt: skip
def test_sizes_are_classified(scene: Scene, size: int, position: int) -> None:
    scene.counters.clear(3)
    scene.run("received", frame(0x88CC, bytes(size - 14)))
    assert [packets for _, packets in scene.counters.sizes(3, 0)].index(1) == position


def test_an_interface_without_a_slot_is_not_counted(scene: Scene) -> None:
    scene.counters.clear(3)
    scene.places.remove(LOOPBACK)
    try:
        assert scene.run("received", CASES["tcp"][0]) == (PASS, CASES["tcp"][0])
        assert scene.counters.total(3, 0) == (0, 0)
    finally:
        assert scene.places.add(LOOPBACK, 3, 14)


def test_every_kind_has_a_frame() -> None:
    kinds = {kind for _, _, kind in CASES.values()}
    assert kinds <= set(KINDS)
    assert {"other", "malformed", "icmp", "tcp", "udp", "arp"} <= kinds


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [(2, "igmp"), (4, "tunnel"), (41, "tunnel"), (47, "gre"), (50, "esp"), (51, "ah"),
     (89, "ospf"), (103, "pim"), (112, "vrrp"), (132, "sctp")],
)  # fmt: skip
def test_protocols_have_names(scene: Scene, protocol: int, kind: str) -> None:
    scene.counters.clear(3)
    scene.run("received", frame(0x0800, ipv4(protocol)))
    ((_, found, _),) = scene.counters.protocols(3, 0)
    assert found == kind


# --- flows


TAG_CLOSING = 1


class FlowScene(Scene):
    """The same, with flows: 8 sets of each processor."""

    def __init__(self) -> None:
        super().__init__(sizes_for(possible_processors(), 0, 8 * 8 * possible_processors()))
        self.memory = {
            name: MappedArray(
                self.loaded.arrays[name], self.sizes.array_bytes[name], is_writable=True
            ).memory
            for name in ("flows", "tags", "ended", "rings", "activity")
        }
        self.now_ns = time.monotonic_ns()
        self.table = self.open_table()

    def open_table(self) -> FlowTable:
        """As an observer does when it begins."""
        arrays = {name: view for name, view in self.memory.items() if name != "activity"}
        return FlowTable(arrays, self.sizes, Activity(self.memory["activity"]), lambda: None)

    def current(self) -> list[Flow]:
        return [flow for flows in self.table.current() for flow in flows]

    def end_all(self) -> list[tuple[Flow, EndReason]]:
        """Have every flow end: a sweep of each part marks, and the next one reads."""
        at_once = Timeouts(0, 0)
        found: list[tuple[Flow, EndReason]] = []
        for _ in range(PARTS + 1):
            found += self.table.sweep(time.monotonic_ns(), at_once)
        return found


@pytest.fixture
def flow_scene() -> Iterator[FlowScene]:
    with closing(FlowScene()) as built:
        yield built


def udp4(source_port: int, port: int, size: int = 20) -> bytes:
    return frame(0x0800, ipv4(17, struct.pack("!HH", source_port, port) + bytes(size - 4)))


def test_a_flow_has_addresses_ports_flags_and_every_packet(flow_scene: FlowScene) -> None:
    tcp = struct.pack("!HHII", 40_000, 443, 1, 1)
    packets = [frame(0x86DD, ipv6(6, tcp + bytes([0x50, flags]) + bytes(6))) for flags in (2, 16)]
    for content in packets:
        assert flow_scene.run("received", content) == (PASS, content)
    (flow,) = flow_scene.current()
    assert str(flow.source_address) == "2001:db8::1"
    assert str(flow.destination_address) == "2001:db8::2"
    assert (flow.source_port, flow.destination_port, flow.protocol) == (40_000, 443, 6)
    assert (flow.packets, flow.bytes) == (2, sum(len(content) - 14 for content in packets))
    assert flow.tcp_flags == 18
    assert (flow.received_ifindex, flow.sent_ifindex) == (LOOPBACK, 0)
    assert flow_scene.now_ns - 10**9 <= flow.first_ns <= flow.last_ns <= time.monotonic_ns()
    flow_scene.run("sent", packets[0])  # of this host: another flow
    assert {(flow.received_ifindex, flow.sent_ifindex) for flow in flow_scene.current()} == {
        (LOOPBACK, 0), (0, LOOPBACK),
    }  # fmt: skip


def test_the_bytes_of_a_flow_are_those_of_ip(flow_scene: FlowScene) -> None:
    """Neither link headers, nor VLAN tags, nor the padding of a short frame."""
    body = ipv4(17, struct.pack("!HHHH", 5, 6, 8, 0))
    flow_scene.run("received", frame(0x0800, body) + bytes(18))
    flow_scene.run("received", frame(0x0800, body, 0x8100))
    (flow,) = flow_scene.current()
    assert (flow.packets, flow.bytes) == (2, 2 * 28)


@pytest.mark.parametrize(
    ("content", "ports"),
    [
        (udp4(1234, 53), (1234, 53)),
        (frame(0x0800, ipv4(1, bytes([8, 3]) + bytes(18))), (0, 0x0803)),
        (frame(0x0800, ipv4(17, bytes(range(20)), fragment=0x0010)), (0, 0)),
        (frame(0x0800, ipv4(47, bytes(range(20)))), (0, 0)),
        (CASES["later fragment"][0], (0, 0)),
    ],
    ids=["udp", "icmp", "later fragment of ipv4", "gre", "later fragment of ipv6"],
)
def test_ports_are_those_of_the_first_fragment(
    flow_scene: FlowScene, content: bytes, ports: tuple[int, int]
) -> None:
    flow_scene.run("received", content)
    (flow,) = flow_scene.current()
    assert (flow.source_port, flow.destination_port) == ports


def test_every_packet_is_in_one_flow_whatever_is_displaced_or_closed(
    flow_scene: FlowScene,
) -> None:
    """Many more flows than places; the observer closes some, dies, and another one goes on."""
    rng = random.Random(15)
    sent: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    reasons: set[EndReason] = set()
    for round_ in range(60):
        for _ in range(60):
            port = rng.randrange(1, 600)
            flow_scene.run("received", udp4(port, 53))
            sent[port] += 1
        if round_ % 20 == 19:
            flow_scene.table = flow_scene.open_table()
        timeouts = Timeouts(10**12, rng.choice([0, 10**12]))
        for _ in range(2 * PARTS):
            for flow, reason in flow_scene.table.sweep(time.monotonic_ns(), timeouts):
                seen[flow.source_port] += flow.packets
                reasons.add(reason)
            if round_ % 20 != 18 or TAG_CLOSING in flow_scene.memory["tags"].cast("Q").tolist():
                break  # the next observer is to find places that this one has marked
            timeouts = Timeouts(10**12, 0)
    for flow, _ in flow_scene.end_all():
        seen[flow.source_port] += flow.packets
    # A packet that finds its whole set closing has no place: it is lost, and counted.
    counts = flow_scene.table.counts
    assert seen <= sent
    assert (sent - seen).total() == counts.lost_packets == counts.lost_flows
    assert {EndReason.ACTIVE, EndReason.DISPLACED, EndReason.FORCED} <= reasons
    assert flow_scene.current() == []
    assert counts.begun >= len(seen)


def test_what_a_full_ring_loses_is_counted(flow_scene: FlowScene) -> None:
    tail = struct.Struct("=Q")
    for processor in range(flow_scene.sizes.processors):  # as if the observer had stopped reading
        head = tail.unpack_from(flow_scene.memory["rings"], RING_BYTES * processor)[0]
        tail.pack_into(
            flow_scene.memory["rings"], RING_BYTES * processor + 8, (head - RING) % 2**64
        )
    flows = 1000
    for port in range(1, flows + 1):
        flow_scene.run("received", udp4(port, 53))
    kept = len(flow_scene.current())
    counts = flow_scene.table.counts
    assert (counts.begun, counts.lost_flows, counts.lost_packets) == (
        flows, flows - kept, flows - kept,
    )  # fmt: skip
    assert 0 < kept <= 8 * 8 * flow_scene.sizes.processors


@pytest.mark.parametrize("name", CASES)
def test_hostile_frames_pass_with_flows_too(flow_scene: FlowScene, name: str) -> None:
    content, _, kind = CASES[name]
    for length in range(_SHORTEST, len(content) + 1):
        for direction in DIRECTIONS:
            cut = content[:length]
            assert flow_scene.run(direction, cut) == (PASS, cut)
    if kind == "malformed":
        assert [flow for flow in flow_scene.current() if flow.protocol == 253] == []


# --- routes


def destination_frame(prefix_family: Family, addr_bits: int) -> bytes:
    if prefix_family is Family.IPV4:
        head = bytearray(ipv4(17))
        head[16:20] = addr_bits.to_bytes(4, "big")
        return frame(0x0800, bytes(head))
    head = bytearray(ipv6(17))
    head[24:40] = addr_bits.to_bytes(16, "big")
    return frame(0x86DD, bytes(head))


def is_routed(family: Family, addr_bits: int) -> bool:
    """Whether routes apply to an address: it is not multicast, broadcast or link-local."""
    if family is Family.IPV4:
        return addr_bits >> 28 < 14
    return addr_bits >> 120 != 0xFF and addr_bits >> 118 != 0x3FA


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("seed", range(3))
def test_the_program_finds_the_same_longest_match_as_a_dictionary(
    family: Family, seed: int
) -> None:
    """The tables are random and nested, written by the daemon's own writer, before and after
    changes.
    """
    rng = random.Random(seed)
    kernel, sizes = Kernel(), sizes_for(possible_processors(), 10_000)
    with closing(load_programs(kernel, sizes, PROGRAMS, LICENSE, has_statistics=False)) as loaded:
        mapped = {
            name: MappedArray(loaded.arrays[name], sizes.array_bytes[name], is_writable=True)
            for name in ("places", "words", "routes")
        }
        assert Places(mapped["places"].memory).add(LOOPBACK, 0, 14)
        words = mapped["words"].memory.cast("I")
        counts = mapped["routes"].memory.cast("Q")
        _, tries = make_tries(words, ROOT4, len(words))
        oracle = LpmOracle(family.width)
        runs = 0
        for _ in range(3):
            changes = random_changes(rng, oracle, 600)
            tries[family].update([key for key, _ in changes], array("I", (v for _, v in changes)))
            addresses = sorted(oracle.interesting_addresses())
            for addr_bits in rng.sample(addresses, min(800, len(addresses))):
                wanted = oracle.lookup(addr_bits) if is_routed(family, addr_bits) else 0
                before = counts[4 * wanted : 4 * wanted + 2].tolist()
                content = destination_frame(family, addr_bits)
                assert kernel.test_run(loaded.programs["received"], content).verdict == PASS
                after = counts[4 * wanted : 4 * wanted + 2].tolist()
                assert after == [before[0] + 1, before[1] + len(content)]
                runs += 1
        assert sum(counts[0::4]) == runs  # and nothing else was counted


def random_changes(rng: random.Random, oracle: LpmOracle, count: int) -> list[tuple[int, int]]:
    """Add nested prefixes to a dictionary, or remove some. Returns the changes in order."""
    changes: dict[int, int] = {}
    for value in range(1, count):
        length = rng.randint(1, oracle.width)
        near = rng.choice([*oracle.prefixes, (rng.getrandbits(oracle.width), 0)])[0]
        bits = near ^ rng.getrandbits(rng.choice([4, 12, oracle.width]))
        host_bits = oracle.width - length
        network = bits >> host_bits << host_bits
        is_removed = (network, length) in oracle.prefixes and rng.random() < 0.5
        if is_removed:
            oracle.remove(network, length)
        else:
            oracle.put(network, length, value)
        changes[network << 8 | length] = 0 if is_removed else value
    return sorted(changes.items())


# --- the system calls, and the fake that replaces them elsewhere


@pytest.fixture(params=["fake", "real"])
def kernel(request: pytest.FixtureRequest, namespace: Namespace) -> Iterator[Kernel]:
    """Both kernels, each in a namespace with the links v0 and v1."""
    with namespace.here.inside():
        if request.param == "real":
            yield Kernel()
            return
        fake = FakeBpf()
        fake.missing.add(999)
        fake.types["lo"] = 772
        yield fake


def test_programs_are_attached_not_replaced_and_detached(
    kernel: Kernel, namespace: Namespace
) -> None:
    ifindex = namespace.ifindexes["v0"]
    sizes = sizes_for(possible_processors(), 0)
    with closing(load_programs(kernel, sizes, PROGRAMS, LICENSE, has_statistics=False)) as loaded:
        program = loaded.programs["received"]
        where = AttachType.TCX_INGRESS
        assert kernel.attached(ifindex, where) == ()
        link = kernel.attach(program, ifindex, where)
        other = kernel.attach(program, namespace.ifindexes["v1"], where)
        assert kernel.attached(ifindex, where) == (kernel.program_info(program).id,)
        assert kernel.attached(ifindex, AttachType.TCX_EGRESS) == ()
        kernel.detach(link)
        assert kernel.attached(ifindex, where) == ()
        kernel.detach(other)
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
            kernel.attach(program, 999, where)
        assert kernel.link_type("v0") == 1
        assert kernel.link_type("lo") == 772
        assert loaded.code_bytes["sent"] > 0


def test_the_verifiers_reason_is_reported() -> None:
    with pytest.raises(VerifierError, match=r"\w"):
        Kernel().load_program("leaky", bytes(8), LICENSE)


def test_an_array_is_mapped_by_both_sides() -> None:
    descriptor = Kernel().create_array("shared", 8192)
    writer = MappedArray(descriptor, 8192, is_writable=True)
    reader = MappedArray(descriptor, 8192, is_writable=False)
    os.close(descriptor)
    writer.memory[5000] = 7
    assert reader.memory[5000] == 7
    with pytest.raises(TypeError):
        reader.memory[0] = 1
    writer.close()
    assert reader.memory[5000] == 7
    reader.close()


def test_a_constant_array_cannot_be_mapped() -> None:
    descriptor = Kernel().create_array("constant", 20, bytes(20))
    try:
        with pytest.raises(OSError, match=r"\w"):
            MappedArray(descriptor, 20, is_writable=False)
    finally:
        os.close(descriptor)


def test_statistics_count_and_time_runs(scene: Scene) -> None:
    program = scene.loaded.programs["sent"]
    before = scene.kernel.program_info(program).runs
    statistics = scene.kernel.enable_statistics()
    scene.kernel.test_run(program, CASES["tcp"][0], repeat=100)
    os.close(statistics)
    info = scene.kernel.program_info(program)
    assert info.runs - before == 100
    assert info.run_ns > 0


def test_without_the_capability_loading_is_refused_with_its_name() -> None:
    """The test runs in a child, because a capability that was dropped does not return."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            keep_only({Capability.NET_ADMIN})
            loaded = load_dataplane(DataplaneConfig(interfaces=("eth0",)))
            status = 0 if loaded.reason is DataplaneReason.NO_CAPABILITY else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
