"""The whole state of an instance as text, and back: how a recording of a running daemon begins.

The state is a graph: links, neighbors and tables refer to one another, and to shared containers. It
is written as a numbered list of entries, each a JSON array, that refer to one another by number:

    ["object", "links.Link", {"settings": [7], "heartbeat_due": 1003.2}]   by its attributes
    ["value", "prefix.Prefix", [["enum", "prefix.Family", "IPV4"], 167772160, 8]]   by its fields
    ["list", [...]]  ["tuple", ...]  ["set", ...]  ["frozenset", ...]
    ["deque", greatest length or null, [...]]
    ["dict", [[key, value], ...]]  ["OrderedDict", ...]  ["Counter", ...]
    ["method", owner, "name"]                 a bound method of one of these objects
    ["prefix", family, bits, length]          a prefix, which most of a large state is
    ["random", [...]]                         a generator, by its state

Where an entry holds an item: null, a boolean, a number or text is itself; [n] is entry n; bytes are
["hex", "..."], a float that is not finite is ["float", "inf"], a member of an enumeration is
["enum", class, name]. A class is named by its module's last name and its own.

The classes are those that the instance's module brings with it (`_known_classes`), found by
following its imports: none is listed by hand.

Reading makes an object without its constructor and sets its attributes; a frozen value is made by
its constructor, which checks it. No text names a function to call: a bound method is put together,
not called, from a class's own plain function and an object of that class. What the *replay* then
runs is NUP, on whatever state the text holds; it has no input or output of its own.

Secrets are not in it: the caller replaces each key.

Failure: a text that is no state is `RecordingError`; a state that cannot be written is TypeError.

Bounds: STATE_BYTES_MAX for the text, unpacked; NESTING_MAX for values in values.
"""

from __future__ import annotations

import base64
import binascii
import collections
import dataclasses
import enum
import functools
import itertools
import json
import math
import random
import sys
import types
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from routed.model.prefix import Family, Prefix
from routed.nup.auth.keys import AuthKey
from routed.nup.instance import NeighborInstance
from routed.nup.recording.text import RecordingError

__all__ = ["STATE_BYTES_MAX", "load_state", "read_state", "save_state"]

STATE_BYTES_MAX = 256 << 20
"""The limit of an unpacked state; a longer one is refused."""
ENTRIES_PER_LINE = 512
NESTING_MAX = 32
"""Values in values, such as a tuple of prefixes in a route."""

_CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
}
_MAPS: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "OrderedDict",
    collections.Counter: "Counter",
}
_PLAIN = frozenset({type(None), bool, int, str})
_PACKAGES = tuple(f"{cls.__module__.rpartition('.')[0]}." for cls in (NeighborInstance, Prefix))
"""Packages whose classes may be in a state."""


@functools.cache
def _class_name(cls: type) -> str:
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}"


@functools.cache
def _known_classes() -> dict[str, type]:
    """Return all classes of NUP and of the model that the instance's module imports, by name."""
    modules, to_visit, found = set(), [NeighborInstance.__module__], {}
    while to_visit:
        name = to_visit.pop()
        if name in modules or not name.startswith(_PACKAGES):
            continue
        modules.add(name)
        for value in vars(sys.modules[name]).values():
            to_visit.append(getattr(value, "__module__", None) or "")
            if isinstance(value, type) and value.__module__ == name:
                found[_class_name(value)] = value
    return found


# --- writing


def save_state(instance: NeighborInstance, stand_in: Callable[[AuthKey], AuthKey]) -> str:
    """Pack the state of an instance into one line of text.

    Args:
        instance: not being recorded.
        stand_in: returns the key that is written in place of a key.

    Raises:
        TypeError: it holds something that cannot be written (our bug).

    Cost: linear in the learned routes; about 10 us a route.
    """
    packer = zlib.compressobj(1)
    pieces: list[bytes] = []
    entries = _Writer(stand_in).entries(instance)
    while chunk := list(itertools.islice(entries, ENTRIES_PER_LINE)):
        pieces.append(packer.compress(_to_json(chunk).encode() + b"\n"))
    pieces.append(packer.flush())
    return base64.b64encode(b"".join(pieces)).decode("ascii")


