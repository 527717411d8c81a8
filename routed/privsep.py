"""Start the engine by re-exec, and strip it of everything it does not need.

The parent (privileged) starts `python -m routed --role engine` with posix_spawn: a fresh program
image, so no secret of the parent's heap comes along, and no Python code runs between fork and exec.
It inherits three descriptors and no others (Python opens everything close-on-exec):

    0    /dev/null
    1,2  a pipe to the parent, for a traceback's last words
    3    its end of the parent's channel

The engine imports everything first and drops privileges after (Python imports lazily; with no
filesystem to come, an import later is a failure), in the only order that works:

    capability bounding set -> groups -> gid -> uid -> capability sets -> no_new_privs -> limits

and then checks that the way back is closed.

Failure: `PrivsepError` names the step. The engine then ends, and the parent reports it.

Sources: capabilities(7), prctl(2), credentials(7); PR_SET_PDEATHSIG is reset by a change of ids, so
it is set after them, and the parent's life is checked again after that (it may have died between).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from dataclasses import dataclass

__all__ = [
    "CAP_NET_ADMIN",
    "CAP_SETUID",
    "CHANNEL_FD",
    "EngineProcess",
    "PrivsepError",
    "drop_privileges",
    "effective_capabilities",
    "has_capability",
    "is_uid_mapped",
    "start_engine",
]

CHANNEL_FD = 3
"""Where the engine finds its channel to the parent."""

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_ADMIN = 6, 7, 8, 12
_CAP_LAST_POSSIBLE = 63

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""All of the parent's environment that the engine gets to see."""


class PrivsepError(Exception):
    """A privilege could not be dropped; the message names which."""


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


def start_engine(uid: int, gid: int, channel_buffer_bytes: int) -> EngineProcess:
    """Start an engine that will run as uid and gid.

    Args:
        uid: whom it becomes once it has imported its code.
        gid: its only group.
        channel_buffer_bytes: socket buffer of each direction.

    Raises:
        OSError: no more processes or descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, channel_buffer_bytes)
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-m", "routed", "--role", "engine", "--ids", f"{uid}:{gid}"]
    environment = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    try:
        pid = os.posix_spawn(
            sys.executable,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, write_end, 1),
                (os.POSIX_SPAWN_DUP2, write_end, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_FD),
            ],
            setsigdef=[signal.SIGPIPE],
            setsigmask=[],
        )
    except OSError:
        ours.close()
        os.close(read_end)
        raise
    finally:
        theirs.close()
        os.close(write_end)
    return EngineProcess(pid, os.pidfd_open(pid), ours, read_end)


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    result = int(_libc.prctl(option, *[ctypes.c_ulong(argument) for argument in padded]))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def effective_capabilities() -> int:
    """The effective capability set of this process, one bit per capability.

    Raises:
        OSError: the kernel refused (it does not, for one's own set).
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if _libc.capget(ctypes.c_char_p(header), data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    effective_low, _, _, effective_high, _, _ = struct.unpack("=6I", data.raw)
    return int(effective_low | effective_high << 32)


def has_capability(capability: int) -> bool:
    """Whether this process may use a capability now."""
    return bool(effective_capabilities() >> capability & 1)


def is_uid_mapped(uid: int) -> bool:
    """Whether a uid exists in this user namespace: others cannot be switched to."""
    with open("/proc/self/uid_map", encoding="ascii") as uid_map:
        ranges = [tuple(map(int, line.split())) for line in uid_map]
    return any(first <= uid < first + count for first, _, count in ranges)


def _clear_capability_sets() -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _drop_bounding_set() -> None:
    if not has_capability(CAP_SETPCAP):
        return  # nothing to gain from it either: no_new_privs stands before every exec
    for capability in range(_CAP_LAST_POSSIBLE + 1):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break  # EINVAL: past the last capability that this kernel knows


def _change_ids(uid: int, gid: int) -> None:
    if has_capability(CAP_SETGID) and (os.getuid(), os.getgid()) != (uid, gid):
        os.setgroups([])
    if os.getresgid() != (gid, gid, gid):
        os.setresgid(gid, gid, gid)
    if os.getresuid() != (uid, uid, uid):
        os.setresuid(uid, uid, uid)


def drop_privileges(uid: int, gid: int, open_files_max: int = 4096) -> None:
    """Become uid and gid for good, without any capability.

    Must run before threads start: the kernel keeps ids and capabilities per thread.

    Args:
        uid: the user to be. The present one is allowed (a user namespace with a single uid):
            capabilities go all the same.
        gid: the only group to be in.
        open_files_max: RLIMIT_NOFILE.

    Raises:
        PrivsepError: a step failed, or the check afterwards found a way back.
    """
    parent_pid = os.getppid()
    started_as_root = os.getuid() == 0
    try:
        _drop_bounding_set()
        _change_ids(uid, gid)
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        _clear_capability_sets()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or hard > open_files_max:
            hard = open_files_max
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except OSError as error:
        raise PrivsepError(f"cannot become uid {uid}, gid {gid}: {error}") from error
    if os.getppid() != parent_pid:
        raise PrivsepError("the parent died meanwhile")
    if effective_capabilities():
        raise PrivsepError("capabilities are left")
    if started_as_root and uid != 0:
        _check_no_way_back()


def _check_no_way_back() -> None:
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PrivsepError("setuid(0) still works")
