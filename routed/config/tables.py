"""The section `tables`: kernel tables besides the daemon's main one, each with a name.

A table has a RIB of its own. Routes name it by the key of its entry; the kernel knows it by its
number. As users and groups, a table is a name in the file, and a name with its number in the
decoded configuration, because the engine cannot read iproute2's files.

See `schema` for the rest of routes.yaml, and `options` for how an option is declared.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ipc.lazy_dataclass import dataclass
from routed.config import table_scalars
from routed.config.options import Scalar
from routed.config.options import option as _option
from routed.config.static import StaticConfig
from routed.config.table_scalars import TableName
from routed.model.rule import RESERVED_TABLES
from routed.model.tables import ALL_TABLES, MAIN_TABLE

__all__ = [
    "TABLES_MAX",
    "TableConfig",
    "reference_problem",
    "statics_by_table",
    "table_problems",
]

TABLES_MAX = 1024
"""Entries of `tables`: each table is read by two dumps at a resync."""


@dataclass(frozen=True, slots=True)
class TableConfig:
    """An entry of `tables`: a kernel table with a RIB of its own."""

    key: TableName
    number: int | None = _option(
        Scalar(table_scalars.table),
        "The number of the kernel table, or its name in iproute2's `rt_tables`; without it the "
        "entry's own name is that number or name.",
        default=None,
    )

    @property
    def name(self) -> str:
        """The name by which routes and commands refer to it."""
        return self.key.text

    @property
    def table_id(self) -> int:
        """The number of the kernel table; 0 if the entry does not say it, which is refused."""
        return self.number or self.key.number or 0


def table_problems(
    entries: Sequence[tuple[int, TableConfig]], main_id: int | None
) -> Iterator[tuple[str, str]]:
    """Yield the path and the problem of each entry that cannot be.

    Args:
        entries: those that are valid in themselves, with their index.
        main_id: the number of the daemon's main table; None if it is not known.
    """
    seen: dict[int, str] = {}
    if len(entries) > TABLES_MAX:
        yield "tables", f"{len(entries)} tables besides the main one; at most {TABLES_MAX}"
    for _, entry in entries:
        path = f"tables.{entry.name}"
        problem = _problem_of(entry, main_id)
        if not problem and entry.table_id in seen:
            problem = f"table {entry.table_id} is also `tables.{seen[entry.table_id]}`"
        if problem:
            yield path, problem
        seen.setdefault(entry.table_id, entry.name)


def _problem_of(entry: TableConfig, main_id: int | None) -> str:
    if entry.name in (MAIN_TABLE, ALL_TABLES):
        return f"`{entry.name}` cannot be the name of a table: commands use it for another purpose"
    if not entry.table_id:
        return (
            f"{entry.name!r} is no number and no name of {table_scalars.table_names_file()}: "
            "give the `number` of the table"
        )
    if entry.table_id == RESERVED_TABLES["local"]:
        return "the local table belongs to the kernel"
    if entry.table_id == main_id:
        return f"table {main_id} is the daemon's main table already (`fib.table`)"
    return ""


def reference_problem(name: str, entries: Sequence[tuple[int, TableConfig]]) -> str:
    """Return what to do about a reference to a table that `tables` does not have."""
    same = [entry.name for _, entry in entries if str(entry.table_id) == name]
    near = same or difflib.get_close_matches(name, [entry.name for _, entry in entries], 1)
    if near:
        return f"`tables` has no {name!r}; did you mean {near[0]!r}?"
    return f"`tables` has no {name!r}: add `tables: {{{name}: {{}}}}`, or leave `table` out"


def statics_by_table(
    statics: Sequence[StaticConfig], tables: Iterable[TableConfig]
) -> Mapping[str | None, Sequence[StaticConfig]]:
    """Group static routes by the name of their table, None for the main one.

    Cost: nothing if there are no other tables.
    """
    names = [entry.name for entry in tables]
    if not names:
        return {None: statics}
    found: dict[str | None, list[StaticConfig]] = {name: [] for name in (None, *names)}
    for static in statics:
        found[static.table].append(static)
    return found
