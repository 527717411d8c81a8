"""What went into the protocol, written down so that it can be lived through again.

The core has no clock, no socket and no randomness of its own: its state and its inputs, with their
times, determine everything that it does. So a recording is a picture of the state at the moment
that it began, every input since, and what came out each time; a replay (`Replay`) feeds the inputs
to the picture and holds what comes out against what came out then. What a daemon did in somebody's
network can be looked at step by step on another machine, and a recording of a fault, once mended,
is a test.

A recording is text, one JSON object a line:

    {"routed-recording": 2, "at": 81230.5, "router_id": "10.255.0.1"}
    {"state": "..."}                                     the picture
    {"in": "receive_burst", "says": "...", "args": "..."}    an input, in words and in full
    {"out": ["..."]}                                     what was drained then, in words
    {"end": "complete", "state": "..."}                  the digest of what `show` would say

Picture and arguments are Python pickles of this room's own classes, compressed, in base64. Reading
one runs no code but the constructors of those classes: `_Reader` knows no others, so that a
recording can be taken from strangers.

Secrets never get into a recording. Each is replaced by one that is derived from it by a salt which
is forgotten; datagrams that were signed rightly are signed again by the stand-in, and those that
were not stay as they are. So a replay judges each signature as the original did. The state of the
random generator is recorded: whoever has the recording could foretell jitter and session numbers,
and the caller should seed the generator anew when it ends.

Failure: a text that is no recording, or of another version, is `RecordingError`.

Bounds: a recording ends by itself, marked "full", at the limit that it was given.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import inspect
import io
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from routed.model.prefix import Prefix
from routed.neighbor.auth import signed_by_another, unsigned_part
from routed.neighbor.events import Datagram, LinkSettings, Output, SendDatagram
from routed.neighbor.keys import AuthKey, KeyRing
from routed.neighbor.wire import DecodeError, decode

if TYPE_CHECKING:
    from routed.neighbor.instance import NeighborInstance

__all__ = ["LIMIT_BYTES", "Recorder", "RecordingError", "Replay", "Step"]

FORMAT = 2
LIMIT_BYTES = 32 << 20
STATE_BYTES_MAX = 8 * LIMIT_BYTES
"""Of a state or an argument, unpacked: what is longer is cut, and so is damaged."""
_MODULES = (
    "addresses", "adjacency", "advertise", "agenda", "auth", "candidates", "damping", "distances",
    "events", "feasibility", "following", "handler", "instance", "keys", "learning", "lifecycle",
    "linkcost", "links", "loading", "marking", "outputs", "own_ids", "policy", "prefix_counts",
    "quality", "raising", "refusals", "relay", "reliable", "report", "seqno_wishes",
    "table_dumps", "tlvs", "transmit",
)  # fmt: skip
"""Of this room: whose classes may be in a recording."""
_OTHERS = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("collections", "deque"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("random", "Random"),
    ("copyreg", "_reconstructor"),
    ("builtins", "object"),
}


class RecordingError(Exception):
    """A text that cannot be replayed."""


class _Writer(pickle.Pickler):
    """Pickles the state of this room, without secrets."""

    def __init__(self, file: io.BytesIO, stand_in: Callable[[AuthKey], AuthKey]) -> None:
        super().__init__(file, protocol=5)
        self._stand_in = stand_in

    def reducer_override(self, obj: Any) -> Any:
        """Keys become their stand-ins; methods of our objects are named, not looked up."""
        if isinstance(obj, AuthKey):
            other = self._stand_in(obj)
            fields = [getattr(other, field.name) for field in dataclasses.fields(AuthKey)]
            return AuthKey, tuple(fields)
        if isinstance(obj, MethodType):
            return _method, (obj.__self__, obj.__func__.__name__)
        return NotImplemented


class _Reader(pickle.Unpickler):
    """Unpickles nothing but classes of this room, the nouns, and plain containers."""

    def __init__(self, file: io.BytesIO, others: Sequence[type]) -> None:
        super().__init__(file)
        self._known = {(cls.__module__, cls.__qualname__): cls for cls in others}

    def find_class(self, module: str, name: str) -> Any:
        """The class of a name.

        Raises:
            RecordingError: it is none that a recording has to do with.
        """
        if (module, name) in self._known:
            return self._known[module, name]
        if (module, name) == (__name__, "_method"):
            return _method
        is_ours = module.startswith("routed.model.") or module in {
            f"routed.neighbor.{room}" for room in _MODULES
        }
        if is_ours or (module, name) in _OTHERS:
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) or (module, name) in _OTHERS:
                return found
        raise RecordingError(f"a recording has nothing to do with {module}.{name}")


def _method(owner: object, name: str) -> Any:
    """A method of one of our objects, as it was bound."""
    is_ours = type(owner).__module__.startswith("routed.")
    if not is_ours or name.startswith("__") or name not in vars(type(owner)):
        raise RecordingError(f"{type(owner).__name__} has no method {name!r}")
    return getattr(owner, name)


def _written(value: object, stand_in: Callable[[AuthKey], AuthKey]) -> str:
    file = io.BytesIO()
    _Writer(file, stand_in).dump(value)
    return base64.b64encode(zlib.compress(file.getvalue(), 1)).decode("ascii")


def _read(text: object, others: Sequence[type]) -> Any:
    try:
        packed = base64.b64decode(str(text), validate=True)
        unpacked = zlib.decompressobj().decompress(packed, STATE_BYTES_MAX)
        return _Reader(io.BytesIO(unpacked), others).load()
    except RecordingError:
        raise
    except Exception as error:  # noqa: BLE001 a constructor raises what it likes when given nonsense
        raise RecordingError(f"it is damaged: {type(error).__name__}: {error}") from None


class Recorder:
    """Writes one recording down, in memory."""

    def __init__(
        self,
        instance: NeighborInstance,
        ring_of: Callable[[int], KeyRing | None],
        salt: bytes,
        now: float,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """Begin with a picture of an instance. Cost: proportional to what it has learned.

        Args:
            instance: not being recorded yet.
            ring_of: the keys of a link, by its index.
            salt: random, 16 to 32 bytes, for nothing else.
            now: seconds, monotonic.
            limit_bytes: of the recording; more than that is not written down.
        """
        self._ring_of = ring_of
        self._salt = salt
        self._limit_bytes = limit_bytes
        self._lines: list[str] = []
        self.size_bytes = 0
        self.inputs = 0
        self.is_full = False
        self._add({"routed-recording": FORMAT, "at": now, "router_id": str(instance.router_id)})
        self._add({"state": _written(instance, self._stand_in)})

    def note_input(self, name: str, args: tuple[Any, ...]) -> None:
        """An input is about to be carried out: the method's name and its arguments."""
        if self.is_full:
            return
        says = _in_words(args)
        if name == "receive_burst":
            datagrams, now = args
            args = ([self._signed_again(datagram) for datagram in datagrams], now)
        self.inputs += 1
        self._add({"in": name, "says": says, "args": _written(args, self._stand_in)})

    def note_outputs(self, outputs: Sequence[Output]) -> None:
        """What was drained, if anything was."""
        if outputs and not self.is_full:
            self._add({"out": [describe(output) for output in outputs]})

    def text(self, instance: NeighborInstance, now: float) -> str:
        """The whole recording, ended here."""
        end = {"end": "full" if self.is_full else "complete", "state": digest_of(instance, now)}
        self._lines.append(json.dumps({**end, "at": now}))
        self._salt = b""
        return "\n".join(self._lines) + "\n"

    def _add(self, line: dict[str, object]) -> None:
        written = json.dumps(line)
        if self.size_bytes + len(written) > self._limit_bytes:
            self.is_full = True
            return
        self.size_bytes += len(written) + 1
        self._lines.append(written)

    def _stand_in(self, key: AuthKey) -> AuthKey:
        secret = hashlib.blake2s(key.secret, key=self._salt).digest()
        return dataclasses.replace(key, secret=secret)

    def _signed_again(self, datagram: Datagram) -> Datagram:
        ring = self._ring_of(datagram.ifindex)
        if ring is None:
            return datagram
        for key in ring.keys:
            data = signed_by_another(datagram.data, key, self._stand_in(key), datagram.source)
            if data is not None:
                return datagram._replace(data=data)
        return datagram


