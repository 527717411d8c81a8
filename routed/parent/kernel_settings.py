"""The settings of the kernel side, from the sections of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from routed.config.schema import FibConfig, LearnConfig, RuleConfig
from routed.fib.imported import KernelImportRule
from routed.fib.routes.ownership import Ownership
from routed.model.rule import PolicyRule

__all__ = ["KernelSettings"]


class KernelSettings(NamedTuple):
    """The sections that the kernel side follows; it uses nothing else of a configuration."""

    fib: FibConfig
    rules: list[PolicyRule]
    imports: list[KernelImportRule]

    @classmethod
    def of(
        cls, fib: FibConfig, rules: Iterable[RuleConfig], learn: Iterable[LearnConfig]
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
        )

    @property
    def ownership(self) -> Ownership:
        """The kernel routes that are the daemon's."""
        return Ownership(self.fib.protocol, self.fib.priority, frozenset({self.fib.table_id}))
