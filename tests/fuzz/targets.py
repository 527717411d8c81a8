"""The decoders of bytes from another process or the network, each with its permitted results.

A target accepts any bytes. It returns when they were decoded, or refused in the way that the
decoder documents; any other exception is a finding. Where a decoder has an encoder, the decoded
value is encoded again and must decode to the same; where a decoder exists in C and in Python, both
must agree.

The seeds come from the real encoders, so that a fuzzer starts from well-formed input.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import mmap
import os
import random
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ipc import codec
from ipc.control import (
    REQUEST_CLASSES,
    ControlType,
    LastRows,
    Result,
    ResultCode,
    Role,
    Rows,
    Welcome,
)
from ipc.conversation import ControlError, as_rows, check_welcome, decode_answer
from ipc.extension import native as native_search
from ipc.fib_layout import SnapshotError
from ipc.fib_search import PythonSearch
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    INTERNAL_FRAME_MAX_BYTES,
    Frame,
    IpcError,
    pack_frame,
    unpack_frame,
)
from ipc.snapshot import FibReader
from routectl.iproute import LineError, parse_attributes, parse_prefix, split_line
from routed.config.load import ConfigError, load_text
from routed.engine.injection.journal import Journal, Kept, _committed, fold
from routed.fib.links.codec import decode_address, decode_link
from routed.fib.nexthops.codec import (
    Hop,
    NextHopKind,
    NextHopWrite,
    decode_nexthop,
    encode_nexthop,
)
from routed.fib.routes import codec as route_codec
from routed.fib.routes import extension as fib_extension
from routed.fib.routes.bulk import DumpDecoder, encode_batch
from routed.fib.routes.ownership import RouteValue, TableKey
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.routes.tables import SeenRoute
from routed.fib.rule_codec import decode_rule, encode_rule
from routed.imsg import columns
from routed.imsg.authority import AUTHORITY, AuthorityError, EnginePhase, check_authority
from routed.imsg.authority import ChannelEnd as End
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.model.rule import PolicyRule, RuleAction
from routed.netlink import message as netlink
from routed.nup.instance import NeighborInstance
from routed.nup.recording.recorder import Recorder
from routed.nup.recording.replay import RecordingError, Replay
from routed.nup.recording.saved_state import read_state, save_state
from routed.nup.recording.text import FORMAT, NewInstance
from routed.nup.wire.message import HEADER_BYTES, DecodeError, checksum, decode, encode
from routed.snapshot.writer import FibSnapshot
from tests.fakes.fake_wire import link_settings, router_id
from tests.fakes.fib_writer import add, gathered, hop
from tests.fakes.nup_pair import PEER, heartbeat
from tests.fakes.wired_samples import sample
from tests.fuzz.liveness_targets import LIVENESS_TARGETS
from tests.fuzz.observer_targets import OBSERVER_TARGETS
from tests.fuzz.probe_targets import PROBE_TARGETS
from tests.fuzz.route_targets import ROUTE_TARGETS
from tests.fuzz.target import Target, frame_with, frames_of

__all__ = ["CORPUS", "TARGETS", "Target", "with_right_sums"]

CORPUS = Path(__file__).with_name("corpus")
VECTORS = Path(__file__).parents[1] / "vectors"


# --- the network


def with_right_sums(datagram: bytes) -> bytes:
    """Return the datagram with its length and checksum corrected, so that damage reaches the
    TLVs.
    """
    if len(datagram) < HEADER_BYTES:
        return datagram
    length = struct.pack(">H", len(datagram) - HEADER_BYTES)
    blank = datagram[:12] + length + b"\0\0" + datagram[HEADER_BYTES:]
    return blank[:14] + struct.pack(">H", checksum(blank)) + blank[HEADER_BYTES:]


def _nup_message(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)
    try:
        message = decode(with_right_sums(data))
    except DecodeError:
        return
    again = encode(message)
    assert decode(again) == message
    assert encode(decode(again)) == again


def _nup_vectors() -> Iterator[bytes]:
    for name in ("nup_messages.json", "nup_refusals.json"):
        for vector in json.loads((VECTORS / name).read_text()):
            yield bytes.fromhex(vector["hex"])


def _nup_instance(data: bytes) -> None:
    """Feed datagrams, each after its length (u16), from one of four neighbors: nothing is
    raised.
    """
    instance = NeighborInstance(router_id(1), 1, 1000, random.Random(1))
    instance.link_up(link_settings(1, 1), 0.0)
    now, at = 0.0, 0
    while at + 2 <= len(data) and now < 4.0:
        (length,) = struct.unpack_from(">H", data, at)
        datagram = data[at + 2 : at + 2 + (length & 0x7FF)]
        source = Address(Family.IPV6, (0xFE80 << 112) + 2 + (length >> 14))
        at += 2 + (length & 0x7FF)
        now += 0.02
        instance.receive_datagram(with_right_sums(datagram), source, 1, 255, now)
        instance.handle_timer(now)
        instance.outputs()


def _nup_sequences() -> Iterator[bytes]:
    vectors = list(_nup_vectors())
    for vector in vectors:
        yield struct.pack(">H", len(vector)) + vector
    yield b"".join(struct.pack(">H", len(vector)) + vector for vector in vectors)


# --- frames between our own processes


_IMSG = {int(number): authority.message for number, authority in AUTHORITY.items()}
_REQUESTS: dict[int, type] = {int(number): each for number, each in REQUEST_CLASSES.items()}


def _authority(data: bytes) -> None:
    """Check frames from the engine, phase by phase: they are accepted or refused before a body
    is decoded.
    """
    for phase in EnginePhase:
        for has_descriptor in (False, True):
            with contextlib.suppress(IpcError, AuthorityError):
                frame = unpack_frame(data, INTERNAL_FRAME_MAX_BYTES)
                check_authority(frame.type, End.ENGINE, phase, has_descriptor=has_descriptor)


def _answers(data: bytes) -> None:
    """Decode a client's input from the process that listens at the daemon's path."""
    with contextlib.suppress(IpcError, ControlError):
        message = decode_answer(unpack_frame(data, CONTROL_FRAME_MAX_BYTES))
        with contextlib.suppress(ControlError):
            check_welcome(message, "socket")
        if not isinstance(message, Result):
            as_rows(message)


def _answer_seeds() -> Iterator[bytes]:
    answers: tuple[tuple[ControlType, object], ...] = (
        (ControlType.HELLO, Welcome(1, "1.0", "10.0.0.1", Role.READ)),
        (ControlType.ROWS, Rows(("prefix", "metric"), (("10.0.0.0/8", 5), ("::/0", None)))),
        (ControlType.LAST_ROWS, LastRows(("a",), (([{"via": "fe80::1"}],),))),
        (ControlType.RESULT, Result(ResultCode.USAGE, ("a line", "another"))),
    )
    for number, message in answers:
        yield pack_frame(Frame(number, 7, codec.encode(message)), CONTROL_FRAME_MAX_BYTES)


def _columns(data: bytes) -> None:
    """Thousands of prefixes: C and Python refuse and accept the same."""
    if not data:
        return
    family = Family.IPV6 if data[0] & 1 else Family.IPV4
    column = data[1:]
    try:
        keys: Sequence[int] | None = columns.unpack_keys(family, column)
    except columns.ColumnError:
        keys = None
    native = fib_extension.native
    width = 8 if family is Family.IPV4 else 17
    if native is not None and len(column) % width == 0:
        assert (native.check_keys(column, family.width // 8) < 0) is (keys is not None)
    if keys is not None:
        assert columns.pack_keys(family, keys) == column


def _column_seeds() -> Iterator[bytes]:
    for family, texts in (
        (Family.IPV4, ("10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0")),
        (Family.IPV6, ("2001:db8::/32", "::/0", "fe80::1/128")),
    ):
        keys = [Prefix.parse(text).as_int for text in texts]
        yield bytes((family is Family.IPV6,)) + columns.pack_keys(family, keys)


def _journal(data: bytes) -> None:
    """Read an earlier engine's journal: unchanged, and with corrected checks."""
    _committed(data)
    _, records = _committed(_with_right_checks(data))
    with contextlib.suppress(IpcError):
        for kept in fold(records, 10.0):
            assert isinstance(kept, Kept)


