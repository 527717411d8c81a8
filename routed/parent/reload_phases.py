"""The phases of a configuration change: what each event does in each phase.

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

The table is complete: each pair of phase and event has an entry, and a pair that cannot come is a
DEFECT. `docs/reliability.md` shows the same table, which a test compares.

Invariants:
    UNCONFIRMED ends by CONFIRM or the way back; RETURNING when an engine runs by the former
    configuration (ENGINE_FOLLOWS); by nothing else.
    Requests that arrive in SWITCHING and RETURNING wait; none is lost.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["NOT_KEPT", "TRANSITIONS", "Action", "Event", "ReloadPhase", "ReloadTransition"]


class ReloadPhase(enum.Enum):
    """How the configuration in force stands."""

    CONFIRMED = "confirmed"
    """It is in force for good, and nothing is under way."""
    SWITCHING = "switching"
    """Another one is loaded, checked and applied; until that has succeeded the old one holds."""
    UNCONFIRMED = "unconfirmed"
    """It waits for a `confirm`, and a timer runs."""
    RETURNING = "returning"
    """The former one is coming back; this lasts until an engine runs by it."""


class Event(enum.Enum):
    """What may happen to a configuration."""

    RELOAD = "reload"
    """A request to load the file, with a confirmation or without one."""
    SIGHUP = "SIGHUP"
    """The same by signal."""
    CONFIRM = "confirm"
    """A request to keep what waits, by somebody who may and names the right one."""
    CONFIRM_OTHER = "confirm (another)"
    """A request to keep something else than what waits."""
    ROLLBACK = "rollback"
    SWITCHED = "switched"
    """Both processes run by the new one."""
    SWITCHED_UNCONFIRMED = "switched, unconfirmed"
    """The same, and it has to be confirmed."""
    FAILED = "failed"
    """Something is wrong with the new one, or the engine ended on it; the old one is in force."""
    TIME_UP = "time is up"
    ENGINES_DYING = "engines keep dying"
    """So many have died that the daemon would end."""
    ENGINE_FOLLOWS = "an engine follows"
    """An engine runs by the former configuration."""


class Action(enum.Enum):
    """What is done."""

    SWITCH = "switch"
    """Load, check and apply."""
    WAIT = "wait"
    """The request is carried out once the phase is over."""
    REFUSE = "refuse"
    """The request is answered with a reason, and nothing changes."""
    KEEP_NEW = "keep the new one"
    """It is written down as the one to start by."""
    KEEP_OLD = "keep the old one"
    START_TIMER = "start the timer"
    GO_BACK = "go back"
    """The former configuration is in force in the parent at once; the engine follows or ends."""
    FINISH = "finish"
    """The way back has succeeded."""
    IGNORE = "-"
    """It comes too late to matter."""
    END = "end the daemon"
    """Its routes stay, and the next start goes by what was confirmed last."""
    DEFECT = "(cannot be)"


NOT_KEPT = {
    Event.TIME_UP: "not confirmed in time: rolled back",
    Event.ENGINES_DYING: "engines kept dying by it: rolled back",
}
"""The report of a return that no request has caused."""


class ReloadTransition(NamedTuple):
    """The next phase, and what is done."""

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
