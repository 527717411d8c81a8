"""Readers of the values that only policy rules have, as `ip rule` writes them."""

from __future__ import annotations

import re

from routed.config import iproute2_names
from routed.config.scalars import Reader
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
    ANY_PORT,
    Masked,
    PortRange,
    Realms,
    UidRange,
    protocol_name,
)

__all__ = ["dscp", "flow_label", "group", "ip_protocol", "ports", "realms", "tos", "uids"]

_PORT_MAX = 0xFFFE
_UID_MAX = 0xFFFF_FFFE
_GROUP_MAX = 2**31 - 1
_REALM_MAX = 0xFFFF
_NUMBER = r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}"


def _number(text: str) -> int | None:
    """Read a decimal or hexadecimal number; None for any other text."""
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}", text) else None


def _read_masked(text: str, whole: int, expected: str) -> Masked:
    value_text, slash, mask_text = text.partition("/")
    value, mask = _number(value_text), _number(mask_text) if slash else whole
    if value is None or mask is None:
        raise ValueError(f"expected {expected}, got {text!r}")
    if value > whole or not 1 <= mask <= whole:
        raise ValueError(
            f"{text} is outside 0 to {whole:#x}, or its mask is outside 1 to {whole:#x}"
        )
    if value & ~mask:
        raise ValueError(f"{text}: the value has bits outside its mask and can never match")
    return Masked(value, mask)


def _write_masked(masked: Masked, whole: int) -> str:
    if masked.mask == whole:
        return str(masked.value)
    return f"{masked.value:#x}/{masked.mask:#x}"


def _read_ports(text: str) -> PortRange:
    expected = "a port such as 53, a range such as 1000-2000, or PORT/MASK such as 0x50/0xfff0"
    if "/" in text:
        value, mask = _read_masked(text, ANY_PORT, expected)
        first, last = value, value
    else:
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        if found is None:
            raise ValueError(f"expected {expected}, got {text!r}")
        first, last, mask = int(found[1]), int(found[2] or found[1]), ANY_PORT
    if not 1 <= first <= last <= _PORT_MAX:
        raise ValueError(
            f"{text} is not within 1 to {_PORT_MAX}, as Linux requires, or its end is before its "
            "beginning"
        )
    return PortRange(first, last, mask)


def _write_ports(value: PortRange) -> str:
    if value.first != value.last:
        return f"{value.first}-{value.last}"
    return _write_masked(Masked(value.first, value.mask), ANY_PORT)


ports = Reader(
    _read_ports,
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": _PORT_MAX},
            {"type": "string", "pattern": f"^([0-9]{{1,5}}-[0-9]{{1,5}}|({_NUMBER})/({_NUMBER}))$"},
        ]
    },
    _write_ports,
)


def _read_uids(text: str) -> UidRange:
    found = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
    if found is None:
        raise ValueError(f"expected a range of user ids such as 1000-1999, got {text!r}")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= _UID_MAX:
        raise ValueError(
            f"{text} is not within 0 to {_UID_MAX}, or its end is before its beginning"
        )
    return UidRange(first, last)


uids = Reader(
    _read_uids,
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": _UID_MAX},
            {"type": "string", "pattern": "^[0-9]{1,10}-[0-9]{1,10}$"},
        ]
    },
    lambda value: f"{value.first}-{value.last}",
)

_PROTOCOLS = {
    text: number for number in range(1, 256) for text in (protocol_name(number), str(number))
} | {"icmpv6": 58}
_PROTOCOL_WORDS = [name for name in _PROTOCOLS if not name.isdigit()]


def _read_ip_protocol(text: str) -> int:
    number = _PROTOCOLS.get(text)
    if number is None:
        known = ", ".join(_PROTOCOL_WORDS)
        raise ValueError(f"expected a number from 1 to 255 or one of {known}; got {text!r}")
    return number


ip_protocol = Reader(
    _read_ip_protocol,
    {"anyOf": [{"enum": _PROTOCOL_WORDS}, {"type": "integer", "minimum": 1, "maximum": 255}]},
    protocol_name,
)


def _read_tos(text: str) -> int:
    value = _number(text) if text.startswith("0x") else None
    if value is None or not 0 < value <= 0xFC or value & 3:
        raise ValueError(
            f"expected a hexadecimal number from 0x04 to 0xfc whose two last bits (ECN) are 0, got "
            f"{text!r}"
        )
    return value


tos = Reader(
    _read_tos, {"type": "string", "pattern": "^0x[0-9a-fA-F]{1,2}$"}, lambda value: f"{value:#04x}"
)
"""The prefix is required: `ip rule` reads `tos 10` as 0x10."""

_CODE_POINTS = {
    **{f"CS{number}": number << 3 for number in range(8)},
    **{f"AF{k}{drop}": k << 3 | drop << 1 for k in (1, 2, 3, 4) for drop in (1, 2, 3)},
    "EF": 46, "LE": 1, "VOICE-ADMIT": 44,
}  # fmt: skip
"""RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622."""


def _read_dscp(text: str) -> Masked:
    if text.upper() in _CODE_POINTS:
        return Masked(_CODE_POINTS[text.upper()], ANY_DSCP)
    expected = "a DSCP from 0 to 63, its name such as AF11 or EF, or VALUE/MASK"
    return _read_masked(text, ANY_DSCP, expected)


dscp = Reader(
    _read_dscp,
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": ANY_DSCP},
            {"enum": list(_CODE_POINTS)},
            {"type": "string", "pattern": f"^({_NUMBER})(/({_NUMBER}))?$"},
        ]
    },
    lambda value: _write_masked(value, ANY_DSCP),
)

flow_label = Reader(
    lambda text: _read_masked(text, ANY_FLOW_LABEL, "a flow label such as 0x1234, or LABEL/MASK"),
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": ANY_FLOW_LABEL},
            {"type": "string", "pattern": f"^({_NUMBER})(/({_NUMBER}))?$"},
        ]
    },
    lambda value: _write_masked(value, ANY_FLOW_LABEL),
)


def _named_number(kind: str, text: str, high: int, expected: str) -> int:
    """Read a number, or the name that iproute2 has for one."""
    number = _number(text)
    if number is None:
        number = iproute2_names.number_of(kind, text)
    if number is None or number > high:
        raise ValueError(
            f"expected {expected} from 0 to {high} or a name of {iproute2_names.file_of(kind)}, "
            f"got {text!r}"
        )
    return number


group = Reader(
    lambda text: 0 if text == "default" else _named_number("group", text, _GROUP_MAX, "a group"),
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": _GROUP_MAX},
            {"type": "string", "examples": ["default"]},
        ]
    },
)


def _read_realms(text: str) -> Realms:
    source, slash, destination = text.rpartition("/")
    value = Realms(
        _named_number("rt_realms", source, _REALM_MAX, "a realm") if slash else 0,
        _named_number("rt_realms", destination, _REALM_MAX, "a realm"),
    )
    if value == Realms(0, 0):
        raise ValueError("realm 0 is none: leave `realms` out")
    return value


realms = Reader(
    _read_realms,
    {"type": ["string", "integer"], "examples": [5, "3/5"]},
    lambda value: f"{value.source}/{value.destination}" if value.source else str(value.destination),
)
