"""Random instances of message classes, made from the annotations that the codec reads."""

from __future__ import annotations

import dataclasses
import enum
import random
import types
import typing
from typing import Any, TypeVar, cast

from routed.model.prefix import Address, Family, Prefix

__all__ = ["sample"]

T = TypeVar("T")

_TEXTS = ("", "eth0", "10.0.0.0/8", "\u2028", "a longer text with spaces")


def sample(message_class: type[T], rng: random.Random) -> T:
    """An instance whose fields have values of the declared types.

    Args:
        message_class: a dataclass or NamedTuple that `ipc.codec` can encode.
        rng: decides every value.
    """
    return cast("T", _value(message_class, rng))


def _value(kind: Any, rng: random.Random) -> Any:
    if hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        member = rng.choice(typing.get_args(kind))
        return None if member is types.NoneType else _value(member, rng)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(_value(arguments[0], rng) for _ in range(rng.randrange(3)))
        return tuple(_value(argument, rng) for argument in arguments)
    if origin is dict:
        return {f"key{number}": _value(arguments[1], rng) for number in range(rng.randrange(3))}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return rng.choice(list(kind))
    return _SCALARS[kind](rng) if kind in _SCALARS else _fields(kind, rng)


def _fields(kind: Any, rng: random.Random) -> Any:
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        names = list(kind._fields)
    return kind(**{name: _value(hints[name], rng) for name in names})


def _address(rng: random.Random) -> Address:
    family = rng.choice(list(Family))
    return Address(family, rng.getrandbits(family.width))


def _prefix(rng: random.Random) -> Prefix:
    family, addr_bits = _address(rng)
    return Prefix.masked(family, addr_bits, rng.randint(0, family.width))


_SCALARS: dict[Any, Any] = {
    bool: lambda rng: rng.random() < 0.5,
    int: lambda rng: rng.choice([0, 1, 255, rng.getrandbits(31)]),
    float: lambda rng: rng.choice([0.0, 1.5, 1e9]),
    str: lambda rng: rng.choice(_TEXTS),
    bytes: lambda rng: rng.randbytes(rng.choice([0, 8, 17])),
    object: lambda rng: rng.choice([None, 7, "text", [1, "two"], {"a": 1.5}]),
    Address: _address,
    Prefix: _prefix,
}
