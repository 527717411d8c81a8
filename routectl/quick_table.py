"""Made by `python -m routectl.generate` from the command tree; not to be edited.

Words: how many they are, request type, where its fields come from, positionals, keywords, flags,
the form. A field ending in ? says whether a flag was given; @family is the option -4 or -6.
"""

from __future__ import annotations

__all__ = ["BRANCHES", "COMMANDS"]

_Names = tuple[str, ...]

BRANCHES: dict[_Names, _Names] = {
    (): ("show", "lookup", "fib", "topology", "report", "top", "explain", "monitor", "route", "reload", "confirm", "rollback", "diff", "check", "clear", "record", "log", "help", "completion", "quit", "exit"),
    ("show",): ("status", "neighbors", "interfaces", "routes", "route", "fib", "nexthops", "rules", "protocol", "config", "counters", "log", "memory"),
    ("fib",): ("couple", "decouple", "resync"),
    ("route",): ("add", "replace", "delete", "import", "renew"),
    ("clear",): ("neighbor",),
    ("record",): ("on", "off"),
    ("log",): ("level",),
}  # fmt: skip
"""What may follow the words of a command that is not complete."""

COMMANDS: dict[_Names, tuple[int, int, _Names, _Names, _Names, _Names, str]] = {
    ("show", "status"): (2, 10, (), (), (), (), "STATUS"),
    ("show", "neighbors"): (2, 11, ("neighbor", "interface"), ("neighbor",), ("interface",), (), "NEIGHBORS"),
    ("show", "interfaces"): (2, 12, ("interface",), ("interface",), (), (), "INTERFACES"),
    ("show", "routes"): (2, 13, ("@family", "prefix", "longer?", "source", "selected?"), ("prefix",), ("source",), ("longer", "selected"), "ROUTES"),
    ("show", "fib"): (2, 15, ("@family", "prefix", "longer?"), ("prefix",), (), ("longer",), "FIB"),
    ("show", "protocol"): (2, 24, (), (), (), (), "PROTOCOL"),
    ("show", "config"): (2, 23, ("section", "all?"), ("section",), (), ("all",), "CONFIG"),
    ("show", "counters"): (2, 16, (), (), (), (), "COUNTERS"),
    ("show", "log"): (2, 22, ("level", "event"), (), ("level", "event"), (), "LOG"),
    ("show", "memory"): (2, 17, (), (), (), (), "MEMORY"),
}  # fmt: skip