def _with_right_checks(data: bytes) -> bytes:
    """Return the frames with their checks corrected: kind, length, CRC-32, body."""
    frames, at = [], 0
    while at + 9 <= len(data):
        kind, length = struct.unpack_from(">BI", data, at)
        body = data[at + 9 : at + 9 + length]
        frames.append(struct.pack(">BII", kind, len(body), zlib.crc32(body)) + body)
        at += 9 + len(body)
    return b"".join(frames)


def _journal_seeds() -> Iterator[bytes]:
    descriptors = [os.memfd_create(f"journal-{number}") for number in range(2)]
    journal = Journal(descriptors, lambda _why: None)
    try:
        journal.restore(0.0)
        for seed in range(4):
            journal.append(sample(Kept, random.Random(seed)), 1.0)
        for descriptor in descriptors:
            yield os.pread(descriptor, 1 << 16, 0)
    finally:
        journal.close()


def _replay(data: bytes) -> None:
    """Replay a recording that was sent with a report."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    with contextlib.suppress(RecordingError):
        for _step in Replay(text).steps():
            pass


def _recording_seeds() -> Iterator[bytes]:
    """Return a recording that begins with a new instance, and one that begins with a saved
    state.
    """
    for start in (NewInstance(router_id(1), 1, 1000, 1), None):
        instance = NeighborInstance(router_id(1), 1, 1000, random.Random(1))
        recorder = Recorder(instance, bytes(16), 0.0, start=start)
        instance.record_to(recorder)
        instance.link_up(link_settings(1, 1), 0.0)
        instance.receive_datagram(heartbeat(2), PEER, 1, 255, 0.5)
        instance.outputs()
        yield recorder.text(instance, 1.0).encode()


def _replay_state(data: bytes) -> None:
    """Load the state that a recording begins with, unpacked, because damage to packed data
    stops earlier.
    """
    packed = base64.b64encode(zlib.compress(data)).decode()
    lines: tuple[dict[str, object], ...] = (
        {"routed-recording": FORMAT, "at": 0.0, "start": {"state": packed}},
        {"in": "handle_timer", "now": 1.0},
        {"out": []},
        {"in": "handle_timer", "now": 60.0},
        {"end": "complete", "at": 60.0, "state": {}},
    )
    _replay("\n".join(map(json.dumps, lines)).encode())


def _state_seeds() -> Iterator[bytes]:
    instance = NeighborInstance(router_id(1), 1, 1000, random.Random(1))
    instance.link_up(link_settings(1, 1), 0.0)
    instance.receive_datagram(heartbeat(2), PEER, 1, 255, 0.5)
    yield json.dumps(read_state(save_state(instance, lambda key: key))).encode()


# --- the kernel


def _netlink(data: bytes) -> None:
    """Decode a buffer of notifications."""
    with contextlib.suppress(netlink.NetlinkDecodeError):
        for message in netlink.split_messages(data):
            for one in _NETLINK_DECODERS:
                with contextlib.suppress(netlink.NetlinkDecodeError):
                    one(message)


_NETLINK_DECODERS: tuple[Callable[[netlink.NetlinkMessage], object], ...] = (
    lambda message: route_codec.decode_route(message.payload),
    decode_link,
    decode_address,
    decode_nexthop,
    decode_rule,
    netlink.decode_error,
)


def _netlink_seeds() -> Iterator[bytes]:
    hops = (
        NextHop(Address.parse("192.0.2.1"), 2, 3),
        NextHop(Address.parse("fe80::1"), 3, 1, is_onlink=True),
    )
    for family, prefix in ((Family.IPV4, "10.0.0.0/8"), (Family.IPV6, "2001:db8::/32")):
        table_key = TableKey(1000, family, 0, 205)
        keys = [Prefix.parse(prefix).as_int] * 3
        of_family = hops[1:] if family is Family.IPV6 else hops
        for value in (
            RouteValue.canonical(RouteType.UNICAST, of_family),
            RouteValue(RouteType.BLACKHOLE, ()),
            RouteValue(RouteType.UNICAST, (), 205_000_001),
        ):
            yield encode_batch(FibBatch(OpKind.INSTALL, table_key, keys, [value] * 3), 205, 1)
    hop = Hop(Address.parse("192.0.2.1"), 2)
    yield encode_nexthop(NextHopWrite(NextHopKind.INSTALL, 205_000_001, hop), 205, 1)
    group = ((205_000_001, 2), (205_000_002, 256))
    yield encode_nexthop(NextHopWrite(NextHopKind.INSTALL, 205_000_003, group), 205, 1)
    rule = PolicyRule(
        Family.IPV4, 1000, RuleAction.LOOKUP, 100, Prefix.parse("10.0.0.0/8"), None, "eth0", None,
        1, 255,
    )  # fmt: skip
    yield encode_rule(rule, 205, 1, is_removal=False)
    attribute = netlink.pack_attribute(3, b"eth0\0") + netlink.pack_u32_attribute(4, 1500)
    yield netlink.pack_message(16, 0, 1, struct.pack("=BxHiII", 0, 1, 2, 0x11043, 0) + attribute)
    local = netlink.pack_attribute(1, bytes(4)) + netlink.pack_attribute(2, b"\xc0\0\2\1")
    yield netlink.pack_message(20, 0, 1, struct.pack("=BBBBi", 2, 24, 0, 0, 2) + local)


def _dump(data: bytes) -> None:
    """Decode a page of a route dump: C and Python read the same, or both refuse it."""
    if not data:
        return
    family = Family.IPV6 if data[0] & 1 else Family.IPV4
    found = [_read_dump(family, data[1:], native) for native in _implementations()]
    assert all(each == found[0] for each in found)


def _implementations() -> list[object]:
    return [None] if fib_extension.native is None else [None, fib_extension.native]


def _read_dump(family: Family, page: bytes, native: object) -> object:
    rows: list[tuple[SeenRoute, int]] = []
    decoder = DumpDecoder(family, 1, lambda seen, keys: rows.extend((seen, key) for key in keys))
    before = fib_extension.native
    fib_extension.native = native  # type: ignore[assignment]
    try:
        decoder.page(page)
    except netlink.NetlinkDecodeError:
        return None
    finally:
        fib_extension.native = before
    return sorted(rows, key=repr), decoder.is_interrupted, decoder.end


def _dump_seeds() -> Iterator[bytes]:
    for buffer in _netlink_seeds():
        yield b"\0" + buffer
        yield b"\1" + buffer


# --- shared memory


@functools.cache
def _image() -> bytes:
    """Return a snapshot of a small table, to be damaged."""
    snapshot = FibSnapshot(Address.parse("10.255.0.1"), 1, trie_words=800_000, data_words=12_000)
    changes = [
        add("0.0.0.0/0"), add("10.0.0.0/8", hop("192.0.2.1")), add("10.1.0.0/16", hop(None)),
        add("10.1.2.0/24", hop("192.0.2.1"), hop("192.0.2.2", 3, 7)), add("2001:db8::/32"),
    ]  # fmt: skip
    snapshot.apply(gathered(changes), lambda ifindex: f"eth{ifindex}", 10**9)
    image = os.pread(snapshot.fileno(), os.fstat(snapshot.fileno()).st_size, 0)
    snapshot.close()
    return image


@functools.cache
def _live_words() -> list[int]:
    """Return the positions of the words that are not zero; a reader reads no others."""
    return [index for index, word in enumerate(memoryview(_image()).cast("I")) if word]


def _snapshot(data: bytes) -> None:
    """Change words in a snapshot (u16 which, u32 value each): the result is an answer or
    SnapshotError.
    """
    live = _live_words()
    for make in (PythonSearch, *([] if native_search is None else [native_search.Search])):
        memory = mmap.mmap(-1, len(_image()))
        memory[:] = _image()
        with memoryview(memory) as view, view.cast("I") as words:
            for which, value in struct.iter_unpack("<HI", data[: len(data) // 6 * 6]):
                words[live[which % len(live)]] = value
        with contextlib.suppress(SnapshotError), FibReader(memory, search=make) as reader:
            _search_everything(reader)


def _search_everything(reader: FibReader) -> None:
    for address in ("10.1.2.3", "192.0.2.1", "2001:db8::1", "::1"):
        with contextlib.suppress(SnapshotError):
            reader.lookup(address)
    with contextlib.suppress(SnapshotError):
        reader.lookup_many(array("I", [0x0A010203, 0xC0000201] * 12), 4)
    with contextlib.suppress(SnapshotError):
        for _route in itertools.islice(reader.routes(), 64):
            pass


def _snapshot_seeds() -> Iterator[bytes]:
    yield b""
    for which in range(64):
        yield struct.pack("<HI", which, 1)


# --- files and lines of users


def _import_line(data: bytes) -> None:
    line = data.decode("utf-8", "replace")
    with contextlib.suppress(LineError):
        prefix, rest = split_line(line)
        parse_prefix(prefix)
        parse_attributes(rest)


def _import_seeds() -> Iterator[bytes]:
    yield b"default via 192.0.2.1 dev eth0 proto dhcp metric 100"
    yield b"blackhole 198.51.100.0/24 metric 5"
    yield b"203.0.113.0/24 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via fe80::1 dev eth1"
    yield b"2001:db8::/32 via fe80::1 dev eth0 tag 7 metric 1024 pref medium"


def _config(data: bytes) -> None:
    """Load a configuration: the result is a Config or its list of problems."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ConfigError):
        load_text(text)


