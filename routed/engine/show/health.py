"""The verdict on the daemon as a whole: `ok`, `degraded` or `failed`, and why.

    failed      the kernel's routes are not maintained: the parent hangs, or the FIB is decoupled
    degraded    they are, and something is not as the configuration says
    ok          every selected route is in the kernel, and the file is what is in force

A configuration that waits for its confirmation is no problem; `config_state` shows it. Pure.
"""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.control.views import FibTotals, HealthState

__all__ = ["Health", "assess"]


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict, and its reasons."""

    state: HealthState
    problems: tuple[str, ...] = ()
    """The worst first; empty if the state is OK."""


def assess(
    fib: FibTotals, *, is_in_sync: bool, is_file_in_force: bool, parent_silent_s: float | None
) -> Health:
    """Return the verdict on the daemon.

    Args:
        fib: routes in the kernel, by state.
        is_in_sync: whether the first synchronisation of this engine is complete.
        is_file_in_force: whether the configuration file, as read last, is in force.
        parent_silent_s: how long the parent hangs already; None if it does not.
    """
    failures = []
    if parent_silent_s is not None:
        failures.append(f"parent silent for {parent_silent_s:.0f}s")
    if not fib.coupled:
        failures.append("decoupled")
    problems = []
    if fib.failed:
        problems.append(f"failed {fib.failed}")
    if not is_in_sync:
        problems.append("starting")
    moving = fib.pending + fib.stale
    if moving and fib.coupled:
        problems.append(f"syncing {moving}")
    if fib.shadowed:
        problems.append(f"shadowed {fib.shadowed}")
    if not is_file_in_force:
        problems.append("configuration file not in force")
    state = HealthState.OK
    if problems:
        state = HealthState.DEGRADED
    if failures:
        state = HealthState.FAILED
    return Health(state, (*failures, *problems))
