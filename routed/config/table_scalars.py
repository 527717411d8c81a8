"""Readers of YAML scalars that stand for kernel tables and VRFs; see `scalars`.

A table is a number in the decoded configuration. Names come from iproute2's files and from the VRF
devices of this network namespace, as of the moment at which the file is read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from routed.config import iproute2_names
from routed.config.scalars import Reader, word
from routed.config.vrf import table_of_vrf
from routed.model.rule import RESERVED_TABLES
from routed.model.tables import MAIN_TABLE

__all__ = [
    "TableName",
    "any_table",
    "entry_name",
    "table",
    "table_names_file",
    "table_reference",
]

_TABLE_WORDS = {number: name for name, number in RESERVED_TABLES.items()}


def _read_any_table(text: str) -> int:
    if text in RESERVED_TABLES:
        return RESERVED_TABLES[text]
    if text.startswith("vrf:") and text != "vrf:":
        return table_of_vrf(text.removeprefix("vrf:"))
    if re.fullmatch(r"[0-9]{1,20}", text):
        number: int | None = int(text)
    else:
        number = iproute2_names.number_of(_RT_TABLES, text)
    if number is None or not 1 <= number < 1 << 32:
        raise ValueError(
            f"expected main, a table number from 1 to {2**32 - 1}, vrf:NAME, or a name of "
            f"{iproute2_names.file_of(_RT_TABLES)}, got {text!r}"
        )
    return number


_RT_TABLES = "rt_tables"


def _read_table(text: str) -> int:
    table_id = _read_any_table(text)
    if table_id == RESERVED_TABLES["local"]:
        raise ValueError("the local table belongs to the kernel")
    return table_id


def _write_table(table_id: int) -> str:
    return _TABLE_WORDS.get(table_id, str(table_id))


_TABLE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 2**32 - 1},
        {"type": "string", "examples": ["main", "vrf:red"]},
    ]
}

table = Reader(_read_table, _TABLE_SCHEMA, _write_table)
"""A table whose routes are managed or read."""

any_table = Reader(_read_any_table, _TABLE_SCHEMA, _write_table)
"""A table that is looked up."""


class TableName(NamedTuple):
    """The name of an entry of `tables`, and the number that it stands for by itself."""

    text: str
    number: int | None
    """None if it is no number and no name of iproute2."""

    def __str__(self) -> str:
        return self.text


def _read_table_name(text: str) -> TableName:
    word.read(text)
    if not text.isdecimal():
        known = RESERVED_TABLES.get(text)
        return TableName(text, known or iproute2_names.number_of(_RT_TABLES, text))
    if str(number := int(text)) != text or not 1 <= number < 1 << 32:
        raise ValueError(f"expected a table number from 1 to {2**32 - 1} or a name, got {text!r}")
    return TableName(text, number)


_NAME_SCHEMA = {"type": ["string", "integer"], "pattern": "^[A-Za-z0-9_.-]{1,64}$"}

entry_name = Reader(_read_table_name, _NAME_SCHEMA)
"""The key of an entry of `tables`."""


def _read_reference(text: str) -> str | None:
    return None if text == MAIN_TABLE else word.read(text)


table_reference = Reader(_read_reference, _NAME_SCHEMA)
"""A reference to an entry of `tables`; None for the main table."""


def table_names_file() -> str:
    """Return the path at which an administrator adds names of tables."""
    return iproute2_names.file_of(_RT_TABLES)
