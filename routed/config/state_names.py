"""Names of the files in which a daemon keeps configurations for its next start.

    /run/routed/routed.pid                  the pid file, which is locked
    /run/routed/routed.pid.running.yaml     the state files of the same daemon
    /run/routed/routed.pid.previous.yaml
    /run/routed/routed.pid.refused.yaml

Each daemon has a pid file of its own, whatever network namespace, table or configuration it uses;
hence the names of the state files contain the whole name of the pid file.
"""

from __future__ import annotations

import os.path

__all__ = ["PREVIOUS", "REFUSED", "RUNNING", "is_state_file", "state_path"]

RUNNING, PREVIOUS, REFUSED = "running.yaml", "previous.yaml", "refused.yaml"

_ENDINGS = tuple(
    f".{os.path.splitext(kind)[0]}.{ending}"
    for kind in (RUNNING, PREVIOUS, REFUSED)
    for ending in ("yaml", "new")  # `new` while the file is being written
)


def state_path(pid_file: str, kind: str) -> str:
    """Return the path of a state file.

    Args:
        pid_file: path of the daemon's pid file.
        kind: RUNNING, PREVIOUS or REFUSED.
    """
    return f"{pid_file}.{kind}"


def is_state_file(path: str) -> bool:
    """Whether a path has the name of a state file of any daemon."""
    return path.endswith(_ENDINGS)
