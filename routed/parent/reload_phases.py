"""The phases of a configuration change: the next phase and the action of each event.

                     RELOAD, ROLLBACK                   SWITCHED
        CONFIRMED --------------------> SWITCHING --------------------> CONFIRMED
            ^                              |  |         FAILED
            |                              |  +-----------------------> CONFIRMED (the old one)
            | CONFIRM                      | SWITCHED_UNCONFIRMED
            |                              v
            +------------------------ UNCONFIRMED
            |                              | TIME_UP, ROLLBACK, ENGINES_DYING
            | ENGINE_FOLLOWS               v
            +------------------------- RETURNING

The table is complete: each pair of phase and event has an entry, and a pair that cannot occur is a
DEFECT. `docs/reliability.md` has the same table, which a test compares.

Invariants:
    UNCONFIRMED ends only with CONFIRM or a return to the former configuration, and RETURNING only
    when an engine uses the former configuration (ENGINE_FOLLOWS).
    Requests that arrive in SWITCHING and RETURNING wait; none is lost.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["NOT_KEPT", "TRANSITIONS", "Action", "Event", "ReloadPhase", "ReloadTransition"]


class ReloadPhase(enum.Enum):
    """The state of the configuration in force."""

    CONFIRMED = "confirmed"
    """It is confirmed, and no change is in progress."""
    SWITCHING = "switching"
    """Another one is loaded, checked and applied; the old one is in force until that succeeds."""
    UNCONFIRMED = "unconfirmed"
    """It waits for a `confirm`, and a timer runs."""
    RETURNING = "returning"
    """The former one is restored; the phase lasts until an engine uses it."""


class Event(enum.Enum):
    """An event that affects the configuration."""

    RELOAD = "reload"
    """A client requested to load the file, with or without a confirmation."""
    SIGHUP = "SIGHUP"
    """The signal that requests to load the file arrived."""
    CONFIRM = "confirm"
    """A client that is allowed to requested to keep the configuration that waits."""
    CONFIRM_OTHER = "confirm (another)"
    """A client requested to keep a configuration that does not wait, or is not allowed to."""
    ROLLBACK = "rollback"
    """A client requested to return to the former configuration."""
    SWITCHED = "switched"
    """Both processes use the new configuration."""
    SWITCHED_UNCONFIRMED = "switched, unconfirmed"
    """Both processes use the new configuration, which waits for a confirmation."""
    FAILED = "failed"
    """The new one is invalid, or the engine ended with it; the old one is in force."""
    TIME_UP = "time is up"
    """The timer of the confirmation has expired."""
    ENGINES_DYING = "engines keep dying"
    """So many engines have died that the daemon would end."""
    ENGINE_FOLLOWS = "an engine follows"
    """An engine uses the former configuration."""


class Action(enum.Enum):
    """The action on an event."""

    SWITCH = "switch"
    """Load, check and apply a configuration."""
    WAIT = "wait"
    """Carry out the request after the phase has ended."""
    REFUSE = "refuse"
    """Answer the request with a reason, and change nothing."""
    KEEP_NEW = "keep the new one"
    """Write it to disk as the one for the next start."""
    KEEP_OLD = "keep the old one"
    """Leave the old configuration in force."""
    START_TIMER = "start the timer"
    """Wait for a confirmation."""
    GO_BACK = "go back"
    """Restore the former one in the parent at once; the engine follows or is replaced."""
    FINISH = "finish"
    """Record that the former configuration has been restored."""
    IGNORE = "-"
    """Do nothing: the event is too late."""
    END = "end the daemon"
    """End and keep the routes; the next start uses the configuration that was confirmed last."""
    DEFECT = "(cannot be)"
    """Raise an error: the pair cannot occur."""


NOT_KEPT = {
    Event.TIME_UP: "not confirmed in time: rolled back",
    Event.ENGINES_DYING: "engines kept dying by it: rolled back",
}
"""The report of a return that no request has caused."""


class ReloadTransition(NamedTuple):
    """The next phase, and the action."""

    phase: ReloadPhase
    action: Action


_C, _S, _U, _R = (
    ReloadPhase.CONFIRMED,
    ReloadPhase.SWITCHING,
    ReloadPhase.UNCONFIRMED,
    ReloadPhase.RETURNING,
)

TRANSITIONS: dict[tuple[ReloadPhase, Event], ReloadTransition] = {
    (_C, Event.RELOAD): ReloadTransition(_S, Action.SWITCH),
    (_C, Event.SIGHUP): ReloadTransition(_S, Action.SWITCH),
    (_C, Event.CONFIRM): ReloadTransition(_C, Action.DEFECT),
    (_C, Event.CONFIRM_OTHER): ReloadTransition(_C, Action.REFUSE),
    (_C, Event.ROLLBACK): ReloadTransition(_S, Action.SWITCH),
    (_C, Event.SWITCHED): ReloadTransition(_C, Action.DEFECT),
    (_C, Event.SWITCHED_UNCONFIRMED): ReloadTransition(_C, Action.DEFECT),
    (_C, Event.FAILED): ReloadTransition(_C, Action.DEFECT),
    (_C, Event.TIME_UP): ReloadTransition(_C, Action.IGNORE),
    (_C, Event.ENGINES_DYING): ReloadTransition(_C, Action.END),
    (_C, Event.ENGINE_FOLLOWS): ReloadTransition(_C, Action.IGNORE),
    (_S, Event.RELOAD): ReloadTransition(_S, Action.WAIT),
    (_S, Event.SIGHUP): ReloadTransition(_S, Action.WAIT),
    (_S, Event.CONFIRM): ReloadTransition(_S, Action.DEFECT),
    (_S, Event.CONFIRM_OTHER): ReloadTransition(_S, Action.WAIT),
    (_S, Event.ROLLBACK): ReloadTransition(_S, Action.WAIT),
    (_S, Event.SWITCHED): ReloadTransition(_C, Action.KEEP_NEW),
    (_S, Event.SWITCHED_UNCONFIRMED): ReloadTransition(_U, Action.START_TIMER),
    (_S, Event.FAILED): ReloadTransition(_C, Action.KEEP_OLD),
    (_S, Event.TIME_UP): ReloadTransition(_S, Action.IGNORE),
    (_S, Event.ENGINES_DYING): ReloadTransition(_S, Action.END),
    (_S, Event.ENGINE_FOLLOWS): ReloadTransition(_S, Action.IGNORE),
    (_U, Event.RELOAD): ReloadTransition(_U, Action.REFUSE),
    (_U, Event.SIGHUP): ReloadTransition(_U, Action.REFUSE),
    (_U, Event.CONFIRM): ReloadTransition(_C, Action.KEEP_NEW),
    (_U, Event.CONFIRM_OTHER): ReloadTransition(_U, Action.REFUSE),
    (_U, Event.ROLLBACK): ReloadTransition(_R, Action.GO_BACK),
    (_U, Event.SWITCHED): ReloadTransition(_U, Action.DEFECT),
    (_U, Event.SWITCHED_UNCONFIRMED): ReloadTransition(_U, Action.DEFECT),
    (_U, Event.FAILED): ReloadTransition(_U, Action.DEFECT),
    (_U, Event.TIME_UP): ReloadTransition(_R, Action.GO_BACK),
    (_U, Event.ENGINES_DYING): ReloadTransition(_R, Action.GO_BACK),
    (_U, Event.ENGINE_FOLLOWS): ReloadTransition(_U, Action.IGNORE),
    (_R, Event.RELOAD): ReloadTransition(_R, Action.WAIT),
    (_R, Event.SIGHUP): ReloadTransition(_R, Action.WAIT),
    (_R, Event.CONFIRM): ReloadTransition(_R, Action.DEFECT),
    (_R, Event.CONFIRM_OTHER): ReloadTransition(_R, Action.WAIT),
    (_R, Event.ROLLBACK): ReloadTransition(_R, Action.WAIT),
    (_R, Event.SWITCHED): ReloadTransition(_R, Action.DEFECT),
    (_R, Event.SWITCHED_UNCONFIRMED): ReloadTransition(_R, Action.DEFECT),
    (_R, Event.FAILED): ReloadTransition(_R, Action.DEFECT),
    (_R, Event.TIME_UP): ReloadTransition(_R, Action.IGNORE),
    (_R, Event.ENGINES_DYING): ReloadTransition(_R, Action.END),
    (_R, Event.ENGINE_FOLLOWS): ReloadTransition(_C, Action.FINISH),
}
