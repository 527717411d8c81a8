"""Commands of clients that the parent carries out. Pure."""

from __future__ import annotations

import enum

__all__ = [
    "FibCommand",
    "ReloadAction",
]


class FibCommand(enum.Enum):
    """What a client may have done to the kernel FIB as a whole."""

    COUPLE = "couple"
    DECOUPLE = "decouple"
    RESYNC = "resync"


class ReloadAction(enum.Enum):
    """What may be asked about the configuration file."""

    CHECK = "check"
    DIFF = "diff"
    PLAN = "plan"
    RELOAD = "reload"
    CONFIRM = "confirm"
    ROLLBACK = "rollback"
