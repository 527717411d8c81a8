"""Secrets, read from their files by the privileged process, which sends them to the engine.

routes.yaml contains names of files and no secrets, so that it can be shown, kept under version
control and attached to a report. A secret must be in a regular file that belongs to root or to the
daemon's user and that other users cannot access; a secret that others may have read is refused. The
group may read the file if it is root's, one of the daemon's, or the engine's: the administrator who
starts the daemon in a group shares the secret with that group, and some systems cannot set a
stricter mode than 0440 (Kubernetes with fsGroup).

Failure: `KeyFileError` with all problems, each with the path of its key in routes.yaml.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from routed.config.load import ConfigError, read_text
from routed.config.schema import Config, KeyAlgorithm, KeyConfig
from routed.model.secret import SharedSecret

__all__ = ["KeyFileError", "read_secrets"]

SECRET_MIN_BYTES = 16
"""The shortest secret, 128 bits if it is random; a shorter one could be found by trying all
secrets against one recorded datagram."""
_BFD_SECRET_MIN_BYTES = 1
"""RFC 5880 allows no more than 16 or 20 bytes, and other systems have short ones."""
_SECRET_MAX_BYTES = {
    KeyAlgorithm.HMAC_SHA256: 1024,
    KeyAlgorithm.BLAKE2S: 32,
    KeyAlgorithm.PASSWORD: 16,
    KeyAlgorithm.KEYED_SHA1: 20,
    KeyAlgorithm.METICULOUS_KEYED_SHA1: 20,
}
_FILE_MAX_BYTES = 4096


class KeyFileError(Exception):
    """At least one secret cannot be used."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the problems: one line each, with file, position and key."""
        super().__init__("\n".join(problems))
        self.problems = problems


def read_secrets(
    config: Config, config_path: str, directory: Path | None = None
) -> tuple[SharedSecret, ...]:
    """Read every secret that a configuration names.

    Args:
        config: the configuration.
        config_path: path of its file.
        directory: where relative paths of key files start; by default, the directory of the file.

    Raises:
        KeyFileError: a key file is unreadable or accessible to others, or a secret is too short or
            too long; has all problems.
    """
    directory = directory or Path(config_path).parent
    problems: list[tuple[str, KeyConfig, str]] = []
    secrets: list[SharedSecret] = []
    for key_set in config.keys:
        for index, key in enumerate(key_set.keys):
            path = directory / key.secret_file
            try:
                secrets.append(SharedSecret(key_set.name, key.id, _read(path, key, config)))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                where = f"keys.{key_set.name}[{index}].secret_file"
                problems.append((where, key, f"{path}: {reason}"))
    if problems:
        text = _text_of(config_path)
        raise KeyFileError(
            [
                f"{config_path}{_place_of(key, text)}: {where}: {problem}"
                for where, key, problem in problems
            ]
        )
    return tuple(secrets)


def _text_of(config_path: str) -> str:
    """Read the configuration again; empty if that is impossible, as with a pipe."""
    try:
        return read_text(config_path)
    except ConfigError:
        return ""


def _place_of(key: KeyConfig, text: str) -> str:
    """Return `:LINE:COLUMN` of the first place that names a key file; empty if there is none.

    Two keys with the same file get the same place, because the problem of the file is the same.
    """
    name = re.escape(str(key.secret_file))
    found = re.search(rf"secret_file['\"]?\s*:\s*['\"]?({name})(?![^\s'\",}}])", text)
    if found is None:
        return ""
    at = found.start(1)
    return f":{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def _read(path: Path, key: KeyConfig, config: Config) -> bytes:
    """Read a secret: the content of the file without leading and trailing white space."""
    # O_NONBLOCK: opening a FIFO must not block the start of the daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a plain file")
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"belongs to uid {status.st_uid}: give it to root (chown root)")
        groups = {0, os.getegid(), *os.getgroups(), config.user.gid}
        closed = 0o037 if status.st_gid in groups else 0o077
        if status.st_mode & closed:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(
                f"is open to others (mode {mode:04o}): chmod 600, and replace the secret"
            )
        secret = file.read(_FILE_MAX_BYTES + 1).strip()
    longest = _SECRET_MAX_BYTES[key.algorithm]
    shortest = _BFD_SECRET_MIN_BYTES if key.algorithm.is_for_bfd else SECRET_MIN_BYTES
    if not shortest <= len(secret) <= longest:
        raise ValueError(
            f"has a secret of {len(secret)} bytes; {key.algorithm.value} requires "
            f"{shortest} to {longest}"
        )
    return secret