def _in_words(args: tuple[Any, ...]) -> str:
    """Arguments for people, short and without secrets."""
    words = []
    for arg in args:
        match arg:
            case LinkSettings():
                words.append(f"{arg.ifname} ({arg.ifindex})")
            case [*datagrams] if datagrams and isinstance(datagrams[0], Datagram):
                words += [_datagram_in_words(datagram) for datagram in datagrams]
            case float():
                words.append(f"{arg:.6f}")
            case Prefix() | str() | int() | None:
                words.append(str(arg))
            case _:
                words.append(type(arg).__name__)
    return ", ".join(words)


def _datagram_in_words(datagram: Datagram) -> str:
    try:
        message = decode(datagram.data)
    except DecodeError as error:
        what = str(error)
    else:
        tlvs = " ".join(type(tlv).__name__ for tlv in message.tlvs[:4])
        what = f"{message.type.name} {message.sequence} {tlvs}".rstrip()
    return f"link {datagram.ifindex} from {datagram.source}: {what}"


def describe(output: Output) -> str:
    """An output in words; two that differ in anything but a signature differ here."""
    if not isinstance(output, SendDatagram):
        return repr(output)
    content = unsigned_part(output.data)
    mark = hashlib.blake2s(content, digest_size=8).hexdigest()
    return (
        f"send link {output.ifindex} to {output.destination or 'group'} from {output.source}: "
        f"{decode(output.data).type.name}, {len(output.data)} bytes, {mark}"
    )


