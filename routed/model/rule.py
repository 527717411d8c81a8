"""Policy routing rules: which packets consult which table (ip-rule(8))."""

from __future__ import annotations

import enum
from typing import NamedTuple

from routed.model.link import InterfaceName
from routed.model.prefix import Family, Prefix

__all__ = ["ANY_MARK", "PolicyRule", "RuleAction"]

ANY_MARK = 0xFFFF_FFFF
"""The mask that compares a whole firewall mark; what the kernel assumes when none is given."""


class RuleAction(enum.IntEnum):
    """What becomes of a packet that the rule matches, numbered as in linux/fib_rules.h."""

    LOOKUP = 1
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


class PolicyRule(NamedTuple):
    """One rule of one family; two equal ones are the same rule."""

    family: Family
    priority: int
    """0 to 2**32 - 1; the lowest is asked first."""
    action: RuleAction = RuleAction.LOOKUP
    table_id: int = 0
    """What is looked up; 0 for other actions."""
    source: Prefix | None = None
    destination: Prefix | None = None
    iif: InterfaceName | None = None
    """The link that the packet came in by; `lo` for packets of this host."""
    oif: InterfaceName | None = None
    """The link that a socket is bound to."""
    fwmark: int = 0
    fwmask: int = 0
    """0: the mark is not looked at."""

    def __str__(self) -> str:
        words = [f"{self.priority}:", f"from {self.source or 'all'}"]
        if self.destination is not None:
            words.append(f"to {self.destination}")
        if self.iif is not None:
            words.append(f"iif {self.iif}")
        if self.oif is not None:
            words.append(f"oif {self.oif}")
        if self.fwmask:
            mask = "" if self.fwmask == ANY_MARK else f"/{self.fwmask:#x}"
            words.append(f"fwmark {self.fwmark:#x}{mask}")
        if self.action is RuleAction.LOOKUP:
            words.append(f"lookup {_TABLES.get(self.table_id, self.table_id)}")
        else:
            words.append(self.action.name.lower())
        return " ".join(words)


_TABLES = {253: "default", 254: "main", 255: "local"}
