"""The hook at which the dataplane counts an interface, or why it does not. Pure."""

from __future__ import annotations

import enum

__all__ = ["DataplaneArray", "DataplaneReason", "Hook"]


class Hook(enum.Enum):
    """The hook of the kernel at which an interface is counted."""

    TCX = "tcx"
    """tcx (Linux 6.6), together with the programs of others."""
    NONE = "none"
    """Not at all."""


class DataplaneReason(enum.Enum):
    """Why an interface is not counted; the names are shown, logged and exported."""

    NONE = ""
    """It is counted."""
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
    """Memory that the programs share with engine and observer (`routed.dataplane.layout`)."""

    LINKS = "links"
    ACTIVITY = "activity"
    WORDS = "words"
    ROUTES = "routes"
    FLOWS = "flows"
    TAGS = "tags"
    ENDED = "ended"
    RINGS = "rings"
