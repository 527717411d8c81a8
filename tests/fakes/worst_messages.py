"""The worst value of a message class, from its declaration: a new class needs nothing here."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from typing import Any

from ipc.codec import encode_plain
from routed.model.prefix import Address, Prefix

TEXTS = {
    "four bytes a character": "\U0001f600",
    "control characters": "\x01",
    "surrogates": "\ud800",
    "quotes": '"',
}
"""One character of each, in which a text is long when it is encoded or quoted."""

TEXT_CHARACTERS = 20_000
"""Longer than any bound of a text."""
LINES = 2000
"""More than any answer has room for."""
UNBOUNDED = 20
"""Items of a list of a view, which has no bound: with such texts more than a frame."""
WIDE_ITEMS = 3
"""Items of a list whose own lists are as long as they may be; one alone is a large part of a
frame. The lists of all others hold one item."""


def worst(
    kind: Any,
    character: str,
    *,
    beyond: int = 0,
    bounds: tuple[Any, ...] = (),
    is_narrow: bool = False,
) -> Any:
    """A value of a type with every text too long and every list as long as it may be.

    Args:
        kind: a class of messages, or the type of a field.
        character: what texts are made of.
        beyond: so many items more than each list may have.
        bounds: of the type, as declared around it.
        is_narrow: lists hold one item.
    """
    inner = functools.partial(worst, character=character, beyond=beyond)
    if hasattr(kind, "__metadata__"):
        kind, bounds = kind.__origin__, kind.__metadata__
    limits = {name: value for bound in bounds for name, value in bound._asdict().items()}
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (member,) = [member for member in members if member is not types.NoneType]
        return inner(member, is_narrow=is_narrow)
    if origin is tuple and members[-1] is not Ellipsis:
        return tuple(inner(member, is_narrow=is_narrow) for member in members)
    if origin is tuple:
        count = 1 if is_narrow else limits.get("max_items", LINES if limits else UNBOUNDED) + beyond
        wide = inner(members[0], is_narrow=is_narrow)
        narrow = inner(members[0], is_narrow=True)
        return (wide,) * min(count, WIDE_ITEMS) + (narrow,) * (count - WIDE_ITEMS)
    if origin is dict:
        value = inner(members[1], is_narrow=is_narrow)
        count = limits.get("max_items", UNBOUNDED)
        return {f"{number:06}" + 99 * character: value for number in range(count)}
    if dataclasses.is_dataclass(kind) or (hasattr(kind, "_fields") and kind not in _WIRED):
        hints = typing.get_type_hints(kind, include_extras=True)
        names = getattr(kind, "__dataclass_fields__", getattr(kind, "_fields", ()))
        fields = [inner(hints[name], is_narrow=is_narrow) for name in names]
        return kind(*fields)
    return _worst_scalar(kind, character, limits)


_WIRED = {Address: Address.parse("ffff::1"), Prefix: Prefix.parse("ffff::1/128")}


def _worst_scalar(kind: Any, character: str, limits: dict[str, int]) -> Any:
    if kind in (str, object):
        return character * TEXT_CHARACTERS
    if kind is bytes:
        return bytes(limits.get("max_bytes", 100))
    if kind in _WIRED:
        return _WIRED[kind]
    if kind in (bool, int, float):
        return {bool: True, int: 2**64 - 1, float: 0.1}[kind]
    assert issubclass(kind, enum.Enum)
    return max(kind, key=lambda member: len(encode_plain(member.value)))
