"""The text of a recording: what each line holds, and how values are written and read.

A recording is JSON lines. The first line is the header, each further line is one of three kinds:

    {"routed-recording": 3, "at": 81230.5, "start": {...}}      what the instance was at the start
    {"in": "receive_burst", "datagrams": [...], "now": 81230.6}  an input: the method, its arguments
    {"out": [{"out": "SendDatagram", "ifindex": 1, ...}]}        what was drained after it
    {"end": "complete", "at": 81299.0, "state": {...}}           counts, counters and a digest

`start` is either a new instance, by the arguments of its constructor (`NewInstance`), or the saved
state of one that was running (`instance_state`).

Values are written by the annotations of their class: the arguments of an input by those of the
method of `NeighborInstance`, a dataclass or named tuple as an object of its fields (a field that
has its default is left out). Addresses and prefixes are text, bytes are hexadecimal digits, members
of an enumeration are their names, an infinite float is "inf" or "-inf". A field whose type is a
protocol holds the name of its class as "class". The key "summary" is for people: readers skip it.

Reading calls nothing but the constructors of the declared classes, with values of the declared
types: no text chooses what is called.

Failure: a text that is no recording is `RecordingError`, whatever it holds.

Bounds: RECORDING_BYTES_MAX for the text; what a line makes is linear in its length, and nests as
deep as the declared types do.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Prefix
from routed.nup.events import Datagram, Output, SendDatagram
from routed.nup.instance import NeighborInstance
from routed.nup.wire.message import DecodeError, decode

__all__ = [
    "FORMAT",
    "INPUTS",
    "LIMIT_BYTES",
    "RECORDING_BYTES_MAX",
    "NewInstance",
    "RecordingError",
    "read_arguments",
    "read_line",
    "read_value",
    "summarize_state",
    "without_summaries",
    "write_arguments",
    "write_output",
    "write_value",
]

FORMAT = 3
LIMIT_BYTES = 32 << 20
"""The limit of a recording, unless the caller sets a lower one."""
RECORDING_BYTES_MAX = 2 * LIMIT_BYTES
"""The limit of a text that is replayed: only its state at the start can exceed LIMIT_BYTES."""

INPUTS = frozenset(
    {
        "link_up", "link_changed", "link_down", "set_wall_clock", "originate_all", "withdraw_all",
        "set_martians", "set_policy", "receive_burst", "handle_timer", "clear_neighbor", "stop",
        "expect_neighbors", "await_forwarding", "pop_forwarding_waits", "forwarding_updated",
        "forwarding_alive",
    }
)  # fmt: skip
"""The methods of `NeighborInstance` that are recorded: all that change its state."""

_SEQUENCES = (
    list,
    collections.abc.Iterable,
    collections.abc.Sequence,
)
_PLAIN = (bool, int, str, type(None))


class RecordingError(Exception):
    """A text that cannot be replayed."""


@dataclass(frozen=True, slots=True)
class NewInstance:
    """The arguments of `NeighborInstance`; its generator is seeded with `seed`."""

    router_id: Address
    boot_id: int
    origin_seqno: int
    seed: int


def read_line(text: str, number: int) -> dict[str, Any]:
    """Read one line.

    Args:
        text: the line.
        number: of the line, from 1, for the message.

    Raises:
        RecordingError: it is not one JSON object.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"line {number}: {error}") from None
    if not isinstance(line, dict):
        raise RecordingError(f"line {number}: not an object")
    return line


@functools.cache
def _parameters(name: str) -> dict[str, Any]:
    """Return the parameters of an input and their types, in order."""
    method = getattr(NeighborInstance, name)
    hints = typing.get_type_hints(method)
    return {each: hints[each] for each in inspect.signature(method).parameters if each != "self"}


def write_arguments(name: str, arguments: Sequence[Any]) -> dict[str, Any]:
    """Write the arguments of an input, by their names.

    Args:
        name: of the input, one of `INPUTS`.
        arguments: in the order of the method's parameters.
    """
    parameters = _parameters(name)
    return {
        each: write_value(kind, argument)
        for (each, kind), argument in zip(parameters.items(), arguments, strict=True)
    }


