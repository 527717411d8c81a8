"""Detection of options whose different paths lead to the same file, through links or mounts.

Equal paths are found without the file system (`routed.config.check`); this module examines the file
system. If `log.file` were a symbolic link to the pid file, log lines would be appended to the pid,
and `kill $(cat FILE)` would fail; if it were a link to a key file, they would change the secret.

Symbolic links are followed. An existing file is identified by its device and inode, a missing one
by the device and inode of its directory and by its name. A path that cannot be examined, and a file
that is neither a regular file nor a socket, is not compared.
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
    """Refuse a configuration in which two options lead to the same file.

    Args:
        config: the configuration, already validated.
        config_path: path of its file; relative paths of key files start from its directory.

    Raises:
        ConfigError: two options lead to the same file; has all such options.
    """
    known: dict[_Identity, tuple[str, str]] = {}
    problems: list[Problem] = []
    for option, path in _files(config, config_path):
        identity = _identity(path)
        if identity is None:
            continue
        other, at = known.setdefault(identity, (option, path))
        # A state file may itself be checked: `routed --check -c FILE`.
        if other != option and (other, option) != (_CONFIGURATION, _STATE_FILE):
            words = f"{path} is the same file as {at}, which is {other}"
            problems.append(Problem(config_path, 1, 1, option, words))
    if problems:
        raise ConfigError(problems)


def _files(config: Config, config_path: str) -> Iterator[tuple[str, str]]:
    """Yield option and path of each file: first those only read, then those the daemon writes."""
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