def _config_seeds() -> Iterator[bytes]:
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")):
        yield path.read_bytes()
    yield b"router_id: 10.255.0.1\nstatic: [{prefix: 10.0.0.0/8, type: blackhole}]\n"


TARGETS: dict[str, Target] = {
    "nup_message": Target(_nup_message, _nup_vectors, 1500),
    "nup_instance": Target(_nup_instance, _nup_sequences, 8192),
    "imsg_frame": Target(
        frame_with(_IMSG, INTERNAL_FRAME_MAX_BYTES), frames_of(_IMSG, INTERNAL_FRAME_MAX_BYTES)
    ),
    "imsg_authority": Target(_authority, frames_of(_IMSG, INTERNAL_FRAME_MAX_BYTES)),
    "control_request": Target(
        frame_with(_REQUESTS, CONTROL_FRAME_MAX_BYTES),
        frames_of(_REQUESTS, CONTROL_FRAME_MAX_BYTES),
    ),
    "control_answer": Target(_answers, _answer_seeds),
    "prefix_columns": Target(_columns, _column_seeds),
    "injection_journal": Target(_journal, _journal_seeds),
    "recording": Target(_replay, _recording_seeds, 65536),
    "recording_state": Target(_replay_state, _state_seeds, 65536),
    "netlink_messages": Target(_netlink, _netlink_seeds),
    "route_dump": Target(_dump, _dump_seeds),
    "snapshot": Target(_snapshot, _snapshot_seeds, 600),
    "import_line": Target(_import_line, _import_seeds, 512),
    "config": Target(_config, _config_seeds, 8192),
    **LIVENESS_TARGETS,
    **OBSERVER_TARGETS,
    **PROBE_TARGETS,
    **ROUTE_TARGETS,
}
"""The targets by name, which is that of the folder in the corpus."""
