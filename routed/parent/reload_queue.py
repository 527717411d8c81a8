"""Requests about the configuration that wait for their turn.

Changes are carried out one after another. Of plain reloads that wait, a newer one answers for an
older one: both read the same file. Nothing else ever stands for a reload, and a signal stands for
signals only, because less is loaded by signal than on request (`routed.parent.reload`).

Bounds: QUEUE_MAX requests of clients, each of which is answered, and one signal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from routed.model.command import ReloadAction
from routed.parent.reload_phases import Event

__all__ = ["QUEUE_MAX", "ReloadQueue", "ReloadRequest", "event_of"]

QUEUE_MAX = 16
"""Requests of clients that may wait; a client that asks more is told to come later."""


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """Who asked for what."""

    ticket: int
    """Of the engine's request (`routed.parent.engine_answers`); 0 for a signal."""
    asked_by: str
    """For the log."""
    action: ReloadAction = ReloadAction.RELOAD
    confirm_s: float | None = None
    """With RELOAD: come back unless confirmed so soon."""
    uid: int | None = None
    """Of the client."""
    login: int | None = None
    """The client's session (getsid), which a terminal or a login has; None when it is not known."""
    token: str = ""
    """With CONFIRM: the configuration that is meant; empty for the one that waits."""

    @property
    def is_signal(self) -> bool:
        """Whether it came by SIGHUP."""
        return self.ticket == 0

    @property
    def is_plain_reload(self) -> bool:
        """Whether a newer one of the kind may stand for it."""
        return self.action is ReloadAction.RELOAD and self.confirm_s is None


def event_of(request: ReloadRequest, *, is_refused: bool) -> Event:
    """Return the event that a request is; `is_refused`: it confirms another configuration."""
    match request.action:
        case ReloadAction.CONFIRM:
            return Event.CONFIRM_OTHER if is_refused else Event.CONFIRM
        case ReloadAction.ROLLBACK:
            return Event.ROLLBACK
        case _:
            return Event.SIGHUP if request.is_signal else Event.RELOAD


class ReloadQueue:
    """Owns the requests that wait."""

    def __init__(self) -> None:
        self._waiting: deque[ReloadRequest] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_full_for(self, request: ReloadRequest) -> bool:
        """Whether there is no room for one more request."""
        if request.is_signal or self._superseded_by(request):
            return False
        return sum(not each.is_signal for each in self._waiting) >= QUEUE_MAX

    def put(self, request: ReloadRequest) -> list[ReloadRequest]:
        """Queue a request; returns those that it stands for from now on."""
        superseded = self._superseded_by(request)
        for each in superseded:
            self._waiting.remove(each)
        self._waiting.append(request)
        return superseded

    def pop(self) -> ReloadRequest | None:
        """The oldest request; None when none waits."""
        return self._waiting.popleft() if self._waiting else None

    def _superseded_by(self, request: ReloadRequest) -> list[ReloadRequest]:
        if not request.is_plain_reload:
            return []
        return [
            each
            for each in self._waiting
            if each.is_plain_reload and (each.is_signal or not request.is_signal)
        ]
