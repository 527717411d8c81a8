"""Who else may write the configuration of a daemon that starts as root.

Whoever writes the file decides about the machine's routes, and by `user:`, `log.file` and
`pid_file` about more. OpenBGPD and its relatives refuse a file that is not root's or the user's
own, that a group may write, or that everybody may read. What differs here, and why:

    readable by all   allowed: keys are in files of their own, which nobody else may read
    group may write   refused, but for root's group, our own, and a group of nobody but the owner:
                      with the umask 002 of many distributions every new file is writable by that
    all may write     refused
    another owner     allowed, and in the log (`config-of-another`): who names the file on root's
                      command line vouches for its owner, and a container's files often belong to
                      the user who started it

Failure: none; a problem is a text.

Source: check_file_secrecy in parse.y of OpenBGPD.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

__all__ = ["is_of_another", "problem_with"]


def problem_with(status: os.stat_result) -> str:
    """Why a configuration must not be used, with the remedy; empty when it may be.

    Args:
        status: of the file.
    """
    if not stat.S_ISREG(status.st_mode):
        return ""  # a pipe or a descriptor: whoever started us has opened it
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_mode & stat.S_IWOTH:
        return f"everybody may write it ({mode}): chmod o-w"
    if status.st_mode & stat.S_IWGRP and _has_others(status.st_gid, status.st_uid):
        return f"its group, gid {status.st_gid}, may write it ({mode}): chmod g-w"
    return ""


def is_of_another(status: os.stat_result) -> bool:
    """Whether a file belongs to neither root nor the user that we are."""
    return status.st_uid not in (0, os.geteuid())


def _has_others(gid: int, owner: int) -> bool:
    """Whether somebody beside root, ourselves and a file's owner is in a group."""
    if gid in (0, os.getegid()):
        return False
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False  # no user here is in a group that does not exist here
    try:
        return any(member != pwd.getpwuid(owner).pw_name for member in members)
    except KeyError:
        return bool(members)
