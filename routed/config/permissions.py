"""Permissions of the configuration file of a daemon that starts as root.

A user who can write the file controls the routes of the machine and, through `user:`, `log.file`
and `pid_file`, more than that. OpenBGPD and related daemons refuse a file that belongs to neither
root nor their own user, that is writable by its group, or that is readable by all users. The rules
here, and the reasons for the differences:

    readable by all     allowed: secrets are in files of their own, with stricter rules
    writable by group   refused, except for root's group, the group of this process, and a group
                        without a member other than the owner: with the umask 002 of many
                        distributions every new file is writable by such a group
    writable by all     refused
    another owner       allowed, and logged (`config-of-another`): root chose the file on the
                        command line, and files in a container often belong to the user who
                        started the container

Failure: none; problems are returned as text.

Source: check_file_secrecy in parse.y of OpenBGPD.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

__all__ = ["is_of_another", "problem_with"]


def problem_with(status: os.stat_result) -> str:
    """Check the permissions of a configuration file.

    Args:
        status: the status of the file.

    Returns:
        The reason why the file must not be used, with the remedy; empty if it may be used.
    """
    if not stat.S_ISREG(status.st_mode):
        return ""  # a pipe: it was opened by the process that started this one
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_mode & stat.S_IWOTH:
        return f"all users may write it ({mode}): chmod o-w"
    if status.st_mode & stat.S_IWGRP and _has_others(status.st_gid, status.st_uid):
        return f"its group, gid {status.st_gid}, may write it ({mode}): chmod g-w"
    return ""


def is_of_another(status: os.stat_result) -> bool:
    """Whether a file belongs to neither root nor the effective user of this process."""
    return status.st_uid not in (0, os.geteuid())


def _has_others(gid: int, owner: int) -> bool:
    """Whether a group is neither root's nor ours and has a member other than the file's owner."""
    if gid in (0, os.getegid()):
        return False
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False  # a group that does not exist on this system has no members
    try:
        return any(member != pwd.getpwuid(owner).pw_name for member in members)
    except KeyError:
        return bool(members)