_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class _Writer:
    """Numbers values in the order in which it finds them."""

    def __init__(self, stand_in: Callable[[AuthKey], AuthKey]) -> None:
        self._stand_in = stand_in
        self._found: list[Any] = []
        """Values by number; the list also keeps temporary values alive, so that no id is used
        twice."""
        self._numbers: dict[int, list[int]] = {}
        """Reference to each value, by id."""
        self._members: dict[int, list[Any]] = {}

    def entries(self, root: object) -> Iterator[list[Any]]:
        """Yield all entries, by number; the root is the first."""
        self._item(root)
        at = 0
        while at < len(self._found):
            yield self._entry(self._found[at])
            at += 1

    def _item(self, value: Any) -> Any:
        return self._items((value,))[0]

    def _items(self, values: Iterable[Any]) -> list[Any]:
        numbers = self._numbers
        return [
            each if type(each) in _PLAIN else numbers.get(id(each)) or self._write(each)
            for each in values
        ]

    def _write(self, value: Any) -> Any:
        """Return the item for a value that is found for the first time, or is not an entry."""
        kind = type(value)
        if kind is float:
            return value if math.isfinite(value) else ["float", str(value)]
        if kind is bytes:
            return ["hex", value.hex()]
        if isinstance(value, enum.Enum):
            return self._member(value)
        reference = self._numbers[id(value)] = [len(self._found)]
        self._found.append(value)
        return reference

    def _member(self, value: enum.Enum) -> list[Any]:
        written = self._members.get(id(value))
        if written is None:
            is_named = value.name in type(value).__members__
            name = value.name if is_named else value.value
            written = ["enum", _class_name(type(value)), name]
            if is_named:  # such a member exists as long as its class
                self._members[id(value)] = written
        return written

    def _entry(self, value: Any) -> list[Any]:
        kind: Any = type(value)
        if kind is Prefix:  # most of a large state
            return ["prefix", int(value.family), value.addr_bits, value.prefix_len]
        if kind in _CONTAINERS:
            return [_CONTAINERS[kind], self._items(value)]
        if kind in _MAPS:
            pairs = zip(self._items(value), self._items(value.values()), strict=True)
            return [_MAPS[kind], list(pairs)]
        if kind is collections.deque:
            return ["deque", value.maxlen, self._items(value)]
        if kind is random.Random:
            return ["random", list(value.getstate()[1])]
        if kind is types.MethodType:
            return ["method", self._item(value.__self__), value.__func__.__name__]
        if kind is AuthKey:
            value = self._stand_in(value)
        name = _class_name(kind)
        if _is_value(kind):
            return ["value", name, self._items(_values_of(kind, value))]
        if _known_classes().get(name) is not kind:
            raise TypeError(f"a state cannot hold {value!r}")
        attributes = dict(_attributes(type(value), value))
        return [
            "object",
            name,
            dict(zip(attributes, self._items(attributes.values()), strict=True)),
        ]


@functools.cache
def _is_value(kind: type) -> bool:
    """Return whether objects of a class are values: named tuples and frozen dataclasses."""
    if issubclass(kind, tuple):
        return hasattr(kind, "_fields")
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _values_of(kind: Any, value: Any) -> Sequence[Any]:
    if issubclass(kind, tuple):
        return tuple(value)
    return [getattr(value, field.name) for field in dataclasses.fields(kind)]


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def _attributes(kind: type, value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for name in _slots(kind):
        if hasattr(value, name):
            yield name, getattr(value, name)


# --- reading


def load_state(packed: object, others: Sequence[type] = ()) -> NeighborInstance:
    """Make an instance from a saved state.

    Args:
        packed: the result of `save_state`.
        others: further classes that may be in it, such as prefix tests of filters.

    Raises:
        RecordingError: it is no state.
    """
    entries = read_state(packed)
    try:
        instance = _Reader(entries, others).read()
    except RecordingError:
        raise
    except Exception as error:  # noqa: BLE001 a class refuses values as it likes
        raise RecordingError(f"state: {type(error).__name__}: {error}") from None
    if type(instance) is not NeighborInstance:
        raise RecordingError("the state is not that of a router")
    return instance


def read_state(packed: object) -> list[Any]:
    """Return the entries of a saved state, in JSON's types.

    Raises:
        RecordingError: it is no state.
    """
    if not isinstance(packed, str):
        raise RecordingError("the state is not text")
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode(packed, validate=True), STATE_BYTES_MAX)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise RecordingError(f"the state is cut, or has more than {STATE_BYTES_MAX} bytes")
        chunks = [json.loads(line) for line in text.decode().splitlines()]
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise RecordingError(f"the state is damaged: {error}") from None
    if not all(isinstance(chunk, list) for chunk in chunks):
        raise RecordingError("the state is damaged: it is no list of entries")
    return list(itertools.chain.from_iterable(chunks))


_UNMADE = object()
_IN_MAKING = object()


