"""Start-up: every step that can fail is done before the kernel's tables are changed.

    privileges -> key files -> pid file -> other daemons -> log -> management and metrics sockets
    -> programs of the dataplane, if it is configured -> confinement

The order is chosen for the most helpful message: for a second daemon, the pid of the first one is
more helpful than the message that its socket is in use. Nothing here accesses the kernel's tables.

Failure: `StartError`, a message for the user at the terminal; everything that was opened is closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ipc.lazy_dataclass import dataclass, field
from routed.config.permissions import is_of_another
from routed.config.schema import Config
from routed.config.secrets import KeyFileError, read_secrets
from routed.model.secret import SharedSecret
from routed.parent.dataplane import Loaded, load_dataplane
from routed.parent.engine_process.spawn import is_uid_mapped
from routed.parent.instance_lock import InstanceLock, OtherInstanceError
from routed.parent.listeners import ListenerError, Listeners
from routed.parent.lockfile import LockRefusedError
from routed.parent.log_output import DaemonLog
from routed.parent.pidfile import AlreadyRunning, PidFile
from routed.sandbox import capabilities
from routed.sandbox.capabilities import Capability
from routed.sandbox.confine import ConfinementError, confine_parent

__all__ = ["Opened", "StartError", "open_daemon"]


class StartError(Exception):
    """The daemon cannot start here; the message says why and what to do."""

    def __init__(self, message: str, *, is_config_wrong: bool = False) -> None:
        super().__init__(message)
        self.is_config_wrong = is_config_wrong
        """Whether a file that the configuration names is the reason, as `--check` would find."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The resources of a daemon that can start."""

    secrets: tuple[SharedSecret, ...]
    pid_file: PidFile
    log: DaemonLog
    listeners: Listeners
    instance: InstanceLock
    dataplane: Loaded
    started_at_ns: int = field(default_factory=time.monotonic_ns)
    """Monotonic time of the start, in nanoseconds."""

    def close(self) -> None:
        """Close the listeners, release the locks, and remove their files; the log stays open."""
        self.listeners.close()
        self.instance.close()
        self.pid_file.remove()


def open_daemon(config: Config, config_path: str, *, is_foreground: bool) -> Opened:
    """Open all resources, and drop the privileges that were needed only for that.

    Args:
        config: the configuration, already validated.
        config_path: its absolute path; relative paths of key files start from its directory.
        is_foreground: whether to log to stderr unless the configuration names a file.

    Raises:
        StartError: the daemon cannot start.
    """
    _check_privileges(config)
    with ExitStack() as undo:
        with _refusals():
            secrets = read_secrets(config, config_path)
        with _refusals(f"pid file {config.pid_file}: "):
            pid_file = PidFile(config.pid_file)
            undo.callback(pid_file.remove)
        with _refusals():
            instance = InstanceLock(config.fib.protocol, config_path)
            undo.callback(instance.close)
        with _refusals(f"log file {config.log.file}: "):
            log = DaemonLog(config.log, is_foreground=is_foreground)
        with _refusals():
            listeners = Listeners(config.management.socket, config.metrics.listen)
            undo.callback(listeners.close)
        dataplane = load_dataplane(config.dataplane)
        undo.callback(dataplane.close)
        with _refusals():
            kept = confine_parent(config.user.uid)
        undo.pop_all()
    log.begin_thread()
    log.logger.emit("privileges-dropped", kept=capabilities.names_of(kept))
    if instance.warning:
        log.logger.emit("instance-lock-missing", reason=instance.warning)
    if (owner := _other_owner(config_path)) is not None:
        log.logger.emit("config-of-another", path=config_path, owner=owner)
    if not os.access(config_path, os.R_OK):
        # Root read it with CAP_DAC_OVERRIDE, which has been dropped: a reload would fail.
        log.logger.emit("config-out-of-reach", path=config_path, uid=os.getuid())
    return Opened(secrets, pid_file, log, listeners, instance, dataplane)


def _other_owner(config_path: str) -> int | None:
    """Return the uid of the configuration's owner, if it is neither root nor our own user."""
    try:
        status = os.stat(config_path)
    except OSError:
        return None  # removed since it was read; the next reload will report that
    # In a user namespace, all uids that are not mapped appear as one uid, often not mapped itself.
    if not is_of_another(status) or not is_uid_mapped(status.st_uid):
        return None
    return status.st_uid


@contextmanager
def _refusals(where: str = "") -> Iterator[None]:
    """Convert the errors of a step to StartError.

    Args:
        where: a prefix for the message of an OSError; the other errors name the place themselves.
    """
    try:
        yield
    except (
        KeyFileError,
        AlreadyRunning,
        LockRefusedError,
        OtherInstanceError,
        ListenerError,
        ConfinementError,
    ) as error:
        raise StartError(str(error), is_config_wrong=isinstance(error, KeyFileError)) from error
    except OSError as error:
        raise StartError(f"{where}{error.strerror}") from error


def _check_privileges(config: Config) -> None:
    if not capabilities.has(Capability.NET_ADMIN):
        raise StartError(
            "needs the capability CAP_NET_ADMIN to write routes: run it as root, by the systemd "
            "unit in configs/, or in a namespace of your own"
        )
    uid = config.user.uid
    if uid == os.getuid():
        return
    if not capabilities.has(Capability.SETUID):
        raise StartError(
            f"cannot run the engine as user {config.user.name!r} without CAP_SETUID: run as root, "
            "or set `user:` to the user that starts the daemon"
        )
    if not is_uid_mapped(uid):
        raise StartError(
            f"user {config.user.name!r} (uid {uid}) does not exist in this user namespace; "
            "set `user: root`, which is the user that made the namespace"
        )
