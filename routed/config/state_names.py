"""The names of the files in which a daemon keeps configurations for its next start.

    /run/routed/routed.pid                  the pid file, which is locked
    /run/routed/routed.pid.running.yaml     its daemon's state files
    /run/routed/routed.pid.previous.yaml
    /run/routed/routed.pid.refused.yaml

The pid file is what there is one of for each daemon, whatever network namespace, table or
configuration it has; so its whole name is part of theirs.
"""

from __future__ import annotations

import os.path

__all__ = ["PREVIOUS", "REFUSED", "RUNNING", "is_state_file", "state_path"]

RUNNING, PREVIOUS, REFUSED = "running.yaml", "previous.yaml", "refused.yaml"

_ENDINGS = tuple(
    f".{os.path.splitext(kind)[0]}.{ending}"
    for kind in (RUNNING, PREVIOUS, REFUSED)
    for ending in ("yaml", "new")  # the latter while it is written
)


def state_path(pid_file: str, kind: str) -> str:
    """Where the daemon of a pid file keeps something.

    Args:
        pid_file: its path.
        kind: RUNNING, PREVIOUS or REFUSED.
    """
    return f"{pid_file}.{kind}"


def is_state_file(path: str) -> bool:
    """Whether a path is that of a state file, of whichever daemon."""
    return path.endswith(_ENDINGS)
