"""Permanent loss of privileges: those that the parent keeps, and the confinement of the engine.

Parent, once everything that needs root is open:

    capabilities  CAP_NET_ADMIN, and those to start and end the engine (`parent_needs`)
    the rest      no_new_privs, not dumpable, no core files

Engine, once everything is imported and before the first byte is read:

    capabilities' bounding set -> groups -> gid -> uid -> capability sets -> no_new_privs
    -> not dumpable, limits -> dies with its parent -> check: no way back -> landlock -> seccomp

Landlock comes before seccomp, whose filter refuses landlock's system calls. The returned report
names what the kernel lacks; the caller decides whether that is acceptable.

Failure: `ConfinementError` names the step.

Sources: capabilities(7), prctl(2), credentials(7); PR_SET_PDEATHSIG is reset by a change of ids, so
it is set after them, and then the parent is checked again (it may have exited in between).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Sequence

from ipc.lazy_dataclass import dataclass
from routed.sandbox import capabilities, landlock, priority, seccomp, syscalls
from routed.sandbox.capabilities import Capability
from routed.sandbox.kernel import prctl
from routed.sandbox.seccomp import Installed

__all__ = [
    "FILE_BYTES_MAX",
    "OPEN_FILES_MAX",
    "THREADS_MAX",
    "Confinement",
    "ConfinementError",
    "confine_engine",
    "confine_parent",
    "engine_needs",
    "parent_needs",
]

OPEN_FILES_MAX = 4096
"""RLIMIT_NOFILE of the engine: 256 management sessions, a socket for each link, and room."""

FILE_BYTES_MAX = 1 << 30
"""RLIMIT_FSIZE of the engine, which applies to memfds, too: twice the size of a FIB snapshot. It
bounds the parent's journals, whose memory would outlive the engine."""

THREADS_MAX = 256
"""RLIMIT_NPROC of the engine, which counts all processes and threads of its user. The engine starts
none, so a user with more of them does no harm."""

_MOST = {
    resource.RLIMIT_NOFILE: OPEN_FILES_MAX,
    resource.RLIMIT_FSIZE: FILE_BYTES_MAX,
    resource.RLIMIT_NPROC: THREADS_MAX,
}
_OOM_SCORE = "/proc/self/oom_score_adj"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


class ConfinementError(Exception):
    """A confinement step failed; the message names the step."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """The confinement of a process, as confirmed by the kernel."""

    uid: int
    has_seccomp: bool
    landlock_abi: int
    """ABI version of landlock; 0: no landlock."""
    listener: int | None = None
    """The seccomp listener, which reports refused calls to the parent."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Describe for display what this kernel could not do."""
        gaps = []
        if not self.has_seccomp:
            gaps.append("seccomp")
        if self.landlock_abi == 0:
            gaps.append("landlock")
        elif self.landlock_abi < landlock.TCP_ABI:
            gaps.append(f"landlock for TCP (abi {landlock.TCP_ABI})")
        elif self.landlock_abi < landlock.SCOPE_ABI:
            gaps.append(f"landlock for signals (abi {landlock.SCOPE_ABI})")
        return tuple(gaps)

    @property
    def is_degraded(self) -> bool:
        """Whether a whole mechanism is missing, not only a later extension of one."""
        return not self.has_seccomp or self.landlock_abi == 0

    def __str__(self) -> str:
        """Format for display: `seccomp, landlock abi 7, uid 998`."""
        parts = ["seccomp"] if self.has_seccomp else []
        if self.landlock_abi:
            parts.append(f"landlock abi {self.landlock_abi}")
        return ", ".join([*parts, f"uid {self.uid}"])


def parent_needs(own_uid: int, engine_uid: int) -> frozenset[Capability]:
    """Return the capabilities that the parent needs.

    CAP_NET_ADMIN writes routes and enlarges socket buffers; CAP_NET_RAW opens the sockets of ICMP
    probes, and is kept only where this process has it. An engine under another uid must be
    started (CAP_SETUID, CAP_SETGID, and CAP_SETPCAP to empty its bounding set) and ended
    (CAP_KILL), again and again.
    """
    if own_uid == engine_uid:
        return frozenset({Capability.NET_ADMIN, Capability.NET_RAW})
    return frozenset(Capability)


