"""How an interface is counted by the dataplane, and why not better. Pure."""

from __future__ import annotations

import enum

__all__ = ["DataplaneArray", "DataplaneReason", "Rung"]


class Rung(enum.Enum):
    """How an interface is counted."""

    TCX = "tcx"
    """By programs at its tcx hooks (Linux 6.6), together with those of others."""
    NONE = "none"
    """Not at all."""


class DataplaneReason(enum.Enum):
    """Why an interface stands on its rung; the names are shown, logged and exported."""

    NONE = ""
    """It stands where it should."""
    RESTART_NEEDED = "restart-needed"
    """The programs are loaded at the daemon's start only, while it may load programs."""
    NO_CAPABILITY = "no-capability"
    KERNEL_TOO_OLD = "kernel-too-old"
    VERIFIER_REFUSED = "verifier-refused"
    NO_MEMORY = "no-memory"
    NO_SUCH_INTERFACE = "no-such-interface"
    LINK_TYPE = "link-type"
    """The frames of this type of interface are laid out in a way that the programs do not know."""
    TOO_MANY = "too-many"
    """All counters are in use by other interfaces."""
    REFUSED = "refused"
    """By the kernel, with an error of its own."""


class DataplaneArray(enum.Enum):
    """Memory that the programs share with the engine (`routed.dataplane.layout`)."""

    LINKS = "links"
    ACTIVITY = "activity"
    WORDS = "words"
    ROUTES = "routes"
