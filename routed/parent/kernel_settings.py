"""The settings of the kernel side, from the sections of a configuration."""

from __future__ import annotations

from typing import NamedTuple

from routed.config.schema import Config, FibConfig
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
    def of(cls, config: Config) -> KernelSettings:
        """Take the settings from a configuration."""
        return cls(
            config.fib,
            [rule for entry in config.rules for rule in entry.rules],
            [
                KernelImportRule(
                    entry.protocol, entry.table, entry.distance, entry.tag, entry.accepts
                )
                for entry in config.learn
            ],
        )

    @property
    def ownership(self) -> Ownership:
        """The kernel routes that are the daemon's."""
        return Ownership(self.fib.protocol, self.fib.priority, frozenset({self.fib.table_id}))
