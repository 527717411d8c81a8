"""The loop of `wait`: ask until nothing is missing, or time is up.

The daemon may start only now, or restart meanwhile: while it does not answer, that is what is
missing. A request that is denied or wrong ends the wait at once.

Cost: one small request every POLL_S.
"""

from __future__ import annotations

import select
import time

from ipc.blocking import ControlClient, ControlError, DaemonUnreachable, ExitStatus
from routectl.grammar import Await, Invocation

__all__ = ["POLL_S", "wait_until_reached"]

POLL_S = 0.1


def wait_until_reached(action: Await, invocation: Invocation, client: ControlClient) -> list[str]:
    """Wait for a state.

    Returns:
        Lines for the user: how long it took.

    Raises:
        ControlError: time is up, with the exit status UNREACHABLE if the daemon does not answer; or
            the request failed for another reason.
    """
    within = invocation.value("within")
    limit_s = client.timeout_s if within is None else float(within)
    started = time.monotonic()
    while True:
        status = ExitStatus.REFUSED
        try:
            rows = list(client.ask(action.build(invocation)).rows())
            missing = action.missing(rows, invocation)
        except DaemonUnreachable as error:
            missing, status = error.text, error.exit_status
        waited_s = time.monotonic() - started
        if not missing:
            return [f"reached after {waited_s:.1f} s"]
        if waited_s >= limit_s:
            code = "unreachable" if status is ExitStatus.UNREACHABLE else "failed"
            raise ControlError(code, f"not reached within {limit_s:g} s: {missing}", status)
        select.select([], [], [], min(POLL_S, limit_s - waited_s))