def digest_of(instance: NeighborInstance, now: float) -> str:
    """What `show` would say of an instance, in one number."""
    shown = repr((instance.neighbors(now), instance.learned(), instance.counters()))
    return hashlib.blake2s(shown.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a replay."""

    line: int
    """Of the recording, from 1."""
    name: str
    """Of the input; `out` for outputs, `end` for the last one."""
    says: tuple[str, ...]
    """The input, or the outputs as they are now, in words."""
    differs: str = ""
    """How it differs from the recording; empty when it does not."""


class Replay:
    """A recording, and the instance that lives through it again."""

    def __init__(self, text: str, others: Sequence[type] = ()) -> None:
        """Read the head of a recording.

        Args:
            text: what `Recorder.text` gave.
            others: classes of other rooms that may be in it, such as prefix tests of filters.

        Raises:
            RecordingError: it is none.
        """
        self._others = others
        self._lines = text.splitlines()
        head = self._line(0)
        if head.get("routed-recording") != FORMAT:
            raise RecordingError(f"it is no recording of version {FORMAT}")
        self.instance: NeighborInstance = _read(self._line(1).get("state"), others)
        if not all(callable(getattr(self.instance, name, None)) for name in INPUTS):
            raise RecordingError("line 2: its state is not that of a router")

    def _line(self, index: int) -> dict[str, Any]:
        try:
            line = json.loads(self._lines[index])
        except (IndexError, ValueError, RecursionError) as error:
            raise RecordingError(f"line {index + 1}: {error}") from None
        if not isinstance(line, dict):
            raise RecordingError(f"line {index + 1}: not an object")
        return line

    def steps(self) -> Iterator[Step]:
        """Live through it, step by step; the instance may be looked at in between.

        Raises:
            RecordingError: a line is damaged.
        """
        for index in range(2, len(self._lines)):
            line = self._line(index)
            if "in" in line:
                yield self._feed(index, line)
            elif isinstance(line.get("out"), list):
                yield self._compare(index, list(map(str, line["out"])))
            elif "end" in line:
                yield self._finish(index, line)
            else:
                raise RecordingError(f"line {index + 1}: neither input nor output")

    def _feed(self, index: int, line: dict[str, Any]) -> Step:
        name = line["in"]
        if not isinstance(name, str) or name not in INPUTS:
            raise RecordingError(f"line {index + 1}: there is no input {name!r}")
        method, args = getattr(self.instance, name), _read(line.get("args"), self._others)
        try:
            inspect.signature(method).bind(*args)
        except TypeError as error:
            raise RecordingError(f"line {index + 1}: {name}: {error}") from None
        method(*args)
        return Step(index + 1, name, (str(line.get("says", "")),))

    def _compare(self, index: int, expected: list[str]) -> Step:
        said = [describe(output) for output in self.instance.outputs()]
        differs = ""
        for number in range(max(len(said), len(expected))):
            now = said[number] if number < len(said) else "nothing"
            then = expected[number] if number < len(expected) else "nothing"
            if now != then:
                differs = f"output {number + 1}: then {then}; now {now}"
                break
        return Step(index + 1, "out", tuple(said), differs)

    def _finish(self, index: int, line: dict[str, Any]) -> Step:
        if line["end"] != "complete":
            return Step(index + 1, "end", ("the recording was full",))
        at = line.get("at")
        if not isinstance(at, int | float):
            raise RecordingError(f"line {index + 1}: the end without a time")
        is_same = digest_of(self.instance, at) == line.get("state")
        return Step(index + 1, "end", ("complete",), "" if is_same else "the state differs")


INPUTS = frozenset(
    {
        "link_up", "link_changed", "link_down", "set_wall_clock", "originate_all", "withdraw_all",
        "set_martians", "set_policy", "receive_burst", "handle_timer", "clear_neighbor", "stop",
        "expect_neighbors", "await_forwarding", "take_awaited", "forwarding_followed",
        "forwarding_alive",
    }
)  # fmt: skip
"""Methods of `NeighborInstance` that are recorded: all that change its state."""
