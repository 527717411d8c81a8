"""How an option of routes.yaml is declared: a dataclass field that knows key, shape and meaning.

Each field's metadata says how its YAML is read (a scalar, a nested mapping, a list, a mapping by
name), so that the decoder (`load`), the JSON Schema and the reference page come from one place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from routed.config.scalars import Reader

__all__ = [
    "ListOf",
    "MapOf",
    "NamedLists",
    "Nested",
    "Option",
    "Scalar",
    "Shape",
    "option",
    "options_of",
]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value."""

    reader: Reader[Any]


@dataclass(frozen=True, slots=True)
class Nested:
    """A mapping that is a class of its own."""

    cls: type


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, each item a mapping (a class) or a scalar (a reader)."""

    item: type | Reader[Any]


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from names to mappings; the name becomes the item's first field."""

    cls: type
    key: Reader[Any]


@dataclass(frozen=True, slots=True)
class NamedLists:
    """A mapping from names to lists of mappings; each becomes `cls(name, items)`."""

    cls: type
    item: type
    key: Reader[Any]


Shape = Scalar | Nested | ListOf | MapOf | NamedLists


@dataclass(frozen=True, slots=True)
class Option:
    """What a field's metadata says about its key in the file."""

    key: str
    shape: Shape
    doc: str
    field: str
    is_required: bool
    default_text: str
    """As a person would write the default in YAML; empty when there is none."""


_METADATA = "routed"


def option(
    shape: Shape,
    doc: str,
    *,
    key: str | None = None,
    default: Any = dataclasses.MISSING,
    factory: Callable[[], Any] | Any = dataclasses.MISSING,
    written: str = "",
) -> Any:
    """A dataclass field with its key, shape and meaning.

    Args:
        shape: how the YAML is read.
        doc: one sentence for the reference page and the JSON Schema.
        key: the key in the file, when it is not the field's own name.
        default: the value when the key is absent; without one the key is required.
        factory: makes the default instead.
        written: the default as YAML text, when it is not obvious.
    """
    metadata = {_METADATA: (key, shape, doc, written)}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    if default is not dataclasses.MISSING:
        return dataclasses.field(default=default, metadata=metadata)
    return dataclasses.field(metadata=metadata)


def options_of(cls: type) -> list[Option]:
    """The keys that a configuration class takes, in file order."""
    found = []
    for field in dataclasses.fields(cls):
        if _METADATA not in field.metadata:
            continue
        key, shape, doc, written = field.metadata[_METADATA]
        is_required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        found.append(Option(key or field.name, shape, doc, field.name, is_required, written))
    return found
