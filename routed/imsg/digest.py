"""A digest of message declarations: two processes with the same digest can decode each other's
messages. Pure.

It covers the names and types of all fields, of nested classes too, and the members of enums; not
what the code does with them.

Cost: a few milliseconds; the caller keeps the result.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import typing
from collections.abc import Iterable
from typing import Any

__all__ = ["DIGEST_BYTES", "declaration_of"]

DIGEST_BYTES = 16


def declaration_of(classes: Iterable[type]) -> bytes:
    """Return the digest of message classes and of every class nested in them."""
    known: dict[str, str] = {}
    for message_class in classes:
        _collect(message_class, known)
    text = "\n".join(f"{name} {known[name]}" for name in sorted(known))
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _collect(kind: Any, known: dict[str, str]) -> None:
    for member in typing.get_args(kind):
        _collect(member, known)
    if not isinstance(kind, type) or kind.__module__ == "builtins" or _name(kind) in known:
        return
    known[_name(kind)] = ""  # a class may contain itself
    if issubclass(kind, enum.Enum):
        known[_name(kind)] = repr([(member.name, member.value) for member in kind])
    elif dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind, include_extras=True)
        names: list[str] = list(getattr(kind, "__dataclass_fields__", getattr(kind, "_fields", ())))
        known[_name(kind)] = repr([(name, hints[name]) for name in names])
        for name in names:
            _collect(hints[name], known)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
