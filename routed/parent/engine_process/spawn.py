"""The start of the engine by re-exec, as a process that inherits only what it needs.

The parent (privileged) starts `python -P -m routed --role engine` with posix_spawn: a fresh program
image, so that no secret in the parent's heap is inherited, and no Python code runs between fork and
exec. The engine inherits four descriptors and no others (Python sets close-on-exec on the rest):

    0    /dev/null
    1,2  a pipe to the parent, for a traceback
    3    its end of the channel to the parent

The engine imports all modules first and drops its privileges afterwards, because Python imports
some modules only when they are used, which fails without access to the file system: see
`routed.sandbox.confine`. Until then it is root, so it must import only the daemon's own code.
Without -P, Python searches the working directory for modules first, which may belong to any user
if root starts the daemon in the foreground. In addition, the parent has changed its working
directory to / (`routed.parent.daemonize`), and passes absolute module paths.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

from ipc.lazy_dataclass import dataclass
from ipc.standard_streams import open_nothing
from routed.imsg.messages import CHANNEL_FD
from routed.parent.signals import HANDLED

__all__ = [
    "ENGINE_COMMAND",
    "LIVENESS_COMMAND",
    "OBSERVER_COMMAND",
    "EngineProcess",
    "is_uid_mapped",
    "start_engine",
]


ENGINE_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "routed", "--role", "engine")
"""The command of the engine: the daemon's own interpreter and package."""

LIVENESS_COMMAND: tuple[str, ...] = (*ENGINE_COMMAND[:-1], "liveness")
"""The same for the liveness process."""

OBSERVER_COMMAND: tuple[str, ...] = (*ENGINE_COMMAND[:-1], "observer")
"""The same for the observer."""

_ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE")
"""The variables that the engine inherits from the parent, in addition to a PYTHONPATH."""


def module_path(inherited: str, first_entry: str, is_safe: bool) -> str:
    """Return the engine's PYTHONPATH: the directories of this process's modules.

    Args:
        inherited: PYTHONPATH of this process. An empty entry means the working directory and is
            left out; a relative one is relative to the present working directory.
        first_entry: `sys.path[0]`: if `is_safe` is false, the working directory or the directory of
            the program. The engine gets it only if it contains this package, as in a checkout that
            is not installed, started by `python -m routed`.
        is_safe: whether Python was started with -P.
    """
    entries = [os.path.abspath(entry) for entry in inherited.split(os.pathsep) if entry]
    package = str(Path(__file__).absolute().parents[3])
    if not is_safe and os.path.abspath(first_entry) == package:
        entries.append(package)
    return os.pathsep.join(dict.fromkeys(entries))


# At import, not at the start of an engine: by then the working directory of the parent is /.
_MODULE_PATH = module_path(
    os.environ.get("PYTHONPATH", ""), sys.path[0] if sys.path else "", sys.flags.safe_path
)


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """The parent's handles of an engine process. Its owner closes the three descriptors."""

    pid: int
    pidfd: int
    """A pidfd, which is readable once the process has ended."""
    channel: socket.socket
    """The parent's end of the SOCK_SEQPACKET pair."""
    output_fd: int
    """The read end of its standard output and error."""


def start_engine(
    uid: int,
    gid: int,
    sandbox: str,
    channel_buffer_bytes: int,
    command: tuple[str, ...] | None = None,
) -> EngineProcess:
    """Start an engine, or another unprivileged process, that will run as uid and gid.

    Args:
        uid: the user that it changes to once it has imported its code.
        gid: its only group.
        sandbox: `auto`, `required` or `off` (`sandbox:` in the configuration).
        channel_buffer_bytes: size of the socket buffer of each direction.
        command: the program; default: the engine's.

    Raises:
        OSError: there is no free process or descriptor.
    """
    with ExitStack() as undo, ExitStack() as theirs_only:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.callback(ours.close)
        theirs_only.callback(theirs.close)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, channel_buffer_bytes)
        read_end, write_end = os.pipe()
        undo.callback(os.close, read_end)
        theirs_only.callback(os.close, write_end)
        nothing = open_nothing()
        theirs_only.callback(os.close, nothing)
        pid = _spawn(
            [*(command or ENGINE_COMMAND), "--ids", f"{uid}:{gid}", "--sandbox", sandbox],
            nothing,
            theirs.fileno(),
            write_end,
        )
        undo.callback(_end, pid)
        pidfd = os.pidfd_open(pid)
        undo.pop_all()
    return EngineProcess(pid, pidfd, ours, read_end)


def _spawn(argv: list[str], nothing: int, channel: int, output: int) -> int:
    environment = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    if _MODULE_PATH:
        environment["PYTHONPATH"] = _MODULE_PATH
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, nothing, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, channel, CHANNEL_FD),
        ],
        setsigdef=[signal.SIGPIPE],
        setsigmask=HANDLED,  # blocked until the engine has set them to be ignored
    )


def _end(pid: int) -> None:
    """Kill a child process that cannot be watched, and reap it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_uid_mapped(uid: int) -> bool:
    """Whether a uid is mapped in this user namespace; a process cannot change to another uid.

    Without /proc the result is true, and setuid(2) fails if the uid is not mapped.
    """
    try:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map:
            ranges = [tuple(map(int, line.split())) for line in uid_map]
    except OSError:
        return True
    return any(first <= uid < first + count for first, _, count in ranges)
