"""The verdict on the daemon: which state, and which reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routed.control.views import FibTotals, HealthState
from routed.engine.show.health import Health, assess

FIB = FibTotals(desired=4, installed=4, failed=0, pending=0, stale=0, coupled=True)


def assess_fib(fib: FibTotals, *, is_in_sync: bool = True, is_in_force: bool = True) -> Health:
    return assess(fib, is_in_sync=is_in_sync, is_file_in_force=is_in_force, parent_silent_s=None)


def test_a_kernel_that_equals_the_decision_is_ok() -> None:
    assert assess_fib(FIB) == Health(HealthState.OK)


@pytest.mark.parametrize(
    ("fib", "problem"),
    [
        (replace(FIB, failed=3), "failed 3"),
        (replace(FIB, pending=10, stale=2), "syncing 12"),
        (replace(FIB, shadowed=1), "shadowed 1"),
    ],
)
def test_routes_that_are_not_as_desired_degrade(fib: FibTotals, problem: str) -> None:
    assert assess_fib(fib) == Health(HealthState.DEGRADED, (problem,))


def test_a_file_that_is_not_in_force_degrades() -> None:
    health = assess_fib(FIB, is_in_force=False)
    assert health == Health(HealthState.DEGRADED, ("configuration file not in force",))


def test_an_engine_that_has_just_started_is_not_ok_yet() -> None:
    assert assess_fib(FIB, is_in_sync=False) == Health(HealthState.DEGRADED, ("starting",))


def test_without_a_parent_or_without_kernel_routes_the_daemon_has_failed() -> None:
    hanging = assess(
        replace(FIB, failed=1), is_in_sync=True, is_file_in_force=True, parent_silent_s=20.4
    )
    assert hanging == Health(HealthState.FAILED, ("parent silent for 20s", "failed 1"))
    # Every route is stale then, on purpose.
    decoupled = assess_fib(replace(FIB, coupled=False, stale=4))
    assert decoupled == Health(HealthState.FAILED, ("decoupled",))