def read_arguments(line: Mapping[str, Any], others: Sequence[type] = ()) -> tuple[str, list[Any]]:
    """Read an input.

    Args:
        line: with its name as "in", and its arguments.
        others: classes that a field with a protocol as its type may hold.

    Returns:
        The name, and the arguments in order.

    Raises:
        RecordingError: there is no such input, or an argument is not of its type.
    """
    name = line["in"]
    if not isinstance(name, str) or name not in INPUTS:
        raise RecordingError(f"there is no input {name!r}")
    parameters = _parameters(name)
    given = line.keys() - {"in"}
    if given != parameters.keys():
        wrong = ", ".join(sorted(given ^ parameters.keys()))
        raise RecordingError(f"{name} is not called with these arguments: {wrong}")
    arguments = []
    for each, kind in parameters.items():
        try:
            arguments.append(read_value(kind, line[each], others))
        except RecordingError as error:
            raise RecordingError(f"{name}: {each}: {error}") from None
    return name, arguments


def write_output(output: Output) -> dict[str, Any]:
    """Write an output: its class as "out", then its fields."""
    return {"out": type(output).__name__, **write_value(type(output), output)}


def summarize_state(instance: NeighborInstance, now: float) -> dict[str, Any]:
    """Summarize an instance: counts, counters, and a digest of everything that `show` displays."""
    neighbors, routes, counters = instance.neighbors(now), instance.learned(), instance.counters()
    shown = repr((neighbors, routes, counters))
    return {
        "neighbors": len(neighbors),
        "routes": len(routes),
        "counters": {name: count for name, count in counters.items() if count},
        "digest": hashlib.blake2s(shown.encode(), digest_size=16).hexdigest(),
    }


def without_summaries(value: Any) -> Any:
    """Return a written value without the parts that are for people only."""
    match value:
        case dict():
            return {key: without_summaries(item) for key, item in value.items() if key != "summary"}
        case list():
            return [without_summaries(item) for item in value]
    return value


# --- values


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, Any]]:
    """Return each field of a class with its type and default (`inspect.Parameter.empty` for
    none)."""
    hints = typing.get_type_hints(kind)
    empty = inspect.Parameter.empty
    if dataclasses.is_dataclass(kind):
        return {
            field.name: (
                hints[field.name],
                empty if field.default is dataclasses.MISSING else field.default,
            )
            for field in dataclasses.fields(kind)
        }
    defaults = getattr(kind, "_field_defaults", {})
    return {name: (hints[name], defaults.get(name, empty)) for name in kind._fields}  # type: ignore[attr-defined]


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"))


