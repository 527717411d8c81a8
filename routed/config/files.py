"""Files of the daemon that are one although their paths are not: by links or mounts.

Equal paths are found in the text (`routed.config.check`); this looks at the file system. A log that
is the pid file by a symbolic link would be appended to it, and `kill $(cat FILE)` get rubbish; one
that is a key file would give its secret another value.

A path is followed to where it leads. What is there is known by device and inode, what is not there
by those of its directory and by its name; what cannot be looked at is nobody else's here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from routed.config.load import ConfigError, Problem
from routed.config.schema import Config
from routed.config.state_names import PREVIOUS, REFUSED, RUNNING, state_path

__all__ = ["check_files"]

_Identity = tuple[int, int, str]
_CONFIGURATION, _STATE_FILE = "this configuration", "a state file"


def check_files(config: Config, config_path: str) -> None:
    """Refuse a configuration by which the daemon would write one file as two.

    Args:
        config: checked.
        config_path: its own file; key files are looked for beside it.

    Raises:
        ConfigError: two options lead to one file.
    """
    known: dict[_Identity, tuple[str, str]] = {}
    problems: list[Problem] = []
    for option, path in _files(config, config_path):
        identity = _identity(path)
        if identity is None:
            continue
        other, at = known.setdefault(identity, (option, path))
        # Whoever looks at a state file by `--check` may.
        if other != option and (other, option) != (_CONFIGURATION, _STATE_FILE):
            words = f"{path} is the same file as {at}, which is {other}"
            problems.append(Problem(config_path, 1, 1, option, words))
    if problems:
        raise ConfigError(problems)


def _files(config: Config, config_path: str) -> Iterator[tuple[str, str]]:
    """What is only read, then what the daemon writes, each with the option that names it."""
    yield _CONFIGURATION, config_path
    directory = os.path.dirname(config_path)
    for key_set in config.keys:
        for key in key_set.keys:
            yield "a key file", os.path.join(directory, key.secret_file)
    yield "pid_file", config.pid_file
    for kind in (RUNNING, PREVIOUS, REFUSED):
        yield _STATE_FILE, state_path(config.pid_file, kind)
    sockets = [("management.socket", config.management.socket)]
    if config.metrics.listen is not None and config.metrics.listen.path:
        sockets.append(("metrics.listen", config.metrics.listen.path))
    for option, path in sockets:
        for ending in ("", ".lock", ".new"):
            yield option, path + ending
    if config.log.file is not None:
        yield "log.file", config.log.file


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        target = os.path.realpath(path)
        try:
            status = os.stat(os.path.dirname(target))
        except OSError:
            return None
        return status.st_dev, status.st_ino, os.path.basename(target)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISSOCK(status.st_mode):
        return None  # a terminal or a pipe may be read and written
    return status.st_dev, status.st_ino, ""
