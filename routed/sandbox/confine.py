"""Give up power for good: what the parent keeps, and the engine's whole confinement, in order.

Parent, once everything that needs root is open:

    capabilities  CAP_NET_ADMIN, and what starting and ending the engine takes (`parent_needs`)
    the rest      no_new_privs, not dumpable, no core files

Engine, once everything is imported and before the first byte is read:

    capabilities' bounding set -> groups -> gid -> uid -> capability sets -> no_new_privs
    -> not dumpable, limits -> dies with its parent -> check: no way back -> landlock -> seccomp

Landlock goes before seccomp, whose filter does not let its calls through. What the kernel lacks is
in the report; whether that is acceptable is the caller's to decide.

Failure: `ConfinementError` names the step.

Sources: capabilities(7), prctl(2), credentials(7); PR_SET_PDEATHSIG is reset by a change of ids, so
it is set after them, and the parent's life is checked again after that (it may have died between).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from dataclasses import dataclass

from routed.sandbox import capabilities, landlock, seccomp
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
"""RLIMIT_FSIZE of the engine, which files in memory obey: twice the size of a FIB snapshot. What an
engine writes into the parent's journals would outlive it."""

THREADS_MAX = 256
"""RLIMIT_NPROC of the engine, which counts all of its user's processes and threads. It starts none,
so that a user who has more is no hindrance."""

_MOST = {
    resource.RLIMIT_NOFILE: OPEN_FILES_MAX,
    resource.RLIMIT_FSIZE: FILE_BYTES_MAX,
    resource.RLIMIT_NPROC: THREADS_MAX,
}
_OOM_SCORE = "/proc/self/oom_score_adj"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


class ConfinementError(Exception):
    """A power could not be given up; the message names which."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds a process, as the kernel confirmed it."""

    uid: int
    has_seccomp: bool
    landlock_abi: int
    """0: no landlock."""
    listener: int | None = None
    """A descriptor for the parent, which tells it of refused calls."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What this kernel could not do, in words."""
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
        """Whether a whole piece is missing, rather than what later kernels added to one."""
        return not self.has_seccomp or self.landlock_abi == 0

    def __str__(self) -> str:
        """`seccomp, landlock abi 7, uid 998`."""
        parts = ["seccomp"] if self.has_seccomp else []
        if self.landlock_abi:
            parts.append(f"landlock abi {self.landlock_abi}")
        return ", ".join([*parts, f"uid {self.uid}"])


def parent_needs(own_uid: int, engine_uid: int) -> frozenset[Capability]:
    """The capabilities that the parent cannot do without.

    CAP_NET_ADMIN writes routes and enlarges socket buffers. An engine under another uid must be
    started (CAP_SETUID, CAP_SETGID, and CAP_SETPCAP to empty its bounding set) and ended
    (CAP_KILL), again and again.
    """
    if own_uid == engine_uid:
        return frozenset({Capability.NET_ADMIN})
    return frozenset(Capability)


def engine_needs(own_uid: int, engine_uid: int) -> frozenset[Capability]:
    """The capabilities that an engine is started with, to become who it is and to have none.

    CAP_NET_ADMIN is not among them: no engine has it, not even before it is confined.
    """
    if own_uid == engine_uid:
        return frozenset()
    return frozenset({Capability.SETUID, Capability.SETGID, Capability.SETPCAP})


def confine_parent(engine_uid: int) -> frozenset[Capability]:
    """Keep what the parent needs and give up the rest of root's power.

    Returns:
        The capabilities that are left.

    Raises:
        ConfinementError: a step failed.
    """
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
    uid: int, gid: int, *, has_sandbox: bool = True, tells_refusals: bool = False
) -> Confinement:
    """Become uid and gid for good, without any capability, inside the sandbox.

    Must run before threads start: the kernel keeps ids, capabilities and domains per thread.

    Args:
        uid: the user to be. The present one is allowed (a user namespace with a single uid):
            capabilities go all the same.
        gid: the only group to be in.
        has_sandbox: with seccomp and landlock, as far as the kernel has them.
        tells_refusals: have refused calls wait for the holder of `Confinement.listener`.

    Returns:
        What holds now.

    Raises:
        ConfinementError: a step failed, or the check afterwards found a way back.
    """
    parent_pid = os.getppid()
    _be_as_mortal_as_others()
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
            installed = seccomp.install(os.getpid(), tells_refusals=tells_refusals)
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
    """No core file, which would hold the keys; no locked memory; bounded files and threads."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    for limit, most in _MOST.items():
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or hard > most:
            hard = most
        resource.setrlimit(limit, (hard, hard))


def _be_as_mortal_as_others() -> None:
    """Give back what `OOMScoreAdjust=` shields the parent with: when memory runs out because of
    what strangers say, the engine should go, and not the process that brings it back."""
    # OSError: no /proc, or one that is read-only. The engine is the larger process all the same.
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
