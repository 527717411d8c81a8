"""The engine's wishes on their way into the parent's books: unpacked, and judged.

The engine is not trusted. Columns that are no columns end it (`ColumnError`); a route that it may
not ask for (a table that is not configured, next hops that cannot be) is left out and reported, and
the rest of the message is taken.
"""

from __future__ import annotations

from typing import NamedTuple

from ipc.columns import unpack_keys, unpack_values
from ipc.internal import FibColumns, FibValue
from ipc.internal import FibUpdate as FibUpdateMessage
from routed.fib.ownership import Ownership, RouteValue, find_violation
from routed.fib.sync import FibRemovals, FibRows, FibUpdate
from routed.model.prefix import Prefix

__all__ = ["Refused", "judge_update"]


class Refused(NamedTuple):
    """A route that the engine may not ask for."""

    prefix: Prefix
    problem: str


def judge_update(
    message: FibUpdateMessage, ownership: Ownership
) -> tuple[FibUpdate, list[Refused]]:
    """Unpack an update and leave out what may not be.

    Raises:
        ColumnError: nothing that an honest engine sends.
    """
    refused: list[Refused] = []
    values = [RouteValue.canonical(value.type, value.next_hops) for value in message.values]
    install = [
        rows
        for columns in message.install
        if (rows := _judge(columns, message.values, values, ownership, refused)).keys
    ]
    remove = [
        FibRemovals(columns.table_id, columns.family, unpack_keys(columns.family, columns.keys))
        for columns in message.remove
        if columns.table_id in ownership.tables
    ]
    return FibUpdate(message.serial, install, remove), refused


def _judge(
    columns: FibColumns,
    asked: tuple[FibValue, ...],
    values: list[RouteValue],
    ownership: Ownership,
    refused: list[Refused],
) -> FibRows:
    table_id, family = columns.table_id, columns.family
    keys = unpack_keys(family, columns.keys)
    if table_id in ownership.tables:
        problems = [
            find_violation(family, RouteValue(value.type, value.next_hops)) for value in asked
        ]
    else:
        problems = [f"table {table_id} is not configured"] * len(asked)
    wanted = unpack_values(columns.values, values, len(keys))
    if any(problems):
        found = unpack_values(columns.values, problems, len(keys))
        refused += [
            Refused(Prefix.from_int(family, key), problem)
            for key, problem in zip(keys, found, strict=True)
            if problem
        ]
        wanted = [value for value, problem in zip(wanted, found, strict=True) if not problem]
        keys = [key for key, problem in zip(keys, found, strict=True) if not problem]
    return FibRows(table_id, family, keys, wanted)
