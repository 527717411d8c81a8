"""Names of tables that have a meaning of their own, whatever a configuration has."""

from __future__ import annotations

__all__ = ["ALL_TABLES", "MAIN_TABLE"]

MAIN_TABLE = "main"
"""The daemon's main table (`fib.table`), whatever its number."""

ALL_TABLES = "all"
"""Every table, where commands take the name of one."""
