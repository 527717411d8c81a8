"""The scheduling priority of the liveness process, whose deadlines are milliseconds.

The parent raises the limit of its children (RLIMIT_NICE) while it still has CAP_SYS_RESOURCE; the
liveness process uses it before it is confined, and then gives the limit up. An engine gives it up
unused. Where the limit cannot be raised (a user namespace, a container, a service without
`LimitNICE=`), the process runs at the priority of the daemon.

Sources: setrlimit(2), getpriority(2), sched(7).
"""

from __future__ import annotations

import os
import resource

__all__ = ["HIGHEST_NICE", "forbid_priority", "permit_priority", "raise_priority"]

HIGHEST_NICE = -20
_HIGHEST_LIMIT = 40
"""20 - HIGHEST_NICE, as RLIMIT_NICE counts."""


def permit_priority() -> bool:
    """Let children of this process raise their priority. Returns whether this process may permit
    that."""
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (_HIGHEST_LIMIT, _HIGHEST_LIMIT))
    except (OSError, ValueError):  # ValueError: above the hard limit
        return False
    return True


def raise_priority() -> bool:
    """Raise the priority of this process. Returns whether that was permitted."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, HIGHEST_NICE)
    except OSError:
        return False
    return True


def forbid_priority() -> None:
    """Give up the right to raise the priority of this process."""
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
