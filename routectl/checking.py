"""`check FILE`: check a configuration file with the daemon's own code, without the daemon.

The file is read with the rights of the user who runs routectl, so the command cannot be used to
read files of other users through the daemon. A file can be checked before a daemon exists.
"""

from __future__ import annotations

import os
from pathlib import Path

from ipc.blocking import ControlError, ExitStatus
from routed.config.files import check_files
from routed.config.load import ConfigError, load_file
from routed.config.secrets import KeyFileError, read_secrets

__all__ = ["check_file"]


def check_file(path: str, base: str | None = None) -> list[str]:
    """Check a file and the key files that it names. Returns the lines to print if it is valid.

    Args:
        path: of the file.
        base: the directory where relative paths of key files start; None: that of the file. So a
            copy can be checked before it takes the place of the file.

    Raises:
        ControlError: the file has errors; one line each, as `file:line:column: path: expectation`.
    """
    try:
        config = load_file(path, is_from_terminal=True)
        place = path if base is None else os.path.join(base, os.path.basename(path))
        check_files(config, os.path.abspath(place))
        read_secrets(config, path, None if base is None else Path(base))
    except ConfigError as error:
        raise _wrong(str(error)) from error
    except KeyFileError as error:
        raise _wrong("\n".join(error.problems)) from error
    return [f"{path} is valid"]


def _wrong(text: str) -> ControlError:
    return ControlError("failed", text, ExitStatus.REFUSED)
