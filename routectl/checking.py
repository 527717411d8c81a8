"""`check FILE`: a configuration judged by the daemon's own code, without the daemon.

The file is read with the rights of whoever asks, so nobody can have the daemon read what is not
theirs; and a file can be judged before there is a daemon.
"""

from __future__ import annotations

from ipc.blocking import ControlError, ExitStatus
from routed.config.load import ConfigError, load_file
from routed.config.secrets import KeyFileError, read_secrets

__all__ = ["check_file"]


def check_file(path: str) -> list[str]:
    """Judge a file and the key files that it names; what to say when all is well.

    Raises:
        ControlError: every mistake, a line each, as `file:line:column: path: expectation`.
    """
    try:
        read_secrets(load_file(path, is_from_terminal=True), path)
    except ConfigError as error:
        raise _wrong(str(error)) from error
    except KeyFileError as error:
        raise _wrong("\n".join(error.problems)) from error
    return [f"{path} is right"]


def _wrong(text: str) -> ControlError:
    return ControlError("failed", text, ExitStatus.REFUSED)
