"""Rows of views: plain values by column, and pages of them as bytes.

One converter for each view class is made from the field annotations, once:

    Prefix, Address          their text
    an enum                  its value if that is a string, else its name in lower case
    a dataclass              a map of its fields
    tuple[X, ...]            a list
    X | None, plain scalars, dict of them   themselves

Invariants:
    A row has exactly the columns of its class, and only types that `ipc.codec` accepts as plain. A
    row that is too long for a frame is cut, and has the column LEFT_OUT in addition.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, cast

from ipc.codec import CodecError, encode_plain
from ipc.control import LEFT_OUT, PAGE_BYTES, ROW_BYTES_MAX
from routed.model.prefix import Address, Prefix

__all__ = ["columns_of", "pack_pages", "pack_rows", "plain", "to_row"]


def columns_of(view_class: type) -> tuple[str, ...]:
    """Return the columns of a view, in order."""
    return _columns(cast("Hashable", view_class))


@functools.cache
def _columns(view_class: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(view_class))


def to_row(view: object) -> tuple[object, ...]:
    """Convert a view to plain values, in the order of `columns_of` its class.

    Cost: one call for each column whose type is not plain.
    """
    return tuple(
        [
            getattr(view, name) if convert is None else convert(getattr(view, name))
            for name, convert in _converters(cast("Hashable", type(view)))
        ]
    )


def pack_pages(view_class: type, views: Sequence[object]) -> Iterator[bytes]:
    """Encode views as bodies of ROWS frames, each at most PAGE_BYTES.

    A page that is too long is halved, so the length of rows need not be estimated. A single row
    that is longer than PAGE_BYTES still gets its page, up to ROW_BYTES_MAX. Of a row that is longer
    than that, the ends of its longest values are left out, and the column LEFT_OUT says so.

    Raises:
        CodecError: a value is not plain, or a row is too long and nothing in it can be cut (a
            defect).
    """
    yield from pack_rows(columns_of(view_class), [to_row(view) for view in views])


def pack_rows(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Iterator[bytes]:
    """Encode rows that are plain values already; as `pack_pages`.

    A body is what the codec makes of `Rows`, without validating every value.
    """
    if not rows:
        return
    body = encode_plain((columns, rows))
    if len(body) <= PAGE_BYTES or (len(rows) == 1 and len(body) <= ROW_BYTES_MAX):
        yield body
        return
    if len(rows) == 1:
        yield _pack_shortened(columns, rows[0])
        return
    middle = len(rows) // 2
    yield from pack_rows(columns, rows[:middle])
    yield from pack_rows(columns, rows[middle:])


def _pack_shortened(columns: tuple[str, ...], row: tuple[object, ...]) -> bytes:
    """Encode one row that is too long: the longest value is halved until the row fits."""
    values = list(row)
    sizes = [len(encode_plain(value)) for value in values]
    left_out: dict[str, int] = {}
    while True:
        body = encode_plain(((*columns, LEFT_OUT), [(*values, left_out)]))
        if len(body) <= ROW_BYTES_MAX:
            return body
        cuttable = [at for at, value in enumerate(values) if _is_cuttable(value)]
        if not cuttable:
            raise CodecError(f"a row of {len(body)} bytes, and nothing in it can be cut")
        at = max(cuttable, key=sizes.__getitem__)
        values[at], lost = _shorter(values[at])
        sizes[at] = len(encode_plain(values[at]))
        left_out[columns[at]] = left_out.get(columns[at], 0) + lost


def _is_cuttable(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_is_cuttable, value.values()))
    return isinstance(value, (list, tuple, str)) and bool(value)


def _shorter(value: Any) -> tuple[object, int]:
    """Return the first half of a list or text, and how many items or bytes were left out.

    Of a map, the longest value is halved.
    """
    if isinstance(value, dict):
        cuttable = [name for name, inner in value.items() if _is_cuttable(inner)]
        longest = max(cuttable, key=lambda name: len(encode_plain(value[name])))
        inner, lost = _shorter(value[longest])
        return {**value, longest: inner}, lost
    kept, rest = value[: len(value) // 2], value[len(value) // 2 :]
    return kept, len(rest.encode("utf-8", "replace")) if isinstance(rest, str) else len(rest)


def plain(value: object) -> object:
    """Convert an enum, or a tuple of views, to its value in a row."""
    if isinstance(value, enum.Enum):
        return _enum_text(value)
    assert isinstance(value, tuple)
    return [dict(zip(columns_of(type(view)), to_row(view), strict=True)) for view in value]


Converter = Callable[[Any], object]


@functools.cache
def _converters(view_class: Any) -> tuple[tuple[str, Converter | None], ...]:
    hints = typing.get_type_hints(view_class)
    return tuple((name, _converter(hints[name])) for name in columns_of(view_class))


def _converter(kind: Any) -> Converter | None:
    """Return the converter for values of a declared type; None if they are plain already."""
    if kind in (bool, int, float, str) or typing.get_origin(kind) is dict:
        return None
    if kind in (Prefix, Address):
        return str
    if isinstance(kind, types.UnionType):
        return _optional_converter(kind)
    if typing.get_origin(kind) is tuple:
        convert = _converter(typing.get_args(kind)[0])
        return list if convert is None else lambda values: [convert(value) for value in values]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        texts = {member: _enum_text(member) for member in kind}
        return texts.__getitem__
    if dataclasses.is_dataclass(kind):
        columns = columns_of(cast("type", kind))
        return lambda view: dict(zip(columns, to_row(view), strict=True))
    raise TypeError(f"a view cannot show {kind!r}")


def _optional_converter(kind: types.UnionType) -> Converter | None:
    (member,) = [member for member in kind.__args__ if member is not types.NoneType]
    convert = _converter(member)
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _enum_text(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name.lower()
