"""The state machine of a probe as a table. Pure.

                      +---------+
          RISEN       | UNKNOWN |       FALLEN
       +--------------|         |--------------+
       |              +---------+              |
       v    FAILED   +---------+    FALLEN     v
    +----+---------->| FALLING |---------->+------+
    | UP |<----------|         |           | DOWN |
    +----+  PASSED   +---------+           +------+
       ^    RISEN    +---------+    PASSED     |
       +-------------| RISING  |<--------------+
                     |         |---------------+
                     +---------+ FAILED, FALLEN

A success is RISEN if it is the last of `rise` in a row, else PASSED; a failure is FALLEN if it is
the last of `fall` in a row, else FAILED. FORGOTTEN takes every state to UNKNOWN: what a combination
follows is not known any more.
"""

from __future__ import annotations

import enum

from routed.model.probe import ProbeState

__all__ = ["TRANSITIONS", "ProbeEvent"]


class ProbeEvent(enum.Enum):
    """What may change the state."""

    PASSED = "success"
    RISEN = "success, the last of `rise`"
    FAILED = "failure"
    FALLEN = "failure, the last of `fall`"
    FORGOTTEN = "members unknown"


TRANSITIONS: dict[tuple[ProbeState, ProbeEvent], ProbeState] = {
    (ProbeState.UNKNOWN, ProbeEvent.PASSED): ProbeState.UNKNOWN,
    (ProbeState.UNKNOWN, ProbeEvent.RISEN): ProbeState.UP,
    (ProbeState.UNKNOWN, ProbeEvent.FAILED): ProbeState.UNKNOWN,
    (ProbeState.UNKNOWN, ProbeEvent.FALLEN): ProbeState.DOWN,
    (ProbeState.UNKNOWN, ProbeEvent.FORGOTTEN): ProbeState.UNKNOWN,
    (ProbeState.DOWN, ProbeEvent.PASSED): ProbeState.RISING,
    (ProbeState.DOWN, ProbeEvent.RISEN): ProbeState.UP,
    (ProbeState.DOWN, ProbeEvent.FAILED): ProbeState.DOWN,
    (ProbeState.DOWN, ProbeEvent.FALLEN): ProbeState.DOWN,
    (ProbeState.DOWN, ProbeEvent.FORGOTTEN): ProbeState.UNKNOWN,
    (ProbeState.RISING, ProbeEvent.PASSED): ProbeState.RISING,
    (ProbeState.RISING, ProbeEvent.RISEN): ProbeState.UP,
    (ProbeState.RISING, ProbeEvent.FAILED): ProbeState.DOWN,
    (ProbeState.RISING, ProbeEvent.FALLEN): ProbeState.DOWN,
    (ProbeState.RISING, ProbeEvent.FORGOTTEN): ProbeState.UNKNOWN,
    (ProbeState.UP, ProbeEvent.PASSED): ProbeState.UP,
    (ProbeState.UP, ProbeEvent.RISEN): ProbeState.UP,
    (ProbeState.UP, ProbeEvent.FAILED): ProbeState.FALLING,
    (ProbeState.UP, ProbeEvent.FALLEN): ProbeState.DOWN,
    (ProbeState.UP, ProbeEvent.FORGOTTEN): ProbeState.UNKNOWN,
    (ProbeState.FALLING, ProbeEvent.PASSED): ProbeState.UP,
    (ProbeState.FALLING, ProbeEvent.RISEN): ProbeState.UP,
    (ProbeState.FALLING, ProbeEvent.FAILED): ProbeState.FALLING,
    (ProbeState.FALLING, ProbeEvent.FALLEN): ProbeState.DOWN,
    (ProbeState.FALLING, ProbeEvent.FORGOTTEN): ProbeState.UNKNOWN,
}
"""The next state, for every pair."""
