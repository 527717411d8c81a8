"""From views to rows: plain values by column, and pages of them as bytes.

From the field annotations one converter per class is compiled, once:

    Prefix, Address          their text
    an enum                  its value when that is a word, else its name in lower case
    a dataclass              a map of its fields
    tuple[X, ...]            a list
    X | None, plain scalars  themselves

Invariants:
    A row has exactly the columns of its class, and only types that `ipc.codec` takes as plain.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, cast

from ipc.codec import encode_plain
from ipc.control import PAGE_BYTES
from routed.model.prefix import Address, Prefix

__all__ = ["columns_of", "pack_pages", "pack_rows", "plain", "to_row"]


def columns_of(view_class: type) -> tuple[str, ...]:
    """The columns of a view, in order."""
    return _columns(cast("Hashable", view_class))


@functools.cache
def _columns(view_class: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(view_class))


def to_row(view: object) -> tuple[object, ...]:
    """One view as plain values, in the order of `columns_of` its class.

    Cost: one call for each column whose type is not plain already.
    """
    return tuple(
        [
            getattr(view, name) if convert is None else convert(getattr(view, name))
            for name, convert in _converters(cast("Hashable", type(view)))
        ]
    )


def pack_pages(view_class: type, views: Sequence[object]) -> Iterator[bytes]:
    """Encode views as bodies of ROWS frames, each at most PAGE_BYTES.

    A page that comes out too long is halved, so the length of rows need not be guessed. One row
    alone that is longer than PAGE_BYTES still gets its page; one over the frame limit is refused
    later by `pack_frame`.
    """
    yield from pack_rows(columns_of(view_class), [to_row(view) for view in views])


def pack_rows(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Iterator[bytes]:
    """Encode rows that are plain values already; as `pack_pages`.

    A body is what the codec makes of `Rows`, without a look at every value.
    """
    if not rows:
        return
    body = encode_plain((columns, rows))
    if len(body) <= PAGE_BYTES or len(rows) == 1:
        yield body
        return
    middle = len(rows) // 2
    yield from pack_rows(columns, rows[:middle])
    yield from pack_rows(columns, rows[middle:])


def plain(value: object) -> object:
    """An enum's word; views in a tuple as a list of maps: what such a value becomes in a row."""
    if isinstance(value, enum.Enum):
        return _enum_word(value)
    assert isinstance(value, tuple)
    return [dict(zip(columns_of(type(view)), to_row(view), strict=True)) for view in value]


Converter = Callable[[Any], object]


@functools.cache
def _converters(view_class: Any) -> tuple[tuple[str, Converter | None], ...]:
    hints = typing.get_type_hints(view_class)
    return tuple((name, _converter(hints[name])) for name in columns_of(view_class))


def _converter(kind: Any) -> Converter | None:
    """How a value of this declared type becomes plain; None when it is already."""
    if kind in (bool, int, float, str):
        return None
    if kind in (Prefix, Address):
        return str
    if isinstance(kind, types.UnionType):
        return _optional_converter(kind)
    if typing.get_origin(kind) is tuple:
        convert = _converter(typing.get_args(kind)[0])
        return list if convert is None else lambda values: [convert(value) for value in values]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        words = {member: _enum_word(member) for member in kind}
        return words.__getitem__
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


def _enum_word(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name.lower()