class _Reader:
    """Makes all objects empty, then values, then fills the objects."""

    def __init__(self, entries: list[Any], others: Sequence[type]) -> None:
        self._entries = entries
        self._made: list[Any] = [_UNMADE] * len(entries)
        self._classes = {**_known_classes(), **{_class_name(each): each for each in others}}

    def read(self) -> Any:
        """Return the first object, whole."""
        for number, entry in enumerate(self._entries):
            self._made[number] = self._empty(entry)
        for number in range(len(self._entries)):
            self._get(number, 0)
        for entry, made in zip(self._entries, self._made, strict=True):
            if entry[0] == "object":
                self._fill_object(entry, made)
        for entry, made in zip(self._entries, self._made, strict=True):
            self._fill_container(entry, made)
        return self._made[0]

    def _class(self, name: object) -> type:
        cls = self._classes.get(name) if isinstance(name, str) else None
        if cls is None:
            raise RecordingError(f"a state has nothing to do with {name!r}")
        return cls

    def _empty(self, entry: Any) -> Any:
        """Make an object that is filled later; `_UNMADE` for a value, which is made whole."""
        match entry:
            case ["object", name, dict()]:
                cls = self._class(name)
                if _is_value(cls) or issubclass(cls, (BaseException, enum.Enum)):
                    raise RecordingError(f"{name} is no object of a state")
                return object.__new__(cls)
            case ["list", list()]:
                return []
            case ["set", list()]:
                return set()
            case ["dict", list()]:
                return {}
            case ["OrderedDict", list()]:
                return collections.OrderedDict()
            case ["Counter", list()]:
                return collections.Counter()
            case ["deque", int() | None as length, list()]:
                return collections.deque(maxlen=length)
            case ["random", list(words)]:
                generator = random.Random()  # noqa: S311 a recording repeats what it did
                generator.setstate((3, tuple(words), None))
                return generator
            case ["prefix", int(family), int(bits), int(length)]:
                return Prefix(Family(family), bits, length)
            case ["value", str(), list()] | ["tuple" | "frozenset", list()]:
                return _UNMADE
            case ["method", [int()], str()]:
                return _UNMADE
        raise RecordingError("the state has an entry of no known kind")

    def _get(self, number: object, depth: int) -> Any:
        if type(number) is not int or not 0 <= number < len(self._made):
            raise RecordingError(f"the state has no entry {number!r}")
        made = self._made[number]
        if made is _UNMADE:
            if depth > NESTING_MAX:
                raise RecordingError("the state nests too deep")
            self._made[number] = _IN_MAKING
            made = self._made[number] = self._make(self._entries[number], depth + 1)
        elif made is _IN_MAKING:
            raise RecordingError("the state has a value that holds itself")
        return made

    def _make(self, entry: Any, depth: int) -> Any:
        match entry:
            case ["tuple", items]:
                return tuple([self._item(item, depth) for item in items])
            case ["frozenset", items]:
                return frozenset([self._item(item, depth) for item in items])
            case ["method", [number], name]:
                return _bound(self._get(number, depth), name)
        _, name, items = entry
        cls = self._class(name)
        if not _is_value(cls):
            raise RecordingError(f"{name} is no value of a state")
        return cls(*[self._item(item, depth) for item in items])

    def _item(self, item: Any, depth: int = 0) -> Any:
        if type(item) in _PLAIN or type(item) is float:
            return item
        match item:
            case [number]:
                return self._get(number, depth)
            case ["hex", str(digits)]:
                return bytes.fromhex(digits)
            case ["float", "inf" | "-inf" as text]:
                return float(text)
            case ["enum", name, str() | int() as member]:
                cls = self._class(name)
                if not issubclass(cls, enum.Enum):
                    raise RecordingError(f"{name} is no enumeration")
                return cls[member] if isinstance(member, str) else cls(member)
        raise RecordingError("the state has an item of no known kind")

    def _fill_object(self, entry: Any, made: Any) -> None:
        cls: Any = type(made)
        slots = _slots(cls)
        for name, item in entry[2].items():
            shared = getattr(cls, name, None)
            if name not in slots and (name.startswith("__") or hasattr(shared, "__get__")):
                raise RecordingError(f"{entry[1]}.{name} is no attribute of a state")
            setattr(made, name, self._item(item))

    def _fill_container(self, entry: Any, made: Any) -> None:
        match entry[0]:
            case "list" | "deque":
                made.extend([self._item(item) for item in entry[-1]])
            case "set":
                made.update([self._item(item) for item in entry[1]])
            case "dict" | "OrderedDict" | "Counter":
                for key, item in entry[1]:
                    made[self._item(key)] = self._item(item)


def _bound(owner: object, name: str) -> types.MethodType:
    """Make a bound method of an object of ours, without calling it."""
    function = vars(type(owner)).get(name)
    is_ours = type(owner) in _known_classes().values()
    if not is_ours or name.startswith("__") or not isinstance(function, types.FunctionType):
        raise RecordingError(f"{type(owner).__name__} has no method {name!r}")
    return types.MethodType(function, owner)
