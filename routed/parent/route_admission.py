"""The engine's desired routes on their way into the parent's books: unpacked, judged, and bounded.

The engine is not trusted. Columns that are no columns end it (`ColumnError`); a route that it may
not ask for (a table that is not configured, next hops that cannot be) is left out and reported, and
the rest of the message is taken. Updates faster than the kernel follows, and more routes than can
be meant, end it too.

Cost: each next hop, prefix and index of a message is looked at a fixed number of times, so the work
is linear in the message's bytes whatever it says (`tests/unit/parent/test_route_admission.py`
counts).
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
"""Four times what `routed.engine.fib.desired` ever has on its way."""
ROUTES_MAX = 4_000_000
"""What an engine may want at once: four times the full tables of today. Without a bound an engine
that went mad would fill this process and the kernel until the machine is out of memory."""

COLUMNS_MAX = 16
"""Columns of one kind in a message. An honest engine has one for each family of a table, and
two tables while a reload moves it from one to the other."""


class Refused(NamedTuple):
    """A route that the engine may not ask for."""

    prefix: Prefix
    problem: str


class RouteAdmission:
    """Admits the desired routes of engines, and owns the count of them."""

    def __init__(self, sync: FibSync, log: Logger, martians: MartianRules = NO_EXCEPTIONS) -> None:
        """Admit the routes of a first engine.

        Args:
            sync: programs the routes that are admitted.
            log: for the routes that are refused.
            martians: the martians that may be installed, until `follow`.
        """
        self._martians = martians
        self._sync = sync
        self._log = log
        self._desired_since_counted = 0
        """An upper bound of the desired routes: they are not counted anew for every update."""

    def follow(self, martians: MartianRules) -> None:
        """Apply the martian rules of another configuration to later updates."""
        self._martians = martians

    def handle_update(self, message: FibUpdateMessage) -> None:
        """Admit the valid routes of an update.

        Raises:
            FloodError: an honest engine never sends so much.
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
        """Let the FIB remove stale routes once the updates so far were tried.

        Raises:
            FloodError: too many updates are waiting.
        """
        self._check_flood()
        self._sync.in_sync()

    def handle_to_verify(self, message: NextHopsToVerify) -> None:
        """Take next hops that are probably dead out of their groups, before the RIB decides."""
        self._sync.suspect(message.legs)

    def handle_verified(self, _message: NextHopsVerified) -> None:
        """Restore the groups once the updates so far were tried: the RIB has decided.

        Raises:
            FloodError: too many updates are waiting.
        """
        self._check_flood()
        self._sync.next_hops_evaluated()

    def _check_flood(self) -> None:
        """Refuse to pile up what an engine says faster than the kernel follows: an honest one
        waits (`routed.engine.fib.desired`)."""
        if self._sync.updates_waiting >= UPDATES_WAITING_MAX:
            raise FloodError(f"more than {UPDATES_WAITING_MAX} updates at once")

    def _check_amount(self, routes: int) -> None:
        """Refuse to want more routes than can be meant."""
        self._desired_since_counted += routes
        if self._desired_since_counted > ROUTES_MAX:
            self._desired_since_counted = self._sync.counters().desired + routes
        if self._desired_since_counted > ROUTES_MAX:
            raise FloodError(f"more than {ROUTES_MAX} routes wanted")


def validate_update(
    message: FibUpdateMessage, ownership: Ownership, martians: MartianRules = NO_EXCEPTIONS
) -> tuple[DesiredChanges, list[Refused]]:
    """Unpack an update and leave out what may not be.

    Raises:
        ColumnError: nothing that an honest engine sends.
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
    """The values of one message: each is validated once for each family, however many columns
    name it."""

    def __init__(self, values: tuple[FibValue, ...]) -> None:
        self.canonical = [RouteValue.canonical(value.type, value.next_hops) for value in values]
        self._values = values
        self._problems: dict[Family, list[str]] = {}

    def problems(self, family: Family) -> list[str]:
        """Why a route of a family may not have each value; an empty text where it may."""
        found = self._problems.get(family)
        if found is None:
            found = self._problems[family] = [
                find_violation(family, RouteValue(value.type, value.next_hops))
                for value in self._values
            ]
        return found


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
        # Whoever takes the rows looks at every distinct value: not at those that no row names.
        return FibRows(table_id, family, keys, list(wanted))
    return FibRows(table_id, family, keys, wanted)


def _to_verify(family: Family, keys: Sequence[int]) -> Sequence[int]:
    """The keys that can be martians, by their first octets.

    Cost: 2 ns a key of a column.
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
    """The prefixes of a column, checked; as they came, where the C extension can check them.

    Raises:
        ColumnError: not whole, or not prefixes.
    """
    if extension.native is None or len(column) % KEY_BYTES[family]:
        return unpack_keys(family, column)
    if extension.native.check_keys(column, family.width // 8) >= 0:
        unpack_keys(family, column)  # says which one, and why
        raise AssertionError("C and Python do not agree on what a prefix is")
    return KeyColumn(family, column)


def _values(column: bytes, values: list[RouteValue], count: int) -> ValueColumn[RouteValue]:
    """The values that a column of indices names.

    Raises:
        ColumnError: another number of them, or an index beyond the values.
    """
    if len(column) != 4 * count or max(struct.unpack(f">{count}I", column), default=0) >= len(
        values
    ):
        unpack_values(column, values, count)  # says what is wrong
    return ValueColumn(values, column)
