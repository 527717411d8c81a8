"""The states of one engine process: the effect of each event in each state.

             HELLO              APPLIED            STOP
    STARTING -----> CONFIGURING ------> RUNNING -------> STOPPING
        |               |                  |                 |
        +---------------+------ KILL ------+-----------------+---> KILLED
                                                                     |
    every state ------------------------ EXITED ---------------> ENDED

The table is complete: each pair of state and event has an entry. `docs/reliability.md` shows the
same table, and a test compares them.

Invariants:
    An engine is RUNNING only after it has declared its version and applied a configuration.
    SIGKILL is sent once, on the way to KILLED; ENDED is final.
    The messages of an engine that is KILLED are not read.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from routed.imsg.authority import EnginePhase

__all__ = [
    "PHASES",
    "TRANSITIONS",
    "EngineAction",
    "EngineEvent",
    "EngineState",
    "EngineTransition",
]


class EngineState(enum.Enum):
    """The state of an engine process."""

    STARTING = "starting"
    """The process exists and has not declared its version."""
    CONFIGURING = "configuring"
    """Its version is this process's; it has not applied a configuration."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It was requested to stop, and may notify its neighbors first."""
    KILLED = "killed"
    """SIGKILL was sent."""
    ENDED = "ended"
    """Its exit status was collected."""


class EngineEvent(enum.Enum):
    """An event in the life of an engine process."""

    HELLO = "hello of this version"
    OTHER_VERSION = "hello of another version"
    APPLIED = "configuration applied"
    STOP = "stop"
    """The daemon stops."""
    STOPPED = "stopped"
    """The engine reports that its neighbors are notified."""
    KILL = "kill"
    """It has broken a rule, hangs, has not applied its configuration, or outlived a time limit."""
    EXITED = "exited"


class EngineAction(enum.Enum):
    """The effect of an event."""

    NONE = "-"
    SEND_STATE = "send the state"
    """The kernel's state follows the configuration."""
    SEND_STOP = "send STOP"
    """The engine has STOP_TIMEOUT_S to notify its neighbors."""
    END_WAIT = "end the wait"
    """The wait for an orderly stop is over."""
    KILL = "send SIGKILL"
    REFUSE = "refuse"
    """The message breaks a rule; a KILL follows."""
    CLOSE = "close"
    """Its descriptors are closed."""


class EngineTransition(NamedTuple):
    """The next state, and the effect."""

    state: EngineState
    action: EngineAction


_STARTING, _CONFIGURING, _RUNNING, _STOPPING, _KILLED, _ENDED = EngineState
_STATE_ACTIONS: dict[EngineState, dict[EngineEvent, EngineTransition]] = {
    _STARTING: {
        EngineEvent.HELLO: EngineTransition(_CONFIGURING, EngineAction.NONE),
        EngineEvent.OTHER_VERSION: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.APPLIED: EngineTransition(_STARTING, EngineAction.REFUSE),
        EngineEvent.STOP: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.STOPPED: EngineTransition(_STARTING, EngineAction.REFUSE),
        EngineEvent.KILL: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.EXITED: EngineTransition(_ENDED, EngineAction.CLOSE),
    },
    _CONFIGURING: {
        EngineEvent.HELLO: EngineTransition(_CONFIGURING, EngineAction.REFUSE),
        EngineEvent.OTHER_VERSION: EngineTransition(_CONFIGURING, EngineAction.REFUSE),
        EngineEvent.APPLIED: EngineTransition(_RUNNING, EngineAction.SEND_STATE),
        EngineEvent.STOP: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.STOPPED: EngineTransition(_CONFIGURING, EngineAction.REFUSE),
        EngineEvent.KILL: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.EXITED: EngineTransition(_ENDED, EngineAction.CLOSE),
    },
    _RUNNING: {
        EngineEvent.HELLO: EngineTransition(_RUNNING, EngineAction.REFUSE),
        EngineEvent.OTHER_VERSION: EngineTransition(_RUNNING, EngineAction.REFUSE),
        EngineEvent.APPLIED: EngineTransition(_RUNNING, EngineAction.NONE),
        EngineEvent.STOP: EngineTransition(_STOPPING, EngineAction.SEND_STOP),
        EngineEvent.STOPPED: EngineTransition(_RUNNING, EngineAction.REFUSE),
        EngineEvent.KILL: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.EXITED: EngineTransition(_ENDED, EngineAction.CLOSE),
    },
    _STOPPING: {
        EngineEvent.HELLO: EngineTransition(_STOPPING, EngineAction.REFUSE),
        EngineEvent.OTHER_VERSION: EngineTransition(_STOPPING, EngineAction.REFUSE),
        EngineEvent.APPLIED: EngineTransition(_STOPPING, EngineAction.NONE),
        EngineEvent.STOP: EngineTransition(_STOPPING, EngineAction.NONE),
        EngineEvent.STOPPED: EngineTransition(_STOPPING, EngineAction.END_WAIT),
        EngineEvent.KILL: EngineTransition(_KILLED, EngineAction.KILL),
        EngineEvent.EXITED: EngineTransition(_ENDED, EngineAction.CLOSE),
    },
    _KILLED: {
        **{event: EngineTransition(_KILLED, EngineAction.NONE) for event in EngineEvent},
        EngineEvent.EXITED: EngineTransition(_ENDED, EngineAction.CLOSE),
    },
    _ENDED: {event: EngineTransition(_ENDED, EngineAction.NONE) for event in EngineEvent},
}

TRANSITIONS: dict[tuple[EngineState, EngineEvent], EngineTransition] = {
    (state, event): transition
    for state, transitions in _STATE_ACTIONS.items()
    for event, transition in transitions.items()
}

PHASES: dict[EngineState, EnginePhase] = {
    _STARTING: EnginePhase.CONFIGURING,
    _CONFIGURING: EnginePhase.CONFIGURING,
    _RUNNING: EnginePhase.RUNNING,
    _STOPPING: EnginePhase.STOPPING,
}
"""The phase of the authority table, for each state in which one is read."""
