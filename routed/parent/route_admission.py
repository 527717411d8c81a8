"""Admission of the engine's desired routes to the FIB tables: decoding, validation, and limits.

The engine is not trusted. A malformed column ends it (`ColumnError`). A route that it may not
install (its table is not configured, or its next hops are impossible) is left out and reported, and
the rest of the message is admitted. Updates that arrive faster than the kernel is programmed, and
an implausible number of routes, end the engine as well.

Cost: each next hop, prefix and index of a message is processed a fixed number of times, so the work
is linear in the bytes of the message, whatever its content
(`tests/unit/parent/test_route_admission.py` counts the steps).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ipc.framing import FloodError
from routed.fib.messages import DesiredChanges, FibRemovals, FibRows
from routed.fib.routes import extension
from routed.fib.routes.ownership import Ownership, RouteValue, find_violation
from routed.fib.sync import FibSync
from routed.imsg.columns import ColumnError, unpack_keys, unpack_values
from routed.imsg.messages import FibColumns, FibInSync, FibValue, NextHopsToVerify, NextHopsVerified
from routed.imsg.messages import FibUpdate as FibUpdateMessage
from routed.log.logger import Logger
from routed.model.columns import KEY_BYTES, KeyColumn, ValueColumn
from routed.model.martians import NO_EXCEPTIONS, MartianRules, first_octets
from routed.model.prefix import Family, Prefix

__all__ = [
    "COLUMNS_MAX",
    "ROUTES_MAX",
    "UPDATES_WAITING_MAX",
    "Refused",
    "RouteAdmission",
    "validate_update",
]

UPDATES_WAITING_MAX = 32
"""The most updates in flight: four times as many as `routed.engine.fib.desired` ever has."""
ROUTES_MAX = 4_000_000
"""The most desired routes: four times a full table of today. Without a limit a defective engine
could use up the memory of this process and of the kernel."""

COLUMNS_MAX = 16
"""The most columns of one kind in a message. A correct engine has one for each family of a table,
and two tables while a reload moves the routes from one to the other."""


class Refused(NamedTuple):
    """A route that the engine may not install."""

    prefix: Prefix
    problem: str


class RouteAdmission:
    """The admission of the engines' desired routes, and their count."""

    def __init__(self, sync: FibSync, log: Logger, martians: MartianRules = NO_EXCEPTIONS) -> None:
        """Begin without routes.

        Args:
            sync: programs the routes that are admitted.
            log: receives an event for each route that is refused.
            martians: the martians that may be installed, until `follow`.
        """
        self._martians = martians
        self._sync = sync
        self._log = log
        self._desired_since_counted = 0
        """An upper bound of the desired routes, so that not every update has to count them."""

    def follow(self, martians: MartianRules) -> None:
        """Apply the martian rules of another configuration to later updates."""
        self._martians = martians

    def handle_update(self, message: FibUpdateMessage) -> None:
        """Admit the valid routes of an update.

        Raises:
            FloodError: the engine exceeds UPDATES_WAITING_MAX or ROUTES_MAX.
            ColumnError: the message is malformed.
        """
        self._check_flood()
        admitted, refused = validate_update(
            message, self._sync.fib_tables.ownership, self._martians
        )
        self._check_amount(sum(len(rows.keys) for rows in admitted.install))
        self._sync.refused += len(refused)
        for prefix, problem in refused:
            self._log.emit("fib-route-refused", prefix=prefix, problem=problem)
        self._sync.update(admitted)

    def handle_in_sync(self, _message: FibInSync) -> None:
        """Let the FIB remove stale routes once the updates so far have been attempted.

        Raises:
            FloodError: too many updates are waiting.
        """
        self._check_flood()
        self._sync.in_sync()

    def handle_to_verify(self, message: NextHopsToVerify) -> None:
        """Remove next hops that are probably dead from their groups, before the RIB decides."""
        self._sync.begin_verification(message.next_hops)

    def handle_verified(self, _message: NextHopsVerified) -> None:
        """Restore the groups once the updates so far have been attempted: the RIB has decided.

        Raises:
            FloodError: too many updates are waiting.
        """
        self._check_flood()
        self._sync.next_hops_evaluated()

    def _check_flood(self) -> None:
        """Refuse updates that arrive faster than the kernel is programmed. A correct engine waits
        (`routed.engine.fib.desired`)."""
        if self._sync.updates_waiting >= UPDATES_WAITING_MAX:
            raise FloodError(f"more than {UPDATES_WAITING_MAX} updates at once")

    def _check_amount(self, routes: int) -> None:
        """Refuse more than ROUTES_MAX desired routes."""
        self._desired_since_counted += routes
        if self._desired_since_counted > ROUTES_MAX:
            self._desired_since_counted = self._sync.counters().desired + routes
        if self._desired_since_counted > ROUTES_MAX:
            raise FloodError(f"more than {ROUTES_MAX} desired routes")


