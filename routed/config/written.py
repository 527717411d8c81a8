"""Encoder of a configuration as the lines of a file, the inverse of `load.py`. Pure.

It follows the same schema, so every option that can be read can be written. Options with their
default value are left out unless all options are requested. Each item of a list is one line. An
item of a mapping by name (interfaces) is one line, too, or one line for each option if all options
are requested.

A configuration contains no secrets, only the names of their files.

Invariants:
    The lines of all sections together, with or without defaults, load as an equal configuration.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from routed.config.options import (
    ListOf,
    MapOf,
    NamedLists,
    Nested,
    Option,
    Scalar,
    options_of,
)
from routed.config.scalars import Reader
from routed.config.schema import Config

__all__ = ["Line", "written", "written_item", "written_value"]

_PLAIN = re.compile(r"[A-Za-z0-9_/](?:[A-Za-z0-9_./:+ -]*[A-Za-z0-9_/.+-])?\Z")
"""Text that certainly needs no quotes in YAML, neither by itself nor in braces."""
_LOOKS_ODD = re.compile(r": |::\Z|[-+ ]\Z")


class Line(NamedTuple):
    """One line of a file."""

    option: str
    """The path of the option or item, such as `static[3]`."""
    value: str | None
    """The text after the key; None if the value is on the lines that follow."""
    is_default: bool
    """Whether the option has its default value."""
    text: str
    """The whole line, with indentation and without a line break."""


def written(config: Config, section: str | None = None, *, is_all: bool = False) -> Iterator[Line]:
    """Yield the lines of a configuration.

    Args:
        config: the configuration.
        section: the only top-level key to write; None for all of them.
        is_all: whether to write also the options that have their default value.

    Cost: about 10 us for each line.
    """
    for option in options_of(Config):
        if section in (None, option.key):
            yield from _lines(option, config, "", 0, is_all=is_all)


def written_value(option: Option, value: Any) -> str:
    """Format the value of an option in one line, in YAML's flow style.

    Args:
        option: the option.
        value: its value, not None.

    Raises:
        TypeError: the option is a mapping by name, which has no form in one line.
    """
    text = _flow_value(option, value)
    return _flow_inside(option, value) if text is None else text


def written_item(cls: type, item: Any) -> str:
    """Return an item of a list in braces, without the options that have their defaults."""
    return _flow(cls, item)


def _lines(option: Option, owner: Any, before: str, depth: int, *, is_all: bool) -> Iterator[Line]:
    value = option.value_of(owner)
    is_default = _is_default(option, owner, value)
    if value is None or (is_default and not is_all):
        return
    path = f"{before}.{option.key}" if before else option.key
    start = "  " * depth + f"{option.key}:"
    text = _flow_value(option, value)
    if text is not None:
        yield Line(path, text, is_default, f"{start} {text}")
        return
    inside = list(_inside(option, value, path, depth + 1, is_all=is_all))
    if inside:
        yield Line(path, None, is_default, start)
        yield from inside
    elif not is_default:
        yield Line(path, "{}", is_default, f"{start} {{}}")  # present, with only defaults inside


def _flow_value(option: Option, value: Any) -> str | None:
    """Format a value that fits behind its key; None if it needs lines of its own."""
    match option.shape:
        case Scalar(reader=reader):
            return _quoted(reader.write(value))
        case ListOf(item=Reader() as reader):
            return f"[{', '.join(_quoted(reader.write(item)) for item in value)}]"
        case ListOf() if not value:
            return "[]"
        case MapOf() | NamedLists() if not value:
            return "{}"
    return None


def _inside(option: Option, value: Any, path: str, depth: int, *, is_all: bool) -> Iterator[Line]:
    match option.shape:
        case Nested(cls=cls):
            for inner in options_of(cls):
                yield from _lines(inner, value, path, depth, is_all=is_all)
        case ListOf(item=cls):
            yield from _items(cls, value, path, depth)
        case MapOf(cls=cls, key=key):
            for entry in value:
                yield from _named(cls, key, entry, path, depth, is_all=is_all)
        case NamedLists(item=cls, key=key):
            for entry in value:
                name, items = _fields(entry)
                word = key.write(name)
                yield Line(f"{path}.{word}", None, False, "  " * depth + f"{_quoted(word)}:")
                yield from _items(cls, items, f"{path}.{word}", depth + 1)


def _named(
    cls: type, key: Reader[Any], entry: Any, path: str, depth: int, *, is_all: bool
) -> Iterator[Line]:
    word = key.write(_fields(entry)[0])
    start = "  " * depth + f"{_quoted(word)}:"
    if not is_all:
        flow = _flow(cls, entry)
        yield Line(f"{path}.{word}", flow, False, f"{start} {flow}")
        return
    yield Line(f"{path}.{word}", None, False, start)
    for inner in options_of(cls):
        yield from _lines(inner, entry, f"{path}.{word}", depth + 1, is_all=True)


def _items(cls: Any, items: tuple[Any, ...], path: str, depth: int) -> Iterator[Line]:
    for number, item in enumerate(items):
        flow = _flow(cls, item)
        yield Line(f"{path}[{number}]", flow, False, "  " * depth + f"- {flow}")


def _flow(cls: type, item: Any) -> str:
    """Format a mapping in one line, without the options that have their default value."""
    parts = []
    for option in options_of(cls):
        value = option.value_of(item)
        if value is None or _is_default(option, item, value):
            continue
        text = _flow_value(option, value)
        parts.append(f"{option.key}: {text or _flow_inside(option, value)}")
    return f"{{{', '.join(parts)}}}"


def _flow_inside(option: Option, value: Any) -> str:
    """Format a nested value of an item: the next hops of a route, the damping of an interface."""
    match option.shape:
        case Nested(cls=cls):
            return _flow(cls, value)
        case ListOf(item=type() as cls):
            return f"[{', '.join(_flow(cls, each) for each in value)}]"
    raise TypeError(f"{option.key} cannot stand in one line")


def _fields(entry: Any) -> tuple[Any, ...]:
    return tuple(getattr(entry, field.name) for field in dataclasses.fields(entry))


def _is_default(option: Option, owner: Any, value: Any) -> bool:
    """Whether an option has its default value, so that its key can be left out.

    A default that has to be looked up in the system (`user: routed`) is compared as text, because
    the engine cannot look it up.
    """
    if option.is_required:
        return False
    if option.inside:
        return value is None
    field = next(field for field in dataclasses.fields(owner) if field.name == option.field)
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    if isinstance(option.shape, Nested):
        inside = options_of(option.shape.cls)
        return all(_is_default(inner, value, getattr(value, inner.field)) for inner in inside)
    return _flow_value(option, value) == option.default_text


def _quoted(text: str) -> str:
    if _PLAIN.match(text) and not _LOOKS_ODD.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
