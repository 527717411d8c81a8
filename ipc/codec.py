"""Message classes <-> msgpack, strictly: a value that is not exactly what was declared is refused.

A message is a frozen dataclass or a NamedTuple, encoded as an array of its fields in order; both
ends of a channel run the same version of the declaration (the control channel checks that in its
hello). From the field annotations one encoder and one decoder are compiled for each class, once.

    bool int float str bytes     as msgpack has them; an int is never a bool, a float never an int
                                 and never NaN
    X | None                     nil or X
    tuple[X, ...]  tuple[X, Y]   array, any length or exactly that one
    dict[str, X]                 map
    Enum                         its value
    dataclass, NamedTuple        array of fields
    a class with `to_wire` and `from_wire`   what they make of it (Address, Prefix), in at most
                                 WIRE_BYTES_MAX bytes
    Annotated[X, bound]          X, of a bounded length (`routed.model.bounds`)
    object                       any plain value: rows of a table, whose columns the view declares

A bound holds in both directions. The encoder cuts text that is for people, and refuses everything
else that is too long; the decoder refuses. A class all of whose fields are bounded has a worst
size, `worst_bytes`.

Why not msgpack's own strictness: it accepts duplicate keys, nests a thousand deep and turns
extension type -1 into an object. Here maps with a key given twice are refused, nesting is bounded
by the declared classes, and extensions are not accepted at all.

Failure: `CodecError`, whatever bytes come in; nothing else escapes `decode`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import msgpack

from ipc.framing import IpcError
from ipc.texts import clip_lines, clip_text

__all__ = ["CodecError", "decode", "decode_plain", "encode", "encode_plain", "worst_bytes"]

T = TypeVar("T")
Encoder = Callable[[Any], Any]
Decoder = Callable[[Any], Any]

_PLAIN_DEPTH = 8
"""Deepest nesting of an `object` value: rows contain lists of maps of scalars, so 8 is generous."""


class CodecError(IpcError):
    """Bytes that are not the declared message, or a value that cannot become one."""


def encode(message: object) -> bytes:
    """Encode one message.

    Raises:
        CodecError: the class declares a type that the codec does not know, or a value does not
            match its declaration (the caller's bug either way).
    """
    encoder, _ = _compiled(cast("Hashable", type(message)))
    try:
        return cast("bytes", _packed(encoder(message)))
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CodecError(f"{type(message).__name__}: {error}") from error


def decode(message_type: type[T], body: bytes) -> T:
    """Decode one message.

    Raises:
        CodecError: the bytes are not exactly one well-formed message of that class (the sender's
            fault).
    """
    _, decoder = _compiled(cast("Hashable", message_type))
    return cast("T", decoder(_unpack(body)))


def encode_plain(value: object) -> bytes:
    """Encode a value of plain types: None, bool, int, float, str, bytes, lists, tuples, maps."""
    try:
        return cast("bytes", _packed(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(str(error)) from error


def _packed(value: object) -> object:
    # A surrogate, which no UTF-8 has, becomes an escape: names that others chose may hold some.
    return msgpack.packb(value, use_bin_type=True, unicode_errors="backslashreplace")


def decode_plain(body: bytes) -> object:
    """Decode a value of plain types, nesting at most 8 deep.

    Raises:
        CodecError: not msgpack, trailing bytes, an extension, a key given twice, too deep.
    """
    value = _unpack(body)
    _check_plain(value, _PLAIN_DEPTH)
    return value


def _unpack(body: bytes) -> object:
    try:
        return msgpack.unpackb(
            body,
            raw=False,
            use_list=True,
            strict_map_key=True,
            object_pairs_hook=_refuse_duplicates,
            max_ext_len=0,
        )
    except CodecError:
        raise
    except Exception as error:
        # msgpack raises ValueError, its own exceptions, UnicodeDecodeError and RecursionError,
        # depending on where the bytes go wrong; all of them mean the same to the receiver.
        raise CodecError(f"not msgpack: {error}") from error


def _refuse_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise CodecError("a key is given twice")
    return mapping


def _check_plain(value: object, depth: int) -> None:
    if depth < 0:
        raise CodecError("nested too deep")
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return
        case list():
            for item in value:
                _check_plain(item, depth - 1)
        case dict():
            for item in value.values():
                _check_plain(item, depth - 1)
        case _:
            raise CodecError(f"a value of type {type(value).__name__} is not accepted")


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> Decoder:
    if kind is float:
        return _number

    def decode_scalar(value: Any) -> Any:
        if type(value) is not kind:
            raise CodecError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return decode_scalar


def _number(value: Any) -> Any:
    """Refuse NaN, which does not compare with other floats."""
    if type(value) is not float:
        raise CodecError(f"expected float, got {type(value).__name__}")
    if value != value:
        raise CodecError("a float that is not a number")
    return value


def _encode_exactly(kind: type) -> Encoder:
    if kind is float:
        return _encode_number

    def encode_scalar(value: Any) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return encode_scalar


def _encode_number(value: Any) -> Any:
    """Check as `_number`, so that a value which the receiver would reject is not sent."""
    if not isinstance(value, float):
        raise TypeError(f"expected float, got {type(value).__name__}")
    if value != value:
        raise CodecError("a float that is not a number")
    return value


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def _decode_plain_tuple(value: Any) -> tuple[Any, ...]:
    """Decode a row of a table; most rows have no nested values."""
    items = _expect_list(value)
    if not _SCALARS.issuperset(map(type, items)):
        _check_plain(items, _PLAIN_DEPTH + 1)
    return tuple(items)


def _plain(value: Any) -> Any:
    _check_plain(value, _PLAIN_DEPTH)
    return value


@functools.cache
def _compiled(kind: Any) -> tuple[Encoder, Decoder]:
    """Return the encoder and decoder of one type, made from its declaration."""
    if kind in (bool, int, float, str, bytes):
        return _encode_exactly(kind), _exactly(kind)
    if hasattr(kind, "__metadata__"):
        return _compile_bounded(kind.__origin__, kind.__metadata__)
    if kind is object:
        return _same, _plain
    if kind is type(None):
        return _same, _exactly(type(None))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _compile_optional(kind)
    if origin is tuple:
        return _compile_tuple(typing.get_args(kind))
    if origin is dict:
        return _compile_dict(typing.get_args(kind))
    if isinstance(kind, type):
        if hasattr(kind, "to_wire"):
            return _compile_wired(kind)
        if issubclass(kind, enum.Enum):
            return _compile_enum(kind)
        if dataclasses.is_dataclass(kind):
            return _compile_fields(kind, [field.name for field in dataclasses.fields(kind)])
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return _compile_fields(kind, list(kind._fields))
    raise CodecError(f"the codec does not know the type {kind!r}")


def _compile_bounded(kind: Any, bounds: tuple[Any, ...]) -> tuple[Encoder, Decoder]:
    encoder, decoder = _compiled(kind)
    for bound in bounds:
        if hasattr(bound, "max_bytes"):
            encoder, decoder = _bound_bytes(kind, bound.max_bytes, encoder, decoder)
        elif hasattr(bound, "max_items"):
            encoder, decoder = _bound_items(bound.max_items, encoder, decoder)
        elif hasattr(bound, "max_total_bytes"):
            encoder = _bound_lines(bound.max_total_bytes, bound.max_line_bytes, encoder)
    return encoder, decoder


def _bound_bytes(
    kind: Any, limit: int, encoder: Encoder, decoder: Decoder
) -> tuple[Encoder, Decoder]:
    def check(value: Any) -> Any:
        size = len(value)
        if kind is str and size <= limit and not value.isascii():
            size = len(value.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise CodecError(f"more than {limit} bytes")
        return value

    def cut(value: Any) -> Any:
        return clip_text(encoder(value), limit)

    return (
        cut if kind is str else lambda value: check(encoder(value)),
        lambda value: check(decoder(value)),
    )


def _bound_items(limit: int, encoder: Encoder, decoder: Decoder) -> tuple[Encoder, Decoder]:
    def check(value: Any) -> Any:
        if isinstance(value, (list, tuple, dict)) and len(value) > limit:
            raise CodecError(f"{len(value)} items, and {limit} are the most")
        return value

    return lambda value: encoder(check(value)), lambda value: decoder(check(value))


def _bound_lines(max_total_bytes: int, max_line_bytes: int, encoder: Encoder) -> Encoder:
    return lambda value: encoder(clip_lines(value, max_total_bytes, max_line_bytes))


_HEAD_BYTES = 5
"""Largest header of a text, bytes, an array or a map in msgpack."""
_NUMBER_BYTES = 9


def worst_bytes(kind: Any) -> int:
    """Return the largest encoded size of a message class or a type, in bytes.

    Raises:
        CodecError: a part of it is declared without a bound.
    """
    return _worst(kind, ())


def _worst(kind: Any, bounds: tuple[Any, ...]) -> int:
    if hasattr(kind, "__metadata__"):
        return _worst(kind.__origin__, kind.__metadata__)
    limits = {name: value for bound in bounds for name, value in bound._asdict().items()}
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if kind in (bool, type(None)):
        return 1
    if kind in (int, float):
        return _NUMBER_BYTES
    if kind in (str, bytes) and "max_bytes" in limits:
        return _HEAD_BYTES + int(limits["max_bytes"])
    if origin in (typing.Union, types.UnionType):
        return max(worst_bytes(member) for member in members)
    if origin is tuple and "max_total_bytes" in limits:
        return _HEAD_BYTES + int(limits["max_total_bytes"])
    if origin is tuple and members[-1] is not Ellipsis:
        return _HEAD_BYTES + sum(map(worst_bytes, members))
    if origin is tuple and "max_items" in limits:
        return _HEAD_BYTES + int(limits["max_items"]) * worst_bytes(members[0])
    if origin is dict and "max_items" in limits:
        return _HEAD_BYTES + int(limits["max_items"]) * sum(map(worst_bytes, members))
    if isinstance(kind, type) and origin is None:
        return _worst_of_class(kind)
    raise CodecError(f"{kind!r} is declared without a bound")


def _worst_of_class(kind: Any) -> int:
    if hasattr(kind, "to_wire"):
        return int(kind.WIRE_BYTES_MAX)
    if issubclass(kind, enum.Enum):
        return max(len(encode_plain(member.value)) for member in kind)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        names = list(getattr(kind, "__dataclass_fields__", getattr(kind, "_fields", ())))
        hints = typing.get_type_hints(kind, include_extras=True)
        return _HEAD_BYTES + sum(_worst_of_field(kind, name, hints[name]) for name in names)
    raise CodecError(f"{kind!r} is declared without a bound")


def _worst_of_field(kind: type, name: str, hint: Any) -> int:
    try:
        return worst_bytes(hint)
    except CodecError as error:
        raise CodecError(f"{kind.__name__}.{name}: {error}") from error


def _compile_optional(kind: Any) -> tuple[Encoder, Decoder]:
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if len(members) != 1 or len(typing.get_args(kind)) != 2:
        raise CodecError(f"only X | None is known, not {kind!r}")
    encoder, decoder = _compiled(members[0])
    return (
        lambda value: None if value is None else encoder(value),
        lambda value: None if value is None else decoder(value),
    )


def _expect_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise CodecError(f"expected an array, got {type(value).__name__}")
    return value


def _compile_tuple(members: tuple[Any, ...]) -> tuple[Encoder, Decoder]:
    if members == (object, Ellipsis):
        return list, _decode_plain_tuple
    if len(members) == 2 and members[1] is Ellipsis:
        encoder, decoder = _compiled(members[0])
        return (
            lambda value: [encoder(item) for item in value],
            lambda value: tuple([decoder(item) for item in _expect_list(value)]),
        )
    encoders, decoders = zip(*map(_compiled, members), strict=True)

    def decode_fixed(value: Any) -> tuple[Any, ...]:
        items = _expect_list(value)
        if len(items) != len(decoders):
            raise CodecError(f"expected {len(decoders)} items, got {len(items)}")
        return tuple(decoder(item) for decoder, item in zip(decoders, items, strict=True))

    return (
        lambda value: [encoder(item) for encoder, item in zip(encoders, value, strict=True)],
        decode_fixed,
    )


def _compile_dict(members: tuple[Any, ...]) -> tuple[Encoder, Decoder]:
    if members[0] is not str and getattr(members[0], "__origin__", None) is not str:
        raise CodecError("only maps from str are known")
    encode_key, expect_text = _compiled(members[0])
    encoder, decoder = _compiled(members[1])

    def decode_dict(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise CodecError(f"expected a map, got {type(value).__name__}")
        return {expect_text(key): decoder(item) for key, item in value.items()}

    return (
        lambda value: {encode_key(key): encoder(item) for key, item in value.items()},
        decode_dict,
    )


def _compile_wired(kind: Any) -> tuple[Encoder, Decoder]:
    def decode_wired(value: Any) -> Any:
        try:
            return kind.from_wire(value)
        except ValueError as error:
            raise CodecError(f"{kind.__name__}: {error}") from error

    return lambda value: value.to_wire(), decode_wired


def _compile_enum(kind: type[enum.Enum]) -> tuple[Encoder, Decoder]:
    by_value = {member.value: member for member in kind}

    def decode_enum(value: Any) -> enum.Enum:
        # bool is an int to a dict lookup; an enum's value never is one.
        if isinstance(value, (list, dict, bool)) or value not in by_value:
            raise CodecError(f"{value!r} is no {kind.__name__}")
        return by_value[value]

    return lambda member: kind(member).value, decode_enum


def _compile_fields(kind: Any, names: list[str]) -> tuple[Encoder, Decoder]:
    hints = typing.get_type_hints(kind, include_extras=True)
    encoders, decoders = [], []
    for name in names:
        encoder, decoder = _compiled(hints[name])
        encoders.append((name, encoder))
        decoders.append(decoder)

    def encode_fields(value: Any) -> list[Any]:
        try:
            return [encoder(getattr(value, name)) for name, encoder in encoders]
        except CodecError:
            for name, encoder in encoders:
                try:
                    encoder(getattr(value, name))
                except CodecError as error:
                    raise CodecError(f"{name}: {error}") from error
            raise

    def decode_fields(value: Any) -> Any:
        items = _expect_list(value)
        if len(items) != len(decoders):
            raise CodecError(
                f"{kind.__name__} has {len(decoders)} fields, the message {len(items)}"
            )
        try:
            return kind(*[decoder(item) for decoder, item in zip(decoders, items, strict=True)])
        except CodecError as error:
            raise CodecError(f"{kind.__name__}: {error}") from error
        except ValueError as error:  # the class's own check of its fields
            raise CodecError(f"{kind.__name__}: {error}") from error

    return encode_fields, decode_fields
