"""Start the engine by re-exec: a process that inherits nothing it does not need.

The parent (privileged) starts `python -P -m routed --role engine` with posix_spawn: a fresh program
image, so no secret of the parent's heap comes along, and no Python code runs between fork and exec.
It inherits three descriptors and no others (Python opens everything close-on-exec):

    0    /dev/null
    1,2  a pipe to the parent, for a traceback's last words
    3    its end of the parent's channel

The engine imports everything first and gives up its power after (Python imports lazily; with no
filesystem to come, an import later is a failure): see `routed.sandbox.confine`. Until then it is
root, so it must import our code and nobody else's: without -P, Python looks for modules in the
working directory first, which may be anybody's where root runs a daemon in the foreground. The
parent has gone to / besides (`routed.parent.daemonize`), and hands over absolute module paths.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ipc.standard_streams import open_nothing
from routed.imsg.messages import CHANNEL_FD
from routed.parent.signals import SERVED

__all__ = [
    "ENGINE_COMMAND",
    "EngineProcess",
    "is_uid_mapped",
    "start_engine",
]


ENGINE_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "routed", "--role", "engine")
"""The engine's program; the daemon's own interpreter and package."""

_ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE")
"""All of the parent's environment that the engine gets to see, beside a PYTHONPATH of its own."""


def module_path(inherited: str, first_entry: str, is_safe: bool) -> str:
    """The engine's PYTHONPATH: where this process has its modules from.

    Args:
        inherited: PYTHONPATH of this process. An empty entry means the working directory, which is
            no place to import from; a relative one is taken from the present one.
        first_entry: `sys.path[0]`, which is the working directory or the program's when `is_safe`
            is false. An engine gets it only if this very package lies there: a checkout that
            is not installed, started by `python -m routed`.
        is_safe: whether Python was started with -P.
    """
    entries = [os.path.abspath(entry) for entry in inherited.split(os.pathsep) if entry]
    package = str(Path(__file__).absolute().parents[3])
    if not is_safe and os.path.abspath(first_entry) == package:
        entries.append(package)
    return os.pathsep.join(dict.fromkeys(entries))


# Now, and not at the start of an engine: the parent has changed to / by then.
_MODULE_PATH = module_path(
    os.environ.get("PYTHONPATH", ""), sys.path[0] if sys.path else "", sys.flags.safe_path
)


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """A started engine, as its parent holds it. The owner closes the three descriptors."""

    pid: int
    pidfd: int
    """Readable when the process has ended."""
    channel: socket.socket
    """The parent's end of the SOCK_SEQPACKET pair."""
    output_fd: int
    """The read end of its standard output and error."""


def start_engine(uid: int, gid: int, sandbox: str, channel_buffer_bytes: int) -> EngineProcess:
    """Start an engine that will run as uid and gid.

    Args:
        uid: whom it becomes once it has imported its code.
        gid: its only group.
        sandbox: auto, required or off (`sandbox:` in the configuration).
        channel_buffer_bytes: socket buffer of each direction.

    Raises:
        OSError: no more processes or descriptors.
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
            [*ENGINE_COMMAND, "--ids", f"{uid}:{gid}", "--sandbox", sandbox],
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
        setsigmask=SERVED,  # held until the engine has set them to be ignored
    )


def _end(pid: int) -> None:
    """End a child that cannot be watched."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_uid_mapped(uid: int) -> bool:
    """Whether a uid exists in this user namespace: others cannot be switched to.

    Without a /proc it is taken to exist; setuid(2) has the last word.
    """
    try:
        with open("/proc/self/uid_map", encoding="ascii") as uid_map:
            ranges = [tuple(map(int, line.split())) for line in uid_map]
    except OSError:
        return True
    return any(first <= uid < first + count for first, _, count in ranges)
