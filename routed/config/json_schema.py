"""The JSON Schema of routes.yaml, for editors (`routed --print-schema`). Pure.

Made from the declarations of `schema.py`, as the decoder is.
"""

from __future__ import annotations

import typing
from typing import Any

from routed.config.load import ANCHOR_PREFIX
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

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of routes.yaml for editors (`# yaml-language-server: $schema=...`)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routes.yaml",
        **_class_schema(Config),
        "patternProperties": {f"^{ANCHOR_PREFIX}": {}},
    }


def _class_schema(cls: type) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for option in options_of(cls):
        described = {**_shape_schema(option), "description": option.doc}
        if option.default_text and "enum" in described:
            described["default"] = option.default_text
        properties[option.key] = described
        if option.is_required:
            required.append(option.key)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _shape_schema(option: Option) -> dict[str, Any]:
    match option.shape:
        case Scalar(reader=reader):
            return dict(reader.schema)
        case Nested(cls=cls):
            return _class_schema(cls)
        case ListOf(item=Reader() as reader):
            return {"type": "array", "items": reader.schema}
        case ListOf(item=cls):
            return {"type": "array", "items": _class_schema(typing.cast("type", cls))}
        case MapOf(cls=cls):
            nullable = {"anyOf": [_class_schema(cls), {"type": "null"}]}
            return {"type": "object", "additionalProperties": nullable}
        case NamedLists(item=cls):
            lists = {"type": "array", "items": _class_schema(cls)}
            return {"type": "object", "additionalProperties": lists}
