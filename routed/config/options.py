"""The declaration of an option of routes.yaml: a dataclass field with key, shape and description.

The metadata of a field has the shape of its YAML (a scalar, a nested mapping, a list, a mapping by
name). The decoder (`load`), the JSON Schema and the reference page are all derived from it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from ipc.lazy_dataclass import dataclass
from routed.config.scalars import Reader

__all__ = [
    "Inline",
    "ListOf",
    "MapOf",
    "NamedLists",
    "Nested",
    "Option",
    "Scalar",
    "Shape",
    "inline_classes",
    "option",
    "options_of",
]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value."""

    reader: Reader[Any]


@dataclass(frozen=True, slots=True)
class Nested:
    """A mapping that is decoded into a class."""

    cls: type


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, whose items are all mappings (a class) or all scalars (a reader)."""

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


@dataclass(frozen=True, slots=True)
class Inline:
    """The keys of a class, among the keys of the section itself: its object is None if none of them
    is given. Every option of the class has the default None."""

    cls: type
    prefix: str = ""
    """Of each key in the file."""


Shape = Scalar | Nested | ListOf | MapOf | NamedLists


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of one key of the file, from the metadata of its field."""

    key: str
    shape: Shape
    doc: str
    field: str
    is_required: bool
    default_text: str
    """The default as YAML text; empty if there is none."""
    inside: str = ""
    """The field with the object that has this option (`Inline`); empty for the owner itself."""

    def value_of(self, owner: object) -> Any:
        """Return the value that an object of the configuration class has."""
        holder = getattr(owner, self.inside) if self.inside else owner
        return None if holder is None else getattr(holder, self.field)


_METADATA = "routed"


def option(
    shape: Shape | Inline,
    doc: str,
    *,
    key: str | None = None,
    default: Any = dataclasses.MISSING,
    factory: Callable[[], Any] | Any = dataclasses.MISSING,
    written: str = "",
) -> Any:
    """Declare a dataclass field with its key, shape and description.

    Args:
        shape: the shape of the YAML.
        doc: a description for the reference page and the JSON Schema.
        key: the key in the file, if it differs from the name of the field.
        default: the value if the key is absent. The key is required if neither this nor `factory`
            is given.
        factory: returns the default, in place of `default`.
        written: the default as YAML text, for the reference page and the JSON Schema.
    """
    metadata = {_METADATA: (key, shape, doc, written)}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    if default is not dataclasses.MISSING:
        return dataclasses.field(default=default, metadata=metadata)
    return dataclasses.field(metadata=metadata)


@functools.cache
def inline_classes(cls: type) -> dict[str, type]:
    """Return the class of each inline field of a configuration class, by the field."""
    found = {}
    for field in dataclasses.fields(cls):
        shape = field.metadata[_METADATA][1] if _METADATA in field.metadata else None
        if isinstance(shape, Inline):
            found[field.name] = shape.cls
    return found


def options_of(cls: type) -> list[Option]:
    """List the options of a configuration class, in the order of its fields."""
    found = []
    for field in dataclasses.fields(cls):
        if _METADATA not in field.metadata:
            continue
        key, shape, doc, written = field.metadata[_METADATA]
        if isinstance(shape, Inline):
            found += [
                dataclasses.replace(inner, key=f"{shape.prefix}{inner.key}", inside=field.name)
                for inner in options_of(shape.cls)
            ]
            continue
        is_required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        found.append(Option(key or field.name, shape, doc, field.name, is_required, written))
    return found
