"""The queue of requests to change the configuration.

Changes are carried out one after another. A plain reload supersedes the plain reloads that wait,
because all of them read the same file. No other request supersedes a reload, and a signal
supersedes only signals, because a signal does not load every text that a request loads
(`routed.parent.reload`).

Bounds: QUEUE_MAX requests of clients, each of which is answered, and one signal.
"""

from __future__ import annotations

from collections import deque

from ipc.lazy_dataclass import dataclass
from routed.model.command import ReloadAction
from routed.parent.reload_phases import Event

__all__ = ["QUEUE_MAX", "ReloadQueue", "ReloadRequest", "event_of"]

QUEUE_MAX = 16
"""The most requests of clients that wait; further ones are refused."""


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """A request to change the configuration, and its origin."""

    ticket: int
    """Ticket of the engine's request (`routed.parent.engine_answers`); 0 for a signal."""
    asked_by: str
    """The origin as text, for the log."""
    action: ReloadAction = ReloadAction.RELOAD
    confirm_s: float | None = None
    """With RELOAD: seconds within which it must be confirmed; None: no confirmation is needed."""
    uid: int | None = None
    """The client's uid; None for a signal."""
    login: int | None = None
    """The client's session id (getsid(2)), which identifies a login; None if it is unknown."""
    token: str = ""
    """With CONFIRM: token of the configuration to confirm; empty for the one that waits."""

    @property
    def is_signal(self) -> bool:
        """Whether the request is a SIGHUP."""
        return self.ticket == 0

    @property
    def is_plain_reload(self) -> bool:
        """Whether the request is a reload without confirmation, which a newer one supersedes."""
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
    """The owner of the requests that wait."""

    def __init__(self) -> None:
        """Begin with no requests."""
        self._waiting: deque[ReloadRequest] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_full_for(self, request: ReloadRequest) -> bool:
        """Whether the queue has no space for a request."""
        if request.is_signal or self._superseded_by(request):
            return False
        return sum(not each.is_signal for each in self._waiting) >= QUEUE_MAX

    def put(self, request: ReloadRequest) -> list[ReloadRequest]:
        """Queue a request. Returns the requests that it supersedes, which are removed."""
        superseded = self._superseded_by(request)
        for each in superseded:
            self._waiting.remove(each)
        self._waiting.append(request)
        return superseded

    def pop(self) -> ReloadRequest | None:
        """Remove and return the oldest request; None if the queue is empty."""
        return self._waiting.popleft() if self._waiting else None

    def _superseded_by(self, request: ReloadRequest) -> list[ReloadRequest]:
        if not request.is_plain_reload:
            return []
        return [
            each
            for each in self._waiting
            if each.is_plain_reload and (each.is_signal or not request.is_signal)
        ]
