"""The state machine of a session as a table. Pure.

                                 +--+
                                 |  | UP, ADMIN DOWN, TIMER
                                 |  V
                         DOWN  +------+  INIT
                  +------------|      |------------+
                  |            | DOWN |            |
                  |  +-------->|      |<--------+  |
                  |  |         +------+         |  |
                  |  |                          |  |
                  |  |               ADMIN DOWN,|  |
                  |  |ADMIN DOWN,          DOWN,|  |
                  |  |TIMER                TIMER|  |
                  V  |                          |  V
                +------+                      +------+
           +----|      |                      |      |----+
       DOWN|    | INIT |--------------------->|  UP  |    |INIT, UP
           +--->|      | INIT, UP             |      |<---+
                +------+                      +------+

The picture is that of RFC 5880, section 6.2; the labels of its arrows are states that the other
system reports. ADMIN_DOWN is left only by `ENABLED`, and entered only by `DISABLED`.
"""

from __future__ import annotations

import enum

from routed.model.bfd import BfdDiagnostic, BfdState

__all__ = ["DIAGNOSTICS", "RECEIVED", "TRANSITIONS", "BfdEvent"]


class BfdEvent(enum.Enum):
    """What may change the state."""

    RECEIVED_ADMIN_DOWN = "received admin_down"
    RECEIVED_DOWN = "received down"
    RECEIVED_INIT = "received init"
    RECEIVED_UP = "received up"
    EXPIRED = "detection time expired"
    DISABLED = "disabled"
    ENABLED = "enabled"


RECEIVED: dict[BfdState, BfdEvent] = {
    BfdState.ADMIN_DOWN: BfdEvent.RECEIVED_ADMIN_DOWN,
    BfdState.DOWN: BfdEvent.RECEIVED_DOWN,
    BfdState.INIT: BfdEvent.RECEIVED_INIT,
    BfdState.UP: BfdEvent.RECEIVED_UP,
}
"""The event of a valid packet, by the state that it reports."""

TRANSITIONS: dict[tuple[BfdState, BfdEvent], BfdState] = {
    (BfdState.ADMIN_DOWN, BfdEvent.RECEIVED_ADMIN_DOWN): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.RECEIVED_DOWN): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.RECEIVED_INIT): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.RECEIVED_UP): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.EXPIRED): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.DISABLED): BfdState.ADMIN_DOWN,
    (BfdState.ADMIN_DOWN, BfdEvent.ENABLED): BfdState.DOWN,
    (BfdState.DOWN, BfdEvent.RECEIVED_ADMIN_DOWN): BfdState.DOWN,
    (BfdState.DOWN, BfdEvent.RECEIVED_DOWN): BfdState.INIT,
    (BfdState.DOWN, BfdEvent.RECEIVED_INIT): BfdState.UP,
    (BfdState.DOWN, BfdEvent.RECEIVED_UP): BfdState.DOWN,
    (BfdState.DOWN, BfdEvent.EXPIRED): BfdState.DOWN,
    (BfdState.DOWN, BfdEvent.DISABLED): BfdState.ADMIN_DOWN,
    (BfdState.DOWN, BfdEvent.ENABLED): BfdState.DOWN,
    (BfdState.INIT, BfdEvent.RECEIVED_ADMIN_DOWN): BfdState.DOWN,
    (BfdState.INIT, BfdEvent.RECEIVED_DOWN): BfdState.INIT,
    (BfdState.INIT, BfdEvent.RECEIVED_INIT): BfdState.UP,
    (BfdState.INIT, BfdEvent.RECEIVED_UP): BfdState.UP,
    (BfdState.INIT, BfdEvent.EXPIRED): BfdState.DOWN,
    (BfdState.INIT, BfdEvent.DISABLED): BfdState.ADMIN_DOWN,
    (BfdState.INIT, BfdEvent.ENABLED): BfdState.INIT,
    (BfdState.UP, BfdEvent.RECEIVED_ADMIN_DOWN): BfdState.DOWN,
    (BfdState.UP, BfdEvent.RECEIVED_DOWN): BfdState.DOWN,
    (BfdState.UP, BfdEvent.RECEIVED_INIT): BfdState.UP,
    (BfdState.UP, BfdEvent.RECEIVED_UP): BfdState.UP,
    (BfdState.UP, BfdEvent.EXPIRED): BfdState.DOWN,
    (BfdState.UP, BfdEvent.DISABLED): BfdState.ADMIN_DOWN,
    (BfdState.UP, BfdEvent.ENABLED): BfdState.UP,
}
"""The next state, for every pair."""

DIAGNOSTICS: dict[BfdEvent, BfdDiagnostic] = {
    BfdEvent.RECEIVED_ADMIN_DOWN: BfdDiagnostic.NEIGHBOR_SIGNALED_DOWN,
    BfdEvent.RECEIVED_DOWN: BfdDiagnostic.NEIGHBOR_SIGNALED_DOWN,
    BfdEvent.EXPIRED: BfdDiagnostic.DETECTION_TIME_EXPIRED,
    BfdEvent.DISABLED: BfdDiagnostic.ADMINISTRATIVELY_DOWN,
}
"""The diagnostic of a session that an event takes down. A session that comes up has none, and one
that is enabled keeps the last one."""