def validate_update(
    message: FibUpdateMessage, ownership: Ownership, martians: MartianRules = NO_EXCEPTIONS
) -> tuple[DesiredChanges, list[Refused]]:
    """Decode an update and separate the routes that are refused.

    Args:
        message: the update.
        ownership: the tables that are configured.
        martians: the martians that may be installed.

    Returns:
        The admitted changes, and the refused routes.

    Raises:
        ColumnError: the message is malformed.
    """
    if max(len(message.install), len(message.remove)) > COLUMNS_MAX:
        raise ColumnError(f"an update with more than {COLUMNS_MAX} columns of one kind")
    refused: list[Refused] = []
    values = _MessageValues(message.values)
    install = [
        rows
        for columns in message.install
        if (rows := _validate_columns(columns, values, ownership, martians, refused)).keys
    ]
    remove = [
        FibRemovals(columns.table_id, columns.family, _keys(columns.family, columns.keys))
        for columns in message.remove
        if columns.table_id in ownership.tables
    ]
    return DesiredChanges(message.serial, install, remove, message.completes_start), refused


class _MessageValues:
    """The values of one message, each of which is validated once per family, however many columns
    refer to it."""

    def __init__(self, values: tuple[FibValue, ...]) -> None:
        """Bring the values to their canonical form."""
        self.canonical = [_canonical(value) for value in values]
        self._values = values
        self._problems: dict[Family, list[str]] = {}

    def problems(self, family: Family) -> list[str]:
        """Return for each value why a route of a family must not have it; empty if it may."""
        found = self._problems.get(family)
        if found is None:
            found = self._problems[family] = [
                find_violation(
                    family, RouteValue(value.type, value.next_hops, 0, False, value.attributes)
                )
                for value in self._values
            ]
        return found


def _canonical(value: FibValue) -> RouteValue:
    return RouteValue.canonical(value.type, value.next_hops, value.attributes)


def _validate_columns(
    columns: FibColumns,
    values: _MessageValues,
    ownership: Ownership,
    martians: MartianRules,
    refused: list[Refused],
) -> FibRows:
    table_id, family = columns.table_id, columns.family
    keys = _keys(family, columns.keys)
    wanted = _values(columns.values, values.canonical, len(keys))
    if table_id not in ownership.tables:
        problem = f"table {table_id} is not configured"
        refused += [Refused(Prefix.from_int(family, key), problem) for key in keys]
        return FibRows(table_id, family, [], [])
    problems = values.problems(family)
    martian_keys = dict(martians.find_all(family, _to_verify(family, keys)))
    if martian_keys or any(problems):
        found = unpack_values(columns.values, problems, len(keys))
        found = [
            f"a martian ({martian_keys[key].value})" if key in martian_keys else problem
            for key, problem in zip(keys, found, strict=True)
        ]
        refused += [
            Refused(Prefix.from_int(family, key), problem)
            for key, problem in zip(keys, found, strict=True)
            if problem
        ]
        kept = [value for value, problem in zip(wanted, found, strict=True) if not problem]
        keys = [key for key, problem in zip(keys, found, strict=True) if not problem]
        return FibRows(table_id, family, keys, kept)
    if len(wanted.distinct) > len(keys):
        # The receiver of the rows processes every distinct value: leave out the unused ones.
        return FibRows(table_id, family, keys, list(wanted))
    return FibRows(table_id, family, keys, wanted)


def _to_verify(family: Family, keys: Sequence[int]) -> Sequence[int]:
    """Return the keys that may be martians by their first octets.

    Cost: 2 ns for each key of a column.
    """
    if not isinstance(keys, KeyColumn):
        return keys
    width = KEY_BYTES[family]
    octets = keys.packed[width - 1 - family.width // 8 :: width]
    return [keys[found.start()] for found in _SUSPECT_OCTETS[family].finditer(octets)]


_SUSPECT_OCTETS = {
    family: re.compile(b"[" + re.escape(bytes(sorted(first_octets(family)))) + b"]")
    for family in Family
}


def _keys(family: Family, column: bytes) -> Sequence[int]:
    """Decode and validate a column of prefixes; if the C extension can validate it, it stays bytes.

    Raises:
        ColumnError: a prefix is incomplete or invalid.
    """
    if extension.native is None or len(column) % KEY_BYTES[family]:
        return unpack_keys(family, column)
    if extension.native.check_keys(column, family.width // 8) >= 0:
        unpack_keys(family, column)  # raises an error with the prefix and the reason
        raise AssertionError("C and Python do not agree on what a prefix is")
    return KeyColumn(family, column)


def _values(column: bytes, values: list[RouteValue], count: int) -> ValueColumn[RouteValue]:
    """Return the values to which a column of indices refers.

    Raises:
        ColumnError: the number of indices is not `count`, or an index is beyond the values.
    """
    if len(column) != 4 * count or max(struct.unpack(f">{count}I", column), default=0) >= len(
        values
    ):
        unpack_values(column, values, count)  # raises an error with the reason
    return ValueColumn(values, column)
