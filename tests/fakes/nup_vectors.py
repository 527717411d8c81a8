"""NUP test vectors: files in tests/vectors, and messages as plain fields.

A vector file holds a list of objects. A message vector has `name`, `meaning`, `hex` and `fields`;
a refusal has `name`, `meaning`, `hex`, `reason` and `offset`. `fields` spells a message as JSON:
enums by name, addresses and prefixes as text, a TLV as an object whose `tlv` names its class.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

from routed.model.prefix import Address, Prefix
from routed.nup.wire import message as wire
from routed.nup.wire.message import HeaderFlag, Message, MessageType

__all__ = ["VECTORS_DIR", "load_vectors", "message_from_fields", "message_to_fields"]

VECTORS_DIR = Path(__file__).parent.parent / "vectors"


def load_vectors(name: str) -> list[dict[str, Any]]:
    """Read one vector file."""
    loaded: list[dict[str, Any]] = json.loads((VECTORS_DIR / name).read_text())
    return loaded


def _plain(value: object) -> Any:
    match value:
        case Address() | Prefix():
            return str(value)
        case wire.RouteUpdate():
            return {name: _plain(item) for name, item in value._asdict().items()}
        case enum.Enum():
            return value.name
        case tuple():
            return [_plain(item) for item in value]
        case bytes():
            return value.hex()
        case int() | str() | bool():
            return value
    assert dataclasses.is_dataclass(value)
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def message_to_fields(message: Message) -> dict[str, Any]:
    """Return a message as JSON."""
    return {
        "type": message.type.name,
        "flags": [flag.name for flag in HeaderFlag if flag in message.flags],
        "sequence": message.sequence,
        "timestamp": message.timestamp,
        "sender": _plain(message.sender),
        "tlvs": [{"tlv": type(tlv).__name__, **_plain(tlv)} for tlv in message.tlvs],
    }


def _typed(annotation: str, value: Any) -> Any:
    match annotation:
        case "Address":
            return Address.parse(value)
        case "Prefix":
            return Prefix.parse(value)
        case "bytes":
            return bytes.fromhex(value)
        case "Stream":
            return wire.Stream[value]
        case "tuple[AckRange, ...]":
            return tuple(wire.AckRange(**item) for item in value)
    return value


def _tlv_from_fields(fields: dict[str, Any]) -> Any:
    cls = getattr(wire, fields["tlv"])
    if cls is wire.RouteUpdate:
        kinds = {"prefix": "Prefix", "origin": "Address"}
        return cls(**{name: _typed(kinds.get(name, ""), fields[name]) for name in cls._fields})
    return cls(
        **{
            field.name: _typed(str(field.type), fields[field.name])
            for field in dataclasses.fields(cls)
        }
    )


def message_from_fields(fields: dict[str, Any]) -> Message:
    """Undo `message_to_fields`."""
    flags = HeaderFlag(0)
    for name in fields["flags"]:
        flags |= HeaderFlag[name]
    return Message(
        type=MessageType[fields["type"]],
        flags=flags,
        sequence=fields["sequence"],
        timestamp=fields["timestamp"],
        sender=_tlv_from_fields({"tlv": "Sender", **fields["sender"]}),
        tlvs=tuple(_tlv_from_fields(tlv) for tlv in fields["tlvs"]),
    )
