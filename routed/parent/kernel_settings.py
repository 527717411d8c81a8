"""The settings of the kernel side, from the sections of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from routed.config.schema import FibConfig, LearnConfig, RuleConfig, TableConfig
from routed.fib.imported import KernelImportRule
from routed.fib.routes.ownership import Ownership
from routed.model.rule import PolicyRule

__all__ = ["KernelSettings"]


class KernelSettings(NamedTuple):
    """The sections that the kernel side follows; it uses nothing else of a configuration."""

    fib: FibConfig
    rules: list[PolicyRule]
    imports: list[KernelImportRule]
    other_tables: frozenset[int] = frozenset()
    """The tables of our routes besides `fib.table`."""

    @classmethod
    def of(
        cls,
        fib: FibConfig,
        rules: Iterable[RuleConfig],
        learn: Iterable[LearnConfig],
        tables: Iterable[TableConfig] = (),
    ) -> KernelSettings:
        """Take the settings from sections of a configuration."""
        return cls(
            fib,
            [rule for entry in rules for rule in entry.rules],
            [
                KernelImportRule(
                    entry.protocol, entry.table, entry.distance, entry.tag, entry.accepts
                )
                for entry in learn
            ],
            frozenset(entry.table_id for entry in tables),
        )

    @property
    def ownership(self) -> Ownership:
        """The kernel routes that are the daemon's."""
        tables = self.other_tables | {self.fib.table_id}
        return Ownership(self.fib.protocol, self.fib.priority, tables)