def engine_needs(own_uid: int, engine_uid: int) -> frozenset[Capability]:
    """Return the capabilities of a new engine, with which it changes its ids and drops the rest.

    CAP_NET_ADMIN is not among them: no engine has it, not even before it is confined.
    """
    if own_uid == engine_uid:
        return frozenset()
    return frozenset({Capability.SETUID, Capability.SETGID, Capability.SETPCAP})


def confine_parent(engine_uid: int) -> frozenset[Capability]:
    """Keep the capabilities that the parent needs and drop all others.

    Returns:
        The capabilities that are left.

    Raises:
        ConfinementError: a step failed.
    """
    priority.permit_priority()
    try:
        own_uid = os.getuid()
        left = capabilities.keep_only(
            parent_needs(own_uid, engine_uid), engine_needs(own_uid, engine_uid)
        )
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_DUMPABLE, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except OSError as error:
        raise ConfinementError(f"cannot give up root's power: {error}") from error
    return left


def confine_engine(
    uid: int,
    gid: int,
    *,
    has_sandbox: bool = True,
    reports_refusals: bool = False,
    allowed: Sequence[str] = syscalls.ALLOWED,
) -> Confinement:
    """Change to uid and gid permanently, drop all capabilities, and enter the sandbox.

    Must run before threads start: the kernel keeps ids, capabilities and domains per thread.

    Args:
        uid: the new user. The present one is allowed (a user namespace with a single uid):
            capabilities are dropped all the same.
        gid: the new group, and the only one.
        has_sandbox: whether to use seccomp and landlock, as far as the kernel has them.
        reports_refusals: whether refused calls wait for the holder of `Confinement.listener`.
        allowed: the system calls of the process; default: the engine's.

    Returns:
        The confinement now in force.

    Raises:
        ConfinementError: a step failed, or privileges could be regained afterwards.
    """
    parent_pid = os.getppid()
    _reset_oom_score()
    started_as_root = os.getuid() == 0
    landlock_abi, installed = 0, Installed(False)
    try:
        _change_ids(uid, gid)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_DUMPABLE, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _set_limits()
        if os.getppid() != parent_pid:
            raise ConfinementError("the parent died meanwhile")
        _check_no_way_back(is_other_uid=started_as_root and uid != 0)
        if has_sandbox:
            landlock_abi = landlock.forbid_everything()
            installed = seccomp.install(
                os.getpid(), reports_refusals=reports_refusals, allowed=allowed
            )
    except OSError as error:
        raise ConfinementError(f"cannot confine uid {uid}, gid {gid}: {error}") from error
    return Confinement(uid, installed.has_filter, landlock_abi, installed.listener)


def _change_ids(uid: int, gid: int) -> None:
    capabilities.cut_bounding_set(())
    may_change_groups = capabilities.has(Capability.SETGID)
    if may_change_groups and (os.getuid(), os.getgid()) != (uid, gid):
        os.setgroups([])
    if os.getresgid() != (gid, gid, gid):
        os.setresgid(gid, gid, gid)
    if os.getresuid() != (uid, uid, uid):
        os.setresuid(uid, uid, uid)
    capabilities.clear_all()


def _set_limits() -> None:
    """Forbid core files, which would hold the keys, and locked memory; bound files and threads."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    priority.forbid_priority()
    for limit, most in _MOST.items():
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or hard > most:
            hard = most
        resource.setrlimit(limit, (hard, hard))


def _reset_oom_score() -> None:
    """Undo the protection that the parent has from `OOMScoreAdjust=`: if network input exhausts the
    memory, the OOM killer should end the engine, not the parent that restarts it."""
    # OSError: /proc is absent or read-only. The engine is the larger process in any case.
    with contextlib.suppress(OSError), open(_OOM_SCORE, "r+", encoding="ascii") as file:
        if int(file.read()) < 0:
            file.seek(0)
            file.write("0")


def _check_no_way_back(*, is_other_uid: bool) -> None:
    if capabilities.effective():
        raise ConfinementError("capabilities are left")
    if not is_other_uid:
        return
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise ConfinementError("setuid(0) still works")