def _is_protocol(kind: Any) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def _member(kind: Any) -> Any:
    """Return the X of `X | None`; None for any other type."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return None
    members = [each for each in typing.get_args(kind) if each is not type(None)]
    return members[0] if len(members) == 1 else None


def write_value(kind: Any, value: Any) -> Any:
    """Write a value of a declared type in JSON's types.

    Raises:
        TypeError: recordings do not know the type (our bug).
    """
    if value is None or kind in _PLAIN:
        return value
    if kind is float:
        return float(value) if math.isfinite(value) else str(float(value))
    if kind is bytes:
        return value.hex()
    if kind in (Address, Prefix):
        return str(value)
    member = _member(kind)
    if member is not None:
        return write_value(member, value)
    if _is_protocol(kind):
        return {"class": type(value).__name__, **_write_fields(type(value), value)}
    if _has_fields(kind):
        return _write_fields(kind, value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value.name
    return _write_items(kind, value)


def _write_fields(kind: type, value: Any) -> dict[str, Any]:
    written = {
        name: write_value(declared, getattr(value, name))
        for name, (declared, default) in _fields(kind).items()
        if default is inspect.Parameter.empty or getattr(value, name) != default
    }
    match value:
        case Datagram(data) | SendDatagram(data=data):
            written["summary"] = _describe(data)
    return written


def _write_items(kind: Any, value: Iterable[Any]) -> list[Any]:
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin is frozenset:
        return [write_value(members[0], item) for item in sorted(value)]
    if origin is tuple and members[-1] is not Ellipsis:
        return [write_value(each, item) for each, item in zip(members, value, strict=True)]
    if origin is tuple or origin in _SEQUENCES:
        return [write_value(members[0], item) for item in value]
    raise TypeError(f"recordings do not know the type {kind!r}")


def _describe(data: bytes) -> str:
    """Describe a datagram for people."""
    try:
        message = decode(data)
    except DecodeError as error:
        return f"damaged: {error}"
    tlvs = " ".join(type(tlv).__name__ for tlv in message.tlvs[:6])
    return f"{message.type.name} {message.sequence} {tlvs}".rstrip()


def read_value(kind: Any, value: Any, others: Sequence[type] = ()) -> Any:
    """Read a value that `write_value` has written.

    Args:
        kind: the declared type.
        value: in JSON's types.
        others: classes that a field with a protocol as its type may hold.

    Raises:
        RecordingError: it is no such value.
    """
    member = _member(kind)
    if member is not None:
        return None if value is None else read_value(member, value, others)
    if kind in _PLAIN:
        if type(value) is not kind:
            raise RecordingError(f"expected {kind.__name__}, found {type(value).__name__}")
        return value
    if kind is float:
        return _read_float(value)
    if kind is bytes:
        return _made(bytes.fromhex, _text(value))
    if kind in (Address, Prefix):
        return _made(kind.parse, _text(value))
    if _is_protocol(kind):
        return _read_other(value, others)
    if _has_fields(kind):
        return _read_fields(kind, value, others)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _made(kind.__getitem__, _text(value))
    return _read_items(kind, value, others)


def _made(make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return make(*arguments, **named)
    except Exception as error:  # noqa: BLE001 a class refuses values as it likes
        raise RecordingError(f"{type(error).__name__}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RecordingError(f"expected text, found {type(value).__name__}")
    return value


def _read_float(value: Any) -> float:
    if value in ("inf", "-inf"):
        return float(value)
    if type(value) not in (int, float) or not abs(value) < 1e300:  # a NaN is not
        raise RecordingError("expected a number")
    return float(value)


def _read_other(value: Any, others: Sequence[type]) -> Any:
    name = value.get("class") if isinstance(value, dict) else None
    kind = next((each for each in others if each.__name__ == name), None)
    if kind is None:
        raise RecordingError(f"it holds a class that is not known here: {name!r}")
    return _read_fields(kind, {key: each for key, each in value.items() if key != "class"}, others)


def _read_fields(kind: type, value: Any, others: Sequence[type]) -> Any:
    if not isinstance(value, dict):
        raise RecordingError(f"expected the fields of {kind.__name__}")
    fields = _fields(kind)
    unknown = value.keys() - fields.keys() - {"summary"}
    missing = [
        name
        for name, (_, default) in fields.items()
        if default is inspect.Parameter.empty and name not in value
    ]
    if unknown or missing:
        wrong = ", ".join(sorted([*unknown, *missing]))
        raise RecordingError(f"{kind.__name__} does not have these fields: {wrong}")
    named = {
        name: read_value(declared, value[name], others)
        for name, (declared, _) in fields.items()
        if name in value
    }
    return _made(kind, **named)


def _read_items(kind: Any, value: Any, others: Sequence[type]) -> Any:
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if not isinstance(value, list):
        raise RecordingError(f"expected a list, found {type(value).__name__}")
    if origin is tuple and members[-1] is not Ellipsis:
        if len(value) != len(members):
            raise RecordingError(f"expected {len(members)} items, found {len(value)}")
        pairs = zip(members, value, strict=True)
        return tuple([read_value(each, item, others) for each, item in pairs])
    items = [read_value(members[0], item, others) for item in value]
    if origin is frozenset:
        return frozenset(items)
    return tuple(items) if origin is tuple else items
