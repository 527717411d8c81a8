"""Counters of the rules that engines broke."""

from __future__ import annotations

from collections import Counter

from ipc.lazy_dataclass import dataclass, field
from routed.parent.engine_process.log_relay import RelayBudget

__all__ = ["REFUSED_NAMES_MAX", "Conduct"]

REFUSED_NAMES_MAX = 500
"""Most names of refused system calls with a counter each; further ones are counted as `other`."""


@dataclass(slots=True)
class Conduct:
    """Counters of the rules that engines broke, since the daemon started."""

    violations: Counter[str] = field(default_factory=Counter)
    """Rules broken, by kind: of the `channel`, a `flood`, or a fatal `syscall`."""
    refusals: Counter[str] = field(default_factory=Counter)
    """System calls refused, by name."""
    messages_dropped: Counter[str] = field(default_factory=Counter)
    """Messages to an engine that could not be sent, by class: a defect of the parent."""
    log_budget: RelayBudget = field(default_factory=RelayBudget)
    """The budget of log lines that engines may still use."""

    def count_refusal(self, call: str) -> None:
        """Count a refused system call; an intruder may have chosen the name."""
        is_known = call in self.refusals or len(self.refusals) < REFUSED_NAMES_MAX
        self.refusals[call if is_known else "other"] += 1
